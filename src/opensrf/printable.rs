//! What may stand in a name or a line of a log.

/// Whether it is all printable ASCII, as nearly always.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Whether a character shows in a log: the standard library's own judgment, quotes and backslash allowed.
pub(super) fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && c.escape_debug().len() == 1)
}
