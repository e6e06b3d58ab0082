//! How a core waits for its next turn.
//!
//! As a rule it leaves that to the ring, which sleeps until something has come. A core that waits only shortly does better, at
//! either end, and so does one that has nothing to do:
//!
//! - With no message for a while it sleeps in poll(2), not in the ring: the kernel counts who waits in a ring as one who waits for
//!   a disk (`procs_blocked`, `/proc/pressure/io`, iowait), and each idle core would look like a broken one. What is not among
//!   the descriptors waits for the next tick at most.
//! - With few requests in flight the next message is about to come, and to wake a CPU that sleeps takes long on a
//!   virtual machine: a lone request passes two such sleeps, as much as all the work done for it. So the core looks.
//! - With many in flight and little to do in each turn, most of a turn is what every turn costs: waking up, asking who is ready,
//!   a write to Redis. The core sleeps a moment in any case, so that more gathers for the next; as network cards do
//!   (interrupt moderation), and for the same reason.
//!
//! Figures: docs/performance.md, "How a core waits".

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use evergate_proto::counters;
use evergate_proto::waiting::Looking;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::time::TimeSpec;
use smallvec::SmallVec;

use super::Core;
use super::notify::Notify;
use super::stream::Stream;

#[cfg(test)]
mod tests;

/// What is short besides the time that the core would look: what waking up may add to a wait.
const WAKE_UP: Duration = Duration::from_micros(100);
/// Short waits in a row before the core lets messages gather.
const SHORT_WAITS: u32 = 16;
/// Requests in flight for which a wake-up is too much.
const FEW_PENDING: u64 = 4;
/// Requests in flight of which more are sure to come in a moment.
const MANY_PENDING: u64 = 200;
/// Messages for which a turn is too much.
const FEW_MESSAGES: usize = 16;
/// The moment. With the kernel's timer slack and the wake-up it is about 100 µs.
const GATHER: Duration = Duration::from_micros(20);

/// A wait after which a core counts as idle: where messages come faster, poll(2) is a system call too many.
const IDLE_WAIT: Duration = Duration::from_millis(5);

/// What to do before the ring waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Sleep outside the ring.
    Rest,
    /// Look for what comes.
    Look,
    /// Let more gather.
    Gather,
}

/// What a core knows of its last waits and turns.
#[derive(Debug)]
pub struct Waits {
    /// How long it looks.
    looking: RefCell<Looking>,
    /// When the last turn was over; `None` = there was none yet.
    idle_since: Cell<Option<Instant>>,
    /// Short waits in a row.
    short_in_a_row: Cell<u32>,
    /// The last wait was one of an idle core.
    idle: Cell<bool>,
    /// When the next tick is due.
    next_tick: Cell<Option<Instant>>,
    /// Messages since the last wait.
    messages: Cell<usize>,
    /// When the core began to work, after the ring was asked last.
    working_since: Cell<Option<Instant>>,
    /// A turn is over.
    turn: Notify,
    /// A turn is under way.
    in_turn: Cell<bool>,
    /// Something may be done before the next.
    is_wait_special: Cell<bool>,
    /// Where replies come from, while there is such a link.
    pops: RefCell<Option<Rc<Stream>>>,
    /// Where clients come from, while they are taken.
    listener: RefCell<Option<Rc<TcpListener>>>,
}

impl Waits {
    /// Looks for at most so long, where that pays.
    pub fn new(look_max: Duration) -> Self {
        Self {
            looking: RefCell::new(Looking::new(look_max)),
            idle_since: Cell::default(),
            short_in_a_row: Cell::default(),
            idle: Cell::default(),
            next_tick: Cell::default(),
            messages: Cell::default(),
            working_since: Cell::default(),
            turn: Notify::default(),
            in_turn: Cell::default(),
            is_wait_special: Cell::default(),
            pops: RefCell::default(),
            listener: RefCell::default(),
        }
    }

    /// Replies come from `stream`, or from nowhere.
    pub fn set_pops(&self, stream: Option<Rc<Stream>>) {
        self.pops.replace(stream);
    }

    /// Clients come from `listener`, or from nowhere.
    pub fn set_listener(&self, listener: Option<Rc<TcpListener>>) {
        self.listener.replace(listener);
    }

    /// The core has ticked; the next tick is due after `tick`.
    pub fn ticked(&self, tick: Duration) {
        self.next_tick.set(Instant::now().checked_add(tick));
        if self.idle_since.get().is_none_or(|since| since.elapsed() >= IDLE_WAIT) {
            self.idle.set(true);
            self.is_wait_special.set(true);
            self.turn.notify();
        }
    }

