//! How far a cursor trusts its text: not at all in what a client sends, quite far in what a service sends.

use super::judge::Judged;
use super::scan::{Broken, hex4, low_surrogate};
use super::simd::{container_end, string_end, string_stop};

/// Levels of brackets that [`Strict`] can follow: the highest `json_depth_max`.
pub(crate) const DEPTH_MOST: usize = 1_024;

/// Finds where strings and values end.
pub(crate) trait Strictness {
    /// Whether all that has been passed is known to be JSON.
    const JUDGES: bool;

    /// Just past the closing quote of the string whose first byte is at `at`, and whether a backslash is in it.
    fn string(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), Broken>;

    /// Just past the value which begins with a byte of the text at `at`.
    fn value(&mut self, text: &[u8], at: usize) -> Result<usize, Broken>;

    /// A container is entered.
    fn open(&mut self) -> Result<(), Broken>;

    /// A container is left.
    fn close(&mut self);

    /// Just past the bracket that closes the container that begins at `start`, and in which a value begins or ends at `at`,
    /// where that can be told without reading value after value.
    fn end(&self, _text: &[u8], _start: usize, _at: usize) -> Option<usize> {
        None
    }
}

/// Finds ends and does not judge. On damaged text it answers [`Broken`], or wrong ends inside the text; it never reads
/// outside it and never loops.
pub(crate) struct Lenient;

impl Strictness for Lenient {
    const JUDGES: bool = false;

    #[inline]
    fn string(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), Broken> {
        string_end(text, at).ok_or(Broken)
    }

    #[inline]
    fn value(&mut self, text: &[u8], at: usize) -> Result<usize, Broken> {
        match text.get(at).ok_or(Broken)? {
            b'"' => Ok(self.string(text, at + 1)?.0),
            b'{' | b'[' => container_end(text, at).ok_or(Broken),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                Ok(text[at..].iter().position(ends).map_or(text.len(), |length| at + length))
            }
            _ => Err(Broken),
        }
    }

    #[inline]
    fn open(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    #[inline]
    fn close(&mut self) {}

    fn end(&self, text: &[u8], _start: usize, at: usize) -> Option<usize> {
        container_end(text, at.checked_sub(1)?)
    }
}

/// Passes over text that has been judged: what a value is need not be looked at, and where the large ones end is known.
pub(crate) struct Trusting<'j>(pub &'j Judged);

impl Trusting<'_> {
    /// Just past the large value that begins at `start`.
    #[inline]
    fn large_end(&self, start: usize) -> Option<usize> {
        let large = &self.0.large;
        large.binary_search_by_key(&start, |&(start, _)| start).ok().map(|known| large[known].1)
    }
}

impl Strictness for Trusting<'_> {
    const JUDGES: bool = true;

    #[inline]
    fn string(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), Broken> {
        Lenient.string(text, at)
    }

    #[inline]
    fn value(&mut self, text: &[u8], at: usize) -> Result<usize, Broken> {
        self.large_end(at).map_or_else(|| Lenient.value(text, at), Ok)
    }

    #[inline]
    fn open(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    #[inline]
    fn close(&mut self) {}

    fn end(&self, text: &[u8], start: usize, at: usize) -> Option<usize> {
        self.large_end(start).or_else(|| Lenient.end(text, start, at))
    }
}

/// Takes JSON by RFC 8259 and nothing else, without recursion. Given UTF-8, what it has passed is JSON without half
/// surrogate pairs and no deeper than allowed; `\u0000` is noted, as it is refused for another reason.
pub(crate) struct Strict {
    /// Whether a string held `\u0000`.
    pub nul: bool,
    depth: usize,
    depth_max: usize,
    /// Which levels inside the value at hand are objects, 64 a word; the last, begun one is held by the loop.
    outer: [u64; DEPTH_MOST / 64],
}

impl Strict {
    /// Takes no more than `depth_max` levels, and never more than [`DEPTH_MOST`].
    pub fn new(depth_max: usize) -> Self {
        Self { nul: false, depth: 0, depth_max: depth_max.min(DEPTH_MOST), outer: [0; DEPTH_MOST / 64] }
    }

