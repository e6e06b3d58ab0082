//! RFC 6455 as a client sees it: masked frames out, unmasked frames in.

use std::ops::Range;

/// Opcodes (RFC 6455 5.2).
pub mod opcode {
    /// More of a message that was begun.
    pub const CONTINUATION: u8 = 0;
    /// A text message.
    pub const TEXT: u8 = 1;
    /// A binary message.
    pub const BINARY: u8 = 2;
    /// The beginning of the closing handshake.
    pub const CLOSE: u8 = 8;
    /// To be answered with a Pong.
    pub const PING: u8 = 9;
    /// The answer to a Ping.
    pub const PONG: u8 = 10;
}

/// Set in the first byte of a message's last frame.
const FINAL: u8 = 0x80;
/// Set in the second byte of a masked frame.
const MASKED: u8 = 0x80;
/// In place of a length: two bytes of it follow.
const LENGTH_OF_16_BITS: u8 = 126;
/// In place of a length: eight bytes of it follow.
const LENGTH_OF_64_BITS: u8 = 127;

/// Appends a whole, masked frame.
pub fn write(out: &mut Vec<u8>, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    out.push(FINAL | opcode);
    if payload.len() <= 125 {
        out.push(MASKED | payload.len() as u8);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        out.push(MASKED | LENGTH_OF_16_BITS);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(MASKED | LENGTH_OF_64_BITS);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// What the server sent, as far as it goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message of text.
    Message(&'a [u8]),
    /// To be answered with this payload.
    Ping(&'a [u8]),
    /// The server closes, with a code unless it named none, and its reason.
    Close(Option<u16>, &'a [u8]),
}

/// What the bytes at hand amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something whole.
    Event(Event<'a>),
    /// So many bytes are needed, from where reading stands, to go on.
    Incomplete(usize),
}

/// The server broke the protocol; how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(pub &'static str);

/// Puts the frames of one connection together.
#[derive(Debug)]
pub struct Reader {
    /// The longest message that is taken: beyond it a length is an error, not a wish.
    bytes_max: usize,
    /// What has come of a fragmented message.
    fragments: Vec<u8>,
    /// A fragmented message is under way.
    fragmented: bool,
}

impl Reader {
    /// A reader of messages of `bytes_max` bytes at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, fragments: Vec::new(), fragmented: false }
    }

    /// The next event in `bytes` from `at` on, which moves behind what was read.
    pub fn next<'a>(&'a mut self, bytes: &'a [u8], at: &mut usize) -> Result<Step<'a>, Violation> {
        loop {
            let frame = match parse(&bytes[*at..], self.bytes_max)? {
                Parsed::Incomplete(needed) => return Ok(Step::Incomplete(needed)),
                Parsed::Frame(frame) => frame,
            };
            let payload = &bytes[*at + frame.payload.start..*at + frame.payload.end];
            *at += frame.payload.end;
            match frame.opcode {
                opcode::BINARY => return Err(Violation("a binary message")),
                opcode::TEXT if self.fragmented => {
                    return Err(Violation("a message within a fragmented one"));
                }
                opcode::TEXT if frame.is_final => return Ok(Step::Event(Event::Message(payload))),
                opcode::TEXT => {
                    self.fragmented = true;
                    self.fragments.clear();
                    self.fragments.extend_from_slice(payload);
                }
                opcode::CONTINUATION if !self.fragmented => return Err(Violation("a continuation of nothing")),
                opcode::CONTINUATION => {
                    if self.fragments.len() + payload.len() > self.bytes_max {
                        return Err(Violation("a message that is too long"));
                    }
                    self.fragments.extend_from_slice(payload);
                    if frame.is_final {
                        self.fragmented = false;
                        return Ok(Step::Event(Event::Message(&self.fragments)));
                    }
                }
                opcode::PING => return Ok(Step::Event(Event::Ping(payload))),
                opcode::PONG => {}
                opcode::CLOSE => {
                    let code = close_code(payload)?;
                    return Ok(Step::Event(Event::Close(code, payload.get(2..).unwrap_or_default())));
                }
                _ => return Err(Violation("an unknown opcode")),
            }
        }
    }
}

/// What a Close says (RFC 6455 sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation("half a code in a Close")) };
    };
    match u16::from_be_bytes(*code) {
        _ if simdutf8::basic::from_utf8(reason).is_err() => Err(Violation("a reason that is no UTF-8")),
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
        _ => Err(Violation("a code that no Close may have")),
    }
}

/// One frame's place in the bytes.
struct Frame {
    is_final: bool,
    opcode: u8,
    payload: Range<usize>,
}

enum Parsed {
    Frame(Frame),
    Incomplete(usize),
}

fn parse(bytes: &[u8], bytes_max: usize) -> Result<Parsed, Violation> {
    let [first, second, ..] = *bytes else { return Ok(Parsed::Incomplete(2)) };
    if first & 0x70 != 0 {
        return Err(Violation("a reserved bit"));
    }
    if second & MASKED != 0 {
        return Err(Violation("a masked frame from a server"));
    }
    let (header, length) = match second {
        LENGTH_OF_16_BITS => match bytes.get(2..4) {
            Some(length) => (4, usize::from(length[0]) << 8 | usize::from(length[1])),
            None => return Ok(Parsed::Incomplete(4)),
        },
        LENGTH_OF_64_BITS => match bytes.get(2..10).and_then(|length| length.first_chunk()) {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX)),
            None => return Ok(Parsed::Incomplete(10)),
        },
        short => (2, usize::from(short)),
    };
    let is_final = first & FINAL != 0;
    if first & 0x08 != 0 && (length > 125 || !is_final) {
        return Err(Violation("a control frame that is long or fragmented"));
    }
    if length > bytes_max {
        return Err(Violation("a message that is too long"));
    }
    if bytes.len() < header + length {
        return Ok(Parsed::Incomplete(header + length));
    }
    Ok(Parsed::Frame(Frame { is_final, opcode: first & 0x0f, payload: header..header + length }))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An event with its bytes, to outlive the buffer.
    fn owned(event: &Event<'_>) -> String {
        match event {
            Event::Message(text) => format!("message {} {:?}", text.len(), &text[..text.len().min(8)]),
            Event::Ping(payload) => format!("ping {payload:?}"),
            Event::Close(code, reason) => format!("close {code:?} {}", String::from_utf8_lossy(reason)),
        }
    }

    /// A frame of a server, for tests.
    pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        if payload.len() <= 125 {
            frame.push(payload.len() as u8);
        } else if let Ok(length) = u16::try_from(payload.len()) {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        } else {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// Everything in a stream that is cut in two at `cut`.
    fn read_cut(stream: &[u8], cut: usize) -> Vec<String> {
        let (mut reader, mut buffer, mut events) = (Reader::new(70_000), Vec::new(), Vec::new());
        for piece in [&stream[..cut], &stream[cut..]] {
            buffer.extend_from_slice(piece);
            let mut at = 0;
            loop {
                match reader.next(&buffer, &mut at).expect("a sound stream") {
                    Step::Event(event) => events.push(owned(&event)),
                    Step::Incomplete(needed) => {
                        assert!(needed > buffer.len() - at, "more is asked for than there is");
                        break;
                    }
                }
            }
            buffer.drain(..at);
        }
        assert!(buffer.is_empty());
        events
    }

    #[test]
    fn frames_are_read_alike_wherever_the_stream_is_cut() {
        let mut stream = unmasked(0x81, b"hello");
        stream.extend(unmasked(0x89, b"are you there"));
        stream.extend(unmasked(0x81, &[7; 300]));
        stream.extend(unmasked(0x01, b"frag"));
        stream.extend(unmasked(0x8a, b""));
        stream.extend(unmasked(0x00, b"men"));
        stream.extend(unmasked(0x80, b"ted"));
        stream.extend(unmasked(0x81, &vec![b'x'; 70_000]));
        stream.extend(unmasked(0x88, &[0x03, 0xf4, b'b', b'y', b'e']));
        let whole = read_cut(&stream, 0);
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[5], "close Some(1012) bye");
        // Every place but the inside of the long payload, which is all alike.
        let long = stream.len() - 70_000 - 7;
        for cut in (0..long + 200).chain(stream.len() - 200..=stream.len()) {
            assert_eq!(read_cut(&stream, cut), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        for (bytes, why) in [
            (vec![0x81, 0x80, 0, 0, 0, 0], "a masked frame from a server"),
            (vec![0xc1, 0], "a reserved bit"),
            (vec![0x83, 0], "an unknown opcode"),
            (vec![0x82, 0], "a binary message"),
            (unmasked(0x88, b"a"), "half a code in a Close"),
            (unmasked(0x88, &1005_u16.to_be_bytes()), "a code that no Close may have"),
            (unmasked(0x88, &999_u16.to_be_bytes()), "a code that no Close may have"),
            (unmasked(0x88, &2999_u16.to_be_bytes()), "a code that no Close may have"),
            (unmasked(0x88, &[0x03, 0xe8, 0xff]), "a reason that is no UTF-8"),
            (vec![0x80, 0], "a continuation of nothing"),
            (vec![0x09, 0], "a control frame that is long or fragmented"),
            (vec![0x81, 127, 255, 0, 0, 0, 0, 0, 0, 0], "a message that is too long"),
            (vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x71], "a message that is too long"),
            (
                [unmasked(0x01, &vec![b'a'; 40_000]), unmasked(0x80, &vec![b'a'; 30_001])].concat(),
                "a message that is too long",
            ),
            ([unmasked(0x01, b"a"), unmasked(0x81, b"b")].concat(), "a message within a fragmented one"),
        ] {
            assert_eq!(Reader::new(70_000).next(&bytes, &mut 0), Err(Violation(why)));
        }
    }

    #[test]
    fn a_written_frame_is_masked_and_has_the_shortest_length() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload = vec![b'a'; length];
            let mut out = Vec::new();
            write(&mut out, opcode::TEXT, [1, 2, 3, 4], &payload);
            assert_eq!(out.len(), header + 4 + length);
            assert_eq!(out[1] & 0x80, 0x80);
            assert!(out[header + 4..].iter().zip([1, 2, 3, 4].iter().cycle()).all(|(byte, mask)| byte ^ mask == b'a'));
        }
    }
}
