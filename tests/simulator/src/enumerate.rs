//! Small spaces, whole: every order of what may happen to two threads of one client, up to a length; every way to cut
//! a stream of frames, or of RESP, in two or three.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::browser::{Bounds, Browser, Ev, Kind, unframe};
use crate::bus::inbox::Inbox;
use crate::bus::outbox::{Outbox, Push, Ticket};
use crate::bus::resp;
use crate::counters::{self, Limit};
use crate::drain::DrainOptions;
use crate::oracle::{Oracle, Reply, ReplyMsg, Rules, Seen};
use crate::random::Random;
use crate::session::audit::audit;
use crate::session::clients::Clients;
use crate::workers::address;
use crate::world::{Violation, context};

const WORKER: &str = "opensrf:client:opensrf:private.localhost:vm:3:c0";
const ROUTER: &str = "opensrf:client:router:public.localhost:vm:1:aaaa";
/// How many things happen in a history.
const LENGTH: usize = 5;

const RULES: Rules = Rules {
    handshake_ms: 10_000,
    message_ms: 10_000,
    ping_ms: 10_000,
    pong_ms: 10_000,
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
    bounds: Bounds { message_bytes: 60_000, bus_bytes: 1 << 16, per_envelope: 4, depth: 20 },
};

/// What may happen; `usize` is one of two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
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

const OPS: [Op; 18] = [
    Op::Connect(0),
    Op::Request(0),
    Op::Disconnect(0),
    Op::Result(0),
    Op::Complete(0),
    Op::KeepAlive(0),
    Op::NotFound(0),
    Op::Connect(1),
    Op::Request(1),
    Op::Disconnect(1),
    Op::Result(1),
    Op::Complete(1),
    Op::KeepAlive(1),
    Op::NotFound(1),
    Op::Close,
    Op::BusLost,
    Op::Drain,
    Op::Tick,
];

/// An envelope that was pushed: its bus thread, what it asks for.
struct Pushed {
    thread: String,
    asks: Vec<(u8, i64)>,
}

/// One client of one core.
struct Small {
    clients: Clients,
    cores: Arc<[counters::Core]>,
    oracle: Oracle,
    browser: Browser,
    random: Random,
    now: u64,
    pushed: [Vec<Pushed>; 2],
    before: Seen,
    deadline: Option<u64>,
    here: bool,
    /// All that was sent and pushed.
    transcript: [Vec<u8>; 2],
}

fn violated(text: String) -> ! {
    std::panic::panic_any(Violation(text))
}

