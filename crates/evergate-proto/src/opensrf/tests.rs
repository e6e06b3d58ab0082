//! Promises of the module.

mod activity;
mod address;
mod edges;
mod envelope;
mod judge;
mod properties;
mod refusals;
mod transcripts;
mod transport;

use serde_json::Value;

use super::envelope::{Envelope, EnvelopeLimits, Refusal, parse};
use super::transport::ReplyTo;

/// The defaults of the options.
pub(super) const LIMITS: EnvelopeLimits = EnvelopeLimits::DEFAULT;

/// The text of a string, as `ingress` is given.
pub(super) const INGRESS: &[u8] = b"\"ws-translator-v2\"";

/// Thread and `log_xid` of an answer.
pub(super) const TO: ReplyTo<'static> = ReplyTo { thread: b"\"t\"", xid: b"\"x\"" };

pub(super) fn read(text: &str) -> Envelope<'_> {
    match parse(text.as_bytes(), &LIMITS) {
        Ok(envelope) => envelope,
        Err(refusal) => panic!("{refusal:?} for {text}"),
    }
}

pub(super) fn refused(text: &str) -> Refusal {
    match parse(text.as_bytes(), &LIMITS) {
        Ok(envelope) => panic!("accepted: {envelope:?}"),
        Err(refusal) => refusal,
    }
}

/// An envelope of one REQUEST, with members of our choice beside `osrf_msg`.
pub(super) fn with_members(members: &str) -> String {
    format!("{{{members}\"osrf_msg\":[{}]}}", request("0", r#"{"method":"add","params":[1,2]}"#))
}

/// A REQUEST with a `threadTrace` and a payload of our choice.
pub(super) fn request(trace: &str, method: &str) -> String {
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{method}}}}}}}"#
    )
}

/// An envelope of these messages.
pub(super) fn envelope_of(messages: &str) -> String {
    format!(r#"{{"service":"opensrf.math","thread":"t","log_xid":"x","osrf_msg":{messages}}}"#)
}

/// An envelope of one message with this `__p`.
pub(super) fn with_parameters(parameters: &str) -> String {
    envelope_of(&format!(r#"[{{"__c":"osrfMessage","__p":{parameters}}}]"#))
}

pub(super) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(bytes)))
}

/// The body that an envelope becomes; its length is checked on the way.
pub(super) fn body(envelope: &Envelope<'_>) -> String {
    let mut out = Vec::new();
    envelope.write_body(&mut out, INGRESS);
    assert_eq!(out.len(), envelope.body_len(INGRESS));
    assert_eq!(super::transport::escaped_len(&out), envelope.body_escaped_len(INGRESS));
    String::from_utf8(out).expect("what came as UTF-8 leaves as UTF-8")
}
