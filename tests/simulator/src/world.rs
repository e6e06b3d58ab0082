//! A core without its ring: does with the pure half what `src/core` and `src/bus/link.rs` do with it, in any order that
//! is legal, and holds all that it sees against the oracle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::browser::{Bounds, Browser, Ev, Frame, INGRESS, Kind, unframe};
use crate::bus::inbox::Inbox;
use crate::bus::outbox::{Answer, Outbox, Ticket};
use crate::bus::resp;
use crate::counters::{self, Limit};
use crate::drain::DrainOptions;
use crate::opensrf::envelope;
use crate::oracle::{ADDRESS, DOMAINS, Oracle, ROUTER_KEY, Rules, Seen, Stage};
use crate::random::Random;
use crate::redis::{Redis, Wire};
use crate::session::audit::{Audit, audit};
use crate::session::clients::Clients;
use crate::session::context::Context;
use crate::session::limits::{Limits, Names};
use crate::session::output::Output;
use crate::tally::{Tally, What};
use crate::websocket::handshake::{Origins, Policy};
use crate::workers::{Job, Workers};

/// The core's tick, ms.
const TICK_MS: u64 = 20;

/// The kinds of actions that a mask can leave out, in the order of its bits.
pub const ACTIONS: &[&str] = &[
    "accept",
    "say",
    "say-badly",
    "ping",
    "violate",
    "close",
    "vanish",
    "stop-reading",
    "flood",
    "half-frame",
    "router",
    "worker",
    "worker-odd",
    "break-push",
    "break-pop",
    "redis-restart",
    "redis-full",
    "redis-stall",
    "drain",
    "stop",
    "jump",
    "late-tick",
    "fat",
    "half-close",
    "silent",
    "redis-down",
];

/// How often each is tried, where a seed does not say otherwise.
const WEIGHTS: &[u64] = &[30, 90, 5, 5, 2, 4, 4, 4, 6, 2, 110, 140, 40, 3, 3, 1, 2, 2, 1, 1, 6, 1, 4, 2, 1, 1];

/// What went wrong.
pub struct Violation(pub String);

macro_rules! violated {
    ($($text:tt)*) => { std::panic::panic_any(Violation(format!($($text)*))) };
}

/// A client's connection, as the shell and the two kernels know it.
struct Conn {
    browser: Browser,
    /// Bytes in the gateway's kernel.
    arrived: Vec<u8>,
    /// The client has ended its side.
    fin: bool,
    /// The client is gone: reads and writes fail.
    broken: bool,
    /// The shell has shut the socket down.
    shut: bool,
    /// The reader has ended.
    read_ended: bool,
    waits_for_resume: bool,
    sending: bool,
    chunk: Option<(Vec<u8>, usize)>,
    /// Our side was shut down.
    half_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Connecting,
    Up,
    Away,
}

/// The link that pushes to one domain.
struct PushLink {
    outbox: Outbox,
    started: bool,
    state: State,
    wire: Option<Wire>,
    input: Vec<u8>,
    failures: u32,
    /// What the simulator wrote down: tickets that wait, with their lists; tickets written, one entry a command.
    waiting: Vec<(String, Option<Ticket>)>,
    written: VecDeque<Vec<Ticket>>,
    redis_id: i64,
}

struct PopLink {
    inbox: Inbox,
    state: State,
    wire: Option<Wire>,
    input: Vec<u8>,
    lost: bool,
}

/// Where the core stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Serving,
    Draining { deadline: u64, passed: bool },
    Stopping { until: u64 },
    Ended,
}

pub struct World {
    random: Random,
    weights: Vec<u64>,
    total: u64,
    now: u64,
    next_tick: u64,
    clients: Clients,
    cores: Arc<[counters::Core]>,
    conns: Vec<Option<Conn>>,
    oracle: Oracle,
    push: [PushLink; 2],
    pop: PopLink,
    redis: [Redis; 2],
    workers: Workers,
    phase: Phase,
    drain_at_end: bool,
    close_ms: u64,
    before: Seen,
    next_client: usize,
    /// Messages that Redis has carried out, to see none twice.
    executed: BTreeSet<Vec<u8>>,
    /// For each bus thread, how many of its messages arrived, to see none overtaken.
    pub tally: Tally,
    pub trace: Option<VecDeque<String>>,
    pub step: usize,
    clients_max: usize,
    quiet_ms: u64,
    closes_per_second: f64,
    drain_max_ms: u64,
}

/// A core's context under these rules.
pub fn context(rules: &Rules, cores: &Arc<[counters::Core]>) -> Context {
    let limits = Limits {
        handshake_timeout_ms: rules.handshake_ms,
        message_timeout_ms: rules.message_ms,
        ping_ms: rules.ping_ms,
        pong_timeout_ms: rules.pong_ms,
        idle_timeout_ms: rules.idle_ms,
        request_max_ms: rules.request_ms,
        connect_max_ms: rules.connect_ms,
        close_timeout_ms: rules.close_ms,
        bus_lost_reply_ms: rules.bus_lost_ms,
        message_bytes_max: rules.bounds.message_bytes,
        envelope: envelope::Limits {
            json_depth_max: rules.bounds.depth,
            messages_per_envelope_max: rules.bounds.per_envelope,
            bus_message_bytes_max: rules.bounds.bus_bytes,
        },
        parallel_max: rules.parallel,
        backlog_max: rules.backlog,
        backlog_bytes_max: rules.backlog_bytes,
        sessions_max: rules.sessions,
        outbound_bytes_max: rules.outbound,
        core_bytes_max: rules.core_bytes,
        garbage_max: rules.garbage,
        ingress: INGRESS.as_bytes().to_vec(),
        allow_router_calls: false,
        log_protect: Vec::new(),
        activity_bytes_max: 200,
        policy: Policy {
            path: None,
            origins: Origins::Any,
            require_origin: false,
            same_origin: false,
            trusted_proxies: Vec::new(),
        },
    };
    let names = Names {
        address: ADDRESS.to_owned(),
        router: ROUTER_KEY.into(),
        domains: DOMAINS.iter().map(|domain| (*domain).to_owned()).collect(),
        xid_prefix: "sim.".to_owned(),
    };
    Context::new(Rc::new(limits), Rc::new(names), Arc::clone(cores), 0)
}

macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let line = format!("{:>6} {:>7} ms  {}", $world.step, $world.now, format!($($text)*));
            trace.push_back(line);
        }
    };
}

impl World {
    pub fn new(seed: u64, without: u32, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let r = &mut random;
        let rules = Rules {
            handshake_ms: r.between(300, 1200),
            message_ms: r.between(100, 500),
            ping_ms: r.between(150, 600),
            pong_ms: r.between(100, 300),
            idle_ms: if r.percent(50) { 0 } else { r.between(500, 2500) },
            request_ms: r.between(1000, 4000),
            connect_ms: r.between(300, 1200),
            close_ms: r.between(60, 200),
            bus_lost_ms: r.between(100, 500),
            parallel: r.between(2, 6) as usize,
            backlog: r.between(2, 5) as usize,
            backlog_bytes: r.between(800, 3000) as usize,
            sessions: r.between(1, 3) as usize,
            outbound: r.between(1200, 6000) as usize,
            core_bytes: if r.percent(40) { r.between(3000, 12000) } else { 1 << 30 },
            garbage: r.between(2, 4) as u32,
            bounds: Bounds {
                message_bytes: 2600,
                bus_bytes: r.between(1500, 2500) as usize,
                per_envelope: 4,
                depth: 14,
            },
        };
        let mut weights = WEIGHTS.to_vec();
        // Each seed has habits of its own: some things it never does, some often.
        for weight in &mut weights {
            match r.below(6) {
                0 if *weight < 30 => *weight = 0,
                1 => *weight *= 3,
                _ => {}
            }
        }
        for (at, weight) in weights.iter_mut().enumerate() {
            if without & (1 << at) != 0 {
                *weight = 0;
            }
        }
        let total = weights.iter().sum();
        let clients_max = r.between(2, 7) as usize;
        let quiet_ms = r.between(20, 80);
        let closes_per_second = [0.0, 2.0, 10.0, 200.0][r.below(4)];
        let drain_max_ms = r.between(600, 4000);
        let drain_at_end = r.percent(70);
        let cores: Arc<[counters::Core]> = vec![counters::Core::new(0)].into();
        let context = context(&rules, &cores);
        let push = || PushLink {
            outbox: Outbox::default(),
            started: false,
            state: State::Connecting,
            wire: None,
            input: Vec::new(),
            failures: 0,
            waiting: Vec::new(),
            written: VecDeque::new(),
            redis_id: 0,
        };
        let close_ms = rules.close_ms;
        let mut world = Self {
            random,
            weights,
            total,
            now: 1_000,
            next_tick: 1_000,
            clients: Clients::new(context),
            cores,
            conns: Vec::new(),
            oracle: Oracle::new(rules),
            push: [push(), push()],
            pop: PopLink {
                inbox: Inbox::new(ADDRESS),
                state: State::Connecting,
                wire: None,
                input: Vec::new(),
                lost: false,
            },
            redis: [Redis::default(), Redis::default()],
            workers: Workers::default(),
            phase: Phase::Serving,
            drain_at_end,
            close_ms,
            before: Seen::default(),
            next_client: 1,
            executed: BTreeSet::new(),
            tally: Tally::default(),
            trace: verbose.then(VecDeque::new),
            step: 0,
            clients_max,
            quiet_ms,
            closes_per_second,
            drain_max_ms,
        };
        world.push[0].started = true;
        world
    }

    /// Runs `steps` steps, then to the end of everything.
    pub fn run(&mut self, steps: usize) {
        while self.step < steps && self.phase != Phase::Ended {
            self.one_step();
        }
        self.finish();
    }

    fn one_step(&mut self) {
        self.step += 1;
        let ms = if self.random.percent(50) { 0 } else { self.random.between(0, 3) };
        self.advance(ms);
        if self.phase == Phase::Ended {
            return;
        }
        if self.random.percent(60) || self.total == 0 {
            self.schedule();
        } else {
            self.act();
        }
        self.check();
    }

    // ---- The product, called as the shell calls it.

    fn seen(&self) -> Seen {
        let core = &self.cores[0];
        Seen {
            slow: core.limit_hits(Limit::outbound_bytes_max),
            closed_at_gap: core.counts.closed_at_gap.load(Relaxed),
            cut_largest: core.limit_hits(Limit::core_bytes_max),
            texts: core.counts.messages_out.load(Relaxed),
        }
    }

