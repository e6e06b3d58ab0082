//! What must hold after every step, beside what the oracle itself finds.

use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::clients::audit::{Audit, audit, looks_again, queued};
use evergate_proto::clients::table::Clients;
use evergate_proto::counters::{Core, Limit};
use evergate_proto::redis::outbox::Push;

use super::World;
use crate::oracle::{Client, Oracle, Stage};
use crate::tally::{Tally, What};

/// After a call: how many bytes each frame took.
pub fn tell(oracle: &mut Oracle, clients: &Clients) {
    let now = oracle.now;
    for (slot, client) in oracle.clients.iter_mut().enumerate() {
        if let Some(client) = client {
            client.tell(queued(clients, slot as u32));
            // What one without its half message says means something else to the product.
            if client.desynced
                && audit(clients, slot as u32).is_some_and(|audit| !audit.awaits_close)
                && let Stage::Closing { since, awaits: awaits @ true, .. } = &mut client.stage
            {
                (*awaits, *since) = (false, now);
            }
        }
    }
}

/// Before a tick: how much each holds of half a message.
pub fn tell_halves(oracle: &mut Oracle, clients: &Clients) {
    for (slot, client) in oracle.clients.iter_mut().enumerate() {
        if let Some(client) = client {
            client.half_bytes = audit(clients, slot as u32).map_or(0, |audit| audit.decoder_bytes + audit.header_bytes);
        }
    }
}

/// A message is pushed; its text.
pub fn pushed(oracle: &mut Oracle, domain: usize, push: &Push) -> String {
    let text = String::from_utf8_lossy(&push.message).into_owned();
    let ticket = push.ticket.map(|t| (t.slot, t.generation, t.n, t.push));
    if let Err(wrong) = oracle.pushed(domain, &push.key, &text, ticket) {
        violated!("{wrong}");
    }
    text
}

/// All that was called for has come, and nothing else.
pub fn nothing_is_missing(oracle: &mut Oracle) {
    if let Some(wrong) = oracle.wrong.take() {
        violated!("{wrong}");
    }
    if let Some(missing) = oracle.pushes.pop_front() {
        violated!("a push is missing: {missing:?}");
    }
}

/// A client of the product's is what it must be.
pub fn client(slot: u32, audit: &Audit, client: &Client) {
    if audit.stage != client.stage_number() {
        violated!("slot {slot} is in stage {}, must be {:?}", audit.stage, client.stage);
    }
    let books = (audit.pending, audit.sessions, audit.conversations, audit.backlog, audit.backlog_bytes);
    if books != client.books() || !audit.book_agrees {
        let expected = client.books();
        violated!("slot {slot}: pending, sessions, conversations, backlog are {books:?}, must be {expected:?}");
    }
    if audit.outbound_bytes != client.unsent() || client.uncalled_for() > 0 {
        let (bytes, expected, more) = (audit.outbound_bytes, client.unsent(), client.uncalled_for());
        violated!("slot {slot} has {bytes} unsent bytes, must have {expected}; {more} frames nothing calls for");
    }
    let reads = matches!(client.stage, Stage::Open | Stage::Closing { .. });
    if reads && client.clean && !client.desynced && audit.decoder_bytes > 0 {
        violated!("slot {slot} holds {} bytes of nothing unfinished: {:?}", audit.decoder_bytes, client.stage);
    }
    if books == (0, 0, 0, 0, 0) && client.is_all_sent() && audit.owns_heap {
        violated!("slot {slot} is idle and owns memory");
    }
}

