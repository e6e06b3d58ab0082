//! Why text that the strict strictness refuse is refused: depth, half a surrogate pair, or damage.

use memchr::memchr2;

use super::scan::{hex4, low_surrogate};

/// What the pass found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Findings {
    /// Nested deeper than the limit. The C router's parser recurses and dies of it (quirk 8).
    pub too_deep: bool,
    /// Half a surrogate pair written as an escape: no text, and no UTF-8 can spell it.
    pub lone_surrogate: bool,
}

/// One pass over UTF-8 text, without recursion and without memory of its own. It stops at the first level too deep.
pub(crate) fn precheck(text: &[u8], depth_max: usize) -> Findings {
    let mut findings = Findings::default();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => match string(text, at, &mut findings) {
                Some(end) => at = end,
                None => break,
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    findings.too_deep = true;
                    break;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    findings
}

/// Just past the closing quote of the string whose first byte is at `at`; notes its escapes.
fn string(text: &[u8], mut at: usize, findings: &mut Findings) -> Option<usize> {
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
        if text.get(found + 1) != Some(&b'u') {
            continue;
        }
        // Four digits that are none are left to the validator.
        match text.get(found + 2..found + 6).and_then(hex4) {
            Some(0xD800..0xDC00) => match low_surrogate(&text[found + 6..]) {
                Some(_) => at = found + 12,
                None => findings.lone_surrogate = true,
            },
            Some(0xDC00..0xE000) => findings.lone_surrogate = true,
            _ => {}
        }
    }
}
