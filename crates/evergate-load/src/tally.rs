//! What a round counts while it runs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::fault::Fault;
use super::plan::{Kind, Plan, Script};

/// Digits that histograms keep: 0.1 %.
const DIGITS: u8 = 3;

/// The longest time that a histogram tells from longer ones: an hour, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Of what a server says so much is kept.
const SAID_CHARS_MAX: usize = 200;

/// An empty histogram of times in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("these bounds are in order")
}

/// All of them in one.
pub fn merged<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    histograms.fold(histogram(), |sum, each| sum + each)
}

/// A stretch of the measured time.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// Its end, in seconds since the measured part began.
    pub at_seconds: f64,
    /// Right replies that came in it.
    pub answered: u64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
}

/// What is counted of one kind of a mix.
#[derive(Debug)]
pub struct OfKind {
    /// Which.
    pub kind: Kind,
    /// Service and method, for people.
    pub call: String,
    /// Latencies of the measured part in nanoseconds.
    pub latency: Histogram<u64>,
    /// Right replies that came within it.
    pub answered: u64,
    /// Requests of the whole round that failed, by their fault.
    pub faults: BTreeMap<Fault, u64>,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Tally {
    /// Latencies of the measured part in nanoseconds.
    pub latency: Histogram<u64>,
    /// Time from the first SYN to the end of the handshake, in nanoseconds.
    pub connect: Histogram<u64>,
    /// Right replies that came within the measured part.
    pub answered: u64,
    /// The same by kind, in the order of the plan's scripts; none where the mix is of one.
    pub kinds: Vec<OfKind>,
    /// Faults of the whole round, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// What the server said of the first fault of a kind.
    pub said: BTreeMap<Fault, String>,
    /// Bytes received in the measured part.
    pub bytes_in: u64,
    /// Bytes sent in the measured part.
    pub bytes_out: u64,
    /// Open loop: requests sent more than a millisecond after they were due.
    pub sent_late: u64,
    /// Open loop: requests that were due within the measured part and never sent.
    pub not_sent: u64,
    /// Connections of `--churn` that were opened within the measured part, and then closed.
    pub churned: u64,
    /// Connections opened in the place of those that had ended, in the whole round.
    pub reconnects: u64,
    /// Requests that were sent again on them.
    pub retried: u64,
    /// Connections that the server closed with 1012, but for those of `--churn`.
    pub drained: u64,
    /// Throughput and latency over the time.
    pub slices: Vec<Slice>,
    /// Latencies since somebody last looked, for who watches the run; none where nobody does.
    pub recent: Option<Histogram<u64>>,
    /// Latencies of the slice under way.
    slice: Histogram<u64>,
    /// When that slice ends, in nanoseconds of the run.
    slice_end_ns: u64,
    /// Length of a slice.
    slice_ns: u64,
    /// Open loop: a latency belongs to the time when its request was due, not when its reply came.
    by_due_time: bool,
    /// The measured part: from here, in nanoseconds of the run,
    from_ns: u64,
    /// to here.
    until_ns: u64,
}

impl Tally {
    /// Nothing counted yet, of the whole or of any kind of the plan's mix.
    pub fn of(plan: &Plan, by_due_time: bool) -> Self {
        let of_kind = |script: &Script| OfKind {
            kind: script.kind,
            call: script.call.clone(),
            latency: histogram(),
            answered: 0,
            faults: BTreeMap::new(),
        };
        let kinds = if plan.scripts.len() > 1 { plan.scripts.iter().map(of_kind).collect() } else { Vec::new() };
        Self { kinds, ..Self::new(by_due_time) }
    }

    /// Nothing counted, nothing measured yet, and kinds are not told apart.
    pub fn new(by_due_time: bool) -> Self {
        Self {
            latency: histogram(),
            connect: histogram(),
            answered: 0,
            kinds: Vec::new(),
            faults: BTreeMap::new(),
            said: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
            sent_late: 0,
            not_sent: 0,
            churned: 0,
            reconnects: 0,
            retried: 0,
            drained: 0,
            slices: Vec::new(),
            recent: None,
            slice: histogram(),
            slice_end_ns: 0,
            slice_ns: 0,
            by_due_time,
            from_ns: u64::MAX,
            until_ns: u64::MAX,
        }
    }

    /// The measured part begins.
    pub fn begin(&mut self, now_ns: u64, slice_ns: u64) {
        self.from_ns = now_ns;
        self.slice_ns = slice_ns;
        self.slice_end_ns = now_ns + slice_ns;
    }

    /// The measured part ends, unless it has.
    pub fn end(&mut self, now_ns: u64) {
        self.until_ns = self.until_ns.min(now_ns);
        self.end_slices(self.until_ns);
    }

    /// Its length in seconds; 0 where it has not begun.
    pub fn seconds(&self) -> f64 {
        self.until_ns.saturating_sub(self.from_ns) as f64 / 1e9
    }

