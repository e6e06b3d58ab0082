//! An independent model of the gateway, written from the contract and not from the product: it sees what happens at the
//! edges (what clients completed, what was popped, confirmed, lost, the time) and says what each client must be sent,
//! what must be pushed, and who is at an idle gap. It shares no code with the product.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::browser::{Bounds, Env, Ev, Frame, INGRESS, Kind, Said, escaped};
use crate::tally::{Tally, What};

pub const ADDRESS: &str = "opensrf:client:gateway:public.localhost:vm:7:00ff";
pub const ROUTER_KEY: &str = "opensrf:router:router:public.localhost";
pub const DOMAINS: [&str; 2] = ["public.localhost", "private.localhost"];

/// The limits in force, ms and counts.
#[derive(Clone, Debug)]
pub struct Rules {
    pub handshake_ms: u64,
    pub message_ms: u64,
    pub ping_ms: u64,
    pub pong_ms: u64,
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
    pub bounds: Bounds,
}

/// A message on the bus, as its sender knows it.
#[derive(Debug)]
pub struct Reply {
    /// Slot, generation, conversation; none where the thread is no thread of the gateway's.
    pub to: Option<(u32, u32, u64)>,
    /// The whole bus thread, escaped as little as can be.
    pub thread: String,
    pub from: String,
    pub is_router: bool,
    pub xid: Option<String>,
    pub msgs: Vec<ReplyMsg>,
    pub body: Vec<u8>,
    pub is_array: bool,
    pub utf8: bool,
    pub readable: bool,
}

#[derive(Debug, Clone)]
pub struct ReplyMsg {
    /// The code of a STATUS.
    pub status: Option<u16>,
    pub trace: Option<i64>,
    /// The text before and behind the value of threadTrace.
    pub around_trace: (String, String),
    pub exception: bool,
}

/// The next frame that a client must be sent.
#[derive(Debug)]
pub enum Expect {
    Exactly(Frame),
    Close(u16),
    /// An error of the gateway's: thread, xid where the client gave one, trace, status, transport_error.
    Error(String, Option<String>, String, u16, bool),
    /// A router's 404: before the xid, behind it.
    Text(String, Option<String>, Vec<u8>),
}

/// The next message that must be pushed; a made-up xid stands between the two halves.
#[derive(Debug)]
pub struct Push {
    pub domain: usize,
    pub key: String,
    pub before: String,
    pub xid: Option<String>,
    pub after: String,
    pub ticket: Option<(u32, u32, u64, u32)>,
}

struct Pending {
    trace: i64,
    spelled: String,
    connect: bool,
    since: u64,
    push: u32,
    /// None: no doubt. u64::MAX: the link is away.
    lost_at: Option<u64>,
}

struct Conversation {
    n: u64,
    thread: String,
    spelled: String,
    xid: Option<String>,
    pending: Vec<Pending>,
    worker: Option<(String, usize)>,
    connected: bool,
    left: bool,
    pushes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Handshake,
    Open,
    Closing { since: u64, awaits: bool },
    Gone,
}

pub struct Client {
    slot: u32,
    pub generation: u32,
    pub stage: Stage,
    accepted: u64,
    received: u64,
    activity: u64,
    message_since: Option<u64>,
    ping_since: Option<u64>,
    pub paused: bool,
    clean: bool,
    garbage: u32,
    next_n: u64,
    conversations: Vec<Conversation>,
    backlog: VecDeque<Rc<Env>>,
    pub expect: VecDeque<Expect>,
    pub in_flight: bool,
    reply_unsent: bool,
    /// Unsent bytes: at least, at most (the texts of errors are the product's own).
    unsent: (usize, usize),
    /// The core took its half message away: what it sends cannot be read any more.
    pub desynced: bool,
    /// Idle since the drain began, and never anything else: must be gone by half of its time.
    idle_at_drain: bool,
}

/// What only the product can say, looked at after each call: how often it took a client for slow, closed one at its gap,
/// cut the largest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    pub slow: u64,
    pub closed_at_gap: u64,
    pub cut_largest: u64,
    /// Texts queued for clients.
    pub texts: u64,
}

pub struct Oracle {
    pub rules: Rules,
    pub clients: Vec<Option<Client>>,
    generations: Vec<u32>,
    free: VecDeque<u32>,
    pub pushes: VecDeque<Push>,
    pub accepting: [bool; 2],
    pub ever_up: bool,
    pub now: u64,
    ticked: u64,
    /// Quiet time, deadline, half, whether a tick was late.
    pub drain: Option<(u64, u64, u64, bool)>,
    pub seen: Seen,
    /// The call is about one client only.
    pub one_client: bool,
    /// The stage of each client in the product, after the call.
    pub stages: Vec<u8>,
    /// The call is about all clients.
    pub many_clients: bool,
    /// In such a call a client was taken for slow at a point that cannot be told from outside, since the length of an
    /// error is the product's own: what follows in this call cannot be judged.
    pub ambiguous: bool,
    pub crossed: u64,
    pub closed_at_gap: u64,
    pub closed_at_deadline: u64,
    pub cut: u64,
    pub undeliverable: u64,
    pub tally: Tally,
    /// Slots that the product closed for being the largest.
    pub wrong: Option<String>,
}

fn domain_of(address: &str) -> Option<usize> {
    let name = address.split(':').nth(3)?;
    DOMAINS.iter().position(|domain| *domain == name)
}

