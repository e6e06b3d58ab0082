//! Reading an envelope's fields out of the client's text, in one walk of fixed depth.
//!
//! The walk goes on after a fault, so that a refusal can name the thread, the id and every request that failed.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::envelope::{ESCAPED_MOST, Envelope, EnvelopeLimits, Kind, Message, Refusal, Splice};
use super::payload::Payload;
use super::printable::{Shown, is_plain, is_printable};
use super::trace::Trace;
use crate::counters::Limit;
use crate::json::judge::Judged;
use crate::json::keys::{FEW, Keys, Noted};
use crate::json::scan::{Broken, Cursor, Key, Scalar};
use crate::json::strictness::{Lenient, Strict, Strictness, Trusting};

/// Bytes of a service's name at most.
const SERVICE_BYTES_MAX: usize = 256;
/// Bytes of a thread at most, unescaped: what stdio took.
const THREAD_BYTES_MAX: usize = 64;
/// What is said of a longer one.
const THREAD_TOO_LONG: &str = "thread is longer than 64 bytes; use a shorter one";
/// Bytes of a `log_xid` at most, unescaped: what stdio took.
const XID_BYTES_MAX: usize = 64;

/// Reads what a client sent; [`Broken`] where that is no JSON, is too deep, or holds half a surrogate pair.
pub(super) fn envelope<'a>(text: &'a str, limits: &EnvelopeLimits) -> Result<Result<Envelope<'a>, Refusal>, Broken> {
    let mut draft = Draft::new(text.as_bytes(), Some(text), limits, Strict::new(limits.json_depth_max));
    draft.read_envelope()?;
    if draft.cursor.strictness.nul {
        draft.refuse_nul();
    }
    Ok(draft.finish())
}

/// Reads what a client sent and has been found to be JSON.
pub(super) fn judged<'a>(
    text: &'a [u8],
    judged: &Judged,
    limits: &EnvelopeLimits,
) -> Result<Result<Envelope<'a>, Refusal>, Broken> {
    let mut draft = Draft::new(text, None, limits, Trusting(judged));
    draft.read_envelope()?;
    if judged.nul {
        draft.refuse_nul();
    }
    Ok(draft.finish())
}

/// Refuses text for a reason found before; the fields are read as far as possible to address the answer.
pub(super) fn refuse(text: &[u8], limits: &EnvelopeLimits, reason: String, limit: Option<Limit>) -> Refusal {
    let mut draft = Draft::new(text, None, limits, Lenient);
    draft.fault = Some((reason, limit));
    // Where it breaks off, it has been read as far as possible.
    let _ = draft.read_envelope();
    draft.into_refusal()
}

/// What has been read so far.
pub(super) struct Draft<'a, R> {
    pub(super) text: &'a [u8],
    pub(super) cursor: Cursor<'a, R>,
    messages_max: usize,
    /// Keys of an object past the first few at most.
    keys_max: usize,
    /// Such keys that may still be looked at in the envelope.
    keys_left: usize,
    service: Option<Cow<'a, str>>,
    thread: Cow<'a, str>,
    thread_spelled: Cow<'a, [u8]>,
    xid: Option<Cow<'a, [u8]>>,
    has_messages: bool,
    messages: SmallVec<[Message<'a>; 1]>,
    /// Messages to answer should the envelope be refused.
    traces: SmallVec<[Trace; 2]>,
    /// Elements of `osrf_msg`, and the DISCONNECTs among them.
    elements: usize,
    disconnects: usize,
    /// The first fault in text order, and the limit that it exceeds.
    fault: Option<(String, Option<Limit>)>,
}

/// What the members of a `__p` said.
struct Parameters<'a> {
    kind: Option<Kind>,
    /// None where it is no integer.
    trace: Option<Trace>,
    /// It names none: 0 is set for it.
    sets_trace: bool,
    payload: Payload<'a>,
    insert_at: usize,
    comma: bool,
    cuts: Vec<std::ops::Range<usize>>,
}

/// Objects of one envelope that may each have `keys_per_object_max` keys.
const OBJECTS_FULL_MAX: usize = 10;

/// Messages of one refused envelope that are answered at most: the highest `messages_per_envelope_max`.
const ANSWERED_MAX: usize = 256;

impl<'a, R: Strictness> Draft<'a, R> {
    fn new(text: &'a [u8], utf8: Option<&'a str>, limits: &EnvelopeLimits, strictness: R) -> Self {
        Self {
            text,
            cursor: Cursor::new(text, utf8, strictness),
            messages_max: limits.messages_per_envelope_max,
            keys_max: limits.keys_per_object_max.saturating_sub(FEW),
            keys_left: limits.keys_per_object_max.saturating_mul(OBJECTS_FULL_MAX),
            service: None,
            thread: Cow::Borrowed(""),
            thread_spelled: Cow::Borrowed(b"\"\""),
            xid: None,
            has_messages: false,
            messages: SmallVec::new(),
            traces: SmallVec::new(),
            elements: 0,
            disconnects: 0,
            fault: None,
        }
    }

