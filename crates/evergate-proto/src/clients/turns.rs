//! Whose turn it is when the router has taken some of what it was given.

use std::collections::BTreeSet;

use super::output::SlotIndex;
use super::router_list::RouterNews;
use super::table::Clients;

/// Those who wait for room in the router's list, or on the bus. It is good enough to give turns by: a tick looks at all of them, too.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeSet<SlotIndex>,
    /// The slot in front of which the last turn ended.
    next: SlotIndex,
}

impl Turns {
    /// The client in `slot` waits.
    pub(super) fn wait(&mut self, slot: SlotIndex) {
        self.waiting.insert(slot);
    }

    /// Takes the next one out: they have their turns in a round.
    fn next(&mut self) -> Option<SlotIndex> {
        let slot = *self.waiting.range(self.next..).next().or_else(|| self.waiting.first())?;
        self.waiting.remove(&slot);
        self.next = slot + 1;
        Some(slot)
    }
}

impl Clients {
    /// Whether somebody waits who would like to know how long the router's list is.
    pub fn asks_about_router(&self) -> bool {
        let router = &self.context.router;
        !self.turns.waiting.is_empty() && (router.len() > 0 || router.has_large())
    }

    /// Redis has told something of the router's list: those who waited for room there have their turns, as far as there is room.
    /// Who had one.
    pub fn heard_of_router(&mut self, news: &[RouterNews]) -> Vec<SlotIndex> {
        for news in news {
            self.context.router.heard(*news);
        }
        // Who is not read from is looked at by the next tick.
        self.context.outstanding.set_freed();
        let max = self.context.limits.router_queue_max;
        let mut served = Vec::new();
        // Each sends something, or reads something that it will send. Who sent more than one message took more than its turn.
        while (served.len() as u64) < max && !self.context.router.is_long(max) {
            let Some(slot) = self.turns.next() else { break };
            served.push(slot);
            self.with(slot, |client, cx| client.bus_has_room(cx));
        }
        served
    }
}
