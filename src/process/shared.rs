//! What every thread of the process can see: its phase, its clock, its deadlines, what the log was told of the bus, and the cores'
//! counters.

use std::fmt;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::bus_said::BusSaid;
use super::inquiries::{Asked, Inquiries};
use super::listeners::{Share, Shares};
use super::signals::Wake;
use crate::config::Listen;
use crate::core::ring::Waker;
use evergate_proto::counters;
use evergate_proto::event_loop::{Answer, Inquiry};
use evergate_proto::lifecycle::{Left, Orders, Phase};
use nix::time::{ClockId, clock_gettime};

/// What every thread of the process can see.
pub struct Shared {
    /// A millisecond before the process began, by [`coarse`]: every `*_ms` counts from here, and 0 says "never".
    began: Duration,
    phase: AtomicU8,
    /// Which drain is under way; 0 while there is none.
    drain: AtomicU32,
    /// Drains that have begun.
    drains: AtomicU32,
    /// When the cores close their listener shares for the last drain that was begun, ms since `began`.
    drain_start_ms: AtomicU64,
    /// When the time of that drain is over, ms since `began`.
    drain_deadline_ms: AtomicU64,
    /// Clients that had been closed before it, by drains that were cancelled.
    closed_before: AtomicU64,
    /// Listeners that others have, too, and go on with: bits of [`Left`].
    left: AtomicU64,
    /// What each core is to take connections from, and has not asked for yet.
    listeners: Box<[Mutex<Vec<Share>>]>,
    /// What each core is asked, and has not answered yet.
    inquiries: Box<[Inquiries]>,
    /// What the process listens on, as configured.
    listening: OnceLock<Vec<Listen>>,
    /// The WebSocket close code of a stop: 1001, or 1011 when a core failed.
    pub stop_code: AtomicU64,
    /// When a core last said that the process is out of descriptors, ms; 0 = never.
    pub exhausted_said_ms: AtomicU64,
    /// What the log was told of the links to the bus.
    pub bus_said: BusSaid,
    /// What wakes the main thread.
    main: Option<Arc<Wake>>,
    /// What wakes each core, once it runs.
    wakers: Box<[OnceLock<Waker>]>,
    /// One entry a core.
    pub cores: Arc<[counters::Core]>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("orders", &self.orders()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Everything at its beginning, with one set of counters for each of `cpus`.
    pub fn new(cpus: &[usize]) -> Self {
        Self {
            main: None,
            began: coarse().saturating_sub(Duration::from_millis(1)),
            phase: AtomicU8::new(Phase::Starting as u8),
            drain: AtomicU32::new(0),
            drains: AtomicU32::new(0),
            drain_start_ms: AtomicU64::new(0),
            drain_deadline_ms: AtomicU64::new(0),
            closed_before: AtomicU64::new(0),
            left: AtomicU64::new(0),
            listeners: cpus.iter().map(|_| Mutex::default()).collect(),
            inquiries: cpus.iter().map(|_| Inquiries::default()).collect(),
            listening: OnceLock::new(),
            stop_code: AtomicU64::new(1001),
            exhausted_said_ms: AtomicU64::new(0),
            bus_said: BusSaid::default(),
            wakers: cpus.iter().map(|_| OnceLock::new()).collect(),
            cores: counters::Core::for_each(cpus),
        }
    }

    /// The same, with what wakes the main thread.
    #[must_use]
    pub fn waking(self, main: Arc<Wake>) -> Self {
        Self { main: Some(main), ..self }
    }

    /// The time since the process began; at least a millisecond.
    pub fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        now.saturating_sub(self.began)
    }

    /// Milliseconds since the process began; never 0.
    pub fn now_ms(&self) -> u64 {
        coarse().saturating_sub(self.began).as_millis() as u64
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        Phase::ALL[self.phase.load(SeqCst) as usize]
    }

    /// What the process wants of its cores. Read one by one while they may be written: the phase is written last where a drain
    /// begins, and first where it is cancelled.
    pub fn orders(&self) -> Orders {
        Orders {
            phase: self.phase(),
            drain: self.drain.load(SeqCst),
            drain_start_ms: self.drain_start_ms.load(SeqCst),
            drain_deadline_ms: self.drain_deadline_ms.load(SeqCst),
            stop_code: self.stop_code.load(SeqCst) as u16,
            left: Left::from_bits(self.left.load(SeqCst)),
        }
    }

    /// Moves on to `phase`; never back. Says whether that was a change, of which the cores hear at once.
    pub fn enter(&self, phase: Phase) -> bool {
        let is_change = self.phase.fetch_max(phase as u8, SeqCst) < phase as u8;
        if is_change {
            self.wake();
        }
        is_change
    }

    fn wake(&self) {
        self.wakers.iter().filter_map(OnceLock::get).for_each(Waker::wake);
    }

