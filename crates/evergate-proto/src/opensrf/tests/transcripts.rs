//! What was recorded from a live `OpenSRF` stack.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::reply::*;
use super::super::transport::*;
use super::*;

/// (file, direction, text) of every recorded line.
fn recorded() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("tests/transcripts holds the recordings") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line = json(line.as_bytes());
            if let (Some(dir), Some(text)) = (line["dir"].as_str(), line["text"].as_str()) {
                lines.push((name.clone(), dir.to_owned(), text.to_owned()));
            }
        }
    }
    assert!(lines.len() > 300, "only {} recorded lines", lines.len());
    lines
}

/// Why a recorded client's line must be refused, by the contract.
fn ground_for_refusal(text: &str) -> Option<&'static str> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Some("JSON") };
    let kinds = |message: &Value| message["__p"]["type"].as_str().map(str::to_owned);
    let messages = value["osrf_msg"].as_array().cloned().unwrap_or_else(|| vec![value["osrf_msg"].clone()]);
    let no_name = |service: &str| {
        service.is_empty() || service.len() > 256 || service.contains(|c: char| c == ':' || c.is_control())
    };
    if value["service"].as_str().is_some_and(no_name) {
        return Some("service");
    }
    match &value["thread"] {
        Value::Null | Value::Number(_) => {}
        Value::String(thread) if thread.len() <= 64 => {}
        _ => return Some("thread"),
    }
    if value["log_xid"].as_str().is_some_and(|xid| xid.len() > 64) {
        return Some("log_xid");
    }
    let known = |kind: &str| matches!(kind, "CONNECT" | "REQUEST" | "DISCONNECT");
    messages.iter().any(|message| !kinds(message).is_some_and(|kind| known(&kind))).then_some("type")
}

#[test]
fn every_recorded_client_line_is_taken_or_refused_as_the_contract_says() {
    let mut refusals = BTreeMap::new();
    for (name, _, text) in recorded().iter().filter(|(_, dir, _)| dir == "client_to_gateway") {
        let result = parse(text.as_bytes(), &LIMITS);
        match (result, ground_for_refusal(text)) {
            (Ok(envelope), None) => {
                let mut sent = json(text.as_bytes())["osrf_msg"].clone();
                if sent.is_object() {
                    sent = Value::Array(vec![sent]);
                }
                for message in sent.as_array_mut().unwrap() {
                    message["__p"]["ingress"] = "ws-translator-v2".into();
                }
                assert_eq!(json(body(&envelope).as_bytes()), sent, "{name}");
            }
            (Err(refusal), Some(ground)) => {
                assert!(refusal.status == 400 && refusal.reason.contains(ground), "{name}: {refusal:?}");
                *refusals.entry(ground).or_insert(0) += 1;
            }
            (result, ground) => panic!("{name}: {ground:?} but {result:?}"),
        }
    }
    assert_eq!(refusals.into_keys().collect::<Vec<_>>(), ["JSON", "log_xid", "service", "thread", "type"]);
}

#[test]
fn every_recorded_bus_line_is_read_and_wrapped_unchanged() {
    let mut messages = Vec::new();
    for (name, _, text) in recorded().iter().filter(|(_, dir, _)| dir == "bus_to_gateway") {
        let value = json(text.as_bytes());
        let reply = parse_reply(text.as_bytes(), messages).unwrap_or_else(|bad| panic!("{name}: {bad:?}"));
        assert_eq!(
            (&*reply.from, &*reply.thread),
            (value["from"].as_str().unwrap(), value["thread"].as_str().unwrap())
        );
        assert_eq!(reply.xid.as_deref().map(json).unwrap_or_default(), value["osrf_xid"]);
        assert_eq!(reply.messages.len(), value["body"].as_array().unwrap().len());
        for (found, message) in reply.messages.iter().zip(value["body"].as_array().unwrap()) {
            let parameters = &message["__p"];
            let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
            assert_eq!(found.trace, number(&parameters["threadTrace"]), "{name}");
            let kind = if parameters["type"] == "STATUS" { ReplyKind::Status } else { ReplyKind::Result };
            assert_eq!(found.kind, kind, "{name}");
            assert_eq!(found.status_code.map(i64::from), number(&parameters["payload"]["__p"]["statusCode"]), "{name}");
            assert_eq!(found.service_exception, parameters["payload"]["__c"] == "osrfServiceException", "{name}");
            assert_eq!(&json(&text.as_bytes()[found.span.clone()]), message);
        }
        let mut out = Vec::new();
        write_envelope(&mut out, TO, text.as_bytes(), &reply);
        assert_eq!(json(&out)["osrf_msg"], value["body"], "{name}");
        messages = reply.messages;
    }
}
