//! As much JSON as a reply needs: members by name, elements in order, values as the text that came. It allocates
//! nothing, and what it skips costs no stack however deep it is.

use memchr::memchr2;

/// The text is no JSON, or ends too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    /// The whole text.
    text: &'a [u8],
    /// The next byte that is to be read.
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space, which stays where it is.
    fn peek(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(Malformed),
            }
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek()? != byte {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Whether the next value is an object.
    pub fn is_object(&mut self) -> bool {
        self.peek() == Ok(b'{')
    }

    /// Steps into an object; then ask for each [`Self::key`].
    pub fn open_object(&mut self) -> Result<(), Malformed> {
        self.take(b'{')
    }

    /// Steps into an array; then ask for each [`Self::element`].
    pub fn open_array(&mut self) -> Result<(), Malformed> {
        self.take(b'[')
    }

    /// The next member's name; its value is next. `None` behind the object's end.
    pub fn key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' => self.at += 1,
            _ => {}
        }
        let key = self.string()?;
        self.take(b':')?;
        Ok(Some(key))
    }

    /// Whether an element is next. `false` behind the array's end.
    pub fn element(&mut self) -> Result<bool, Malformed> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' => self.at += 1,
            _ => {}
        }
        self.peek().map(|_| true)
    }

    /// A string's text between its quotes, escapes as they are.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        self.take(b'"')?;
        let from = self.at;
        loop {
            let rest = self.text.get(self.at..).ok_or(Malformed)?;
            let found = memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            self.at += found;
            if rest[found] == b'"' {
                self.at += 1;
                return Ok(&self.text[from..self.at - 1]);
            }
            self.at += 2;
        }
    }

    /// A string without its quotes, any other value as it stands: `OpenSRF` writes numbers either way.
    pub fn word(&mut self) -> Result<&'a [u8], Malformed> {
        if self.peek()? == b'"' { self.string() } else { self.skip() }
    }

    /// A value's text, passed over.
    pub fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let first = self.peek()?;
        let from = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.text.get(self.at).ok_or(Malformed)? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            b'}' | b']' | b',' | b':' => return Err(Malformed),
            _ => {
                let rest = &self.text[self.at..];
                let end =
                    rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
                self.at += end.unwrap_or(rest.len());
            }
        }
        Ok(&self.text[from..self.at])
    }
}

/// How many bytes a string has once its escapes are undone, given the text between its quotes. `\u` escapes count as
/// the UTF-8 of what they name; half pairs as three bytes.
pub fn unescaped_bytes(text: &[u8]) -> usize {
    let (mut at, mut bytes) = (0, 0);
    while at < text.len() {
        let Some(found) = memchr::memchr(b'\\', &text[at..]) else { return bytes + text.len() - at };
        bytes += found;
        at += found;
        if text.get(at + 1) != Some(&b'u') {
            bytes += 1;
            at += 2;
            continue;
        }
        let digits = text.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
        // The halves of a pair stand for four bytes together.
        bytes += match unit {
            0..=0x7f => 1,
            0x80..=0x7ff | 0xd800..=0xdfff => 2,
            _ => 3,
        };
        at += 6;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_by_name_whatever_their_order_and_spacing() {
        let mut cursor = Cursor::new(br#" { "a" : [1, {"x":"]}"} ] , "b":"q\"\\", "c" : 12.5 } "#);
        cursor.open_object().expect("an object");
        let mut seen = Vec::new();
        while let Some(key) = cursor.key().expect("a key") {
            seen.push((key, cursor.word().expect("a value")));
        }
        let expected: [(&[u8], &[u8]); 3] = [(b"a", br#"[1, {"x":"]}"} ]"#), (b"b", br#"q\"\\"#), (b"c", b"12.5")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn elements_come_in_order_and_end_with_the_array() {
        let mut cursor = Cursor::new(b"[1,[2,3], \"x\"]");
        cursor.open_array().expect("an array");
        let mut seen: Vec<&[u8]> = Vec::new();
        while cursor.element().expect("an element") {
            seen.push(cursor.skip().expect("a value"));
        }
        assert_eq!(seen, [&b"1"[..], b"[2,3]", b"\"x\""]);
    }

    #[test]
    fn a_text_that_ends_anywhere_is_malformed_and_never_a_panic() {
        let text = br#"{"thread":"t\"","osrf_msg":[{"a":[1,"\\"]}]}"#;
        for end in 0..text.len() {
            assert_eq!(Cursor::new(&text[..end]).skip(), Err(Malformed), "{end}");
        }
        assert_eq!(Cursor::new(text).skip(), Ok(&text[..]));
    }

    #[test]
    fn a_million_brackets_cost_no_stack() {
        assert_eq!(Cursor::new(&vec![b'['; 1_000_000]).skip(), Err(Malformed));
    }

    #[test]
    fn escapes_count_as_what_they_stand_for() {
        assert_eq!(unescaped_bytes(b"abc"), 3);
        assert_eq!(unescaped_bytes(br#"\"a\n"#), 3);
        assert_eq!(unescaped_bytes("\\u00e9é".as_bytes()), 4);
        assert_eq!(unescaped_bytes(br"\ud83d\ude00"), 4);
        assert_eq!(unescaped_bytes(br"\u12"), 1, "cut short: whatever, without a panic");
    }
}
