//! What the bus delivers: `{"to":…,"from":…,"thread":…,"osrf_xid":…,"body":[…]}`
//! (docs/wire.md, "What the bus carries").
//!
//! Trusted, yet perhaps damaged, and perhaps megabytes: one pass, fixed depth, strings skipped by vectors, nothing
//! validated that is only passed through.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::scan::{Broken, Scalar};
use crate::json::strictness::Lenient;

type Cursor<'a> = crate::json::scan::Cursor<'a, Lenient>;

/// What a message of a service is: its `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyKind {
    /// Says how a request or a session stands.
    Status,
    /// Carries content, or a part of it.
    Result,
    /// Anything else, also what is no message at all; passed through.
    Other,
}

/// One element of a reply's `body`; offsets are into the reply's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyMessage {
    /// Its `type`.
    pub kind: ReplyKind,
    /// Its `threadTrace`, from `7` or `"7"`; none where it is neither.
    pub trace: Option<i64>,
    /// Where the value of `threadTrace` stands, quotes included.
    pub trace_span: Option<Range<usize>>,
    /// The payload's `statusCode`, from `200` or `"200"`.
    pub status_code: Option<u16>,
    /// The payload's class is `osrfServiceException`: what the router says of a service that it does not know.
    pub service_exception: bool,
    /// Where the message stands, from `{` to `}`.
    pub span: Range<usize>,
    /// Behind the `{` of its `__p`.
    pub(super) parameters_at: Option<usize>,
}

/// A message of a service or of the router.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The sender's bus address; empty where absent.
    pub from: Cow<'a, str>,
    /// The bus thread, unescaped.
    pub thread: Cow<'a, str>,
    /// `osrf_xid` as the text of a JSON string with its quotes, a number in quotes; none where absent or null.
    pub xid: Option<Cow<'a, [u8]>>,
    /// Where the JSON of `body` stands in the text.
    pub body: Range<usize>,
    /// Whether `body` is an array; else it is one message.
    pub body_is_array: bool,
    /// Whether the whole text is UTF-8. If not, it must not be sent as a text frame (RFC 6455 section 5.6).
    pub utf8: bool,
    /// The messages, in order. Take the vector out and give it to the next [`parse_reply`]: it then allocates nothing.
    pub messages: Vec<ReplyMessage>,
}

/// Why a reply cannot be delivered to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadReply {
    /// What is wrong with it, for the log.
    pub reason: &'static str,
}

impl From<Broken> for BadReply {
    fn from(_: Broken) -> Self {
        Self { reason: "it is not valid JSON" }
    }
}

/// Finds the few fields of a reply. `messages` is a vector to reuse, of any content.
pub fn parse_reply(text: &[u8], mut messages: Vec<ReplyMessage>) -> Result<Reply<'_>, BadReply> {
    messages.clear();
    let utf8 = simdutf8::basic::from_utf8(text).ok();
    let mut cursor = Cursor::new(text, utf8, Lenient);
    let mut from = None;
    let mut thread = None;
    let mut xid = None;
    let mut body = None;
    cursor.open(b'{')?;
    let mut room = Vec::new();
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        match key.name(&mut room) {
            b"from" => from = cursor.scalar()?.text(usize::MAX),
            b"thread" => thread = cursor.scalar()?.text(usize::MAX),
            b"osrf_xid" => xid = cursor.scalar()?.quoted(),
            b"body" => body = Some(read_body(&mut cursor, &mut messages)?),
            _ => {
                cursor.skip()?;
            }
        }
    }
    cursor.end().map_err(|_| BadReply { reason: "something follows the JSON object" })?;
    let thread = thread.ok_or(BadReply { reason: "it has no thread" })?;
    let (body, body_is_array) = body.flatten().ok_or(BadReply { reason: "its body is no array and no message" })?;
    let (from, utf8) = (from.unwrap_or_default(), utf8.is_some());
    Ok(Reply { from, thread, xid, body, body_is_array, utf8, messages })
}

impl Reply<'_> {
    /// The same without its text, which may then be given away.
    pub fn detached(self) -> Reply<'static> {
        let Reply { from, thread, xid, body, body_is_array, utf8, messages } = self;
        let (from, thread) = (Cow::Owned(from.into_owned()), Cow::Owned(thread.into_owned()));
        let xid = xid.map(|xid| Cow::Owned(xid.into_owned()));
        Reply { from, thread, xid, body, body_is_array, utf8, messages }
    }
}

