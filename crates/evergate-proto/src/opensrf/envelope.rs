//! What a client sends: `{"service":…,"thread":…,"log_xid":…,"osrf_msg":[…]}`
//! (docs/wire.md, "What a client sends").

use std::borrow::Cow;
use std::ops::Range;

use crate::counters::Limit;
use crate::json::escape::escaped_len;
use crate::json::judge::{Fault, Judged};
use crate::json::precheck::precheck;
use smallvec::SmallVec;

use super::read;
pub use super::trace::Trace;
use crate::json::scan::Broken;
use crate::json::strictness::DEPTH_MOST;

/// `"ingress":`, the key that the gateway sets.
const INGRESS: &[u8] = b"\"ingress\":";
/// Bytes at most that the router's escaping makes of one.
pub(super) const ESCAPED_MOST: usize = 6;

/// Set beside it where the client's message has no number.
const TRACE: &[u8] = b",\"threadTrace\":0";

/// What an envelope may be at most; options of the same names.
#[derive(Clone, Copy, Debug)]
pub struct EnvelopeLimits {
    /// Levels of brackets, the envelope's own included; never more than 1,024.
    pub json_depth_max: usize,
    /// Keys of an object in which repeated ones are looked for (quirk 8); ten times as many in one envelope.
    pub keys_per_object_max: usize,
    /// Messages in one `osrf_msg`. A C worker reads 256 (quirk 2).
    pub messages_per_envelope_max: usize,
    /// Bytes of the whole bus message after the router's escaping (quirk 8). Here it is compared with the
    /// messages alone; the caller compares the whole, addresses included, with [`super::transport::escaped_len`].
    pub bus_message_bytes_max: usize,
}

impl EnvelopeLimits {
    /// The highest `json_depth_max`: so many levels the strict walk can follow.
    pub const JSON_DEPTH_MOST: usize = DEPTH_MOST;

    /// The defaults of the options table.
    pub const DEFAULT: Self = Self {
        json_depth_max: 1_000,
        keys_per_object_max: 10_000,
        messages_per_envelope_max: 256,
        bus_message_bytes_max: 8 << 20,
    };
}

/// What a message asks for: its `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Opens a session with one worker.
    Connect,
    /// Calls a method.
    Request,
    /// Ends a session; never answered.
    Disconnect,
}

/// One element of `osrf_msg`.
#[derive(Debug)]
pub struct Message<'a> {
    /// Its `type`.
    pub kind: Kind,
    /// Its `threadTrace`.
    pub trace: Trace,
    /// The method of a REQUEST, unescaped; none in other kinds.
    pub method: Option<Cow<'a, str>>,
    /// The JSON text of a REQUEST's `params`, usually an array; none where absent and in other kinds.
    pub params: Option<&'a [u8]>,
    pub(super) splice: Splice,
}

/// Where in the client's text a message stands, and where `ingress` goes.
#[derive(Clone, Debug)]
pub(super) struct Splice {
    /// The message, from `{` to `}`.
    pub span: Range<usize>,
    /// Behind the `{` of `__p`.
    pub insert_at: usize,
    /// Whether `threadTrace` is inserted, too: the client named none.
    pub sets_trace: bool,
    /// Whether a member of the client's follows what is inserted.
    pub comma: bool,
    /// The client's own `ingress` members, and a `threadTrace` of null, each with the comma before it, in text order, all
    /// behind `insert_at`.
    pub cuts: Vec<Range<usize>>,
}

/// A client's message that may be relayed.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The service, unescaped: 1 to 256 bytes, no control character, no colon; a number as spelled. None where absent or
    /// null, which is allowed to a thread with a session.
    pub service: Option<Cow<'a, str>>,
    /// The client's thread, unescaped, at most 64 bytes; a number as spelled; empty where absent or null.
    pub thread: Cow<'a, str>,
    /// The thread as the client spelled it, as the text of a JSON string with its quotes; `5` becomes `"5"`.
    pub thread_spelled: Cow<'a, [u8]>,
    /// `log_xid` as the text of a JSON string with its quotes; a number in quotes. None where absent, null or empty.
    pub xid: Option<Cow<'a, [u8]>>,
    /// The messages, at least one.
    pub messages: SmallVec<[Message<'a>; 1]>,
    pub(super) text: &'a [u8],
    /// Bytes of the text at most after the router's escaping.
    pub(super) escaped_most: usize,
}