/// Bytes of a frame around `n` bytes.
fn framed(n: usize) -> usize {
    n + if n <= 125 {
        2
    } else if n <= 0xffff {
        4
    } else {
        10
    }
}

impl Client {
    fn pending(&self) -> usize {
        self.conversations.iter().map(|c| c.pending.len()).sum()
    }
    fn connecting(&self) -> usize {
        self.conversations.iter().flat_map(|c| &c.pending).filter(|p| p.connect).count()
    }
    fn sessions(&self) -> usize {
        self.conversations.iter().filter(|c| c.connected).count()
    }
    fn is_connecting(&self, thread: &str) -> bool {
        self.conversations.iter().any(|c| c.thread == thread && c.pending.iter().any(|p| p.connect))
    }
    fn find(&mut self, n: u64) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|c| c.n == n)
    }
    fn forget(&mut self) {
        self.conversations.retain(|c| c.connected || !c.pending.is_empty());
    }
    pub fn books(&self) -> (usize, usize, usize, usize, usize) {
        let bytes = self.backlog.iter().map(|env| env.text_len).sum();
        (self.pending(), self.sessions(), self.conversations.len(), self.backlog.len(), bytes)
    }
    /// 0 sending, 1 waiting, 2 session, 3 idle.
    pub fn class(&self) -> Option<usize> {
        (self.stage == Stage::Open).then(|| match () {
            () if self.reply_unsent => 0,
            () if self.pending() > 0 || !self.backlog.is_empty() => 1,
            () if self.sessions() > 0 => 2,
            () => 3,
        })
    }
    fn gap_since(&self) -> Option<u64> {
        (self.class() == Some(3) && self.clean && self.expect_reply_free()).then_some(self.activity)
    }
    /// No reply is among what must still be sent.
    fn expect_reply_free(&self) -> bool {
        self.expect.iter().all(|e| !matches!(e, Expect::Error(..) | Expect::Text(..)))
    }
    pub fn is_clean(&self) -> bool {
        self.clean
    }
}

