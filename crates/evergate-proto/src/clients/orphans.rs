//! What the bus holds for nobody: messages whose client left, or gave them up, before anything came about them. Each is
//! known by its conversation until its reply comes after all, or until it is too old to be thought of.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::addresses::Place;
use super::outstanding::Unanswered;
use crate::opensrf::address::BusThread;

/// A queue this much longer than what it is for is made anew.
const STALE_MIN: usize = 1_024;

/// The orphans of one conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    /// The address of the client that sent them.
    pub(super) place: Place,
    pub(super) unanswered: Unanswered,
    /// When they are forgotten, ms.
    pub(super) until_ms: u64,
}

/// Those of a core.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    by_thread: FxHashMap<BusThread, Orphan>,
    /// When each is forgotten, ms, the oldest first. Of those that were answered since, or got company, it says nothing.
    queue: VecDeque<(u64, BusThread)>,
    /// Messages in all.
    messages: u64,
}

impl Orphans {
    /// Messages in all.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Takes orphans of conversation `thread` in, beside those that it has. `until_ms` never falls from one call to the next.
    pub(super) fn insert(&mut self, thread: BusThread, orphan: Orphan) {
        self.messages += u64::from(orphan.unanswered.messages);
        self.queue.push_back((orphan.until_ms, thread));
        let all = self.by_thread.entry(thread).or_insert(Orphan { unanswered: Unanswered::default(), ..orphan });
        all.unanswered += orphan.unanswered;
        all.until_ms = orphan.until_ms;
        // Made anew once in as many calls as it is long: constant, amortised.
        if self.queue.len() > 2 * self.by_thread.len() + STALE_MIN {
            let by_thread = &self.by_thread;
            self.queue.retain(|(until_ms, thread)| by_thread.get(thread).is_some_and(|o| o.until_ms == *until_ms));
        }
    }

    /// Takes those of a conversation out: something has come about it.
    pub(super) fn remove(&mut self, thread: BusThread) -> Option<Orphan> {
        // As a rule there are none, and every reply asks.
        if self.by_thread.is_empty() {
            return None;
        }
        let orphan = self.by_thread.remove(&thread)?;
        self.messages -= u64::from(orphan.unanswered.messages);
        if self.by_thread.is_empty() {
            // After a flood its memory goes back.
            *self = Self::default();
        }
        Some(orphan)
    }

    /// Takes the oldest one out that is not thought of any more at `now_ms`.
    pub(super) fn take_old(&mut self, now_ms: u64) -> Option<Orphan> {
        while let Some(&(until_ms, thread)) = self.queue.front()
            && until_ms <= now_ms
        {
            self.queue.pop_front();
            if self.by_thread.get(&thread).is_some_and(|orphan| orphan.until_ms == until_ms) {
                return self.remove(thread);
            }
        }
        None
    }

    /// Takes any one out.
    pub(super) fn take_any(&mut self) -> Option<Orphan> {
        self.take_old(u64::MAX)
    }
}
