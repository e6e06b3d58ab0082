//! What all clients of a core share: the limits, the names, the state of the bus, the output, the counters.

use std::hash::BuildHasher as _;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::holders::Holders;
use super::limits::{BusNames, Limits};
use super::output::{BusNews, Output, Severity};
use super::outstanding::Outstanding;
use super::reuse::Reuse;
use super::router_list::RouterList;
use super::turned_away::{TurnedAway, Why};
use crate::counters::{self, Counts, Limit};
use crate::drain::{Drain, DrainOptions};
use crate::json::judge::Judged;
use crate::opensrf::envelope::{self, Envelope, Refusal};
use crate::opensrf::transport;
use crate::redis::outbox::{Push, Ticket};
use crate::services::{Place, Places};
use crate::websocket::net::Address;
use crate::websocket::proxy_header::Wrong;

/// Lent to every decision about a client.
pub struct Context {
    /// Milliseconds since the process began.
    pub(super) now_ms: u64,
    /// The same in microseconds, for what is only counted.
    pub(super) now_us: u64,
    /// The limits; replaced as a whole.
    pub(super) limits: Rc<Limits>,
    /// The core's names on the bus.
    pub(super) names: Rc<BusNames>,
    /// For each bus domain: whether messages are taken for it. False while it is known to be away.
    accepting: Vec<bool>,
    /// Whether the primary links have ever been up: until then a handshake is refused.
    pub(super) bus_ever_up: bool,
    /// Decisions that the shell has not taken yet.
    pub(super) output: Output,
    /// Memory for the next request.
    pub(super) reuse: Reuse,
    /// The drain, once it has begun.
    pub(super) drain: Option<Drain>,
    /// What the bus has and nobody has answered.
    pub(super) outstanding: Outstanding,
    /// What waits for the router.
    pub(super) router: RouterList,
    /// Whose clients were turned away.
    turned_away: TurnedAway,
    /// Bytes held for all clients.
    core_bytes: u64,
    /// Who holds most of them.
    pub(super) holders: Holders,
    /// Bytes that the loop holds: bus messages that wait for their link, what has come of clients and was copied, and what waits
    /// to be freed.
    loop_bytes: u64,
    /// The index of each bus domain. The operator names them, so that no secret is needed against names that fall together.
    domains: FxHashMap<String, usize>,
    /// The number of the next made-up `log_xid`.
    next_xid: u64,
    /// Where the figures of services are.
    places: Places,
    /// What all cores publish.
    cores: Arc<[counters::Core]>,
    /// Which core this is.
    core: usize,
}

impl Context {
    /// A context at the beginning of the core's life.
    pub fn new(limits: Rc<Limits>, names: Rc<BusNames>, cores: Arc<[counters::Core]>, core: usize) -> Self {
        let domains = names.domains.iter().rev().cloned().zip((0..names.domains.len()).rev()).collect();
        Self {
            now_ms: 0,
            now_us: 0,
            limits,
            accepting: vec![true; names.domains.len()],
            outstanding: Outstanding::default(),
            router: RouterList::default(),
            turned_away: TurnedAway::default(),
            names,
            bus_ever_up: false,
            output: Output::default(),
            reuse: Reuse::default(),
            drain: None,
            core_bytes: 0,
            holders: Holders::default(),
            loop_bytes: 0,
            domains,
            next_xid: 0,
            places: Places::default(),
            cores,
            core,
        }
    }

    /// It is `now_ms`, for all that is decided from now on.
    pub fn at(&mut self, now_ms: u64) {
        self.at_us(now_ms * 1_000);
    }

    /// The same to the microsecond. Never before the first millisecond, since 0 says "never".
    pub fn at_us(&mut self, now_us: u64) {
        self.now_us = now_us.max(1_000);
        self.now_ms = self.now_us / 1_000;
    }

    /// The time for which decisions are made, ms since the process began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The same in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The core's names on the bus.
    pub fn names(&self) -> &Rc<BusNames> {
        &self.names
    }

    /// Decisions that the shell has not taken yet.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// A line for the log.
    pub fn log(&mut self, severity: Severity, text: String) {
        self.output.log(severity, text);
    }

    /// Something has become of a link to the bus, and the shell is to hear of it.
    pub fn tell(&mut self, news: BusNews) {
        self.output.bus.push(news);
    }

    /// The limits were read again.
    pub(super) fn replace_limits(&mut self, limits: Rc<Limits>) {
        self.limits = limits;
    }

    /// A drain begins, with so many `clients`.
    pub(super) fn begin_drain(&mut self, options: DrainOptions, clients: usize) {
        // Random bits of the core's own, so that no two go in step.
        let seed = FxBuildHasher.hash_one(&*self.names.address);
        self.drain = Some(Drain::new(options, self.limits.drain_quiet_ms, clients, self.now_ms, seed));
    }

    /// The drain is no more.
    pub(super) fn cancel_drain(&mut self) {
        self.drain = None;
    }

    /// The primary links are up.
    pub fn bus_is_up(&mut self) {
        self.bus_ever_up = true;
    }

    /// Whether they have ever been.
    pub fn was_bus_up(&self) -> bool {
        self.bus_ever_up
    }

