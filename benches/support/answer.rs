//! What a router and a service make of a bus message, by string search alone: what is measured is the gateway, so that
//! whoever answers it must cost next to nothing.

use std::io;
use std::ops::Range;

use evergate_proto::redis::resp::{self, Token};
use memchr::memmem::Finder;

/// Where the answers say they come from, and where sessions ask on: a worker of the service, in the gateway's own domain.
pub const WORKER: &[u8] = b"opensrf:client:opensrf:public.localhost:bench:1:0123456789abcdef0123456789abcdef";
/// Up to the request's number, of any message.
const MESSAGE: &[u8] = b"{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":";
/// From there to the content of a RESULT.
const CONTENT: &[u8] =
    b",\"locale\":\"en-US\",\"tz\":\"America/New_York\",\"api_level\":1,\"type\":\"RESULT\",\"payload\":\
    {\"__c\":\"osrfResult\",\"__p\":{\"status\":\"OK\",\"statusCode\":200,\"content\":";
/// What follows that.
const END: &[u8] = b"}}}}";
/// From the request's number to the end, of the STATUS that ends a request.
const COMPLETE: &[u8] =
    b",\"locale\":\"en-US\",\"tz\":\"America/New_York\",\"api_level\":1,\"type\":\"STATUS\",\"payload\":\
    {\"__c\":\"osrfConnectStatus\",\"__p\":{\"status\":\"Request Complete\",\"statusCode\":205}}}}";
/// The same of the STATUS that opens a session.
const CONNECTED: &[u8] =
    b",\"locale\":\"en-US\",\"tz\":\"America/New_York\",\"api_level\":1,\"type\":\"STATUS\",\"payload\":\
    {\"__c\":\"osrfConnectStatus\",\"__p\":{\"status\":\"Connection Successful\",\"statusCode\":200}}}}";

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The begin of a session.
    Connect,
    /// Its end, which has no answer.
    Disconnect,
    /// A call.
    Request,
}

/// Finds the few fields of a request and writes its answer.
pub struct Answerer {
    /// `"from":"`
    from: Finder<'static>,
    /// `"thread":"`
    thread: Finder<'static>,
    /// `"osrf_xid":"`
    xid: Finder<'static>,
    /// `"threadTrace":`
    trace: Finder<'static>,
    /// `"type":"`
    kind: Finder<'static>,
    /// `"method":"`
    method: Finder<'static>,
    /// `"params":[`
    params: Finder<'static>,
}

impl Default for Answerer {
    fn default() -> Self {
        Self {
            from: Finder::new("\"from\":\""),
            thread: Finder::new("\"thread\":\""),
            xid: Finder::new("\"osrf_xid\":\""),
            trace: Finder::new("\"threadTrace\":"),
            kind: Finder::new("\"type\":\""),
            method: Finder::new("\"method\":\""),
            params: Finder::new("\"params\":["),
        }
    }
}

impl Answerer {
    /// Answers `message` and shows each bus message of the answer, written in `scratch`, to `put` with the list that it goes
    /// to. Nothing where the message is none that a service gets.
    ///
    /// Of methods, `add` is answered with the sum of the first two params, `opensrf.demo.big` with a string of as many bytes
    /// as the first says, any other with null: a RESULT and a STATUS of 205 in one bus message. `opensrf.demo.count` is
    /// answered with the numbers up to the first param, each in a bus message of its own, and so the STATUS.
    pub fn answer(&self, message: &[u8], scratch: &mut Vec<u8>, put: &mut dyn FnMut(&[u8], &[u8])) -> Option<Asked> {
        let from = string_after(message, 0, &self.from)?;
        let thread = string_after(message, from.end, &self.thread)?;
        let xid = string_after(message, thread.end, &self.xid)?;
        let trace = end_after(message, xid.end, &self.trace)?;
        let trace_end = trace + memchr::memchr2(b',', b'}', &message[trace..])?;
        let kind = string_after(message, trace_end, &self.kind)?;
        let (kind_end, kind) = (kind.end, &message[kind]);
        let [from, thread, xid, trace] = [from, thread, xid, trace..trace_end].map(|range| &message[range]);
        let mut say = |write: &dyn Fn(&mut Vec<u8>)| {
            scratch.clear();
            for part in [
                b"{\"to\":\"",
                from,
                b"\",\"from\":\"",
                WORKER,
                b"\",\"thread\":\"",
                thread,
                b"\",\"osrf_xid\":\"",
                xid,
                b"\",\"body\":[",
            ] {
                scratch.extend_from_slice(part);
            }
            write(scratch);
            scratch.extend_from_slice(b"]}");
            put(from, scratch);
        };
        let result = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
            for part in [MESSAGE, trace, CONTENT] {
                out.extend_from_slice(part);
            }
            write(out);
            out.extend_from_slice(END);
        };
        let status = |out: &mut Vec<u8>, of: &[u8]| {
            for part in [MESSAGE, trace, of] {
                out.extend_from_slice(part);
            }
        };
        match kind {
            b"CONNECT" => {
                say(&|out| status(out, CONNECTED));
                return Some(Asked::Connect);
            }
            b"DISCONNECT" => return Some(Asked::Disconnect),
            b"REQUEST" => {}
            _ => return None,
        }
        let method = string_after(message, kind_end, &self.method)?;
        let [first, second] = self.numbers(message, method.end);
        let method = &message[method];
        if method == b"opensrf.demo.count" {
            (1..=first).for_each(|number| say(&|out| result(out, &|out| write_number(out, number))));
            say(&|out| status(out, COMPLETE));
            return Some(Asked::Request);
        }
        let content = |out: &mut Vec<u8>| match method {
            b"add" => write_number(out, first + second),
            b"opensrf.demo.big" => {
                out.push(b'"');
                out.resize(out.len() + usize::try_from(first).unwrap_or(0), b'x');
                out.push(b'"');
            }
            _ => out.extend_from_slice(b"null"),
        };
        say(&|out| {
            result(out, &content);
            out.push(b',');
            status(out, COMPLETE);
        });
        Some(Asked::Request)
    }

    /// The first two params where they are whole numbers, 0 otherwise.
    fn numbers(&self, message: &[u8], from: usize) -> [i64; 2] {
        let Some(start) = end_after(message, from, &self.params) else { return [0; 2] };
        let mut numbers = message[start..].split(|&byte| byte == b',' || byte == b']').map(|text| {
            str::from_utf8(text).ok().and_then(|text| text.trim().trim_matches('"').parse().ok()).unwrap_or(0)
        });
        [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
    }
}

