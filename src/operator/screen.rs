//! How a drain is shown while it goes on: a bar on a terminal, a line a second elsewhere, or JSON as it comes.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::Report;
use crate::stdio;

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Where it is shown.
pub(super) enum Screen {
    /// A terminal.
    Bar {
        bar: ProgressBar,
        /// The clients that there were at most, those that the drain has closed among them.
        most: u64,
        /// Those that the counters hold of earlier drains.
        closed_before: u64,
    },
    /// Anything else: when the last line was written.
    Lines(Option<Instant>),
    /// Everything as it comes.
    Json,
}

impl Screen {
    /// What stdout is. Earlier drains have closed `closed_before` clients.
    pub(super) fn new(json: bool, closed_before: u64) -> Self {
        if json {
            return Self::Json;
        }
        if !std::io::stdout().is_terminal() {
            return Self::Lines(None);
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{prefix}\n[{bar:40}] {pos} of {len} clients gone\n{msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar { bar, most: 0, closed_before }
    }

    /// Shows a status, which came as `line`.
    pub(super) fn show(&mut self, line: &str, report: &Report) -> Result<(), String> {
        match self {
            Self::Bar { bar, most, closed_before } => {
                *most = (*most).max(report.open() + report.closed().saturating_sub(*closed_before));
                bar.set_length(*most);
                bar.set_position(most.saturating_sub(report.open()));
                bar.set_prefix(report.heading());
                bar.set_message(report.details().join("\n"));
                Ok(())
            }
            Self::Lines(last) if last.is_some_and(|last| last.elapsed() < LINE_EVERY) => Ok(()),
            Self::Lines(last) => {
                *last = Some(Instant::now());
                stdio::print(&format!("{}\n", report.line()))
            }
            Self::Json => stdio::print(&format!("{line}\n")),
        }
    }

    /// Says something beside what is shown.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.println(text),
            Self::Lines(_) | Self::Json => stdio::say(text),
        }
    }

    /// Leaves what was shown last.
    pub(super) fn leave(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.abandon();
        }
    }

    /// The process has ended with that exit code, as `line` says.
    pub(super) fn end(&self, line: &str, exit_code: u8) -> Result<(), String> {
        self.leave();
        let meaning = match exit_code {
            0 => "nobody was cut off",
            3 => "the deadline cut somebody off",
            _ => "its log says why",
        };
        match self {
            Self::Json => stdio::print(&format!("{line}\n")),
            Self::Bar { .. } | Self::Lines(_) => stdio::print(&format!("it has ended with {exit_code}: {meaning}\n")),
        }
    }
}
