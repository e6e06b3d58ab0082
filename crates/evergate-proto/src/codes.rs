//! Events counted by a code of which a handful are known: statuses, close codes. One core writes them, others read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::counters::add;

/// Statuses of the errors that the gateway makes, and of its refusals to shake hands.
pub static STATUSES: [u16; 12] = [400, 403, 404, 405, 408, 413, 426, 429, 431, 500, 503, 504];

/// Close codes that have a name (RFC 6455, 7.4.1, and IANA's registry); 1005: a Close without a code, 1006: no Close at all.
pub static CLOSE_CODES: [u16; 11] = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012];

/// How often each code came; all others together.
#[derive(Debug)]
pub struct Codes<const KNOWN: usize> {
    known: &'static [u16; KNOWN],
    counts: [AtomicU64; KNOWN],
    others: AtomicU64,
}

impl<const KNOWN: usize> Codes<KNOWN> {
    /// None has come.
    pub const fn new(known: &'static [u16; KNOWN]) -> Self {
        Self { known, counts: [const { AtomicU64::new(0) }; KNOWN], others: AtomicU64::new(0) }
    }

    /// One more. Only the thread that owns them may.
    pub fn count(&self, code: u16) {
        let place = self.known.iter().position(|known| *known == code);
        add(place.map_or(&self.others, |at| &self.counts[at]), 1);
    }

    /// Each code with its count; at the end, without a code, the others.
    pub fn read(&self) -> impl Iterator<Item = (Option<u16>, u64)> {
        let known = self.known.iter().zip(&self.counts).map(|(code, count)| (Some(*code), count.load(Relaxed)));
        known.chain(std::iter::once_with(|| (None, self.others.load(Relaxed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_counted_as_itself_and_one_that_nobody_knows_with_the_others() {
        let codes = Codes::new(&CLOSE_CODES);
        for code in [1012, 1012, 1000, 4999, 3000] {
            codes.count(code);
        }
        let counted: Vec<_> = codes.read().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Some(1000), 1), (Some(1012), 2), (None, 2)]);
    }
}
