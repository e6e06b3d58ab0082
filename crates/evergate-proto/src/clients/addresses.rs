//! The addresses that clients come from, each with what counts against it whatever connections it uses: how fast its clients
//! send and connect, and what the bus has of them that nobody has answered.
//!
//! An address is remembered while it has clients or orphans, and until its buckets are full again. So the table is bounded by
//! `clients_max`, `bus_unanswered_max` and, for the rest, `addresses_max`. Each step is constant, amortised.

use std::collections::{HashMap, VecDeque};

use super::outstanding::Unanswered;
use super::rate::{BURST_MS, Bucket, Rate};
use crate::websocket::net::Address;

/// Where an address stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// That of a connection whose handshake is not over.
    pub const NONE: Self = Self(u32::MAX);
}

/// What is known of an address.
#[derive(Debug)]
struct Entry {
    site: Address,
    /// It speaks for others, and no client is known by it: its buckets are not asked.
    is_proxy: bool,
    /// It is in the queue of those that may be forgotten.
    is_queued: bool,
    /// Clients connected.
    clients: u32,
    /// Messages on the bus that nobody has answered, orphans' included.
    unanswered: u32,
    /// Those of clients that left, or that were given up.
    orphans: u32,
    /// The number of its last message in the router's list.
    router_number: u64,
    messages: Bucket,
    connects: Bucket,
}

impl Entry {
    fn is_in_use(&self) -> bool {
        self.clients > 0 || self.orphans > 0
    }
}

/// The addresses of a core.
#[derive(Debug, Default)]
pub struct Addresses {
    entries: Vec<Entry>,
    /// Where each stands. Its hash is keyed at random: who chooses the addresses must not choose where they lie.
    places: HashMap<Address, u32>,
    /// Places that are not used.
    free: Vec<u32>,
    /// Those that had nothing but their buckets when they were queued, and when that was, ms.
    resting: VecDeque<(u64, u32)>,
}

impl Addresses {
    /// Addresses remembered.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A client of `address` has shaken hands: its place, or `None` where its address connects too fast.
    pub fn enter(&mut self, address: Address, is_proxy: bool, connects: Rate, now_ms: u64) -> Option<Place> {
        let site = address.site();
        let at = match self.places.get(&site) {
            Some(at) => *at,
            None => self.insert(site),
        };
        let entry = &mut self.entries[at as usize];
        entry.is_proxy = is_proxy;
        if !is_proxy && !entry.connects.take(connects, now_ms) {
            return None;
        }
        entry.clients += 1;
        Some(Place(at))
    }

    fn insert(&mut self, site: Address) -> u32 {
        let entry = Entry {
            site,
            is_proxy: false,
            is_queued: false,
            clients: 0,
            unanswered: 0,
            orphans: 0,
            router_number: 0,
            messages: Bucket::default(),
            connects: Bucket::default(),
        };
        let at = self.free.pop().unwrap_or(self.entries.len() as u32);
        if at as usize == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[at as usize] = entry;
        }
        self.places.insert(site, at);
        at
    }

    /// A client has left.
    pub fn leave(&mut self, place: Place, now_ms: u64) {
        let entry = self.entry(place);
        entry.clients -= 1;
        self.rest(place.0, now_ms);
    }

    /// Whether a message of this address may be taken now.
    pub fn take_message(&mut self, place: Place, messages: Rate, now_ms: u64) -> bool {
        let entry = self.entry(place);
        entry.is_proxy || entry.messages.take(messages, now_ms)
    }

    /// Whether the address speaks for others.
    pub fn is_proxy(&self, place: Place) -> bool {
        self.entries[place.0 as usize].is_proxy
    }

    /// Messages on the bus that nobody has answered.
    pub fn unanswered(&self, place: Place) -> u32 {
        self.entries[place.0 as usize].unanswered
    }

    /// Those of them that no client waits for any more.
    pub fn orphans(&self, place: Place) -> u32 {
        self.entries[place.0 as usize].orphans
    }

    /// The number of its last message in the router's list.
    pub(super) fn router_number(&self, place: Place) -> u64 {
        self.entries[place.0 as usize].router_number
    }

    /// Its last message in the router's list has that number.
    pub(super) fn set_router_number(&mut self, place: Place, number: u64) {
        self.entry(place).router_number = number;
    }

    /// The bus has so much more of this address.
    pub(super) fn gave(&mut self, place: Place, given: Unanswered) {
        self.entry(place).unanswered += given.messages;
    }

    /// The bus has so much less.
    pub(super) fn answered(&mut self, place: Place, answered: Unanswered) {
        self.entry(place).unanswered -= answered.messages;
    }

    /// Nobody waits any more for so much of what the bus has.
    pub(super) fn orphaned(&mut self, place: Place, orphaned: Unanswered) {
        self.entry(place).orphans += orphaned.messages;
    }

    /// Orphans have been answered, or are not thought of any more.
    pub(super) fn orphans_ended(&mut self, place: Place, ended: Unanswered, now_ms: u64) {
        let entry = self.entry(place);
        entry.unanswered -= ended.messages;
        entry.orphans -= ended.messages;
        self.rest(place.0, now_ms);
    }

    /// Forgets the addresses whose buckets are full again and, of those that would, the oldest beyond `resting_max`; says
    /// how many were forgotten for that.
    pub fn tick(&mut self, resting_max: usize, now_ms: u64) -> usize {
        let mut beyond = 0;
        while let Some(&(since_ms, at)) = self.resting.front() {
            let is_beyond = self.resting.len() > resting_max;
            if !is_beyond && now_ms < since_ms + BURST_MS {
                break;
            }
            self.resting.pop_front();
            let entry = &mut self.entries[at as usize];
            entry.is_queued = false;
            if entry.is_in_use() {
                continue;
            }
            let is_full = entry.messages.is_full(now_ms) && entry.connects.is_full(now_ms);
            if is_full || is_beyond {
                beyond += usize::from(!is_full);
                self.places.remove(&self.entries[at as usize].site);
                self.free.push(at);
            } else {
                self.rest(at, now_ms);
            }
        }
        beyond
    }

    /// Queues an address that has nothing but its buckets.
    fn rest(&mut self, at: u32, now_ms: u64) {
        let entry = &mut self.entries[at as usize];
        if !entry.is_in_use() && !entry.is_queued {
            entry.is_queued = true;
            self.resting.push_back((now_ms, at));
        }
    }

    fn entry(&mut self, place: Place) -> &mut Entry {
        &mut self.entries[place.0 as usize]
    }
}
