//! What a drain came to, and whether that is what was promised.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::client::{Outcome, Part};
use super::course::{Course, Sample, seconds_between};
use super::results::print_table;

/// Closes in any second over the pace: the gateway's own burst is a tenth of a second's; the rest is what a busy host delays and
/// then brings together.
const CLOSES_OVER: f64 = 1.2;
/// Once nobody is left who was idle at the signal, and has to wait for a turn, a Close comes so soon after a client's last reply or
/// its DISCONNECT, ms: `drain_quiet_ms`, a look or two at what is acknowledged, and what a busy host delays.
const CLOSE_AFTER_MS: u64 = 1_000;
/// Steps of the course of closes, ms.
const STEP_MS: u64 = 100;

/// What is told of each part: its name in the raw results, and what stands above it in the table.
const FIGURES: [(&str, &str); 10] = [
    ("clients", "clients"),
    ("asked", "requests"),
    ("answered", "whole replies"),
    ("closed", "closed with 1012"),
    ("first_close_seconds", "first, s"),
    ("last_close_seconds", "last, s"),
    ("watched", "done after the idle had gone"),
    ("p50_ms", "from there to the Close: p50 ms"),
    ("p99_ms", "p99"),
    ("max_ms", "max"),
];

/// What a sample in the raw results is made of.
const COLUMNS: [&str; 7] = ["seconds", "open", "waiting", "in_session", "sending", "without_room", "closed"];

/// All that was seen of one drain.
pub struct Drain {
    /// Every client's own account.
    pub outcomes: Vec<Outcome>,
    /// The gateway's.
    pub course: Course,
    /// What the page said just before the signal.
    pub before: Sample,
    /// When the signal was given.
    pub signal: Instant,
    /// The same as clients say it, milliseconds since 1970.
    pub signal_ms: u64,
    /// From the signal to the process' end.
    pub seconds: f64,
    /// The gateway's exit code.
    pub exit_code: i32,
    /// The closes a second that are configured.
    pub pace: u64,
    /// What the gateway's log says of the drain at its end.
    pub log: Vec<String>,
}

