//! What the kernel of one run is like.

use crate::random::Random;

/// How often it does what; percents, unless it is said otherwise.
pub struct Habits {
    /// What could complete completes later.
    pub delays: usize,
    /// The most completions that one entry tells.
    pub told_max: usize,
    /// Entries of the submission queue.
    pub queue_max: usize,
    /// An operation that goes on ends.
    pub ends: usize,
    /// An accept fails.
    pub accept_fails: usize,
    /// A send takes less than it could.
    pub sends_less: usize,
    /// A quiet send takes nothing.
    pub takes_nothing: usize,
    /// A receive brings less than has come.
    pub brings_less: usize,
    /// What is cancelled brings something first, if it can.
    pub cancels_late: usize,
    /// What is cancelled goes on for a while.
    pub cancels_linger: usize,
    /// An entry is over before its time, with nothing.
    pub returns_early: usize,
    /// Opening a socket, naming a peer, refusing handshakes fails.
    pub calls_fail: usize,
    /// Buffers of the pools, and their bytes.
    pub pools: [(u16, u32); 2],
    /// What an entry takes at most, ns.
    pub entry_ns: u64,
    /// By how much a sleep is over too late at most, ns.
    pub late_ns: u64,
}

impl Habits {
    pub fn new(r: &mut Random) -> Self {
        let rarely = |r: &mut Random, often: usize| if r.percent(40) { 0 } else { r.below(often + 1) };
        Self {
            delays: [0, 0, 10, 40, 75][r.below(5)],
            told_max: [1, 2, 5, 20, 1_000, 1_000][r.below(6)],
            queue_max: [2, 5, 16, 64, 4_096, 4_096][r.below(6)],
            ends: rarely(r, 15),
            accept_fails: rarely(r, 30),
            sends_less: rarely(r, 50),
            takes_nothing: rarely(r, 60),
            brings_less: rarely(r, 60),
            cancels_late: rarely(r, 90),
            cancels_linger: [0, 0, 30, 85][r.below(4)],
            returns_early: rarely(r, 20),
            calls_fail: rarely(r, 10),
            pools: [
                (r.between(1, 8) as u16, [16, 64, 300, 1_000, 4_096, 4_096, 4_096][r.below(7)]),
                (r.between(1, 4) as u16, [32, 200, 2_000, 8_000, 8_000][r.below(5)]),
            ],
            entry_ns: [1_000, 20_000, 20_000, 300_000][r.below(4)],
            late_ns: [1, 60_000, 60_000, 1_000_000][r.below(4)],
        }
    }
}
