//! The books of one client: its conversations, what is pending in each, and its backlog.
//!
//! A conversation is one envelope sent to the router and all that follows from it (ARCHITECTURE.md, "How one message travels").

use std::rc::Rc;

use evergate_prefetch::prefetch;

use super::conversation::Conversation;
use super::conversations::Conversations;
use super::outstanding::Unanswered;
use super::pendings::Pending;
use super::reuse::Reuse;
#[cfg(any(test, feature = "simulator"))]
use super::threads::Waiting;
use super::threads::{Hold, Kept, Threads, Turn};
use crate::opensrf::envelope::Kind;

/// A book that held more conversations or threads at once is not kept.
const KEPT_MAX: usize = 16;

/// The conversations of one client and the envelopes that wait. Owns no memory when there are none.
#[derive(Debug, Default)]
pub struct Book {
    /// The number that the next conversation gets.
    next_n: u64,
    /// `None` where nothing is pending, connected or waiting.
    open: Option<Box<Open>>,
}

/// A book in which something is written. Lent by [`Reuse`] and given back when the last entry has ended.
#[derive(Debug, Default)]
pub(super) struct Open {
    conversations: Conversations,
    /// Threads with a session, or a CONNECT pending, and what waits.
    threads: Threads,
    /// REQUESTs and CONNECTs pending, over all conversations.
    pending: usize,
    /// CONNECTs among them.
    connecting: usize,
    /// Conversations that are connected.
    sessions: usize,
    /// Envelopes about which nothing has come, over all conversations.
    unanswered: u32,
    /// The number of the last one in the router's list, while anything is unanswered.
    router_number: u64,
}

impl Book {
    /// It will be asked for soon.
    pub(super) fn prefetch(&self) {
        if let Some(open) = &self.open {
            prefetch(&**open);
        }
    }

    fn sum(&self, of: impl FnOnce(&Open) -> usize) -> usize {
        self.open.as_deref().map_or(0, of)
    }

    /// Gives the memory back where nothing is pending, connected or waiting any more.
    pub(super) fn rest(&mut self, reuse: &mut Reuse) {
        if let Some(open) = self.open.take_if(|open| open.conversations.len() == 0 && open.threads.is_empty()) {
            reuse.give_book(open);
        }
    }

    /// REQUESTs and CONNECTs pending.
    pub fn pending(&self) -> usize {
        self.sum(|open| open.pending)
    }

    /// CONNECTs pending.
    pub fn connecting(&self) -> usize {
        self.sum(|open| open.connecting)
    }

    /// Sessions connected.
    pub fn sessions(&self) -> usize {
        self.sum(|open| open.sessions)
    }

    /// Envelopes relayed about which nothing has come.
    pub fn unanswered(&self) -> u32 {
        self.open.as_deref().map_or(0, |open| open.unanswered)
    }

    /// The number of its last envelope in the router's list; means nothing where all is answered.
    pub(super) fn router_number(&self) -> u64 {
        self.open.as_deref().map_or(0, |open| open.router_number)
    }

    /// Its last envelope in the router's list has that number.
    pub(super) fn set_router_number(&mut self, number: u64) {
        if let Some(open) = &mut self.open {
            open.router_number = number;
        }
    }

    /// Envelopes that wait.
    pub fn backlog(&self) -> usize {
        self.sum(|open| open.threads.waiting())
    }

    /// Bytes of the envelopes that wait.
    pub fn backlog_bytes(&self) -> usize {
        self.sum(|open| open.threads.waiting_bytes())
    }

