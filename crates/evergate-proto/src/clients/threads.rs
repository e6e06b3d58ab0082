//! The threads of one client that have a session, a CONNECT pending, or envelopes that wait; and whose turn it is.
//!
//! An envelope waits for its own thread (a CONNECT of it is pending, or its session has something under way) or, if it holds
//! requests, for room (`parallel_max`). Each thread has a queue of its own. The first of a queue whose thread is free is
//! **ready**; the ready ones stand in the order in which they came. So what ends moves one thread, whatever else waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::by_name::{At, ByName};
use crate::json::judge::Judged;

/// What is kept of a message that waits.
#[derive(Debug)]
pub(super) struct Kept {
    /// It as it came.
    pub(super) text: Vec<u8>,
    /// It has been read before; a few bytes for each 32 KiB.
    pub(super) judged: Judged,
}

/// An envelope that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    kept: Kept,
    /// Its REQUESTs and CONNECTs.
    pub counted: usize,
    /// The how manieth of the client's that had to wait.
    number: u64,
}

#[cfg(any(test, feature = "simulator"))]
impl Waiting {
    /// The message as it came.
    pub fn text(&self) -> &[u8] {
        &self.kept.text
    }
}

/// Why a thread is not like any other: one of its conversations has a session, or asks for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// The conversation.
    pub(super) n: u64,
    /// It has the session.
    pub(super) connected: bool,
    /// Further envelopes of the thread must wait.
    pub(super) occupied: bool,
}

/// One thread.
#[derive(Debug, Default)]
struct Thread {
    /// What it is held by.
    hold: Option<Hold>,
    /// Its envelopes that wait, oldest first.
    waiting: VecDeque<Waiting>,
    /// The first of them is ready, or was taken and is being relayed.
    has_turn: bool,
}

impl Thread {
    fn is_occupied(&self) -> bool {
        self.hold.is_some_and(|hold| hold.occupied)
    }
}

/// Threads whose first envelope is ready, each with the number of that.
type Ready = BinaryHeap<Reverse<(u64, At)>>;

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The thread.
    pub(super) at: At,
    /// REQUESTs and CONNECTs of its first envelope.
    pub(super) counted: usize,
    /// Bytes of its text.
    pub(super) bytes: usize,
}

/// The threads of one client that are not like any other.
#[derive(Debug, Default)]
pub(super) struct Threads {
    table: ByName<Thread>,
    /// Those that hold requests, and wait for room.
    requests: Ready,
    /// DISCONNECTs alone, which wait for nothing any more.
    disconnects: Ready,
    /// Threads that may have become free. Whether they are shows when all that a reply changes has been changed: a CONNECT
    /// ends before its session begins.
    freed: Vec<At>,
    /// The number of the next that has to wait.
    next_number: u64,
    /// How many wait.
    waiting: usize,
    /// Bytes of their texts.
    waiting_bytes: usize,
}

impl Threads {
    /// Nothing is held and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Envelopes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of their texts.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    fn get(&self, thread: &str) -> Option<&Thread> {
        self.table.find(thread.as_bytes()).map(|at| &self.table[at])
    }

    /// The conversation whose session `thread` has.
    pub(super) fn session_of(&self, thread: &str) -> Option<u64> {
        self.get(thread)?.hold.filter(|hold| hold.connected).map(|hold| hold.n)
    }

    /// Whether a newcomer of `thread` must wait for its own thread: it is occupied, or others of it wait.
    pub(super) fn must_wait(&self, thread: &str) -> bool {
        self.get(thread).is_some_and(|thread| thread.is_occupied() || !thread.waiting.is_empty())
    }

    /// Whether requests wait for room.
    pub(super) fn is_request_ready(&self) -> bool {
        !self.requests.is_empty()
    }

    /// `thread` is held so from now on; `None`: by conversation `n` no longer.
    pub(super) fn hold(&mut self, thread: &str, n: u64, hold: Option<Hold>) {
        let at = self.table.find_or_add(thread.as_bytes());
        let thread = &mut self.table[at];
        assert!(thread.hold.is_none_or(|by| by.n == n), "one conversation of a thread has its session, or asks for it");
        thread.hold = hold;
        if thread.waiting.is_empty() {
            self.turn(at);
        } else if !thread.is_occupied() && !thread.has_turn {
            self.freed.push(at);
        }
    }

    /// An envelope of `thread` waits behind all others.
    pub(super) fn wait(&mut self, thread: &str, kept: Kept, counted: usize) {
        self.waiting += 1;
        self.waiting_bytes += kept.text.len();
        let number = self.next_number;
        self.next_number += 1;
        let at = self.table.find_or_add(thread.as_bytes());
        self.table[at].waiting.push_back(Waiting { kept, counted, number });
        self.turn(at);
    }

    /// The oldest that is ready; with `full`, of those that need no room.
    pub(super) fn next(&mut self, full: bool) -> Option<Turn> {
        while let Some(at) = self.freed.pop() {
            self.turn(at);
        }
        let requests = self.requests.peek().filter(|_| !full);
        // The greater is the older one.
        let Reverse((_, at)) = *requests.max(self.disconnects.peek())?;
        let first = self.table[at].waiting.front()?;
        Some(Turn { at, counted: first.counted, bytes: first.kept.text.len() })
    }

    /// Takes the envelope out whose turn it is; [`Self::taken`] must follow once it has been relayed.
    pub(super) fn take(&mut self, turn: Turn) -> Option<Kept> {
        let ready = if turn.counted == 0 { &mut self.disconnects } else { &mut self.requests };
        ready.pop();
        let thread = &mut self.table[turn.at];
        let first = thread.waiting.pop_front()?;
        if thread.waiting.is_empty() {
            thread.waiting = VecDeque::new();
        }
        self.waiting -= 1;
        self.waiting_bytes -= first.kept.text.len();
        Some(first.kept)
    }

    /// The envelope that was taken out has been relayed: what waits behind it has its turn, if the thread is free.
    pub(super) fn taken(&mut self, turn: Turn) {
        self.table[turn.at].has_turn = false;
        self.turn(turn.at);
        if self.waiting == 0 {
            (self.requests, self.disconnects, self.freed) = Default::default();
            self.table.pack();
        }
    }

    /// Gives the thread its turn if it is due to it; forgets it if it is like any other.
    fn turn(&mut self, at: At) {
        let thread = &mut self.table[at];
        if thread.has_turn {
            return;
        }
        match thread.waiting.front() {
            Some(first) if !thread.is_occupied() => {
                let ready = if first.counted == 0 { &mut self.disconnects } else { &mut self.requests };
                ready.push(Reverse((first.number, at)));
                thread.has_turn = true;
            }
            None if thread.hold.is_none() => self.table.remove(at),
            Some(_) | None => {}
        }
    }

    /// Places for threads, used or not.
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Everything that waits, in no order, for the tests.
    #[cfg(any(test, feature = "simulator"))]
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.table.iter().flat_map(|thread| &thread.waiting)
    }
}
