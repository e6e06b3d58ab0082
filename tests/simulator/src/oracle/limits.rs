//! What a client, its address and the core may give to the bus. Nothing is counted as it goes: all is added up from what is
//! remembered of each conversation, whenever it is asked for.

use super::Oracle;
use super::client::Client;
use crate::browser::Env;
use crate::tally::What;

/// Which address a client comes from; that of a proxy is no client's own.
pub const PROXY: usize = 0;
/// How many there are.
pub const ADDRESSES: usize = 4;

/// Two seconds' worth of tokens, in thousandths.
#[derive(Clone, Copy, Default)]
pub(super) struct Bucket {
    taken: u64,
    at: u64,
}

impl Bucket {
    /// Takes one, if there is one.
    pub(super) fn take(&mut self, per_second: u64, now: u64) -> bool {
        self.taken = self.taken.saturating_sub((now - self.at) * per_second);
        self.at = now;
        let takes = per_second == 0 || self.taken + 1_000 <= 2 * per_second * 1_000;
        self.taken += if takes && per_second > 0 { 1_000 } else { 0 };
        takes
    }
}

/// What of a conversation that is forgotten the bus has still.
#[derive(Clone, Copy)]
pub(super) struct Orphan {
    pub(super) address: usize,
    pub(super) messages: u32,
    pub(super) until: u64,
}

impl Oracle {
    /// Whether an envelope comes too fast; then it is answered, unless it asks for nothing.
    pub(super) fn is_too_fast(&mut self, c: &mut Client, env: &Env) -> bool {
        let (now, rules) = (self.now, std::rc::Rc::clone(&self.rules));
        if !c.bucket.take(rules.client_rate, now) {
            self.tally.one(What::too_fast_client);
        } else if c.address != PROXY && !self.address_buckets[c.address].0.take(rules.address_rate, now) {
            self.tally.one(What::too_fast_address);
        } else {
            return false;
        }
        if env.counted() > 0 {
            self.tally.one(What::told_429);
            self.errors(c, (&env.spelled, &env.xid), &env.asks(), (429, false));
        }
        env.counted() > 0
    }

    /// Whether a client may have its handshake now.
    pub(super) fn may_connect(&mut self, c: &Client) -> bool {
        let (now, rate) = (self.now, self.rules.connect_rate);
        c.address == PROXY || self.address_buckets[c.address].1.take(rate, now)
    }

    /// Messages without an answer: all; those of an address.
    fn unanswered(&self, lent: Option<&Client>) -> (u64, [u64; ADDRESSES]) {
        let mut of = [0; ADDRESSES];
        for c in self.clients.iter().flatten().chain(lent) {
            of[c.address] += u64::from(c.unanswered());
        }
        for orphan in self.orphans.values() {
            of[orphan.address] += u64::from(orphan.messages);
        }
        (of.iter().sum(), of)
    }

    /// Messages without an answer, and those of them without a client.
    pub fn outstanding(&self) -> (u64, u64) {
        let orphans = self.orphans.values().map(|orphan| u64::from(orphan.messages)).sum();
        (self.unanswered(None).0, orphans)
    }

    /// Whether a client, lent out or not, may give more to the bus.
    pub(super) fn may_give(&self, c: &Client, is_lent: bool) -> bool {
        let (all, of) = self.unanswered(is_lent.then_some(c));
        let own = if c.address == PROXY { u64::from(c.unanswered()) } else { of[c.address] };
        let max = self.rules.unanswered as u64;
        (all < max || (all < 2 * max && own == 0)) && !self.waits_for_router(c, own)
    }

    /// Whether what keeps it from giving more is that the bus has too much.
    pub(super) fn is_bus_full(&self, c: &Client, is_lent: bool) -> bool {
        let (all, of) = self.unanswered(is_lent.then_some(c));
        let own = if c.address == PROXY { u64::from(c.unanswered()) } else { of[c.address] };
        let max = self.rules.unanswered as u64;
        all >= 2 * max || (all >= max && own > 0)
    }

    pub(super) fn has_too_many_orphans(&self, c: &Client) -> bool {
        let own = self.orphans.values().filter(|orphan| orphan.address == c.address);
        own.map(|orphan| orphan.messages as usize).sum::<usize>() >= self.rules.orphans
    }

    /// Nothing is pending there any more, though nothing has come about it: nobody waits for what the bus has of it.
    pub(super) fn gave_up(&mut self, c: &mut Client) {
        let given_up = c.conversations.iter_mut().filter(|v| v.pending.is_empty() && v.unanswered > 0);
        for (n, messages) in given_up.map(|v| (v.n, std::mem::take(&mut v.unanswered))).collect::<Vec<_>>() {
            self.orphan(c, n, messages);
        }
    }

    pub(super) fn orphan(&mut self, c: &Client, n: u64, messages: u32) {
        if messages > 0 {
            self.tally.one(What::orphaned);
            let (address, until) = (c.address, self.now + self.rules.request_ms);
            let all = self.orphans.entry((c.slot, c.generation, n)).or_insert(Orphan { address, messages: 0, until });
            all.messages += messages;
            all.until = until;
        }
    }

    /// Something has come about a conversation that is forgotten.
    pub(super) fn end_orphan(&mut self, of: (u32, u32, u64)) {
        let ended = self.orphans.remove(&of).is_some();
        self.tally.add(What::orphan_answered, usize::from(ended));
    }

    /// Those that are too old are not thought of any more.
    pub(super) fn forget_orphans(&mut self) {
        let (before, now) = (self.orphans.len(), self.now);
        self.orphans.retain(|_, orphan| now < orphan.until);
        self.tally.add(What::orphan_forgotten, before - self.orphans.len());
    }
}
