//! What is said again and again is said once, then counted: one Redis that refuses is one line, not one for each message.
//!
//! Two lines are the same where level, target and message are; fields are no part of it. It runs on the writer thread,
//! so that it costs the cores nothing.

use std::mem;
use std::time::{Duration, Instant};

use evergate_proto::opensrf::activity::Format;

/// How long a line's repetitions are counted before their number is said.
const WINDOW: Duration = Duration::from_secs(10);

/// Different lines that are remembered at a time; what comes beyond is written as it is.
const REMEMBERED_MAX: usize = 64;

/// How often a line that says nothing bad is written in a window.
const INFO_SHOWN: u32 = 5;

/// A line that was written not long ago.
#[derive(Debug)]
struct Said {
    /// Level, target and message.
    text: String,
    severity: u8,
    /// The end of its window.
    until: Instant,
    /// How often it was written.
    shown: u32,
    /// How often it was not.
    more: u64,
}

/// The lines that were written not long ago.
#[derive(Debug)]
pub(super) struct Repeats {
    said: Vec<Said>,
    /// Text, or JSON.
    format: Format,
}

impl Repeats {
    pub(super) fn new(format: Format) -> Self {
        Self { said: Vec::new(), format }
    }

    /// Whether a line is to be written; it is counted where it is not.
    pub(super) fn admits(&mut self, now: Instant, severity: u8, text: &str) -> bool {
        let shown_max = match severity {
            b'3' | b'4' => 1,
            b'6' => INFO_SHOWN,
            // Who asked for everything gets everything.
            _ => return true,
        };
        if let Some(said) = self.said.iter_mut().find(|said| said.text == text && said.until > now) {
            if said.shown < shown_max {
                said.shown += 1;
                return true;
            }
            said.more += 1;
            return false;
        }
        if self.said.len() >= REMEMBERED_MAX {
            self.said.retain(|said| said.until > now || said.more > 0);
        }
        if self.said.len() < REMEMBERED_MAX {
            self.said.push(Said { text: text.to_owned(), severity, until: now + WINDOW, shown: 1, more: 0 });
        }
        true
    }

    /// When the next number is to be said.
    pub(super) fn due(&self) -> Option<Instant> {
        self.said.iter().filter(|said| said.more > 0).map(|said| said.until).min()
    }

    /// What is to be said by now, or at the `end` in any case: severity and line, without time, and as JSON without its end.
    pub(super) fn take(&mut self, now: Instant, end: bool) -> Vec<(u8, String)> {
        let (over, under_way) = mem::take(&mut self.said).into_iter().partition(|said| end || said.until <= now);
        self.said = under_way;
        let over: Vec<Said> = over;
        over.into_iter()
            .filter(|said| said.more > 0)
            .map(|Said { text, severity, more, .. }| {
                let (times, seconds) = (if more == 1 { "once" } else { &*format!("{more} times") }, WINDOW.as_secs());
                (
                    severity,
                    match self.format {
                        Format::Text => format!("{text} [{times} more within {seconds} s]"),
                        Format::Json => format!("{text},\"repeated\":{more},\"within_seconds\":{seconds}"),
                    },
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_line_is_counted_until_its_window_ends() {
        let (mut repeats, now) = (Repeats::new(Format::Text), Instant::now());
        assert_eq!([(); 3].map(|()| repeats.admits(now, b'4', "WARN  bus: refused")), [true, false, false]);
        assert!(
            repeats.admits(now, b'4', "WARN  bus: away")
                && repeats.admits(now, b'7', "x")
                && repeats.admits(now, b'7', "x")
        );
        assert_eq!((repeats.due(), repeats.take(now, false)), (Some(now + WINDOW), vec![]));
        let (said, end) = ("WARN  bus: refused [2 times more within 10 s]".to_owned(), now + WINDOW);
        assert_eq!(repeats.take(end, false), [(b'4', said)]);
        assert_eq!((repeats.due(), repeats.admits(end, b'4', "WARN  bus: refused")), (None, true));
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_remembered_is_written() {
        let (mut repeats, now) = (Repeats::new(Format::Text), Instant::now());
        for n in 0..10 * REMEMBERED_MAX {
            assert!(repeats.admits(now, b'3', &n.to_string()));
        }
        assert_eq!(repeats.said.len(), REMEMBERED_MAX);
        assert!(!repeats.admits(now, b'3', "0") && repeats.admits(now, b'3', "100"));
        assert!(repeats.admits(now + WINDOW, b'3', "100") && !repeats.admits(now + WINDOW, b'3', "100"));
    }
}
