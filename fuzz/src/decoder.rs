//! WebSocket frames: the same events and verdict however they are cut, those of a decoder that has everything at once, and memory
//! within its bound.

use evergate_proto::websocket::decoder::{Decoder, Event};
use evergate_proto::websocket::frame::OpCode;

use crate::cuts;

/// The largest message.
const MESSAGE_BYTES_MAX: usize = 1_000;
/// What a decoder may hold besides the message.
const OVERHEAD_BYTES_MAX: usize = 512;

/// What came, and with what it ended.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>, String),
    Violation(u16),
}

pub fn run(data: &[u8]) {
    let Some((stream, ends)) = cuts::of(data) else { return };
    let expected = model(stream);
    assert_eq!(decode(&[stream]), expected, "whole");
    assert_eq!(decode(&cuts::pieces(stream, &ends)), expected, "cut at {ends:?}");
}

fn decode(pieces: &[&[u8]]) -> Vec<Said> {
    let mut decoder = Decoder::new();
    let mut said = Vec::new();
    for piece in pieces {
        let (mut input, mut at) = (piece.to_vec(), 0);
        loop {
            let event = match decoder.next(&mut input, &mut at, MESSAGE_BYTES_MAX) {
                Ok(Some(Event::Message(OpCode::Text, text))) => Said::Text(text.to_vec()),
                Ok(Some(Event::Message(_, bytes))) => Said::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(payload))) => Said::Ping(payload.to_vec()),
                Ok(Some(Event::Pong)) => Said::Pong,
                Ok(Some(Event::Close { code, reason })) => {
                    said.push(Said::Close(code, reason.to_owned()));
                    return said;
                }
                Ok(None) => break,
                Err(violation) => {
                    said.push(Said::Violation(violation.code));
                    return said;
                }
            };
            said.push(event);
        }
        assert_eq!(at, input.len(), "all is consumed");
        assert!(decoder.bytes_held() <= MESSAGE_BYTES_MAX + OVERHEAD_BYTES_MAX);
        assert_eq!(decoder.is_clean(), decoder.bytes_held() == 0);
    }
    said
}

/// RFC 6455 5, read from the page. The order of its judgements is that of the bytes.
fn model(mut rest: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    // The message under way: whether it is text, and its bytes.
    let mut message: Option<(bool, Vec<u8>)> = None;
    loop {
        match frame(&mut rest, &mut message) {
            Ok(Some(event)) => {
                let last = matches!(event, Said::Close(..));
                said.extend((event != Said::Binary(UNFINISHED.to_vec())).then_some(event));
                if last {
                    return said;
                }
            }
            Ok(None) => return said,
            Err(code) => {
                said.push(Said::Violation(code));
                return said;
            }
        }
    }
}

/// Stands for a frame that ended nothing; no message is that long.
const UNFINISHED: [u8; MESSAGE_BYTES_MAX + 1] = [0; MESSAGE_BYTES_MAX + 1];

fn frame(rest: &mut &[u8], message: &mut Option<(bool, Vec<u8>)>) -> Result<Option<Said>, u16> {
    let bytes = *rest;
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (fin, opcode) = (first >> 7 == 1, first & 15);
    let control = opcode >= 8;
    let known = matches!(opcode, 0..=2 | 8..=10);
    let misplaced = (opcode == 0 && message.is_none()) || (matches!(opcode, 1 | 2) && message.is_some());
    if first & 0x70 != 0 || !known || (control && !fin) || misplaced {
        return Err(1002);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 == 0 || (control && second & 0x7f > 125) {
        return Err(1002);
    }
    let field = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(long) = bytes.get(2..2 + field) else { return Ok(None) };
    let length = match field {
        0 => u64::from(second & 0x7f),
        _ => long.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
    };
    let fewest = if length < 126 {
        0
    } else if length < 65_536 {
        2
    } else {
        8
    };
    if length >> 63 == 1 || field != fewest {
        return Err(1002);
    }
    let held = message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
    if !control && length > MESSAGE_BYTES_MAX as u64 - held {
        return Err(1009);
    }
    let Some(mask) = bytes.get(2 + field..6 + field) else { return Ok(None) };
    let payload = &bytes[6 + field..];
    let is_whole = payload.len() as u64 >= length;
    let payload = &payload[..payload.len().min(length as usize)];
    let payload: Vec<u8> = payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
    if !control {
        let (is_text, mut all) = message.take().unwrap_or((opcode == 1, Vec::new()));
        all.extend(payload);
        if is_text && !may_be_text(&all, is_whole && fin) {
            return Err(1007);
        }
        *message = Some((is_text, all));
    } else if !is_whole {
        return Ok(None);
    } else {
        *rest = &bytes[6 + field + payload.len()..];
        return match opcode {
            9 => Ok(Some(Said::Ping(payload))),
            10 => Ok(Some(Said::Pong)),
            _ => close(&payload).map(Some),
        };
    }
    if !is_whole {
        return Ok(None);
    }
    *rest = &bytes[6 + field + length as usize..];
    if !fin {
        return Ok(Some(Said::Binary(UNFINISHED.to_vec())));
    }
    Ok(message.take().map(|(is_text, all)| if is_text { Said::Text(all) } else { Said::Binary(all) }))
}

fn may_be_text(bytes: &[u8], is_all: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !is_all && error.error_len().is_none(),
    }
}

fn close(payload: &[u8]) -> Result<Said, u16> {
    match payload {
        [] => Ok(Said::Close(None, String::new())),
        [_] => Err(1002),
        [high, low, reason @ ..] => {
            let code = u16::from(*high) << 8 | u16::from(*low);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(1002);
            }
            let reason = String::from_utf8(reason.to_vec()).map_err(|_| 1007_u16)?;
            Ok(Said::Close(Some(code), reason))
        }
    }
}
