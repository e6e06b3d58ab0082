//! From a client's bytes to messages and control frames (RFC 6455 5), however the bytes are cut.
//!
//! A message that arrives whole in one read, the usual case, is unmasked where it lies and lent out: no copy and no
//! heap. The rest is gathered in a box that exists only while something is unfinished, so that an idle client's decoder
//! is one null pointer. Text is judged as it comes: bytes that cannot become UTF-8 are refused in the frame that brings them.

use fastwebsockets::{CloseCode as RegisteredCode, OpCode, unmask};

use super::CloseCode;
use super::frame::CONTROL_BYTES_MAX;

/// The longest header that a client writes, in bytes: two, a 64-bit length, a mask.
const HEADER_BYTES_MAX: usize = 14;

/// What the client said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message, unmasked; its opcode is [`OpCode::Text`] or [`OpCode::Binary`]. Text is valid UTF-8, of binary nothing
    /// is known.
    Message(OpCode, &'a [u8]),
    /// A Ping, to be answered with a Pong of the same payload (at most 125 bytes).
    Ping(&'a [u8]),
    /// A Pong. Any byte counts as a sign of life, so that its payload does not matter.
    Pong,
    /// The client closes. Nothing that it sends later counts.
    Close {
        /// Its code, one that may stand in a frame; `None` where the payload was empty.
        code: Option<u16>,
        /// Its reason, for the log; at most 123 bytes.
        reason: &'a str,
    },
}

/// Why the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The close code: [`CloseCode::PROTOCOL`], [`CloseCode::NOT_UTF8`] or [`CloseCode::TOO_LARGE`].
    pub code: u16,
    /// What is wrong, short enough for a Close frame.
    pub reason: &'static str,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: CloseCode::PROTOCOL, reason }
}

const fn not_utf8(reason: &'static str) -> Violation {
    Violation { code: CloseCode::NOT_UTF8, reason }
}

/// A text message that is none.
const NOT_UTF8: Violation = not_utf8("the message is not UTF-8 (RFC 6455 8.1)");

/// The decoder of one connection. After a [`Violation`] or an [`Event::Close`] it must not be fed again.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What is unfinished. After an event was lent out of it, it lives on until the next call or [`Decoder::release`].
    rest: Option<Box<Rest>>,
}

/// An unfinished frame, an unfinished message, or both (a control frame between fragments).
#[derive(Debug)]
struct Rest {
    /// The data message so far, unmasked. Its capacity never exceeds `message_bytes_max`.
    message: Vec<u8>,
    /// The message is text: UTF-8 is judged as its bytes come, so that what cannot become text is refused in its frame.
    is_text: bool,
    /// Bytes of `message` found to be whole characters; behind them at most three of one that is not all here.
    judged: usize,
    /// A data frame without FIN was taken: only continuations and control frames may follow.
    fragmented: bool,
    /// The frame whose payload is coming in.
    frame: Option<Header>,
    /// The control payload so far, unmasked.
    control: [u8; CONTROL_BYTES_MAX],
    /// Bytes used of `control`.
    control_len: u8,
    /// The frame header so far.
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes used of `header`; 0 at a frame boundary.
    header_len: u8,
}

impl Default for Rest {
    fn default() -> Self {
        Rest {
            message: Vec::new(),
            is_text: false,
            judged: 0,
            fragmented: false,
            frame: None,
            control: [0; CONTROL_BYTES_MAX],
            control_len: 0,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
        }
    }
}

/// Where the payload of a finished frame or message lies.
enum Found {
    /// At these indexes of the input.
    InPlace(OpCode, usize, usize),
    /// In `Rest::message` (data opcodes) or `Rest::control`.
    Held(OpCode),
}

impl Decoder {
    /// A decoder that stands right behind the handshake.
    pub const fn new() -> Self {
        Decoder { rest: None }
    }