    fn call<T>(&mut self, decide: impl FnOnce(&mut Clients) -> T) -> T {
        self.clients.context.now_ms = self.now;
        self.oracle.now = self.now;
        self.before = self.seen();
        let decided = decide(&mut self.clients);
        let seen = self.seen();
        self.oracle.seen = Seen {
            slow: seen.slow - self.before.slow,
            closed_at_gap: seen.closed_at_gap - self.before.closed_at_gap,
            cut_largest: seen.cut_largest - self.before.cut_largest,
            texts: seen.texts - self.before.texts,
        };
        self.oracle.one_client = true;
        (self.oracle.many_clients, self.oracle.ambiguous) = (false, false);
        self.oracle.stages.clear();
        for slot in 0..self.conns.len() as u32 {
            let stage = self.audit(slot).map_or(9, |audit| audit.stage);
            self.oracle.stages.push(stage);
        }
        decided
    }

    fn audit(&self, slot: u32) -> Option<Audit> {
        audit(&self.clients, slot)
    }

    /// Does what was decided, after the oracle has decided for itself.
    fn settle(&mut self) {
        let Output { pushes, send, half_close, hang_up, resume, events: _ } = self.clients.take_output();
        for slot in &resume {
            self.oracle.resume(*slot);
        }
        if self.oracle.seen.slow > 0 {
            violated!("a client was taken for a slow consumer that was none");
        }
        if let Some(wrong) = self.oracle.wrong.take() {
            violated!("{wrong}");
        }
        for (domain, push) in pushes {
            let text = String::from_utf8_lossy(&push.message).into_owned();
            note!(self, "push {} {text}", push.key);
            let ticket = push.ticket.map(|t| (t.slot, t.generation, t.n, t.push));
            if let Err(wrong) = self.oracle.pushed(domain, &push.key, &text, ticket) {
                violated!("{wrong}");
            }
            let link = &mut self.push[domain];
            link.started = true;
            link.waiting.push((push.key.to_string(), push.ticket));
            link.outbox.push(push);
        }
        if let Some(missing) = self.oracle.pushes.pop_front() {
            violated!("a push is missing: {missing:?}");
        }
        self.clients.context.bus_bytes = self.bus_bytes();
        for slot in send {
            if let Some(conn) = self.conn(slot) {
                conn.sending = true;
            }
        }
        for slot in half_close {
            let Some(conn) = self.conn(slot) else { continue };
            conn.half_closed = true;
            let Some(Some(client)) = self.oracle.clients.get(slot as usize) else { continue };
            let done = client.expect.is_empty() && !client.in_flight;
            if !done || !(client.desynced || matches!(client.stage, Stage::Closing { awaits: false, .. })) {
                violated!("slot {slot} was half closed too soon: {:?}", client.stage);
            }
        }
        for slot in hang_up {
            if let Some(conn) = self.conn(slot) {
                conn.shut = true;
                conn.waits_for_resume = false;
            }
        }
        for slot in resume {
            if let Some(conn) = self.conn(slot) {
                conn.waits_for_resume = false;
            }
        }
        for slot in 0..self.conns.len() as u32 {
            if let Some(audit) = self.audit(slot) {
                self.oracle.unsent_is(slot, audit.outbound_bytes);
            }
        }
        if let Some(wrong) = self.oracle.wrong.take() {
            violated!("{wrong}");
        }
    }

    fn bus_bytes(&self) -> u64 {
        self.push.iter().map(|link| link.outbox.bytes() as u64).sum()
    }

    fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize)?.as_mut()
    }

    // ---- Time.

    fn advance(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.next_tick <= until && self.phase != Phase::Ended {
            self.now = self.now.max(self.next_tick);
            self.tick();
            self.next_tick = self.now + TICK_MS;
        }
        self.now = until.max(self.now);
    }

    fn tick(&mut self) {
        self.call(Clients::tick);
        self.oracle.tick();
        self.settle();
        self.clients.context.bus_bytes = self.bus_bytes();
        match self.phase {
            Phase::Draining { deadline, passed } => {
                if self.clients.is_empty() || self.now >= deadline + self.close_ms {
                    self.tally.add(What::drain_ended_early, usize::from(self.clients.is_empty() && !passed));
                    self.end();
                } else if !passed && self.now >= deadline {
                    note!(self, "the drain's deadline");
                    self.phase = Phase::Draining { deadline, passed: true };
                    self.call(Clients::drain_deadline);
                    self.oracle.deadline();
                    self.settle();
                }
            }
            Phase::Stopping { until } if self.clients.is_empty() || self.now >= until => self.end(),
            _ => {}
        }
        self.check();
    }

    // ---- What may happen next at any time: the scheduler's choice.

    fn schedule(&mut self) {
        match self.random.below(12) {
            0 | 1 => self.some_conn(Self::arrive),
            2 | 3 => self.some_conn(Self::read),
            4 | 5 => self.some_conn(Self::send),
            6 => {
                let domain = usize::from(self.random.percent(25));
                self.write_pushes(domain);
                self.connect_push(domain);
            }
            7 => {
                let domain = usize::from(self.random.percent(25));
                self.confirm(domain);
            }
            8 => self.serve_redis(),
            9 => {
                self.connect_pop();
                self.write_pops();
            }
            10 => self.deliver(),
            _ => self.some_conn(Self::hang_up_broken),
        }
    }

    fn some_conn(&mut self, act: impl FnOnce(&mut Self, u32)) {
        let here = self.conns.iter().flatten().count();
        if here == 0 {
            return;
        }
        let at = self.random.below(here);
        let slot =
            self.conns.iter().enumerate().filter(|(_, conn)| conn.is_some()).nth(at).map(|(slot, _)| slot as u32);
        if let Some(slot) = slot {
            act(self, slot);
        }
    }

    /// Bytes travel from the client to the gateway's kernel.
    fn arrive(&mut self, slot: u32) {
        let n =
            self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.browser.unsent.len()));
        let Some(conn) = self.conn(slot) else { return };
        if !conn.broken {
            let bytes: Vec<u8> = conn.browser.unsent.drain(..n).collect();
            conn.arrived.extend(bytes);
        }
    }

    /// All of so many bytes, or some.
    fn some_bytes(&mut self, have: impl FnOnce(&Self) -> usize) -> usize {
        let have = have(self);
        match self.random.below(8) {
            _ if have == 0 => 0,
            0 => 1,
            1 | 2 => 1 + self.random.below(have),
            3 => 1 + self.random.below(have.min(16)),
            _ => have,
        }
    }

    /// The reader of a client has its turn.
    fn read(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.waits_for_resume {
            return;
        }
        if conn.read_ended {
            return self.try_release(slot);
        }
        if conn.shut || conn.broken {
            return self.end_reading(slot);
        }
        let core_full = {
            let context = &self.clients.context;
            context.core_bytes + context.bus_bytes > context.limits.core_bytes_max
        };
        let expected = self.oracle.may_read(slot, core_full);
        let may = self.call(|clients| clients.may_read(slot));
        if may != expected {
            violated!("slot {slot} may be read from: {may}, must be {expected}");
        }
        if !may {
            self.oracle.pause(slot);
            self.settle();
            if let Some(conn) = self.conn(slot) {
                conn.waits_for_resume = true;
            }
            return;
        }
        let n = self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.arrived.len()));
        let Some(conn) = self.conn(slot) else { return };
        if n == 0 {
            if conn.fin {
                self.end_reading(slot);
            }
            return;
        }
        let mut bytes: Vec<u8> = conn.arrived.drain(..n).collect();
        let events = conn.browser.complete(n);
        let clean = conn.browser.is_clean;
        if !clean {
            self.tally.one(What::frame_cut);
        }
        note!(self, "slot {slot}: {n} bytes read, which complete {events:?}");
        self.call(|clients| clients.input(slot, &mut bytes));
        self.oracle.many_clients = events.iter().any(|event| matches!(event, Ev::Ping(_)));
        self.oracle.input(slot, &events, clean);
        if self.oracle.ambiguous {
            self.oracle.crossed = self.oracle.crossed.min(self.cores[0].counts.crossed_close.load(Relaxed));
        }
        self.settle();
    }

    fn end_reading(&mut self, slot: u32) {
        note!(self, "slot {slot}: the connection has ended");
        if let Some(conn) = self.conn(slot) {
            conn.read_ended = true;
        }
        self.call(|clients| clients.ended(slot, "ended".into()));
        self.oracle.ended(slot);
        self.settle();
        self.try_release(slot);
    }

    fn try_release(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.sending || conn.chunk.is_some() {
            return;
        }
        note!(self, "slot {slot}: released");
        self.conns[slot as usize] = None;
        self.call(|clients| clients.release(slot));
        self.oracle.release(slot);
        self.settle();
        if self.audit(slot).is_some() {
            violated!("slot {slot} is released and not free");
        }
    }

    /// The sender of a client has its turn.
    fn send(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if !conn.sending {
            return;
        }
        if conn.chunk.is_none() {
            let Some(chunk) = self.call(|clients| clients.take_outbound(slot)) else {
                if let Some(conn) = self.conn(slot) {
                    conn.sending = false;
                }
                return;
            };
            let (mut at, mut frames) = (0, Vec::new());
            while let Some((frame, used)) = unframe(&chunk[at..]) {
                at += used;
                frames.push(frame);
            }
            note!(self, "slot {slot}: a chunk of {} bytes: {}", chunk.len(), String::from_utf8_lossy(&chunk));
            if at != chunk.len() {
                violated!("slot {slot}: a chunk that ends within a frame");
            }
            let id = self.conns[slot as usize].as_ref().map_or(0, |conn| conn.browser.id);
            for frame in &frames {
                if let Frame::Text(text) = frame {
                    self.is_for(id, text);
                }
            }
            if let Err(wrong) = self.oracle.taken(slot, &frames) {
                violated!("slot {slot}: {wrong}");
            }
            if let Some(conn) = self.conn(slot) {
                conn.chunk = Some((chunk, 0));
            }
        }
        let n = self.some_bytes(|world| {
            let Some(Some(conn)) = world.conns.get(slot as usize) else { return 0 };
            conn.chunk.as_ref().map_or(0, |(chunk, at)| chunk.len() - at)
        });
        let Some(conn) = self.conn(slot) else { return };
        if conn.broken || conn.shut {
            note!(self, "slot {slot}: a send fails");
            if let Some(conn) = self.conn(slot) {
                (conn.chunk, conn.sending, conn.broken) = (None, false, true);
            }
            self.call(|clients| clients.ended(slot, "broke".into()));
            self.oracle.ended(slot);
            self.settle();
            return;
        }
        let room = if conn.browser.reading { usize::MAX } else { conn.browser.window };
        let n = n.min(room);
        if n == 0 {
            return;
        }
        conn.browser.window = conn.browser.window.saturating_sub(n);
        let Some((chunk, at)) = conn.chunk.as_mut() else { return };
        let bytes = chunk[*at..*at + n].to_vec();
        *at += n;
        let whole = (*at == chunk.len()).then_some(chunk.len());
        let frames = conn.browser.receive(&bytes);
        if let Some(bytes) = whole {
            conn.chunk = None;
            self.call(|clients| clients.sent(slot));
            self.oracle.sent(slot, bytes);
        } else {
            self.call(|clients| clients.progressed(slot));
            self.oracle.progressed(slot);
        }
        self.settle();
        self.react(slot, frames);
    }

    /// Nobody may see a byte that is meant for another: every payload names its client.
    fn is_for(&self, id: usize, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let own = format!("<c{id}>");
        for (at, _) in text.match_indices("<c") {
            if !text[at..].starts_with(&own) {
                violated!("client {id} is sent what is another's: {text}");
            }
        }
    }

    /// What a client does about what it is sent.
    fn react(&mut self, slot: u32, frames: Vec<Frame>) {
        let random = &mut self.random;
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        for frame in frames {
            match frame {
                Frame::Ping if !conn.browser.silent && !conn.browser.close_sent => conn.browser.pong(random),
                Frame::Close(_) => {
                    conn.browser.close_got = true;
                    if !conn.browser.close_sent && !conn.browser.silent && random.percent(85) {
                        conn.browser.close(random);
                    }
                    conn.fin |= random.percent(30);
                }
                Frame::Http(status) if status != 101 => conn.fin |= random.percent(70),
                Frame::Nonsense(byte) => violated!("slot {slot} is sent a frame that no server sends: {byte:#x}"),
                _ => {}
            }
        }
    }

    /// Clients that are not read from are looked at now and then; those that half closed end.
    fn hang_up_broken(&mut self, slot: u32) {
        let paused = self.clients.paused().contains(&slot);
        let Some(conn) = self.conn(slot) else { return };
        if conn.half_closed && conn.browser.unsent.is_empty() {
            conn.fin = true;
        }
        if conn.read_ended {
            return self.try_release(slot);
        }
        if paused && (conn.broken || conn.fin) {
            self.call(|clients| clients.ended(slot, "ended while not read from".into()));
            self.oracle.ended(slot);
            self.settle();
        }
    }

    // ---- The links.

    fn set_state(&mut self, domain: usize, push: Option<State>, pop: Option<State>) {
        self.push[domain].state = push.unwrap_or(self.push[domain].state);
        self.pop.state = pop.unwrap_or(self.pop.state);
        let pop = if domain == 0 { self.pop.state } else { State::Up };
        let away = self.push[domain].state == State::Away || pop == State::Away;
        let up = self.push[domain].state == State::Up && pop == State::Up;
        self.clients.context.accepting[domain] = !away;
        self.oracle.accepting[domain] = !away;
        if up && domain == 0 {
            self.clients.context.bus_ever_up = true;
            self.oracle.ever_up = true;
        }
    }

    fn fail_pushes(&mut self, tickets: Vec<Ticket>, text: &str) {
        note!(self, "pushes fail ({text}): {tickets:?}");
        for ticket in tickets {
            self.call(|clients| clients.push_failed(ticket, text));
            self.oracle.push_failed((ticket.slot, ticket.generation, ticket.n, ticket.push));
            self.settle();
        }
    }

    fn connect_push(&mut self, domain: usize) {
        let link = &mut self.push[domain];
        if !link.started || link.wire.is_some() {
            return;
        }
        if self.redis[domain].down {
            self.tally.one(What::connect_refused);
            if self.push[domain].state != State::Away {
                self.tally.one(What::bus_away);
            }
            self.push[domain].failures += 1;
            self.set_state(domain, Some(State::Away), None);
            let link = &mut self.push[domain];
            let expected: Vec<Ticket> = link.waiting.drain(..).filter_map(|(_, ticket)| ticket).collect();
            let tickets = link.outbox.take_unsent();
            if tickets != expected {
                violated!("unsent are {tickets:?}, must be {expected:?}");
            }
            self.tally.add(What::push_unsent, tickets.len());
            self.fail_pushes(tickets, "away");
            return;
        }
        let id = self.greet(domain);
        self.push[domain].failures = 0;
        self.push[domain].wire = Some(Wire::default());
        self.push[domain].input.clear();
        self.note_id(domain, id);
        self.set_state(domain, Some(State::Up), None);
    }

    fn greet(&mut self, domain: usize) -> i64 {
        self.redis[domain].next_id += 1;
        self.redis[domain].next_id
    }

    /// A lower number than before: Redis restarted empty.
    fn note_id(&mut self, domain: usize, id: i64) {
        let known = self.push[domain].redis_id;
        self.push[domain].redis_id = if id < known { id } else { known.max(id) };
        if id < known {
            note!(self, "Redis of {domain} came back empty");
            self.tally.one(What::redis_restarted_empty);
            self.call(|clients| clients.bus_emptied(domain));
            self.oracle.emptied(domain);
            self.settle();
        }
    }

    fn write_pushes(&mut self, domain: usize) {
        let link = &mut self.push[domain];
        let Some(wire) = &mut link.wire else { return };
        if link.outbox.is_empty() {
            return;
        }
        let messages = link.outbox.len();
        let mut batch = Vec::new();
        let commands = link.outbox.write(&mut batch);
        let mut lists: Vec<&str> = Vec::new();
        let mut written: BTreeMap<usize, Vec<Ticket>> = BTreeMap::new();
        for (key, ticket) in &link.waiting {
            let at = lists.iter().position(|list| list == key).unwrap_or_else(|| {
                lists.push(key);
                lists.len() - 1
            });
            written.entry(at).or_default().extend(ticket);
        }
        if messages != link.waiting.len() || commands != lists.len() {
            violated!("{messages} pushes in {commands} commands, must be {} in {}", link.waiting.len(), lists.len());
        }
        self.tally.add(What::batch_of_several, usize::from(messages > commands));
        link.written.extend(written.into_values());
        link.waiting.clear();
        wire.to.extend(batch);
    }

    /// Bytes reach Redis, and it carries out what it can.
    fn serve_redis(&mut self) {
        for domain in 0..2 {
            let n = self.some_bytes(|world| world.push[domain].wire.as_ref().map_or(0, |wire| wire.to.len()));
            if self.redis[domain].stalled {
                continue;
            }
            let mut seen = Vec::new();
            if let Some(wire) = &mut self.push[domain].wire {
                wire.arrive(n);
                self.redis[domain].serve(wire, |_, message| seen.push(message.to_vec()));
            }
            for message in seen {
                // A DISCONNECT of ours answers each 200 that nobody waits for; all else is pushed once.
                let mark = b"\"body\":[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":\"0\",\"locale\"";
                let ours = message.windows(mark.len()).any(|part| part == mark);
                if !ours && !self.executed.insert(message.clone()) {
                    let text = String::from_utf8_lossy(&message);
                    violated!("a push was sent twice: {text}");
                }
            }
        }
        let n = self.some_bytes(|world| world.pop.wire.as_ref().map_or(0, |wire| wire.to.len()));
        if !self.redis[0].stalled
            && let Some(wire) = &mut self.pop.wire
        {
            wire.arrive(n);
            self.redis[0].serve(wire, |_, _| ());
        }
    }

    /// Confirmations reach the gateway.
    fn confirm(&mut self, domain: usize) {
        let n = self.some_bytes(|world| world.push[domain].wire.as_ref().map_or(0, |wire| wire.back.len()));
        let link = &mut self.push[domain];
        let Some(wire) = &mut link.wire else { return };
        link.input.extend(wire.back.drain(..n));
        let mut at = 0;
        let mut refused = Vec::new();
        loop {
            match resp::next(&link.input, &mut at) {
                Err(error) => violated!("what Redis sent is not understood: {error:?}"),
                Ok(None) => break,
                Ok(Some(token)) => {
                    let expected = link.written.pop_front();
                    match link.outbox.answer(&token) {
                        Some(Answer::Done) if expected.is_some() => {}
                        Some(Answer::Refused(tickets, text)) if Some(&tickets) == expected.as_ref() => {
                            refused.push((tickets, text));
                        }
                        other => violated!("Redis answered {token:?}: {other:?}, must be about {expected:?}"),
                    }
                }
            }
        }
        if at < link.input.len() {
            self.tally.one(What::resp_cut);
        }
        self.push[domain].input.drain(..at);
        for (tickets, text) in refused {
            self.tally.add(What::push_refused, tickets.len());
            self.fail_pushes(tickets, &text);
        }
    }

    fn break_push(&mut self, domain: usize) {
        if self.push[domain].wire.take().is_none() {
            return;
        }
        self.tally.one(What::push_link_lost);
        note!(self, "the link that pushes to {domain} breaks");
        // As in the shell: told when the bus is next known to be up or away.
        self.push[domain].state = State::Connecting;
        let expected: Vec<Ticket> = self.push[domain].written.drain(..).flatten().collect();
        let tickets = self.push[domain].outbox.take_unconfirmed();
        if tickets != expected {
            violated!("unconfirmed are {tickets:?}, must be {expected:?}");
        }
        self.tally.add(What::push_unconfirmed, tickets.len());
        self.fail_pushes(tickets, "broke");
        self.set_state(domain, None, None);
    }

    fn connect_pop(&mut self) {
        if self.pop.wire.is_some() {
            return;
        }
        if self.redis[0].down {
            self.set_state(0, None, Some(State::Away));
            return;
        }
        let id = self.greet(0);
        self.pop.wire = Some(Wire::default());
        self.pop.input.clear();
        self.pop.inbox = Inbox::new(ADDRESS);
        self.note_id(0, id);
        self.set_state(0, None, Some(State::Up));
        if self.pop.lost {
            self.call(Clients::pops_back);
            self.oracle.pops_back();
            self.settle();
        }
    }

    fn write_pops(&mut self) {
        if let Some(wire) = &mut self.pop.wire {
            self.pop.inbox.write(&mut wire.to);
        }
    }

    /// What was popped reaches the gateway.
    fn deliver(&mut self) {
        let n = self.some_bytes(|world| world.pop.wire.as_ref().map_or(0, |wire| wire.back.len()));
        let Some(wire) = &mut self.pop.wire else { return };
        self.pop.input.extend(wire.back.drain(..n));
        let input = std::mem::take(&mut self.pop.input);
        let mut at = 0;
        loop {
            match resp::next(&input, &mut at) {
                Err(error) => violated!("what Redis sent is not understood: {error:?}"),
                Ok(None) => break,
                Ok(Some(token)) => match self.pop.inbox.token(&token) {
                    Err(error) => violated!("what Redis sent is not taken for a pop: {error:?}"),
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        let Some(reply) = self.workers.sent(message) else {
                            violated!("popped is what nobody sent: {}", String::from_utf8_lossy(message));
                        };
                        note!(self, "popped {}", String::from_utf8_lossy(message));
                        self.call(|clients| clients.from_bus(message));
                        self.oracle.reply(&reply);
                        self.settle();
                    }
                },
            }
        }
        if at < input.len() {
            self.tally.one(What::resp_cut);
        }
        self.pop.input = input[at..].to_vec();
    }

    fn break_pop(&mut self) {
        let Some(wire) = self.pop.wire.take() else { return };
        self.tally.one(What::pop_link_lost);
        note!(self, "the link that pops breaks");
        let mark = b"{\"sim\":";
        let lost = wire.back.windows(mark.len()).filter(|part| part == mark).count();
        self.tally.add(What::reply_lost_between_pop_and_read, lost);
        self.pop.state = State::Connecting;
        self.pop.lost = true;
        self.call(Clients::pops_lost);
        self.oracle.pops_lost();
        self.settle();
        self.set_state(0, None, None);
    }

    // ---- Actors.

    fn act(&mut self) {
        let mut at = self.random.next() % self.total;
        let mut action = 0;
        while at >= self.weights[action] {
            at -= self.weights[action];
            action += 1;
        }
        match ACTIONS[action] {
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
            "router" => self.route(),
            "worker" => self.work(false),
            "worker-odd" => self.work(true),
            "break-push" => {
                let domain = usize::from(self.random.percent(30));
                self.break_push(domain);
            }
            "break-pop" => self.break_pop(),
            "redis-restart" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].restart();
                if domain == 0 {
                    self.break_pop();
                }
                self.break_push(domain);
            }
            "redis-down" => {
                let domain = usize::from(self.random.percent(30));
                self.redis[domain].down ^= true;
                if self.redis[domain].down {
                    if domain == 0 {
                        self.break_pop();
                    }
                    self.break_push(domain);
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

    fn some_browser(&mut self, act: impl FnOnce(&mut Random, &mut Conn, &mut Tally)) {
        let may = |conn: &&mut Conn| {
            let browser = &conn.browser;
            browser.shaken && !browser.silent && !browser.close_sent && !conn.fin && !conn.broken
        };
        let here = self.conns.iter_mut().flatten().filter(may).count();
        if here > 0 {
            let at = self.random.below(here);
            if let Some(conn) = self.conns.iter_mut().flatten().filter(may).nth(at) {
                act(&mut self.random, conn, &mut self.tally);
            }
        }
    }

    fn accept(&mut self) {
        if self.phase != Phase::Serving || self.conns.iter().flatten().count() >= self.clients_max {
            return;
        }
        self.tally.one(What::accepted);
        let slot = self.call(|clients| clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let expected = self.oracle.accept();
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
        self.conns[slot as usize] = Some(Conn {
            browser,
            arrived: Vec::new(),
            fin: false,
            broken: false,
            shut: false,
            read_ended: false,
            waits_for_resume: false,
            sending: false,
            chunk: None,
            half_closed: false,
        });
        self.settle();
    }

    /// The router takes a message.
    fn route(&mut self) {
        if let Some(message) = self.redis[0].pop(ROUTER_KEY.as_bytes()) {
            let job = Job::new(&message);
            self.workers.routed(job, &mut self.random);
            return;
        }
        // A worker takes one of its own list.
        for (domain, redis) in self.redis.iter_mut().enumerate() {
            let key = redis.lists.keys().find(|key| key.starts_with(b"opensrf:client:opensrf:")).cloned();
            if let Some(key) = key
                && let Some(message) = redis.pop(&key)
            {
                let _ = domain;
                self.workers.taken(Job::new(&message), &String::from_utf8_lossy(&key));
                return;
            }
        }
    }

    fn work(&mut self, odd: bool) {
        let replies = self.workers.work(odd, &mut self.random, &mut self.tally);
        for reply in replies {
            if !self.redis[0].down {
                self.redis[0].push(ADDRESS.as_bytes(), reply);
            }
        }
    }

    fn drain(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        note!(self, "SIGUSR1");
        let deadline = self.now + self.drain_max_ms;
        let options =
            DrainOptions { quiet_ms: self.quiet_ms, deadline_ms: deadline, closes_per_second: self.closes_per_second };
        self.call(|clients| clients.begin_drain(options));
        self.oracle.begin_drain(self.quiet_ms, deadline);
        self.settle();
        self.phase = Phase::Draining { deadline, passed: false };
    }

    fn stop(&mut self) {
        if !matches!(self.phase, Phase::Serving | Phase::Draining { .. }) {
            return;
        }
        note!(self, "SIGTERM");
        let draining = matches!(self.phase, Phase::Draining { .. });
        self.call(|clients| clients.stop(1001, draining));
        self.oracle.stop(1001, draining);
        self.settle();
        self.phase = Phase::Stopping { until: self.now + 500 };
    }

    // ---- After every step.

    fn check(&self) {
        let counts = &self.cores[0].counts;
        let (mut bytes, mut classes, mut pending, mut sessions, mut handshaking) = (0, [0_u64; 4], 0, 0, 0);
        for slot in 0..self.conns.len() as u32 {
            let (audit, client) = (self.audit(slot), &self.oracle.clients[slot as usize]);
            let (Some(audit), Some(client)) = (audit, client) else {
                if audit.is_some() != client.is_some() {
                    violated!("slot {slot} is taken: {}, must be {}", audit.is_some(), client.is_some());
                }
                continue;
            };
            let stage = match client.stage {
                Stage::Handshake => 0,
                Stage::Open => 1,
                Stage::Closing { .. } => 2,
                Stage::Gone => 3,
            };
            if audit.stage != stage {
                violated!("slot {slot} is in stage {}, must be {:?}", audit.stage, client.stage);
            }
            let books = (audit.pending, audit.sessions, audit.conversations, audit.backlog, audit.backlog_bytes);
            if books != client.books() || !audit.book_agrees {
                violated!(
                    "slot {slot}: pending, sessions, conversations, backlog are {books:?}, must be {:?}",
                    client.books()
                );
            }
            if (stage == 1 || stage == 2) && client.is_clean() && !client.desynced && audit.decoder_bytes > 0 {
                violated!(
                    "slot {slot} holds {} bytes of nothing unfinished: {:?}, sends {} {}",
                    audit.decoder_bytes,
                    client.stage,
                    client.expect.len(),
                    client.in_flight
                );
            }
            let quiet = books == (0, 0, 0, 0, 0) && client.expect.is_empty();
            if quiet && audit.owns_heap {
                violated!("slot {slot} is idle and owns memory");
            }
            bytes += audit.bytes() as u64;
            pending += audit.pending as u64;
            sessions += audit.sessions as u64;
            handshaking += u64::from(stage == 0);
            if let Some(class) = client.class() {
                classes[class] += 1;
            }
        }
        let open: u64 = classes.iter().sum();
        let gauges = [
            ("core_bytes", &counts.core_bytes, bytes),
            ("pending", &counts.pending, pending),
            ("sessions", &counts.sessions, sessions),
            ("handshaking", &counts.handshaking, handshaking),
            ("sending", &counts.sending, classes[0]),
            ("waiting_for_replies", &counts.waiting_for_replies, classes[1]),
            ("in_stateful_session", &counts.in_stateful_session, classes[2]),
            ("idle", &counts.idle, classes[3]),
            ("open", &counts.open, open),
            ("closed_at_gap", &counts.closed_at_gap, self.oracle.closed_at_gap),
            ("closed_at_deadline", &counts.closed_at_deadline, self.oracle.closed_at_deadline),
            ("cut", &counts.cut, self.oracle.cut),
            ("undeliverable", &counts.undeliverable, self.oracle.undeliverable),
        ];
        for (name, gauge, expected) in gauges {
            let is = gauge.load(Relaxed);
            if is != expected {
                violated!("{name} is {is}, must be {expected}");
            }
        }
        let desynced = self.oracle.clients.iter().flatten().any(|client| client.desynced);
        if !desynced && counts.crossed_close.load(Relaxed) < self.oracle.crossed {
            violated!("crossed_close is too low");
        }
    }

    // ---- The end.

    /// Everything that is under way goes on, nothing new begins, until all is over.
    fn finish(&mut self) {
        for redis in &mut self.redis {
            (redis.down, redis.stalled, redis.full) = (false, false, false);
        }
        self.conns.iter_mut().flatten().for_each(|conn| conn.browser.reading = true);
        // What is under way is given the time to end, unless the end has been told already.
        let patience = self.now + 120_000;
        while self.phase == Phase::Serving && self.now < patience {
            self.settle_down();
            let waits = |audit: Audit| audit.pending > 0 || audit.backlog > 0;
            if !(0..self.conns.len() as u32).any(|slot| self.audit(slot).is_some_and(waits)) {
                break;
            }
        }
        if self.phase == Phase::Serving {
            for slot in 0..self.conns.len() as u32 {
                if self.audit(slot).is_some_and(|audit| audit.pending > 0 || audit.backlog > 0) {
                    violated!("slot {slot} still waits at the end of all time-outs");
                }
            }
            if self.drain_at_end { self.drain() } else { self.stop() }
        }
        let mut turns = 0;
        while self.phase != Phase::Ended {
            self.settle_down();
            turns += 1;
            if turns > 20_000 {
                violated!("the core does not end");
            }
        }
        for slot in 0..self.conns.len() as u32 {
            if self.conns[slot as usize].take().is_some() {
                self.call(|clients| clients.release(slot));
                self.oracle.release(slot);
                self.settle();
            }
        }
        self.check();
        for (name, is_gauge, _, value) in self.cores[0].counts.table() {
            if is_gauge && value > 0 && name != "heartbeat_ms" {
                violated!("in the end {name} is {value}");
            }
        }
        if self.clients.context.core_bytes > 0 || !self.clients.is_empty() {
            violated!("in the end something is left");
        }
        self.tally.one(What::ended_quietly);
    }

    /// A turn of everything that needs no decision.
    fn settle_down(&mut self) {
        for slot in 0..self.conns.len() as u32 {
            for act in [Self::arrive, Self::read, Self::send, Self::hang_up_broken] {
                if self.conns[slot as usize].is_some() {
                    act(self, slot);
                }
            }
        }
        self.step += 1;
        for domain in 0..2 {
            self.connect_push(domain);
            self.write_pushes(domain);
            self.confirm(domain);
        }
        self.connect_pop();
        self.write_pops();
        self.serve_redis();
        self.deliver();
        self.route();
        self.work(false);
        self.advance(7);
    }

    fn end(&mut self) {
        note!(self, "the core ends");
        self.phase = Phase::Ended;
    }

    /// What happened last cannot be judged from outside.
    pub fn is_ambiguous(&self) -> bool {
        self.oracle.ambiguous
    }

    /// The limits that were hit, by name.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        Limit::ALL.iter().map(|(limit, name)| (*name, self.cores[0].limit_hits(*limit))).collect()
    }

    /// What happened.
    pub fn happened(&self) -> Tally {
        let mut all = self.tally.clone();
        all.merge(&self.oracle.tally);
        all
    }
}
