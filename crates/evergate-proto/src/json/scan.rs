//! A cursor over JSON text: one pass, no recursion, nothing built. How much of what it passes it judges is up to its strictness.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

use super::simd::short_string;
use super::strictness::{Strictness, is_number, skip_space};

/// The text ended too early, or a byte stands where none such may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

/// Bytes of an escape at most for each byte of what it says.
const ESCAPED_MOST: usize = 6;

/// A key of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    /// What stands between the quotes.
    pub raw: &'a [u8],
    /// Whether a backslash is in it.
    pub escaped: bool,
}

impl<'a> Key<'a> {
    /// The bytes to compare it by: unescaped, into `room`, where need be and where that can be done.
    #[inline]
    pub fn name<'n>(&self, room: &'n mut Vec<u8>) -> &'n [u8]
    where
        'a: 'n,
    {
        if self.escaped { self.unescaped(room) } else { self.raw }
    }

    #[cold]
    fn unescaped<'n>(&self, room: &'n mut Vec<u8>) -> &'n [u8]
    where
        'a: 'n,
    {
        let text = simdutf8::basic::from_utf8(self.raw).ok().filter(|text| !has_control(text));
        room.clear();
        if text.is_some_and(|text| unescape(text, usize::MAX, room).is_some()) { room } else { self.raw }
    }
}

/// A JSON string that is a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// The JSON text with its quotes.
    pub quoted: &'a [u8],
    /// What stands between them, where that is UTF-8.
    inside: Option<&'a str>,
    /// Whether a backslash is in it.
    escaped: bool,
    /// Whether strict strictness have passed it.
    judged: bool,
}

/// A value that a field may have; containers and booleans are only told apart from the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    /// `null`
    Null,
    /// A string.
    Text(Text<'a>),
    /// A number, as spelled.
    Number(&'a str),
    /// `true`, `false`, an object or an array.
    Other,
}

impl<'a> Scalar<'a> {
    /// What a string says, or a number's spelling. A string that is spelled so long that it must say more than `bytes_max`
    /// bytes is not looked at.
    #[inline]
    pub fn text(&self, bytes_max: usize) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if text.quoted.len() > bytes_max.saturating_mul(ESCAPED_MOST).saturating_add(2) => None,
            Self::Text(text) => text.unescape(),
            Self::Number(number) => Some(Cow::Borrowed(number)),
            Self::Null | Self::Other => None,
        }
    }

    /// The same as the JSON text of a string, quotes included, as spelled.
    #[inline]
    pub fn quoted(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text.quoted)),
            Self::Number(number) => Some(Cow::Owned(format!("\"{number}\"").into_bytes())),
            Self::Null | Self::Other => None,
        }
    }
}

/// A place in JSON text.
pub(crate) struct Cursor<'a, R> {
    text: &'a [u8],
    /// The same, where it is known to be UTF-8.
    utf8: Option<&'a str>,
    at: usize,
    member: usize,
    /// Where the last unusual key stands, and whether a backslash is in it: handed over here, as what is returned in
    /// memory costs more than all the rest.
    key: (usize, usize, bool),
    /// How it is read, and what they have found.
    pub strictness: R,
}

impl<'a, R: Strictness> Cursor<'a, R> {
    /// At the beginning of text; `utf8` is the same, or none where it is not UTF-8.
    pub fn new(text: &'a [u8], utf8: Option<&'a str>, strictness: R) -> Self {
        Self { text, utf8, at: 0, member: 0, key: (0, 0, false), strictness }
    }

    /// Offset of the next byte to read.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Where the member that `next_key` returned last begins: at the comma before it, the first one at its key. Ask
    /// before the value is read: it may have members of its own.
    #[inline]
    pub fn member(&self) -> usize {
        self.member
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        let found = skip_space(self.text, self.at);
        self.at = found.map_or(self.text.len(), |(_, at)| at);
        found.ok().map(|(byte, _)| byte)
    }

