//! The close-code rules, one by one, and what a decoder owns.

use super::super::decoder::{Decoder, Event, are_control};
use super::{FIN, MASK, OpCode, Owned, client_frame, decode};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const MAX: usize = 1 << 20;

/// The code that the bytes are closed with.
fn violation(bytes: &[u8]) -> Option<u16> {
    decode(&[bytes], MAX).1.map(|violation| {
        assert!(violation.reason.len() <= 123, "the reason fits a Close");
        violation.code
    })
}

fn events(bytes: &[u8]) -> Vec<Owned> {
    let (events, violation, _) = decode(&[bytes], MAX);
    assert_eq!(violation, None);
    events
}

#[test]
fn text_and_binary_are_messages() {
    assert_eq!(events(&client_frame(FIN | TEXT, "é".as_bytes())), [Owned::Message("é".into())]);
    assert_eq!(events(&client_frame(FIN | BINARY, b"\xff")), [Owned::Binary(vec![0xff])]);
    let fragments = [client_frame(BINARY, b"\xff"), client_frame(FIN | PING, b""), client_frame(FIN, b"\xfe")].concat();
    assert_eq!(events(&fragments), [Owned::Ping(vec![]), Owned::Binary(vec![0xff, 0xfe])]);
    assert_eq!(events(&client_frame(FIN | TEXT, b"")), [Owned::Message(vec![])]);
}

#[test]
fn every_length_form_is_read() {
    for bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        let payload = vec![b'x'; bytes];
        assert_eq!(events(&client_frame(FIN | TEXT, &payload)), [Owned::Message(payload)]);
    }
}

#[test]
fn a_whole_message_is_lent_out_of_the_input() {
    let mut input = client_frame(FIN | TEXT, b"hello");
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new();
    let mut at = 0;
    let Ok(Some(Event::Message(_, message))) = decoder.next(&mut input, &mut at, MAX) else { panic!("a message") };
    assert!(range.contains(&message.as_ptr()));
    assert_eq!((decoder.bytes_held(), decoder.is_clean()), (0, true));
}

#[test]
fn a_message_whose_header_was_cut_is_lent_out_of_the_input_too() {
    let frame = client_frame(FIN | TEXT, b"hello");
    let (mut begin, mut rest) = (frame[..4].to_vec(), frame[4..].to_vec());
    let range = rest.as_ptr_range();
    let mut decoder = Decoder::new();
    assert_eq!(decoder.next(&mut begin, &mut 0, MAX), Ok(None));
    assert!(!decoder.is_clean() && decoder.bytes_held() > 0);
    let mut at = 0;
    let Ok(Some(Event::Message(_, message))) = decoder.next(&mut rest, &mut at, MAX) else { panic!("a message") };
    assert!(range.contains(&message.as_ptr()));
    assert_eq!((decoder.bytes_held(), decoder.is_clean()), (0, true));
}

#[test]
fn a_decoder_is_small_and_release_frees_the_message_lent_out() {
    assert!(size_of::<Decoder>() <= 64);
    let frame = client_frame(FIN | TEXT, &[b'x'; 1000]);
    let (mut begin, mut rest) = (frame[..500].to_vec(), frame[500..].to_vec());
    let mut decoder = Decoder::new();
    assert_eq!(decoder.next(&mut begin, &mut 0, MAX), Ok(None));
    decoder.release();
    assert!(!decoder.is_clean(), "what is unfinished is not released");
    assert!(matches!(decoder.next(&mut rest, &mut 0, MAX), Ok(Some(Event::Message(..)))));
    assert!(decoder.is_clean() && decoder.bytes_held() >= 1000);
    decoder.release();
    assert_eq!(decoder.bytes_held(), 0);
}

#[test]
fn an_announced_length_costs_nothing_before_its_bytes_arrive() {
    let mut frame = client_frame(FIN | TEXT, &vec![b'x'; MAX]);
    frame.truncate(20);
    let (events, violation, decoder) = decode(&[&frame], MAX);
    assert_eq!((events, violation), (vec![], None));
    assert!(decoder.bytes_held() < 512);
}

#[test]
fn control_frames_come_through_between_fragments() {
    let stream = [
        client_frame(TEXT, b"one "),
        client_frame(FIN | PING, b"p"),
        client_frame(0, b""),
        client_frame(FIN | PONG, b"q"),
        client_frame(0, "t€".as_bytes().split_at(2).0),
        client_frame(FIN, "t€".as_bytes().split_at(2).1),
        client_frame(FIN | TEXT, b"next"),
    ]
    .concat();
    let message = |text: &str| Owned::Message(text.into());
    assert_eq!(events(&stream), [Owned::Ping(b"p".to_vec()), Owned::Pong, message("one t€"), message("next")]);
}