    /// The next event in `input[*at..]`, with `*at` moved past it; `None` when all of `input` is consumed and more is
    /// needed.
    ///
    /// Bytes of `input` that were consumed are scratch afterwards. `message_bytes_max` bounds a message, its frames
    /// together.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Event<'a>>, Violation> {
        self.release();
        match self.advance(input, at, message_bytes_max)? {
            None => Ok(None),
            Some(Found::InPlace(OpCode::Text, start, end)) => {
                let payload = &input[start..end];
                simdutf8::basic::from_utf8(payload).map_err(|_| NOT_UTF8)?;
                Ok(Some(Event::Message(OpCode::Text, payload)))
            }
            Some(Found::InPlace(opcode, start, end)) => event(opcode, &input[start..end]).map(Some),
            Some(Found::Held(opcode)) => {
                let rest = self.rest.as_ref().expect("what is held is held in rest");
                if is_control(opcode) {
                    return event(opcode, &rest.control[..usize::from(rest.control_len)]).map(Some);
                }
                // The opcode of its last frame says nothing about a fragmented message.
                let opcode = if rest.is_text { OpCode::Text } else { OpCode::Binary };
                Ok(Some(Event::Message(opcode, &rest.message)))
            }
        }
    }

    /// Whether no byte of an unfinished frame or message is held (one condition of the idle gap).
    pub fn is_clean(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| !rest.fragmented && rest.frame.is_none() && rest.header_len == 0)
    }

    /// Heap bytes held: nothing while the decoder is clean, save between an event and [`Decoder::release`].
    pub fn bytes_held(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| size_of::<Rest>() + rest.message.capacity())
    }

    /// Bytes gathered of what is unfinished: those of the message, and of a frame header. It changes with each byte of a
    /// message, and with no whole control frame.
    pub fn gathered(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.message.len() + usize::from(rest.header_len))
    }

    /// What has come of an unfinished data message, unmasked.
    pub fn message(&self) -> &[u8] {
        self.rest.as_ref().map_or(&[], |rest| &rest.message)
    }

    /// Gives the memory of the event lent out last back; what is unfinished stays. [`Decoder::next`] does the same.
    pub fn release(&mut self) {
        if self.rest.is_some() && self.is_clean() {
            self.rest = None;
        }
    }

    /// Takes frames up to the end of the first one that yields an event.
    fn advance(&mut self, input: &mut [u8], at: &mut usize, max: usize) -> Result<Option<Found>, Violation> {
        while *at < input.len() {
            if self.rest.as_ref().is_none_or(|rest| rest.frame.is_none()) {
                let Some(header) = self.header(input, at, max)? else { return Ok(None) };
                let fragment = !is_control(header.opcode) && (!header.fin || header.opcode == OpCode::Continuation);
                if !fragment && header.payload_bytes <= input.len() - *at {
                    let (start, end) = (*at, *at + header.payload_bytes);
                    unmask(&mut input[start..end], header.mask);
                    *at = end;
                    return Ok(Some(Found::InPlace(header.opcode, start, end)));
                }
                let rest = self.rest.get_or_insert_default();
                rest.frame = Some(header);
                rest.control_len = 0;
            }
            let rest = self.rest.as_mut().expect("a frame under way is held in rest");
            if let Some(opcode) = rest.take_payload(input, at, max)? {
                return Ok(Some(Found::Held(opcode)));
            }
        }
        Ok(None)
    }

    /// The header at `*at`, or the end of the one begun in an earlier input. Only then is it copied.
    fn header(&mut self, input: &[u8], at: &mut usize, max: usize) -> Result<Option<Header>, Violation> {
        let (fragmented, room, begun) = self.rest.as_ref().map_or((false, max, false), |rest| {
            (rest.fragmented, max.saturating_sub(rest.message.len()), rest.header_len > 0)
        });
        if !begun && let Some((header, used)) = Header::parse(&input[*at..], fragmented, room)? {
            *at += used;
            return Ok(Some(header));
        }
        let rest = self.rest.get_or_insert_default();
        // One byte at a time: a header has at most 14, and its length shows only on the way.
        while *at < input.len() {
            rest.header[usize::from(rest.header_len)] = input[*at];
            rest.header_len += 1;
            *at += 1;
            if let Some((header, _)) = Header::parse(&rest.header[..usize::from(rest.header_len)], fragmented, room)? {
                rest.header_len = 0;
                self.release();
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

impl Rest {
    /// Moves what `input` has of the payload under way in here. An opcode: that of the message or control frame it
    /// completed.
    fn take_payload(&mut self, input: &[u8], at: &mut usize, max: usize) -> Result<Option<OpCode>, Violation> {
        let Some(frame) = self.frame.as_mut() else { return Ok(None) };
        let chunk = &input[*at..*at + frame.payload_bytes.min(input.len() - *at)];
        *at += chunk.len();
        if is_control(frame.opcode) {
            let from = usize::from(self.control_len);
            let held = &mut self.control[from..from + chunk.len()];
            held.copy_from_slice(chunk);
            unmask(held, frame.mask);
            self.control_len += chunk.len() as u8;
        } else {
            let from = self.message.len();
            // The final frame says how long the message is; until then only the limit is known.
            let bytes_max = if frame.fin { from + frame.payload_bytes } else { max };
            reserve(&mut self.message, chunk.len(), bytes_max);
            self.message.extend_from_slice(chunk);
            unmask(&mut self.message[from..], frame.mask);
        }
        frame.payload_bytes -= chunk.len();
        frame.mask.rotate_left(chunk.len() % 4);
        let Header { opcode, fin, payload_bytes, .. } = *frame;
        let is_whole = payload_bytes == 0;
        if is_whole {
            self.frame = None;
        }
        if is_control(opcode) {
            return Ok(is_whole.then_some(opcode));
        }
        if opcode != OpCode::Continuation {
            self.is_text = opcode == OpCode::Text;
        }
        if self.is_text {
            self.judge(is_whole && fin)?;
        }
        if is_whole {
            self.fragmented = !fin;
        }
        Ok((is_whole && fin).then_some(opcode))
    }

    /// Judges what has come since: whether the message can still become text, and once `is_whole`, whether it is.
    fn judge(&mut self, is_whole: bool) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(&self.message[self.judged..]) {
            Ok(text) => self.judged += text.len(),
            Err(error) if error.error_len().is_none() && !is_whole => self.judged += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }
}

/// Makes room for `more` bytes: by doubling, so that the cost is linear, but never beyond `bytes_max` unless `more`
/// needs it, and never ahead of arrival by more than that: an announced length alone costs nothing.
fn reserve(message: &mut Vec<u8>, more: usize, bytes_max: usize) {
    let needed = message.len() + more;
    if needed > message.capacity() {
        let target = message.capacity().saturating_mul(2).min(bytes_max).max(needed);
        message.reserve_exact(target - message.len());
    }
}

/// A frame header, or what is still to come of its frame.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: OpCode,
    /// The last frame of its message.
    fin: bool,
    /// The mask, turned so that its first byte belongs to the next byte of payload.
    mask: [u8; 4],
    /// Payload bytes still to come.
    payload_bytes: usize,
}

impl Header {
    /// The header at the start of `bytes` and its length; `None` if it is not all there.
    ///
    /// Every check comes as soon as its byte is there and in the bytes' order, so that the verdict does not depend on
    /// how they were cut. `fragmented`: a data message is under way. `room`: how much longer that message may grow.
    fn parse(bytes: &[u8], fragmented: bool, room: usize) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(protocol("a reserved bit is set, but no extension was negotiated (RFC 6455 5.2)"));
        }
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| protocol("unknown opcode (RFC 6455 5.2)"))?;
        match opcode {
            OpCode::Close | OpCode::Ping | OpCode::Pong if !fin => {
                return Err(protocol("a control frame must not be fragmented (RFC 6455 5.5)"));
            }
            OpCode::Continuation if !fragmented => {
                return Err(protocol("a continuation without a message to continue (RFC 6455 5.4)"));
            }
            OpCode::Text | OpCode::Binary if fragmented => {
                return Err(protocol("a new message inside a fragmented one (RFC 6455 5.4)"));
            }
            _ => {}
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(protocol("a client must mask every frame (RFC 6455 5.1)"));
        }
        if is_control(opcode) && usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(protocol("a control frame holds at most 125 bytes (RFC 6455 5.5)"));
        }
        let (length, length_end) = match second & 0x7f {
            126 => {
                let Some((&length, _)) = bytes[2..].split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(length)), 4)
            }
            127 => {
                let Some((&length, _)) = bytes[2..].split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(length), 10)
            }
            short => (u64::from(short), 2),
        };
        if length >> 63 != 0 {
            return Err(protocol("the top bit of a 64-bit length is set (RFC 6455 5.2)"));
        }
        let shortest = match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        if length_end != shortest {
            return Err(protocol("a length must be written in the fewest bytes (RFC 6455 5.2)"));
        }
        let payload_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if !is_control(opcode) && payload_bytes > room {
            return Err(Violation {
                code: CloseCode::TOO_LARGE,
                reason: "the message is longer than message_bytes_max; send less at a time",
            });
        }
        let Some((&mask, _)) = bytes[length_end..].split_first_chunk() else { return Ok(None) };
        Ok(Some((Header { opcode, fin, mask, payload_bytes }, length_end + 4)))
    }
}

