//! OpenSRF's messages as the router and the services read and write them. No I/O.
//!
//! Content and params stay the text that came (`RawValue`): numbers keep their digits, strings their escapes.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Most messages of one envelope that a worker reads: the C worker's limit.
const MESSAGES_MAX: usize = 256;

/// A message on the bus, as far as its reader must know it.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    /// Address it was sent to: a service's or a worker's.
    #[serde(borrow, default)]
    pub(super) to: Cow<'a, str>,
    /// The sender's address.
    #[serde(borrow)]
    pub(super) from: Cow<'a, str>,
    /// The conversation, as spelled: replies repeat the very text.
    #[serde(borrow)]
    pub(super) thread: &'a RawValue,
    /// The request's id in the logs, as spelled.
    #[serde(borrow)]
    pub(super) osrf_xid: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Classed<'a, T> {
    #[serde(rename = "__c", borrow)]
    class: Cow<'a, str>,
    #[serde(rename = "__p")]
    payload: T,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(rename = "threadTrace", borrow)]
    thread_trace: Option<&'a RawValue>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    tz: Option<&'a RawValue>,
    #[serde(borrow)]
    ingress: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireMethod<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// What a client's message asks.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    /// Hold a worker for this thread.
    Connect,
    /// Let the worker go.
    Disconnect,
    /// Call a method.
    Request(Call<'a>),
    /// A type that no client sends, or a REQUEST without a method: ignored.
    Other,
}

/// A method call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The method's name.
    pub(super) method: Cow<'a, str>,
    /// The params' own text, an array.
    pub(super) text: &'a str,
    /// The array's elements.
    pub(super) params: Vec<&'a RawValue>,
}

/// One message of an envelope, with what its replies repeat.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// What is asked.
    pub(super) kind: Kind<'a>,
    /// The request's number within its thread, in digits.
    pub(super) trace: String,
    /// The client's time zone, as spelled.
    pub(super) tz: Option<&'a RawValue>,
    /// Where the message entered, as spelled.
    pub(super) ingress: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads an envelope. A repeated key is an error, as for the C router.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The thread, unescaped; empty where it is no string.
    pub(super) fn thread_name(&self) -> String {
        serde_json::from_str(self.thread.get()).unwrap_or_default()
    }

    /// The messages that can be read, at most as many as a C worker takes.
    pub(super) fn messages(&self) -> Vec<Message<'a>> {
        let Some(body) = self.body else { return Vec::new() };
        let elements = if body.get().starts_with('[') { elements(body.get()) } else { vec![body] };
        elements.into_iter().take(MESSAGES_MAX).filter_map(|element| Message::parse(element.get())).collect()
    }
}

fn elements(array: &str) -> Vec<&RawValue> {
    serde_json::from_str(array).unwrap_or_default()
}

impl<'a> Message<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let message: Classed<'a, WireMessage<'a>> = serde_json::from_str(text).ok()?;
        if message.class != "osrfMessage" {
            return None;
        }
        let WireMessage { thread_trace, kind, tz, ingress, payload } = message.payload;
        let kind = match kind.as_ref() {
            "CONNECT" => Kind::Connect,
            "DISCONNECT" => Kind::Disconnect,
            "REQUEST" => payload.and_then(|payload| Call::parse(payload.get())).map_or(Kind::Other, Kind::Request),
            _ => Kind::Other,
        };
        Some(Self { kind, trace: trace_digits(thread_trace.map_or("0", RawValue::get)), tz, ingress })
    }
}

impl<'a> Call<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let method: Classed<'a, WireMethod<'a>> = serde_json::from_str(text).ok()?;
        let WireMethod { method, params } = method.payload;
        let text = params.map_or("[]", RawValue::get);
        let params = if text.starts_with('[') { elements(text) } else { params.into_iter().collect() };
        Some(Self { method, text, params })
    }
}

/// A threadTrace's digits without quotes and leading zeros, so that they are valid both as a JSON string and as a
/// number; `0` for what is no integer, as C's `atoi` has it.
fn trace_digits(spelled: &str) -> String {
    let text = spelled.trim_matches('"');
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return "0".to_owned();
    }
    format!("{sign}{digits}")
}

/// A text as a JSON string, quotes included.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whose spelling a reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A C worker: numbers in quotes, a fixed order of keys, no `tz` and `ingress`.
    C,
    /// A Perl worker: numbers bare; the order of keys is a hash table's and differs from message to message.
    Perl,
}

