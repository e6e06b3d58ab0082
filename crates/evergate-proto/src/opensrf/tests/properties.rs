//! Promises about whatever may come.

use proptest::prelude::*;

use super::super::activity::{self, Format, Request, Style, Whose};
use super::super::reply::*;
use super::super::transport::*;
use super::*;
use crate::clients::number::ConnectionNumber;
use crate::json::tests::{any_json, jsonish};
use crate::websocket::net::Address;

fn any_params() -> impl Strategy<Value = String> {
    let list = prop::collection::vec(any_json(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
    let deep = (1..900_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    prop_oneof![4 => list, 1 => deep]
}

/// `ingress` in some spelling, or another key.
fn any_member() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just(r#""ingress""#),
        Just(r#""\u0069ngress""#),
        Just(r#""ingres\u0073""#),
        Just(r#""i\u006eg\u0072ess""#)
    ];
    (key, any_json()).prop_map(|(key, value)| format!("{key}:{value}"))
}

/// The members of a `__p` with our own ones somewhere among those of the client.
fn any_parameters() -> impl Strategy<Value = (Vec<String>, String)> {
    (prop::collection::vec(any_member(), 0..4), any_params(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(ingresses, params, index, bare)| {
            let mut members = vec![
                "\"threadTrace\" : 12".to_owned(),
                "\"type\":\"REQUEST\"".to_owned(),
                "\"tz\":\"UTC\"".to_owned(),
                format!(r#""payload":{{"__c":"osrfMethod","__p":{{"method":"m","params":{params}}}}}"#),
            ];
            for ingress in ingresses {
                let at = index.index(members.len() + 1);
                members.insert(if bare { 0 } else { at }, ingress);
            }
            (members, params)
        },
    )
}

fn simd_json_takes(text: &[u8]) -> bool {
    simd_json::to_tape(&mut text.to_vec()).is_ok()
}

/// What `serde_json` takes; beyond its 128 levels, what simd-json takes, which has holes where numbers are long. Both leave
/// half surrogate pairs to others.
fn is_valid(text: &[u8]) -> bool {
    let shallow = text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= 127;
    if shallow { serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok() } else { simd_json_takes(text) }
}

fn check_against_the_validator(text: &[u8]) {
    let result = parse(text, &LIMITS);
    match &result {
        Ok(_) => assert!(is_valid(text), "accepted: {}", String::from_utf8_lossy(text)),
        Err(refusal) => {
            assert!(matches!(refusal.status, 400 | 413));
            let not_json = refusal.reason.contains("not valid JSON") || refusal.reason.contains("not UTF-8");
            if refusal.limit.is_none() && !refusal.reason.contains("surrogate") {
                assert_eq!(!not_json, is_valid(text), "{} for {}", refusal.reason, String::from_utf8_lossy(text));
            }
            // Whatever was recovered must make a valid answer.
            let mut out = Vec::new();
            let xid = refusal.xid.as_deref().unwrap_or(b"\"x\"");
            super::super::error::write_error(
                &mut out,
                ReplyTo { thread: &refusal.thread_spelled, xid },
                refusal.traces.first().unwrap_or(&super::super::envelope::Trace::UNREADABLE),
                super::super::error::Exception { status: 400, transport_error: false, text: &refusal.reason },
            );
            json(&out);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_serde_json_takes_is_valid_and_nothing_else_is(text in jsonish()) {
        check_against_the_validator(&text);
    }

    #[test]
    fn a_mutated_envelope_is_judged_as_serde_json_judges_it(
        params in any_params(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(b"\"\\{}[],:0 ud\xC3\n".to_vec())), 0..4),
    ) {
        let mut text = envelope_of(&format!("[{}]", request("1", &format!(r#"{{"method":"m","params":{params}}}"#)))).into_bytes();
        for (index, edit, byte) in edits {
            let at = index.index(text.len());
            match edit {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => { text.remove(at); }
            }
        }
        check_against_the_validator(&text);
    }

    #[test]
    fn params_arrive_as_the_same_text_and_only_ingress_is_set((members, params) in any_parameters(), space in "[ \n]{0,2}") {
        let parameters = format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}")));
        let text = with_parameters(&parameters);
        let envelope = read(&text);
        prop_assert_eq!(envelope.messages[0].params, Some(params.as_bytes()));
        let written = body(&envelope);
        let params_member = format!("\"params\":{params}");
        prop_assert!(written.contains(&params_member));

        let mut out = Vec::new();
        write_message(&mut out, "to", "from", "0.0.0:t", b"\"x\"", &envelope, INGRESS);
        // serde_json has a recursion limit of its own and reads numbers as floats: compare where it can.
        if params.len() > 150 && params.starts_with("[[[[[[") {
            prop_assert!(simd_json_takes(&out));
            return Ok(());
        }
        let written = json(&out);
        let mut sent = json(text.as_bytes())["osrf_msg"].clone();
        let own = sent[0]["__p"].as_object_mut().unwrap();
        own.insert("ingress".to_owned(), "ws-translator-v2".into());
        prop_assert_eq!(&written["body"], &sent);
        // A map cannot show a repeated key, so the keys are counted in the text.
        let kept: Vec<&String> = members.iter().filter(|member| ["\"threadTrace", "\"type", "\"tz", "\"payload"].iter().any(|key| member.starts_with(key))).collect();
        let body = &body(&envelope);
        let squeezed = |text: &str| text.replace([' ', '\n', '\t', '\r'], "");
        let expected = format!(r#"[{{"__c":"osrfMessage","__p":{{"ingress":"ws-translator-v2",{}}}}}]"#, kept.into_iter().cloned().collect::<Vec<_>>().join(","));
        prop_assert_eq!(squeezed(body), squeezed(&expected));
    }

    #[test]
    fn what_is_written_for_the_bus_is_read_back(thread in "\\PC{0,20}", xid in "[a-z0-9]{1,9}", params in any_params()) {
        let text = envelope_of(&format!("[{}]", request("\"-3\"", &format!(r#"{{"method":"m","params":{params}}}"#))));
        let xid = format!("\"{xid}\"");
        let mut out = Vec::new();
        write_message(&mut out, "opensrf:service:_:_:x", "from\n", &thread, xid.as_bytes(), &read(&text), INGRESS);
        let reply = parse_reply(&out, Vec::new()).unwrap();
        prop_assert_eq!((&*reply.from, &*reply.thread, reply.xid.as_deref()), ("from\n", &*thread, Some(xid.as_bytes())));
        prop_assert_eq!((reply.messages[0].trace, reply.utf8), (Some(-3), true));
        let mut wrapped = Vec::new();
        write_envelope(&mut wrapped, ReplyTo { xid: xid.as_bytes(), ..TO }, &out, &reply);
        let opening = b"{\"thread\":\"t\",\"log_xid\":";
        prop_assert!(wrapped.starts_with(opening));
        prop_assert!(simd_json_takes(&wrapped));
        prop_assert!(wrapped.windows(params.len()).any(|part| part == params.as_bytes()));
    }

    #[test]
    fn a_damaged_reply_never_panics(text in jsonish(), cut in any::<prop::sample::Index>()) {
        let whole = [b"{\"thread\":\"t\",\"body\":[{\"__p\":{\"type\":\"STATUS\",\"threadTrace\":" as &[u8], &text, b"}}]}"].concat();
        for text in [&text[..], &whole, &whole[..cut.index(whole.len())]] {
            if let Ok(reply) = parse_reply(text, Vec::new()) {
                for message in &reply.messages {
                    prop_assert!(message.span.end <= text.len());
                    write_router_404(&mut Vec::new(), TO, text, message, &super::super::envelope::Trace::UNREADABLE);
                }
            }
        }
    }

    #[test]
    fn an_activity_line_is_one_line_within_its_bound(method in "\\PC{0,9}", params in jsonish(), bytes_max in 0..200_usize) {
        let connection = ConnectionNumber { cpu: 0, slot: 0, generation: 0 };
        let whose = Whose { address: Address::Ip("::1".parse().unwrap()), connection };
        let request = Request { service: "s", method: &method, params: Some(&params), xid: b"\"x\"" };
        let style = Style { format: Format::Text, protect: &["x".to_owned()], bytes_max };
        let mut out = String::new();
        activity::request(&mut out, whose, &request, style);
        let out = out.strip_suffix(" [#0.0.0 x]\n").unwrap();
        prop_assert!(out.len() <= bytes_max);
        let mut json = String::from("{");
        activity::request(&mut json, whose, &request, Style { format: Format::Json, ..style });
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        let breaks_a_line = out.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
        prop_assert!(!breaks_a_line);
    }
}
