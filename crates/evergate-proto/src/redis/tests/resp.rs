//! The tokens of RESP 2.

use super::super::resp::{BULK_BYTES_MAX, wanted, write_command};
use super::*;

const STREAM: &[u8] =
    b"*2\r\n$3\r\nkey\r\n$7\r\na\r\nb\r\nc\r\n:-42\r\n+OK\r\n-NOPERM no\r\n*-1\r\n$-1\r\n$0\r\n\r\n*0\r\n:7\r\n";

#[test]
fn a_stream_cut_anywhere_yields_the_same_tokens() {
    let bulk = |text: &[u8]| Owned::Bulk(text.to_vec());
    let (whole, end) = tokens(&[STREAM]);
    assert_eq!(end, Ok(()));
    assert_eq!(
        whole,
        [
            Owned::Array(2),
            bulk(b"key"),
            bulk(b"a\r\nb\r\nc"),
            Owned::Integer(-42),
            Owned::Simple(b"OK".to_vec()),
            Owned::Error(b"NOPERM no".to_vec()),
            Owned::Nil,
            Owned::Nil,
            bulk(b""),
            Owned::Array(0),
            Owned::Integer(7),
        ]
    );
    for first in 0..=STREAM.len() {
        for second in first..=STREAM.len() {
            let cut = tokens(&[&STREAM[..first], &STREAM[first..second], &STREAM[second..]]);
            assert_eq!(cut, (whole.clone(), Ok(())), "cut at {first} and {second}");
        }
    }
    let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
    assert_eq!(tokens(&bytes).0, whole);
}

#[test]
fn what_is_not_resp_is_malformed_wherever_it_is_cut() {
    let too_long = format!("+{}", "x".repeat(64 * 1024));
    let too_large = format!("${}\r\n", BULK_BYTES_MAX + 1);
    let cases: [&[u8]; 17] = [
        b"\r\n",
        b"\n",
        b"hello\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"*\r\n",
        b":\r\n",
        b":1x\r\n",
        b":--1\r\n",
        b"$3\r\nabcde\r\n",
        b"+no carriage return\n",
        b"*1048577\r\n",
        b":99999999999999999999\r\n",
        b"%1\r\n",
        too_long.as_bytes(),
        too_large.as_bytes(),
    ];
    for case in cases {
        let shown = String::from_utf8_lossy(&case[..case.len().min(30)]).into_owned();
        assert_eq!(tokens(&[case]), (vec![], Err(Malformed)), "{shown:?}");
        for cut in 0..case.len().min(100) {
            assert_eq!(tokens(&[&case[..cut], &case[cut..]]), (vec![], Err(Malformed)), "{shown:?} cut at {cut}");
        }
    }
}

#[test]
fn an_unfinished_bulk_says_how_much_room_it_wants() {
    let stream = b":1\r\n$100000\r\nabc";
    assert_eq!(wanted(stream, 4), 9 + 100_000 + 2);
    for none in [&b":1\r\n"[..], b"$-1\r\n", b"$12", b"", b"$x\r\n", b"*3\r\n"] {
        assert_eq!(wanted(none, 0), 0);
    }
}

#[test]
fn a_command_is_an_array_of_bulks() {
    let mut out = b"before".to_vec();
    write_command(&mut out, &[b"RPUSH", b"a key", b"", b"\r\n"]);
    assert_eq!(out, b"before*4\r\n$5\r\nRPUSH\r\n$5\r\na key\r\n$0\r\n\r\n$2\r\n\r\n\r\n");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(proptest::sample::select(&b"*$:+-0123\r\nab"[..]), 0..60), cut in 0..60_usize) {
        let cut = cut.min(bytes.len());
        proptest::prop_assert_eq!(tokens(&[&bytes]), tokens(&[&bytes[..cut], &bytes[cut..]]));
        let _ = wanted(&bytes, cut);
    }
}
