//! Receiving: `BLPOP key 0` and `LPOP key n` in pairs, several pairs queued ahead.
//!
//! The first command of a pair waits for a message; the second takes what has gathered behind it, so that
//! a busy core pops in batches and an idle one is woken by its first message. A Redis before 6.2 has no `LPOP key n`: there
//! as many BLPOPs are queued ahead as make up for it.

use super::resp::{self, Token};

/// Pairs that are queued ahead: the next pop is in Redis before the reply of the last has been read.
const PAIRS_AHEAD: usize = 16;
/// With no more left, as many again are written. A lone client's reply uses up one, and each write wakes Redis: this is one
/// for every twelve replies.
const PAIRS_FEW: usize = 4;
/// BLPOPs that are queued ahead where there is no `LPOP key n`, at least and at most; with a quarter left as many again are
/// written. All of them together should carry what the pairs do.
const SINGLES_AHEAD: (usize, usize) = (16, 512);
/// Bytes that one pop should carry.
const POP_BYTES: usize = 512 * 1024;
/// The most elements of one pop. With fewer, replies gather in Redis while a busy core takes on more requests, and
/// clients' books are cold when they come (docs/performance.md, "What is answered goes out first").
const POP_MAX: usize = 256;

/// What the next token must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The header of a BLPOP's reply.
    First,
    /// The key in a BLPOP's reply.
    Key,
    /// The message in a BLPOP's reply.
    Value,
    /// The header of an LPOP's reply.
    Rest,
    /// An LPOP's elements, that many left.
    Elements(usize),
}

/// Redis answered something that a pop does not answer; the link must be given up.
#[derive(Debug, PartialEq, Eq)]
pub enum Unexpected {
    /// An error of Redis', in its own words.
    Refused(String),
    /// A reply of the wrong shape.
    Shape,
}

/// The pops of one key on one connection.
#[derive(Debug)]
pub struct Inbox {
    /// The core's own bus address.
    key: Box<str>,
    /// Where the reader stands in the current reply.
    expect: Expect,
    /// `LPOP key n` is there.
    counts: bool,
    /// Pairs, or BLPOPs alone, written and not answered in full.
    pairs: usize,
    /// Elements per LPOP in the pairs that will be written next.
    pop: usize,
    /// Mean bytes of a message, over about the last eight.
    mean_bytes: usize,
    /// Messages of the pop that is being read.
    popped: usize,
    /// Messages of the pop that ended with the last token; 0 where none did.
    ended: usize,
}

impl Inbox {
    /// Pops `key` on a new connection.
    pub fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            expect: Expect::First,
            counts: true,
            pairs: 0,
            pop: 16,
            mean_bytes: 0,
            popped: 0,
            ended: 0,
        }
    }

    /// The same from a Redis before 6.2.
    pub fn without_counts(key: &str) -> Self {
        Self { counts: false, ..Self::new(key) }
    }

    /// Whether [`Self::write`] has something.
    pub fn wants_pops(&self) -> bool {
        self.pairs <= if self.counts { PAIRS_FEW } else { self.singles_ahead() / 4 }
    }

    /// BLPOPs that should be queued ahead where there is no `LPOP key n`.
    fn singles_ahead(&self) -> usize {
        let (fewest, most) = SINGLES_AHEAD;
        (PAIRS_AHEAD * POP_BYTES / self.mean_bytes.max(1)).clamp(fewest, most)
    }

    /// Appends what must be written to keep pairs queued ahead; returns how many commands that is.
    /// Waits until most of them are used up, so that most replies cost no write.
    pub fn write(&mut self, out: &mut Vec<u8>) -> usize {
        if !self.counts {
            return self.write_singles(out);
        }
        if !self.wants_pops() {
            return 0;
        }
        let pairs = PAIRS_AHEAD - self.pairs;
        let mut digits = [0_u8; 4];
        let count = decimal(self.pop, &mut digits);
        for _ in 0..pairs {
            resp::write_command(out, &[b"BLPOP", self.key.as_bytes(), b"0"]);
            resp::write_command(out, &[b"LPOP", self.key.as_bytes(), count]);
        }
        self.pairs = PAIRS_AHEAD;
        pairs * 2
    }

    fn write_singles(&mut self, out: &mut Vec<u8>) -> usize {
        if !self.wants_pops() {
            return 0;
        }
        let ahead = self.singles_ahead();
        let singles = ahead - self.pairs;
        for _ in 0..singles {
            resp::write_command(out, &[b"BLPOP", self.key.as_bytes(), b"0"]);
        }
        self.pairs = ahead;
        singles
    }

    /// Takes one token of the replies; gives back a message when the token is one.
    pub fn token<'a>(&mut self, token: &Token<'a>) -> Result<Option<&'a [u8]>, Unexpected> {
        if let Token::Error(text) = token
            && !(self.expect == Expect::First && text.starts_with(b"UNBLOCKED "))
        {
            return Err(Unexpected::Refused(String::from_utf8_lossy(text).into_owned()));
        }
        if self.pairs == 0 {
            return Err(Unexpected::Shape);
        }
        let pairs = self.pairs;
        let (expect, message) = match (self.expect, token) {
            (Expect::First, Token::Array(2)) => (Expect::Key, None),
            // A BLPOP that was unblocked from outside (CLIENT UNBLOCK, TIMEOUT or ERROR): the LPOP follows as usual.
            (Expect::First, Token::Nil | Token::Error(_)) => (self.first_done(), None),
            (Expect::Key, Token::Bulk(_)) => (Expect::Value, None),
            (Expect::Value, Token::Bulk(message)) => (self.first_done(), Some(*message)),
            (Expect::Rest, Token::Nil | Token::Array(0)) => (self.pair_done(), None),
            (Expect::Rest, Token::Array(n)) => (Expect::Elements(*n), None),
            (Expect::Elements(left), Token::Bulk(message)) => {
                (if left > 1 { Expect::Elements(left - 1) } else { self.pair_done() }, Some(*message))
            }
            _ => return Err(Unexpected::Shape),
        };
        self.expect = expect;
        self.popped += usize::from(message.is_some());
        self.ended = if self.pairs < pairs { std::mem::take(&mut self.popped) } else { 0 };
        if let Some(message) = message {
            self.mean_bytes = (self.mean_bytes * 7 + message.len()) / 8;
            self.pop = (POP_BYTES / self.mean_bytes.max(1)).clamp(1, POP_MAX);
        }
        Ok(message)
    }

    /// Messages that a pop has taken which ended with the last token, if one did.
    pub fn ended(&self) -> Option<usize> {
        (self.ended > 0).then_some(self.ended)
    }

    /// Elements that the next LPOP will ask for.
    pub fn pop_size(&self) -> usize {
        self.pop
    }

    /// A BLPOP is answered.
    fn first_done(&mut self) -> Expect {
        if self.counts { Expect::Rest } else { self.pair_done() }
    }

    fn pair_done(&mut self) -> Expect {
        self.pairs -= 1;
        Expect::First
    }
}

fn decimal(mut n: usize, digits: &mut [u8; 4]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 || at == 0 {
            return &digits[at..];
        }
    }
}
