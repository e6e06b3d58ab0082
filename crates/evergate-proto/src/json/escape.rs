//! Writing JSON strings.

/// Appends `text` as a JSON string, quotes included. What must be escaped is (RFC 8259 section 7), nothing else.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_inside(out, text);
    out.push(b'"');
}

/// Appends what stands between the quotes.
pub(crate) fn push_inside(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Nearly always nothing is to be escaped. Without a branch in it, this loop is made of vectors.
    if !bytes.iter().fold(false, |found, byte| found | matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..0x20) {
            continue;
        }
        out.extend_from_slice(&bytes[done..at]);
        done = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[done..]);
}

/// Length of `text` once the C router has escaped it: U+007F and characters of two or three bytes become `\u` and four digits,
/// those of four bytes a pair, the rest stays (quirk 8).
pub(crate) fn escaped_len(text: &[u8]) -> usize {
    // A block's surplus fits a byte (at most 8 for each of 16), which lets the compiler add lane by lane.
    let surplus = |byte: &u8| match *byte {
        0x7F => 5,
        0xC0..=0xDF => 4,
        0xE0..=0xEF => 3,
        0xF0.. => 8,
        _ => 0_u8,
    };
    let blocks = text.chunks(16).map(|block| usize::from(block.iter().map(surplus).sum::<u8>()));
    text.len() + blocks.sum::<usize>()
}
