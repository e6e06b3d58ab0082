//! One client of one core, all of whose histories are gone through.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::clients::audit::audit;
use evergate_proto::clients::output::Output;
use evergate_proto::clients::table::Clients;
use evergate_proto::counters;
use evergate_proto::drain::DrainOptions;
use evergate_proto::effects::{Effector, carry_out};
use evergate_proto::redis::outbox::Push;
use evergate_proto::websocket::proxy_header::Opening;

use crate::browser::{Bounds, Browser, Kind, unframe_all};
use crate::oracle::{Oracle, PROXY, Reply, ReplyMsg, Rules};
use crate::random::Random;
use crate::workers::{Job, address};
use crate::world::{checks, context, violated};

const WORKER: &str = "opensrf:client:opensrf:private.localhost:vm:3:c0";
const ROUTER: &str = "opensrf:client:router:public.localhost:vm:1:aaaa";
const RULES: Rules = Rules {
    quiet_ms: 15,
    handshake_ms: 10_000,
    message_ms: 10_000,
    message_max_ms: 600_000,
    ping_ms: 10_000,
    pong_ms: 10_000,
    slow: 1_000,
    idle_ms: 0,
    request_ms: 90,
    connect_ms: 50,
    close_ms: 60,
    bus_lost_ms: 30,
    parallel: 2,
    backlog: 8,
    backlog_bytes: 1 << 20,
    sessions: 2,
    outbound: 1 << 20,
    core_bytes: 1 << 30,
    garbage: 3,
    client_rate: 0,
    address_rate: 0,
    connect_rate: 0,
    orphans: 10_000,
    unanswered: 50_000,
    router: 0,
    bounds: Bounds { message_bytes: 60_000, bus_bytes: 1 << 16, per_envelope: 4, depth: 20 },
};

/// What may happen; `usize` is one of two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Connect(usize),
    Request(usize),
    Disconnect(usize),
    /// A RESULT for the last envelope pushed.
    Result(usize),
    /// The oldest unanswered ends: 200 for a CONNECT, 205 for a REQUEST.
    Complete(usize),
    KeepAlive(usize),
    NotFound(usize),
    Close,
    BusLost,
    Drain,
    Tick,
}

/// An envelope that was pushed: its bus thread, what it asks for.
struct Pushed {
    thread: String,
    asks: Vec<(u8, i64)>,
}

/// One client of one core.
pub struct Small {
    clients: Clients,
    cores: Arc<[counters::Core]>,
    oracle: Oracle,
    pub browser: Browser,
    random: Random,
    now: u64,
    pushed: [Vec<Pushed>; 2],
    deadline: Option<u64>,
    /// When half of the drain is over.
    half: u64,
    /// What was not read is read again.
    resumed: bool,
    here: bool,
    /// All that was sent and pushed.
    pub transcript: [Vec<u8>; 2],
}

impl Op {
    /// The thread that it is about.
    pub fn thread(self) -> Option<usize> {
        match self {
            Self::Connect(t) | Self::Request(t) | Self::Disconnect(t) => Some(t),
            Self::Result(t) | Self::Complete(t) | Self::KeepAlive(t) | Self::NotFound(t) => Some(t),
            Self::Close | Self::BusLost | Self::Drain | Self::Tick => None,
        }
    }
}

impl Effector for Small {
    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    fn begin(&mut self, decided: &Output) {
        for slot in &decided.resume {
            self.oracle.resume(*slot);
        }
        if decided.pushes.is_empty() {
            self.pushed();
        }
    }

    fn push(&mut self, domain: usize, push: Push) {
        let text = checks::pushed(&mut self.oracle, domain, &push);
        self.transcript[0].extend_from_slice(text.as_bytes());
        if push.ticket.is_some() {
            let thread = text.split("\"thread\":\"").nth(1).and_then(|rest| rest.split("\",\"osrf_xid").next());
            let thread = thread.unwrap_or_default().to_owned();
            let which = usize::from(thread.ends_with(":a"));
            self.pushed[which].push(Pushed { thread, asks: Job::new(text.as_bytes()).asks });
        }
    }

    fn pushed(&mut self) {
        checks::nothing_is_missing(&mut self.oracle);
    }

    fn send(&mut self, _: u32) {
        while let Some(chunk) = if self.here { self.clients.take_outbound(0) } else { None } {
            let bytes = chunk.bytes();
            let (frames, _) = unframe_all(bytes);
            if let Err(wrong) = self.oracle.taken(0, bytes.len(), &frames) {
                violated!("{wrong}");
            }
            self.transcript[1].extend_from_slice(bytes);
            self.clients.recycle(chunk.buffer);
            self.call(|clients| clients.sent(0));
            self.oracle.sent(0);
        }
    }

    fn half_close(&mut self, slot: u32) {
        self.oracle.half_closed(slot);
    }

    fn resume(&mut self, _: u32) {
        self.resumed = true;
    }

