//! How the gateway learned which clients have something to be read, before it had its own event loop; kept to be measured.
//!
//! One set holds them all, and one entry of the ring waits for it. The set is epoll's, told of changes only (`EPOLLET`). A
//! poll of the ring for each client, armed again after each message, cost more than the whole set, and a task besides
//! (docs/performance.md, "One set of clients a core").

use std::io;

use monoio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::stream::Stream;

/// Clients that are read in one turn.
pub const TURN_MAX: usize = 64;

/// What is told of a client, when it becomes so. The echo does without urgent data (`EPOLLPRI`), but the gateway had it
/// watched.
const CHANGES: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLPRI).union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);

/// Room for what one turn is told.
pub type Events = [EpollEvent; TURN_MAX];

/// The clients that have something to be read. One that is closed is forgotten by the kernel itself.
#[derive(Debug)]
pub struct Readiness(Epoll);

impl Readiness {
    /// Nobody is watched.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// The set again, as something that the ring can wait for.
    pub fn on_ring(&self) -> io::Result<TcpStream> {
        // No TCP stream: monoio has no type for "something to poll" and asks nothing of this one but polls.
        TcpStream::from_std(self.0.0.try_clone()?.into())
    }

    /// Watches the connection of the client in `slot` until it is closed.
    pub fn watch(&self, stream: &Stream, slot: u32) -> io::Result<()> {
        Ok(self.0.add(stream, EpollEvent::new(CHANGES, slot.into()))?)
    }

    /// The slots of those who have something to be read, without waiting. A predecessor there may be meant: then there is
    /// nothing to be read.
    pub fn now(&self, events: &mut Events) -> io::Result<impl Iterator<Item = usize>> {
        let count = match self.0.wait(events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        Ok(events[..count].iter().map(|event| event.data() as usize))
    }
}
