//! The books of one client: its conversations, what is pending in each, and its backlog.
//!
//! A conversation is one envelope sent to the router and all that follows from it (ARCHITECTURE.md, "How one message travels").

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use super::spare::Spare;
use crate::near;
use crate::opensrf::address;
use crate::opensrf::envelope::{Kind, Trace};
use crate::opensrf::judge::Judged;

/// A book that held more conversations at once is not kept.
const KEPT_MAX: usize = 16;

/// A short text of a client's, which lies in the book itself.
type Text = SmallVec<[u8; 32]>;

/// One REQUEST or CONNECT whose end has not come.
#[derive(Debug)]
pub struct Pending {
    /// The client's threadTrace. Clients do reuse them: the oldest of equal ones ends first.
    pub trace: Trace,
    /// REQUEST or CONNECT.
    pub kind: Kind,
    /// When it was relayed, ms.
    pub since_ms: u64,
    /// When something came about it last, or about another of its conversation, ms. It was relayed then at the latest.
    pub heard_ms: u64,
    /// Which envelope of the conversation carried it.
    pub push: u32,
    /// The method, for the drain log; empty for a CONNECT.
    pub method: Rc<str>,
    /// The link that pops broke while this was pending, and nothing has come since: when it is given up, ms;
    /// `u64::MAX` until the link is back. 0 = no such doubt.
    pub lost_at_ms: u64,
}

/// One envelope sent to the router and all that follows from it.
#[derive(Debug)]
pub struct Conversation {
    /// Its number; never used again for this client.
    pub n: u64,
    /// The client's thread, unescaped.
    thread: Text,
    /// The thread as the client spelled it, quoted JSON.
    pub thread_spelled: Text,
    /// `osrf_xid` of the last envelope relayed, quoted JSON.
    pub xid: Text,
    /// The address of the service that the first envelope named.
    pub address: Rc<str>,
    /// What has not ended, oldest first.
    pub pending: SmallVec<[Pending; 1]>,
    /// Who answered the CONNECT last. Kept after a DISCONNECT: requests relayed to it may still be pending.
    pub worker: Option<Rc<str>>,
    /// The index of the worker's bus domain; 0 = the primary.
    pub worker_domain: usize,
    /// True from the 200 to the DISCONNECT, or to the end of the session by the worker.
    pub connected: bool,
    /// When the session began, ms.
    pub connected_since_ms: u64,
    /// A DISCONNECT followed the CONNECT in the same envelope: the 200 makes no session.
    pub leaving: bool,
    /// Envelopes relayed in this conversation.
    pub pushes: u32,
}

impl Conversation {
    /// The service that the first envelope named.
    pub fn service(&self) -> &str {
        address::service_of(&self.address)
    }

    /// The client's thread.
    pub fn thread(&self) -> &str {
        std::str::from_utf8(&self.thread).expect("it was made of a str")
    }

    fn is_of(&self, thread: &str) -> bool {
        *self.thread == *thread.as_bytes()
    }

    /// Takes out the oldest pending one of `trace`.
    fn take(&mut self, trace: i64, is: impl Fn(Kind) -> bool) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.trace.value == trace && is(pending.kind))?;
        Some(self.pending.remove(at))
    }

    fn is_occupied(&self) -> bool {
        !self.pending.is_empty() && (self.connected || self.pending.iter().any(|p| p.kind == Kind::Connect))
    }

    /// Something has come about this conversation at `now_ms`: what is pending in it is alive. One worker does all of it,
    /// one after the other, so that news of one request is news of those behind it. A CONNECT waits for its own answer.
    pub fn heard(&mut self, now_ms: u64) {
        for pending in self.pending.iter_mut().filter(|pending| pending.kind == Kind::Request) {
            pending.heard_ms = now_ms;
        }
    }

    fn is_over(&self) -> bool {
        self.pending.is_empty() && !self.connected
    }
}

/// An envelope that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    /// The message as it came.
    pub text: Vec<u8>,
    /// It has been read before.
    pub judged: Judged,
    /// Its thread, unescaped.
    pub thread: Box<str>,
    /// Its REQUESTs and CONNECTs.
    pub counted: usize,
}

/// The conversations of one client and the envelopes that wait. Owns no memory when there are none.
#[derive(Debug, Default)]
pub struct Book {
    /// The number that the next conversation gets.
    next_n: u64,
    /// `None` where nothing is pending, connected or waiting.
    open: Option<Box<Open>>,
}