#[test]
fn protocol_violations_are_1002() {
    let mut unmasked = client_frame(FIN | TEXT, b"x");
    unmasked[1] &= 0x7f;
    let long_control = client_frame(FIN | PING, &[0; 126]);
    let raw = |head: &[u8]| [head, &MASK, &[0; 200]].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        ("unmasked", unmasked),
        ("RSV1", client_frame(FIN | 0x40 | TEXT, b"x")),
        ("RSV2", client_frame(FIN | 0x20 | TEXT, b"x")),
        ("RSV3 on a control frame", client_frame(FIN | 0x10 | PING, b"x")),
        ("fragmented ping", client_frame(PING, b"x")),
        ("fragmented close", client_frame(CLOSE, b"")),
        ("long control frame", long_control),
        ("16-bit length for 125", raw(&[FIN | TEXT, 0x80 | 0x7e, 0, 125])),
        ("64-bit length for 126", raw(&[FIN | TEXT, 0x80 | 0x7f, 0, 0, 0, 0, 0, 0, 0, 126])),
        ("64-bit length for 65535", raw(&[FIN | TEXT, 0x80 | 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff])),
        ("top bit of the length", raw(&[FIN | TEXT, 0x80 | 0x7f, 0x80, 0, 0, 0, 0, 1, 0, 0])),
        ("continuation without a start", client_frame(FIN, b"x")),
        ("new message in a fragmented one", [client_frame(TEXT, b"x"), client_frame(FIN | TEXT, b"y")].concat()),
        ("continuation after the end", [client_frame(FIN | TEXT, b"x"), client_frame(0, b"y")].concat()),
        ("one-byte close", client_frame(FIN | CLOSE, &[3])),
    ];
    for (name, bytes) in cases {
        assert_eq!(violation(bytes), Some(1002), "{name}");
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_eq!(violation(&client_frame(FIN | opcode, b"")), Some(1002), "opcode {opcode}");
    }
}

#[test]
fn a_violation_is_found_at_its_byte_and_not_later() {
    assert_eq!(violation(&[0xc1]), Some(1002));
    assert_eq!(violation(&[0x81, 0x05]), Some(1002));
    assert_eq!(violation(&[0x81, 0xfe, 0, 1]), Some(1002));
    assert_eq!(violation(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]), Some(1009));
}

#[test]
fn every_close_code_is_judged() {
    for code in 0..=u16::MAX {
        let good = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let (events, violation, _) = decode(&[&client_frame(FIN | CLOSE, &code.to_be_bytes())], MAX);
        if good {
            assert_eq!(events, [Owned::Close(Some(code), String::new())]);
        } else {
            assert_eq!(violation.map(|violation| violation.code), Some(1002), "{code}");
        }
    }
}

#[test]
fn a_close_may_be_empty_or_carry_a_reason() {
    assert_eq!(events(&client_frame(FIN | CLOSE, b"")), [Owned::Close(None, String::new())]);
    let reason = "é".repeat(61);
    let payload = [&1000_u16.to_be_bytes(), reason.as_bytes()].concat();
    assert_eq!(events(&client_frame(FIN | CLOSE, &payload)), [Owned::Close(Some(1000), reason)]);
}

#[test]
fn what_is_not_utf8_is_1007() {
    for bad in [&b"\xff"[..], b"\xc3", b"ab\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"] {
        assert_eq!(violation(&client_frame(FIN | TEXT, bad)), Some(1007));
        assert_eq!(violation(&client_frame(FIN | BINARY, bad)), None, "of binary nothing is asked");
        assert_eq!(violation(&[client_frame(TEXT, b"a"), client_frame(FIN, bad)].concat()), Some(1007));
        assert_eq!(violation(&client_frame(FIN | CLOSE, &[&[3, 0xe8], bad].concat())), Some(1007));
    }
}

