//! What the actors may do at any time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering::SeqCst;

use evergate_proto::lifecycle::{Left, Orders, Phase};
use evergate_proto::ring::Errno;
use evergate_proto::websocket::proxy_header::Opening;

use super::CoreWorld;
use super::peer::Peer;
use super::proxies::{self, Beginning};
use crate::browser::{Browser, Kind};
use crate::kernel::connection::{Connection, Far};
use crate::kernel::{Door, tell};
use crate::mixture::Action;
use crate::random::Random;
use crate::tally::{Tally, What};
use crate::world::{self, violated};

/// The kinds of actions that a mask can leave out, in the order of its bits; how often each is tried, where a seed does
/// not say otherwise.
pub const ACTIONS: &[Action] = &[
    ("connect", 30),
    ("say", 90),
    ("say-badly", 3),
    ("ping", 5),
    ("violate", 2),
    ("close", 4),
    ("reset", 4),
    ("stop-reading", 5),
    ("flood", 8),
    ("half-frame", 2),
    ("router", 120),
    ("worker", 200),
    ("break-link", 4),
    ("redis-restart", 1),
    ("redis-full", 2),
    ("redis-stall", 2),
    ("redis-down", 1),
    ("drain", 1),
    ("stop", 1),
    ("jump", 6),
    ("late", 1),
    ("fat", 10),
    ("half-close", 2),
    ("silent", 1),
    ("session", 14),
    ("slow-reader", 4),
    ("wake", 4),
    ("rush", 1),
    ("cancel", 2),
];

/// Where clients come from.
fn addresses() -> [IpAddr; 4] {
    [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 1, 2, 3, 4).into(),
        Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped().into(),
    ]
}