/// A service's answer to one request, before it is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// RESULT of 200 with this JSON text as its content.
    Content(Cow<'a, str>),
    /// RESULT of 206: a piece of the content's JSON text.
    Partial(&'a str),
    /// RESULT of 204: the pieces are complete.
    PartialComplete,
    /// STATUS of 205: the request is complete.
    Complete,
    /// STATUS of 200: the session stands.
    Connected,
    /// STATUS of 408: the keep-alive ran out.
    TimedOut,
    /// STATUS of this code and class `osrfMethodException`.
    Failed(u16, Cow<'a, str>),
    /// The router's STATUS of 404.
    ServiceNotFound,
}

impl Reply<'_> {
    /// Type, class, status, code and content's JSON text.
    fn parts(&self) -> (&'static str, &'static str, Cow<'_, str>, u16, Option<Cow<'_, str>>) {
        let fixed = Cow::Borrowed;
        match self {
            Self::Content(content) => ("RESULT", "osrfResult", fixed("OK"), 200, Some(fixed(content.as_ref()))),
            Self::Partial(piece) => {
                ("RESULT", "osrfResultPartial", fixed("Partial Response"), 206, Some(quoted(piece).into()))
            }
            Self::PartialComplete => {
                ("RESULT", "osrfResultPartialComplete", fixed("Partial Response Finalized"), 204, None)
            }
            Self::Complete => ("STATUS", "osrfConnectStatus", fixed("Request Complete"), 205, None),
            Self::Connected => ("STATUS", "osrfConnectStatus", fixed("Connection Successful"), 200, None),
            Self::TimedOut => ("STATUS", "osrfConnectStatus", fixed("Disconnected on timeout"), 408, None),
            Self::Failed(code, text) => ("STATUS", "osrfMethodException", fixed(text.as_ref()), *code, None),
            Self::ServiceNotFound => ("STATUS", "osrfServiceException", fixed("Service Not Found"), 404, None),
        }
    }
}

/// What every reply to one message repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeated<'a> {
    /// threadTrace in digits.
    pub(super) trace: &'a str,
    /// The request's time zone, as spelled.
    pub(super) tz: Option<&'a RawValue>,
    /// The request's ingress, as spelled.
    pub(super) ingress: Option<&'a RawValue>,
}

/// Appends one message. `turn` varies the order of a Perl message's keys.
pub(super) fn write_message(out: &mut String, dialect: Dialect, turn: usize, repeated: &Repeated<'_>, reply: &Reply) {
    let (kind, class, status, code, content) = reply.parts();
    let status = quoted(&status);
    let trace = repeated.trace;
    if dialect == Dialect::C {
        let content = content.map(|content| format!(r#","content":{content}"#)).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            r#"{{"__c":"osrfMessage","__p":{{"threadTrace":"{trace}","locale":"en-US","api_level":1,"type":"{kind}","payload":{{"__c":"{class}","__p":{{"status":{status},"statusCode":"{code}"{content}}}}}}}}}"#
        );
        return;
    }
    let raw = |value: Option<&RawValue>| value.map_or_else(|| "null".to_owned(), |value| value.get().to_owned());
    let (tz, ingress) = (raw(repeated.tz), raw(repeated.ingress));
    let text = match turn % 3 {
        0 => {
            let content = content.map(|content| format!(r#""content":{content},"#)).unwrap_or_default();
            format!(
                r#"{{"__c":"osrfMessage","__p":{{"payload":{{"__p":{{{content}"status":{status},"statusCode":{code}}},"__c":"{class}"}},"type":"{kind}","locale":"en-US","threadTrace":{trace},"tz":{tz},"ingress":{ingress}}}}}"#
            )
        }
        1 => {
            let content = content.map(|content| format!(r#","content":{content}"#)).unwrap_or_default();
            format!(
                r#"{{"__p":{{"threadTrace":{trace},"ingress":{ingress},"tz":{tz},"type":"{kind}","payload":{{"__c":"{class}","__p":{{"statusCode":{code},"status":{status}{content}}}}},"locale":"en-US"}},"__c":"osrfMessage"}}"#
            )
        }
        // Perl writes the request's own threadTrace, a string, in replies that it bundles with the 205.
        _ => {
            let content = content.map(|content| format!(r#","content":{content}"#)).unwrap_or_default();
            format!(
                r#"{{"__c":"osrfMessage","__p":{{"type":"{kind}","tz":{tz},"ingress":{ingress},"threadTrace":"{trace}","locale":"en-US","payload":{{"__c":"{class}","__p":{{"status":{status}{content},"statusCode":{code}}}}}}}}}"#
            )
        }
    };
    out.push_str(&text);
}

/// The envelope around `messages`, already spelled and joined by commas.
pub(super) fn wrap(
    dialect: Dialect,
    turn: usize,
    (to, from): (&str, &str),
    (thread, xid): (&str, Option<&str>),
    messages: &str,
) -> String {
    let (to, from, xid) = (quoted(to), quoted(from), xid.unwrap_or("null"));
    match (dialect, turn % 3) {
        (Dialect::C, _) => {
            format!(r#"{{"to":{to},"from":{from},"thread":{thread},"osrf_xid":{xid},"body":[{messages}]}}"#)
        }
        (Dialect::Perl, 0) => {
            format!(r#"{{"from":{from},"body":[{messages}],"to":{to},"thread":{thread},"osrf_xid":{xid}}}"#)
        }
        (Dialect::Perl, 1) => {
            format!(r#"{{"body":[{messages}],"thread":{thread},"to":{to},"osrf_xid":{xid},"from":{from}}}"#)
        }
        (Dialect::Perl, _) => {
            format!(r#"{{"to":{to},"osrf_xid":{xid},"thread":{thread},"body":[{messages}],"from":{from}}}"#)
        }
    }
}
