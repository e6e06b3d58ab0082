//! OpenSRF messages, as clients and workers write them.

use serde_json::{Value, json};

pub(super) fn message(kind: &str, trace: impl Into<Value>, payload: impl Into<Value>) -> Value {
    json!({"__c": "osrfMessage", "__p": {"threadTrace": trace.into(), "type": kind, "locale": "en-US",
        "payload": payload.into()}})
}

pub(super) fn connect(trace: impl Into<Value>) -> Value {
    message("CONNECT", trace, "null")
}

pub(super) fn disconnect(trace: impl Into<Value>) -> Value {
    message("DISCONNECT", trace, "null")
}

pub(super) fn request(trace: impl Into<Value>) -> Value {
    message("REQUEST", trace, json!({"__c": "osrfMethod", "__p": {"method": "add", "params": [1, 2]}}))
}

/// What a client sends about `opensrf.math`.
pub(super) fn envelope(thread: &str, messages: &[Value]) -> Value {
    json!({"service": "opensrf.math", "thread": thread, "log_xid": format!("x-{thread}"), "osrf_msg": messages})
}

pub(super) fn status(trace: impl Into<Value>, code: u16) -> Value {
    message("STATUS", trace, json!({"__c": "osrfConnectStatus", "__p": {"status": "so it is", "statusCode": code}}))
}

pub(super) fn result(trace: impl Into<Value>) -> Value {
    message("RESULT", trace, json!({"__c": "osrfResult", "__p": {"status": "OK", "statusCode": 200, "content": 3}}))
}

pub(super) fn complete(trace: i64) -> [Value; 2] {
    [result(trace), status(trace, 205)]
}

/// The threadTraces of what a client heard.
pub(super) fn traces(heard: &Value) -> Vec<Value> {
    heard["osrf_msg"].as_array().expect("an array").iter().map(|m| m["__p"]["threadTrace"].clone()).collect()
}