/// How often a line of the log says that a client was told 429: where it names somebody anew, once.
pub fn told_429(line: &str) -> u64 {
    let Some((_, said)) = line.split_once(": refused with 429") else { return 0 };
    said.split_once(", ").map_or(1, |(_, times)| times.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// The counters say what happened.
pub fn counters(core: &Core, tally: &Tally) {
    let counts = &core.counts;
    let counters = [
        ("accepted", &counts.accepted, What::accepted),
        ("handshakes_refused", &counts.handshakes_refused, What::handshake_bad),
        ("messages_in", &counts.messages_in, What::message_heard),
        ("messages_out", &counts.messages_out, What::text_queued),
        ("requests", &counts.requests, What::request_relayed),
        ("errors_made", &counts.errors_made, What::error_made),
        ("maybe_lost", &counts.maybe_lost, What::maybe_lost_503),
        ("undeliverable", &counts.undeliverable, What::reply_undeliverable),
        ("bus_pops", &counts.bus_pops, What::popped),
        ("foreign_sessions_refused", &counts.foreign_sessions_refused, What::session_refused_foreign),
        ("crossed_close", &counts.crossed_close, What::crossed_close),
        ("closed_at_gap", &counts.closed_at_gap, What::closed_at_gap),
        ("closed_at_deadline", &counts.closed_at_deadline, What::closed_at_deadline),
        ("closed_by_operator", &counts.closed_by_operator, What::closed_by_operator),
        ("cut", &counts.cut, What::cut_in_drain),
        ("given_up_undelivered", &counts.given_up_undelivered, What::given_up_undelivered),
        ("disconnects_ignored", &counts.disconnects_ignored, What::disconnect_ignored),
    ];
    // Of whom a half message was taken away, what it says afterwards cannot be told from outside.
    let unsure = [What::crossed_close, What::message_heard, What::close_timeout];
    let known = |what: What| tally.of(What::desynced) == 0 || !unsure.contains(&what);
    let limits = [
        (Limit::handshake_timeout_seconds, What::handshake_timeout),
        (Limit::message_timeout_seconds, What::message_timeout),
        (Limit::message_max_seconds, What::message_too_long),
        (Limit::pong_timeout_seconds, What::pong_timeout),
        (Limit::slow_bytes_per_second_min, What::reader_too_slow),
        (Limit::idle_timeout_seconds, What::idle_closed),
        (Limit::close_timeout_seconds, What::close_timeout),
        (Limit::sessions_max, What::refused_429),
        (Limit::outbound_bytes_max, What::slow_consumer),
        (Limit::core_bytes_max, What::core_bytes_hit),
        (Limit::garbage_max, What::garbage_close),
        (Limit::client_messages_per_second_max, What::too_fast_client),
        (Limit::address_messages_per_second_max, What::too_fast_address),
        (Limit::address_connects_per_second_max, What::connects_refused),
        (Limit::address_orphans_max, What::refused_for_orphans),
        (Limit::bus_unanswered_max, What::bus_full),
        (Limit::router_queue_max, What::router_wait),
    ];
    let counters = counters.map(|(name, counter, what)| (name, counter.load(Relaxed), what));
    let limits = limits.map(|(limit, what)| (Limit::ALL[limit as usize].1, core.limit_hits(limit), what));
    for (name, is, what) in counters.into_iter().chain(limits) {
        let expected = tally.of(what);
        if is != expected && known(what) {
            violated!("{name} is {is}, must be {expected}");
        }
    }
}

/// At the end nothing is left.
pub fn gauges_are_zero(core: &Core) {
    for (name, is_gauge, _, value) in core.counts.table() {
        if is_gauge && value > 0 && name != "heartbeat_ms" {
            violated!("in the end {name} is {value}");
        }
    }
}

impl World {
    pub(super) fn check(&self) {
        let counts = &self.cores[0].counts;
        let (mut bytes, mut classes, mut pending, mut sessions, mut handshaking) = (0, [0_u64; 5], 0, 0, 0);
        for slot in self.slots() {
            let (audit, client) = match (self.audit(slot), self.oracle.client(slot)) {
                (Some(audit), Some(client)) => (audit, client),
                (None, None) => continue,
                (is, must_be) => violated!("slot {slot} is taken: {}, must be {}", is.is_some(), must_be.is_some()),
            };
            self::client(slot, &audit, client);
            if matches!(client.stage, Stage::Closing { awaits: false, .. })
                && client.is_all_sent()
                && !self.conns[slot as usize].as_ref().is_none_or(super::Conn::is_half_closed_or_over)
            {
                violated!("slot {slot}: all is said and sent, and our side is not shut down");
            }
            bytes += audit.bytes() as u64;
            pending += audit.pending as u64;
            sessions += audit.sessions as u64;
            handshaking += u64::from(audit.stage == 0);
            if let Some(class) = client.class() {
                classes[class] += 1;
            }
        }
        let (unanswered, orphans) = self.oracle.outstanding();
        for (name, gauge, expected) in [
            ("bus_unanswered", &counts.bus_unanswered, unanswered),
            ("bus_orphans", &counts.bus_orphans, orphans),
            ("core_bytes", &counts.core_bytes, bytes),
            ("pending", &counts.pending, pending),
            ("sessions", &counts.sessions, sessions),
            ("handshaking", &counts.handshaking, handshaking),
            ("sending", &counts.sending, classes[0]),
            ("waiting_for_replies", &counts.waiting_for_replies, classes[1]),
            ("waiting_for_room", &counts.waiting_for_room, classes[2]),
            ("in_stateful_session", &counts.in_stateful_session, classes[3]),
            ("idle", &counts.idle, classes[4]),
            ("open", &counts.open, classes.iter().sum()),
        ] {
            let is = gauge.load(Relaxed);
            if is != expected {
                violated!("{name} is {is}, must be {expected}");
            }
        }
        let tally = &self.oracle.tally;
        counters(&self.cores[0], tally);
        let lines = [What::handshake_done, What::client_left, What::request_relayed].map(|what| tally.of(what));
        if self.activity_lines != lines.iter().sum() {
            violated!("the activity log has {} lines, must have {lines:?}", self.activity_lines);
        }
    }

    /// What must hold once a tick has looked at everybody, `paused` ones too, and found the core full or not.
    pub(super) fn check_tick(&self, paused: &[u32], core_full: bool) {
        // What was given since it looked, when it looked at clients, may have made room.
        let looks_again = looks_again(&self.clients);
        for &slot in paused.iter().filter(|_| !looks_again) {
            if self.oracle.client(slot).is_some_and(|c| c.paused) && self.oracle.may_read(slot, core_full) {
                violated!("slot {slot} may be read from and is not");
            }
        }
        // Of a reply on its way nobody outside knows since when.
        let oldest = self.clients.oldest();
        if oldest.as_ref().is_some_and(|oldest| oldest.service == "reply") {
            return;
        }
        let oldest = oldest.map(|oldest| oldest.age_ms);
        let expected = self.oracle.clients.iter().flatten().filter_map(Client::oldest).min();
        if oldest != expected.map(|since| self.now - since) {
            violated!("the oldest thing waited for is {oldest:?} ms old, must be since {expected:?}");
        }
    }
}
