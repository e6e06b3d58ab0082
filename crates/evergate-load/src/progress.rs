//! What one sees while it runs: a line that is drawn again and again on a terminal, or plain lines where they are asked for. It goes
//! to stderr, so that figures on stdout are figures alone.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use super::round::{Phase, Round};
use super::table::{count, thousands, time};
use super::tally::histogram;

/// On a terminal, rate and latency are those of so much time.
const WINDOW: Duration = Duration::from_secs(1);

/// How it is shown.
enum Way {
    /// On a terminal.
    Bar(ProgressBar),
    /// A line each time.
    Lines(Duration),
    /// Not at all.
    Nothing,
}

/// How far a wait is.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// What for.
    pub what: &'a str,
    /// How much of it is over,
    pub gone: u64,
    /// of so much.
    pub all: u64,
    /// Until the end of the round, where that is known.
    pub left: Option<Duration>,
}

/// What is shown, and where.
pub struct Progress {
    way: Way,
    /// Which server and round, where there are several.
    of: RefCell<String>,
    /// What all rounds behind this one will take.
    later: Cell<Duration>,
    /// When the figures of the window began to be gathered.
    since: Cell<Instant>,
    /// Those of the last window: replies per second, and their 99th percentile in microseconds where there were any.
    recent: Cell<Option<(f64, Option<f64>)>>,
}

impl Progress {
    /// A plain line after each `every`, and nothing where that is zero; unless it is given, a bar where stderr is a terminal.
    pub fn new(every: Option<Duration>) -> Self {
        let way = match every {
            Some(Duration::ZERO) => Way::Nothing,
            Some(every) => Way::Lines(every),
            None if std::io::stderr().is_terminal() => Way::Bar(bar()),
            None => Way::Nothing,
        };
        Self {
            way,
            of: RefCell::default(),
            later: Cell::new(Duration::ZERO),
            since: Cell::new(Instant::now()),
            recent: Cell::new(None),
        }
    }

    /// A round begins, and so much time will go on others.
    pub fn begin(&self, of: String, later: Duration) {
        *self.of.borrow_mut() = of;
        self.later.set(later);
        self.since.set(Instant::now());
        self.recent.set(None);
    }

    /// Whether a round's latencies are to be gathered.
    pub fn is_shown(&self) -> bool {
        !matches!(self.way, Way::Nothing)
    }

    /// Shows how far a wait is.
    pub fn show(&self, wait: Wait<'_>, round: &Round) {
        match &self.way {
            Way::Nothing => {}
            Way::Bar(bar) => {
                self.gather(WINDOW, round);
                bar.set_length(wait.all.max(1));
                bar.set_position(wait.gone.min(wait.all));
                bar.set_prefix(format!("{}{}", self.of.borrow(), wait.what));
                bar.set_message(self.text(wait, round));
            }
            Way::Lines(every) => {
                if self.gather(*every, round) {
                    output::say(&format!("{}{}: {}", self.of.borrow(), wait.what, self.text(wait, round)));
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Way::Bar(bar) = &self.way {
            bar.finish_and_clear();
        }
    }

    /// Takes the figures of a window that is over; whether one is.
    fn gather(&self, window: Duration, round: &Round) -> bool {
        let gone = self.since.get().elapsed();
        if gone < window {
            return false;
        }
        self.since.set(Instant::now());
        let mut tally = round.tally.borrow_mut();
        let recent = tally.recent.get_or_insert_with(histogram);
        let p99_us = (!recent.is_empty()).then(|| recent.value_at_quantile(0.99) as f64 / 1e3);
        self.recent.set(Some((recent.len() as f64 / gone.as_secs_f64(), p99_us)));
        recent.reset();
        true
    }

    fn text(&self, wait: Wait<'_>, round: &Round) -> String {
        let errors: u64 = round.tally.borrow().faults.values().sum();
        let mut parts = vec![format!("{} clients", thousands(round.open() as u64))];
        // Nobody asks for anything before.
        let recent = self.recent.get().filter(|_| round.phase.get() != Phase::Connecting);
        if let Some((rate, p99_us)) = recent {
            parts.push(format!("{} replies/s", count(rate)));
            parts.extend(p99_us.map(|us| format!("p99 {}", time(us))));
        }
        parts.push(format!("{} error{}", thousands(errors), if errors == 1 { "" } else { "s" }));
        // The last second is not over until it is.
        let left = wait.left.map(|left| (left + self.later.get()).as_secs_f64().ceil());
        parts.extend(left.map(|seconds| format!("{} s left", count(seconds))));
        parts.join(", ")
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{prefix:12} [{bar:10}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::plan::tests::options;
    use crate::plan::{Kind, Plan};
    use crate::round::Pace;

    #[test]
    fn a_line_has_clients_rate_latency_errors_and_the_time_left_with_that_of_later_rounds() {
        let pace = Pace::Closed { in_flight: 1, think_ns: 0 };
        let round = Round::new(Plan::new(&options(Kind::Stateless)), pace, None, 1);
        let progress = Progress::new(Some(Duration::from_secs(1)));
        progress.begin(String::new(), Duration::from_secs(20));
        progress.since.set(Instant::now().checked_sub(Duration::from_secs(10)).expect("a time"));
        round.tally.borrow_mut().recent = Some(histogram());
        for _ in 0..1_000 {
            round.answered(0, 0, 2_000_000);
        }
        round.fault(Fault::Eof);
        round.phase.set(Phase::Running);
        let wait = Wait { what: "measuring", gone: 1, all: 2, left: Some(Duration::from_millis(4_200)) };
        assert!(progress.gather(Duration::from_secs(1), &round));
        let text = progress.text(wait, &round);
        let rest = text.strip_prefix("0 clients, ").expect(&text);
        let (rate, rest) = rest.split_once(" replies/s, ").expect(&text);
        // The ten seconds and what this test takes.
        assert!(rate.parse::<f64>().expect(&text) <= 100.0, "{text}");
        assert_eq!(rest, "p99 2.00 ms, 1 error, 25 s left");
        assert!(!progress.gather(Duration::from_secs(1), &round), "the next window has just begun");
        assert_eq!(round.tally.borrow().recent.as_ref().map(|recent| recent.len()), Some(0));
    }
}
