//! What a client sends: valid is what `serde_json` takes, and what is relayed has the value of what came, with `ingress` (and
//! `threadTrace` 0 where there was none) set and nothing else. Spliced text, read again, is spliced to itself. What is judged while it comes
//! in is read as what comes at once.

use evergate_proto::json::judge::Judge;
use evergate_proto::opensrf::envelope::{Envelope, EnvelopeLimits, Refusal, Trace, parse, parse_judged};
use evergate_proto::opensrf::reply::parse_reply;
use evergate_proto::opensrf::{error, transport};
use serde_json::Value;

use crate::json::{is_valid, must_be_valid, value};

const INGRESS: &[u8] = b"\"ws-translator-v2\"";
/// What makes a value one of those whose ends are remembered while they come in.
const LARGE_BYTES: usize = 33_000;

/// JSON text; behind a byte of 1, text in which a byte of 2 stands for a large string's inside.
pub fn run(data: &[u8]) {
    match data {
        [1, text @ ..] => {
            let large = vec![b'x'; LARGE_BYTES];
            let pieces: Vec<&[u8]> = text.splitn(4, |&byte| byte == 2).collect();
            envelope(&pieces.join(&large[..]));
        }
        text => envelope(text),
    }
}

fn envelope(text: &[u8]) {
    let read = parse(text, &EnvelopeLimits::DEFAULT);
    judged(text, &read);
    match read {
        Ok(envelope) => relayed(text, &envelope),
        Err(refusal) => refused(text, &refusal),
    }
}

/// What a decoder lets through is UTF-8, and is judged piece by piece where it is long.
fn judged(text: &[u8], read: &Result<Envelope<'_>, Refusal>) {
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let step = 1 + text.len() / (1 + text.first().map_or(0, |&byte| usize::from(byte)) % 50);
    let mut judge = Judge::new(EnvelopeLimits::DEFAULT.json_depth_max);
    for end in (0..text.len()).step_by(step) {
        judge.see(&text[..end]);
    }
    match (read, parse_judged(text, &judge.finish(text), &EnvelopeLimits::DEFAULT)) {
        (Ok(one), Ok(other)) => {
            assert_eq!(fields(one), fields(&other));
            assert!(other.escaped_at_most(0) >= transport::escaped_len(text));
        }
        (Err(one), Err(other)) => assert_eq!(one.status, other.status),
        (one, other) => panic!("at once: {one:?}\njudged: {other:?}"),
    }
}

/// What an envelope says, and what becomes of it on the bus.
fn fields(envelope: &Envelope<'_>) -> (String, Vec<String>) {
    let mut body = Vec::new();
    envelope.write_body(&mut body, INGRESS);
    let Envelope { service, thread, thread_spelled, xid, messages, .. } = envelope;
    let (thread_spelled, xid) = (String::from_utf8_lossy(thread_spelled), xid.as_deref().map(String::from_utf8_lossy));
    let messages =
        messages.iter().map(|m| format!("{:?} {:?} {:?} {:?}", m.kind, m.trace, m.method, m.params)).collect();
    (format!("{service:?} {thread:?} {thread_spelled} {xid:?} {}", String::from_utf8_lossy(&body)), messages)
}

fn relayed(text: &[u8], envelope: &Envelope<'_>) {
    assert_ne!(is_valid(text), Some(false), "taken, and no JSON");
    assert!(!envelope.messages.is_empty());
    let mut body = Vec::new();
    envelope.write_body(&mut body, INGRESS);
    assert_eq!(body.len(), envelope.body_len(INGRESS));
    assert_eq!(transport::escaped_len(&body), envelope.body_escaped_len(INGRESS));
    if let (Some(sent), Some(written)) = (value(text), must_be_valid(&body)) {
        assert_eq!(written, expected(sent["osrf_msg"].clone()));
    }
    bus_message(envelope, &body);

    let again = [
        &b"{\"osrf_msg\":"[..],
        &body,
        b",\"log_xid\":",
        envelope.xid.as_deref().unwrap_or(b"null"),
        b",\"thread\":",
        &envelope.thread_spelled,
        b"}",
    ]
    .concat();
    let again = parse(&again, &EnvelopeLimits { bus_message_bytes_max: usize::MAX, ..EnvelopeLimits::DEFAULT });
    let again = again.unwrap_or_else(|refusal| panic!("its own splice is refused: {}", refusal.reason));
    assert_eq!((&again.thread, &again.xid), (&envelope.thread, &envelope.xid));
    assert_eq!(fields(&again).1, fields(envelope).1);
    let mut spliced = Vec::new();
    again.write_body(&mut spliced, INGRESS);
    assert_eq!(String::from_utf8_lossy(&spliced), String::from_utf8_lossy(&body));
}

/// `osrf_msg` with what the gateway sets.
fn expected(messages: Value) -> Value {
    let mut messages = if messages.is_array() { messages } else { Value::Array(vec![messages]) };
    for message in messages.as_array_mut().into_iter().flatten() {
        let parameters = message["__p"].as_object_mut().expect("a message that is relayed has a __p");
        parameters.insert("ingress".to_owned(), "ws-translator-v2".into());
        if parameters.get("threadTrace").is_none_or(Value::is_null) {
            parameters.insert("threadTrace".to_owned(), 0.into());
        }
    }
    messages
}

/// The whole bus message is JSON, and the reader of replies finds in it what was written.
fn bus_message(envelope: &Envelope<'_>, body: &[u8]) {
    let mut message = Vec::new();
    let xid = envelope.xid.as_deref().unwrap_or(b"\"x\"");
    let thread = format!("1.2.3:{}", envelope.thread);
    transport::write_message(&mut message, "to", "from\u{1}\"", &thread, xid, envelope, INGRESS);
    must_be_valid(&message);
    let reply = parse_reply(&message, Vec::new()).expect("a bus message");
    assert_eq!((&*reply.from, &*reply.thread, &message[reply.body.clone()]), ("from\u{1}\"", &*thread, body));
    assert_eq!(reply.xid.as_deref(), Some(xid));
    for (read, sent) in reply.messages.iter().zip(&envelope.messages) {
        assert_eq!(read.trace, Some(sent.trace.value));
    }
}

fn refused(text: &[u8], refusal: &Refusal) {
    assert!(matches!(refusal.status, 400 | 413));
    let says_invalid = ["not valid JSON", "not UTF-8"].iter().any(|said| refusal.reason.contains(said));
    // What is wrong besides half a surrogate pair, or below too much depth, is not said.
    if refusal.limit.is_none()
        && !refusal.reason.contains("surrogate")
        && let Some(valid) = is_valid(text)
    {
        assert_eq!(valid, !says_invalid, "{}", refusal.reason);
    }
    let mut answer = Vec::new();
    let xid = refusal.xid.as_deref().unwrap_or(b"\"x\"");
    let trace = refusal.traces.first().unwrap_or(&Trace::UNREADABLE);
    let to = transport::ReplyTo { thread: &refusal.thread_spelled, xid };
    let exception = error::Exception { status: refusal.status, transport_error: false, text: &refusal.reason };
    error::write_error(&mut answer, to, trace, exception);
    must_be_valid(&answer);
}
