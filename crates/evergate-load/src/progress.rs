//! The bar that one sees while it runs; none where stderr is no terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::round::Round;

/// A bar, or nothing.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar on stderr where that is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template("{prefix:12} [{bar:10}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar }
    }

    /// Shows how far a wait for a time is.
    pub fn time(&self, what: &str, gone: Duration, all: Duration, round: &Round) {
        if all == Duration::MAX {
            let answered = round.tally.borrow().answered;
            self.show(what, answered, round.count.unwrap_or(answered), round);
        } else {
            self.show(what, gone.as_millis() as u64, all.as_millis() as u64, round);
        }
    }

    /// Shows how far something is.
    pub fn show(&self, what: &str, gone: u64, all: u64, round: &Round) {
        let Some(bar) = &self.bar else { return };
        let tally = round.tally.borrow();
        let faults: u64 = tally.faults.values().sum();
        bar.set_length(all.max(1));
        bar.set_position(gone.min(all));
        bar.set_prefix(what.to_owned());
        bar.set_message(format!("{} clients, {} replies, {faults} errors", round.open(), tally.answered));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
