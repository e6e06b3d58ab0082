//! What the actors may do at any time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evergate_proto::lifecycle::{Listener, Orders, Phase};
use evergate_proto::websocket::proxy_header::Opening;

use super::conn::Conn;
use super::link::{POP, PUSH};
use super::{World, cancels};
use crate::browser::{Browser, Kind};
use crate::mixture::Action;
use crate::oracle::{ADDRESS, PROXY, ROUTER_KEY};
use crate::random::Random;
use crate::tally::{Tally, What};
use crate::workers::Job;

/// The kinds of actions that a mask can leave out, in the order of its bits; how often each is tried, where a seed does
/// not say otherwise.
pub const ACTIONS: &[Action] = &[
    ("accept", 30),
    ("say", 90),
    ("say-badly", 5),
    ("ping", 5),
    ("violate", 2),
    ("close", 4),
    ("vanish", 4),
    ("stop-reading", 4),
    ("flood", 6),
    ("half-frame", 2),
    ("router", 110),
    ("worker", 140),
    ("worker-odd", 40),
    ("break-push", 3),
    ("break-pop", 3),
    ("redis-restart", 1),
    ("redis-full", 2),
    ("redis-stall", 2),
    ("drain", 1),
    ("stop", 1),
    ("jump", 6),
    ("late-tick", 1),
    ("fat", 4),
    ("half-close", 2),
    ("silent", 1),
    ("redis-down", 1),
    ("session", 12),
    ("slow-reader", 4),
    ("farewell", 12),
    ("cancel", 2),
];

/// For so long after the signal connections still come, ms.
pub(super) const ACCEPTED_IN_DRAIN_MS: u64 = 40;

/// Where clients come from: a proxy that names nobody, two IPv4 addresses, two of one IPv6 network.
fn peers() -> [(IpAddr, usize); 5] {
    [
        (Ipv4Addr::LOCALHOST.into(), PROXY),
        (Ipv4Addr::new(192, 0, 2, 1).into(), 1),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 1, 2, 3, 4).into(), 3),
        (Ipv4Addr::new(192, 0, 2, 2).into(), 2),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 5, 6, 7, 8).into(), 3),
    ]
}

