//! Which clients have something to be read: one set a core, and one entry of the ring for all of them.
//!
//! The set is epoll's, told of changes only (`EPOLLET`), and the ring waits for the set. A poll of the ring for each client,
//! armed again after each message, costs more than the whole set, and a task besides; one that stays armed on a second ring
//! costs as much as the set (docs/performance.md, "One set of clients a core").

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use evergate_proto::clients::output::SlotIndex;
use monoio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::stream::Stream;

/// Clients that are read in one turn; then what they sent goes to the bus, and the others have their turn.
pub const TURN_MAX: usize = 64;

/// What is told of a client, when it becomes so. Urgent data (`EPOLLPRI`) is, because a read stops short of it.
const CHANGES: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLPRI).union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);

/// Room for what one turn is told.
pub type Events = [EpollEvent; TURN_MAX];

/// A client that has something to be read.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Where it stands in the core's table. Its predecessor there may be meant: then there is nothing to be read.
    pub slot: SlotIndex,
    /// One read may leave something behind however little it brings: the peer has ended the connection, it has broken, or
    /// urgent data is on its way.
    pub unfinished: bool,
}

/// The clients of a core that have something to be read. One that is closed is forgotten by the kernel itself.
#[derive(Debug)]
pub struct Readiness {
    set: Epoll,
    /// The set again, as something that the ring can wait for.
    on_ring: Stream,
    /// Always readable; in the set, but told of only when asked.
    more: EventFd,
}

/// What [`Readiness::more`] is told of as: no slot.
const MORE: u64 = u64::MAX;

impl AsFd for Readiness {
    /// Readable when somebody has something to be read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.0.as_fd()
    }
}

impl Readiness {
    /// Nobody is watched.
    pub fn new() -> io::Result<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // No TCP stream: monoio has no type for "something to poll" and asks nothing of this one but polls.
        let on_ring = TcpStream::from_std(set.0.try_clone()?.into())?;
        let more = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC)?;
        set.add(&more, EpollEvent::new(EpollFlags::empty(), MORE))?;
        Ok(Self { set, on_ring: Stream::new(on_ring), more })
    }

    /// Watches the connection of the client in `slot` until it is closed.
    pub fn watch(&self, stream: &Stream, slot: SlotIndex) -> io::Result<()> {
        Ok(self.set.add(stream, EpollEvent::new(CHANGES, slot.into()))?)
    }

    /// Has the client told again, in a later turn, if there is something to be read then.
    pub fn look_again(&self, stream: &Stream, slot: SlotIndex) {
        if let Err(error) = self.set.modify(stream, &mut EpollEvent::new(CHANGES, slot.into())) {
            // It is in the set as long as it is open.
            tracing::error!("host: a client cannot be watched any more: {error}");
        }
    }

    /// Has [`Self::next`] return once more without waiting: there is more to be done.
    pub fn come_back(&self) {
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        if let Err(error) = self.set.modify(&self.more, &mut EpollEvent::new(once, MORE)) {
            tracing::error!("host: a core cannot wake itself: {error}");
        }
    }

    /// Waits until somebody has something to be read, or the core has more to do: who that is.
    pub async fn next(&self, events: &mut Events) -> io::Result<impl Iterator<Item = Ready> + Clone> {
        self.on_ring.readable().await?;
        let count = match self.set.wait(events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        Ok(events[..count]
            .iter()
            .filter(|event| event.data() != MORE)
            .map(|event| Ready { slot: event.data() as SlotIndex, unfinished: event.events() != EpollFlags::EPOLLIN }))
    }
}