impl CoreWorld {
    pub(super) fn act(&mut self) {
        let name = self.mixture.choose(&mut self.random);
        match name {
            "connect" => self.connect(),
            "rush" => (0..self.random.between(3, 12)).for_each(|_| self.connect()),
            "router" => self.route(),
            "worker" => self.work(),
            "drain" => self.drain(),
            "cancel" => self.cancel(),
            "stop" if self.random.percent(30) => self.stop(),
            "jump" => {
                let ms = [30, 120, 400, 900][self.random.below(4)];
                self.pass_ms(ms);
            }
            "late" => {
                // The core stands still.
                let ms = 1_001 + self.random.between(0, 400);
                self.pass_ms(ms);
            }
            "wake" => self.core.ring().is_woken = true,
            "break-link" => self.break_some_link(),
            name if name.starts_with("redis") => self.act_on_redis(name),
            "say" | "fat" | "flood" | "session" | "say-badly" | "ping" | "violate" | "half-frame" => self.say(name),
            _ => self.act_of_client(name),
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        self.stood_still_ms += if self.orders.get().phase == Phase::Serving { 0 } else { ms };
        self.scene.now_ns.set(self.scene.now_ns.get() + ms * 1_000_000);
    }

    fn some_peer(&mut self, act: impl FnOnce(&mut Random, &mut Peer, &mut Tally)) -> Option<usize> {
        let here = self.alive.iter().filter(|id| self.peers[**id].may_say()).count();
        let at = self.random.below(here);
        let id = self.alive.iter().copied().filter(|id| self.peers[*id].may_say()).nth(at)?;
        act(&mut self.random, &mut self.peers[id], &mut self.tally);
        Some(id)
    }

    fn say(&mut self, what: &str) {
        let bounds = self.rules.bounds;
        self.some_peer(|random, peer, tally| {
            let mut envelope = |random: &mut Random, thread: usize, kinds: &[Kind], fat: usize| {
                tally.one(What::envelope_said);
                // One with filling has a name.
                let said = peer.browser.say_on(random, thread, kinds, fat.max(1));
                peer.has_said(&said);
            };
            match what {
                "say" => {
                    let kinds: Vec<Kind> = (0..1 + random.below(6) / 3 + random.below(9) / 8)
                        .map(|_| match random.below(20) {
                            0..5 => Kind::Connect,
                            5 | 6 => Kind::Disconnect,
                            _ => Kind::Request,
                        })
                        .collect();
                    let thread = random.below(5);
                    envelope(random, thread, &kinds, 0);
                }
                "fat" => {
                    let (thread, fat) = (random.below(5), 60 + random.below(400));
                    envelope(random, thread, &[Kind::Request], fat);
                }
                "flood" => {
                    for _ in 0..3 + random.below(10) {
                        let kind = if random.percent(85) { Kind::Request } else { Kind::Connect };
                        let (thread, fat) = (random.below(5), random.below(2) * random.below(200));
                        envelope(random, thread, &[kind], fat);
                    }
                }
                "session" => {
                    let thread = random.below(3);
                    envelope(random, thread, &[Kind::Connect], 0);
                    for _ in 0..1 + random.below(4) {
                        envelope(random, thread, &[Kind::Request], 0);
                    }
                    envelope(random, thread, &[Kind::Disconnect], 0);
                }
                "ping" => peer.browser.ping(random),
                "say-badly" => {
                    peer.misbehaves = true;
                    peer.browser.say_badly(random, &bounds);
                }
                "violate" => {
                    peer.misbehaves = true;
                    peer.browser.violate(random, &bounds);
                }
                _ => {
                    peer.misbehaves = true;
                    peer.browser.half(random);
                }
            }
        });
    }

    /// In a drain restless clients ask as soon as they have all their answers, a few ms later at most: they have no gap of their own,
    /// and time passes.
    pub(super) fn ask_again(&mut self) {
        let now_ms = self.now_ms();
        if now_ms < self.asked_ms + 3 {
            return;
        }
        self.asked_ms = now_ms;
        let Some(random) = self.restless.as_mut().filter(|_| self.orders.get().phase == Phase::Draining) else {
            return;
        };
        for &id in &self.alive {
            let peer = &mut self.peers[id];
            if peer.may_say() && peer.browser.is_restless() && peer.has_all() && random.percent(80) {
                self.tally.one(What::restless_asked);
                let thread = random.below(5);
                let said = peer.browser.say_on(random, thread, &[Kind::Request], 1);
                peer.has_said(&said);
            }
        }
    }

    fn act_of_client(&mut self, what: &str) {
        if what == "stop-reading" && self.random.percent(40) {
            self.alive.iter().for_each(|id| self.peers[*id].browser.reading = true);
            return;
        }
        let id = self.some_peer(|random, peer, tally| match what {
            "close" => {
                peer.browser.close(random);
                peer.closes = true;
                peer.ends = random.percent(30);
            }
            "half-close" => {
                tally.one(What::half_closed_by_client);
                peer.ends = true;
                peer.browser.close_sent = true;
            }
            "silent" => {
                tally.one(What::silent_client);
                peer.browser.silent = true;
            }
            "stop-reading" => {
                tally.one(What::stopped_reading);
                peer.browser.reading = false;
                peer.browser.window = random.below(400);
            }
            "slow-reader" => {
                tally.one(What::slow_reader);
                peer.drip = [0, 1, 3, 9][random.below(4)];
            }
            _ => {}
        });
        if let (Some(id), "reset") = (id, what) {
            self.reset(id);
        }
    }

    /// The connection of a client breaks.
    pub(super) fn reset(&mut self, id: usize) {
        let is_silent = self.random.percent(20);
        self.tally.one(if is_silent { What::client_timed_out } else { What::client_reset });
        tell!(self.scene, "client {id}: its connection breaks");
        let at = self.peers[id].at;
        self.core.ring().connections[at].break_off(if is_silent { Errno::TIMEDOUT } else { Errno::CONNRESET });
        self.lose(id);
    }

    /// Nothing more comes of a client, or to it.
    pub(super) fn lose(&mut self, id: usize) {
        self.peers[id].is_over = true;
        self.alive.retain(|other| *other != id);
    }

    pub(super) fn connect(&mut self) {
        let here = self.alive.len() as u64;
        let most = self.options.clients_max + self.options.refusals_max + 6;
        let Some(listener) = self.core.ring().some_listener().filter(|_| here < most) else { return };
        self.tally.add(What::client_came_in_drain, usize::from(self.orders.get().phase != Phase::Serving));
        let id = self.peers.len();
        let mut browser = Browser::new(id, &mut self.random);
        let is_hasty = self.random.percent(95);
        let address = match self.own_addresses {
            true => Ipv4Addr::from_bits(0x0a00_0000 | id as u32).into(),
            false => addresses()[self.random.below(4)],
        };
        let listens = self.core.ring().listeners[listener].opening;
        let mut beginning = None;
        if listens == Opening::ProxyHeader {
            let begins = Beginning::new(address, &mut self.of_proxies);
            self.tally.one(if begins.is_unwelcome { What::proxy_unwelcome } else { What::proxy_welcome });
            browser.say_first(&begins.header);
            beginning = Some(begins);
        }
        if is_hasty {
            browser.shake_hands(&mut self.random);
        }
        let (address, is_unwelcome) = beginning.map_or((address, false), |begins| (begins.peer, begins.is_unwelcome));
        let inbound_max = [40, 300, 2_000, 1 << 20, 1 << 20, 1 << 20][self.random.below(6)];
        let outbound_max = [60, 300, 1_500, 6_000, 1 << 20, 1 << 20][self.random.below(6)];
        let connection = Connection::new(Far::Client, address, inbound_max, outbound_max);
        let at = self.core.ring().connect_client(connection, listener);
        tell!(self.scene, "client {id} connects, connection {at}");
        let mut peer = Peer::new(browser, at);
        peer.is_unwelcome = is_unwelcome;
        self.peers.push(peer);
        self.alive.push(id);
    }

    fn break_some_link(&mut self) {
        let domain = usize::from(self.random.percent(30));
        if let Some(at) = self.bus.some_line(domain, &mut self.random) {
            self.break_line(at);
        }
    }

    fn break_line(&mut self, at: usize) {
        let is_ended = self.random.percent(50);
        self.tally.one(if is_ended { What::link_ended } else { What::link_reset });
        tell!(self.scene, "connection {at}, a link, {}", if is_ended { "ends" } else { "breaks" });
        let connection = &mut self.core.ring().connections[at];
        if is_ended {
            connection.has_fin = true;
        } else {
            connection.break_off(Errno::CONNRESET);
        }
    }

    fn break_domain(&mut self, domain: usize) {
        let lines = self.bus.lines.iter().filter(|line| line.domain == domain);
        let lines: Vec<usize> = lines.map(|line| line.at).collect();
        lines.into_iter().for_each(|at| self.break_line(at));
    }

    fn act_on_redis(&mut self, what: &str) {
        let domain = usize::from(self.random.percent(30));
        tell!(self.scene, "{what} {domain}");
        let redis = &mut self.bus.redis[domain];
        match what {
            "redis-restart" => {
                redis.restart();
                self.break_domain(domain);
            }
            "redis-full" => redis.full ^= true,
            "redis-stall" => redis.stalled ^= true,
            _ => {
                redis.down ^= true;
                let is_down = redis.down;
                let door = [Door::Refuses, Door::Refuses, Door::Hangs][self.random.below(3)];
                self.core.ring().doors[domain] = if is_down { door } else { Door::Open };
                if is_down {
                    self.break_domain(domain);
                }
            }
        }
    }

    pub(super) fn drain(&mut self) {
        let now_ms = self.now_ms();
        let orders = self.orders.get();
        if orders.phase != Phase::Serving {
            return;
        }
        tell!(self.scene, "SIGUSR1");
        self.tally.one(What::drain);
        let grace = if self.random.percent(30) { self.random.between(1, 300) } else { 0 };
        let start = now_ms + grace;
        let deadline = start + self.drain_max_ms;
        self.drains += 1;
        let left = self.leave_some();
        self.orders.set(Orders {
            phase: Phase::Draining,
            drain: self.drains,
            drain_start_ms: start,
            drain_deadline_ms: deadline,
            left,
            ..orders
        });
    }

    /// A successor goes on with all that the process listens on, with some of it, or with nothing.
    fn leave_some(&mut self) -> Left {
        let (leaves, leaves_all) = (self.random.percent(30), self.of_proxies.percent(60));
        let Self { core, of_proxies, .. } = self;
        let listeners = core.ring().listeners.iter_mut().enumerate();
        let left = listeners.filter_map(|(number, listener)| {
            listener.is_left = leaves && (leaves_all || of_proxies.percent(50));
            listener.is_left.then_some(number as u8 % 64)
        });
        Left::of(left)
    }

    /// A drain is cancelled, unless it is too late: then the process listens again.
    pub(super) fn cancel(&mut self) {
        let orders = self.orders.get();
        let is_closed = self.cores[0].listener_closed.load(SeqCst) && self.listeners.borrow().is_empty();
        let Some(opens_again) = world::cancels(&orders, self.now_ms(), is_closed) else { return };
        tell!(self.scene, "SIGUSR2");
        self.tally.one(What::drain_cancelled);
        if opens_again {
            let listener = proxies::listen(self.core.ring(), &mut self.of_proxies);
            self.listeners.borrow_mut().push(listener);
        }
        self.drained_at_ms = None;
        self.orders.set(Orders { phase: Phase::Serving, drain: 0, ..orders });
        if self.random.percent(20) {
            self.drain();
        }
    }

    /// What the main thread does when nobody is left.
    pub(super) fn end_drain(&mut self) {
        let orders = self.orders.get();
        if orders.phase != Phase::Draining || self.cores[0].drained.load(SeqCst) != orders.drain {
            return;
        }
        let kernel = self.core.ring();
        if kernel.listeners.iter().any(|listener| !listener.is_left && !listener.is_over) {
            violated!("the core counts as drained, and a listener of its listens");
        }
        let now_ms = self.now_ms();
        let at_ms = *self.drained_at_ms.get_or_insert(now_ms + self.random.between(0, 60));
        if now_ms >= at_ms {
            self.stopped_at_ms = Some(now_ms);
            self.orders.set(Orders { phase: Phase::Stopping, ..orders });
        }
    }

    pub(super) fn stop(&mut self) {
        let orders = self.orders.get();
        if orders.phase == Phase::Stopping {
            return;
        }
        tell!(self.scene, "SIGTERM");
        self.tally.one(if orders.phase == Phase::Draining { What::stop_in_drain } else { What::stop });
        self.stopped_at_ms = Some(self.now_ms());
        self.orders.set(Orders { phase: Phase::Stopping, ..orders });
    }
}