    /// The core works: the first time since the ring was asked, its turn begins.
    #[inline]
    pub fn works(&self) {
        if self.working_since.get().is_none() {
            self.working_since.set(Some(Instant::now()));
            // Of a turn the end is told: what it wakes is to be done before the core looks for more.
            if !self.in_turn.get() {
                self.turn.notify();
            }
        }
    }

    /// How long the core has worked since the ring was asked last.
    pub fn worked(&self) -> Duration {
        self.working_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A turn begins.
    pub fn begin_turn(&self) {
        self.in_turn.set(true);
        if let Some(since) = self.idle_since.take() {
            let waited = since.elapsed();
            let mut looking = self.looking.borrow_mut();
            looking.waited(waited);
            let is_short = waited <= looking.most() + WAKE_UP;
            self.idle.set(!is_short && waited >= IDLE_WAIT);
            self.short_in_a_row.set(if is_short { self.short_in_a_row.get().saturating_add(1) } else { 0 });
        }
    }

    /// The turn is over, and was for so many messages.
    pub fn end_turn(&self, messages: usize) {
        self.messages.set(self.messages.get() + messages);
        self.idle_since.set(Some(Instant::now()));
        if self.is_in_flow() || self.idle.get() || !self.looking.borrow().next().is_zero() {
            self.is_wait_special.set(true);
        }
        self.in_turn.set(false);
        self.turn.notify();
    }

    /// Whether its waits were short many times in a row.
    fn is_in_flow(&self) -> bool {
        self.short_in_a_row.get() >= SHORT_WAITS
    }

    /// What the core does before it waits, with so many requests in flight.
    fn before(&self, pending: u64) -> Before {
        let messages = self.messages.take();
        if self.idle.get() {
            Before::Rest
        } else if pending <= FEW_PENDING && !self.looking.borrow().next().is_zero() {
            Before::Look
        } else if pending >= MANY_PENDING && messages < FEW_MESSAGES && self.is_in_flow() {
            Before::Gather
        } else {
            Before::Nothing
        }
    }

    /// Sleeps until one of `others`, a reply or a client has come, or the next tick is due.
    fn rest(&self, others: &[BorrowedFd<'_>]) {
        let left = self.next_tick.get().and_then(|tick| tick.checked_duration_since(Instant::now()));
        let (Some(left), pops, listener) = (left, self.pops.borrow(), self.listener.borrow()) else { return };
        let ours = pops.iter().map(|pops| pops.as_fd()).chain(listener.iter().map(|listener| listener.as_fd()));
        let mut awaited: SmallVec<[PollFd<'_>; 8]> =
            others.iter().copied().chain(ours).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Whatever woke it, the ring is asked next.
        let _ = ppoll(&mut awaited, Some(TimeSpec::from_duration(left)), None);
    }

    /// Looks until there is something, which costs no sleep, or until it has looked for long enough; how long it has.
    fn look(&self, readiness: &impl AsFd) -> Duration {
        let (pops, most) = (self.pops.borrow(), self.looking.borrow().next());
        let Some(pops) = &*pops else { return Duration::ZERO };
        let began = Instant::now();
        let mut awaited = [readiness.as_fd(), pops.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        while poll(&mut awaited, PollTimeout::ZERO) == Ok(0) && began.elapsed() < most {}
        let looked = began.elapsed();
        self.looking.borrow_mut().looked(looked);
        looked
    }
}

/// Does what is to be done before each wait, for the life of the core.
pub async fn run(core: Rc<Core>) {
    let waits = &core.waits;
    loop {
        // The tasks that the turn woke were woken before, and have run.
        waits.turn.notified().await;
        let worked = waits.worked();
        waits.working_since.set(None);
        core.published().worked(worked);
        if !waits.is_wait_special.take() {
            continue;
        }
        match waits.before(core.pending()) {
            Before::Nothing => {}
            Before::Rest => rest(&core),
            Before::Look => {
                let looked = waits.look(&core.readiness);
                counters::add(&core.counts().looked_us, looked.as_micros() as u64);
            }
            Before::Gather => {
                std::thread::sleep(GATHER);
                // That was no wait.
                waits.idle_since.set(Some(Instant::now()));
            }
        }
    }
}

/// Sleeps outside the ring, unless something is under way there that no descriptor tells of: a link that is being opened, bytes
/// that a client or Redis has not taken. What the tasks have queued for the ring since it was asked last is no such thing: it
/// waits for descriptors that are awaited here as well.
fn rest(core: &Core) {
    if core.counts().sending.load(Relaxed) > 0 || core.shell_bytes() > 0 || !core.bus.links(|links| links.are_quiet()) {
        return;
    }
    let confirmations = core.bus.confirmations();
    let mut others: SmallVec<[BorrowedFd<'_>; 4]> = confirmations.iter().map(|stream| stream.as_fd()).collect();
    others.push(core.readiness.as_fd());
    core.waits.rest(&others);
}