/// The text of a reply.
#[derive(Debug)]
pub enum ReplyText<'a> {
    /// Somebody else's: what is sent on is copied.
    Lent(&'a [u8]),
    /// So large that the buffer which received it is sent on, with the wrapper written around the body.
    Given {
        /// What was received.
        buffer: Vec<u8>,
        /// Where the text stands in it.
        at: Range<usize>,
    },
}

impl ReplyText<'_> {
    /// The text; nothing once it was taken.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(text) => text,
            Self::Given { buffer, at } => buffer.get(at.clone()).unwrap_or_default(),
        }
    }
}

/// The body's span and whether it is an array; none where it is neither array nor object.
fn read_body(
    cursor: &mut Cursor<'_>,
    messages: &mut Vec<ReplyMessage>,
) -> Result<Option<(Range<usize>, bool)>, Broken> {
    messages.clear();
    let kind = cursor.peek();
    let start = cursor.at();
    match kind {
        Some(b'[') => {
            cursor.open(b'[')?;
            let mut first = true;
            while cursor.next_element(&mut first)? {
                messages.push(read_message(cursor)?);
            }
        }
        Some(b'{') => messages.push(read_message(cursor)?),
        _ => {
            cursor.skip()?;
            return Ok(None);
        }
    }
    Ok(Some((start..cursor.at(), kind == Some(b'['))))
}

fn read_message(cursor: &mut Cursor<'_>) -> Result<ReplyMessage, Broken> {
    let mut message = ReplyMessage {
        kind: ReplyKind::Other,
        trace: None,
        trace_span: None,
        status_code: None,
        service_exception: false,
        span: 0..0,
        parameters_at: None,
    };
    if cursor.peek() != Some(b'{') {
        message.span = cursor.skip()?;
        return Ok(message);
    }
    let start = cursor.at();
    cursor.open(b'{')?;
    let mut room = Vec::new();
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        if key.name(&mut room) == b"__p" && cursor.peek() == Some(b'{') {
            read_parameters(cursor, &mut message)?;
        } else {
            cursor.skip()?;
        }
    }
    message.span = start..cursor.at();
    Ok(message)
}

fn read_parameters(cursor: &mut Cursor<'_>, message: &mut ReplyMessage) -> Result<(), Broken> {
    cursor.open(b'{')?;
    message.parameters_at = Some(cursor.at());
    let mut room = Vec::new();
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        match key.name(&mut room) {
            b"type" => {
                message.kind = match cursor.scalar()? {
                    Scalar::Text(text) if text.is(b"STATUS") => ReplyKind::Status,
                    Scalar::Text(text) if text.is(b"RESULT") => ReplyKind::Result,
                    _ => ReplyKind::Other,
                };
            }
            b"threadTrace" => {
                let start = cursor.at();
                message.trace = integer(cursor)?;
                message.trace_span = Some(start..cursor.at());
            }
            b"payload" if cursor.peek() == Some(b'{') => read_payload(cursor, message)?,
            _ => {
                cursor.skip()?;
            }
        }
    }
    Ok(())
}

fn read_payload(cursor: &mut Cursor<'_>, message: &mut ReplyMessage) -> Result<(), Broken> {
    cursor.open(b'{')?;
    let mut room = Vec::new();
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        match key.name(&mut room) {
            b"__c" => {
                let class = cursor.scalar()?;
                message.service_exception = matches!(class, Scalar::Text(text) if text.is(b"osrfServiceException"));
            }
            b"__p" if cursor.peek() == Some(b'{') => {
                cursor.open(b'{')?;
                let mut first = true;
                while let Some(key) = cursor.next_key(&mut first)? {
                    if key.name(&mut room) == b"statusCode" {
                        message.status_code = integer(cursor)?.and_then(|code| u16::try_from(code).ok());
                    } else {
                        cursor.skip()?;
                    }
                }
            }
            _ => {
                cursor.skip()?;
            }
        }
    }
    Ok(())
}

/// An integer, or a string of one.
fn integer(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Broken> {
    if let Some(integer) = cursor.usual_integer() {
        return Ok(Some(integer));
    }
    Ok(cursor.scalar()?.text(usize::MAX).and_then(|text| text.parse().ok()))
}