    /// A drain begins: the shares of the port are closed at `start_ms`, and its time is over at `deadline_ms`. False where one is
    /// under way, or the process stops.
    pub fn drain(&self, start_ms: u64, deadline_ms: u64) -> bool {
        if self.phase() >= Phase::Draining {
            return false;
        }
        self.drain_start_ms.store(start_ms, SeqCst);
        self.drain_deadline_ms.store(deadline_ms, SeqCst);
        let closed =
            |counts: &counters::Counts| counts.closed_at_gap.load(Relaxed) + counts.closed_at_deadline.load(Relaxed);
        self.closed_before.store(self.cores.iter().map(|core| closed(&core.counts)).sum(), SeqCst);
        self.drain.store(self.drains.fetch_add(1, SeqCst) + 1, SeqCst);
        self.enter(Phase::Draining)
    }

    /// The drain under way is cancelled, and each core goes on with what is [`given`](Self::give_listeners) to it. False where there is
    /// none.
    pub fn cancel_drain(&self) -> bool {
        let (draining, serving) = (Phase::Draining as u8, Phase::Serving as u8);
        let is_cancelled = self.phase.compare_exchange(draining, serving, SeqCst, SeqCst).is_ok();
        if is_cancelled {
            self.drain.store(0, SeqCst);
            self.wake();
        }
        is_cancelled
    }

    /// Whether a drain is under way, or was when the process was stopped.
    pub fn has_drain(&self) -> bool {
        self.drain.load(SeqCst) > 0
    }

    /// Clients that had been closed before the last drain that was begun, by others that were cancelled.
    pub fn closed_before(&self) -> u64 {
        self.closed_before.load(SeqCst)
    }

    /// When the shares of the port are closed by the drain under way, ms.
    pub fn drain_start_ms(&self) -> u64 {
        self.drain_start_ms.load(SeqCst)
    }

    /// What is left of the time of the drain under way, ms; none where there is none.
    pub fn drain_left_ms(&self) -> Option<u64> {
        self.has_drain().then(|| self.drain_deadline_ms.load(SeqCst).saturating_sub(self.now_ms()))
    }

    /// Whether nobody is left on any core, of those that the drain under way waited for.
    pub fn is_drained(&self) -> bool {
        let drain = self.drain.load(SeqCst);
        drain > 0 && self.cores.iter().all(|core| core.drained.load(SeqCst) == drain)
    }

    /// Ends a wait of the main thread, from any other.
    pub fn wake_main(&self) {
        if let Some(wake) = &self.main {
            wake();
        }
    }

    /// A link is up. A process that starts waits for the first ones.
    pub fn link_is_up(&self) {
        if self.phase() == Phase::Starting {
            self.wake_main();
        }
    }

    /// Whether every core has its links to the bus.
    pub fn has_links(&self) -> bool {
        self.cores.iter().all(|core| core.bus_state().is_linked())
    }

    /// Whether every core has closed its share of the port.
    pub fn has_closed_port(&self) -> bool {
        self.cores.iter().all(|core| core.listener_closed.load(SeqCst))
    }

    /// From now on these listeners, once closed, are left to others who have them, too.
    pub fn leave(&self, left: Left) {
        self.left.store(left.to_bits(), SeqCst);
    }

    /// The process listens on these from now on.
    pub fn listens_on(&self, listening: Vec<Listen>) {
        // That does not change in its life.
        let _ = self.listening.set(listening);
    }

    /// What the process listens on; nothing before it has begun to.
    pub fn listening(&self) -> &[Listen] {
        self.listening.get().map_or(&[], Vec::as_slice)
    }

    /// Each core is to take connections from its share when it serves next, and from nothing that it was given and has not taken.
    pub fn give_listeners(&self, shares: Shares) {
        for (core, listeners) in self.listeners.iter().zip(shares) {
            *core.lock().unwrap_or_else(PoisonError::into_inner) = listeners;
        }
    }

    /// What a core was given, by its own thread. Whoever gives does so before the core is told that it serves.
    pub fn take_listeners(&self, core: usize) -> Vec<Share> {
        std::mem::take(&mut *self.listeners[core].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks a core about its clients; where its answer will come, or none where too much waits for that core.
    pub fn ask(&self, core: usize, inquiry: Inquiry) -> Option<Receiver<Answer>> {
        let answer = self.inquiries[core].ask(inquiry);
        self.wakers[core].get().into_iter().for_each(Waker::wake);
        answer
    }

    /// What a core is asked, by its own thread.
    pub fn take_inquiry(&self, core: usize) -> Option<Asked> {
        self.inquiries[core].take()
    }

    /// The core is to be woken by this from now on.
    pub fn woken_by(&self, core: usize, waker: Waker) {
        // Each core has one ring in its life.
        let _ = self.wakers[core].set(waker);
    }
}

/// The monotonic clock as of the kernel's last tick (1 to 10 ms ago), which costs a fifth of a precise reading: cores ask
/// several times for each request, and no timer of theirs is finer.
fn coarse() -> Duration {
    // It cannot fail: the clock exists since Linux 2.6.32.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_the_0_that_says_never() {
        assert!((0..1_000).all(|_| Shared::new(&[0]).now_ms() > 0));
    }
}