    /// From now on messages for a bus domain are taken, or are not.
    pub fn take_messages(&mut self, domain: usize, takes: bool) {
        self.accepting[domain] = takes;
    }

    /// Whether messages for a bus domain are taken.
    pub fn takes_messages(&self, domain: usize) -> bool {
        self.accepting[domain]
    }

    /// A client that held `was` bytes holds `now`.
    pub(super) fn count_bytes(&mut self, was: usize, now: usize) {
        self.core_bytes = self.core_bytes + now as u64 - was as u64;
    }

    /// Bytes held for all clients.
    pub fn core_bytes(&self) -> u64 {
        self.core_bytes
    }

    /// The loop holds so many bytes besides.
    pub fn loop_holds(&mut self, bytes: u64) {
        self.loop_bytes = bytes;
    }

    /// Bytes that the loop holds.
    pub fn loop_bytes(&self) -> u64 {
        self.loop_bytes
    }

    /// Which core this is.
    pub fn core_index(&self) -> usize {
        self.core
    }

    /// What all cores publish.
    pub fn cores(&self) -> &[counters::Core] {
        &self.cores
    }

    /// What this core publishes.
    pub fn core(&self) -> &counters::Core {
        &self.cores[self.core]
    }

    /// This core's gauges and counts.
    pub fn counts(&self) -> &Counts {
        &self.core().counts
    }

    /// Counts a message to a client, of so many bytes.
    pub(super) fn sends_message(&self, bytes: usize) {
        let core = self.core();
        counters::add(&core.counts.messages_out, 1);
        core.histograms.message_out.count(bytes as u64);
    }

    /// Where the figures of a service are that has answered something.
    pub(super) fn place_of(&mut self, service: &str) -> Place {
        self.places.of(self.cores[self.core].services.names(), service)
    }

    /// Counts a limit that was hit.
    pub fn hit(&self, limit: Limit) {
        self.core().limit_hit(limit);
    }

    /// Names the address of a client that was told 429 in the log; what is repeated is counted there.
    pub(super) fn say_throttled(&mut self, address: Address, limit: Limit) {
        self.say_turned_away(address, Why::Limit(limit));
    }

    /// Names the address of a client that was turned away, likewise.
    fn say_turned_away(&mut self, address: Address, why: Why) {
        if let Some(line) = self.turned_away.count(address, why, self.now_ms) {
            self.output.log(Severity::Warn, line);
        }
    }

    /// A connection did not begin as its listener demands: it is counted, and its peer is named.
    pub(super) fn proxy_refused(&mut self, peer: Address, wrong: Wrong) {
        counters::add(&self.counts().proxy_headers_refused, 1);
        self.say_turned_away(peer, Why::ProxyHeader(wrong));
    }

    /// Says what was counted, if it is time for that, or at the `end`.
    pub(super) fn say_turned_away_more(&mut self, end: bool) {
        for line in self.turned_away.take(self.now_ms, end) {
            self.output.log(Severity::Warn, line);
        }
    }

    /// Reads a client's message, which may have been judged while it came in, or before it had to wait.
    pub fn read<'a>(&mut self, text: &'a [u8], judged: Option<&Judged>) -> Result<Envelope<'a>, Refusal> {
        match judged {
            Some(judged) => envelope::parse_judged(text, judged, &self.limits.envelope),
            None => envelope::parse(text, &self.limits.envelope),
        }
    }

    /// Whether all clients together hold more than they may.
    pub fn is_core_full(&self) -> bool {
        self.core_bytes + self.loop_bytes > self.limits.core_bytes_max
    }

    /// Publishes what is outstanding.
    pub fn publish_outstanding(&self) {
        let (counts, total) = (self.counts(), self.outstanding.total());
        counters::set(&counts.bus_unanswered, total.messages.into());
        counters::set(&counts.bus_unanswered_bytes, total.bytes);
        counters::set(&counts.bus_orphans, self.outstanding.orphans());
        counters::set(&counts.addresses, self.outstanding.addresses.len() as u64);
    }

    /// A `log_xid` for a client that gave none, quoted JSON.
    pub fn make_xid(&mut self) -> Vec<u8> {
        self.next_xid += 1;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(self.next_xid);
        ["\"", &*self.names.xid_prefix, digits, "\""].concat().into_bytes()
    }

    /// The index of a bus domain that may be dialled.
    pub fn domain(&self, name: &str) -> Option<usize> {
        self.domains.get(name).copied()
    }

    /// Queues a message for a list on the bus.
    pub fn push(&mut self, domain: usize, key: Rc<str>, message: Vec<u8>, ticket: Option<Ticket>) {
        self.output.pushes.push((domain, Push { key, message, ticket }));
    }

    /// Queues a DISCONNECT, so that `worker` need not wait for its keep-alive.
    pub fn push_disconnect(&mut self, domain: usize, worker: &str, bus_thread: &str, xid: &[u8]) {
        let mut message = self.reuse.buffer(512);
        let names = Rc::clone(&self.names);
        transport::write_disconnect(&mut message, worker, &names.address, bus_thread, xid, &self.limits.ingress);
        self.push(domain, worker.into(), message, None);
    }
}