impl Envelope<'_> {
    /// Bytes of the bus message at most after the router's escaping, `beside` of which are not of this envelope: enough
    /// to know that most need not be counted.
    pub fn escaped_at_most(&self, beside: usize) -> usize {
        self.escaped_most.saturating_add(beside.saturating_mul(ESCAPED_MOST))
    }

    /// Length in bytes of what [`Self::write_body`] writes.
    pub fn body_len(&self, ingress: &[u8]) -> usize {
        let own = |message: &Message<'_>| {
            let splice = &message.splice;
            let cut: usize = splice.cuts.iter().map(Range::len).sum();
            let trace = if splice.sets_trace { TRACE.len() } else { 0 };
            splice.span.len() - cut + INGRESS.len() + ingress.len() + trace + usize::from(splice.comma)
        };
        let messages: usize = self.messages.iter().map(own).sum();
        messages + self.messages.len().saturating_sub(1) + 2
    }

    /// The same after the router's escaping.
    pub fn body_escaped_len(&self, ingress: &[u8]) -> usize {
        let surplus = |part: &[u8]| escaped_len(part) - part.len();
        let own = |message: &Message<'_>| {
            let cut: usize = message.splice.cuts.iter().map(|cut| surplus(self.part(cut))).sum();
            surplus(self.part(&message.splice.span)) - cut + surplus(ingress)
        };
        self.body_len(ingress) + self.messages.iter().map(own).sum::<usize>()
    }

    /// Appends the bus message's `body`: an array of the client's own messages, `ingress` set in the `__p` of each and
    /// nothing else changed. `ingress` is the JSON text of a string, quotes included.
    pub fn write_body(&self, out: &mut Vec<u8>, ingress: &[u8]) {
        for (index, message) in self.messages.iter().enumerate() {
            let splice = &message.splice;
            out.push(if index == 0 { b'[' } else { b',' });
            out.extend_from_slice(self.part(&(splice.span.start..splice.insert_at)));
            out.extend_from_slice(INGRESS);
            out.extend_from_slice(ingress);
            if splice.sets_trace {
                out.extend_from_slice(TRACE);
            }
            if splice.comma {
                out.push(b',');
            }
            let mut from = splice.insert_at;
            for cut in &splice.cuts {
                out.extend_from_slice(self.part(&(from..cut.start)));
                from = cut.end;
            }
            out.extend_from_slice(self.part(&(from..splice.span.end)));
        }
        out.push(b']');
    }

    fn part(&self, span: &Range<usize>) -> &[u8] {
        self.text.get(span.clone()).unwrap_or_default()
    }
}

/// Why nothing of an envelope is relayed, and whom to tell.
#[derive(Debug)]
pub struct Refusal {
    /// 400 or 413 from [`parse`].
    pub status: u16,
    /// The limit that was exceeded, if it was one: to be counted.
    pub limit: Option<Limit>,
    /// What is wrong and what to do about it.
    pub reason: String,
    /// As in [`Envelope`]; `""` (two quotes) where it could not be read.
    pub thread_spelled: Vec<u8>,
    /// As in [`Envelope`]; none also where it could not be read or was not allowed.
    pub xid: Option<Vec<u8>>,
    /// One for each message to answer, never for a DISCONNECT. Empty: answer once with 0, unless `only_disconnects`.
    pub traces: Vec<Trace>,
    /// Every message was a DISCONNECT: no answer.
    pub only_disconnects: bool,
}