    /// When the measured part ended, in nanoseconds of the run; 0 where it has not.
    pub fn ended_ns(&self) -> u64 {
        if self.until_ns == u64::MAX { 0 } else { self.until_ns }
    }

    /// Whether this time is in the measured part.
    pub fn is_measured(&self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }

    /// A right reply to what was due, or sent, at `due_ns`, of a script.
    pub fn answer(&mut self, script: usize, due_ns: u64, now_ns: u64) {
        let came_within = self.is_measured(now_ns);
        self.answered += u64::from(came_within);
        let latency_ns = now_ns.saturating_sub(due_ns);
        let is_measured = self.is_measured(if self.by_due_time { due_ns } else { now_ns });
        if is_measured {
            self.latency.saturating_record(latency_ns);
        }
        if let Some(kind) = self.kinds.get_mut(script) {
            kind.answered += u64::from(came_within);
            if is_measured {
                kind.latency.saturating_record(latency_ns);
            }
        }
        if let Some(recent) = &mut self.recent {
            recent.saturating_record(latency_ns);
        }
        if came_within {
            if now_ns >= self.slice_end_ns {
                self.end_slices(now_ns);
            }
            self.slice.saturating_record(latency_ns);
        }
    }

    /// A client of `--churn` has come; it goes at once.
    pub fn came(&mut self, began_ns: u64, now_ns: u64) {
        self.connect.saturating_record(now_ns - began_ns);
        self.churned += u64::from(self.is_measured(now_ns));
    }

    /// A client is back, and has sent so many requests again.
    pub fn reconnected(&mut self, retried: usize) {
        self.reconnects += 1;
        self.retried += retried as u64;
    }

    /// Slices up to this time are complete.
    fn end_slices(&mut self, now_ns: u64) {
        while self.slice_ns > 0 && now_ns >= self.slice_end_ns {
            self.slices.push(Slice {
                at_seconds: (self.slice_end_ns - self.from_ns) as f64 / 1e9,
                answered: self.slice.len(),
                p99_us: self.slice.value_at_quantile(0.99) as f64 / 1e3,
            });
            self.slice.reset();
            self.slice_end_ns += self.slice_ns;
        }
    }

    /// Bytes came.
    pub fn received(&mut self, bytes: usize) {
        self.bytes_in += if self.is_measuring() { bytes as u64 } else { 0 };
    }

    /// Bytes went.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out += if self.is_measuring() { bytes as u64 } else { 0 };
    }

    fn is_measuring(&self) -> bool {
        self.from_ns != u64::MAX && self.until_ns == u64::MAX
    }

    /// What the server said of a fault; the first of a kind is kept.
    pub fn said(&mut self, fault: Fault, text: &str) {
        if !text.is_empty() && !self.said.contains_key(&fault) {
            let mut shown = String::new();
            for letter in text.chars().take(SAID_CHARS_MAX) {
                match letter {
                    // They end nothing here.
                    '"' | '\'' => shown.push(letter),
                    letter => shown.extend(letter.escape_debug()),
                }
            }
            self.said.insert(fault, shown);
        }
    }

    /// A request of a script has failed.
    pub fn fail(&mut self, script: usize, fault: Fault) {
        self.fault(fault);
        if let Some(kind) = self.kinds.get_mut(script) {
            *kind.faults.entry(fault).or_default() += 1;
        }
    }

    /// Something went wrong.
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_counts_replies_that_came_within_the_measured_part() {
        let mut tally = Tally::new(false);
        tally.answer(0, 5, 10);
        tally.begin(100, 1_000);
        tally.answer(0, 50, 150);
        tally.end(200);
        tally.answer(0, 150, 250);
        assert_eq!((tally.answered, tally.latency.len(), tally.latency.max()), (1, 1, 100));
    }

    #[test]
    fn an_open_loop_counts_what_was_due_within_it_however_late_the_reply() {
        let mut tally = Tally::new(true);
        tally.begin(100, 1_000);
        tally.answer(0, 50, 150);
        tally.end(200);
        tally.answer(0, 150, 1_150);
        assert_eq!((tally.answered, tally.latency.len(), tally.latency.max()), (1, 1, 1_000));
    }

    #[test]
    fn clients_that_come_and_go_are_counted_in_the_measured_part() {
        let mut tally = Tally::new(false);
        tally.came(10, 20);
        tally.begin(100, 1_000);
        tally.came(90, 110);
        tally.end(200);
        tally.came(150, 210);
        assert_eq!((tally.churned, tally.connect.len()), (1, 3));
    }

    #[test]
    fn slices_cover_the_time_also_where_nothing_came() {
        let mut tally = Tally::new(false);
        tally.begin(0, 100);
        tally.answer(0, 0, 50);
        tally.answer(0, 300, 350);
        tally.end_slices(400);
        let answered: Vec<u64> = tally.slices.iter().map(|slice| slice.answered).collect();
        assert_eq!(answered, [1, 0, 0, 1]);
    }
}
