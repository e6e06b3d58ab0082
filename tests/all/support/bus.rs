//! A worker of the test's own on the bus: it takes what the gateway pushed to the router, as the exact text that arrived, and answers with exact
//! text. No router, no services: what it does not do, nobody does.

use std::time::Duration;

use redis::{Commands, Connection};
use serde_json::Value;

use super::client::quoted;
use super::gateway::DOMAIN;
use super::redis::Redis;
use super::unique;

/// The router's key of the tests' domain.
pub const ROUTER: &str = "opensrf:router:router:public.localhost";

/// One message that the gateway pushed.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Its exact text.
    pub text: String,
    /// The same, parsed.
    pub json: Value,
}

impl Arrived {
    fn new(text: String) -> Self {
        let json =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON on the bus ({error}): {text:.400}"));
        Self { text, json }
    }

    fn member(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_else(|| panic!("no string {name}: {:.400}", self.text))
    }

    /// The service's address, or the worker's.
    pub fn to(&self) -> &str {
        self.member("to")
    }

    /// The gateway's address.
    pub fn from(&self) -> &str {
        self.member("from")
    }

    /// The bus thread.
    pub fn thread(&self) -> &str {
        self.member("thread")
    }

    /// The client's thread, as it follows the first colon of the bus thread.
    pub fn client_thread(&self) -> &str {
        self.thread().split_once(':').unwrap_or_else(|| panic!("no colon in {}", self.thread())).1
    }

    /// `osrf_xid`.
    pub fn xid(&self) -> &str {
        self.member("osrf_xid")
    }

    /// The types of its messages.
    pub fn kinds(&self) -> Vec<&str> {
        self.json["body"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|message| message["__p"]["type"].as_str())
            .collect()
    }

    /// The `threadTrace` of message `i`, as a string.
    pub fn trace(&self, i: usize) -> String {
        let trace = &self.json["body"][i]["__p"]["threadTrace"];
        trace.as_str().map_or_else(|| trace.to_string(), str::to_owned)
    }

    /// The method of message `i`.
    pub fn method(&self, i: usize) -> &str {
        self.json["body"][i]["__p"]["payload"]["__p"]["method"].as_str().unwrap_or("")
    }
}

/// A RESULT with this content, as text.
pub fn result(trace: &str, content: &str) -> String {
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":{content}}}}}}}}}"#
    )
}

/// A STATUS with this code, as a service writes it.
pub fn status(trace: &str, code: u16) -> String {
    let class = match code {
        0..400 | 408 => "osrfConnectStatus",
        _ => "osrfMethodException",
    };
    status_of(trace, code, class)
}

/// A STATUS of any class.
pub fn status_of(trace: &str, code: u16, class: &str) -> String {
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":"{trace}","locale":"en-US","type":"STATUS","payload":{{"__c":"{class}","__p":{{"status":"said by the test","statusCode":"{code}"}}}}}}}}"#
    )
}

/// The worker.
pub struct Responder {
    connection: Connection,
    /// Its own address: what it writes as `from`, and where a session's messages arrive.
    pub address: String,
}

impl Responder {
    /// A worker of the gateway's own domain.
    pub fn new(redis: &Redis) -> Self {
        Self::in_domain(redis, DOMAIN)
    }

    /// A worker whose address names another domain.
    pub fn in_domain(redis: &Redis, domain: &str) -> Self {
        let address = format!("opensrf:client:opensrf:{domain}:testhost:{}:{}", std::process::id(), unique());
        Self { connection: redis.client("opensrf"), address }
    }

    fn pop_text(&mut self, key: &str, bound: Duration) -> Option<String> {
        let popped: Option<(String, String)> =
            self.connection.blpop(key, bound.as_secs_f64()).unwrap_or_else(|error| panic!("BLPOP {key}: {error}"));
        popped.map(|(_, text)| text)
    }

    fn pop(&mut self, key: &str, bound: Duration) -> Option<Arrived> {
        self.pop_text(key, bound).map(Arrived::new)
    }

    /// The exact text of the next message pushed to the router, unparsed.
    pub fn next_text(&mut self) -> String {
        self.pop_text(ROUTER, super::PATIENCE).expect("a message for the router")
    }

    /// The next message pushed to the router.
    pub fn next(&mut self) -> Arrived {
        self.pop(ROUTER, super::PATIENCE).expect("a message for the router")
    }

    /// The next message pushed to the router, where one comes in time.
    pub fn next_within(&mut self, bound: Duration) -> Option<Arrived> {
        self.pop(ROUTER, bound)
    }

    /// The next message pushed to this worker itself.
    pub fn next_own(&mut self) -> Arrived {
        let key = self.address.clone();
        self.pop(&key, super::PATIENCE).expect("a message for the worker")
    }

    /// The next message pushed to this worker itself, where one comes in time.
    pub fn next_own_within(&mut self, bound: Duration) -> Option<Arrived> {
        let key = self.address.clone();
        self.pop(&key, bound)
    }

    /// Pushes exact bytes to an address.
    pub fn push(&mut self, key: &str, bytes: &[u8]) {
        self.connection.rpush::<_, _, ()>(key, bytes).unwrap_or_else(|error| panic!("RPUSH {key}: {error}"));
    }

    /// Answers with a body given as text.
    pub fn answer(&mut self, to: &Arrived, body: &str) {
        let from = self.address.clone();
        let xid = quoted(to.xid());
        self.answer_from(&from, to, &xid, body);
    }

    /// The same with any sender and any `osrf_xid` (JSON text).
    pub fn answer_from(&mut self, from: &str, to: &Arrived, xid: &str, body: &str) {
        let (address, thread) = (quoted(to.from()), quoted(to.thread()));
        let text = format!(r#"{{"to":{address},"from":"{from}","thread":{thread},"osrf_xid":{xid},"body":{body}}}"#);
        self.push(to.from(), text.as_bytes());
    }

    /// One RESULT with this content and the 205 after it.
    pub fn complete(&mut self, to: &Arrived, content: &str) {
        let trace = to.trace(0);
        self.answer(to, &format!("[{},{}]", result(&trace, content), status(&trace, 205)));
    }

    /// A single STATUS to the first message.
    pub fn status(&mut self, to: &Arrived, code: u16) {
        self.answer(to, &format!("[{}]", status(&to.trace(0), code)));
    }

    /// The router's own "no such service": always threadTrace "1" and a null `osrf_xid`.
    pub fn no_such_service(&mut self, to: &Arrived) {
        let body = format!("[{}]", status_of("1", 404, "osrfServiceException"));
        self.answer_from("opensrf:client:router:public.localhost:testhost:1:1", to, "null", &body);
    }

    /// Takes the next message, which must be a CONNECT, and accepts it.
    pub fn accept(&mut self) -> Arrived {
        let connect = self.next();
        assert_eq!(connect.kinds(), ["CONNECT"], "{}", connect.text);
        self.status(&connect, 200);
        connect
    }
}
