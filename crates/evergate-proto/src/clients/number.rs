//! The number of a connection: what logs, `/connections` and `evergate clients` call it.
//!
//! It is made of what a core has anyway, so that a client pays for it with no byte: the core's CPU, the slot, and which of the slot's
//! clients it is, as in `1.17.3`. No two connections of a process have the same. Bus threads begin with the last two of the three.

use std::fmt;
use std::str::FromStr;

use super::output::SlotIndex;

/// Names a connection as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionNumber {
    /// The CPU of its core, as in `/status`.
    pub cpu: u32,
    /// Where it stands in the core's table.
    pub slot: SlotIndex,
    /// Which of those that have had the slot, from 0.
    pub generation: u32,
}

/// The longest, in bytes.
pub(crate) const NUMBER_BYTES_MAX: usize = 3 * 10 + 2;

impl ConnectionNumber {
    /// Appends it. Each activity line has one, and `Display` costs several times as much.
    pub(crate) fn push(self, out: &mut String) {
        let Self { cpu, slot, generation } = self;
        let mut digits = itoa::Buffer::new();
        out.push_str(digits.format(cpu));
        out.push('.');
        out.push_str(digits.format(slot));
        out.push('.');
        out.push_str(digits.format(generation));
    }
}

impl fmt::Display for ConnectionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(NUMBER_BYTES_MAX);
        self.push(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for ConnectionNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
        let mut parts = text.split('.').map(part);
        match [parts.next(), parts.next(), parts.next(), parts.next()].map(Option::flatten) {
            [Some(cpu), Some(slot), Some(generation), None] if text.matches('.').count() == 2 => {
                Ok(Self { cpu, slot, generation })
            }
            _ => Err(format!("{text:?} is no number of a connection; those look like 0.17.3, as in the activity log")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (cpu, slot, generation) in [(0, 0, 0), (1, 17, 3), (u32::MAX, u32::MAX, u32::MAX)] {
            let number = ConnectionNumber { cpu, slot, generation };
            let text = number.to_string();
            assert!(text.len() <= NUMBER_BYTES_MAX, "{text}");
            assert_eq!(text.parse(), Ok(number));
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_an_example() {
        for text in ["", "17", "1.2", "1.2.3.4", "1.2.", "+1.2.3", "1.-2.3", "a.b.c", "4294967296.0.0", "1.2.3."] {
            let refused = text.parse::<ConnectionNumber>().expect_err(text);
            assert!(refused.contains("0.17.3"), "{refused}");
        }
    }
}