impl Small {
    fn new() -> Self {
        let cores: Arc<[counters::Core]> = vec![counters::Core::new(0)].into();
        let mut context = context(&RULES, &cores);
        context.bus_ever_up = true;
        let mut random = Random::new(7);
        let mut small = Self {
            clients: Clients::new(context),
            cores,
            oracle: Oracle::new(RULES),
            browser: Browser::new(1, &mut random),
            random,
            now: 1_000,
            pushed: [Vec::new(), Vec::new()],
            before: Seen::default(),
            deadline: None,
            here: true,
            transcript: [Vec::new(), Vec::new()],
        };
        small.oracle.ever_up = true;
        small.clients.context.now_ms = small.now;
        small.oracle.now = small.now;
        small.clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST));
        small.oracle.accept();
        small
    }

    fn seen(&self) -> Seen {
        Seen {
            slow: self.cores[0].limit_hits(Limit::outbound_bytes_max),
            closed_at_gap: self.cores[0].counts.closed_at_gap.load(Relaxed),
            cut_largest: 0,
            texts: 0,
        }
    }

    fn call(&mut self, decide: impl FnOnce(&mut Clients)) {
        self.clients.context.now_ms = self.now;
        self.oracle.now = self.now;
        self.before = self.seen();
        decide(&mut self.clients);
        let seen = self.seen();
        self.oracle.seen = Seen { closed_at_gap: seen.closed_at_gap - self.before.closed_at_gap, ..Seen::default() };
        self.oracle.stages = vec![audit(&self.clients, 0).map_or(9, |audit| audit.stage)];
    }

    /// Compares, and lets the kernel take what is to be sent.
    fn settle(&mut self) {
        loop {
            let output = self.clients.take_output();
            for (domain, push) in output.pushes {
                let text = String::from_utf8_lossy(&push.message).into_owned();
                let ticket = push.ticket.map(|t| (t.slot, t.generation, t.n, t.push));
                if let Err(wrong) = self.oracle.pushed(domain, &push.key, &text, ticket) {
                    violated(wrong);
                }
                self.transcript[0].extend_from_slice(&push.message);
                if push.ticket.is_some() {
                    let thread = text.split("\"thread\":\"").nth(1).and_then(|rest| rest.split("\",\"osrf_xid").next());
                    let thread = thread.unwrap_or_default().to_owned();
                    let which = usize::from(thread.ends_with(":a"));
                    let asks = text
                        .split("\"threadTrace\":")
                        .skip(1)
                        .map(|rest| {
                            let trace = rest.trim_start_matches('"').split(['"', ',']).next();
                            let kind = rest.split("\"type\":\"").nth(1).map_or(b'?', |kind| kind.as_bytes()[0]);
                            (kind, trace.and_then(|n| n.parse().ok()).unwrap_or(0))
                        })
                        .collect();
                    self.pushed[which].push(Pushed { thread, asks });
                }
            }
            if let Some(missing) = self.oracle.pushes.pop_front() {
                violated(format!("a push is missing: {missing:?}"));
            }
            if let Some(wrong) = self.oracle.wrong.take() {
                violated(wrong);
            }
            let Some(chunk) = (if self.here { self.clients.take_outbound(0) } else { None }) else { break };
            let (mut at, mut frames) = (0, Vec::new());
            while let Some((frame, used)) = unframe(&chunk[at..]) {
                at += used;
                frames.push(frame);
            }
            if let Err(wrong) = self.oracle.taken(0, &frames) {
                violated(wrong);
            }
            self.transcript[1].extend_from_slice(&chunk);
            self.call(|clients| clients.sent(0));
            if let Some(audit) = audit(&self.clients, 0) {
                self.oracle.unsent_is(0, audit.outbound_bytes + chunk.len());
            }
            self.oracle.sent(0, chunk.len());
        }
        let Some(audit) = audit(&self.clients, 0) else { return };
        let Some(client) = &self.oracle.clients[0] else { return };
        let books = (audit.pending, audit.sessions, audit.conversations, audit.backlog, audit.backlog_bytes);
        let stage = match client.stage {
            crate::oracle::Stage::Handshake => 0,
            crate::oracle::Stage::Open => 1,
            crate::oracle::Stage::Closing { .. } => 2,
            crate::oracle::Stage::Gone => 3,
        };
        if books != client.books() || stage != audit.stage {
            violated(format!("stage and books are {} {books:?}, must be {stage} {:?}", audit.stage, client.books()));
        }
        if !client.expect.is_empty() {
            violated(format!("not sent: {:?}", client.expect));
        }
    }

    fn input(&mut self, bytes: &mut [u8]) {
        let events = self.browser.complete(bytes.len());
        let clean = self.browser.is_clean;
        self.call(|clients| clients.input(0, bytes));
        self.oracle.input(0, &events, clean);
        self.settle();
    }

    fn flush(&mut self) {
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
        self.call(|clients| clients.from_bus(text.as_bytes()));
        self.oracle.reply(&reply);
        self.settle();
    }

    fn tick(&mut self) {
        self.now += 20;
        self.call(Clients::tick);
        self.oracle.tick();
        self.settle();
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
                let deadline = self.now + 300;
                self.deadline = Some(deadline);
                let options = DrainOptions { quiet_ms: 15, deadline_ms: deadline, closes_per_second: 0.0 };
                self.call(|clients| clients.begin_drain(options));
                self.oracle.begin_drain(15, deadline);
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
            // Nothing pending, nothing waiting: the rest is only time.
            if self.deadline.is_none() && audit(&self.clients, 0).is_none_or(|a| a.pending == 0 && a.backlog == 0) {
                break;
            }
        }
        if let Some(audit) = audit(&self.clients, 0) {
            if audit.pending > 0 || audit.backlog > 0 {
                violated(format!("in the end something waits: {audit:?}"));
            }
            if self.deadline.is_some() && audit.stage < 2 {
                violated("in the end of the drain a client is open".to_owned());
            }
        }
        self.here = false;
        self.call(|clients| clients.ended(0, "over".into()));
        self.oracle.ended(0);
        self.call(|clients| clients.release(0));
        self.oracle.release(0);
        self.settle();
        for (name, is_gauge, _, value) in self.cores[0].counts.table() {
            if is_gauge && value > 0 && name != "heartbeat_ms" {
                violated(format!("in the end {name} is {value}"));
            }
        }
    }
}

