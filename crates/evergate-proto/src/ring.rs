//! What a core asks of the kernel, and what comes of it: io_uring, as far as it matters to decisions.
//!
//! A core is one loop: completions in, decisions, submissions out. It takes its ring as a parameter. The gateway's enters the kernel
//! (`src/core/ring`); the simulator's answers in any order, with every error that a kernel may return. So the interface is the
//! kernel's own and hides none of its turns: an operation that goes on until it says that it does not ([`Completion::more`]), a
//! receive that ends for want of buffers, a cancel that races with what it cancels, a send that was short.
//!
//! Names are those of `io_uring(7)` and `io_uring_enter(2)`.

use std::fmt;
use std::net::Shutdown;
use std::ops::Range;
use std::time::Duration;

use crate::redis::dial::Place;
use crate::websocket::net::Address;

/// A descriptor of this core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket(pub i32);

/// An error of the kernel's (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// Try again: nothing is queued on a listener that does not block.
    pub const AGAIN: Self = Self(11);
    /// No memory.
    pub const NOMEM: Self = Self(12);
    /// The system is out of descriptors.
    pub const NFILE: Self = Self(23);
    /// The process is out of descriptors.
    pub const MFILE: Self = Self(24);
    /// The peer has ended the connection.
    pub const PIPE: Self = Self(32);
    /// The connection was given up before it was accepted.
    pub const CONNABORTED: Self = Self(103);
    /// The peer has reset the connection.
    pub const CONNRESET: Self = Self(104);
    /// No buffer was provided.
    pub const NOBUFS: Self = Self(105);
    /// Nobody answers.
    pub const TIMEDOUT: Self = Self(110);
    /// Nobody listens.
    pub const CONNREFUSED: Self = Self(111);
    /// The operation was cancelled.
    pub const CANCELED: Self = Self(125);

    /// The kernel's word for it.
    pub fn text(self) -> String {
        std::io::Error::from_raw_os_error(self.0).to_string()
    }

    /// Whether there was nothing to have it done with: it may work once others have given something back.
    pub fn is_exhausted(self) -> bool {
        [Self::MFILE, Self::NFILE, Self::NOBUFS, Self::NOMEM].contains(&self)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "errno {}", self.0)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Takes connections.
    Accept = 1,
    /// Receives from a client.
    Receive,
    /// Sends to a client.
    Send,
    /// Waits for the end of a client that is not read from.
    WatchEnd,
    /// Connects a link to Redis.
    LinkConnect,
    /// Receives from Redis.
    LinkReceive,
    /// Sends to Redis.
    LinkSend,
    /// Another thread woke the core.
    Wake,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Accept,
        Self::Receive,
        Self::Send,
        Self::WatchEnd,
        Self::LinkConnect,
        Self::LinkReceive,
        Self::LinkSend,
        Self::Wake,
    ];
}

/// Some of the [`Kind`]s: what is under way on one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);

    const fn bit(kind: Kind) -> u16 {
        1 << kind as u16
    }

    /// One more.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= Self::bit(kind);
    }

    /// One less.
    pub fn remove(&mut self, kind: Kind) {
        self.0 &= !Self::bit(kind);
    }

    /// Whether it is one of them.
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & Self::bit(kind) > 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

/// Names an operation that is under way. A completion that names another generation than that of the place is not for whoever has the
/// place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// A client's slot, or a link's number.
    pub place: u32,
    /// Which of those that have had the place: the low 24 bits count.
    pub generation: u32,
}

/// Bits of a generation that a completion brings back.
pub const GENERATION_BITS: u32 = 0x00ff_ffff;

impl Op {
    /// The operation of `kind` for the `generation` of `place`.
    pub fn new(kind: Kind, place: u32, generation: u32) -> Self {
        Self { kind, place, generation: generation & GENERATION_BITS }
    }