impl World {
    pub(super) fn act(&mut self) {
        match self.mixture.choose(&mut self.random) {
            "accept" => self.accept(),
            "say" => self.some_browser(|random, conn, tally| {
                let kinds: Vec<Kind> = (0..1 + random.below(6) / 3 + random.below(9) / 8)
                    .map(|_| match random.below(20) {
                        0..5 => Kind::Connect,
                        5 | 6 => Kind::Disconnect,
                        _ => Kind::Request,
                    })
                    .collect();
                tally.one(What::envelope_said);
                tally.add(What::envelope_with_several, usize::from(kinds.len() > 1));
                conn.browser.say(random, &kinds, 0);
            }),
            "fat" => self.some_browser(|random, conn, tally| {
                tally.one(What::envelope_said);
                let fat = 60 + random.below(400);
                conn.browser.say(random, &[Kind::Request], fat);
            }),
            "say-badly" => {
                let bounds = self.oracle.rules.bounds;
                self.some_browser(|random, conn, tally| {
                    tally.one(What::envelope_bad);
                    for _ in 0..1 + random.below(3) {
                        conn.browser.say_badly(random, &bounds);
                    }
                });
            }
            "ping" => self.some_browser(|random, conn, tally| {
                tally.one(What::ping_said);
                conn.browser.ping(random);
            }),
            "violate" => {
                let bounds = self.oracle.rules.bounds;
                self.some_browser(|random, conn, _| conn.browser.violate(random, &bounds));
            }
            "close" => self.some_browser(|random, conn, _| conn.browser.close(random)),
            "half-frame" => self.some_browser(|random, conn, _| conn.browser.half(random)),
            "vanish" => self.some_browser(|_, conn, tally| {
                tally.one(What::vanished);
                conn.broken = true;
            }),
            "half-close" => self.some_browser(|_, conn, tally| {
                tally.one(What::half_closed_by_client);
                conn.fin = true;
                conn.browser.close_sent = true;
            }),
            "silent" => self.some_browser(|_, conn, tally| {
                tally.one(What::silent_client);
                conn.browser.silent = true;
            }),
            "stop-reading" => {
                if self.random.percent(40) {
                    self.conns.iter_mut().flatten().for_each(|conn| conn.browser.reading = true);
                } else {
                    self.some_browser(|random, conn, tally| {
                        tally.one(What::stopped_reading);
                        conn.browser.reading = false;
                        conn.browser.window = random.below(400);
                    });
                }
            }
            "flood" => self.some_browser(|random, conn, tally| {
                for _ in 0..3 + random.below(10) {
                    let kind = if random.percent(85) { Kind::Request } else { Kind::Connect };
                    tally.one(What::envelope_said);
                    conn.browser.say(random, &[kind], 0);
                }
            }),
            // A session from its CONNECT to its DISCONNECT, said back to back.
            "session" => self.some_browser(|random, conn, tally| {
                let thread = random.below(3);
                let mut kinds = vec![Kind::Connect];
                kinds.extend(vec![Kind::Request; 1 + random.below(4)]);
                kinds.push(Kind::Disconnect);
                for kind in kinds {
                    tally.one(What::envelope_said);
                    conn.browser.say_on(random, thread, &[kind], 0);
                }
            }),
            // A message that is an activity and asks for nothing.
            "farewell" => self.some_browser(|random, conn, tally| {
                tally.one(What::envelope_said);
                conn.browser.say(random, &[Kind::Disconnect], 0);
            }),
            "slow-reader" => self.some_browser(|random, conn, tally| {
                tally.one(What::slow_reader);
                conn.drip = [0, 1, 3, 9][random.below(4)];
            }),
            "router" => self.route(),
            "worker" => self.work(false),
            "worker-odd" => self.work(true),
            "break-push" => {
                let domain = usize::from(self.random.percent(30));
                self.break_link(PUSH[domain]);
            }
            "break-pop" => self.break_link(POP),
            "redis-restart" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].restart();
                if domain == 0 {
                    self.break_link(POP);
                }
                self.break_link(PUSH[domain]);
            }
            "redis-down" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].down ^= true;
                if self.redis[domain].down {
                    if domain == 0 {
                        self.break_link(POP);
                    }
                    self.break_link(PUSH[domain]);
                }
            }
            "redis-full" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].full ^= true;
            }
            "redis-stall" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].stalled ^= true;
            }
            "cancel" => self.cancel(),
            "drain" => {
                if self.random.percent(60) {
                    self.drain();
                }
            }
            "stop" => {
                if self.random.percent(30) {
                    self.stop();
                }
            }
            "jump" => {
                let ms = [30, 120, 400, 900][self.random.below(4)];
                self.advance(ms);
            }
            _ => {
                // The core stands still: no tick meanwhile.
                self.now += 1_001 + self.random.between(0, 400);
            }
        }
    }

    pub(super) fn some_browser(&mut self, act: impl FnOnce(&mut Random, &mut Conn, &mut Tally)) {
        let may = |conn: &&mut Conn| conn.may_say();
        let here = self.conns.iter_mut().flatten().filter(may).count();
        if here > 0 {
            let at = self.random.below(here);
            if let Some(conn) = self.conns.iter_mut().flatten().filter(may).nth(at) {
                act(&mut self.random, conn, &mut self.tally);
            }
        }
    }

    /// In a drain restless clients ask as soon as they have all their answers: they have no gap of their own. The others say now and
    /// then what is an activity and asks for nothing.
    pub(super) fn ask_again(&mut self) {
        let Some(random) = self.restless.as_mut().filter(|_| self.orders.phase == Phase::Draining) else { return };
        for conn in self.conns.iter_mut().flatten().filter(|conn| conn.may_say() && conn.browser.has_all()) {
            if !conn.browser.is_restless() {
                if random.percent(2) {
                    conn.browser.say(random, &[Kind::Disconnect], 0);
                }
            } else if random.percent(80) {
                self.tally.one(What::restless_asked);
                conn.browser.say(random, &[Kind::Request], 0);
            }
        }
    }

    pub(super) fn accept(&mut self) {
        // What was established before the listener share was closed is still taken.
        let may = match self.listener {
            Listener::Open => true,
            Listener::Crowded => self.orders.phase == Phase::Draining,
            Listener::Closed => false,
        };
        if !may || self.conns.iter().flatten().count() >= self.clients_max {
            return;
        }
        self.tally.add(What::accepted_in_drain, usize::from(self.orders.phase != Phase::Serving));
        let (peer, address) = peers()[self.next_client % 5];
        let slot = self.call(|clients| clients.accept(peer.into(), Opening::Request));
        let expected = self.oracle.accept(address);
        if slot != expected {
            violated!("a client gets slot {slot}, must get {expected}: the one freed first");
        }
        let mut browser = Browser::new(self.next_client, &mut self.random);
        self.next_client += 1;
        if self.random.percent(95) {
            browser.shake_hands(&mut self.random);
        }
        let generation = self.audit(slot).map_or(0, |audit| audit.generation);
        note!(self, "client {} in slot {slot}.{generation}", browser.id);
        if self.conns.len() <= slot as usize {
            self.conns.resize_with(slot as usize + 1, || None);
        }
        let kernel_max = [60, 300, 1_500, 6_000, 1 << 20][self.random.below(5)];
        self.conns[slot as usize] = Some(Conn::new(browser, kernel_max, self.now));
        self.settle();
    }

    /// The router takes a message.
    pub(super) fn route(&mut self) {
        if let Some(message) = self.redis[0].pop(ROUTER_KEY.as_bytes()) {
            let job = Job::new(&message);
            self.workers.routed(job, &mut self.random);
            return;
        }
        // A worker takes one of its own list.
        for redis in &mut self.redis {
            let key = redis.lists.keys().find(|key| key.starts_with(b"opensrf:client:opensrf:")).cloned();
            if let Some(key) = key
                && let Some(message) = redis.pop(&key)
            {
                self.workers.taken(Job::new(&message), &String::from_utf8_lossy(&key));
                return;
            }
        }
    }

    pub(super) fn work(&mut self, odd: bool) {
        let replies = self.workers.work(odd, &mut self.random, &mut self.tally);
        for reply in replies {
            if !self.redis[0].down {
                self.redis[0].push(ADDRESS.as_bytes(), reply);
            }
        }
    }

    pub(super) fn drain(&mut self) {
        if self.orders.phase != Phase::Serving {
            return;
        }
        note!(self, "SIGUSR1");
        let grace = if self.network.percent(30) { self.network.between(1, 300) } else { 0 };
        self.drains += 1;
        self.orders = Orders {
            phase: Phase::Draining,
            drain: self.drains,
            drain_start_ms: self.now + grace,
            drain_deadline_ms: self.now + grace + self.drain_max_ms,
            ..self.orders
        };
    }

    /// A drain is cancelled, unless it is too late.
    pub(super) fn cancel(&mut self) {
        if cancels(&self.orders, self.now, self.listener == Listener::Closed).is_none() {
            return;
        }
        note!(self, "SIGUSR2");
        (self.orders.phase, self.orders.drain) = (Phase::Serving, 0);
        self.tally.one(What::drain_cancelled);
        if self.network.percent(20) {
            self.drain();
        }
    }

    pub(super) fn stop(&mut self) {
        if self.orders.phase == Phase::Stopping {
            return;
        }
        note!(self, "SIGTERM");
        self.orders.phase = Phase::Stopping;
    }
}