/// A book in which something is written. Lent by [`Spare`] and given back when the last entry has ended.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// In the order of their numbers.
    conversations: SmallVec<[Conversation; 1]>,
    /// Envelopes that wait, oldest first.
    backlog: VecDeque<Waiting>,
    /// Bytes of their texts.
    backlog_bytes: usize,
    /// Those of them that are not counted: DISCONNECTs alone.
    backlog_uncounted: usize,
    /// REQUESTs and CONNECTs pending, over all conversations.
    pending: usize,
    /// CONNECTs among them.
    connecting: usize,
    /// Conversations that are connected.
    sessions: usize,
}

/// What a client has that waits for nothing.
static NO_BACKLOG: VecDeque<Waiting> = VecDeque::new();

impl Book {
    /// It will be asked for soon.
    pub(super) fn bring_near(&self) {
        if let Some(open) = &self.open {
            near::bring(&**open);
        }
    }

    fn sum(&self, of: impl FnOnce(&Open) -> usize) -> usize {
        self.open.as_deref().map_or(0, of)
    }

    /// Gives the memory back where nothing is pending, connected or waiting any more.
    pub(super) fn rest(&mut self, spare: &mut Spare) {
        if let Some(open) = self.open.take_if(|open| open.conversations.is_empty() && open.backlog.is_empty()) {
            spare.give_book(open);
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

    /// The envelopes that wait, oldest first.
    pub fn backlog(&self) -> &VecDeque<Waiting> {
        self.open.as_deref().map_or(&NO_BACKLOG, |open| &open.backlog)
    }

    /// Bytes of the envelopes that wait.
    pub fn backlog_bytes(&self) -> usize {
        self.sum(|open| open.backlog_bytes)
    }

    /// Whether an envelope that holds DISCONNECTs alone waits.
    pub fn is_disconnect_waiting(&self) -> bool {
        self.sum(|open| open.backlog_uncounted) > 0
    }

    /// The conversations, in the order of their numbers.
    pub fn conversations(&self) -> &[Conversation] {
        self.open.as_deref().map_or(&[], |open| &open.conversations)
    }

    /// Nothing pending, no session, nothing waiting; for the tests.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.conversations().is_empty() && self.backlog().is_empty()
    }

    /// The conversation whose session `thread` has.
    pub fn session_of(&self, thread: &str) -> Option<u64> {
        if self.sessions() == 0 {
            return None;
        }
        self.conversations().iter().find(|c| c.connected && c.is_of(thread)).map(|c| c.n)
    }

    /// Whether further envelopes of `thread` must wait: a CONNECT of it is pending, or its session has something under way.
    /// A Perl worker drops what is queued behind a DISCONNECT that it reads while it serves, and a C worker that calls
    /// another service meanwhile answers what is queued in reversed order (quirk 16).
    pub fn is_occupied(&self, thread: &str) -> bool {
        (self.connecting() > 0 || self.sessions() > 0)
            && self.conversations().iter().any(|c| c.is_of(thread) && c.is_occupied())
    }

    /// Opens a conversation and says its number. `address` is that of its service.
    pub fn open(&mut self, spare: &mut Spare, thread: &str, thread_spelled: &[u8], address: Rc<str>) -> u64 {
        let n = self.next_n;
        self.next_n += 1;
        let open = self.open.get_or_insert_with(|| spare.book());
        open.conversations.push(Conversation {
            n,
            thread: Text::from_slice(thread.as_bytes()),
            thread_spelled: Text::from_slice(thread_spelled),
            xid: Text::new(),
            address,
            pending: SmallVec::new(),
            worker: None,
            worker_domain: 0,
            connected: false,
            connected_since_ms: 0,
            leaving: false,
            pushes: 0,
        });
        n
    }

    /// The conversation `n`, while it is remembered.
    pub fn get(&self, n: u64) -> Option<&Conversation> {
        let conversations = self.conversations();
        conversations.binary_search_by_key(&n, |conversation| conversation.n).ok().map(|at| &conversations[at])
    }

    /// The conversation `n`, for what does not change a count.
    pub fn get_mut(&mut self, n: u64) -> Option<&mut Conversation> {
        self.open.as_deref_mut()?.find(n).map(|(_, _, conversation)| conversation)
    }

    /// Enters a relayed REQUEST or CONNECT.
    pub fn add(&mut self, n: u64, pending: Pending) {
        let Some((counts, _, conversation)) = self.open.as_deref_mut().and_then(|open| open.find(n)) else { return };
        *counts.pending += 1;
        if pending.kind == Kind::Connect {
            *counts.connecting += 1;
            conversation.leaving = false;
        }
        conversation.pending.push(pending);
    }

    /// Ends the oldest pending one of `trace`, REQUEST or CONNECT.
    pub fn end(&mut self, n: u64, trace: i64) -> Option<Pending> {
        self.end_one(n, trace, |_| true)
    }

    /// Ends the oldest pending CONNECT of `trace`.
    pub fn end_connect(&mut self, n: u64, trace: i64) -> Option<Pending> {
        self.end_one(n, trace, |kind| kind == Kind::Connect)
    }

    fn end_one(&mut self, n: u64, trace: i64, is: impl Fn(Kind) -> bool) -> Option<Pending> {
        let (mut counts, _, conversation) = self.open.as_deref_mut()?.find(n)?;
        let ended = conversation.take(trace, is)?;
        counts.discount(&ended);
        Some(ended)
    }

    /// Ends everything pending in `n` that `ends` picks, oldest first.
    pub fn end_where(&mut self, n: u64, mut ends: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let Some((mut counts, _, conversation)) = self.open.as_deref_mut().and_then(|open| open.find(n)) else {
            return Vec::new();
        };
        let mut ended = Vec::new();
        let mut at = 0;
        while let Some(pending) = conversation.pending.get(at) {
            if ends(pending) {
                counts.discount(pending);
                ended.push(conversation.pending.remove(at));
            } else {
                at += 1;
            }
        }
        ended
    }

    /// The 200 came: `thread` of conversation `n` has a session with `worker`.
    pub fn connect(&mut self, n: u64, worker: &str, worker_domain: usize, now_ms: u64) {
        let Some((counts, _, conversation)) = self.open.as_deref_mut().and_then(|open| open.find(n)) else { return };
        if conversation.worker.as_deref() != Some(worker) {
            conversation.worker = Some(worker.into());
        }
        conversation.worker_domain = worker_domain;
        if !conversation.connected {
            conversation.connected = true;
            conversation.connected_since_ms = now_ms;
            *counts.sessions += 1;
        }
    }

    /// The session of `n` is over; says whether there was one.
    pub fn disconnect(&mut self, n: u64) -> bool {
        let Some((counts, _, conversation)) = self.open.as_deref_mut().and_then(|open| open.find(n)) else {
            return false;
        };
        conversation.leaving = true;
        let was = std::mem::take(&mut conversation.connected);
        *counts.sessions -= usize::from(was);
        was
    }

    /// Forgets conversation `n` if nothing is pending in it and it has no session.
    pub fn forget_if_over(&mut self, n: u64) {
        if let Some(open) = self.open.as_deref_mut()
            && let Some((_, at, conversation)) = open.find(n)
            && conversation.is_over()
        {
            open.conversations.remove(at);
        }
    }

    /// Puts an envelope at the end of the backlog.
    pub fn wait(&mut self, spare: &mut Spare, waiting: Waiting) {
        let open = self.open.get_or_insert_with(|| spare.book());
        open.backlog_bytes += waiting.text.len();
        open.backlog_uncounted += usize::from(waiting.counted == 0);
        open.backlog.push_back(waiting);
    }

    /// Takes an envelope out of the backlog.
    pub fn unwait(&mut self, at: usize) -> Option<Waiting> {
        let open = self.open.as_deref_mut()?;
        let waiting = open.backlog.remove(at)?;
        open.backlog_bytes -= waiting.text.len();
        open.backlog_uncounted -= usize::from(waiting.counted == 0);
        if open.backlog.is_empty() {
            open.backlog = VecDeque::new();
        }
        Some(waiting)
    }

    /// Whether there is a heap buffer, for the tests.
    #[cfg(any(test, simulator))]
    pub(super) fn owns_heap(&self) -> bool {
        self.open.is_some()
    }
}

/// The counts of a book, apart from its conversations.
struct Counts<'a> {
    pending: &'a mut usize,
    connecting: &'a mut usize,
    sessions: &'a mut usize,
}

impl Counts<'_> {
    fn discount(&mut self, ended: &Pending) {
        *self.pending -= 1;
        *self.connecting -= usize::from(ended.kind == Kind::Connect);
    }
}

impl Open {
    /// Whether it is worth keeping for its memory.
    pub(super) fn is_small(&self) -> bool {
        self.conversations.capacity() <= KEPT_MAX
    }

    /// The conversation `n`, where it stands, and the counts that its changes change.
    fn find(&mut self, n: u64) -> Option<(Counts<'_>, usize, &mut Conversation)> {
        let at = self.conversations.binary_search_by_key(&n, |conversation| conversation.n).ok()?;
        let Self { pending, connecting, sessions, conversations, .. } = self;
        Some((Counts { pending, connecting, sessions }, at, &mut conversations[at]))
    }
}
