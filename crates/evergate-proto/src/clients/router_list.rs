//! The router's list, as far as Redis tells of it: the answer to an RPUSH is the length of the list.
//!
//! All calls go through that one list, and the router takes them one after the other: how long it is is how long everybody waits.
//! So it is kept short. From `router_queue_max` on an address has one message there at a time: whoever sends much waits here, and
//! who sends little passes. A large message holds the router up by itself: of those, one at a time is in the list.
//!
//! A list is first in, first out, so a length tells which of our messages may still be there. Where it stood longer than it
//! may, nothing tells when that is over, but another push; then an `LPOP` that takes nothing asks whether the list is empty.

/// A message of so many bytes is large: it takes the router as long as dozens of others.
pub const LARGE_BYTES: usize = if cfg!(feature = "simulator") { 400 } else { 64 * 1024 };

/// So many times more may be in a list in which a large message is.
const BEHIND_LARGE: u64 = 8;

/// What Redis has said of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterNews {
    /// It has taken so many more messages of ours, and the list was so long then.
    Took {
        /// Messages of one RPUSH.
        messages: u64,
        /// Those in the list, others' included.
        length: u64,
    },
    /// It has refused so many messages.
    Refused {
        /// Messages of one RPUSH.
        messages: u64,
    },
    /// The list was empty.
    Empty,
    /// What was under way is lost, and nothing is known.
    Lost,
}

/// What is known of it. Messages have numbers, from 1, in the order in which they were given.
#[derive(Debug, Default)]
pub struct RouterList {
    /// Those that were given.
    given: u64,
    /// Those about which Redis has answered.
    answered: u64,
    /// Those that are known to have left the list.
    left: u64,
    /// How long the list was at the last answer, others' messages included.
    told: u64,
    /// The last large one.
    last_large: u64,
}

impl RouterList {
    /// A message was given; its number.
    pub(super) fn gave(&mut self, bytes: usize) -> u64 {
        self.given += 1;
        if bytes >= LARGE_BYTES {
            self.last_large = self.given;
        }
        self.given
    }

    /// Redis has said something.
    pub(super) fn heard(&mut self, news: RouterNews) {
        match news {
            RouterNews::Took { messages, length } => {
                self.answer(messages);
                self.told = length;
                // Ours that are in it still are among its last ones.
                self.left = self.left.max(self.answered.saturating_sub(length));
            }
            RouterNews::Refused { messages } => self.answer(messages),
            RouterNews::Empty => (self.told, self.left) = (0, self.answered),
            RouterNews::Lost => (self.told, self.answered, self.left) = (0, self.given, self.given),
        }
    }

    /// What was given before the link broke may be answered after it.
    fn answer(&mut self, messages: u64) {
        self.answered = (self.answered + messages).min(self.given);
    }

    /// Its length, as far as is known; what Redis has not answered about is counted as if it were there.
    pub(super) fn len(&self) -> u64 {
        self.told + self.given - self.answered
    }

    /// Whether it is longer than it may be. A large one holds it up by itself, and those behind it are not to blame: so many more may
    /// wait there.
    pub(super) fn is_long(&self, max: u64) -> bool {
        max > 0 && self.len() >= if self.has_large() { max.saturating_mul(BEHIND_LARGE) } else { max }
    }

    /// Whether that message may be there still.
    pub(super) fn has(&self, number: u64) -> bool {
        number > self.left
    }

    /// Whether a large one may.
    pub(super) fn has_large(&self) -> bool {
        self.has(self.last_large)
    }
}
