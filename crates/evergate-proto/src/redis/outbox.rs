//! Sending: messages gathered into one pipelined batch of RPUSHes, each confirmed by its integer reply.
//!
//! What was written and not confirmed when the link breaks is never sent again: Redis may have it.

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::resp::{self, Token};

/// Names what a push carried, so that its failure can be told to the right client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The client's slot on its core.
    pub slot: u32,
    /// The slot's generation when the message was relayed.
    pub generation: u32,
    /// The conversation.
    pub n: u64,
    /// The envelope within the conversation.
    pub push: u32,
}

/// One message on its way to a Redis list.
#[derive(Debug)]
pub struct Push {
    /// The list.
    pub key: Rc<str>,
    /// The JSON of the bus message.
    pub message: Vec<u8>,
    /// Whom to tell if it fails; `None` for what the gateway sends for itself.
    pub ticket: Option<Ticket>,
}

/// A command that was written and whose reply has not been read.
#[derive(Debug)]
enum Sent {
    /// One RPUSH, with the tickets of its messages.
    Push { list: Rc<str>, tickets: Vec<Ticket> },
    /// An LPOP that takes nothing.
    Ask,
    /// A DEL; its reply matters to nobody who waits.
    Delete,
}

/// What a reply on the sending link meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Redis has the messages.
    Done {
        /// In this list.
        list: Rc<str>,
        /// How many of them were clients'.
        messages: u64,
        /// How long the list is now.
        length: u64,
    },
    /// Whether the list that was asked about is empty.
    Asked(bool),
    /// Redis deleted the key.
    Deleted,
    /// Redis refused to delete the key, in its own words.
    NotDeleted(String),
    /// Redis refused the messages.
    Refused {
        /// For this list.
        list: Rc<str>,
        /// Those of clients.
        tickets: Vec<Ticket>,
        /// Redis' own words.
        text: String,
    },
}

/// The sending half of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Not written yet, in order.
    waiting: Vec<Push>,
    /// Bytes of the messages in `waiting`.
    waiting_bytes: usize,
    /// Bytes of the messages in the batch that is being written.
    writing_bytes: usize,
    /// Keys to delete with the next batch.
    deletes: Vec<Rc<str>>,
    /// A list to ask about with the next batch.
    ask: Option<Rc<str>>,
    /// One was asked about, and Redis has not answered.
    is_asking: bool,
    /// Written, not answered, in order.
    sent: VecDeque<Sent>,
    /// The buffers of messages that were written, for whoever wants them.
    used: Vec<Vec<u8>>,
    /// Reused between batches: list -> its RPUSH of this batch.
    keys: FxHashMap<Rc<str>, usize>,
    /// Reused between batches: the messages of each RPUSH, as places in `waiting`.
    batches: Vec<Vec<usize>>,
    /// Empty, for the tickets of the next RPUSHes.
    spare: Vec<Vec<Ticket>>,
}

/// Bytes of messages in one batch, unless one alone has more: what is copied in one turn.
const BATCH_BYTES: usize = if cfg!(feature = "simulator") { 2_000 } else { 1024 * 1024 };
/// Empty vectors kept of one kind.
const SPARE_MAX: usize = 16;
/// Lists of one batch for which room is kept: to clear a table costs its room, however few it holds.
const KEYS_MAX: usize = 1024;
/// Tickets that a kept vector has room for at most.
const SPARE_TICKETS_MAX: usize = 4096;

impl Outbox {
    /// Queues a message for the next batch.
    pub fn push(&mut self, push: Push) {
        self.waiting_bytes += push.message.len();
        self.waiting.push(push);
    }

    /// Queues a DEL for the next batch.
    pub fn delete(&mut self, key: Rc<str>) {
        self.deletes.push(key);
    }

    /// Asks, behind the next batch, whether a list is empty, unless that is asked already.
    pub fn ask(&mut self, key: Rc<str>) {
        if !self.is_asking {
            self.ask = Some(key);
        }
    }

