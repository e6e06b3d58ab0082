//! What a service sends: where it is JSON, the fields are those that `serde_json` finds, a repeated key counts as its last, and what goes to
//! the client is JSON with the same body. Where it is not, nothing panics.

use evergate_proto::opensrf::envelope::Trace;
use evergate_proto::opensrf::reply::{Reply, ReplyKind, ReplyMessage, parse_reply};
use evergate_proto::opensrf::transport;
use serde_json::value::RawValue;

use crate::json::{Members, is_valid, must_be_valid, quoted, text_of, value};

pub fn run(text: &[u8]) {
    let read = parse_reply(text, Vec::new());
    if let Ok(reply) = &read {
        for message in &reply.messages {
            assert!(message.span.end <= text.len());
            write(text, reply, message);
        }
    }
    // Half a surrogate pair in a key has no value: one reader takes it as it stands and the other not at all.
    if is_valid(text) != Some(true) || value(text).is_none() {
        return;
    }
    let Ok(members) = serde_json::from_slice::<Members>(text) else {
        assert!(read.is_err(), "no object");
        return;
    };
    let model = model(&members);
    assert_eq!(read.is_ok(), model.is_some(), "{read:?}");
    let (Ok(reply), Some(model)) = (read, model) else { return };
    assert!(reply.utf8);
    assert_eq!((&*reply.thread, &*reply.from), (&*model.thread, &*model.from));
    assert_eq!(reply.xid.as_deref(), model.xid.as_deref().map(str::as_bytes));
    assert_eq!(&text[reply.body.clone()], model.body.as_bytes());
    assert_eq!(reply.messages.len(), model.messages.len());
    for (message, expected) in reply.messages.iter().zip(&model.messages) {
        let part = |span: &std::ops::Range<usize>| std::str::from_utf8(&text[span.clone()]).expect("UTF-8");
        let found = Found {
            text: part(&message.span).to_owned(),
            kind: message.kind,
            trace: message.trace,
            trace_text: message.trace_span.as_ref().map(|span| part(span).to_owned()),
            status_code: message.status_code,
            service_exception: message.service_exception,
        };
        assert_eq!(&found, expected);
    }
}

/// What goes to the client.
fn write(text: &[u8], reply: &Reply<'_>, message: &ReplyMessage) {
    let (mut envelope, mut not_found) = (Vec::new(), Vec::new());
    let to = transport::ReplyTo { thread: b"\"t\"", xid: b"\"x\"" };
    transport::write_envelope(&mut envelope, to, text, reply);
    transport::write_router_404(&mut not_found, to, text, message, &Trace::UNREADABLE);
    if is_valid(text) != Some(true) || value(text).is_none() {
        return;
    }
    let (Some(written), Some(body)) = (must_be_valid(&envelope), value(&text[reply.body.clone()])) else { return };
    let body = if reply.body_is_array { body } else { vec![body].into() };
    assert_eq!((&written["thread"], &written["log_xid"], &written["osrf_msg"]), (&"t".into(), &"x".into(), &body));
    let not_found = must_be_valid(&not_found).expect("a part of what has a value");
    assert_eq!(not_found["transport_error"], true);
}

/// The fields of a reply.
struct Model {
    thread: String,
    from: String,
    xid: Option<String>,
    body: String,
    messages: Vec<Found>,
}

/// Those of a message.
#[derive(Debug, PartialEq)]
struct Found {
    text: String,
    kind: ReplyKind,
    trace: Option<i64>,
    trace_text: Option<String>,
    status_code: Option<u16>,
    service_exception: bool,
}

fn model(members: &Members) -> Option<Model> {
    let last = |key: &str| members.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value);
    let body = last("body")?.get();
    let messages: Vec<&RawValue> = match body.as_bytes()[0] {
        b'[' => serde_json::from_str(body).ok()?,
        b'{' => vec![serde_json::from_str(body).ok()?],
        _ => return None,
    };
    Some(Model {
        thread: text_of(last("thread")?)?,
        from: last("from").and_then(|value| text_of(value)).unwrap_or_default(),
        xid: last("osrf_xid").and_then(|value| quoted(value)),
        messages: messages.into_iter().map(message).collect(),
        body: body.to_owned(),
    })
}

/// The members, where it is an object.
fn object(value: &RawValue) -> Vec<(String, Box<RawValue>)> {
    serde_json::from_str::<Members>(value.get()).map(|members| members.0).unwrap_or_default()
}

fn message(value: &RawValue) -> Found {
    let text = value.get().to_owned();
    let kind = ReplyKind::Other;
    let mut found = Found { text, kind, trace: None, trace_text: None, status_code: None, service_exception: false };
    let parameters = object(value).into_iter().filter(|(key, _)| key == "__p").flat_map(|(_, value)| object(&value));
    for (key, value) in parameters {
        match &*key {
            "type" => {
                found.kind = match text_of(&value).filter(|_| value.get().starts_with('"')).as_deref() {
                    Some("STATUS") => ReplyKind::Status,
                    Some("RESULT") => ReplyKind::Result,
                    _ => ReplyKind::Other,
                };
            }
            "threadTrace" => {
                found.trace = text_of(&value).and_then(|text| text.parse().ok());
                found.trace_text = Some(value.get().to_owned());
            }
            "payload" => payload(&value, &mut found),
            _ => {}
        }
    }
    found
}

fn payload(value: &RawValue, found: &mut Found) {
    for (key, value) in object(value) {
        match &*key {
            "__c" => {
                found.service_exception =
                    value.get().starts_with('"') && text_of(&value).as_deref() == Some("osrfServiceException")
            }
            "__p" => {
                for (_, value) in object(&value).iter().filter(|(key, _)| key == "statusCode") {
                    found.status_code = text_of(value).and_then(|text| text.parse::<i64>().ok()?.try_into().ok());
                }
            }
            _ => {}
        }
    }
}