/// Reads a client's message: UTF-8, then one strict walk without recursion that finds the few fields on its way.
///
/// The text is checked for UTF-8 here too, although the WebSocket layer has done so: that costs nanoseconds, and
/// nothing that follows need trust its caller.
pub fn parse<'a>(text: &'a [u8], limits: &EnvelopeLimits) -> Result<Envelope<'a>, Refusal> {
    let Ok(text) = simdutf8::basic::from_utf8(text) else {
        return Err(unreadable("the message is not UTF-8; encode it as UTF-8"));
    };
    let envelope = read::envelope(text, limits).unwrap_or_else(|Broken| Err(broken(text, limits)))?;
    within_bytes_max(envelope, limits)
}

/// Reads a client's message that has been judged before: a long one while it came in, or one that had to wait.
pub fn parse_judged<'a>(text: &'a [u8], judged: &Judged, limits: &EnvelopeLimits) -> Result<Envelope<'a>, Refusal> {
    match judged.fault {
        Some(Fault::TooDeep) => Err(too_deep(text, limits)),
        Some(Fault::LoneSurrogate) => Err(lone_surrogate(text, limits)),
        Some(Fault::Damage) => Err(damaged()),
        None => {
            let mut envelope = read::judged(text, judged, limits).unwrap_or_else(|Broken| Err(damaged()))?;
            if let Some(surplus) = judged.surplus {
                envelope.escaped_most = text.len() + surplus;
            }
            within_bytes_max(envelope, limits)
        }
    }
}

fn within_bytes_max<'a>(envelope: Envelope<'a>, limits: &EnvelopeLimits) -> Result<Envelope<'a>, Refusal> {
    let bytes_max = limits.bus_message_bytes_max;
    if envelope.escaped_most > bytes_max && envelope.body_escaped_len(b"") > bytes_max {
        return Err(too_large(&envelope, bytes_max));
    }
    Ok(envelope)
}

/// Why the strict walk broke off. Half a surrogate pair and depth are named also where more is wrong (in a long
/// message, which is judged while it comes in, where they come first), and the fields are
/// read as far as possible to address the answer.
#[cold]
fn broken(text: &str, limits: &EnvelopeLimits) -> Refusal {
    let findings = precheck(text.as_bytes(), limits.json_depth_max.min(DEPTH_MOST));
    if findings.too_deep {
        return too_deep(text.as_bytes(), limits);
    }
    if findings.lone_surrogate {
        return lone_surrogate(text.as_bytes(), limits);
    }
    damaged()
}

fn too_deep(text: &[u8], limits: &EnvelopeLimits) -> Refusal {
    let levels = limits.json_depth_max.min(DEPTH_MOST);
    let reason = format!("the message is nested deeper than {levels} levels (json_depth_max); send flatter data");
    read::refuse(text, limits, reason, Some(Limit::json_depth_max))
}

fn lone_surrogate(text: &[u8], limits: &EnvelopeLimits) -> Refusal {
    let reason = "a string holds half a surrogate pair; write the character itself or both escapes";
    read::refuse(text, limits, reason.to_owned(), None)
}

fn damaged() -> Refusal {
    unreadable("the message is not valid JSON; send one JSON object per message")
}

/// The refusal of an envelope whose messages alone are larger than `bytes_max` after the router's escaping.
fn too_large(envelope: &Envelope<'_>, bytes_max: usize) -> Refusal {
    let asks = |message: &&Message<'_>| message.kind != Kind::Disconnect;
    let traces: Vec<Trace> = envelope.messages.iter().filter(asks).map(|message| message.trace).collect();
    Refusal {
        status: 413,
        limit: Some(Limit::bus_message_bytes_max),
        reason: format!(
            "the message is larger than {bytes_max} bytes on the bus (bus_message_bytes_max), where characters outside \
             ASCII count 6 or 12; send less at once"
        ),
        thread_spelled: envelope.thread_spelled.to_vec(),
        xid: envelope.xid.as_deref().map(<[u8]>::to_vec),
        only_disconnects: traces.is_empty(),
        traces,
    }
}

/// A refusal of text of which nothing could be read.
fn unreadable(reason: &str) -> Refusal {
    Refusal {
        status: 400,
        limit: None,
        reason: reason.to_owned(),
        thread_spelled: b"\"\"".to_vec(),
        xid: None,
        traces: Vec::new(),
        only_disconnects: false,
    }
}
