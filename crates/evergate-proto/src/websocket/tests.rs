//! What the module promises. `handshake` and `decoder` have a file each; this one has what they share, and `frame`.

mod cuts;
mod decoder;
mod handshake;
mod header;
mod proxy_header;
mod splits;

use super::decoder::{Decoder, Event, Violation};
use super::frame::{self, OpCode};

/// An [`Event`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Message(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>, String),
}

const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client writes it: `first` is the byte with FIN, reserved bits and opcode.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let (header, used) = frame::header(OpCode::Text, payload.len());
    let mut bytes = header[..used].to_vec();
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Feeds `chunks` to a new decoder; checks on the way that a call consumes everything or yields something, and that
/// memory stays within `message_bytes_max`.
fn decode(chunks: &[&[u8]], message_bytes_max: usize) -> (Vec<Owned>, Option<Violation>, Decoder) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = chunk.to_vec();
        let mut at = 0;
        loop {
            let event = match decoder.next(&mut input, &mut at, message_bytes_max) {
                Ok(Some(Event::Message(OpCode::Text, bytes))) => Owned::Message(bytes.to_vec()),
                Ok(Some(Event::Message(_, bytes))) => Owned::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(payload))) => Owned::Ping(payload.to_vec()),
                Ok(Some(Event::Pong)) => Owned::Pong,
                Ok(Some(Event::Close { code, reason })) => {
                    events.push(Owned::Close(code, reason.to_owned()));
                    return (events, None, decoder);
                }
                Ok(None) => {
                    assert_eq!(at, input.len(), "None means that all is consumed");
                    assert_eq!(decoder.is_clean(), decoder.bytes_held() == 0, "a clean decoder owns nothing");
                    break;
                }
                Err(violation) => return (events, Some(violation), decoder),
            };
            assert!(decoder.bytes_held() <= message_bytes_max + 512, "held {}", decoder.bytes_held());
            events.push(event);
        }
        assert!(decoder.bytes_held() <= message_bytes_max + 512, "held {}", decoder.bytes_held());
    }
    (events, None, decoder)
}

/// The frame that `write` appends.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn a_length_is_written_in_the_fewest_bytes() {
    let header = |bytes| {
        let (header, used) = frame::header(OpCode::Text, bytes);
        header[..used].to_vec()
    };
    assert_eq!(header(0), [0x81, 0]);
    assert_eq!(header(125), [0x81, 125]);
    assert_eq!(header(126), [0x81, 126, 0, 126]);
    assert_eq!(header(0xffff), [0x81, 126, 0xff, 0xff]);
    assert_eq!(header(0x1_0000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    assert_eq!(written(|out| frame::close(out, 1012, "drain")), b"\x88\x07\x03\xf4drain");
    let cut = written(|out| frame::close(out, 1008, &format!("x{}", "é".repeat(80))));
    assert_eq!((cut.len(), cut[1]), (2 + 125, 125));
    let cut = written(|out| frame::close(out, 1008, &"é".repeat(80)));
    assert_eq!((cut.len(), cut[1]), (2 + 124, 124));
    assert!(std::str::from_utf8(&cut[4..]).is_ok());
}

#[test]
fn the_echo_of_a_close_has_the_clients_code_or_none() {
    assert_eq!(written(|out| frame::close_echo(out, Some(1000))), b"\x88\x02\x03\xe8");
    assert_eq!(written(|out| frame::close_echo(out, None)), b"\x88\x00");
}

#[test]
fn ping_and_pong_carry_their_payload() {
    assert_eq!(written(|out| frame::ping(out, b"")), b"\x89\x00");
    assert_eq!(written(|out| frame::pong(out, b"hi")), b"\x8a\x02hi");
}
