//! What the main thread is asked, and how it answers.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::config::ListenAt;
use crate::unix_socket::SocketFile;

/// Who is at the other end (`SO_PEERCRED`), as of when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process; 0 where that is in another namespace.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

impl Peer {
    /// Whether a process of that user takes sockets from it: it is the user's own, or root's.
    pub fn is_trusted_by(self, user: u32) -> bool {
        self.uid == 0 || self.uid == user
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}

/// Who asks for something that may be asked for in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A process of this host, by the control socket.
    Process(Peer),
    /// A browser, by the admin page.
    Page(IpAddr),
}

impl From<Peer> for Asker {
    fn from(peer: Peer) -> Self {
        Self::Process(peer)
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(peer) => peer.fmt(f),
            Self::Page(address) => write!(f, "{address} by the admin page"),
        }
    }
}

/// A listening socket and where it is.
pub type Listening = (OwnedFd, ListenAt);

/// What a successor is given.
#[derive(Debug, Default)]
pub struct Lent {
    /// Copies of the listening sockets.
    pub sockets: Vec<Listening>,
    /// Which files are those of its Unix sockets.
    pub files: Vec<SocketFile>,
    /// The service manager listens there as well, and goes on when nobody serves.
    pub is_kept: bool,
}

/// A process that wants to take over. Its `connection` tells it from every other, also one of the same process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The number of the connection on which it asked.
    pub connection: u64,
    /// The process.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// Where it would listen.
    pub listen: Vec<ListenAt>,
    /// Its program knows of Unix sockets.
    pub takes_unix: bool,
}

/// What a drain is about, once it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainBegun {
    /// It had begun before.
    pub already: bool,
    /// Until the port closes; 0 when it is closed.
    pub port_closes_in_seconds: f64,
    /// Until whoever is left is cut off.
    pub seconds_left: f64,
    /// Clients that drains closed which were cancelled since: the counters hold them, too.
    #[serde(default)]
    pub closed_before: u64,
}

/// What the main thread is asked. A `Replace` that is granted is followed by exactly one `Ready` or `Gone` of the same successor.
#[derive(Debug)]
pub enum Request {
    /// To drain.
    Drain {
        /// Who asks.
        by: Asker,
        /// How far it is.
        reply: Reply<DrainBegun>,
    },
    /// To take a drain back.
    Cancel {
        /// Who asks.
        by: Asker,
        /// Done, or why not.
        reply: Reply<()>,
    },
    /// To hand over the listening sockets.
    Replace {
        /// Who asks.
        peer: Peer,
        /// Who would take over.
        successor: Successor,
        /// Copies of the sockets, or why not.
        reply: Reply<Lent>,
    },
    /// The successor serves, its links to the bus are up: to drain.
    Ready {
        /// Who.
        successor: Successor,
        /// It drains, or why not.
        reply: Reply<()>,
    },
    /// The successor comes to nothing: its connection has ended, or its time is over.
    Gone {
        /// Who.
        successor: Successor,
        /// What is known of it, for the log.
        why: String,
    },
}

/// The way back to whoever asked. Dropped, it says that the process ends.
#[derive(Debug)]
pub struct Reply<T>(Way<T>);

/// Whom it leads to.
#[derive(Debug)]
enum Way<T> {
    /// A thread, which waits.
    Thread(SyncSender<Result<T, String>>),
    /// A task of the admin page.
    Task(oneshot::Sender<Result<T, String>>),
}

impl<T> Reply<T> {
    /// A reply, and where it is waited for.
    pub(super) fn channel() -> (Self, Receiver<Result<T, String>>) {
        let (sender, receiver) = sync_channel(1);
        (Self(Way::Thread(sender)), receiver)
    }

    /// The same for a task.
    pub fn to_task() -> (Self, oneshot::Receiver<Result<T, String>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Way::Task(sender)), receiver)
    }

    /// Answers, without waiting; an error says what is wrong and what to do. Whoever has gone meanwhile does not hear it.
    pub fn answer(self, answer: Result<T, String>) {
        // There is room for the only one.
        match self.0 {
            Way::Thread(sender) => drop(sender.try_send(answer)),
            Way::Task(sender) => drop(sender.send(answer)),
        }
    }
}