/// What a finished frame means, whose text has been judged.
fn event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match opcode {
        OpCode::Ping => Ok(Event::Ping(payload)),
        OpCode::Pong => Ok(Event::Pong),
        OpCode::Close => close(payload),
        OpCode::Continuation | OpCode::Text | OpCode::Binary => Ok(Event::Message(opcode, payload)),
    }
}

fn close(payload: &[u8]) -> Result<Event<'_>, Violation> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Event::Close { code: None, reason: "" })
        } else {
            Err(protocol("a close payload begins with a two-byte code (RFC 6455 5.5.1)"))
        };
    };
    let code = u16::from_be_bytes(code);
    // 1014, Bad Gateway, was registered after that table was written.
    if !RegisteredCode::from(code).is_allowed() && code != 1014 {
        return Err(protocol("this close code must not be sent (RFC 6455 7.4)"));
    }
    let reason =
        simdutf8::basic::from_utf8(reason).map_err(|_| not_utf8("the close reason is not UTF-8 (RFC 6455 5.5.1)"))?;
    Ok(Event::Close { code: Some(code), reason })
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

/// Whether these are whole control frames of a client's and nothing else (RFC 6455 5.5), as far as their headers say.
pub fn are_control(mut bytes: &[u8]) -> bool {
    while let [first, second, rest @ ..] = bytes {
        let payload = usize::from(second & 0x7f);
        let (is_control, is_masked) = (first & 0x08 > 0, second & 0x80 > 0);
        if !is_control || !is_masked || payload > CONTROL_BYTES_MAX || rest.len() < 4 + payload {
            return false;
        }
        bytes = &rest[4 + payload..];
    }
    bytes.is_empty()
}