/// Answers gathered for one RPUSH a list.
#[derive(Default)]
pub struct Batch {
    /// List, its messages as RESP, how many.
    lists: Vec<(Vec<u8>, Vec<u8>, usize)>,
    /// The answer that is being written.
    scratch: Vec<u8>,
    /// Whether anybody has opened a session: then calls come to [`WORKER`], too.
    pub sessions: bool,
}

impl Batch {
    /// Answers one message; false where a service does not get such.
    pub fn add(&mut self, answerer: &Answerer, message: &[u8]) -> bool {
        let Self { lists, scratch, sessions } = self;
        let asked = answerer.answer(message, scratch, &mut |to, answer| {
            let at = lists.iter().position(|(key, ..)| key == to).unwrap_or_else(|| {
                lists.push((to.to_vec(), Vec::new(), 0));
                lists.len() - 1
            });
            let (_, words, count) = &mut lists[at];
            resp::write_bulk(words, answer);
            *count += 1;
        });
        *sessions |= asked == Some(Asked::Connect);
        asked.is_some()
    }

    /// Appends the commands to `out` and says how many they are; empty afterwards.
    pub fn write(&mut self, out: &mut Vec<u8>) -> usize {
        let mut commands = 0;
        for (key, words, count) in self.lists.iter_mut().filter(|(.., count)| *count > 0) {
            resp::write_array(out, 2 + *count);
            resp::write_bulk(out, b"RPUSH");
            resp::write_bulk(out, key);
            out.append(words);
            *count = 0;
            commands += 1;
        }
        commands
    }
}

/// The words of a command or the elements of a reply, if all of them are there; moves `at` behind it.
pub fn array<'a>(buffer: &'a [u8], at: &mut usize, words: &mut Vec<&'a [u8]>) -> io::Result<bool> {
    words.clear();
    let mut end = *at;
    let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "that is not RESP");
    let count = match resp::next(buffer, &mut end).map_err(malformed)? {
        None => return Ok(false),
        Some(Token::Array(count)) => count,
        Some(Token::Nil) => 0,
        Some(other) => return Err(io::Error::other(format!("not an array: {other:?}"))),
    };
    for _ in 0..count {
        match resp::next(buffer, &mut end).map_err(malformed)? {
            None => return Ok(false),
            Some(Token::Bulk(word)) => words.push(word),
            Some(other) => return Err(io::Error::other(format!("not a string: {other:?}"))),
        }
    }
    *at = end;
    Ok(true)
}

/// Where what `finder` looks for ends, from `start` on.
fn end_after(text: &[u8], start: usize, finder: &Finder<'_>) -> Option<usize> {
    finder.find(&text[start..]).map(|at| start + at + finder.needle().len())
}

/// The raw text of the string that begins behind what `finder` looks for.
fn string_after(text: &[u8], start: usize, finder: &Finder<'_>) -> Option<Range<usize>> {
    let start = end_after(text, start, finder)?;
    let mut end = start;
    loop {
        end += memchr::memchr2(b'"', b'\\', &text[end..])?;
        if text[end] == b'"' {
            return Some(start..end);
        }
        end += 2;
        text.get(end)?;
    }
}

/// Appends a number's digits.
fn write_number(out: &mut Vec<u8>, number: i64) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}
