//! When a connection may close during a drain: the gap, the quiet time, the pace, the deadline.
//!
//! Pure: the time is given. One per core; the pace of the process is divided among the cores.

use std::collections::VecDeque;

/// The shortest time over which the clients that are left are spread, ms.
const SHORTEST_MS: u64 = 100;

/// The options of a drain, for one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainOptions {
    /// From the last activity to the Close, ms.
    pub quiet_ms: u64,
    /// When every client must be gone, ms since the process began.
    pub deadline_ms: u64,
    /// Closes a second on this core; 0 = no limit.
    pub closes_per_second: f64,
}

/// A drain on one core, from the closing of its listener share on.
#[derive(Debug)]
pub struct Drain {
    options: DrainOptions,
    /// When all clients that were idle at the start must be gone, ms since the process began.
    half_ms: u64,
    /// Clients that were open at the start and have not been closed at a gap.
    left: usize,
    /// Closes that may be made now.
    allowance: f64,
    /// When the allowance was last added to, ms.
    counted_ms: u64,
    /// The slots of clients that wait for their turn and for nothing else, the one that has waited longest in front. They are
    /// asked for in their order: to look at all of them at each tick would cost the square of their number.
    line: VecDeque<u32>,
}

impl Drain {
    /// A drain that begins at `now_ms` with `open` clients.
    pub fn new(options: DrainOptions, open: usize, now_ms: u64) -> Self {
        // The first close comes after the quiet time.
        let half_ms = now_ms + (options.deadline_ms.saturating_sub(now_ms) / 2).saturating_sub(options.quiet_ms);
        Self { options, half_ms, left: open, allowance: 1.0, counted_ms: now_ms, line: VecDeque::new() }
    }

    /// When every client must be gone, ms since the process began.
    pub fn deadline_ms(&self) -> u64 {
        self.options.deadline_ms
    }

    /// The closes a second that are made at most; `None` = as many as there are. As many as it takes for all to be gone
    /// by half of the time: worked out anew each time, so that a stall is made up for.
    pub fn rate(&self, now_ms: u64) -> Option<f64> {
        let seconds = self.half_ms.saturating_sub(now_ms).max(SHORTEST_MS) as f64 / 1e3;
        (self.options.closes_per_second > 0.0).then(|| self.options.closes_per_second.max(self.left as f64 / seconds))
    }

    /// Whether a gap that began at `gap_since_ms` has been quiet for long enough.
    pub fn is_quiet(&self, gap_since_ms: u64, now_ms: u64) -> bool {
        now_ms >= gap_since_ms + self.options.quiet_ms
    }

    /// Whether a client whose gap began at `gap_since_ms` may be closed now. Its turn is used up, unless it is given back.
    pub fn take_turn(&mut self, gap_since_ms: u64, now_ms: u64) -> bool {
        if !self.is_quiet(gap_since_ms, now_ms) {
            return false;
        }
        let Some(rate) = self.rate(now_ms) else { return true };
        let passed_seconds = now_ms.saturating_sub(self.counted_ms) as f64 / 1e3;
        self.counted_ms = now_ms;
        // A burst is what a tenth of a second allows: after a stall the pace is not made up at once.
        self.allowance = (self.allowance + passed_seconds * rate).min((rate / 10.0).max(1.0));
        if self.allowance < 1.0 {
            return false;
        }
        self.allowance -= 1.0;
        self.left = self.left.saturating_sub(1);
        true
    }

    /// The client was at no gap after all: its turn is another's.
    pub fn give_turn_back(&mut self) {
        self.left += 1;
        if self.options.closes_per_second > 0.0 {
            self.allowance += 1.0;
        }
    }

    /// When a gap that began at `gap_since_ms` will have been quiet for long enough, ms.
    pub fn quiet_at_ms(&self, gap_since_ms: u64) -> u64 {
        gap_since_ms + self.options.quiet_ms
    }

    /// Whether clients wait for their turn.
    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// The client in `slot` waits for its turn behind all others.
    pub fn line_up(&mut self, slot: u32) {
        self.line.push_back(slot);
    }

    /// Who has waited longest, and leaves the line.
    pub fn first_in_line(&mut self) -> Option<u32> {
        self.line.pop_front()
    }

    /// It was not its turn yet.
    pub fn back_to_front(&mut self, slot: u32) {
        self.line.push_front(slot);
    }
}

#[cfg(test)]
mod tests;