impl Drain {
    /// What is not as promised.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> =
            self.failures().into_iter().map(|(what, count)| format!("{count} x {what}")).collect();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                complaints.push(what);
            }
        };
        promise(self.exit_code == 0, format!("exit code {}", self.exit_code));
        let unanswered: u32 = self.outcomes.iter().map(|outcome| outcome.asked - outcome.answered).sum();
        promise(unanswered == 0, format!("{unanswered} requests without their whole reply"));
        let unclosed = self.outcomes.iter().filter(|outcome| outcome.closed_ms.is_none()).count();
        promise(unclosed == 0, format!("{unclosed} clients without a Close of 1012 at their gap"));
        let last = self.course.samples.last();
        let (cut, crossed) = last.map_or((0, 0), |sample| (sample.cut, sample.crossed));
        promise(cut == 0 && crossed == 0, format!("{cut} clients cut, {crossed} requests crossed a Close"));
        let most = self.most_within(1_000);
        promise(
            self.pace == 0 || most as f64 <= self.pace as f64 * CLOSES_OVER,
            format!("{most} closes within a second"),
        );
        let late = self.waits(None).last().copied().unwrap_or(0);
        promise(late <= CLOSE_AFTER_MS, format!("a Close came {late} ms after its client had done"));
        complaints
    }

    /// What clients complain of, and how many.
    fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for Outcome { part, failure, .. } in &self.outcomes {
            if let Some(failure) = failure {
                *failures.entry(format!("{}: {failure}", part.name())).or_default() += 1;
            }
        }
        failures
    }

    /// From having all to the Close, ms, in order, of those who had it when no idle client was left; of one part, or all.
    fn waits(&self, part: Option<Part>) -> Vec<u64> {
        let idle = self.outcomes.iter().filter(|outcome| outcome.part == Part::Idle);
        let line_end = idle.filter_map(|outcome| outcome.closed_ms).max().unwrap_or(self.signal_ms);
        let of_part = |outcome: &&Outcome| part.is_none_or(|part| outcome.part == part);
        let after = self.outcomes.iter().filter(of_part).filter(|outcome| outcome.done_ms > Some(line_end));
        let mut waits: Vec<u64> =
            after.filter_map(|outcome| Some(outcome.closed_ms?.saturating_sub(outcome.done_ms?))).collect();
        waits.sort_unstable();
        waits
    }

    /// When Closes came, ms from the signal on, in order.
    fn closes_ms(&self) -> Vec<u64> {
        let since_signal = |outcome: &Outcome| Some(outcome.closed_ms?.saturating_sub(self.signal_ms));
        let mut closes: Vec<u64> = self.outcomes.iter().filter_map(since_signal).collect();
        closes.sort_unstable();
        closes
    }

    /// The most Closes within any span of so many milliseconds.
    fn most_within(&self, span_ms: u64) -> usize {
        let closes = self.closes_ms();
        let count = |from: usize| closes.partition_point(|&close| close < closes[from] + span_ms) - from;
        (0..closes.len()).map(count).max().unwrap_or(0)
    }

    /// Closes in each step of so many milliseconds from the signal on.
    pub fn closes_per(&self, step_ms: u64) -> Vec<u64> {
        let mut steps = Vec::new();
        for close in self.closes_ms() {
            let step = (close / step_ms) as usize;
            steps.resize(steps.len().max(step + 1), 0);
            steps[step] += 1;
        }
        steps
    }

    /// Prints it.
    pub fn print(&self) {
        let row = |part: Part| {
            let figures = self.figures(part);
            let cells = FIGURES.map(|(name, _)| match &figures[name] {
                Value::Null => "–".to_owned(),
                figure => figure.to_string(),
            });
            [part.name().to_owned()].into_iter().chain(cells).collect()
        };
        let rows: Vec<Vec<String>> = Part::ALL.into_iter().map(row).collect();
        let head: Vec<&str> = [""].into_iter().chain(FIGURES.map(|(_, head)| head)).collect();
        print_table("Clients", &head, &rows);
        let Sample { open, waiting, in_session, sending, .. } = self.before;
        println!(
            "\nat the signal: {open} open, {waiting} wait for a reply, {in_session} in a session, {sending} take one"
        );
        println!("closes: {} within 1 s at most, {} within 0.1 s", self.most_within(1_000), self.most_within(100));
        println!("ended after {:.2} s with {}; limits hit: {}", self.seconds, self.exit_code, self.course.limits);
        for line in &self.log {
            println!("{line}");
        }
    }

    /// What came of one part, by the names of [`FIGURES`].
    fn figures(&self, part: Part) -> Value {
        let own: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.part == part).collect();
        let sum = |of: fn(&Outcome) -> u32| own.iter().map(|outcome| of(outcome)).sum::<u32>();
        let closes: Vec<u64> = own.iter().filter_map(|outcome| outcome.closed_ms).collect();
        let seconds = |at: Option<&u64>| at.map(|at| at.saturating_sub(self.signal_ms) as f64 / 1e3);
        let waits = self.waits(Some(part));
        let rank = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1)));
        json!({
            "clients": own.len(), "asked": sum(|outcome| outcome.asked), "answered": sum(|outcome| outcome.answered),
            "closed": closes.len(), "first_close_seconds": seconds(closes.iter().min()),
            "last_close_seconds": seconds(closes.iter().max()),
            "watched": waits.len(), "p50_ms": rank(50), "p99_ms": rank(99), "max_ms": rank(100),
        })
    }

    /// For the raw results: the figures, what the page said, the closes.
    pub fn json(&self) -> Vec<Value> {
        let parts: BTreeMap<&str, Value> =
            Part::ALL.into_iter().map(|part| (part.name(), self.figures(part))).collect();
        let sample = |it: &Sample| {
            let seconds = seconds_between(self.signal, it.at);
            json!([seconds, it.open, it.waiting, it.in_session, it.sending, it.without_room, it.closed])
        };
        let samples: Vec<Value> = self.course.samples.iter().map(sample).collect();
        let Sample { open, waiting, in_session, sending, .. } = self.before;
        vec![
            json!({
                "seconds": self.seconds, "exit_code": self.exit_code, "complaints": self.complaints(), "parts": parts,
                "at_the_signal": { "open": open, "waiting": waiting, "in_session": in_session, "sending": sending },
                "most_closes_in_1_s": self.most_within(1_000), "most_closes_in_100_ms": self.most_within(100),
                "limits": self.course.limits, "log": self.log,
            }),
            json!({ "columns": COLUMNS, "samples": samples }),
            json!({ "step_ms": STEP_MS, "closes": self.closes_per(STEP_MS) }),
        ]
    }
}
