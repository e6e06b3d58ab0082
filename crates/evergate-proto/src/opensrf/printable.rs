//! What may stand in a name or a line of a log, and how the rest is shown there.
//!
//! Whoever reads a log must see what was sent: no character that others wrote may begin a line, steer a terminal, turn the
//! direction of the text around, or be there without being keys. And a name with a space in it is not two names.

use std::fmt::{self, Display, Write};

/// Whether it is all printable ASCII, as nearly always.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Whether a character shows in a log: the standard library's own judgment, quotes and backslash allowed.
pub(super) fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && c.escape_debug().len() == 1)
}

/// Whether a character of running text shows as itself: printable, or a mark that is combined with the letter before
/// it, as many scripts need. Controls, formats (category Cf), separators, private and unassigned characters do not.
pub fn shows(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // By itself a mark is escaped, behind a letter it is not.
    let mut bytes = [b'x'; 5];
    let length = 1 + c.encode_utf8(&mut bytes[1..]).len();
    let shown = str::from_utf8(&bytes[..length]).is_ok_and(|text| text.escape_debug().nth(2).is_none());
    shown && !is_ignorable(c)
}

/// Unicode's `Default_Ignorable_Code_Point`, as far as it is letters and marks: nothing of them is keys.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

/// Appends a character that does not show, as JSON would escape it.
pub fn escape(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        _ => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
    }
}

/// The beginning of `text` that shows, and the first character that does not with what follows it.
pub fn split(text: &str) -> (&str, Option<(char, &str)>) {
    let plain = text.bytes().take_while(|byte| matches!(byte, b' '..=b'~')).count();
    let Some(at) = text[plain..].find(|c| !shows(c)) else { return (text, None) };
    let (shown, rest) = text.split_at(plain + at);
    let mut rest = rest.chars();
    (shown, rest.next().map(|c| (c, rest.as_str())))
}

/// Text with every character that does not show escaped.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        loop {
            let (shown, hidden) = split(rest);
            f.write_str(shown)?;
            let Some((c, after)) = hidden else { return Ok(()) };
            escape(f, c)?;
            rest = after;
        }
    }
}

/// A name that a client or a worker wrote, where a log line shows it among others: service, thread, method, `log_xid`. As it
/// is where it has the characters that OpenSRF's names have; else in quotes, so that one name never looks like two.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

/// Which bytes stand unquoted in a [`Name`]: a table, for each name of each line is looked at.
const OF_NAMES: [bool; 256] = {
    let mut of_names = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        of_names[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b':' | b'-');
        byte += 1;
    }
    of_names
};

/// Whether a byte stands unquoted in a [`Name`].
#[inline]
pub(super) fn is_of_names(byte: u8) -> bool {
    OF_NAMES[usize::from(byte)]
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = *self;
        if !name.is_empty() && name.bytes().all(is_of_names) {
            return f.write_str(name);
        }
        f.write_char('"')?;
        for c in name.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if shows(c) => f.write_char(c)?,
                c => escape(f, c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_and_what_can_is_left() {
        let hidden =
            "\n\r\t\0\u{1b}\u{7f}\u{85}\u{ad}\u{200b}\u{202e}\u{2028}\u{2066}\u{feff}\u{fe0f}\u{3164}\u{e0041}";
        assert_eq!(
            Shown(hidden).to_string(),
            "\\n\\r\\t\\u0000\\u001b\\u007f\\u0085\\u00ad\\u200b\\u202e\\u2028\\u2066\\ufeff\\ufe0f\\u3164\\udb40\\udc41"
        );
        for seen in ["", "plain \"text\" \\", "é e\u{301} 日本語 हिन्दी العربية 😀"] {
            assert_eq!(Shown(seen).to_string(), seen);
        }
    }

    #[test]
    fn a_name_is_quoted_where_it_could_pass_for_another() {
        for plain in ["open-ils.actor", "a_b:c-D.9"] {
            assert_eq!(Name(plain).to_string(), plain);
        }
        for (name, shown) in [
            ("", r#""""#),
            ("opensrf.math add", r#""opensrf.math add""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{202e}x\n", r#""\u202ex\n""#),
            ("é", "\"é\""),
        ] {
            assert_eq!(Name(name).to_string(), shown);
        }
    }
}
