//! Where the process stands in its life. Readiness, systemd, `/status` and the logs derive from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use crate::counters;

/// The life of the process, in order. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Options read, sockets bound, cores started; the bus may not have been reached yet.
    Starting = 0,
    /// Clients are taken and served.
    Serving = 1,
    /// SIGUSR1 came: no new clients once the grace is over; each connection ends at its idle gap, all at the deadline.
    Draining = 2,
    /// SIGTERM or SIGINT came, a core failed, or the drain is done: connections are closed and the process ends.
    Stopping = 3,
}

impl Phase {
    /// The word for `/status` and the logs.
    pub fn name(self) -> &'static str {
        ["starting", "serving", "draining", "stopping"][self as usize]
    }
}

/// What every thread of the process can see.
#[derive(Debug)]
pub struct Shared {
    /// When the process began; every `*_ms` of the counters counts from here.
    pub began: Instant,
    phase: AtomicU8,
    /// Milliseconds since `began` at which the drain's deadline passes; 0 while there is no drain.
    pub drain_deadline_ms: AtomicU64,
    /// Milliseconds since `began` at which the cores close their listener shares; 0 while there is no drain.
    pub drain_start_ms: AtomicU64,
    /// The WebSocket close code of a stop: 1001, or 1011 when a core failed.
    pub stop_code: AtomicU64,
    /// When a core last said that the process is out of descriptors, ms; 0 = never.
    pub exhausted_said_ms: AtomicU64,
    /// One entry a core.
    pub cores: Arc<[counters::Core]>,
}

impl Shared {
    /// Everything at its beginning, with one set of counters for each of `cpus`.
    pub fn new(cpus: &[usize]) -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            drain_deadline_ms: AtomicU64::new(0),
            drain_start_ms: AtomicU64::new(0),
            stop_code: AtomicU64::new(1001),
            exhausted_said_ms: AtomicU64::new(0),
            cores: cpus.iter().map(|&cpu| counters::Core::new(cpu)).collect(),
        }
    }

    /// Milliseconds since the process began.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        [Phase::Starting, Phase::Serving, Phase::Draining, Phase::Stopping][self.phase.load(SeqCst) as usize]
    }

    /// Moves on to `phase`; never back. Says whether that was a change.
    pub fn enter(&self, phase: Phase) -> bool {
        self.phase.fetch_max(phase as u8, SeqCst) < phase as u8
    }
}