/// Runs one history; the index of the first thing that cannot happen there.
fn history(ops: &[Op]) -> Result<(), usize> {
    let mut small = Small::new();
    small.random = Random::new(5);
    small.browser.shaken = true;
    small.browser.shake_well();
    small.flush();
    for (at, op) in ops.iter().enumerate() {
        if !small.act(*op) {
            return Err(at);
        }
    }
    small.finish();
    Ok(())
}

/// All histories that begin with `ops`.
fn extend(ops: &mut Vec<Op>, count: &mut u64) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| history(ops)));
    match ran {
        Ok(Ok(())) => *count += 1,
        Ok(Err(_)) => return Ok(()),
        Err(panic) => {
            let text = match panic.downcast::<Violation>() {
                Ok(violation) => violation.0,
                Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "panic".to_owned(), |s| (*s).to_owned()),
            };
            return Err(format!("{text} after {ops:?}"));
        }
    }
    if ops.len() < LENGTH {
        for op in OPS {
            // The threads are alike: the second is used only once the first has been.
            let second = matches!(
                op,
                Op::Connect(1)
                    | Op::Request(1)
                    | Op::Disconnect(1)
                    | Op::Result(1)
                    | Op::Complete(1)
                    | Op::KeepAlive(1)
                    | Op::NotFound(1)
            );
            let first_used = ops.iter().any(|op| matches!(op, Op::Connect(0) | Op::Request(0) | Op::Disconnect(0)));
            if second && !first_used {
                continue;
            }
            ops.push(op);
            extend(ops, count)?;
            ops.pop();
        }
    }
    Ok(())
}

/// What comes of a stream of frames that is cut there.
fn frames(stream: &[u8], events: &Browser, cuts: &[usize]) -> [Vec<u8>; 2] {
    let mut small = Small::new();
    small.browser.events.clone_from(&events.events);
    small.browser.clean.clone_from(&events.clean);
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        if to > from {
            small.input(&mut stream[from..to].to_vec());
            from = to;
        }
    }
    small.transcript
}

fn frame_splits() -> Result<u64, String> {
    let mut count = 0;
    for seed in 0..14_u64 {
        let mut random = Random::new(seed);
        let mut browser = Browser::new(1, &mut random);
        browser.shake_well();
        browser.say_on(&mut random, 1, &[Kind::Request], 0);
        browser.ping(&mut random);
        if seed % 2 == 0 {
            browser.message(&mut random, b"{}", Ev::Message(bad()));
        }
        if seed < 7 {
            browser.close(&mut random);
        } else {
            browser.violate(&mut random, &RULES_SMALL);
        }
        let stream: Vec<u8> = browser.unsent.iter().copied().collect();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let whole = frames(&stream, &browser, &[]);
            let mut count = 0;
            for first in 1..stream.len() {
                let step = if seed == 0 { 5 } else { 37 };
                for second in (first..stream.len()).step_by(step) {
                    if frames(&stream, &browser, &[first, second]) != whole {
                        violated(format!("frames cut at {first} and {second} (stream {seed}) mean something else"));
                    }
                    count += 1;
                }
            }
            let bytes: Vec<usize> = (1..stream.len()).collect();
            if frames(&stream, &browser, &bytes) != whole {
                violated(format!("frames byte by byte (stream {seed}) mean something else"));
            }
            count + 1
        }));
        count += ran.map_err(|panic| {
            panic.downcast::<Violation>().map_or_else(|_| "panic".to_owned(), |v| format!("{} (stream {seed})", v.0))
        })?;
    }
    Ok(count)
}

/// Only for its `message_bytes`, which must fit two bytes.
const RULES_SMALL: Bounds = Bounds { message_bytes: 60_000, bus_bytes: 0, per_envelope: 0, depth: 0 };

fn bad() -> std::rc::Rc<crate::browser::Said> {
    let said = crate::browser::Said::Bad { spelled: "\"\"".to_owned(), xid: None, traces: Vec::new(), silent: false };
    std::rc::Rc::new(said)
}

