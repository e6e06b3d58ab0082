//! `threadTrace`: the number of a request within its thread.

use crate::json::scan::Scalar;

/// Digits and sign at most: an i64 needs no more.
const SPELLED_MAX: usize = 20;

/// A `threadTrace`, as compared and as its client spelled it.
///
/// Clients and services spell it as `7` or `"7"` (docs/wire.md, "What the bus carries"); it is compared as a number and
/// given back as it was spelled.
#[derive(Clone, Copy)]
pub struct Trace {
    /// The number by which requests are matched.
    pub value: i64,
    spelled: [u8; SPELLED_MAX + 2],
    length: u8,
}

impl Trace {
    /// That of a message that names none.
    pub const ZERO: Self = {
        let mut spelled = [0; SPELLED_MAX + 2];
        spelled[0] = b'0';
        Self { value: 0, spelled, length: 1 }
    };

    /// Stands where a message had a `threadTrace` that could not be read.
    pub const UNREADABLE: Self = Self::ZERO;

    /// The JSON text that the client wrote, such as `7` or `"7"` (escapes inside the quotes resolved).
    pub fn spelled(&self) -> &[u8] {
        &self.spelled[..usize::from(self.length)]
    }

    /// Reads a value; none unless it is an integer, or a string of one, that fits 64 bits and at most 20 characters.
    pub(super) fn read(value: Scalar<'_>) -> Option<Self> {
        let (text, quote) = match value {
            Scalar::Number(text) => (text.into(), false),
            Scalar::Text(_) => (value.text(SPELLED_MAX)?, true),
            Scalar::Null | Scalar::Other => return None,
        };
        if text.len() > SPELLED_MAX || text.starts_with('+') {
            return None;
        }
        let value = text.parse().ok()?;
        let mut spelled = [b'"'; SPELLED_MAX + 2];
        let start = usize::from(quote);
        spelled[start..start + text.len()].copy_from_slice(text.as_bytes());
        Some(Self { value, spelled, length: (text.len() + 2 * start) as u8 })
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.spelled()))
    }
}

impl PartialEq for Trace {
    /// Compared as a number: `7` and `"7"` are the same request.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Trace {}
