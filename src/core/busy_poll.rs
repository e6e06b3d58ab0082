//! Looking for the next message before the core sleeps, where the next message is about to come.
//!
//! To wake a CPU that sleeps takes 25 to 50 µs on a virtual machine, and a lone request passes two such sleeps of its core: as
//! much as all the work done for it. A core that has few requests in flight and has slept only shortly many times in a row will
//! do so again: it looks instead. A busy core has more in flight and a quiet one sleeps longer; neither looks.

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Core;
use super::notify::Notify;
use super::stream::Stream;

#[cfg(test)]
mod tests;

/// Short waits in a row before the core looks instead of sleeping.
const SHORT_WAITS: u32 = 16;
/// What waking up may add to a wait that is slept.
const WAKE_UP: Duration = Duration::from_micros(100);
/// Requests in flight for which a wake-up is too much; among more it counts for little.
const PENDING_MAX: u64 = 4;

/// When a core looks, and where.
#[derive(Debug)]
pub struct BusyPoll {
    /// How long it looks; zero: never.
    limit: Duration,
    /// When it had nothing more to do; `None` = it works, or nobody wants to know.
    idle_since: Cell<Option<Instant>>,
    /// Short waits in a row.
    short_waits: Cell<u32>,
    /// A turn is over.
    turn: Notify,
    /// Where replies come from, while there is such a link.
    pops: RefCell<Option<Rc<Stream>>>,
}

impl BusyPoll {
    /// Looks for `limit`, once that pays.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            idle_since: Cell::default(),
            short_waits: Cell::default(),
            turn: Notify::default(),
            pops: RefCell::default(),
        }
    }

    /// Replies come from `stream`, or from nowhere.
    pub fn set_pops(&self, stream: Option<Rc<Stream>>) {
        self.pops.replace(stream);
    }

    /// A turn begins.
    pub fn begin_turn(&self) {
        if let Some(since) = self.idle_since.take() {
            let is_short = since.elapsed() <= self.limit + WAKE_UP;
            self.short_waits.set(if is_short { self.short_waits.get().saturating_add(1) } else { 0 });
        }
    }

    /// The turn is over, and so many requests wait for their replies.
    pub fn end_turn(&self, pending: u64) {
        if pending > PENDING_MAX {
            self.short_waits.set(0);
        } else if !self.limit.is_zero() {
            self.turn.notify();
        }
    }

    /// Whether the next wait will probably be short.
    fn pays(&self) -> bool {
        self.short_waits.get() >= SHORT_WAITS
    }

    /// Looks until there is something, which costs no sleep, or until it has looked for long enough.
    fn look(&self, readiness: &impl AsFd, pops: &Stream) {
        let began = Instant::now();
        let mut awaited = [readiness.as_fd(), pops.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        while poll(&mut awaited, PollTimeout::ZERO) == Ok(0) {
            if began.elapsed() >= self.limit {
                self.short_waits.set(0);
                return;
            }
        }
    }
}

/// Looks at the end of each turn where that pays, for the life of the core.
pub async fn run(core: Rc<Core>) {
    let this = &core.busy_poll;
    loop {
        // The tasks that the turn woke were woken before, and have run.
        this.turn.notified().await;
        this.idle_since.set(Some(Instant::now()));
        if let (true, Some(pops)) = (this.pays(), &*this.pops.borrow()) {
            this.look(&core.readiness, pops);
        }
    }
}
