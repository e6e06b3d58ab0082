//! Promises of the scanner: what is looked at in vectors is found as byte by byte, and strict is what RFC 8259 says.

use proptest::prelude::*;

use super::super::precheck::precheck;
use super::super::scan::Cursor;
use super::super::simd::{container_end, string_end, string_stop};
use super::super::strictness::{DEPTH_MOST, Strict};
use super::{any_json, jsonish};

/// Whether the strict rules take the whole text.
fn strict_takes(text: &[u8], depth_max: usize) -> bool {
    let utf8 = std::str::from_utf8(text).ok();
    let mut cursor = Cursor::new(text, utf8, Strict::new(depth_max));
    utf8.is_some() && {
        cursor.peek();
        cursor.skip().and_then(|_| cursor.end()).is_ok()
    }
}

/// `serde_json` gives up at 128 levels, and leaves half surrogate pairs to whoever unescapes.
fn serde_json_takes(text: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok() && !precheck(text, 127).lone_surrogate
}

fn check(text: &[u8]) {
    assert_eq!(strict_takes(text, 127), serde_json_takes(text), "{}", String::from_utf8_lossy(text));
}

/// Byte by byte: just past the closing quote, and whether there was a backslash.
fn plain_string_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let mut at = start;
    loop {
        match text.get(at)? {
            b'"' => return Some((at + 1, text[start..at].contains(&b'\\'))),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Byte by byte: just past the bracket that closes.
fn plain_container_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        at += 1;
        match text.get(at - 1)? {
            b'"' => at = plain_string_end(text, at)?.0,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Bytes among which those that matter are many, in runs across the borders of vectors.
fn dense() -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![
        4 => prop::sample::select(b"\"\\{}[]a,\n\x1f \xFF\xDB\xFD;".to_vec()).prop_map(|byte| vec![byte]),
        1 => (prop::sample::select(b"\\[]{}\"".to_vec()), 1..5_usize).prop_map(|(byte, count)| vec![byte; count]),
        1 => (prop::sample::select(b"a\\".to_vec()), 10..70_usize).prop_map(|(byte, count)| vec![byte; count]),
        1 => Just(br#""k":["v","\\"],"#.to_vec()),
    ];
    prop::collection::vec(run, 0..60).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn strings_and_containers_end_where_they_end_byte_by_byte(text in dense(), long in 0..600_usize) {
        let text = [&b"["[..], &vec![b'x'; long], &text].concat();
        for at in [0, 1, long, long + 1] {
            prop_assert_eq!(string_end(&text, at), plain_string_end(&text, at));
            let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            let stop = text[at..].iter().position(stops).map(|stop| at + stop);
            prop_assert_eq!(string_stop(&text, at), stop);
        }
        prop_assert_eq!(container_end(&text, 0), plain_container_end(&text, 0));
    }

    #[test]
    fn strict_takes_what_serde_json_takes_of_mutated_json(
        text in any_json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), prop::sample::select(b"\"\\{}[],:0-.eEu dtfn/\xC3\n\x0c\x00".to_vec())), 0..4),
    ) {
        let mut text = text.into_bytes();
        check(&text);
        prop_assert!(strict_takes(&text, 127));
        for (index, edit, any, likely) in edits {
            let at = index.index(text.len());
            match edit {
                0 => text[at] = likely,
                1 => text.insert(at, likely),
                2 => text[at] = any,
                _ => { text.remove(at); }
            }
            if text.is_empty() {
                break;
            }
            check(&text);
        }
    }

    #[test]
    fn strict_takes_what_serde_json_takes_of_anything(text in jsonish(), bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        check(&text);
        check(&bytes);
    }
}

#[test]
fn each_level_is_closed_by_its_own_bracket_however_deep() {
    for depth in [1, 2, 63, 64, 65, 127, 128, 129, DEPTH_MOST] {
        let is_object = |level: usize| (level * 7 + level / 64).is_multiple_of(3);
        let open = |level| if is_object(level) { r#"{"k":"# } else { "[" };
        let close = |level| if is_object(level) { "}" } else { "]" };
        let opening: String = (0..depth).map(open).collect();
        let closing: Vec<&str> = (0..depth).rev().map(close).collect();
        assert!(strict_takes(format!("{opening}1{}", closing.concat()).as_bytes(), depth));
        assert!(!strict_takes(format!("{opening}1{}", closing.concat()).as_bytes(), depth - 1));
        for wrong in 0..depth {
            let mut closing = closing.clone();
            closing[wrong] = if closing[wrong] == "}" { "]" } else { "}" };
            assert!(!strict_takes(format!("{opening}1{}", closing.concat()).as_bytes(), depth));
        }
    }
    let deeper = DEPTH_MOST + 1;
    assert!(!strict_takes(format!("{}{}", "[".repeat(deeper), "]".repeat(deeper)).as_bytes(), usize::MAX));
}