    fn finish(self) -> Result<Envelope<'a>, Refusal> {
        if self.fault.is_some() {
            return Err(self.into_refusal());
        }
        Ok(Envelope {
            service: self.service,
            thread: self.thread,
            thread_spelled: self.thread_spelled,
            xid: self.xid,
            messages: self.messages,
            text: self.text,
            // A byte grows to six at most.
            escaped_most: self.text.len().saturating_mul(ESCAPED_MOST),
        })
    }

    fn into_refusal(self) -> Refusal {
        let (reason, limit) = self.fault.unwrap_or_default();
        Refusal {
            status: 400,
            limit,
            reason,
            thread_spelled: self.thread_spelled.into_owned(),
            xid: self.xid.map(Cow::into_owned),
            traces: self.traces.into_vec(),
            only_disconnects: self.elements > 0 && self.elements == self.disconnects,
        }
    }

    /// Notes a fault; the first one is what the client is told.
    pub(super) fn fault(&mut self, reason: &str) {
        if self.fault.is_none() {
            self.fault = Some((reason.to_owned(), None));
        }
    }

    /// It comes before what may be wrong with the fields.
    fn refuse_nul(&mut self) {
        let reason = "a string holds \\u0000, which OpenSRF's router drops; leave it out";
        self.fault = Some((reason.to_owned(), None));
    }

    /// Notes a key of an object in `place`; a repeated one is a fault. False: the object has had as many as are looked at.
    #[inline]
    fn note_key(&mut self, keys: &mut Keys<'a>, key: Key<'a>, name: &[u8], place: &str) -> bool {
        keys.is_clearly_new(key, name) || self.compare_key(keys, key, name, place)
    }

    #[inline(never)]
    fn compare_key(&mut self, keys: &mut Keys<'a>, key: Key<'a>, name: &[u8], place: &str) -> bool {
        match keys.note(key, name, self.keys_max.min(self.keys_left)) {
            Noted::New => return true,
            Noted::Repeated => self.repeated(name, place),
            Noted::TooMany => self.too_many_keys(place),
        }
        self.fault.as_ref().is_none_or(|(_, limit)| *limit != Some(Limit::keys_per_object_max))
    }

    #[cold]
    fn too_many_keys(&mut self, place: &str) {
        // It is refused, whatever else is in it.
        self.keys_left = 0;
        if self.fault.is_none() {
            let (keys_max, objects_max) = (self.keys_max + FEW, OBJECTS_FULL_MAX);
            let reason = format!(
                "{place} has more keys than an object may have: {keys_max}, and {objects_max} times as many in one \
                 envelope (keys_per_object_max); leave out those that OpenSRF does not know, or send several envelopes"
            );
            self.fault = Some((reason, Some(Limit::keys_per_object_max)));
        }
    }

    fn repeated(&mut self, key: &[u8], place: &str) {
        if self.fault.is_none() {
            let key = String::from_utf8_lossy(key.get(..64).unwrap_or(key)).into_owned();
            let reason = format!(
                "the key \"{}\" is repeated in {place}; OpenSRF's router drops such a message, write it once",
                Shown(&key)
            );
            self.fault = Some((reason, None));
        }
    }

    /// Reads an object, each member by `read`, which is given its key; a key that comes twice is a fault.
    pub(super) fn members(
        &mut self,
        place: &str,
        mut read: impl FnMut(&mut Self, &[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let start = self.cursor.at();
        self.cursor.open(b'{')?;
        let mut keys = Keys::new();
        let mut room = Vec::new();
        let mut first = true;
        while let Some(key) = self.cursor.next_key(&mut first)? {
            let name = key.name(&mut room);
            if !self.note_key(&mut keys, key, name, place) && self.cursor.leave(start) {
                return Ok(());
            }
            read(self, name)?;
        }
        self.keys_left = self.keys_left.saturating_sub(keys.beyond_few());
        Ok(())
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        self.cursor.skip().map(drop)
    }

    fn read_envelope(&mut self) -> Result<(), Broken> {
        if self.cursor.peek() != Some(b'{') {
            self.fault("the message must be a JSON object with service, thread and osrf_msg");
            self.cursor.skip()?;
            return self.cursor.end();
        }
        self.members("the envelope", |draft, name| match name {
            b"service" => draft.read_service(),
            b"thread" => draft.read_thread(),
            b"log_xid" => draft.read_xid(),
            b"osrf_msg" => draft.read_messages(),
            b"format" => draft.read_format(),
            _ => draft.skip(),
        })?;
        self.cursor.end()?;
        if !self.has_messages {
            self.fault("osrf_msg is missing; send an array of 1 or more OpenSRF messages");
        }
        Ok(())
    }

    fn read_service(&mut self) -> Result<(), Broken> {
        const ADVICE: &str =
            "service must be a name of 1 to 256 bytes without control characters and colons, such as \"opensrf.math\"";
        let value = self.cursor.scalar()?;
        if matches!(value, Scalar::Null) {
            return Ok(());
        }
        let allowed = |name: &Cow<'_, str>| {
            let plain = is_plain(name) || !name.chars().any(|c| c.is_control());
            !name.is_empty() && name.len() <= SERVICE_BYTES_MAX && plain && !name.bytes().any(|byte| byte == b':')
        };
        match value.text(SERVICE_BYTES_MAX).filter(allowed) {
            Some(name) => self.service = Some(name),
            None => self.fault(ADVICE),
        }
        Ok(())
    }

    fn read_thread(&mut self) -> Result<(), Broken> {
        let value = self.cursor.scalar()?;
        if matches!(value, Scalar::Null) {
            return Ok(());
        }
        // One that is much too long is not even given back.
        let (Some(thread), Some(quoted)) = (value.text(THREAD_BYTES_MAX * ESCAPED_MOST), value.quoted()) else {
            self.fault(match value {
                Scalar::Text(text) if text.quoted.len() > THREAD_BYTES_MAX * ESCAPED_MOST => THREAD_TOO_LONG,
                _ => "thread must be a string or a number",
            });
            return Ok(());
        };
        if thread.len() > THREAD_BYTES_MAX {
            self.fault(THREAD_TOO_LONG);
        }
        self.thread = thread;
        self.thread_spelled = quoted;
        Ok(())
    }

    fn read_xid(&mut self) -> Result<(), Broken> {
        let value = self.cursor.scalar()?;
        if matches!(value, Scalar::Null) {
            return Ok(());
        }
        let allowed =
            |xid: &Cow<'_, str>| xid.len() <= XID_BYTES_MAX && (is_plain(xid) || xid.chars().all(is_printable));
        match value.text(XID_BYTES_MAX).filter(allowed) {
            Some(xid) if xid.is_empty() => {}
            Some(_) => self.xid = value.quoted(),
            None => self.fault(
                "log_xid must be a string or a number of at most 64 printable bytes; shorten it or leave it out",
            ),
        }
        Ok(())
    }

    fn read_format(&mut self) -> Result<(), Broken> {
        match self.cursor.scalar()? {
            Scalar::Null => {}
            Scalar::Text(text) if text.is(b"raw") => {}
            Scalar::Text(text) if text.is(b"hash") || text.is(b"hashfull") => self.fault(
                "format \"hash\" and \"hashfull\" need the IDL, which this gateway does not read; use \"raw\" or leave format out",
            ),
            _ => self.fault("format must be \"raw\"; leave it out"),
        }
        Ok(())
    }

    fn read_messages(&mut self) -> Result<(), Broken> {
        self.has_messages = true;
        match self.cursor.peek() {
            Some(b'{') => self.read_message(),
            Some(b'[') => self.read_array(),
            _ => {
                self.cursor.skip()?;
                self.fault("osrf_msg must be an array of OpenSRF messages");
                Ok(())
            }
        }
    }

    fn read_array(&mut self) -> Result<(), Broken> {
        let start = self.cursor.at();
        self.cursor.open(b'[')?;
        let mut first = true;
        let mut count = 0_usize;
        while self.cursor.next_element(&mut first)? {
            count += 1;
            if count <= ANSWERED_MAX {
                self.read_message()?;
            } else {
                self.cursor.skip()?;
            }
            if count > self.messages_max && self.fault.is_none() {
                let most = self.messages_max;
                let reason = format!(
                    "osrf_msg has more than {most} messages (messages_per_envelope_max); send several envelopes"
                );
                self.fault = Some((reason, Some(Limit::messages_per_envelope_max)));
            }
            if count > ANSWERED_MAX && self.cursor.leave(start) {
                return Ok(());
            }
        }
        if count == 0 {
            self.fault("osrf_msg is empty; send 1 or more OpenSRF messages");
        }
        Ok(())
    }

    fn read_message(&mut self) -> Result<(), Broken> {
        const ADVICE: &str =
            "an element of osrf_msg is no OpenSRF message; it must be {\"__c\":\"osrfMessage\",\"__p\":{…}}";
        self.elements += 1;
        if self.cursor.peek() != Some(b'{') {
            self.cursor.skip()?;
            self.fault(ADVICE);
            return Ok(());
        }
        let start = self.cursor.at();
        let mut is_message = false;
        let mut parameters = None;
        self.members("a message", |draft, name| {
            match name {
                b"__c" => is_message = draft.text_is(b"osrfMessage")?,
                b"__p" if draft.cursor.peek() == Some(b'{') => parameters = Some(draft.read_parameters()?),
                _ => draft.skip()?,
            }
            Ok(())
        })?;
        let span = start..self.cursor.at();
        let Some(parameters) = parameters else {
            self.fault(ADVICE);
            return Ok(());
        };
        if !is_message {
            self.fault(ADVICE);
        }
        self.note_for_refusal(&parameters);
        let Parameters { kind, trace, sets_trace, payload, insert_at, comma, cuts } = parameters;
        match (kind, trace) {
            (None, _) => self.fault("type must be \"CONNECT\", \"REQUEST\" or \"DISCONNECT\""),
            (_, None) => self.fault("threadTrace is no integer; number each message of a thread"),
            (Some(Kind::Request), _) if payload.method.is_none() => self.fault(
                "a REQUEST names no method; its payload must be {\"__c\":\"osrfMethod\",\"__p\":{\"method\":\"…\",\"params\":[…]}}",
            ),
            (Some(kind), Some(trace)) => {
                let Payload { method, params } = if kind == Kind::Request { payload } else { Payload::default() };
                let splice = Splice { span, insert_at, sets_trace, comma, cuts };
                self.messages.push(Message { kind, trace, method, params, splice });
            }
        }
        Ok(())
    }

    /// A message of unknown type is answered too where its number is known: its client waits for that number.
    fn note_for_refusal(&mut self, parameters: &Parameters<'_>) {
        match (parameters.kind, parameters.trace) {
            (Some(Kind::Disconnect), _) => self.disconnects += 1,
            (Some(_), trace) => self.traces.push(trace.unwrap_or(Trace::UNREADABLE)),
            (None, Some(trace)) => self.traces.push(trace),
            (None, None) => {}
        }
    }

    fn read_parameters(&mut self) -> Result<Parameters<'a>, Broken> {
        let start = self.cursor.at();
        self.cursor.open(b'{')?;
        let insert_at = self.cursor.at();
        let payload = Payload::default();
        // OpenSRF's C code takes a message without a number for number 0 (quirk 18).
        let (trace, sets_trace) = (Some(Trace::ZERO), true);
        let mut parameters =
            Parameters { kind: None, trace, sets_trace, payload, insert_at, comma: false, cuts: Vec::new() };
        let mut keys = Keys::new();
        let mut room = Vec::new();
        let mut first = true;
        loop {
            let is_first = first;
            let Some(key) = self.cursor.next_key(&mut first)? else {
                self.keys_left = self.keys_left.saturating_sub(keys.beyond_few());
                return Ok(parameters);
            };
            let name = key.name(&mut room);
            if name == b"ingress" {
                let start = self.cursor.member();
                let end = self.cursor.skip()?.end;
                parameters.cuts.push(start..end);
                continue;
            }
            if !self.note_key(&mut keys, key, name, "a message's __p") && self.cursor.leave(start) {
                return Ok(parameters);
            }
            if name == b"threadTrace" {
                let start = self.cursor.member();
                let value = self.cursor.scalar()?;
                if matches!(value, Scalar::Null) {
                    parameters.cuts.push(start..self.cursor.at());
                    continue;
                }
                parameters.trace = Trace::read(value);
                parameters.sets_trace = false;
                parameters.comma |= is_first;
                continue;
            }
            // What follows the inserted member is either this first one or, where the first was cut, a comma already.
            parameters.comma |= is_first;
            match name {
                b"type" => parameters.kind = self.read_kind()?,
                b"payload" if self.cursor.peek() == Some(b'{') => parameters.payload = self.read_payload()?,
                _ => self.skip()?,
            }
        }
    }

    fn read_kind(&mut self) -> Result<Option<Kind>, Broken> {
        let Scalar::Text(text) = self.cursor.scalar()? else { return Ok(None) };
        let kinds = [(Kind::Connect, &b"CONNECT"[..]), (Kind::Request, b"REQUEST"), (Kind::Disconnect, b"DISCONNECT")];
        Ok(kinds.into_iter().find(|(_, name)| text.is(name)).map(|(kind, _)| kind))
    }

    fn text_is(&mut self, expected: &[u8]) -> Result<bool, Broken> {
        Ok(matches!(self.cursor.scalar()?, Scalar::Text(text) if text.is(expected)))
    }
}