    /// Consumes `byte`, white space before it included.
    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Broken)
        }
    }

    /// Enters an object or an array by its bracket; [`Self::next_key`] and [`Self::next_element`] leave it.
    #[inline]
    pub fn open(&mut self, bracket: u8) -> Result<(), Broken> {
        self.expect(bracket)?;
        self.strictness.open()
    }

    /// The next key of an object that was entered; afterwards the cursor stands on the value. `None`: the object has been
    /// left. `first` is true before the first call and kept by this function.
    #[expect(clippy::inline_always, reason = "keys are most of what is read; the compiler takes it for too long")]
    #[inline(always)]
    pub fn next_key(&mut self, first: &mut bool) -> Result<Option<Key<'a>>, Broken> {
        let text = self.text;
        let (start, end, escaped) = if let Some((start, end)) = self.usual_key(*first) {
            *first = false;
            (start, end, false)
        } else if text.get(self.at) == Some(&b'}') {
            self.at += 1;
            self.strictness.close();
            return Ok(None);
        } else if self.any_key(first)? {
            self.key
        } else {
            return Ok(None);
        };
        Ok(Some(Key { raw: text.get(start..end).ok_or(Broken)?, escaped }))
    }

    /// The span of a key as nearly all are: short, without an escape and without white space about it.
    #[inline]
    fn usual_key(&mut self, first: bool) -> Option<(usize, usize)> {
        let rest = self.text.get(self.at..)?;
        let [b'"', rest @ ..] = (if first { rest } else { rest.strip_prefix(b",")? }) else { return None };
        let length = short_string(rest.first_chunk()?, R::JUDGES)?;
        let [b'"', b':', b'!'..=0xFF, ..] = rest.get(length..)? else { return None };
        let start = self.text.len() - rest.len();
        self.member = self.at;
        self.at = start + length + 2;
        Some((start, start + length))
    }

    /// Any key, which is left in `key`; false where the object has been left.
    #[inline(never)]
    fn any_key(&mut self, first: &mut bool) -> Result<bool, Broken> {
        let text = self.text;
        let (mut byte, mut at) = skip_space(text, self.at)?;
        if byte == b'}' {
            self.at = at + 1;
            self.strictness.close();
            return Ok(false);
        }
        self.member = at;
        if !std::mem::take(first) {
            if byte != b',' {
                return Err(Broken);
            }
            (byte, at) = skip_space(text, at + 1)?;
        }
        if byte != b'"' {
            return Err(Broken);
        }
        let start = at + 1;
        let (end, escaped) = self.strictness.string(text, start)?;
        (byte, at) = skip_space(text, end)?;
        if byte != b':' {
            return Err(Broken);
        }
        self.at = skip_space(text, at + 1)?.1;
        self.key = (start, end - 1, escaped);
        Ok(true)
    }

    /// Whether an array that was entered has one more element; the cursor then stands on it, else behind the array.
    #[inline]
    pub fn next_element(&mut self, first: &mut bool) -> Result<bool, Broken> {
        if self.peek() == Some(b']') {
            self.at += 1;
            self.strictness.close();
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        self.peek();
        Ok(true)
    }

    /// Leaves the object or array that was entered at `start` without reading on, where its strictness can tell its end; the cursor
    /// stands on a value or behind one.
    #[inline(never)]
    pub fn leave(&mut self, start: usize) -> bool {
        let Some(end) = self.strictness.end(self.text, start, self.at) else { return false };
        self.at = end;
        self.strictness.close();
        true
    }

    /// Whether the text ends here, white space aside.
    #[inline]
    pub fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_none() { Ok(()) } else { Err(Broken) }
    }

    /// Skips a value and tells where it stood; the cursor stands on it.
    #[inline]
    pub fn skip(&mut self) -> Result<Range<usize>, Broken> {
        let start = self.at;
        self.at = self.strictness.value(self.text, start)?;
        Ok(start..self.at)
    }

    /// Reads a value that ought to be a string or a number; the cursor stands on it.
    #[expect(clippy::inline_always, reason = "what it returns is large when it is not taken apart at once")]
    #[inline(always)]
    pub fn scalar(&mut self) -> Result<Scalar<'a>, Broken> {
        let start = self.at;
        let first = self.text.get(start);
        if first == Some(&b'"') {
            let (end, escaped) = self.strictness.string(self.text, start + 1)?;
            self.at = end;
            let inside = self.str(start + 1..end - 1);
            return Ok(Scalar::Text(Text { quoted: &self.text[start..end], inside, escaped, judged: R::JUDGES }));
        }
        let span = self.skip()?;
        Ok(match first {
            Some(b'n') => Scalar::Null,
            // On text that nobody has judged, what begins like a number may go on like anything.
            Some(b'-' | b'0'..=b'9') if R::JUDGES || is_number(&self.text[span.clone()]) => {
                self.str(span).map_or(Scalar::Other, Scalar::Number)
            }
            _ => Scalar::Other,
        })
    }

    /// Reads a value if it is an integer of few digits and spelled as nearly all are.
    #[inline]
    pub fn usual_integer(&mut self) -> Option<i64> {
        let digits = self.text.get(self.at..)?;
        let (mut value, mut length) = (0_i64, 0);
        while let Some(digit) = digits.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9)
            && length < 10
        {
            value = value * 10 + i64::from(digit);
            length += 1;
        }
        let is_usual =
            matches!(digits.get(length), Some(b',' | b'}')) && length > 0 && (digits[0] != b'0' || length == 1);
        if is_usual {
            self.at += length;
        }
        is_usual.then_some(value)
    }

    /// Part of the text, where it is UTF-8.
    #[inline]
    fn str(&self, span: Range<usize>) -> Option<&'a str> {
        match self.utf8 {
            Some(text) => text.get(span),
            None => simdutf8::basic::from_utf8(&self.text[span]).ok(),
        }
    }
}

