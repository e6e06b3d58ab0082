//! One client and its sessions, and what came of them.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tungstenite::WebSocket;

/// How long an answer may take before what is left of its session counts as lost: less than a worker's keep-alive.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Most requests of a session.
const REQUESTS_MAX: u64 = 20;

/// What came of some sessions.
#[derive(Debug, Default)]
pub struct Tally {
    /// Sessions begun.
    pub sessions: u64,
    /// Requests sent.
    pub requests: u64,
    /// Answers that came in order and with the right content.
    pub answers: u64,
    /// Requests without an answer, or with an error for one.
    pub lost: u64,
    /// Answers that came before an earlier request's.
    pub out_of_order: u64,
    /// Answers with another content than this session's.
    pub wrong: u64,
    /// Connections that could not be made or broke.
    pub failed: u64,
    /// Some of what went wrong, in words.
    pub examples: Vec<String>,
}

impl Tally {
    /// Both together.
    pub fn add(mut self, other: Self) -> Self {
        self.sessions += other.sessions;
        self.requests += other.requests;
        self.answers += other.answers;
        self.lost += other.lost;
        self.out_of_order += other.out_of_order;
        self.wrong += other.wrong;
        self.failed += other.failed;
        self.examples.extend(other.examples);
        self
    }

    /// Whether every request has its answer and nothing went wrong.
    pub fn is_whole(&self) -> bool {
        self.requests > 0
            && self.answers == self.requests
            && self.lost + self.out_of_order + self.wrong + self.failed == 0
    }
}

/// One connected client.
pub struct Client<'a> {
    socket: WebSocket<TcpStream>,
    service: &'a str,
    tally: Tally,
}

impl<'a> Client<'a> {
    /// Plays that many sessions one after the other; after a loss on a new connection.
    pub fn play(address: SocketAddr, service: &'a str, sessions: usize, mut seed: u64) -> Tally {
        let mut total = Tally::default();
        let mut client = None;
        for number in 0..sessions {
            // xorshift, from a seed that is not zero.
            seed = (seed | 1 << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            seed ^= seed >> 29;
            let requests = 1 + seed % REQUESTS_MAX;
            let mut open = match client.take().map_or_else(|| Client::connect(address, service), Ok) {
                Ok(open) => open,
                Err(error) => {
                    total.failed += 1;
                    total.examples.push(format!("connect: {error}"));
                    continue;
                }
            };
            let whole = open.session(&format!("s{number}"), requests, number % 2 == 0);
            total = total.add(std::mem::take(&mut open.tally));
            client = whole.then_some(open);
        }
        total
    }

    fn connect(address: SocketAddr, service: &'a str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let url = format!("ws://{address}/osrf-websocket-translator");
        let (socket, _) = tungstenite::client(url, stream).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { socket, service, tally: Tally::default() })
    }

    /// A session from its CONNECT to its last answer; false where anything is missing.
    fn session(&mut self, thread: &str, requests: u64, waits: bool) -> bool {
        self.tally.sessions += 1;
        self.tally.requests += requests;
        let mut answered = 0;
        if let Err(error) = self.exchange(thread, requests, waits, &mut answered) {
            self.tally.lost += requests - answered;
            self.tally.examples.push(format!("{answered} of {requests} answers, then: {error}"));
            return false;
        }
        true
    }

    fn exchange(&mut self, thread: &str, requests: u64, waits: bool, answered: &mut u64) -> io::Result<()> {
        let mut frames = vec![];
        let mut push = |trace: u64, kind: &str, payload: &str| {
            let service = self.service;
            let text = format!(
                r#"{{"service":"{service}","thread":"{thread}","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"{kind}","payload":{payload}}}}}]}}"#
            );
            frames.extend_from_slice(&frame(&text));
            frames.len()
        };
        let connect = push(0, "CONNECT", r#""null""#);
        for trace in 1..=requests {
            push(trace, "REQUEST", r#"{"__c":"osrfMethod","__p":{"method":"opensrf.demo.counter","params":[]}}"#);
        }
        push(requests + 1, "DISCONNECT", r#""null""#);
        // In one write: nothing lies between them.
        let (first, rest) = frames.split_at(if waits { connect } else { frames.len() });
        self.socket.get_mut().write_all(first)?;
        self.await_connected()?;
        self.socket.get_mut().write_all(rest)?;
        while *answered < requests {
            let (trace, code, content) = self.next_end(thread)?;
            if code != 205 {
                return Err(io::Error::other(format!("STATUS {code} for {trace}")));
            }
            *answered += 1;
            if trace != *answered {
                self.tally.out_of_order += 1;
                self.tally.examples.push(format!("answer {answered} is for request {trace}"));
            } else if content != Some(*answered) {
                self.tally.wrong += 1;
                self.tally.examples.push(format!("call {answered} of a session counted {content:?}"));
            } else {
                self.tally.answers += 1;
            }
        }
        Ok(())
    }

    fn await_connected(&mut self) -> io::Result<()> {
        let envelope = self.next_envelope()?;
        let payload = &envelope["osrf_msg"][0]["__p"]["payload"]["__p"];
        match number(&payload["statusCode"]) {
            Some(200) => Ok(()),
            _ => Err(io::Error::other(format!("no session: {envelope}"))),
        }
    }

    /// Reads to the STATUS that ends a request: its threadTrace, its code, the content of the RESULT before it.
    fn next_end(&mut self, thread: &str) -> io::Result<(u64, u64, Option<u64>)> {
        let mut content = None;
        loop {
            let envelope = self.next_envelope()?;
            if envelope["thread"] != thread {
                return Err(io::Error::other(format!("another session's: {envelope}")));
            }
            for message in envelope["osrf_msg"].as_array().into_iter().flatten() {
                let outer = &message["__p"];
                let payload = &outer["payload"]["__p"];
                if outer["type"] == "RESULT" {
                    content = number(&payload["content"]);
                } else {
                    let ids = (number(&outer["threadTrace"]), number(&payload["statusCode"]));
                    let (Some(trace), Some(code)) = ids else {
                        return Err(io::Error::other(format!("not understood: {envelope}")));
                    };
                    return Ok((trace, code, content));
                }
            }
        }
    }

    fn next_envelope(&mut self) -> io::Result<Value> {
        loop {
            match self.socket.read().map_err(|error| io::Error::other(error.to_string()))? {
                tungstenite::Message::Text(text) => return serde_json::from_str(&text).map_err(io::Error::other),
                tungstenite::Message::Close(close) => return Err(io::Error::other(format!("closed: {close:?}"))),
                _ => {}
            }
        }
    }
}

/// A number, however it is spelled.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The bytes of a text message of less than 64 KB, masked with zeros (RFC 6455 section 5.3 leaves the key to the client).
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0xFE];
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
