//! Judging a long message while it comes in, so that no turn of a core has to judge megabytes when its last byte is here.
//!
//! The verdict is that of the strict strictness (`strictness.rs`), which a short message is read by; the test `properties` holds
//! the two together. Work is proportional to the bytes that have come, however they were cut.

use super::escape::escaped_len;
use super::scan::low_surrogate_unit;
use super::simd::string_stop;
use super::strictness::DEPTH_MOST;

/// Bytes from which a value's end is remembered: shorter ones are passed over as fast.
const LARGE_BYTES: usize = if cfg!(feature = "simulator") { 16 } else { 32 * 1024 };
/// Levels of brackets that hold what an envelope's fields are read from, `params` included; a bare value below one more.
const LEVELS: usize = 8;

/// What is wrong with a message, as far as JSON goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is not JSON.
    Damage,
    /// It is nested deeper than allowed.
    TooDeep,
    /// It holds half a surrogate pair.
    LoneSurrogate,
}

/// The verdict on a whole message; that on a short one that has been read before is the default.
#[derive(Debug, Default)]
pub struct Judged {
    /// The first thing that is wrong with it.
    pub(crate) fault: Option<Fault>,
    /// Whether a string holds `\u0000`.
    pub(crate) nul: bool,
    /// Where its large values begin and end, in the order of their beginnings.
    pub(crate) large: Vec<(usize, usize)>,
    /// Bytes by which the router's escaping makes it longer; none where nobody has counted.
    pub(crate) surplus: Option<usize>,
}

