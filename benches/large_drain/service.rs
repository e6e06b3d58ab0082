//! Router and service in one process, on a real Redis: it answers when it was asked to, and counts what sessions ask.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use evergate_proto::redis::resp;
use serde_json::Value;

use super::answer::WORKER;
use super::messages::large;
use super::responder::Input;
use super::site::ROUTER;

/// Bytes of replies beyond which one turn pushes no more.
const TURN_BYTES: usize = 8 * 1024 * 1024;
/// The most messages that one turn takes from a list.
const POP: &[u8] = b"512";

/// Answers what arrives on the Redis at `redis` until that closes the connection.
pub fn serve(redis: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(redis)?;
    stream.set_nodelay(true)?;
    let (mut out, mut input, mut service) = (Vec::new(), Input::default(), Service::default());
    resp::write_command(&mut out, &[b"AUTH", b"router", b"router-test"]);
    stream.write_all(&out)?;
    input.integers_or_ok(&mut stream, 1)?;
    let lists = [ROUTER.as_bytes(), WORKER];
    loop {
        out.clear();
        let pushes = service.write_due(&mut out);
        let wait = service.wait();
        resp::write_command(&mut out, &[b"BLPOP", lists[0], lists[1], wait.as_bytes()]);
        for list in lists {
            resp::write_command(&mut out, &[b"LPOP", list, POP]);
        }
        let turn = stream.write_all(&out).and_then(|()| {
            input.integers_or_ok(&mut stream, pushes)?;
            // What BLPOP gives begins with the list's name.
            [1, 0, 0].into_iter().try_for_each(|names| {
                input.elements(&mut stream, names, &mut |message| service.take(message).is_some())
            })
        });
        match turn.map_err(|error| (error.kind(), error)) {
            Err((io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset, _)) => {
                return Ok(());
            }
            Err((_, error)) => return Err(error),
            Ok(()) => {}
        }
    }
}

/// A reply that is sent at its time. Two of the same time go in the order of their numbers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: u64,
    /// The list that it is pushed to.
    to: String,
    text: String,
}

/// What is asked of it.
#[derive(Default)]
struct Service {
    due: BinaryHeap<Reverse<Due>>,
    /// Of all replies.
    number: u64,
    /// Sessions by their bus thread: requests so far.
    sessions: HashMap<String, u64>,
}

impl Service {
    /// Takes one message from the bus; nothing where a service does not get such.
    fn take(&mut self, message: &[u8]) -> Option<()> {
        let call: Value = serde_json::from_slice(message).ok()?;
        let thread = call["thread"].as_str()?;
        let (wait, about) = match call.pointer("/body/0/__p/type")?.as_str()? {
            "CONNECT" => {
                self.sessions.insert(thread.to_owned(), 0);
                (Duration::ZERO, status(&call, 200, "Connection Successful")?)
            }
            "DISCONNECT" => {
                self.sessions.remove(thread);
                return Some(());
            }
            _ => {
                let (wait, content) = self.carry_out(thread, call.pointer("/body/0/__p/payload/__p")?)?;
                let trace = call.pointer("/body/0/__p/threadTrace")?;
                let complete = status(&call, 205, "Request Complete")?;
                let result = format!(
                    r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":{content}}}}}}}}}"#
                );
                (wait, format!("{result},{complete}"))
            }
        };
        let [to, thread, xid] = ["from", "thread", "osrf_xid"].map(|name| &call[name]);
        let from = str::from_utf8(WORKER).ok()?;
        let text = format!(r#"{{"to":{to},"from":"{from}","thread":{thread},"osrf_xid":{xid},"body":[{about}]}}"#);
        self.number += 1;
        let (at, number, to) = (Instant::now() + wait, self.number, to.as_str()?.to_owned());
        self.due.push(Reverse(Due { at, number, to, text }));
        Some(())
    }

    /// What a call is answered, as JSON, and after what time: `later [MS, VALUE]`, `counter [MS]` (calls of this session so
    /// far), `large [BYTES, CLIENT]`.
    fn carry_out(&mut self, thread: &str, call: &Value) -> Option<(Duration, String)> {
        let params = call["params"].as_array()?;
        let first = params.first()?.as_u64()?;
        match call["method"].as_str()? {
            "opensrf.bench.later" => Some((Duration::from_millis(first), params.get(1)?.to_string())),
            "opensrf.bench.counter" => {
                let calls = self.sessions.get_mut(thread)?;
                *calls += 1;
                Some((Duration::from_millis(first), calls.to_string()))
            }
            "opensrf.bench.large" => {
                let content = large(params.get(1)?.as_u64()? as u32, usize::try_from(first).ok()?);
                Some((Duration::ZERO, format!("\"{content}\"")))
            }
            _ => None,
        }
    }

    /// Appends the pushes of what is due now, and says how many they are.
    fn write_due(&mut self, out: &mut Vec<u8>) -> usize {
        let mut pushes = 0;
        while out.len() < TURN_BYTES && self.due.peek().is_some_and(|Reverse(due)| due.at <= Instant::now()) {
            let Some(Reverse(Due { to, text, .. })) = self.due.pop() else { break };
            resp::write_command(out, &[b"RPUSH", to.as_bytes(), text.as_bytes()]);
            pushes += 1;
        }
        pushes
    }

    /// How long a pop may wait, in seconds as Redis reads them: 0 is for ever.
    fn wait(&self) -> String {
        let Some(Reverse(due)) = self.due.peek() else { return "0".to_owned() };
        let wait = due.at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        format!("{:.3}", wait.as_secs_f64())
    }
}

/// A STATUS about what a call asks.
fn status(call: &Value, code: u16, text: &str) -> Option<String> {
    let trace = call.pointer("/body/0/__p/threadTrace")?;
    Some(format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"{text}","statusCode":{code}}}}}}}}}"#
    ))
}
