//! One envelope sent to the router and all that follows from it.

use std::rc::Rc;

use smallvec::SmallVec;

use super::context::Context;
use super::outstanding::Unanswered;
use super::pendings::{Pending, Pendings};
use crate::opensrf::address;
use crate::opensrf::envelope::Kind;
use crate::services::{Outcome, Place};

/// A short text of a client's, which lies in the book itself.
pub type Text = SmallVec<[u8; 32]>;

/// A conversation.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// What has not ended.
    pub pending: Pendings,
    /// When something came about it last, ms.
    heard_ms: u64,
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
    /// Those of them about which nothing has come.
    pub unanswered: Unanswered,
    /// When the last of them was given to the bus, microseconds since the process began.
    pub relayed_us: u64,
    /// Where the figures of its service are, once that has answered.
    place: Place,
    /// Its thread is held by it.
    pub(super) holds: bool,
    /// It is over; only its place is left.
    pub(super) forgotten: bool,
}

impl Conversation {
    /// Number `n`, about which nothing was relayed yet.
    pub(super) fn new(n: u64, thread: &str, thread_spelled: &[u8], address: Rc<str>) -> Self {
        Self {
            n,
            thread: Text::from_slice(thread.as_bytes()),
            thread_spelled: Text::from_slice(thread_spelled),
            xid: Text::new(),
            address,
            pending: Pendings::default(),
            heard_ms: 0,
            worker: None,
            worker_domain: 0,
            connected: false,
            connected_since_ms: 0,
            leaving: false,
            pushes: 0,
            unanswered: Unanswered::default(),
            relayed_us: 0,
            place: Place::UNKNOWN,
            holds: false,
            forgotten: false,
        }
    }

    /// The service that the first envelope named.
    pub fn service(&self) -> &str {
        address::service_of(&self.address)
    }

    /// The client's thread.
    pub fn thread(&self) -> &str {
        std::str::from_utf8(&self.thread).expect("it was made of a str")
    }

    /// Its service has answered: counts what that means for its callers.
    pub(super) fn count(&mut self, cx: &mut Context, outcome: Outcome) {
        if outcome == Outcome::default() {
            return;
        }
        if self.place == Place::UNKNOWN {
            self.place = cx.place_of(self.service());
        }
        cx.core().services.heard(self.place, outcome, cx.now_us.saturating_sub(self.relayed_us));
    }

    /// Something has come about this conversation at `now_ms`: what is pending in it is alive. One worker does all of it,
    /// one after the other, so that news of one request is news of those behind it.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// When one of its pending was alive last, ms. A CONNECT waits for its own answer.
    pub fn alive_ms(&self, pending: &Pending) -> u64 {
        if pending.kind == Kind::Connect { pending.since_ms } else { pending.since_ms.max(self.heard_ms) }
    }

    /// Whether it has a session or asks for one.
    pub(super) fn is_holding(&self) -> bool {
        self.connected || self.pending.connects() > 0
    }

    /// Whether further envelopes of its thread must wait: a CONNECT is pending, or its session has something under way.
    /// A Perl worker drops what is queued behind a DISCONNECT that it reads while it serves, and a C worker that calls
    /// another service meanwhile answers what is queued in reversed order (quirk 16).
    pub(super) fn is_occupied(&self) -> bool {
        !self.pending.is_empty() && (self.connected || self.pending.connects() > 0)
    }

    /// Whether nothing is pending and it has no session.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty() && !self.connected
    }

    /// Leaves its place only.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
        (self.thread, self.thread_spelled, self.xid) = (Text::new(), Text::new(), Text::new());
        self.pending = Pendings::default();
        self.worker = None;
    }
}