/// What comes of the answers to pops that are cut there.
fn pops(stream: &[u8], cuts: &[usize]) -> String {
    let mut inbox = Inbox::new("k");
    inbox.write(&mut Vec::new());
    let (mut buffer, mut at, mut from, mut said) = (Vec::new(), 0, 0, String::new());
    for &to in cuts.iter().chain([&stream.len()]) {
        buffer.extend_from_slice(&stream[from..to]);
        from = to;
        while let Ok(Some(token)) = resp::next(&buffer, &mut at).map_err(|e| said.push_str(&format!("{e:?}"))) {
            match inbox.token(&token) {
                Ok(Some(message)) => said.push_str(&format!("[{}]", String::from_utf8_lossy(message))),
                Ok(None) => {}
                Err(error) => said.push_str(&format!("{error:?}")),
            }
        }
    }
    said
}

/// What comes of confirmations that are cut there.
fn confirmations(stream: &[u8], cuts: &[usize]) -> String {
    let mut outbox = Outbox::default();
    for n in 0..4 {
        let ticket = Some(Ticket { slot: 0, generation: 0, n, push: 0 });
        outbox.push(Push { key: format!("k{n}").into(), message: b"m".to_vec(), ticket });
    }
    outbox.delete("d".into());
    outbox.write(&mut Vec::new());
    let (mut buffer, mut at, mut from, mut said) = (Vec::new(), 0, 0, String::new());
    for &to in cuts.iter().chain([&stream.len()]) {
        buffer.extend_from_slice(&stream[from..to]);
        from = to;
        while let Ok(Some(token)) = resp::next(&buffer, &mut at) {
            said.push_str(&format!("{:?};", outbox.answer(&token)));
        }
    }
    said.push_str(&format!("{:?}", outbox.take_unconfirmed()));
    said
}

fn resp_splits() -> Result<u64, String> {
    let pop = b"*2\r\n$1\r\nk\r\n$9\r\na\r\nb$3\r\n*\r\n*3\r\n$0\r\n\r\n$5\r\n-ERR\r\r\n$11\r\n$3\r\nabc\r\n*2\r\n\
        *2\r\n$1\r\nk\r\n$1\r\nz\r\n*-1\r\n*-1\r\n*1\r\n$2\r\n\r\n\r\n*2\r\n$1\r\nk\r\n$4\r\nlast";
    let push = b":1\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n:123456789\r\n:0\r\n:1\r";
    let mut count = 0;
    for (what, stream, read) in [
        ("pops", &pop[..], pops as fn(&[u8], &[usize]) -> String),
        ("confirmations", &push[..], confirmations as fn(&[u8], &[usize]) -> String),
    ] {
        let whole = read(stream, &[]);
        if whole.len() < 20 {
            return Err(format!("{what}: {whole}"));
        }
        for first in 0..stream.len() {
            for second in first..stream.len() {
                if read(stream, &[first, second]) != whole {
                    return Err(format!("{what} cut at {first} and {second} mean something else than {whole}"));
                }
                count += 1;
            }
        }
        let bytes: Vec<usize> = (1..stream.len()).collect();
        if read(stream, &bytes) != whole {
            return Err(format!("{what} byte by byte mean something else"));
        }
    }
    // Known by hand, not only the same whichever way it is cut.
    let messages = pops(pop, &[]);
    if messages != "[a\r\nb$3\r\n*][][-ERR\r][$3\r\nabc\r\n*2][z][\r\n]" {
        return Err(format!("pops mean {messages}"));
    }
    Ok(count)
}

pub fn run() -> ExitCode {
    let mut histories = 0;
    let began = std::time::Instant::now();
    let result = resp_splits().and_then(|resp| {
        let frames = frame_splits()?;
        println!("{frames} cuts of frame streams, {resp} of RESP streams: all mean what the whole means");
        extend(&mut Vec::new(), &mut histories)
    });
    match result {
        Ok(()) => {
            println!(
                "{histories} histories of up to {LENGTH} of {} things that can happen to two threads: no violation, {:.1} s",
                OPS.len(),
                began.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(text) => {
            println!("VIOLATION {text}");
            ExitCode::FAILURE
        }
    }
}
