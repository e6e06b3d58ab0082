//! The router's list: a list of what may be in it, from which each length that Redis tells takes away what cannot be.

use std::collections::VecDeque;

use evergate_proto::clients::router_list::{LARGE_BYTES, RouterNews};

use super::Oracle;
use super::client::Client;
use super::limits::PROXY;
use crate::tally::What;

/// A message that may be in the list.
struct Entry {
    address: usize,
    client: (u32, u32),
    large: bool,
}

/// What may be there.
#[derive(Default)]
pub(super) struct Router {
    entries: VecDeque<Entry>,
    /// Redis has answered about so many of them, from the front.
    known: usize,
    /// How long the list was then.
    told: usize,
}

impl Router {
    /// How long it may be.
    fn len(&self) -> usize {
        self.told + self.entries.len() - self.known
    }
}

impl Oracle {
    /// A client's message was given to the router.
    pub(super) fn gave_to_router(&mut self, c: &Client, text_len: usize) {
        let (address, client) = (c.address, (c.slot, c.generation));
        self.router.entries.push_back(Entry { address, client, large: text_len >= LARGE_BYTES });
    }

    /// Redis has said something; then the product let `served` have a turn each.
    pub fn heard_of_router(&mut self, news: &[RouterNews], served: &[u32]) {
        for news in news {
            let router = &mut self.router;
            let (messages, told) = match *news {
                RouterNews::Took { messages, length } => (messages as usize, length as usize),
                RouterNews::Refused { messages } => (messages as usize, router.told),
                RouterNews::Empty => (0, 0),
                RouterNews::Lost => (usize::MAX, 0),
            };
            router.known = router.known.saturating_add(messages).min(router.entries.len());
            router.told = told;
            // A refused message is not in the list; that of its place is not known to have left for that.
            if !matches!(news, RouterNews::Refused { .. }) {
                while router.known > told {
                    router.entries.pop_front();
                    router.known -= 1;
                }
            }
        }
        for &slot in served {
            self.tally.one(What::router_turn);
            if self.is_router_long() {
                self.wrong(format!("slot {slot} has a turn, and the router's list is long"));
            }
            self.with(slot, |o, c| o.relay_backlog(c));
        }
    }

    fn is_router_long(&self) -> bool {
        let times = if self.router.entries.iter().any(|entry| entry.large) { 8 } else { 1 };
        self.rules.router > 0 && self.router.len() >= self.rules.router * times
    }

    /// Whether a client must wait until the router has taken what it sent: the list is long, and something of its address, or
    /// behind a proxy its own, is there and not answered. `unanswered`: of whoever counts.
    pub(super) fn waits_for_router(&self, c: &Client, unanswered: u64) -> bool {
        let is_own = |entry: &Entry| match c.address {
            PROXY => entry.client == (c.slot, c.generation),
            address => entry.address == address,
        };
        self.is_router_long() && unanswered > 0 && self.router.entries.iter().any(is_own)
    }

    /// Whether a text must wait until the router has taken the last large one.
    pub(super) fn waits_behind_large(&self, text_len: usize) -> bool {
        self.rules.router > 0 && text_len >= LARGE_BYTES && self.router.entries.iter().any(|entry| entry.large)
    }
}