impl Oracle {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            clients: Vec::new(),
            generations: Vec::new(),
            free: VecDeque::new(),
            pushes: VecDeque::new(),
            accepting: [true; 2],
            ever_up: false,
            now: 0,
            ticked: 0,
            drain: None,
            seen: Seen::default(),
            one_client: true,
            stages: Vec::new(),
            many_clients: false,
            ambiguous: false,
            crossed: 0,
            closed_at_gap: 0,
            closed_at_deadline: 0,
            cut: 0,
            undeliverable: 0,
            tally: Tally::default(),
            wrong: None,
        }
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.wrong.get_or_insert(text.into());
    }

    /// Lends a client out, so that it can be changed beside the rest.
    fn with<T>(&mut self, slot: u32, act: impl FnOnce(&mut Self, &mut Client) -> T) -> Option<T> {
        let mut client = self.clients.get_mut(slot as usize)?.take()?;
        let done = act(self, &mut client);
        self.clients[slot as usize] = Some(client);
        Some(done)
    }

    pub fn accept(&mut self) -> u32 {
        let slot = self.free.pop_front().unwrap_or(self.clients.len() as u32);
        if slot as usize == self.clients.len() {
            self.clients.push(None);
            self.generations.push(0);
        } else {
            self.tally.one(What::slot_reused);
        }
        self.clients[slot as usize] = Some(Client {
            slot,
            generation: self.generations[slot as usize],
            stage: Stage::Handshake,
            accepted: self.now,
            received: self.now,
            activity: self.now,
            message_since: None,
            ping_since: None,
            paused: false,
            clean: true,
            garbage: 0,
            next_n: 0,
            conversations: Vec::new(),
            backlog: VecDeque::new(),
            expect: VecDeque::new(),
            in_flight: false,
            reply_unsent: false,
            unsent: (0, 0),
            desynced: false,
            idle_at_drain: false,
        });
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

    /// What the product holds for a client in unsent bytes: within what must be.
    pub fn unsent_is(&mut self, slot: u32, bytes: usize) {
        let Some(Some(client)) = self.clients.get_mut(slot as usize) else { return };
        let (low, high) = client.unsent;
        client.unsent = (bytes, bytes);
        if bytes < low || bytes > high {
            self.wrong(format!("slot {slot} has {bytes} unsent bytes, must have {low} to {high}"));
        }
    }

    pub fn sent(&mut self, slot: u32, bytes: usize) {
        let now = self.now;
        self.with(slot, |_, c| {
            c.in_flight = false;
            c.unsent = (c.unsent.0 - bytes, c.unsent.1 - bytes);
            c.ping_since = c.ping_since.map(|_| now);
            if c.expect.is_empty() && std::mem::take(&mut c.reply_unsent) {
                c.activity = now;
            }
        });
    }

    pub fn progressed(&mut self, slot: u32) {
        let now = self.now;
        self.with(slot, |_, c| c.ping_since = c.ping_since.map(|_| now));
    }

    pub fn may_read(&self, slot: u32, core_full: bool) -> bool {
        let Some(Some(c)) = self.clients.get(slot as usize) else { return true };
        let (.., backlog, bytes) = c.books();
        c.stage != Stage::Open || (backlog < self.rules.backlog && bytes < self.rules.backlog_bytes && !core_full)
    }

    pub fn pause(&mut self, slot: u32) {
        self.tally.one(What::read_paused);
        self.with(slot, |_, c| c.paused = true);
    }

    pub fn resume(&mut self, slot: u32) {
        let now = self.now;
        self.tally.one(What::read_resumed);
        let was = self.with(slot, |_, c| {
            c.received = now;
            c.ping_since = None;
            c.message_since = c.message_since.map(|_| now);
            std::mem::take(&mut c.paused)
        });
        if was == Some(false) {
            self.wrong(format!("slot {slot} resumed that was not paused"));
        }
    }

    // What a client is sent.

    fn put(&mut self, c: &mut Client, expect: Expect) {
        let (low, high) = match &expect {
            Expect::Exactly(Frame::Http(_)) => (60, 400),
            Expect::Exactly(Frame::Pong(payload)) => (2 + payload.len(), 2 + payload.len()),
            Expect::Exactly(Frame::Ping | Frame::Close(None)) => (2, 2),
            Expect::Exactly(Frame::Close(Some(_))) => (4, 4),
            Expect::Exactly(_) | Expect::Close(_) => (2, 130),
            Expect::Error(spelled, ..) => (190 + spelled.len(), 700 + spelled.len()),
            Expect::Text(before, xid, after) => match xid {
                Some(xid) => {
                    let n = framed(before.len() + xid.len() + after.len());
                    (n, n)
                }
                None => (before.len() + after.len(), before.len() + after.len() + 60),
            },
        };
        c.unsent = (c.unsent.0 + low, c.unsent.1 + high);
        c.expect.push_back(expect);
    }

    /// Whether the client is a slow consumer; if so it is closed.
    fn is_slow(&mut self, c: &mut Client) -> bool {
        let max = self.rules.outbound;
        // Where the bytes are not known exactly, the product is believed: it was after the last text that it queued.
        let slow = c.unsent.0 > max
            || (c.unsent.1 > max
                && self.seen.slow > 0
                && self.stages.get(c.slot as usize) != Some(&1)
                && (self.seen.texts == 0 || !self.one_client));
        let unsure = self.seen.slow > 0 && c.unsent.0 <= max && c.unsent.1 > max;
        self.ambiguous |= unsure && self.many_clients;
        if slow {
            if self.seen.slow == 0 {
                self.wrong(format!("slot {} is a slow consumer and was not taken for one", c.slot));
            }
            self.seen.slow = self.seen.slow.saturating_sub(1);
            self.tally.one(What::slow_consumer);
            self.drop_queued(c);
            self.close(c, 1008);
        }
        slow
    }

    fn drop_queued(&mut self, c: &mut Client) {
        // The answer to the handshake stands, or the Close would be taken for it.
        c.expect.retain(|expect| matches!(expect, Expect::Exactly(Frame::Http(_))));
        c.unsent.0 = 0;
    }

    fn text(&mut self, c: &mut Client, expect: Expect) {
        if c.stage != Stage::Open || self.is_slow(c) {
            return;
        }
        c.reply_unsent = true;
        self.seen.texts = self.seen.texts.saturating_sub(1);
        self.put(c, expect);
    }

    fn errors(
        &mut self,
        c: &mut Client,
        spelled: &str,
        xid: &Option<String>,
        traces: &[String],
        status: u16,
        transport: bool,
    ) {
        let none = ["0".to_owned()];
        for trace in if traces.is_empty() { &none } else { traces } {
            self.text(c, Expect::Error(spelled.to_owned(), xid.clone(), trace.clone(), status, transport));
        }
    }

    fn close(&mut self, c: &mut Client, code: u16) {
        if c.stage == Stage::Open {
            self.put(c, Expect::Close(code));
            c.stage = Stage::Closing { since: self.now, awaits: true };
            self.leave(c);
        }
    }

    fn leave(&mut self, c: &mut Client) {
        for conversation in std::mem::take(&mut c.conversations) {
            if conversation.connected {
                self.tally.one(What::disconnect_for_client_gone);
                self.push_disconnect(c.slot, c.generation, &conversation);
            }
        }
        self.tally.add(What::backlog_left, c.backlog.len());
        c.backlog.clear();
        c.message_since = None;
    }

    fn push_disconnect(&mut self, slot: u32, generation: u32, conversation: &Conversation) {
        let Some((worker, domain)) = &conversation.worker else { return };
        let thread = format!("{slot}.{generation}.{}:{}", conversation.n, conversation.thread);
        self.push_bare_disconnect(*domain, &worker.clone(), &thread, conversation.xid.clone());
    }

    fn push_bare_disconnect(&mut self, domain: usize, worker: &str, thread: &str, xid: Option<String>) {
        self.pushes.push_back(Push {
            domain,
            key: worker.to_owned(),
            before: format!("{{\"to\":\"{worker}\",\"from\":\"{ADDRESS}\",\"thread\":\"{thread}\",\"osrf_xid\":"),
            xid,
            after: format!(
                ",\"body\":[{{\"__c\":\"osrfMessage\",\"__p\":{{\"threadTrace\":\"0\",\"locale\":\"en-US\",\
                 \"ingress\":{INGRESS},\"api_level\":1,\"type\":\"DISCONNECT\"}}}}]}}"
            ),
            ticket: None,
        });
    }

    // What a client says.

    pub fn input(&mut self, slot: u32, events: &[Ev], clean: bool) {
        let now = self.now;
        self.with(slot, |o, c| {
            c.received = now;
            c.ping_since = None;
            let reads =
                |c: &Client| matches!(c.stage, Stage::Open | Stage::Closing { awaits: true, .. } | Stage::Handshake);
            let heard = reads(c);
            for event in events {
                if !reads(c) {
                    break;
                }
                o.heard(c, event);
            }
            if !heard || c.desynced {
                return;
            }
            if !reads(c) || c.stage == Stage::Handshake {
                c.clean = true;
                return;
            }
            c.clean = clean;
            if clean {
                c.message_since = None;
            } else if c.message_since.is_none() {
                c.message_since = Some(now);
            }
        });
    }

    fn heard(&mut self, c: &mut Client, event: &Ev) {
        let open = c.stage == Stage::Open;
        if c.desynced {
            return;
        }
        match event {
            Ev::Handshake | Ev::BadHandshake(_) => {
                let status = match event {
                    Ev::BadHandshake(status) => *status,
                    _ if !self.ever_up => 503,
                    _ => 101,
                };
                self.put(c, Expect::Exactly(Frame::Http(status)));
                if status == 101 {
                    self.tally.one(What::handshake_done);
                    c.stage = Stage::Open;
                    c.activity = self.now;
                } else {
                    self.tally.one(What::handshake_bad);
                    c.stage = Stage::Closing { since: self.now, awaits: false };
                }
            }
            Ev::Message(said) => {
                c.message_since = None;
                c.activity = self.now;
                c.idle_at_drain = false;
                if open {
                    self.said(c, said);
                } else if let Said::Good(env) = &**said
                    && !env.is_too_large(&self.rules.bounds)
                {
                    let crossed = env.msgs.iter().filter(|m| m.kind == Kind::Request).count();
                    self.tally.add(What::crossed_close, crossed);
                    self.crossed += crossed as u64;
                }
            }
            Ev::Ping(payload) if open => {
                self.put(c, Expect::Exactly(Frame::Pong(payload.clone())));
                self.is_slow(c);
            }
            Ev::Ping(_) | Ev::Pong => {}
            Ev::Close(code) => {
                if open {
                    self.tally.one(What::close_by_client);
                    c.stage = Stage::Closing { since: self.now, awaits: false };
                    self.leave(c);
                    self.put(c, Expect::Exactly(Frame::Close(*code)));
                } else if let Stage::Closing { awaits, .. } = &mut c.stage {
                    *awaits = false;
                }
            }
            Ev::Violation(code) => {
                self.tally.one(What::violation);
                self.close(c, *code);
                if let Stage::Closing { awaits, .. } = &mut c.stage {
                    *awaits = false;
                }
            }
        }
    }

    fn garbage(&mut self, c: &mut Client) {
        c.garbage += 1;
        if c.garbage >= self.rules.garbage {
            self.tally.add(What::garbage_close, usize::from(c.stage == Stage::Open));
            self.close(c, 1008);
        }
    }

    fn said(&mut self, c: &mut Client, said: &Said) {
        match said {
            Said::Bad { spelled, xid, traces, silent } => {
                self.tally.one(What::refused_400);
                if !silent {
                    self.errors(c, spelled, xid, traces, 400, false);
                }
                self.garbage(c);
            }
            Said::Good(env) if env.is_too_large(&self.rules.bounds) => {
                self.tally.one(What::refused_413);
                if env.counted() > 0 {
                    self.errors(c, &env.spelled, &env.xid, &env.asks(), 413, false);
                }
                self.garbage(c);
            }
            Said::Good(env) => {
                if self.must_wait(c, &env.thread, env.counted(), c.backlog.len()) {
                    self.tally.one(What::backlog_wait);
                    c.garbage = 0;
                    c.backlog.push_back(Rc::clone(env));
                } else {
                    self.relay(c, env);
                }
            }
        }
    }

    /// Whether an envelope must wait behind the first `ahead` of the backlog: its own thread's come first; while its
    /// CONNECT is pending a thread waits; requests wait for room, and for those that wait for room already.
    fn must_wait(&self, c: &Client, thread: &str, counted: usize, ahead: usize) -> bool {
        if c.is_connecting(thread) || c.backlog.iter().take(ahead).any(|env| env.thread == thread) {
            return true;
        }
        counted > 0
            && ((c.pending() > 0 && c.pending() + counted > self.rules.parallel)
                || c.backlog.iter().take(ahead).any(|env| env.counted() > 0 && self.waits_for_room(c, env)))
    }

    /// An envelope that waits, and not for its thread's CONNECT.
    fn waits_for_room(&self, c: &Client, env: &Env) -> bool {
        !c.is_connecting(&env.thread)
    }

    fn relay_backlog(&mut self, c: &mut Client) {
        let mut at = 0;
        while at < c.backlog.len() && c.stage == Stage::Open {
            let env = Rc::clone(&c.backlog[at]);
            if self.must_wait(c, &env.thread, env.counted(), at) {
                at += 1;
                continue;
            }
            c.backlog.remove(at);
            self.relay(c, &env);
        }
    }

    fn relay(&mut self, c: &mut Client, env: &Env) {
        let Err((status, transport)) = self.dispatch(c, env) else { return };
        self.tally.one(match status {
            400 => What::refused_400,
            403 => What::refused_403,
            413 => What::refused_413,
            429 => What::refused_429,
            _ => What::refused_503_away,
        });
        if env.counted() > 0 {
            self.errors(c, &env.spelled, &env.xid, &env.asks(), status, transport);
        }
        if status == 400 || status == 413 {
            self.garbage(c);
        }
        if transport && env.has(Kind::Disconnect) {
            if let Some(session) = c.conversations.iter_mut().find(|v| v.connected && v.thread == env.thread) {
                session.connected = false;
                session.left = true;
            }
            c.forget();
        }
    }

    fn dispatch(&mut self, c: &mut Client, env: &Env) -> Result<(), (u16, bool)> {
        let session = c.conversations.iter().position(|v| v.connected && v.thread == env.thread);
        let connects = env.msgs.iter().filter(|m| m.kind == Kind::Connect).count();
        if connects > 0 && session.is_none() && c.sessions() + c.connecting() + connects > self.rules.sessions {
            return Err((429, false));
        }
        let (key, to, domain) =
            if let Some((worker, domain)) = session.and_then(|at| c.conversations[at].worker.clone()) {
                (worker.clone(), worker, domain)
            } else {
                match env.service.as_deref() {
                    None => return Err((400, false)),
                    Some("router") => return Err((403, false)),
                    Some(service) => (ROUTER_KEY.to_owned(), format!("opensrf:service:_:_:{service}"), 0),
                }
            };
        if !self.accepting[domain] {
            return Err((503, true));
        }
        let n = session.map_or(c.next_n, |at| c.conversations[at].n);
        if session.is_none() {
            c.next_n += 1;
        }
        let thread = format!("{}.{}.{n}:{}", c.slot, c.generation, env.thread);
        let before = format!("{{\"to\":\"{to}\",\"from\":\"{ADDRESS}\",\"thread\":\"{thread}\",\"osrf_xid\":");
        let after = format!(",\"body\":{}}}", env.body());
        // A made-up xid is as long as it is; the simulator keeps clear of the border (`made_up_near_the_limit`).
        let xid_len = env.xid.as_ref().map_or(12, |xid| escaped(xid));
        if escaped(&before) + xid_len + escaped(&after) > self.rules.bounds.bus_bytes {
            return Err((413, false));
        }
        if session.is_none() {
            c.conversations.push(Conversation {
                n,
                thread: env.thread.clone(),
                spelled: env.spelled.clone(),
                xid: None,
                pending: Vec::new(),
                worker: None,
                connected: false,
                left: false,
                pushes: 0,
            });
        }
        let now = self.now;
        let (slot, generation) = (c.slot, c.generation);
        let conversation = c.find(n).expect("it is there or was just opened");
        let push = conversation.pushes;
        conversation.pushes += 1;
        conversation.xid = env.xid.clone();
        for message in &env.msgs {
            if message.kind == Kind::Disconnect {
                conversation.connected = false;
                conversation.left = true;
                continue;
            }
            let connect = message.kind == Kind::Connect;
            if connect {
                conversation.left = false;
            }
            conversation.pending.push(Pending {
                trace: message.trace,
                spelled: message.spelled.clone(),
                connect,
                since: now,
                push,
                lost_at: None,
            });
        }
        self.tally.one(What::relayed);
        let ticket = Some((slot, generation, n, push));
        self.pushes.push_back(Push { domain, key, before, xid: env.xid.clone(), after, ticket });
        c.garbage = 0;
        c.forget();
        Ok(())
    }

    /// A message is pushed: it must be the next that is to be.
    pub fn pushed(
        &mut self,
        domain: usize,
        key: &str,
        text: &str,
        ticket: Option<(u32, u32, u64, u32)>,
    ) -> Result<(), String> {
        let Some(expected) = self.pushes.pop_front() else {
            return Err(format!("a push that nothing calls for: {text}"));
        };
        let xid = text.strip_prefix(&expected.before).and_then(|rest| rest.strip_suffix(&expected.after));
        let right = xid.is_some_and(|xid| match &expected.xid {
            Some(expected) => expected == xid,
            None => xid.starts_with("\"sim."),
        });
        if !right || domain != expected.domain || *key != expected.key || ticket != expected.ticket {
            return Err(format!("pushed is {ticket:?} to {key} of {domain}: {text}\n  must be {expected:?}"));
        }
        if let (Some(ticket), Some(xid), None) = (ticket, xid, &expected.xid) {
            self.learn(ticket, xid);
        }
        Ok(())
    }

    /// A made-up xid was seen on the bus.
    fn learn(&mut self, ticket: (u32, u32, u64, u32), xid: &str) {
        self.with(ticket.0, |_, c| {
            if let Some(conversation) = c.find(ticket.2).filter(|v| v.pushes == ticket.3 + 1) {
                conversation.xid = Some(xid.to_owned());
            }
        });
    }

    // What the bus delivers.

    pub fn reply(&mut self, reply: &Reply) {
        if !reply.readable {
            self.tally.one(What::reply_bus_garbage);
            return;
        }
        let delivered = reply.to.and_then(|(slot, generation, n)| {
            let client = self.clients.get(slot as usize)?.as_ref()?;
            if client.generation != generation {
                self.tally.one(What::reply_stale_generation);
                return None;
            }
            let here = client.stage == Stage::Open;
            (here && self.with(slot, |o, c| o.reply_to(c, n, reply)) == Some(true)).then_some(())
        });
        if delivered.is_some() {
            self.tally.one(What::reply_delivered);
            return;
        }
        self.undeliverable += 1;
        self.tally.one(What::reply_undeliverable);
        if reply.msgs.iter().any(|m| m.status == Some(200))
            && let Some(domain) = domain_of(&reply.from)
        {
            self.tally.one(What::unwanted_200_disconnected);
            let xid = reply.xid.clone().unwrap_or_else(|| "null".to_owned());
            self.push_bare_disconnect(domain, &reply.from, &reply.thread, Some(xid));
        }
    }

    fn reply_to(&mut self, c: &mut Client, n: u64, reply: &Reply) -> bool {
        let Some(v) = c.find(n) else { return false };
        let names = |p: &Pending| reply.msgs.iter().any(|m| m.trace == Some(p.trace));
        let named: Vec<String> = v.pending.iter().filter(|p| names(p)).map(|p| p.spelled.clone()).collect();
        for pending in v.pending.iter_mut().filter(|p| names(p)) {
            pending.lost_at = None;
        }
        if named.is_empty() {
            self.tally.one(What::reply_late);
        }
        let spelled = v.spelled.clone();
        let xid = reply.xid.clone().filter(|_| reply.utf8).or_else(|| v.xid.clone());
        let (mut not_found, mut foreign, mut unanswered, mut unwanted) = (None, Vec::new(), Vec::new(), false);
        for (at, message) in reply.msgs.iter().enumerate() {
            let Some(code) = message.status else { continue };
            let of_worker = v.worker.as_ref().is_some_and(|(worker, _)| *worker == reply.from);
            let oldest = |connect: bool| move |p: &Pending| Some(p.trace) == message.trace && (p.connect || !connect);
            match code {
                200 => {
                    let at = v.pending.iter().position(oldest(true));
                    match at.map(|at| v.pending.remove(at)) {
                        Some(_) if v.left => {}
                        Some(pending) => {
                            if let Some(domain) = domain_of(&reply.from) {
                                self.tally.one(What::session_made);
                                v.worker = Some((reply.from.clone(), domain));
                                v.connected = true;
                            } else {
                                self.tally.one(What::session_refused_foreign);
                                foreign.push(pending.spelled);
                            }
                        }
                        None => unwanted |= !(v.connected && of_worker),
                    }
                }
                404 if message.exception && reply.is_router => {
                    if !v.pending.is_empty() {
                        self.tally.one(What::router_404);
                        not_found = Some((at, std::mem::take(&mut v.pending)));
                    }
                }
                408 => {
                    if of_worker {
                        self.tally.one(What::session_ended_by_408);
                        v.connected = false;
                        v.left = true;
                        unanswered.extend(std::mem::take(&mut v.pending).into_iter().map(|p| p.spelled));
                    }
                }
                205 | 307 | 400.. => {
                    if let Some(at) = v.pending.iter().position(oldest(false)) {
                        v.pending.remove(at);
                    }
                    if of_worker && (code == 307 || code == 417) {
                        self.tally.one(if code == 307 {
                            What::session_redirected_307
                        } else {
                            What::session_broken_417
                        });
                        v.connected = false;
                        v.left = true;
                    } else if code >= 400 {
                        self.tally.one(What::method_error);
                    }
                }
                _ => {}
            }
        }
        let before = format!("{{\"thread\":{spelled},\"log_xid\":");
        if !reply.utf8 {
            self.tally.one(What::reply_not_utf8);
            self.errors(c, &spelled, &xid, &named, 500, false);
        } else if let Some((at, ended)) = not_found {
            let (pre, post) = &reply.msgs[at].around_trace;
            for pending in ended {
                let after = format!(",\"osrf_msg\":[{pre}{}{post}],\"transport_error\":true}}", pending.spelled);
                self.text(c, Expect::Text(before.clone(), xid.clone(), after.into_bytes()));
            }
        } else if foreign.is_empty() || reply.msgs.len() > 1 {
            let mut after = b",\"osrf_msg\":".to_vec();
            after.extend_from_slice(if reply.is_array { b"" } else { b"[" });
            after.extend_from_slice(&reply.body);
            after.extend_from_slice(if reply.is_array { b"}" } else { b"]}" });
            self.text(c, Expect::Text(before, xid.clone(), after));
        }
        if !foreign.is_empty() {
            self.errors(c, &spelled, &xid, &foreign, 503, true);
        }
        if !unanswered.is_empty() {
            self.errors(c, &spelled, &xid, &unanswered, 503, true);
        }
        if unwanted && let Some(domain) = domain_of(&reply.from) {
            self.tally.one(What::unwanted_200_disconnected);
            self.push_bare_disconnect(domain, &reply.from, &reply.thread, xid);
        }
        c.forget();
        self.relay_backlog(c);
        true
    }

    // What befalls the bus.

    /// Ends what `ends` picks and tells the client; how many.
    fn fail(&mut self, c: &mut Client, status: u16, ends: impl Fn(&Conversation, &Pending) -> bool) -> usize {
        let mut told = Vec::new();
        for v in &mut c.conversations {
            let (ended, kept): (Vec<Pending>, Vec<Pending>) = std::mem::take(&mut v.pending)
                .into_iter()
                .map(|p| (ends(v, &p), p))
                .fold((Vec::new(), Vec::new()), |(mut ended, mut kept), (ends, p)| {
                    if ends {
                        ended.push(p)
                    } else {
                        kept.push(p)
                    }
                    (ended, kept)
                });
            v.pending = kept;
            let traces: Vec<String> = ended.into_iter().map(|p| p.spelled).collect();
            if !traces.is_empty() {
                told.push((v.spelled.clone(), v.xid.clone(), traces));
            }
        }
        let failed = told.iter().map(|(.., traces)| traces.len()).sum();
        for (spelled, xid, traces) in told {
            self.errors(c, &spelled, &xid, &traces, status, true);
        }
        c.forget();
        if failed > 0 {
            self.relay_backlog(c);
        }
        failed
    }

    pub fn push_failed(&mut self, (slot, generation, n, push): (u32, u32, u64, u32)) {
        if self.clients.get(slot as usize).and_then(|c| c.as_ref()).is_some_and(|c| c.generation == generation) {
            self.with(slot, |o, c| o.fail(c, 503, |v, p| v.n == n && p.push == push));
        }
    }

    fn each_pending(&mut self, mut change: impl FnMut(&mut Pending)) {
        self.clients
            .iter_mut()
            .flatten()
            .flat_map(|c| &mut c.conversations)
            .flat_map(|v| &mut v.pending)
            .for_each(&mut change);
    }

    pub fn pops_lost(&mut self) {
        self.each_pending(|p| p.lost_at = Some(u64::MAX));
    }

    pub fn pops_back(&mut self) {
        let at = self.now + self.rules.bus_lost_ms;
        self.each_pending(|p| p.lost_at = p.lost_at.map(|was| if was == u64::MAX { at } else { was }));
    }

    pub fn emptied(&mut self, domain: usize) {
        self.many_clients = true;
        self.one_client = self.clients.iter().flatten().filter(|c| c.pending() > 0).count() <= 1;
        for slot in 0..self.clients.len() as u32 {
            self.with(slot, |o, c| {
                let failed =
                    o.fail(c, 503, |v, _| domain == 0 || v.worker.as_ref().map_or(0, |(_, domain)| *domain) == domain);
                o.tally.add(What::emptied_503, failed);
            });
        }
    }

    // Time.

    pub fn tick(&mut self) {
        let stages = self.stages.clone();
        let (now, rules) = (self.now, self.rules.clone());
        let due = |p: &Pending| {
            p.lost_at.is_some_and(|at| at <= now) || p.since + rules.connect_ms.min(rules.request_ms) <= now
        };
        let told = |c: &&Client| c.conversations.iter().flat_map(|v| &v.pending).any(due);
        self.many_clients = true;
        self.one_client = self.clients.iter().flatten().filter(told).count() <= 1;
        self.tick_all(&stages);
    }

    fn tick_all(&mut self, stages: &[u8]) {
        let now = self.now;
        let late = now - self.ticked.max(1);
        if self.ticked > 0 && late > 1000 {
            self.tally.one(What::tick_late);
            if let Some((.., late)) = &mut self.drain {
                *late = true;
            }
            let forgive = |since: &mut u64| *since = (*since + late).min(now);
            for c in self.clients.iter_mut().flatten() {
                c.ping_since.as_mut().map(forgive);
                c.message_since.as_mut().map(forgive);
                match &mut c.stage {
                    Stage::Handshake => forgive(&mut c.accepted),
                    Stage::Closing { since, .. } => forgive(since),
                    Stage::Open | Stage::Gone => {}
                }
            }
        }
        self.ticked = now;
        for slot in 0..self.clients.len() as u32 {
            let product = stages.get(slot as usize).copied().unwrap_or(9);
            self.with(slot, |o, c| o.tick_client(c, product));
        }
        self.stages.clear();
        if self.seen.closed_at_gap > 0 {
            self.wrong("a client was closed by the drain that was at no gap");
        }
        if self.seen.cut_largest > 0 {
            self.seen.cut_largest -= 1;
            let cut = self
                .clients
                .iter()
                .flatten()
                .find(|c| c.stage == Stage::Open && stages.get(c.slot as usize) == Some(&2));
            let Some(slot) = cut.map(|c| c.slot) else { return };
            self.tally.one(What::core_bytes_cut);
            self.with(slot, |o, c| {
                o.drop_queued(c);
                o.close(c, 1008);
                c.desynced = !c.clean;
                c.clean = true;
            });
        }
    }

    fn tick_client(&mut self, c: &mut Client, product: u8) {
        let now = self.now;
        let rules = self.rules.clone();
        match c.stage {
            Stage::Handshake if now >= c.accepted + rules.handshake_ms => {
                self.tally.one(What::handshake_timeout);
                self.refuse(c, 408);
            }
            Stage::Closing { since, awaits } if now >= since + rules.close_ms => {
                self.tally.add(What::close_timeout, usize::from(awaits));
                c.stage = Stage::Gone;
            }
            Stage::Open => {
                let lost = self.fail(c, 503, |_, p| p.lost_at.is_some_and(|at| at <= now));
                self.tally.add(What::maybe_lost_503, lost);
                let old = self.fail(c, 504, |_, p| p.connect && p.since + rules.connect_ms <= now);
                let old = old
                    + self.fail(c, 504, |_, p| {
                        p.since + if p.connect { rules.connect_ms } else { rules.request_ms } <= now
                    });
                self.tally.add(What::given_up_504, old);
                if c.stage != Stage::Open {
                    return;
                }
                if let Some(since) = c.gap_since() {
                    match self.drain {
                        Some((quiet, _, half, late)) => {
                            if now >= since + quiet && product == 2 && self.seen.closed_at_gap > 0 {
                                self.seen.closed_at_gap -= 1;
                                self.closed_at_gap += 1;
                                self.tally.one(What::closed_at_gap);
                                self.close(c, 1012);
                                return;
                            }
                            if c.idle_at_drain && now > half + 200 && !late {
                                self.wrong(format!(
                                    "slot {} was idle at the signal and is open after half of the drain",
                                    c.slot
                                ));
                            }
                        }
                        None if rules.idle_ms > 0 && now >= since + rules.idle_ms => {
                            self.tally.one(What::idle_closed);
                            self.close(c, 1000);
                            return;
                        }
                        None => {}
                    }
                }
                if c.paused {
                    return;
                }
                if c.message_since.is_some_and(|since| now >= since + rules.message_ms) {
                    self.tally.one(What::message_timeout);
                    self.close(c, 1008);
                } else if let Some(since) = c.ping_since {
                    if now >= since + rules.pong_ms {
                        self.tally.one(What::pong_timeout);
                        self.gone(c);
                    }
                } else if now >= c.received + rules.ping_ms {
                    self.tally.one(What::ping_sent);
                    c.ping_since = Some(now);
                    self.put(c, Expect::Exactly(Frame::Ping));
                }
            }
            _ => {}
        }
    }

    fn refuse(&mut self, c: &mut Client, status: u16) {
        self.put(c, Expect::Exactly(Frame::Http(status)));
        c.stage = Stage::Closing { since: self.now, awaits: false };
    }

    fn gone(&mut self, c: &mut Client) {
        let unsent = !c.expect.is_empty() || c.in_flight;
        match &mut c.stage {
            Stage::Closing { awaits, .. } if unsent => {
                *awaits = false;
                return;
            }
            Stage::Open => self.leave(c),
            _ => {}
        }
        c.stage = Stage::Gone;
        c.clean = true;
    }

    pub fn ended(&mut self, slot: u32) {
        self.with(slot, |o, c| o.gone(c));
    }

    // The end.

    pub fn begin_drain(&mut self, quiet: u64, deadline: u64) {
        self.drain = Some((quiet, deadline, self.now + (deadline - self.now) / 2, false));
        self.tally.one(What::drain);
        let busy = self.clients.iter().flatten().any(|c| c.pending() > 0);
        self.tally.add(What::drain_with_requests, usize::from(busy));
        for c in self.clients.iter_mut().flatten() {
            c.idle_at_drain = c.gap_since().is_some();
        }
    }

    fn cut(&mut self, c: &Client) {
        self.closed_at_deadline += 1;
        self.cut += u64::from(c.class() != Some(3));
        self.tally.one(What::closed_at_deadline);
    }

    pub fn deadline(&mut self) {
        for slot in 0..self.clients.len() as u32 {
            self.with(slot, |o, c| {
                if c.stage == Stage::Open {
                    if c.gap_since().is_some() {
                        o.closed_at_gap += 1;
                    } else {
                        o.cut(c);
                    }
                    o.close(c, 1012);
                }
            });
        }
    }

    pub fn stop(&mut self, code: u16, draining: bool) {
        self.tally.one(if draining { What::stop_in_drain } else { What::stop });
        for slot in 0..self.clients.len() as u32 {
            self.with(slot, |o, c| match c.stage {
                Stage::Open => {
                    if draining && c.gap_since().is_none() {
                        o.cut(c);
                    }
                    o.close(c, code);
                }
                Stage::Handshake => o.refuse(c, 503),
                _ => {}
            });
        }
    }

    /// A chunk of whole frames is taken by the shell: each must be the next that this client is to be sent.
    pub fn taken(&mut self, slot: u32, frames: &[Frame]) -> Result<(), String> {
        let Some(Some(c)) = self.clients.get_mut(slot as usize) else { return Err("bytes for nobody".to_owned()) };
        if c.in_flight {
            return Err("two sends at a time".to_owned());
        }
        c.in_flight = true;
        for frame in frames {
            let Some(expect) = c.expect.pop_front() else {
                return Err(format!("nothing more was to be sent, but {frame:?}"));
            };
            if !expect.is(frame) {
                let shown = if let Frame::Text(text) = frame {
                    String::from_utf8_lossy(text).into_owned()
                } else {
                    format!("{frame:?}")
                };
                return Err(format!("must be sent {expect:?}, is sent {shown}"));
            }
        }
        Ok(())
    }
}

