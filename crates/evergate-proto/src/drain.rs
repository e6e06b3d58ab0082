//! When a connection that is quiet may close during a drain: the pace, the half, the deadline.
//!
//! By half of the time all that were idle at its beginning are gone. From then on clients that never pause are not read from any
//! more, so that they have a gap, too (`clients/client/gap.rs`).
//!
//! Pure: the time is given. One per core; the pace of the process is divided among the cores, and has a jitter, so that they do
//! not go in step.

use std::collections::VecDeque;

/// The shortest time over which the clients that are left are spread, ms.
const SHORTEST_MS: u64 = 100;

/// How much faster or slower than the pace a look may be.
const JITTER: f64 = 0.5;

/// The options of a drain, for one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainOptions {
    /// When every client must be gone, ms since the process began.
    pub deadline_ms: u64,
    /// Closes a second on this core; 0 = no limit.
    pub closes_per_second: f64,
}

/// A drain on one core, from the closing of its listener share on.
#[derive(Debug)]
pub struct Drain {
    options: DrainOptions,
    /// When half of its time is over, ms since the process began.
    half_ms: u64,
    /// It is.
    is_half_over: bool,
    /// By when those who can be are to be gone, ms: before the half those who were idle at the start, behind it all that are left.
    gone_by_ms: u64,
    /// Clients that were open at the start, or at half of the time, and have not been closed at a gap.
    left: usize,
    /// Closes that may be made now.
    allowance: f64,
    /// When the allowance was last added to, ms.
    counted_ms: u64,
    jitter: Jitter,
    /// The slots of clients that wait for their turn and for nothing else, the one that has waited longest in front. They are
    /// asked for in their order: to look at all of them at each tick would cost the square of their number.
    line: VecDeque<u32>,
}

impl Drain {
    /// A drain that begins at `now_ms` with `open` clients, each of which is quiet for `quiet_ms` before it is closed. `seed` is the
    /// core's own.
    pub fn new(options: DrainOptions, quiet_ms: u64, open: usize, now_ms: u64, seed: u64) -> Self {
        let half_ms = now_ms + options.deadline_ms.saturating_sub(now_ms) / 2;
        // The first close comes after the quiet time, and the last ones take the shortest time.
        let gone_by_ms = half_ms.saturating_sub(quiet_ms + SHORTEST_MS).max(now_ms);
        Self {
            options,
            half_ms,
            is_half_over: false,
            gone_by_ms,
            left: open,
            allowance: 1.0,
            counted_ms: now_ms,
            jitter: Jitter(seed),
            line: VecDeque::new(),
        }
    }

    /// Half of the time is over at `now_ms`, with `open` clients left, and was not when this was asked last. They are spread over
    /// half of what is left, so that there is time for those that take longer.
    pub fn begin_second_half(&mut self, open: usize, now_ms: u64) -> bool {
        if self.is_half_over || now_ms < self.half_ms {
            return false;
        }
        self.is_half_over = true;
        self.left = open;
        self.gone_by_ms = self.half_ms + self.options.deadline_ms.saturating_sub(self.half_ms) / 2;
        true
    }

    /// Whether half of its time is over, as the last tick found.
    pub fn is_half_over(&self) -> bool {
        self.is_half_over
    }

    /// When every client must be gone, ms since the process began.
    pub fn deadline_ms(&self) -> u64 {
        self.options.deadline_ms
    }

    /// The closes a second that are made at most, the jitter apart; `None` = as many as there are. As many as it takes for all
    /// to be gone in time: worked out anew each time, so that a stall is made up for.
    pub fn rate(&self, now_ms: u64) -> Option<f64> {
        let seconds = self.gone_by_ms.saturating_sub(now_ms).max(SHORTEST_MS) as f64 / 1e3;
        (self.options.closes_per_second > 0.0).then(|| self.options.closes_per_second.max(self.left as f64 / seconds))
    }

    /// Whether a client that is at a gap may be closed now. Its turn is used up, unless it is given back.
    pub fn take_turn(&mut self, now_ms: u64) -> bool {
        let Some(rate) = self.rate(now_ms) else { return true };
        if now_ms > self.counted_ms {
            let passed_seconds = (now_ms - self.counted_ms) as f64 / 1e3;
            self.counted_ms = now_ms;
            let more = passed_seconds * rate * self.jitter.next();
            // A burst is what a tenth of a second allows: after a stall the pace is not made up at once.
            self.allowance = (self.allowance + more).min((rate / 10.0).max(1.0));
        }
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

/// Factors around 1, the same ones from the same seed (`SplitMix64`).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// The next, evenly spread between `1 - JITTER` and `1 + JITTER`.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // As many bits as a fraction has.
        let fraction = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        1.0 + JITTER * (2.0 * fraction - 1.0)
    }
}

#[cfg(test)]
mod tests;