    /// As the kernel carries it (`user_data`); never 0.
    pub fn to_bits(self) -> u64 {
        u64::from(self.kind as u8) << 56 | u64::from(self.generation & GENERATION_BITS) << 32 | u64::from(self.place)
    }

    /// The operation that `bits` name; `None` where they name none.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let kind = *Kind::ALL.get(usize::try_from(bits >> 56).ok()?.checked_sub(1)?)?;
        Some(Self { kind, place: bits as u32, generation: (bits >> 32) as u32 & GENERATION_BITS })
    }
}

/// Which buffers a receive takes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Many small ones, for those of whom little comes at a time.
    Light,
    /// A few large ones, for those that send much: they take turns.
    Heavy,
}

/// A buffer of the ring's with received bytes. It must be given back: what is dropped is lost to the pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not given back is lost to its pool"]
pub struct Lent {
    /// Where it belongs.
    pub pool: Pool,
    /// Which one it is.
    pub id: u16,
    /// Bytes in it.
    pub len: u32,
}

/// How an operation went, or how it goes on.
#[derive(Debug)]
pub struct Completion {
    /// Which it is.
    pub op: Op,
    /// Bytes received or sent, the descriptor accepted, or 0; for a receive 0 is the peer's end.
    pub result: Result<u32, Errno>,
    /// The operation is still under way, and will complete again. Without it it is over, whatever the result.
    pub more: bool,
    /// What a receive from a [`Pool`] brought.
    pub lent: Option<Lent>,
    /// What [`Ring::send`] or [`Ring::receive_into`] was given; what was received stands behind what was there.
    pub buffer: Option<Vec<u8>>,
}

/// What [`Ring::empty`] found.
#[derive(Debug, Default)]
pub struct Emptied {
    /// Connections that were queued.
    pub taken: Vec<Socket>,
    /// The listener has stopped listening; else more are queued, or there may be.
    pub is_over: bool,
    /// Why what was queued may be lost.
    pub error: Option<Errno>,
}

/// How long [`Ring::enter`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something has completed, at most so long.
    Something(Duration),
    /// So long in any case where `completions` have not come before; from then on until something has, at most `most` in all.
    Gather {
        /// The time in which more gathers.
        least: Duration,
        /// With so many the wait is over.
        completions: u32,
        /// The longest wait.
        most: Duration,
    },
}

/// The kernel's side of a core. Submissions are queued, in order, until [`Self::enter`]; where there are too many of them,
/// the first are submitted before.
///
/// No two operations of one name are under way at a time. What is sent, received into or connected to is of another kind
/// than [`Kind::Accept`], [`Kind::Receive`] and [`Kind::WatchEnd`], for whose operations the ring keeps no memory.
/// [`Kind::Wake`] is the ring's own: it goes on by itself, and a completion of it says that another thread has woken the
/// core, once or more often.
pub trait Ring {
    /// Takes connections from a listener: one, or (`multishot`) one after the other. A completion's result is the
    /// descriptor.
    fn accept(&mut self, op: Op, listener: Socket, multishot: bool);

    /// Receives into a buffer of `pool`, chosen when bytes have come: once, or (`multishot`) again and again.
    fn receive(&mut self, op: Op, socket: Socket, pool: Pool, multishot: bool);

    /// Receives once into the room that `buffer` has behind its bytes. There must be some: without it the result is 0,
    /// like the peer's end. The completion gives the buffer back.
    ///
    /// `whole`: so many bytes are waited for (`MSG_WAITALL`) and no more are taken, though fewer may come all the same; 0:
    /// whatever comes first.
    fn receive_into(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, whole: usize);

    /// Sends the bytes `range` of `buffer`, or the first part of them. The completion gives the buffer back.
    ///
    /// `quiet`: it does not wait for room, and ends no wait. What the kernel does not take at once is left, which may be all
    /// (a result of 0); how it went is told behind the next [`Self::enter`] in any case.
    fn send(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, range: Range<usize>, quiet: bool);