    /// Whether a list was asked about, and Redis has not answered.
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Messages that wait to be written.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.deletes.is_empty() && self.ask.is_none()
    }

    /// True when everything written has been answered.
    pub fn is_confirmed(&self) -> bool {
        self.unconfirmed() == 0
    }

    /// Commands that were written and have not been answered.
    pub fn unconfirmed(&self) -> usize {
        self.sent.len()
    }

    /// Bytes of the messages that wait or are being written.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes + self.writing_bytes
    }

    /// The kernel has taken the batch, or its link broke.
    pub fn written(&mut self) {
        self.writing_bytes = 0;
    }

    /// Appends a batch to `out`, which is no longer than a turn may take: one RPUSH a list, the messages of a list in their
    /// order; returns the commands. What is left is for the next batch.
    pub fn write(&mut self, out: &mut Vec<u8>) -> usize {
        let mut batches = std::mem::take(&mut self.batches);
        let (mut count, mut last) = (0, 0);
        let (taken, bytes) = self.next_batch();
        for (index, push) in self.waiting[..taken].iter().enumerate() {
            // Nearly all go to the router, whose name is held once.
            if index == 0 || !Rc::ptr_eq(&push.key, &self.waiting[index - 1].key) {
                last = *self.keys.entry(Rc::clone(&push.key)).or_insert(count);
                if last == count {
                    count += 1;
                    if batches.len() < count {
                        batches.push(Vec::new());
                    }
                }
            }
            batches[last].push(index);
        }
        out.reserve(bytes + 128 * (count + taken));
        let mut commands = count;
        for batch in &mut batches[..count] {
            resp::write_array(out, 2 + batch.len());
            resp::write_bulk(out, b"RPUSH");
            resp::write_bulk(out, self.waiting[batch[0]].key.as_bytes());
            let first = batch[0];
            let mut tickets = self.spare.pop().unwrap_or_default();
            for index in batch.drain(..) {
                resp::write_bulk(out, &self.waiting[index].message);
                tickets.extend(self.waiting[index].ticket);
            }
            self.sent.push_back(Sent::Push { list: Rc::clone(&self.waiting[first].key), tickets });
        }
        batches.truncate(SPARE_MAX);
        self.batches = batches;
        if taken == self.waiting.len() {
            commands += self.deletes.len();
            for key in self.deletes.drain(..) {
                resp::write_command(out, &[b"DEL", key.as_bytes()]);
                self.sent.push_back(Sent::Delete);
            }
        }
        if let Some(key) = self.ask.take() {
            // Takes nothing, and is told apart by Redis from 7.0 on: nil without a list, an empty array where there is one.
            resp::write_command(out, &[b"LPOP", key.as_bytes(), b"0"]);
            self.sent.push_back(Sent::Ask);
            self.is_asking = true;
            commands += 1;
        }
        self.keys.clear();
        if self.keys.capacity() > KEYS_MAX {
            self.keys = FxHashMap::default();
        }
        self.used.extend(self.waiting.drain(..taken).map(|push| push.message));
        self.writing_bytes = bytes;
        self.waiting_bytes -= bytes;
        commands
    }

    /// How many messages go with the next batch, at least one, and their bytes.
    fn next_batch(&self) -> (usize, usize) {
        if self.waiting_bytes <= BATCH_BYTES {
            return (self.waiting.len(), self.waiting_bytes);
        }
        let mut bytes = 0;
        let fits = |push: &&Push| {
            bytes += push.message.len();
            bytes <= BATCH_BYTES
        };
        let taken = self.waiting.iter().take_while(fits).count().max(1);
        (taken, self.waiting[..taken].iter().map(|push| push.message.len()).sum())
    }

    /// The buffers of the messages that were written.
    pub fn take_used(&mut self) -> std::vec::Drain<'_, Vec<u8>> {
        self.used.drain(..)
    }

    /// Takes the reply to the oldest command; `None` when no command waits for one or the reply has a wrong shape:
    /// the link must be given up.
    pub fn answer(&mut self, token: &Token<'_>) -> Option<Answer> {
        let sent = self.sent.pop_front()?;
        match (token, sent) {
            (Token::Integer(length), Sent::Push { list, mut tickets }) => {
                let (messages, length) = (tickets.len() as u64, u64::try_from(*length).unwrap_or(0));
                tickets.clear();
                if self.spare.len() < SPARE_MAX && tickets.capacity() <= SPARE_TICKETS_MAX {
                    self.spare.push(tickets);
                }
                Some(Answer::Done { list, messages, length })
            }
            (Token::Integer(_), Sent::Delete) => Some(Answer::Deleted),
            (Token::Error(text), Sent::Delete) => Some(Answer::NotDeleted(String::from_utf8_lossy(text).into_owned())),
            (Token::Error(text), Sent::Push { list, tickets }) => {
                Some(Answer::Refused { list, tickets, text: String::from_utf8_lossy(text).into_owned() })
            }
            // An older Redis says nil, or refuses the count: nobody waits for what is not known.
            (Token::Nil | Token::Error(_) | Token::Array(0), Sent::Ask) => {
                self.is_asking = false;
                Some(Answer::Asked(*token != Token::Array(0)))
            }
            (_, sent) => {
                self.sent.push_front(sent);
                None
            }
        }
    }

    /// The link broke: the tickets of what was written and not confirmed.
    pub fn take_unconfirmed(&mut self) -> Vec<Ticket> {
        self.is_asking = false;
        self.sent
            .drain(..)
            .flat_map(|sent| match sent {
                Sent::Push { tickets, .. } => tickets,
                Sent::Delete | Sent::Ask => Vec::new(),
            })
            .collect()
    }

    /// The bus is away: the tickets of what was never written.
    pub fn take_unsent(&mut self) -> Vec<Ticket> {
        self.deletes.clear();
        self.ask = None;
        self.waiting_bytes = 0;
        self.waiting.drain(..).filter_map(|push| push.ticket).collect()
    }
}
