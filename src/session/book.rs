//! The books of one client: its conversations, what is pending in each, and its backlog.
//!
//! A conversation is one envelope sent to the router and all that follows from it (ARCHITECTURE.md, "How one message travels").

use std::collections::VecDeque;
use std::rc::Rc;

use crate::opensrf::envelope::{Kind, Trace};

/// One REQUEST or CONNECT whose end has not come.
#[derive(Debug)]
pub struct Pending {
    /// The client's threadTrace. Clients do reuse them: the oldest of equal ones ends first.
    pub trace: Trace,
    /// REQUEST or CONNECT.
    pub kind: Kind,
    /// When it was relayed, ms.
    pub since_ms: u64,
    /// Which envelope of the conversation carried it.
    pub push: u32,
    /// The method, for the drain log; empty for a CONNECT.
    pub method: Box<str>,
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
    pub thread: Box<str>,
    /// The thread as the client spelled it, quoted JSON.
    pub thread_spelled: Box<[u8]>,
    /// `osrf_xid` of the last envelope relayed, quoted JSON.
    pub xid: Box<[u8]>,
    /// The service that the first envelope named.
    pub service: Box<str>,
    /// What has not ended, oldest first.
    pub pending: Vec<Pending>,
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
    /// Takes out the oldest pending one of `trace`.
    fn take(&mut self, trace: i64, is: impl Fn(Kind) -> bool) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.trace.value == trace && is(pending.kind))?;
        Some(self.pending.remove(at))
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
    /// In the order of their numbers.
    conversations: Vec<Conversation>,
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

impl Book {
    /// REQUESTs and CONNECTs pending.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// CONNECTs pending.
    pub fn connecting(&self) -> usize {
        self.connecting
    }

    /// Sessions connected.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// The envelopes that wait, oldest first.
    pub fn backlog(&self) -> &VecDeque<Waiting> {
        &self.backlog
    }

    /// Bytes of the envelopes that wait.
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Whether an envelope that holds DISCONNECTs alone waits.
    pub fn is_disconnect_waiting(&self) -> bool {
        self.backlog_uncounted > 0
    }

    /// The conversations, in the order of their numbers.
    pub fn conversations(&self) -> &[Conversation] {
        &self.conversations
    }

    /// Nothing pending, no session, nothing waiting; for the tests.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.conversations.is_empty() && self.backlog.is_empty()
    }

    /// The conversation whose session `thread` has.
    pub fn session_of(&self, thread: &str) -> Option<u64> {
        if self.sessions == 0 {
            return None;
        }
        self.conversations.iter().find(|c| c.connected && *c.thread == *thread).map(|c| c.n)
    }

    /// Whether a CONNECT of `thread` is pending.
    pub fn is_connecting(&self, thread: &str) -> bool {
        self.connecting > 0
            && self
                .conversations
                .iter()
                .any(|c| *c.thread == *thread && c.pending.iter().any(|p| p.kind == Kind::Connect))
    }

    /// Opens a conversation and says its number.
    pub fn open(&mut self, thread: &str, thread_spelled: &[u8], service: &str) -> u64 {
        let n = self.next_n;
        self.next_n += 1;
        self.conversations.push(Conversation {
            n,
            thread: thread.into(),
            thread_spelled: thread_spelled.into(),
            xid: Box::default(),
            service: service.into(),
            pending: Vec::new(),
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
        self.index(n).map(|at| &self.conversations[at])
    }

    /// The conversation `n`, for what does not change a count.
    pub fn get_mut(&mut self, n: u64) -> Option<&mut Conversation> {
        self.index(n).map(|at| &mut self.conversations[at])
    }

    /// Enters a relayed REQUEST or CONNECT.
    pub fn add(&mut self, n: u64, pending: Pending) {
        let Some(at) = self.index(n) else { return };
        self.pending += 1;
        if pending.kind == Kind::Connect {
            self.connecting += 1;
            self.conversations[at].leaving = false;
        }
        self.conversations[at].pending.push(pending);
    }

    /// Ends the oldest pending one of `trace`, REQUEST or CONNECT.
    pub fn end(&mut self, n: u64, trace: i64) -> Option<Pending> {
        let at = self.index(n)?;
        let ended = self.conversations[at].take(trace, |_| true)?;
        self.discount(&ended);
        Some(ended)
    }

    /// Ends the oldest pending CONNECT of `trace`.
    pub fn end_connect(&mut self, n: u64, trace: i64) -> Option<Pending> {
        let at = self.index(n)?;
        let ended = self.conversations[at].take(trace, |kind| kind == Kind::Connect)?;
        self.discount(&ended);
        Some(ended)
    }

    /// Ends everything pending in `n` that `ends` picks, oldest first.
    pub fn end_where(&mut self, n: u64, mut ends: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let Some(at) = self.index(n) else { return Vec::new() };
        let ended: Vec<Pending> = self.conversations[at].pending.extract_if(.., |pending| ends(pending)).collect();
        for pending in &ended {
            self.discount(pending);
        }
        ended
    }

    /// The 200 came: `thread` of conversation `n` has a session with `worker`.
    pub fn connect(&mut self, n: u64, worker: &str, worker_domain: usize, now_ms: u64) {
        let Some(at) = self.index(n) else { return };
        let conversation = &mut self.conversations[at];
        if conversation.worker.as_deref() != Some(worker) {
            conversation.worker = Some(worker.into());
        }
        conversation.worker_domain = worker_domain;
        if !conversation.connected {
            conversation.connected = true;
            conversation.connected_since_ms = now_ms;
            self.sessions += 1;
        }
    }

    /// The session of `n` is over; says whether there was one.
    pub fn disconnect(&mut self, n: u64) -> bool {
        let Some(at) = self.index(n) else { return false };
        let conversation = &mut self.conversations[at];
        conversation.leaving = true;
        let was = std::mem::take(&mut conversation.connected);
        self.sessions -= usize::from(was);
        was
    }

    /// Forgets conversation `n` if nothing is pending in it and it has no session.
    pub fn forget_if_over(&mut self, n: u64) {
        if let Some(at) = self.index(n)
            && self.conversations[at].is_over()
        {
            self.conversations.remove(at);
            if self.conversations.is_empty() {
                self.conversations = Vec::new();
            }
        }
    }

    /// Puts an envelope at the end of the backlog.
    pub fn wait(&mut self, waiting: Waiting) {
        self.backlog_bytes += waiting.text.len();
        self.backlog_uncounted += usize::from(waiting.counted == 0);
        self.backlog.push_back(waiting);
    }

    /// Takes an envelope out of the backlog.
    pub fn unwait(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.backlog.remove(at)?;
        self.backlog_bytes -= waiting.text.len();
        self.backlog_uncounted -= usize::from(waiting.counted == 0);
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        Some(waiting)
    }

    /// Whether there is a heap buffer, for the tests.
    #[cfg(any(test, simulator))]
    pub(super) fn owns_heap(&self) -> bool {
        self.conversations.capacity() > 0 || self.backlog.capacity() > 0
    }

    fn index(&self, n: u64) -> Option<usize> {
        self.conversations.binary_search_by_key(&n, |conversation| conversation.n).ok()
    }

    fn discount(&mut self, ended: &Pending) {
        self.pending -= 1;
        self.connecting -= usize::from(ended.kind == Kind::Connect);
    }
}
