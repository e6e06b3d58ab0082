//! An independent model of the gateway, written from the contract and not from the product: it sees what happens at the
//! edges (what clients completed, what was popped, confirmed, lost, the time) and says what each client must be sent,
//! what must be pushed, and who is at an idle gap. It shares no code with the product, and is told three things only:
//! how many bytes each frame took (the texts of errors are the product's own), how many half a message takes in its
//! buffer, and whom the drain's pace let go first.
//!
//! - [`client`]: what it remembers of a client
//! - [`expect`]: what must come out, and whether it is that
//! - `sending`: what a client is sent, slow consumers, the Close
//! - `saying`: what a client says: handshake, frames, envelopes, what waits, what is relayed
//! - `replying`: what the bus delivers, and what befalls it
//! - `time`: timers, the core's bytes
//! - `drain`: gaps, pace, deadline, stop
//! - `dismissing`: connections that an operator ends
//! - `limits`: what a client, its address and the core may give to the bus

mod client;
mod dismissing;
mod drain;
mod expect;
mod limits;
mod replying;
mod router;
mod saying;
mod sending;
mod time;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::browser::Bounds;
use crate::tally::{Tally, What};
pub use client::{Client, Stage};
use drain::Drain;
pub use expect::{Push, Reply, ReplyMsg};
pub use limits::{ADDRESSES, PROXY};
use limits::{Bucket, Orphan};
use router::Router;

pub const ADDRESS: &str = "opensrf:client:gateway:public.localhost:vm:7:00ff";
pub const ROUTER_KEY: &str = "opensrf:router:router:public.localhost";
pub const DOMAINS: [&str; 2] = ["public.localhost", "private.localhost"];

/// Slot, generation, conversation, and which of its envelopes.
pub type Ticket = (u32, u32, u64, u32);

/// The limits in force, ms and counts.
#[derive(Clone, Debug)]
pub struct Rules {
    pub handshake_ms: u64,
    pub message_ms: u64,
    pub message_max_ms: u64,
    pub ping_ms: u64,
    pub pong_ms: u64,
    /// Bytes a second.
    pub slow: u64,
    pub idle_ms: u64,
    pub request_ms: u64,
    pub connect_ms: u64,
    pub close_ms: u64,
    pub bus_lost_ms: u64,
    pub parallel: usize,
    pub backlog: usize,
    pub backlog_bytes: usize,
    pub sessions: usize,
    pub outbound: usize,
    pub core_bytes: u64,
    pub garbage: u32,
    /// Messages a second, of a client and of an address; handshakes of one; 0 = no limit.
    pub client_rate: u64,
    pub address_rate: u64,
    pub connect_rate: u64,
    /// Messages of an address on the bus that no client waits for.
    pub orphans: usize,
    /// Messages on the bus without an answer.
    pub unanswered: usize,
    /// Messages in the router's list; 0 = no limit.
    pub router: usize,
    pub bounds: Bounds,
    /// From the last activity to the Close of a drain, or to one that an operator has asked for.
    pub quiet_ms: u64,
}

pub struct Oracle {
    pub rules: Rc<Rules>,
    pub clients: Vec<Option<Client>>,
    generations: Vec<u32>,
    free: VecDeque<u32>,
    pub pushes: VecDeque<Push>,
    pub accepting: [bool; 2],
    pub ever_up: bool,
    pub now: u64,
    ticked: u64,
    drain: Option<Drain>,
    /// For messages and for handshakes.
    address_buckets: [(Bucket, Bucket); ADDRESSES],
    orphans: BTreeMap<(u32, u32, u64), Orphan>,
    router: Router,
    /// Closes at a gap that the product made in this call: whose turn it is in the pace is its own choice.
    pub gap_closes: u64,
    /// Whom the product looks at behind this tick.
    asked: Vec<u32>,
    /// What happened; the product's counters are held against it.
    pub tally: Tally,
    pub wrong: Option<String>,
}

fn domain_of(address: &str) -> Option<usize> {
    let name = address.split(':').nth(3)?;
    DOMAINS.iter().position(|domain| *domain == name)
}