impl Expect {
    fn is(&self, frame: &Frame) -> bool {
        match (self, frame) {
            (Expect::Exactly(expected), frame) => expected == frame,
            (Expect::Close(code), Frame::Close(Some(is))) => code == is,
            (Expect::Text(before, xid, after), Frame::Text(text)) => {
                let middle = text.strip_prefix(before.as_bytes()).and_then(|rest| rest.strip_suffix(&after[..]));
                middle.is_some_and(|middle| xid.as_ref().is_none_or(|xid| xid.as_bytes() == middle))
            }
            (Expect::Error(spelled, xid, trace, status, transport), Frame::Text(text)) => {
                let text = String::from_utf8_lossy(text);
                let before = format!("{{\"thread\":{spelled},\"log_xid\":");
                let message = format!(
                    ",\"osrf_msg\":[{{\"__c\":\"osrfMessage\",\"__p\":{{\"threadTrace\":{trace},\"locale\":\"en-US\",\
                     \"type\":\"STATUS\",\"payload\":{{\"__c\":\"osrfMethodException\",\"__p\":{{\"status\":\"evergate: "
                );
                let end = format!(
                    "\",\"statusCode\":{status}}}}}}}}}]{}}}",
                    if *transport { ",\"transport_error\":true" } else { "" }
                );
                text.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&end)).is_some_and(|rest| {
                    rest.split_once(&message).is_some_and(|(is, reason)| {
                        xid.as_ref().map_or(is.starts_with("\"sim."), |xid| xid == is) && !reason.is_empty()
                    })
                })
            }
            _ => false,
        }
    }
}
