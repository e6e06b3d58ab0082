//! How a core waits for its next turn.
//!
//! As a rule it leaves that to the ring, which sleeps until something has come. A core that has waited only shortly many times in
//! a row does better, at either end:
//!
//! - With few requests in flight the next message is about to come, and to wake a CPU that sleeps takes 25 to 50 µs on a virtual
//!   machine: a lone request passes two such sleeps, as much as all the work done for it. The core looks, instead.
//! - With many in flight and little to do in each turn, most of a turn is what every turn costs: waking up, asking who is ready,
//!   a write to Redis. The core sleeps a moment in any case, so that more gathers for the next; as network cards do
//!   (interrupt moderation), and for the same reason.

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

/// What is short besides the time that the core would look: what waking up may add to a wait.
const WAKE_UP: Duration = Duration::from_micros(100);
/// Short waits in a row before the core does anything but sleep until something comes.
const SHORT_WAITS: u32 = 16;
/// Requests in flight for which a wake-up is too much.
const FEW_PENDING: u64 = 4;
/// Requests in flight of which more are sure to come in a moment.
const MANY_PENDING: u64 = 200;
/// Messages for which a turn is too much.
const FEW_MESSAGES: usize = 16;
/// The moment. With the kernel's timer slack and the wake-up it is about 100 µs.
const GATHER: Duration = Duration::from_micros(20);

/// What to do before the ring waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Look for what comes.
    Look,
    /// Let more gather.
    Gather,
}

/// What a core knows of its last waits and turns.
#[derive(Debug)]
pub struct Waits {
    /// How long it looks at most; zero: never.
    look_max: Duration,
    /// When the last turn was over; `None` = there was none yet.
    idle_since: Cell<Option<Instant>>,
    /// Short waits in a row.
    short_in_a_row: Cell<u32>,
    /// Messages since the last wait.
    messages: Cell<usize>,
    /// A turn is over, and something may be done before the next.
    turn: Notify,
    /// Where replies come from, while there is such a link.
    pops: RefCell<Option<Rc<Stream>>>,
}

impl Waits {
    /// Looks for at most so long, where that pays.
    pub fn new(look_max: Duration) -> Self {
        Self {
            look_max,
            idle_since: Cell::default(),
            short_in_a_row: Cell::default(),
            messages: Cell::default(),
            turn: Notify::default(),
            pops: RefCell::default(),
        }
    }

    /// Replies come from `stream`, or from nowhere.
    pub fn set_pops(&self, stream: Option<Rc<Stream>>) {
        self.pops.replace(stream);
    }

    /// A turn begins, for so many messages.
    pub fn begin_turn(&self, messages: usize) {
        self.messages.set(self.messages.get() + messages);
        if let Some(since) = self.idle_since.take() {
            let is_short = since.elapsed() <= self.look_max + WAKE_UP;
            self.short_in_a_row.set(if is_short { self.short_in_a_row.get().saturating_add(1) } else { 0 });
        }
    }

    /// The turn is over.
    pub fn end_turn(&self) {
        self.idle_since.set(Some(Instant::now()));
        if self.short_in_a_row.get() >= SHORT_WAITS {
            self.turn.notify();
        }
    }

    /// What the core does before it waits, with so many requests in flight.
    fn before(&self, pending: u64) -> Before {
        let messages = self.messages.take();
        if pending <= FEW_PENDING && !self.look_max.is_zero() {
            Before::Look
        } else if pending >= MANY_PENDING && messages < FEW_MESSAGES {
            Before::Gather
        } else {
            Before::Nothing
        }
    }

    /// Looks until there is something, which costs no sleep, or until it has looked for long enough.
    fn look(&self, readiness: &impl AsFd) {
        let pops = self.pops.borrow();
        let Some(pops) = &*pops else { return };
        let began = Instant::now();
        let mut awaited = [readiness.as_fd(), pops.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        while poll(&mut awaited, PollTimeout::ZERO) == Ok(0) {
            if began.elapsed() >= self.look_max {
                self.short_in_a_row.set(0);
                return;
            }
        }
    }
}

/// Does what is to be done before each wait, for the life of the core.
pub async fn run(core: Rc<Core>) {
    let waits = &core.waits;
    loop {
        // The tasks that the turn woke were woken before, and have run.
        waits.turn.notified().await;
        match waits.before(core.pending()) {
            Before::Nothing => {}
            Before::Look => waits.look(&core.readiness),
            Before::Gather => {
                std::thread::sleep(GATHER);
                // That was no wait.
                waits.idle_since.set(Some(Instant::now()));
            }
        }
    }
}