    /// The rest of a string from its first backslash on.
    #[inline(never)]
    fn escaped_string(&mut self, text: &[u8], mut at: usize) -> Option<usize> {
        loop {
            at = match text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at + 2,
                b'u' => match hex4(text.get(at + 2..at + 6)?)? {
                    0xD800..0xDC00 => {
                        low_surrogate(&text[at + 6..])?;
                        at + 12
                    }
                    0xDC00..0xE000 => return None,
                    unit => {
                        self.nul |= unit == 0;
                        at + 6
                    }
                },
                _ => return None,
            };
            at = string_stop(text, at)?;
            match text[at] {
                b'"' => return Some(at + 1),
                b'\\' => {}
                _ => return None,
            }
        }
    }

    /// A key and its colon; `at` is where the key ought to begin, but for white space.
    #[inline]
    fn member(&mut self, text: &[u8], at: usize) -> Result<usize, Broken> {
        let (byte, at) = skip_space(text, at)?;
        if byte != b'"' {
            return Err(Broken);
        }
        let (byte, at) = skip_space(text, self.string(text, at + 1)?.0)?;
        if byte == b':' { Ok(at + 1) } else { Err(Broken) }
    }

    fn container(&mut self, text: &[u8], mut at: usize) -> Result<usize, Broken> {
        // Levels inside this container, and which of the innermost 64 are objects.
        let mut level = 0_usize;
        let mut kinds = 0_u64;
        loop {
            let (byte, start) = skip_space(text, at)?;
            match byte {
                b'"' => at = self.string(text, start + 1)?.0,
                b'{' | b'[' => {
                    if self.depth + level >= self.depth_max {
                        return Err(Broken);
                    }
                    let object = byte == b'{';
                    let (next, inside) = skip_space(text, start + 1)?;
                    // `]` and `}` follow their opening brackets by two.
                    if next == byte + 2 {
                        at = inside + 1;
                    } else {
                        if level.is_multiple_of(64) {
                            self.outer[level / 64] = kinds;
                        }
                        level += 1;
                        kinds = kinds << 1 | u64::from(object);
                        at = if object { self.member(text, inside)? } else { inside };
                        continue;
                    }
                }
                _ => at = scalar_end(text, start, byte)?,
            }
            // Behind a value.
            loop {
                if level == 0 {
                    return Ok(at);
                }
                let (byte, here) = skip_space(text, at)?;
                let object = kinds & 1 != 0;
                at = here + 1;
                if byte == b',' {
                    if object {
                        at = self.member(text, at)?;
                    }
                    break;
                }
                if byte != if object { b'}' } else { b']' } {
                    return Err(Broken);
                }
                level -= 1;
                kinds >>= 1;
                if level.is_multiple_of(64) {
                    kinds = self.outer[level / 64];
                }
            }
        }
    }
}

impl Strictness for Strict {
    const JUDGES: bool = true;

    #[inline]
    fn string(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), Broken> {
        let stop = string_stop(text, at).ok_or(Broken)?;
        match text[stop] {
            b'"' => Ok((stop + 1, false)),
            b'\\' => Ok((self.escaped_string(text, stop).ok_or(Broken)?, true)),
            _ => Err(Broken),
        }
    }

    #[inline]
    fn value(&mut self, text: &[u8], at: usize) -> Result<usize, Broken> {
        match *text.get(at).ok_or(Broken)? {
            b'"' => Ok(self.string(text, at + 1)?.0),
            b'{' | b'[' => self.container(text, at),
            first => scalar_end(text, at, first),
        }
    }

    #[inline]
    fn open(&mut self) -> Result<(), Broken> {
        self.depth += 1;
        if self.depth > self.depth_max { Err(Broken) } else { Ok(()) }
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
    }
}

/// Just past the number or word that begins at `at` with `first`.
#[inline]
fn scalar_end(text: &[u8], at: usize, first: u8) -> Result<usize, Broken> {
    let word: &[u8] = match first {
        b'-' | b'0'..=b'9' => return number_end(text, at).ok_or(Broken),
        b't' => b"true",
        b'f' => b"false",
        b'n' => b"null",
        _ => return Err(Broken),
    };
    let end = at + word.len();
    if text.get(at..end) == Some(word) { Ok(end) } else { Err(Broken) }
}

/// Whether `text` is a number by RFC 8259 section 6.
pub(crate) fn is_number(text: &[u8]) -> bool {
    number_end(text, 0) == Some(text.len())
}

/// Just past the longest number that begins at `at`.
#[inline]
fn number_end(text: &[u8], at: usize) -> Option<usize> {
    let byte = |at: usize| text.get(at).copied();
    let digits = |mut at: usize| {
        if !byte(at)?.is_ascii_digit() {
            return None;
        }
        while byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
            at += 1;
        }
        Some(at)
    };
    let at = if byte(at) == Some(b'-') { at + 1 } else { at };
    let mut at = if byte(at) == Some(b'0') { at + 1 } else { digits(at)? };
    if byte(at) == Some(b'.') {
        at = digits(at + 1)?;
    }
    if matches!(byte(at), Some(b'e' | b'E')) {
        let signed = matches!(byte(at + 1), Some(b'-' | b'+'));
        at = digits(at + 1 + usize::from(signed))?;
    }
    Some(at)
}

/// The next byte that is not white space, and where it stands.
#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> Result<(u8, usize), Broken> {
    loop {
        let byte = *text.get(at).ok_or(Broken)?;
        if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Ok((byte, at));
        }
        at += 1;
    }
}
