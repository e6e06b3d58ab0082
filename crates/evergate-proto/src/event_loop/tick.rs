//! Time on a core: one coarse tick, the phases of the process, the end of the core.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::{EventLoop, Host, in_ms};
use crate::clients::output::{Severity, SlotIndex};
use crate::clients::table::Clients;
use crate::counters;
use crate::lifecycle::Step;
use crate::ring::{Ring, Wait};

/// The tick: the resolution of every timer of a core.
const TICK: Duration = Duration::from_millis(20);
/// The same while the links are brought to their end.
const LAST_TICK: Duration = Duration::from_millis(5);
/// Every so many ticks activity lines that waited for more are written: each flush wakes the writer.
const ACTIVITY_TICKS: u64 = 5;
/// How long a tick works for the clients in one turn: thousands may have been due together for ten minutes.
const WORK: Duration = Duration::from_millis(2);
/// Every so many ticks clients that are not read from are looked at, and how many in one turn.
const PAUSED_TICKS: u64 = if cfg!(feature = "simulator") { 5 } else { 50 };
const PAUSED_MAX: usize = if cfg!(feature = "simulator") { 2 } else { 1_000 };
/// Every so many ticks the oldest thing waited for is published during a drain.
const OLDEST_TICKS: u64 = 25;

/// What is due.
#[derive(Debug)]
pub(super) struct Ticks {
    /// When the next is.
    next: Duration,
    /// How many have been.
    count: u64,
    /// The clients' part of the last is not over.
    is_unfinished: bool,
    /// Clients that are not read from and that nobody watches yet.
    unwatched: VecDeque<SlotIndex>,
    /// The core ends, at the latest then.
    until_ms: Option<u64>,
    has_ended: bool,
}

impl Ticks {
    /// The first is due now.
    pub fn new(now: Duration) -> Self {
        Self { next: now, count: 0, is_unfinished: false, unwatched: VecDeque::new(), until_ms: None, has_ended: false }
    }

    /// Another thread has woken the core: what it is about is looked at now.
    pub fn wake(&mut self) {
        self.next = Duration::ZERO;
    }

    /// How long none is due.
    pub fn until_next(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Whether the last goes on.
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished || !self.unwatched.is_empty()
    }

    /// Whether the core has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn is_time(&self, every: u64) -> bool {
        self.count.is_multiple_of(every)
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Does what is due.
    pub(super) fn tick(&mut self) {
        self.watch_paused();
        if self.ticks.until_ms.is_some() {
            return self.tick_to_the_end();
        }
        if !self.ticks.is_unfinished && self.began < self.ticks.next {
            return;
        }
        let began = self.host.now();
        let Self { clients, host, .. } = self;
        self.ticks.is_unfinished = !clients.tick(|| host.now().saturating_sub(began) < WORK);
        self.carry_out();
        if self.ticks.is_unfinished {
            return;
        }
        self.accepting.tick();
        self.count_bytes();
        let counts = self.clients.context.counts();
        counters::set(&counts.ring_overflows, self.ring.overflows());
        counters::set(&counts.descriptors_unclosed, self.ring.unclosed());
        if self.ticks.is_time(ACTIVITY_TICKS) {
            self.host.flush_activity();
        }
        self.links.tick(&mut self.clients);
        self.carry_out();
        if let Some(limits) = self.host.limits() {
            self.decide(|clients| clients.set_limits(limits));
        }
        if self.ticks.is_time(PAUSED_TICKS) && self.ticks.unwatched.is_empty() {
            self.ticks.unwatched.extend(self.clients.paused());
        }
        if self.ticks.is_time(OLDEST_TICKS) && self.life.is_draining() {
            self.publish_oldest();
        }
        self.answer();
        self.live();
        self.ticks.count += 1;
        self.ticks.next = self.host.now() + TICK;
    }

    /// The share was being closed and is so no longer: goes on with what waited for that.
    pub(super) fn live_on(&mut self) {
        if self.accepting.take_news() && self.ticks.until_ms.is_none() {
            self.live();
        }
    }

    /// Does what the core's life calls for.
    fn live(&mut self) {
        let now_ms = self.now_ms();
        // While the share is being closed, nothing else is decided.
        while let Some(listener) = self.accepting.state() {
            match self.life.next(now_ms, &self.host.orders(), listener, self.clients.is_empty()) {
                Step::Wait => {
                    let drained = self.life.drained(listener, self.clients.is_empty());
                    return self.clients.context.core().drained.store(drained, SeqCst);
                }
                Step::OpenListener => self.open_listeners(),
                Step::CloseListener => {
                    self.accepting.close();
                    self.accept();
                }
                Step::BeginDrain(options) => self.decide(|clients| clients.begin_drain(options)),
                Step::CancelDrain => self.decide(Clients::cancel_drain),
                Step::DrainDeadline => self.decide(Clients::drain_deadline),
                Step::Stop { code, draining } => self.decide(|clients| clients.stop(code, draining)),
                Step::End { links_max_ms } => return self.begin_end(links_max_ms),
            }
        }
    }

    fn publish_oldest(&mut self) {
        if let Ok(mut oldest) = self.clients.context.core().oldest.try_lock() {
            *oldest = self.clients.oldest();
        }
    }

    /// A client that is not read from cannot tell that it is gone: has it watched.
    fn watch_paused(&mut self) {
        for _ in 0..PAUSED_MAX {
            let Some(slot) = self.ticks.unwatched.pop_front() else { break };
            if self.clients.is_paused(slot) {
                self.watch(slot);
            }
        }
    }

    /// Nobody is left, or nobody is waited for: what is left (DISCONNECTs) is pushed, the core's own list deleted, and the
    /// confirmations waited for as long as is decent.
    fn begin_end(&mut self, links_max_ms: u64) {
        if let Ok(mut oldest) = self.clients.context.core().oldest.try_lock() {
            *oldest = None;
        }
        self.decide(Clients::say_counted);
        let (clients, bytes) = self.clients.undelivered();
        if clients > 0 {
            let core = self.clients.context.core_index();
            let text = format!("core {core} ends with {bytes} bytes not delivered to {clients} of its clients");
            self.host.log(Severity::Warn, text);
        }
        self.links.end();
        self.ticks.until_ms = Some(self.now_ms() + links_max_ms);
    }

    fn tick_to_the_end(&mut self) {
        let now = self.host.now();
        let Some(until_ms) = self.ticks.until_ms else { return };
        if self.links.are_done() || in_ms(now) >= until_ms {
            return self.end();
        }
        if now >= self.ticks.next {
            self.links.tick(&mut self.clients);
            self.carry_out();
            self.ticks.next = now + LAST_TICK;
        }
    }

    /// The last of all: whoever is left sees an end.
    fn end(&mut self) {
        self.ticks.has_ended = true;
        self.host.flush_activity();
        // What was decided last is on its way, then; the core ends all the same.
        let _ = self.enter(Wait::No);
        for (_, connection) in self.connections.all() {
            self.ring.shutdown(connection.socket, Shutdown::Both);
        }
    }
}