impl Judged {
    /// Bytes of memory held.
    pub fn bytes_held(&self) -> usize {
        self.large.capacity() * size_of::<(usize, usize)>()
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// A value.
    Value,
    /// A value, or the end of an array that is empty.
    FirstElement,
    /// A key, or the end of an object that is empty.
    FirstKey,
    /// A key.
    Key,
    /// The colon behind a key.
    Colon,
    /// A comma or a closing bracket.
    Behind,
    /// Nothing: the value is complete.
    End,
    /// More of a string.
    String,
    /// What a backslash escapes.
    Escape,
    /// A digit of `\u`: so many are missing, the value of those before.
    Hex(u8, u16),
    /// The backslash, then the `u`, of a low surrogate.
    LowBackslash,
    LowU,
    /// A digit of a low surrogate.
    LowHex(u8, u16),
    /// More of a word: the rest of it.
    Word(&'static [u8]),
    /// A number, by what came last of it.
    Number(Number),
}

/// RFC 8259 section 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    /// What it is with one more byte; `None`: that byte is not of it.
    #[inline]
    fn with(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'-' | b'+') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    /// Whether it may end here.
    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

/// Judges one message, of which more and more is shown to it.
#[derive(Debug)]
pub struct Judge {
    /// Bytes judged.
    at: usize,
    next: Next,
    depth: usize,
    depth_max: usize,
    /// Which levels are objects, one bit each.
    objects: [u64; DEPTH_MOST / 64],
    /// Where the outer levels began.
    began: [usize; LEVELS],
    /// Where the string at hand began, and whether it is a key.
    string_at: usize,
    is_key: bool,
    surplus: usize,
    verdict: Judged,
}

impl Judge {
    /// Nothing has come. At most `depth_max` levels are taken, and never more than 1,024.
    pub fn new(depth_max: usize) -> Self {
        Self {
            at: 0,
            next: Next::Value,
            depth: 0,
            depth_max: depth_max.min(DEPTH_MOST),
            objects: [0; DEPTH_MOST / 64],
            began: [0; LEVELS],
            string_at: 0,
            is_key: false,
            surplus: 0,
            verdict: Judged::default(),
        }
    }

    /// Bytes of memory held.
    pub fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.verdict.bytes_held()
    }

    /// Judges what has been added to `text`, which is all of the message that has come.
    pub fn see(&mut self, text: &[u8]) {
        let new = text.get(self.at..).unwrap_or_default();
        self.surplus += escaped_len(new) - new.len();
        let mut at = self.at;
        self.at = text.len();
        while self.verdict.fault.is_none() && at < text.len() {
            at = match self.next {
                Next::String => self.string(text, at),
                Next::Number(number) => self.number(text, at, number),
                _ => {
                    self.byte(text[at], at);
                    at + 1
                }
            };
        }
    }

    /// The verdict on `text`, which is the whole message.
    pub fn finish(mut self, text: &[u8]) -> Judged {
        self.see(text);
        let ends = match self.next {
            Next::End => true,
            Next::Number(number) => self.depth == 0 && number.is_whole(),
            _ => false,
        };
        let mut verdict = self.verdict;
        if !ends && verdict.fault.is_none() {
            verdict.fault = Some(Fault::Damage);
        }
        verdict.large.sort_unstable();
        verdict.surplus = Some(self.surplus);
        verdict
    }

    /// Passes over what is left of a string, as far as it has come.
    fn string(&mut self, text: &[u8], mut at: usize) -> usize {
        loop {
            let Some(stop) = string_stop(text, at) else { return text.len() };
            at = stop;
            match text[at] {
                b'"' => {
                    self.end_string(at + 1);
                    return at + 1;
                }
                b'\\' => {}
                _ => {
                    self.fault(Fault::Damage);
                    return at;
                }
            }
            // One after the other, as in text with many line ends.
            while let [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] = text[at..] {
                at += 2;
            }
            if text.get(at) == Some(&b'\\') {
                self.next = Next::Escape;
                return at + 1;
            }
        }
    }

    fn end_string(&mut self, end: usize) {
        if self.is_key {
            self.next = Next::Colon;
            return;
        }
        if self.depth <= LEVELS && end - self.string_at >= LARGE_BYTES {
            self.verdict.large.push((self.string_at, end));
        }
        self.end_value();
    }

    fn end_value(&mut self) {
        self.next = if self.depth == 0 { Next::End } else { Next::Behind };
    }

    /// Passes over what is left of a number, as far as it has come; the byte behind it is still to be judged.
    fn number(&mut self, text: &[u8], mut at: usize, mut number: Number) -> usize {
        while let Some(byte) = text.get(at) {
            let Some(longer) = number.with(*byte) else {
                if number.is_whole() {
                    self.end_value();
                } else {
                    self.fault(Fault::Damage);
                }
                return at;
            };
            number = longer;
            at += 1;
        }
        self.next = Next::Number(number);
        at
    }

    /// Judges a byte that stands alone, at `at`.
    #[inline]
    fn byte(&mut self, byte: u8, at: usize) {
        match (self.next, byte) {
            (
                Next::Value | Next::FirstElement | Next::FirstKey | Next::Key | Next::Colon | Next::Behind | Next::End,
                b' ' | b'\t' | b'\n' | b'\r',
            ) => {}
            (Next::FirstElement, b']') | (Next::FirstKey, b'}') => self.close(at),
            (Next::FirstElement | Next::Value, _) => self.value(byte, at),
            (Next::FirstKey | Next::Key, b'"') => {
                self.is_key = true;
                self.next = Next::String;
            }
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::Behind, b',') => self.next = if self.is_object() { Next::Key } else { Next::Value },
            (Next::Behind, b'}') if self.is_object() => self.close(at),
            (Next::Behind, b']') if !self.is_object() => self.close(at),
            (Next::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.next = Next::String,
            (Next::Escape, b'u') => self.next = Next::Hex(4, 0),
            (Next::Hex(left, before), _) => match digit(byte, before) {
                Some(unit) if left > 1 => self.next = Next::Hex(left - 1, unit),
                Some(0xD800..0xDC00) => self.next = Next::LowBackslash,
                Some(0xDC00..0xE000) => self.fault(Fault::LoneSurrogate),
                Some(unit) => {
                    self.verdict.nul |= unit == 0;
                    self.next = Next::String;
                }
                None => self.fault(Fault::Damage),
            },
            (Next::LowBackslash, b'\\') => self.next = Next::LowU,
            (Next::LowU, b'u') => self.next = Next::LowHex(4, 0),
            (Next::LowHex(left, before), _) => match digit(byte, before) {
                Some(unit) if left > 1 => self.next = Next::LowHex(left - 1, unit),
                Some(unit) if low_surrogate_unit(unit) => self.next = Next::String,
                _ => self.fault(Fault::LoneSurrogate),
            },
            (Next::LowBackslash | Next::LowU, _) => self.fault(Fault::LoneSurrogate),
            (Next::Word([next, rest @ ..]), _) if *next == byte => {
                if rest.is_empty() {
                    self.end_value();
                } else {
                    self.next = Next::Word(rest);
                }
            }
            _ => self.fault(Fault::Damage),
        }
    }

    /// The first byte of a value.
    #[inline]
    fn value(&mut self, byte: u8, at: usize) {
        self.next = match byte {
            b'"' => {
                (self.string_at, self.is_key) = (at, false);
                Next::String
            }
            b'{' | b'[' => return self.open(byte == b'{', at),
            b'-' => Next::Number(Number::Minus),
            b'0' => Next::Number(Number::Zero),
            b'1'..=b'9' => Next::Number(Number::Integer),
            b't' => Next::Word(b"rue"),
            b'f' => Next::Word(b"alse"),
            b'n' => Next::Word(b"ull"),
            _ => return self.fault(Fault::Damage),
        };
    }

    fn open(&mut self, object: bool, at: usize) {
        if self.depth >= self.depth_max {
            return self.fault(Fault::TooDeep);
        }
        if let Some(began) = self.began.get_mut(self.depth) {
            *began = at;
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.objects[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        self.next = if object { Next::FirstKey } else { Next::FirstElement };
    }

    /// A closing bracket of the right kind, at `at`.
    fn close(&mut self, at: usize) {
        self.depth -= 1;
        if let Some(began) = self.began.get(self.depth)
            && at + 1 - began >= LARGE_BYTES
        {
            self.verdict.large.push((*began, at + 1));
        }
        self.end_value();
    }

    fn is_object(&self) -> bool {
        let level = self.depth - 1;
        self.objects[level / 64] >> (level % 64) & 1 != 0
    }

    fn fault(&mut self, fault: Fault) {
        self.verdict.fault.get_or_insert(fault);
    }
}

/// A UTF-16 unit with one more hexadecimal digit.
fn digit(byte: u8, before: u16) -> Option<u16> {
    Some(before << 4 | char::from(byte).to_digit(16)? as u16)
}