#[test]
fn text_is_judged_in_the_frame_that_brings_it_and_byte_by_byte() {
    let code = |stream: &[u8]| violation(stream);
    let (ascii, euro) = (b"abc".as_slice(), "€".as_bytes());
    for bad in [&b"\xff"[..], b"\xc0", b"\xed\xa0", b"\xf4\x90", b"\xe2\x82a", b"\xf0\x9f\x98\xf0"] {
        let open = |bytes: &[u8]| client_frame(TEXT, bytes);
        assert_eq!(code(&open(bad)), Some(1007), "the message goes on: {bad:?}");
        assert_eq!(code(&[open(ascii), client_frame(0, bad)].concat()), Some(1007), "{bad:?}");
        assert_eq!(code(&[open(&euro[..2]), client_frame(0, bad)].concat()), Some(1007), "inside a character: {bad:?}");
        let unfinished = client_frame(FIN | TEXT, &[ascii, bad, &[b'x'; 500]].concat());
        let shown = unfinished.len() - 500;
        assert_eq!(code(&unfinished[..shown]), Some(1007), "the frame goes on: {bad:?}");
    }
    for whole in ["é", "€", "😀", "a€b😀c"] {
        for cut in 0..=whole.len() {
            let (a, b) = whole.as_bytes().split_at(cut);
            let stream = [client_frame(TEXT, a), client_frame(0, b""), client_frame(FIN, b)].concat();
            assert_eq!(events(&stream), [Owned::Message(whole.into())]);
            if !whole.is_char_boundary(cut) {
                let cut_short = [client_frame(TEXT, a), client_frame(FIN, b"")].concat();
                assert_eq!(code(&cut_short), Some(1007), "it ends inside a character");
            }
        }
    }
}

#[test]
fn message_bytes_max_bounds_the_frames_together() {
    let code = |stream: &[u8]| decode(&[stream], 10).1.map(|violation| violation.code);
    assert_eq!(code(&client_frame(FIN | TEXT, &[b'x'; 10])), None);
    assert_eq!(code(&client_frame(FIN | TEXT, &[b'x'; 11])), Some(1009));
    assert_eq!(code(&client_frame(FIN | TEXT, &[b'x'; 11])[..2]), Some(1009), "at the length, before any payload");
    let six_and = |more| [client_frame(TEXT, b"123456"), client_frame(FIN, &vec![b'x'; more])].concat();
    assert_eq!((code(&six_and(4)), code(&six_and(5))), (None, Some(1009)));
    assert_eq!(code(&client_frame(FIN | PING, &[b'x'; 100])), None, "a control frame is no message");
}

#[test]
fn unmasking_is_right_at_every_alignment_and_cut() {
    let payload: Vec<u8> = (0..67).map(|n| b'a' + n % 26).collect();
    let frame = client_frame(FIN | TEXT, &payload);
    for shift in 0..8 {
        let mut input = vec![0; shift];
        input.extend_from_slice(&frame);
        let mut at = shift;
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut input, &mut at, MAX), Ok(Some(Event::Message(OpCode::Text, &payload.clone()))));
        assert_eq!(at, input.len());
    }
    for length in 0..payload.len() {
        let frame = client_frame(FIN | TEXT, &payload[..length]);
        for cut in 0..frame.len() {
            let (a, b) = frame.split_at(cut);
            let (c, d) = b.split_at(b.len() / 3);
            assert_eq!(decode(&[a, c, d], MAX).0, [Owned::Message(payload[..length].to_vec())]);
        }
    }
}

#[test]
fn many_small_fragments_cost_few_reallocations() {
    let mut decoder = Decoder::new();
    let mut capacities = std::collections::BTreeSet::new();
    for n in 0..20_000 {
        let mut frame = client_frame(if n == 0 { TEXT } else { 0 }, b"x");
        assert_eq!(decoder.next(&mut frame, &mut 0, MAX), Ok(None));
        capacities.insert(decoder.bytes_held());
    }
    assert!(capacities.len() < 20, "{capacities:?}");
}

#[test]
fn control_frames_are_told_from_messages_and_only_whole_ones_count() {
    let ping = |bytes: usize| [vec![0x89, 0x80 | bytes as u8, 1, 2, 3, 4], vec![0; bytes]].concat();
    let text = [0x81, 0x81, 1, 2, 3, 4, 0];
    assert!(are_control(&ping(0)) && are_control(&[ping(125), ping(3)].concat()));
    assert!(!are_control(&text) && !are_control(&[ping(1), text.to_vec()].concat()));
    assert!(
        !are_control(&ping(4)[..9]) && !are_control(&[0x89]) && !are_control(&[0x89, 0x00]),
        "not whole, not masked"
    );
}
