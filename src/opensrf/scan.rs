//! A cursor over JSON text: one pass, no recursion, nothing built.
//!
//! It finds where values begin and end and does not judge them: inbound text has been through simd-json before, and
//! outbound text comes from services. On damaged text it answers [`Broken`], or wrong spans inside the text; it never
//! reads outside it and never loops.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// The text ended too early, or a byte stands where JSON allows none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

/// A JSON string: where it stands and whether a backslash is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    /// The JSON text with its quotes.
    pub quoted: &'a [u8],
    /// Whether it must be unescaped to be compared.
    pub escaped: bool,
}

/// A value that a field may have; containers and booleans are only told apart from the rest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    /// `null`
    Null,
    /// A string.
    Text(Text<'a>),
    /// A number, as spelled.
    Number(&'a [u8]),
    /// `true`, `false`, an object or an array.
    Other,
}

impl<'a> Scalar<'a> {
    /// What a string says, or a number's spelling.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => text.unescape(),
            Self::Number(number) => std::str::from_utf8(number).ok().map(Cow::Borrowed),
            Self::Null | Self::Other => None,
        }
    }

    /// The same as the JSON text of a string, quotes included, as spelled.
    pub fn quoted(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text.quoted)),
            Self::Number(number) => Some(Cow::Owned([b"\"", *number, b"\""].concat())),
            Self::Null | Self::Other => None,
        }
    }
}

/// A place in JSON text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    member: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, member: 0 }
    }

    /// Offset of the next byte to read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Where the member that `next_key` returned last begins: at the comma before it, the first one at its key. Ask
    /// before the value is read: it may have members of its own.
    pub fn member(&self) -> usize {
        self.member
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes `byte`, white space before it included.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Broken)
        }
    }

    /// The next key of an object whose `{` is consumed; afterwards the cursor stands on the value. `None`: its `}` is
    /// consumed. `first` is true before the first call and kept by this function.
    #[inline]
    pub fn next_key(&mut self, first: &mut bool) -> Result<Option<Text<'a>>, Broken> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        self.member = self.at;
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        let key = self.string()?;
        self.expect(b':')?;
        self.peek();
        Ok(Some(key))
    }

    /// Whether an array whose `[` is consumed has one more element; the cursor then stands on it, else behind the `]`.
    pub fn next_element(&mut self, first: &mut bool) -> Result<bool, Broken> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        self.peek();
        Ok(true)
    }

    /// Reads a string.
    #[inline]
    pub fn string(&mut self) -> Result<Text<'a>, Broken> {
        self.expect(b'"')?;
        let start = self.at - 1;
        let (end, escaped) = string_end(self.text, self.at).ok_or(Broken)?;
        self.at = end;
        Ok(Text { quoted: &self.text[start..end], escaped })
    }

    /// Skips a value and tells where it stood.
    pub fn skip(&mut self) -> Result<Range<usize>, Broken> {
        let first = self.peek().ok_or(Broken)?;
        let start = self.at;
        self.at = match first {
            b'"' => string_end(self.text, start + 1).ok_or(Broken)?.0,
            b'{' | b'[' => container_end(self.text, start).ok_or(Broken)?,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &self.text[start..];
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                rest.iter().position(ends).map_or(self.text.len(), |length| start + length)
            }
            _ => return Err(Broken),
        };
        Ok(start..self.at)
    }

    /// Reads a value that ought to be a string or a number.
    pub fn scalar(&mut self) -> Result<(Scalar<'a>, Range<usize>), Broken> {
        let first = self.peek().ok_or(Broken)?;
        let start = self.at;
        if first == b'"' {
            let text = self.string()?;
            return Ok((Scalar::Text(text), start..self.at));
        }
        let span = self.skip()?;
        let scalar = match first {
            b'n' => Scalar::Null,
            // On text that no validator has seen, what begins like a number may go on like anything.
            _ if is_number(&self.text[span.clone()]) => Scalar::Number(&self.text[span.clone()]),
            _ => Scalar::Other,
        };
        Ok((scalar, span))
    }
}