    /// The envelopes that wait, in no order, for the tests.
    #[cfg(any(test, feature = "simulator"))]
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.open.iter().flat_map(|open| open.threads.all_waiting())
    }

    /// The conversations, in the order of their numbers.
    pub fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        self.open.iter().flat_map(|open| open.conversations.iter())
    }

    /// The same, for what changes no count.
    pub fn conversations_mut(&mut self) -> impl Iterator<Item = &mut Conversation> {
        self.open.iter_mut().flat_map(|open| open.conversations.iter_mut())
    }

    /// Nothing pending, no session, nothing waiting; for the tests.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.conversations().next().is_none() && self.backlog() == 0
    }

    /// The conversation whose session `thread` has.
    pub fn session_of(&self, thread: &str) -> Option<u64> {
        self.open.as_deref().filter(|open| open.sessions > 0)?.threads.session_of(thread)
    }

    /// Whether a newcomer of `thread` must wait: a CONNECT of it is pending, its session has something under way, or others
    /// of it wait.
    pub fn must_wait(&self, thread: &str) -> bool {
        self.open.as_deref().is_some_and(|open| open.threads.must_wait(thread))
    }

    /// Whether requests wait for room, and for nothing else.
    pub fn is_request_ready(&self) -> bool {
        self.open.as_deref().is_some_and(|open| open.threads.is_request_ready())
    }

    /// Opens a conversation and says its number. `address` is that of its service.
    pub fn open(&mut self, reuse: &mut Reuse, thread: &str, thread_spelled: &[u8], address: Rc<str>) -> u64 {
        let n = self.next_n;
        self.next_n += 1;
        let open = self.open.get_or_insert_with(|| reuse.book());
        open.conversations.push(Conversation::new(n, thread, thread_spelled, address));
        n
    }

    /// The conversation `n`, while it is remembered.
    pub fn get(&self, n: u64) -> Option<&Conversation> {
        self.open.as_deref()?.conversations.find(n).map(|(_, conversation)| conversation)
    }

    /// The conversation `n`, for what does not change a count.
    pub fn get_mut(&mut self, n: u64) -> Option<&mut Conversation> {
        let open = self.open.as_deref_mut()?;
        let (at, _) = open.conversations.find(n)?;
        Some(open.conversations.at(at))
    }

    /// Enters a relayed REQUEST or CONNECT.
    pub fn add(&mut self, n: u64, pending: Pending) {
        self.change(n, |open, at| {
            let conversation = open.conversations.at(at);
            open.pending += 1;
            if pending.kind == Kind::Connect {
                open.connecting += 1;
                conversation.leaving = false;
            }
            conversation.pending.push(pending);
        });
    }

    /// Ends the oldest pending one of `trace`, REQUEST or CONNECT.
    pub fn end(&mut self, n: u64, trace: i64) -> Option<Pending> {
        self.end_one(n, trace, false)
    }

    /// Ends the oldest pending CONNECT of `trace`.
    pub fn end_connect(&mut self, n: u64, trace: i64) -> Option<Pending> {
        self.end_one(n, trace, true)
    }

    fn end_one(&mut self, n: u64, trace: i64, connect: bool) -> Option<Pending> {
        self.change(n, |open, at| {
            let ended = open.conversations.at(at).pending.take(trace, connect)?;
            open.discount(&ended);
            Some(ended)
        })?
    }

    /// Ends everything pending in `n` that `ends` picks, oldest first.
    pub fn end_where(&mut self, n: u64, ends: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        self.end_some(n, |_, pending| ends(pending))
    }

    /// The same for one who goes by what is known of the conversation, too.
    pub fn end_some(&mut self, n: u64, ends: impl Fn(&Conversation, &Pending) -> bool) -> Vec<Pending> {
        let ended = self.change(n, |open, at| {
            let conversation = open.conversations.at(at);
            let mut pending = std::mem::take(&mut conversation.pending);
            let ended = pending.take_where(|pending| ends(conversation, pending));
            conversation.pending = pending;
            for one in &ended {
                open.discount(one);
            }
            ended
        });
        ended.unwrap_or_default()
    }

    /// The 200 came: `thread` of conversation `n` has a session with `worker`.
    pub fn connect(&mut self, n: u64, worker: &str, worker_domain: usize, now_ms: u64) {
        self.change(n, |open, at| {
            let conversation = open.conversations.at(at);
            if conversation.worker.as_deref() != Some(worker) {
                conversation.worker = Some(worker.into());
            }
            conversation.worker_domain = worker_domain;
            if !conversation.connected {
                conversation.connected = true;
                conversation.connected_since_ms = now_ms;
                open.sessions += 1;
            }
        });
    }

    /// The session of `n` is over; says whether there was one.
    pub fn disconnect(&mut self, n: u64) -> bool {
        let was = self.change(n, |open, at| {
            let conversation = open.conversations.at(at);
            conversation.leaving = true;
            let was = std::mem::take(&mut conversation.connected);
            open.sessions -= usize::from(was);
            was
        });
        was.unwrap_or_default()
    }

    /// Changes conversation `n`, then what follows for its thread.
    fn change<T>(&mut self, n: u64, change: impl FnOnce(&mut Open, usize) -> T) -> Option<T> {
        let open = self.open.as_deref_mut()?;
        let (at, _) = open.conversations.find(n)?;
        let done = change(open, at);
        open.hold(at);
        Some(done)
    }

    /// Forgets conversation `n` if nothing is pending in it and it has no session.
    pub fn forget_if_over(&mut self, n: u64) {
        if let Some(open) = self.open.as_deref_mut()
            && let Some((at, conversation)) = open.conversations.find(n)
            && conversation.is_over()
        {
            debug_assert_eq!(conversation.unanswered, Unanswered::default(), "it is pending, or an orphan");
            open.conversations.forget(at);
        }
    }

    /// The bus was given an envelope of conversation `n`.
    pub fn gave(&mut self, n: u64, given: Unanswered, now_us: u64) {
        if let Some(open) = self.open.as_deref_mut()
            && let Some((at, _)) = open.conversations.find(n)
        {
            let conversation = open.conversations.at(at);
            conversation.unanswered += given;
            conversation.relayed_us = now_us;
            open.unanswered += given.messages;
        }
    }

    /// Something has come about conversation `n`, or nobody waits for that any more: what of it was unanswered until now.
    pub fn answered(&mut self, n: u64) -> Unanswered {
        let Some(open) = self.open.as_deref_mut() else { return Unanswered::default() };
        let Some((at, _)) = open.conversations.find(n) else { return Unanswered::default() };
        let answered = std::mem::take(&mut open.conversations.at(at).unanswered);
        open.unanswered -= answered.messages;
        answered
    }

    /// Puts an envelope at the end of the backlog.
    pub(super) fn wait(&mut self, reuse: &mut Reuse, thread: &str, kept: Kept, counted: usize) {
        let open = self.open.get_or_insert_with(|| reuse.book());
        open.threads.wait(thread, kept, counted);
    }

    /// Whose turn it is of those that wait; with `full`, of those that need no room.
    pub(super) fn next_turn(&mut self, full: bool) -> Option<Turn> {
        self.open.as_deref_mut()?.threads.next(full)
    }

    /// Takes an envelope out of the backlog; [`Self::turn_over`] must follow once it has been relayed.
    pub(super) fn take_turn(&mut self, turn: Turn) -> Option<Kept> {
        self.open.as_deref_mut()?.threads.take(turn)
    }

    /// The envelope that was taken out has been relayed.
    pub(super) fn turn_over(&mut self, turn: Turn) {
        // A client that was closed meanwhile has an empty book.
        if let Some(open) = self.open.as_deref_mut() {
            open.threads.taken(turn);
        }
    }

    /// Whether there is a heap buffer, for the tests.
    #[cfg(any(test, feature = "simulator"))]
    pub(super) fn owns_heap(&self) -> bool {
        self.open.is_some()
    }
}

impl Open {
    /// Whether it is worth keeping for its memory.
    pub(super) fn is_small(&self) -> bool {
        self.conversations.capacity() <= KEPT_MAX && self.threads.capacity() <= KEPT_MAX
    }

    fn discount(&mut self, ended: &Pending) {
        self.pending -= 1;
        self.connecting -= usize::from(ended.kind == Kind::Connect);
    }

    /// The conversation at `at` has changed: whether it holds its thread may have, too.
    fn hold(&mut self, at: usize) {
        let conversation = self.conversations.at(at);
        let holds = conversation.is_holding();
        if !holds && !conversation.holds {
            return;
        }
        conversation.holds = holds;
        let (n, connected, occupied) = (conversation.n, conversation.connected, conversation.is_occupied());
        self.threads.hold(conversation.thread(), n, holds.then_some(Hold { n, connected, occupied }));
    }
}