    /// Completes, with 0, when the peer has ended the connection or it has broken; reads nothing.
    fn watch_end(&mut self, op: Op, socket: Socket);

    /// Connects.
    fn connect(&mut self, op: Op, socket: Socket, place: &Place);

    /// Has an operation completed at once, with [`Errno::CANCELED`] unless it completes otherwise meanwhile. Of the cancel itself
    /// nothing is told; where no such operation is under way nothing happens.
    fn cancel(&mut self, op: Op);

    /// Shuts one side of a connection, or both: at once, and before what was queued. Of how it went nothing is told.
    fn shutdown(&mut self, socket: Socket, how: Shutdown);

    /// Gives a descriptor back, behind what was queued before. Only when no operation on it is under way.
    fn close(&mut self, socket: Socket);

    /// Submits what was queued, and waits. `Err` is a defect of the ring, not of an operation.
    fn enter(&mut self, wait: Wait) -> Result<(), Errno>;

    /// The next completion of the last [`Self::enter`]. What has completed since then is for the next one, which then does not
    /// wait: so a turn has an end, whatever fails at once and is started again.
    fn next(&mut self) -> Option<Completion>;

    /// Whether nothing of an operation has completed that was not told: what has come of it may be for the next [`Self::enter`].
    fn is_told(&self, op: Op) -> bool;

    /// The bytes of a buffer.
    fn bytes(&mut self, lent: &Lent) -> &mut [u8];

    /// Takes a buffer back into its pool.
    fn give_back(&mut self, lent: Lent);

    /// A socket for a link to `place`: no delay, and given up when what was sent over TCP is not acknowledged for `dead`.
    fn open(&mut self, place: &Place, dead: Duration) -> Result<Socket, Errno>;

    /// Whom an accepted connection belongs to.
    fn peer(&mut self, socket: Socket) -> Result<Address, Errno>;

    /// Bytes that the kernel has taken and the peer's TCP has not acknowledged, our FIN among them (`SIOCOUTQ`).
    fn unacknowledged(&mut self, socket: Socket) -> u64;

    /// How often completions came faster than their queue could hold: each time may have ended operations that go on.
    fn overflows(&self) -> u64;

    /// How many descriptors could not be closed: a defect of whoever named them.
    fn unclosed(&self) -> u64;

    /// Bytes that have come and were not received (`SIOCINQ`).
    fn unread(&mut self, socket: Socket) -> u64;

    /// Takes what is queued on a listener, not more than `most`, and has it stop listening where that was all, or `anyway`:
    /// in one go, for whoever is established between the last accept and the end is reset. Only when no accept on it is
    /// under way.
    fn empty(&mut self, listener: Socket, most: u64, anyway: bool) -> Emptied;

    /// Has a listener drop every new handshake; those under way are completed.
    fn refuse_new(&mut self, listener: Socket) -> Result<(), Errno>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_were_put_in_and_not_taken_out() {
        let mut kinds = Kinds::default();
        assert!(kinds.is_empty());
        for kind in Kind::ALL {
            kinds.insert(kind);
        }
        kinds.remove(Kind::Send);
        kinds.remove(Kind::Send);
        assert!(!kinds.is_empty() && !kinds.contains(Kind::Send) && kinds.contains(Kind::Wake));
        assert!(kinds.iter().eq(Kind::ALL.into_iter().filter(|kind| *kind != Kind::Send)));
    }

    #[test]
    fn an_operation_survives_the_way_through_the_kernel() {
        for kind in Kind::ALL {
            for (place, generation) in [(0, 0), (1, 2), (u32::MAX, GENERATION_BITS), (7, u32::MAX)] {
                let op = Op::new(kind, place, generation);
                assert_eq!(Op::from_bits(op.to_bits()), Some(op));
                assert_ne!(op.to_bits(), 0);
            }
        }
        for bits in [0, 9 << 56, u64::MAX] {
            assert_eq!(Op::from_bits(bits), None, "{bits:#x}");
        }
    }
}