impl Oracle {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules: Rc::new(rules),
            clients: Vec::new(),
            generations: Vec::new(),
            free: VecDeque::new(),
            pushes: VecDeque::new(),
            accepting: [true; 2],
            ever_up: false,
            now: 0,
            ticked: 0,
            drain: None,
            address_buckets: Default::default(),
            orphans: BTreeMap::new(),
            router: Router::default(),
            gap_closes: 0,
            asked: Vec::new(),
            tally: Tally::default(),
            wrong: None,
        }
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.wrong.get_or_insert(text.into());
    }

    pub fn client(&self, slot: u32) -> Option<&Client> {
        self.clients.get(slot as usize)?.as_ref()
    }

    /// Lends a client out, so that it can be changed beside the rest.
    fn with<T>(&mut self, slot: u32, act: impl FnOnce(&mut Self, &mut Client) -> T) -> Option<T> {
        let mut client = self.clients.get_mut(slot as usize)?.take()?;
        let done = act(self, &mut client);
        self.clients[slot as usize] = Some(client);
        Some(done)
    }

    fn each(&mut self, mut act: impl FnMut(&mut Self, &mut Client)) {
        for slot in 0..self.clients.len() as u32 {
            self.with(slot, &mut act);
        }
    }

    pub fn accept(&mut self, address: usize) -> u32 {
        self.tally.one(What::accepted);
        let slot = self.free.pop_front().unwrap_or(self.clients.len() as u32);
        if slot as usize == self.clients.len() {
            self.clients.push(None);
            self.generations.push(0);
        } else {
            self.tally.one(What::slot_reused);
        }
        self.clients[slot as usize] = Some(Client::new(slot, self.generations[slot as usize], address, self.now));
        slot
    }

    pub fn release(&mut self, slot: u32) {
        self.with(slot, |o, c| {
            if c.stage == Stage::Open {
                o.leave(c);
            }
        });
        if self.clients[slot as usize].take().is_some() {
            self.generations[slot as usize] += 1;
            self.free.push_back(slot);
        }
    }

    // Whether a client is read from.

    pub fn may_read(&self, slot: u32, core_full: bool) -> bool {
        let may = |c: &Client| c.stage != Stage::Open || (self.may_give(c, false) && !self.is_silenced(c));
        self.client(slot).is_none_or(may) && self.has_room(slot, core_full)
    }

    /// The same, the bus and a drain apart.
    fn has_room(&self, slot: u32, core_full: bool) -> bool {
        let Some(c) = self.client(slot) else { return true };
        let (.., backlog, bytes) = c.books();
        let is_full = backlog >= self.rules.backlog || bytes >= self.rules.backlog_bytes || core_full;
        c.stage != Stage::Open || !is_full
    }

    pub fn pause(&mut self, slot: u32, core_full: bool) {
        self.tally.one(What::read_paused);
        self.tally.add(What::core_bytes_hit, usize::from(core_full));
        let bus_full = self.client(slot).is_some_and(|c| self.is_bus_full(c, false));
        self.tally.add(What::bus_full, usize::from(bus_full));
        let is_silenced = self.client(slot).is_some_and(|c| self.is_silenced(c));
        self.tally.add(What::silenced, usize::from(is_silenced));
        self.with(slot, |_, c| {
            c.paused = true;
            c.idle_at_drain &= is_silenced;
        });
    }

    pub fn resume(&mut self, slot: u32) {
        let now = self.now;
        self.tally.one(What::read_resumed);
        // What the bus has may be more again by now, and what it asked for a session may be given up.
        let may = self.has_room(slot, false);
        let was = self.with(slot, |_, c| {
            (c.activity, c.received) = (now, now);
            c.ping_since = None;
            c.message_since = (c.stage == Stage::Open && !c.clean).then_some(now);
            c.message_heard = now;
            c.had_session |= c.sessions() + c.connecting() > 0;
            std::mem::take(&mut c.paused)
        });
        if was == Some(false) || !may {
            self.wrong(format!("slot {slot} is resumed: it was paused {was:?}, may be read from {may}"));
        }
    }
}