impl<'a> Text<'a> {
    /// What the string says. None where an escape is no escape, half a surrogate pair, or where a raw control character
    /// or a byte that is not UTF-8 stands in it.
    pub fn unescape(&self) -> Option<Cow<'a, str>> {
        let raw = self.raw();
        if raw.iter().any(|byte| *byte < 0x20) {
            return None;
        }
        let text = simdutf8::basic::from_utf8(raw).ok()?;
        if !self.escaped {
            return Some(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            out.push_str(plain);
            let kind = *escape.as_bytes().first()?;
            let mut taken = 1;
            out.push(match kind {
                b'"' | b'\\' | b'/' => char::from(kind),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let (decoded, length) = unicode_escape(escape.as_bytes())?;
                    taken = length;
                    decoded
                }
                _ => return None,
            });
            rest = escape.get(taken..)?;
        }
        out.push_str(rest);
        Some(Cow::Owned(out))
    }

    /// The bytes to compare a key by: unescaped where that can be done.
    #[inline]
    pub fn key(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw());
        }
        match self.unescape() {
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            _ => Cow::Borrowed(self.raw()),
        }
    }

    /// Whether the string says `text`.
    #[inline]
    pub fn is(&self, text: &[u8]) -> bool {
        if self.escaped { &*self.key() == text } else { self.raw() == text }
    }

    #[inline]
    fn raw(&self) -> &'a [u8] {
        self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default()
    }
}

/// The character that `uXXXX` or `uXXXX\uXXXX` stands for, and the bytes taken.
fn unicode_escape(escape: &[u8]) -> Option<(char, usize)> {
    let high = hex4(escape.get(1..5)?)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Some((char::from_u32(high)?, 5));
    }
    let low = low_surrogate(escape.get(5..)?)?;
    Some((char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))?, 11))
}

/// The low surrogate whose escape begins `text`.
pub(super) fn low_surrogate(text: &[u8]) -> Option<u32> {
    let low = hex4(text.strip_prefix(b"\\u")?.get(..4)?)?;
    (0xDC00..0xE000).contains(&low).then_some(low)
}

/// Four hexadecimal digits.
pub(super) fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Whether `text` is a number by RFC 8259 section 6.
pub(super) fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }
    fn after_number(text: &[u8]) -> Option<&[u8]> {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let mut rest = text.strip_prefix(b"0").or_else(|| digits(text))?;
        if let Some(fraction) = rest.strip_prefix(b".") {
            rest = digits(fraction)?;
        }
        let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) else { return Some(rest) };
        digits(exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent))
    }
    after_number(text).is_some_and(<[u8]>::is_empty)
}

/// Just past the closing quote of the string whose first byte is at `at`, and whether a backslash is in it.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        let found = quote_or_backslash(text, at)?;
        if text[found] == b'"' {
            return Some((found + 1, escaped));
        }
        escaped = true;
        at = found + 2;
    }
}

/// The next `"` or `\` from `at` on.
///
/// Most strings are short keys, for which a call of memchr costs more than the search: the first 32 bytes are looked
/// at as words of eight, the rest of a long one with memchr's vectors.
pub(super) fn quote_or_backslash(text: &[u8], at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut rest = text.get(at..)?;
    for _ in 0..4 {
        let Some((word, after)) = rest.split_first_chunk::<8>() else {
            return rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .map(|found| text.len() - rest.len() + found);
        };
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let hit = ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & HIGHS;
        if hit != 0 {
            return Some(text.len() - rest.len() + hit.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    memchr2(b'"', b'\\', rest).map(|found| text.len() - rest.len() + found)
}

/// Just past the bracket that closes the container which begins at `at`. A count stands for the stack: which kind of
/// bracket closes is not checked, and no depth costs memory.
fn container_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        let rest = text.get(at..)?;
        let found = rest.iter().position(|byte| STRUCTURAL[usize::from(*byte)])?;
        at += found + 1;
        match rest[found] {
            b'"' => at = string_end(text, at)?.0,
            b'{' | b'[' => depth += 1,
            _ => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
    }
}

/// The bytes at which skipping has something to do.
const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = *b"\"{}[]";
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] = true;
        index += 1;
    }
    table
};