impl<'a> Text<'a> {
    /// What the string says. None where an escape is no escape, half a surrogate pair, or where a raw control character
    /// or a byte that is not UTF-8 stands in it.
    #[inline]
    pub fn unescape(&self) -> Option<Cow<'a, str>> {
        self.beginning(usize::MAX)
    }

    /// The same of a string that has been judged; of one with escapes in it only the first `bytes_max` bytes or a few more.
    #[inline]
    pub fn beginning(&self, bytes_max: usize) -> Option<Cow<'a, str>> {
        let text = self.inside.filter(|text| self.judged || !has_control(text))?;
        if !self.escaped {
            return Some(Cow::Borrowed(text));
        }
        let mut said = Vec::new();
        unescape(text, bytes_max, &mut said)?;
        String::from_utf8(said).ok().map(Cow::Owned)
    }

    /// Whether the string says `text`.
    #[inline]
    pub fn is(&self, text: &[u8]) -> bool {
        let key = self.key();
        if key.escaped {
            key.raw.len() <= text.len() * ESCAPED_MOST && key.name(&mut Vec::new()) == text
        } else {
            key.raw == text
        }
    }

    /// The string, to be compared like a key.
    #[inline]
    pub fn key(&self) -> Key<'a> {
        Key { raw: self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default(), escaped: self.escaped }
    }
}

/// What a string says that has been judged, quotes included; none where it is no such string.
pub(crate) fn said(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inside = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = simdutf8::basic::from_utf8(inside).ok()?;
    if memchr(b'\\', inside).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut said = Vec::new();
    unescape(text, usize::MAX, &mut said)?;
    String::from_utf8(said).ok().map(Cow::Owned)
}

#[inline]
fn has_control(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | matches!(byte, 0..0x20))
}

/// Appends what the inside of a string says, which stays UTF-8; none where an escape is none or half a pair. It stops
/// behind the escape or the run of plain text with which there are `bytes_max` bytes or more.
#[inline(never)]
fn unescape(text: &str, bytes_max: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.as_bytes();
    out.reserve(rest.len().min(bytes_max));
    while out.len() < bytes_max {
        if let [b'\\', kind, after @ ..] = rest {
            rest = after;
            out.push(match kind {
                b'"' | b'\\' | b'/' => *kind,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let (decoded, length) = unicode_escape(after)?;
                    out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after.get(length..)?;
                    continue;
                }
                _ => return None,
            });
            continue;
        }
        let plain = memchr(b'\\', rest).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain);
        out.extend_from_slice(plain);
        rest = after;
        match rest {
            [] => return Some(()),
            [_] => return None,
            _ => {}
        }
    }
    Some(())
}

/// The character that the four digits behind `\u` stand for, or such a pair of escapes, and the bytes taken.
fn unicode_escape(digits: &[u8]) -> Option<(char, usize)> {
    let high = hex4(digits.get(..4)?)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Some((char::from_u32(high)?, 4));
    }
    let low = low_surrogate(digits.get(4..)?)?;
    Some((char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))?, 10))
}

/// The low surrogate whose escape begins `text`.
pub(crate) fn low_surrogate(text: &[u8]) -> Option<u32> {
    let low = hex4(text.strip_prefix(b"\\u")?.get(..4)?)?;
    u16::try_from(low).is_ok_and(low_surrogate_unit).then_some(low)
}

/// Whether a UTF-16 unit is the second half of a pair.
pub(crate) fn low_surrogate_unit(unit: u16) -> bool {
    (0xDC00..0xE000).contains(&unit)
}

/// Four hexadecimal digits.
pub(crate) fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}