    /// All that was sent has been acknowledged, and all that was said has been read that may be.
    fn look(&mut self, slot: u32) {
        self.call(|clients| clients.looked(slot, 0));
        self.oracle.looked(slot, 0);
    }
}

impl Small {
    pub fn new() -> Self {
        let cores: Arc<[counters::Core]> = vec![counters::Core::new(0)].into();
        let mut context = context(&RULES, &cores);
        context.bus_is_up();
        let mut random = Random::new(7);
        let mut small = Self {
            clients: Clients::new(context),
            cores,
            oracle: Oracle::new(RULES),
            browser: Browser::new(1, &mut random),
            random,
            now: 1_000,
            pushed: [Vec::new(), Vec::new()],
            deadline: None,
            half: u64::MAX,
            resumed: false,
            here: true,
            transcript: [Vec::new(), Vec::new()],
        };
        small.oracle.ever_up = true;
        small.clients.context.at(small.now);
        small.oracle.now = small.now;
        small.clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST).into(), Opening::Request);
        small.oracle.accept(PROXY);
        small
    }

    fn call(&mut self, decide: impl FnOnce(&mut Clients)) {
        self.clients.context.at(self.now);
        self.oracle.now = self.now;
        let gap_closes = |small: &Self| small.cores[0].counts.closed_at_gap.load(Relaxed);
        let before = gap_closes(self);
        decide(&mut self.clients);
        self.oracle.gap_closes = gap_closes(self) - before;
        checks::tell(&mut self.oracle, &self.clients);
    }

    /// Compares, and lets the kernel take what is to be sent.
    fn settle(&mut self) {
        carry_out(self, Output::default());
        checks::counters(&self.cores[0], &self.oracle.tally);
        if let (Some(audit), Some(client)) = (audit(&self.clients, 0), self.oracle.client(0)) {
            checks::client(0, &audit, client);
            if !client.is_all_sent() {
                violated!("not all is sent: {} bytes", client.unsent());
            }
        }
        if std::mem::take(&mut self.resumed) {
            self.flush();
        }
    }

    pub fn input(&mut self, bytes: &mut [u8]) {
        let events = self.browser.complete(bytes.len());
        let clean = self.browser.is_clean;
        let gathered = |small: &Self| audit(&small.clients, 0).map_or(0, |audit| audit.gathered);
        let before = gathered(self);
        self.call(|clients| clients.input(0, bytes));
        let grew = gathered(self) != before;
        self.oracle.input(0, &events, clean, grew);
        self.settle();
    }

    /// What was said is read, if the client may be read from.
    fn flush(&mut self) {
        let expected = self.oracle.may_read(0, false);
        let mut may = false;
        self.call(|clients| may = clients.may_read(0));
        if may != expected {
            violated!("it may be read from: {may}, must be {expected}");
        }
        if !may {
            return self.oracle.pause(0, false);
        }
        let mut bytes: Vec<u8> = self.browser.unsent.drain(..).collect();
        self.input(&mut bytes);
    }

    fn say(&mut self, thread: usize, kind: Kind) {
        if self.browser.close_sent {
            return;
        }
        // Always the same spelling, whatever was said before: a history differs in its order only.
        self.random = Random::new(11);
        self.browser.say_on(&mut self.random, thread, &[kind], 0);
        self.flush();
    }

    fn reply(&mut self, from: &str, thread: &str, messages: &[(u16, &str, i64)]) {
        let mut texts = Vec::new();
        let mut msgs = Vec::new();
        for &(code, kind, trace) in messages {
            let class = if from == ROUTER { "osrfServiceException" } else { "osrfStatus" };
            let pre = "{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":".to_owned();
            let post = format!(
                ",\"type\":\"{kind}\",\"payload\":{{\"__c\":\"{class}\",\"__p\":{{\"statusCode\":{code}}}}}}}}}"
            );
            texts.push(format!("{pre}{trace}{post}"));
            msgs.push(ReplyMsg {
                status: (kind == "STATUS").then_some(code),
                trace: Some(trace),
                around_trace: (pre, post),
                exception: from == ROUTER,
            });
        }
        let body = format!("[{}]", texts.join(","));
        let text =
            format!("{{\"to\":\"x\",\"from\":\"{from}\",\"thread\":\"{thread}\",\"osrf_xid\":\"y\",\"body\":{body}}}");
        let reply = Reply {
            to: address(thread),
            thread: thread.to_owned(),
            from: from.to_owned(),
            is_router: from == ROUTER,
            xid: Some("\"y\"".to_owned()),
            msgs,
            body: body.into_bytes(),
            is_array: true,
            utf8: true,
            readable: true,
        };
        self.call(|clients| _ = clients.from_bus(&[text.as_bytes()]));
        self.oracle.reply(&reply);
        self.settle();
        checks::tell_halves(&mut self.oracle, &self.clients);
        self.call(Clients::cut_holders);
        self.oracle.cut_holders();
        self.settle();
    }

    fn tick(&mut self) {
        self.now += 20;
        self.call(|clients| assert!(clients.tick(|| true)));
        self.oracle.tick(&self.clients.context.output().look);
        self.settle();
        self.oracle.overdue();
        checks::nothing_is_missing(&mut self.oracle);
    }

    /// Does it; false where it cannot happen here, so that the history is a shorter one's.
    fn act(&mut self, op: Op) -> bool {
        match op {
            Op::Connect(t) | Op::Request(t) | Op::Disconnect(t) => {
                if self.browser.close_sent {
                    return false;
                }
                let kind = match op {
                    Op::Connect(_) => Kind::Connect,
                    Op::Request(_) => Kind::Request,
                    _ => Kind::Disconnect,
                };
                self.say(t, kind);
            }
            Op::Result(t) | Op::KeepAlive(t) | Op::NotFound(t) => {
                let Some(pushed) = self.pushed[t].last() else { return false };
                let (thread, trace) = (pushed.thread.clone(), pushed.asks.first().map_or(0, |ask| ask.1));
                match op {
                    Op::Result(_) => self.reply(WORKER, &thread, &[(200, "RESULT", trace)]),
                    Op::KeepAlive(_) => self.reply(WORKER, &thread, &[(408, "STATUS", 0)]),
                    _ => self.reply(ROUTER, &thread, &[(404, "STATUS", 1)]),
                }
            }
            Op::Complete(t) => {
                let Some(at) = self.pushed[t].iter().position(|p| p.asks.iter().any(|ask| ask.0 != b'D')) else {
                    return false;
                };
                let pushed = self.pushed[t].remove(at);
                for (kind, trace) in &pushed.asks {
                    let code = if *kind == b'C' { 200 } else { 205 };
                    self.reply(WORKER, &pushed.thread, &[(code, "STATUS", *trace)]);
                }
                // Still known: a keep-alive may run out later.
                self.pushed[t].push(Pushed { thread: pushed.thread, asks: vec![(b'D', pushed.asks[0].1)] });
            }
            Op::Close => {
                if self.browser.close_sent {
                    return false;
                }
                self.random = Random::new(13);
                self.browser.close(&mut self.random);
                self.flush();
            }
            Op::BusLost => {
                self.call(Clients::pops_lost);
                self.oracle.pops_lost();
                self.settle();
                self.call(Clients::pops_back);
                self.oracle.pops_back();
                self.settle();
            }
            Op::Drain => {
                if self.deadline.is_some() {
                    return false;
                }
                // What is under way is given up between half of the time and all of it.
                let deadline = self.now + 140;
                self.deadline = Some(deadline);
                self.half = self.now + 70;
                let options = DrainOptions { deadline_ms: deadline, closes_per_second: 0.0 };
                self.call(|clients| clients.begin_drain(options));
                self.oracle.begin_drain(deadline, 0.0);
                self.settle();
            }
            Op::Tick => self.tick(),
        }
        true
    }

    /// Time passes until all is over.
    fn finish(&mut self) {
        for _ in 0..if self.deadline.is_some() { 18 } else { 24 } {
            if let Some(deadline) = self.deadline
                && self.now >= deadline
            {
                self.deadline = Some(u64::MAX);
                self.call(Clients::drain_deadline);
                self.oracle.deadline();
                self.settle();
            }
            self.tick();
            // A request that comes behind half of a drain.
            if self.now > self.half && !self.browser.close_sent {
                self.half = u64::MAX;
                self.say(0, Kind::Request);
            }
            // Nothing pending, nothing waiting: the rest is only time.
            if self.deadline.is_none() && audit(&self.clients, 0).is_none_or(|a| a.pending == 0 && a.backlog == 0) {
                break;
            }
        }
        if let Some(audit) = audit(&self.clients, 0) {
            if audit.pending > 0 || audit.backlog > 0 {
                violated!("in the end something waits: {audit:?}");
            }
            if self.deadline.is_some() && audit.stage < 2 {
                violated!("in the end of the drain a client is open");
            }
        }
        self.here = false;
        self.call(|clients| clients.broke(0, "over"));
        self.oracle.broke(0);
        self.call(|clients| clients.release(0));
        self.oracle.release(0);
        self.settle();
        // Nobody is thought of for ever.
        for _ in 0..2 {
            self.now += 2_000 + RULES.request_ms;
            self.call(|clients| assert!(clients.tick(|| true)));
            self.oracle.tick(&[]);
            self.settle();
        }
        checks::gauges_are_zero(&self.cores[0]);
    }

    /// Runs one history; whether all of it can happen.
    pub fn history(ops: &[Op]) -> bool {
        let mut small = Self::new();
        small.random = Random::new(5);
        small.browser.shaken = true;
        small.browser.shake_well();
        small.flush();
        let all = ops.iter().all(|op| small.act(*op));
        if all {
            small.finish();
        }
        all
    }
}
