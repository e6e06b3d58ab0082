//! What the oracle remembers of a client.

use std::collections::VecDeque;
use std::rc::Rc;

use super::expect::Expect;
use super::limits::Bucket;
use crate::browser::Env;

/// The last of the classes of open clients.
const IDLE: usize = 4;

pub struct Pending {
    pub trace: i64,
    pub spelled: String,
    pub connect: bool,
    pub since: u64,
    /// When something came about its conversation last; of a CONNECT: when it was relayed.
    pub heard: u64,
    pub push: u32,
    /// None: no doubt. `u64::MAX`: the link is away.
    pub lost_at: Option<u64>,
}

#[derive(Default)]
pub struct Conversation {
    pub n: u64,
    pub thread: String,
    pub spelled: String,
    pub xid: Option<String>,
    pub pending: Vec<Pending>,
    pub worker: Option<(String, usize)>,
    pub connected: bool,
    pub connected_since: u64,
    /// The client or the worker has ended its session.
    pub left: bool,
    pub pushes: u32,
    /// Of its envelopes: about how many nothing has come.
    pub unanswered: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Stage {
    #[default]
    Handshake,
    Open,
    Closing {
        /// When this step began, or the peer was last found to have acknowledged more.
        since: u64,
        awaits: bool,
        /// The peer has ended its side.
        ended: bool,
    },
    Gone,
}

#[derive(Default)]
pub struct Client {
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// Whence it comes.
    pub(super) address: usize,
    pub(super) bucket: Bucket,
    pub stage: Stage,
    pub(super) accepted: u64,
    pub(super) received: u64,
    pub(super) activity: u64,
    pub(super) message_since: Option<u64>,
    pub(super) message_heard: u64,
    pub(super) ping_since: Option<u64>,
    /// How far it had acknowledged when it began to owe a pong.
    pub(super) acknowledged_at_ping: u64,
    /// Bytes that its kernel has taken, that it is known to have acknowledged, and at which the last reply ends.
    pub(super) taken: u64,
    pub(super) acknowledged: u64,
    pub(super) reply_end: u64,
    /// When it was last seen to acknowledge more while something was on its way, and the longest time between two such sights.
    pub(super) seen: Option<u64>,
    pub(super) leap: u64,
    /// When its closing began.
    pub(super) closing_since: u64,
    /// Closing: when it was found last to take enough, and how far it had acknowledged then.
    pub(super) enough: (u64, u64),
    /// Our FIN is behind what it is sent.
    pub(super) half_closed: bool,
    /// The last look found reply bytes on their way.
    pub(super) late: bool,
    /// Bytes of the chunk under way that the kernel has taken.
    pub(super) in_flight_taken: usize,
    pub paused: bool,
    /// Nothing is unfinished of what it sent.
    pub clean: bool,
    /// When the last unfinished thing was finished: its turn in a drain could not come before.
    pub(super) clean_since: u64,
    /// When what is unfinished began.
    pub(super) unclean_since: u64,
    /// It had a session, or asked for one, when that began, or when it was read from again.
    pub(super) had_session: bool,
    /// Since when it is at a forced gap of a drain, as ticks have found.
    pub(super) forced_since: Option<u64>,
    pub(super) garbage: u32,
    pub(super) next_n: u64,
    pub(super) conversations: Vec<Conversation>,
    pub(super) backlog: VecDeque<Rc<Env>>,
    /// What waits to be sent, each with its bytes.
    pub(super) expect: VecDeque<(Expect, usize)>,
    /// Bytes of the chunk that is being sent; 0 = none.
    pub(super) in_flight: usize,
    /// The bytes of each frame that the product has queued, and the oracle has not called for yet; how many it was told.
    told: VecDeque<usize>,
    told_of: usize,
    /// Bytes of half a message that the product holds: told, since how it buffers is its own.
    pub half_bytes: usize,
    /// The core took its half message away: what it sends cannot be read any more.
    pub desynced: bool,
    /// Idle since the drain began, and never anything else: must be gone by half of its time.
    pub(super) idle_at_drain: bool,
    /// An operator has asked for its end, which comes at its gap.
    pub is_dismissed: bool,
}

impl Client {
    pub(super) fn new(slot: u32, generation: u32, address: usize, now: u64) -> Self {
        let (accepted, received, activity) = (now, now, now);
        Self { slot, generation, address, accepted, received, activity, clean: true, ..Self::default() }
    }

    /// The bytes of all frames that the product ever queued for this client.
    pub fn tell(&mut self, all: &[usize]) {
        self.told.extend(all.get(self.told_of..).unwrap_or_default());
        self.told_of = self.told_of.max(all.len());
    }

    pub(super) fn next_told(&mut self) -> Option<usize> {
        self.told.pop_front()
    }

    /// Frames that the product has queued and nothing called for.
    pub fn uncalled_for(&self) -> usize {
        self.told.len()
    }

    pub(super) fn pending(&self) -> usize {
        self.conversations.iter().map(|c| c.pending.len()).sum()
    }
    pub(super) fn connecting(&self) -> usize {
        self.conversations.iter().flat_map(|c| &c.pending).filter(|p| p.connect).count()
    }
    pub(super) fn sessions(&self) -> usize {
        self.conversations.iter().filter(|c| c.connected).count()
    }
    /// A CONNECT of the thread is pending, or its session has something under way.
    pub(super) fn is_occupied(&self, thread: &str) -> bool {
        let of_thread = |v: &&Conversation| v.thread == thread;
        self.conversations.iter().filter(of_thread).any(|v| v.pending.iter().any(|p| p.connect || v.connected))
    }
    pub(super) fn find(&mut self, n: u64) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|c| c.n == n)
    }
    pub(super) fn session(&mut self, thread: &str) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|v| v.connected && v.thread == thread)
    }
    pub(super) fn forget(&mut self) {
        self.conversations.retain(|c| c.connected || !c.pending.is_empty());
    }

    /// Its envelopes about which nothing has come.
    pub(super) fn unanswered(&self) -> u32 {
        self.conversations.iter().map(|v| v.unanswered).sum()
    }

    /// Pending, sessions, conversations, backlog, its bytes.
    pub fn books(&self) -> (usize, usize, usize, usize, usize) {
        let bytes = self.backlog.iter().map(|env| env.text_len).sum();
        (self.pending(), self.sessions(), self.conversations.len(), self.backlog.len(), bytes)
    }

    pub fn unsent(&self) -> usize {
        self.in_flight + self.expect.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }
    /// Where what was ever queued ends.
    pub(super) fn end(&self) -> u64 {
        self.taken + (self.unsent() - self.in_flight_taken) as u64
    }
    pub fn is_delivered(&self) -> bool {
        self.acknowledged >= self.reply_end
    }
    /// Something would be taken from it by a close.
    pub(super) fn is_busy(&self) -> bool {
        self.class().is_some_and(|class| class < IDLE) || !self.is_delivered()
    }
    pub fn is_all_sent(&self) -> bool {
        self.expect.is_empty() && self.in_flight == 0
    }
    /// Bytes held for a client.
    pub(super) fn held(&self) -> usize {
        if self.stage == Stage::Gone {
            return 0;
        }
        self.unsent() + self.books().4 + self.half_bytes
    }

    /// It begins to close.
    pub(super) fn begin_closing(&mut self, now: u64, awaits: bool, ended: bool) {
        if !matches!(self.stage, Stage::Closing { .. }) {
            self.enough = (now, self.acknowledged);
            self.closing_since = now;
        }
        self.stage = Stage::Closing { since: now, awaits, ended };
    }

    /// 0 handshake, 1 open, 2 closing, 3 gone.
    pub fn stage_number(&self) -> u8 {
        match self.stage {
            Stage::Handshake => 0,
            Stage::Open => 1,
            Stage::Closing { .. } => 2,
            Stage::Gone => 3,
        }
    }
    /// 0 sending, 1 waiting, 2 waiting for room, 3 session, 4 idle.
    pub fn class(&self) -> Option<usize> {
        let sending = self.taken < self.reply_end || self.late;
        let no_room = self.paused || !self.backlog.is_empty();
        let holds = [sending, self.pending() > 0, no_room, self.sessions() > 0, true];
        holds.iter().position(|holds| *holds).filter(|_| self.stage == Stage::Open)
    }
    /// Since when it is at an idle gap, if it is (the quiet time apart).
    pub(super) fn gap_since(&self) -> Option<u64> {
        (self.class() == Some(IDLE) && self.clean && !self.paused && self.is_delivered()).then_some(self.activity)
    }
    /// Since when it has waited for the oldest thing that keeps a drain waiting.
    pub fn oldest(&self) -> Option<u64> {
        let pending = self.conversations.iter().flat_map(|v| &v.pending).map(|p| p.since).min();
        let sessions = || self.conversations.iter().filter(|v| v.connected).map(|v| v.connected_since).min();
        self.class().filter(|class| *class < IDLE).and_then(|_| pending.or_else(sessions))
    }
}
