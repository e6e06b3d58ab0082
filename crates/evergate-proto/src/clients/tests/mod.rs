//! What the books promise, told from outside: bytes in, bytes and pushes out.
//!
//! A [`World`] is a core without its ring: the table of clients, a clock that stands still unless told otherwise, a
//! kernel that takes every byte at once unless a client is stalled, and browsers that answer pings.

mod backlog;
mod closing;
mod conversations;
mod delivery;
mod dismissing;
mod draining;
mod edges;
mod figures;
mod handshakes;
mod in_place;
mod limits;
mod losses;
mod messages;
mod outstanding;
mod pendings;
mod proxies;
mod random;
mod rates;
mod reuse;
mod router_list;
mod second_half;
mod transcripts;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::client::{Class, Client, Stage};
use super::context::Context;
use super::limits::{BusNames, Limits};
use super::outbound::Outbound;
use super::output::{Output, Severity, SlotIndex};
use super::reuse::Reuse;
use super::table::Clients;
use crate::counters::{self, Counts, Limit};
use crate::effects::{Effector, carry_out};
use crate::redis::outbox::{Push, Ticket};
use crate::websocket::frame::{self, OpCode};
use crate::websocket::net::Address;
use crate::websocket::proxy_header::Opening;
use messages::{complete, connect, disconnect, envelope, message, request, result, status, traces};

const OUR_ADDRESS: &str = "opensrf:client:gateway:public.localhost:vm:7:00ff";
const ROUTER_KEY: &str = "opensrf:router:router:public.localhost";
const ROUTER: &str = "opensrf:client:router:public.localhost:vm:1:aaaa";
const WORKER: &str = "opensrf:client:opensrf:private.localhost:vm:2:bbbb";
const OTHER_WORKER: &str = "opensrf:client:opensrf:public.localhost:vm:3:cccc";
const FOREIGN_WORKER: &str = "opensrf:client:opensrf:elsewhere.example:vm:4:dddd";
/// The resolution of the shell's timers, ms.
const TICK_MS: u64 = 20;

const HANDSHAKE: &[u8] = b"GET /osrf-websocket-translator HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A frame that a client received.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Text(Value),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// A message that was pushed.
#[derive(Clone, Debug)]
struct Pushed {
    domain: usize,
    key: String,
    json: Value,
    ticket: Option<Ticket>,
}

impl Pushed {
    fn thread(&self) -> &str {
        self.json["thread"].as_str().expect("a bus message has a thread")
    }

    /// The `type`s of its messages.
    fn kinds(&self) -> Vec<&str> {
        self.json["body"].as_array().expect("an array").iter().filter_map(|m| m["__p"]["type"].as_str()).collect()
    }
}

/// A core without its ring.
struct World {
    clients: Clients,
    cores: Arc<[counters::Core]>,
    pushes: Vec<Pushed>,
    /// Bytes that the kernel has taken for a client and that make no whole frame yet.
    received: HashMap<SlotIndex, Vec<u8>>,
    heard: HashMap<SlotIndex, Vec<Heard>>,
    /// Clients whose kernel buffers are full.
    stalled: HashSet<SlotIndex>,
    /// Bytes that a client's TCP has not acknowledged; of others it has acknowledged all.
    unacknowledged: HashMap<SlotIndex, u64>,
    /// Bytes that a client has sent and the core has not read.
    unread: HashMap<SlotIndex, Vec<u8>>,
    /// Clients that answer no ping.
    mute: HashSet<SlotIndex>,
    half_closed: Vec<SlotIndex>,
    hung_up: Vec<SlotIndex>,
    resumed: Vec<SlotIndex>,
    probes: Vec<(SlotIndex, bool)>,
    log: Vec<(Severity, String)>,
    activity: Vec<String>,
}

impl Effector for World {
    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    fn activity(&mut self, lines: &str) {
        self.activity.extend(lines.lines().map(str::to_owned));
    }

    fn log(&mut self, level: Severity, line: String) {
        self.log.push((level, line));
    }

    fn push(&mut self, domain: usize, push: Push) {
        let json = serde_json::from_slice(&push.message).expect("what is pushed is JSON");
        self.pushes.push(Pushed { domain, key: push.key.to_string(), json, ticket: push.ticket });
    }

    fn probe(&mut self, slot: SlotIndex, head: bool) {
        self.probes.push((slot, head));
    }

    fn send(&mut self, slot: SlotIndex) {
        if !self.stalled.contains(&slot) {
            self.drain_outbound(slot);
        }
    }

    fn half_close(&mut self, slot: SlotIndex) {
        self.half_closed.push(slot);
    }

    fn look(&mut self, slot: SlotIndex) {
        if !self.clients.is_paused(slot)
            && let Some(mut bytes) = self.unread.remove(&slot)
        {
            self.clients.input(slot, &mut bytes);
        }
        self.clients.looked(slot, self.unacknowledged.get(&slot).copied().unwrap_or(0));
    }

    fn resume(&mut self, slot: SlotIndex) {
        self.resumed.push(slot);
    }

    fn hang_up(&mut self, slot: SlotIndex) {
        if self.clients.client(slot).is_some_and(|client| matches!(client.stage, Stage::Gone)) {
            self.clients.release(slot);
            self.hung_up.push(slot);
        }
    }
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// A world whose limits differ from the defaults.
    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        // Nothing tells of the router's list but what a test says.
        let mut limits = Limits { router_queue_max: 0, ..Limits::default() };
        change(&mut limits);
        let names = BusNames {
            address: OUR_ADDRESS.to_owned(),
            router: ROUTER_KEY.into(),
            domains: vec!["public.localhost".to_owned(), "private.localhost".to_owned()],
            xid_prefix: "made-up-".to_owned(),
        };
        let cores: Arc<[_]> = Arc::new([counters::Core::new(0)]);
        let mut context = Context::new(Rc::new(limits), Rc::new(names), Arc::clone(&cores), 0);
        context.at(1_000_000);
        context.bus_is_up();
        Self {
            clients: Clients::new(context),
            cores,
            pushes: Vec::new(),
            received: HashMap::new(),
            heard: HashMap::new(),
            stalled: HashSet::new(),
            unacknowledged: HashMap::new(),
            unread: HashMap::new(),
            mute: HashSet::new(),
            half_closed: Vec::new(),
            hung_up: Vec::new(),
            resumed: Vec::new(),
            probes: Vec::new(),
            log: Vec::new(),
            activity: Vec::new(),
        }
    }

    /// A connection that has said nothing.
    fn connection(&mut self) -> SlotIndex {
        self.connection_from(Ipv4Addr::LOCALHOST.into())
    }

    /// The same, from `peer`.
    fn connection_from(&mut self, peer: IpAddr) -> SlotIndex {
        self.connection_of(Address::Ip(peer), Opening::Request)
    }

    /// The same, on a listener that expects something else first.
    fn connection_of(&mut self, peer: Address, opening: Opening) -> SlotIndex {
        let slot = self.clients.accept(peer, opening);
        self.received.remove(&slot);
        self.heard.remove(&slot);
        self.stalled.remove(&slot);
        self.unacknowledged.remove(&slot);
        self.unread.remove(&slot);
        self.mute.remove(&slot);
        self.settle();
        slot
    }

    /// A client that has shaken hands.
    fn client(&mut self) -> SlotIndex {
        self.client_from("127.0.0.1")
    }

    /// The same, from an address.
    fn client_from(&mut self, peer: &str) -> SlotIndex {
        let slot = self.connection_from(peer.parse().expect("an address"));
        self.input(slot, HANDSHAKE);
        let answer = self.received.remove(&slot).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        slot
    }

    /// Bytes from a client, as they are.
    fn input(&mut self, slot: SlotIndex, bytes: &[u8]) {
        self.clients.input(slot, &mut bytes.to_vec());
        self.settle();
    }

    /// A frame from a client.
    fn frame(&mut self, slot: SlotIndex, opcode: OpCode, payload: &[u8]) {
        self.input(slot, &masked(opcode, payload));
    }

    /// A message from a client.
    fn say(&mut self, slot: SlotIndex, text: impl std::fmt::Display) {
        self.frame(slot, OpCode::Text, text.to_string().as_bytes());
    }

    /// A client's Close frame.
    fn say_close(&mut self, slot: SlotIndex, code: u16) {
        self.frame(slot, OpCode::Close, &code.to_be_bytes());
    }

    /// The client's end is gone, and the shell gives the socket back.
    fn hang_up(&mut self, slot: SlotIndex) {
        self.clients.broke(slot, "the connection broke");
        self.settle();
        self.clients.release(slot);
        self.settle();
    }

    /// The text messages that a client received since it was asked last.
    fn heard(&mut self, slot: SlotIndex) -> Vec<Value> {
        let heard = self.heard.entry(slot).or_default();
        heard
            .extract_if(.., |heard| matches!(heard, Heard::Text(_)))
            .map(|heard| match heard {
                Heard::Text(value) => value,
                _ => Value::Null,
            })
            .collect()
    }

    /// The one text message that a client received since it was asked last.
    fn heard_one(&mut self, slot: SlotIndex) -> Value {
        let mut heard = self.heard(slot);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// The errors that a client received, one for each failed request and all of one kind: status, traces, whether the
    /// transport is at fault.
    fn told(&mut self, slot: SlotIndex) -> (u64, Vec<Value>, bool) {
        let heard = self.heard(slot);
        let errors: Vec<_> =
            heard.iter().map(|one| error_in(one).unwrap_or_else(|| panic!("not an error of ours: {one}"))).collect();
        let (status, _, transport_error) = *errors.first().expect("an error");
        assert!(errors.iter().all(|one| (one.0, one.2) == (status, transport_error)), "{heard:?}");
        (status, errors.into_iter().map(|(_, trace, _)| trace).collect(), transport_error)
    }

    /// Every frame that is no text, since it was asked last.
    fn control(&mut self, slot: SlotIndex) -> Vec<Heard> {
        self.heard.entry(slot).or_default().extract_if(.., |heard| !matches!(heard, Heard::Text(_))).collect()
    }

    /// The code of the Close that a client received; pings and pongs before it do not matter.
    fn closed_with(&mut self, slot: SlotIndex) -> Option<u16> {
        match self.control(slot).pop() {
            Some(Heard::Close(code)) => code,
            _ => None,
        }
    }

    /// What was pushed since it was asked last.
    fn pushed(&mut self) -> Vec<Pushed> {
        std::mem::take(&mut self.pushes)
    }

    /// The one message that was pushed since it was asked last.
    fn pushed_one(&mut self) -> Pushed {
        let mut pushed = self.pushed();
        assert_eq!(pushed.len(), 1, "{pushed:?}");
        pushed.remove(0)
    }

    /// A message pops up on the core's list.
    fn bus(&mut self, message: &Value) {
        self.clients.from_bus(&[message.to_string().as_bytes()]);
        self.settle();
        self.clients.cut_holders();
        self.settle();
    }

    /// `from` answers `push` with `messages`.
    fn answer(&mut self, push: &Pushed, from: &str, messages: &[Value]) {
        let message = json!({"to": OUR_ADDRESS, "from": from, "thread": push.thread(), "osrf_xid": push.json["osrf_xid"],
            "body": messages});
        self.bus(&message);
    }

    /// The router knows no such service: always threadTrace "1" and no `osrf_xid` (quirk 1).
    fn answer_no_service(&mut self, push: &Pushed) {
        let not_found = json!({"__c": "osrfMessage", "__p": {"threadTrace": "1", "locale": "en-US", "type": "STATUS",
            "payload": {"__c": "osrfServiceException", "__p": {"status": "Service Not Found", "statusCode": "404"}}}});
        let message = json!({"to": OUR_ADDRESS, "from": ROUTER, "thread": push.thread(), "osrf_xid": null,
            "body": [not_found]});
        self.bus(&message);
    }

    /// Opens a session of `thread` with `worker`; its CONNECT as it was pushed.
    fn session(&mut self, slot: SlotIndex, thread: &str, worker: &str) -> Pushed {
        self.say(slot, envelope(thread, &[connect(0)]));
        let push = self.pushed_one();
        self.answer(&push, worker, &[status(0, 200)]);
        assert_eq!(self.heard_one(slot)["osrf_msg"][0]["__p"]["payload"]["__p"]["statusCode"], 200);
        push
    }

    /// Time passes, tick by tick.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms() + ms;
        while self.now_ms() < until_ms {
            self.clients.context.at((self.now_ms() + TICK_MS).min(until_ms));
            while !self.clients.tick(|| false) {}
            self.settle();
        }
    }

    fn now_ms(&self) -> u64 {
        self.clients.context.now_ms
    }

    /// Does what was decided.
    fn settle(&mut self) {
        carry_out(self, Output::default());
    }

    /// The kernel takes what there is, and the browser reads it.
    fn drain_outbound(&mut self, slot: SlotIndex) {
        while self.take_chunk(slot) {
            self.clients.sent(slot);
        }
    }

    /// A send begins; what of it arrives is read at once.
    fn take_chunk(&mut self, slot: SlotIndex) -> bool {
        let Some(chunk) = self.clients.take_outbound(slot) else { return false };
        let received = self.received.entry(slot).or_default();
        received.extend_from_slice(chunk.bytes());
        if received.starts_with(b"HTTP/") {
            return true;
        }
        let mut pings = 0;
        while let Some((heard, used)) = unframe(received) {
            pings += usize::from(heard == Heard::Ping);
            self.heard.entry(slot).or_default().push(heard);
            received.drain(..used);
        }
        if received.is_empty() {
            self.received.remove(&slot);
        }
        if !self.mute.contains(&slot) {
            for _ in 0..pings {
                self.clients.input(slot, &mut masked(OpCode::Pong, b""));
            }
        }
        true
    }

    fn state(&self, slot: SlotIndex) -> &Client {
        self.clients.client(slot).expect("a connection")
    }

    /// Whether the client is connected and neither side has begun to close.
    fn is_open(&self, slot: SlotIndex) -> bool {
        self.clients.client(slot).is_some_and(|client| matches!(client.stage, Stage::Open))
    }

    fn counts(&self) -> &Counts {
        &self.cores[0].counts
    }

    fn hits(&self, limit: Limit) -> u64 {
        self.cores[0].limit_hits(limit)
    }

    /// Whether every gauge says what a count of the books says.
    fn check_gauges(&self) {
        let counts = self.counts();
        let clients: Vec<&Client> =
            (0..self.clients.slots_len()).filter_map(|slot| self.clients.client(slot)).collect();
        let sum = |of: &dyn Fn(&Client) -> usize| clients.iter().map(|client| of(client)).sum::<usize>() as u64;
        for client in &clients {
            let conversations = || client.book.conversations();
            assert_eq!(client.book.pending(), conversations().map(|c| c.pending.iter().count()).sum::<usize>());
            assert_eq!(client.book.sessions(), conversations().filter(|c| c.connected).count());
            assert_eq!(client.book.backlog(), client.book.waiting().count());
            assert_eq!(client.book.backlog_bytes(), client.book.waiting().map(|w| w.text().len()).sum::<usize>());
            assert!(conversations().all(|c| c.connected || !c.pending.is_empty()), "an ended one is forgotten");
            let waits_for_something = client.book.pending() > 0 || client.waits_for_bus;
            assert!(waits_for_something || client.book.backlog() == 0, "what waits waits for something");
        }
        let is = |class| move |client: &Client| usize::from(client.class() == Some(class));
        assert_eq!(counts.pending.load(Relaxed), sum(&|client| client.book.pending()), "pending");
        assert_eq!(counts.sessions.load(Relaxed), sum(&|client| client.book.sessions()), "sessions");
        assert_eq!(counts.sending.load(Relaxed), sum(&is(Class::Sending)), "sending");
        assert_eq!(counts.waiting_for_replies.load(Relaxed), sum(&is(Class::Waiting)), "waiting_for_replies");
        assert_eq!(counts.waiting_for_room.load(Relaxed), sum(&is(Class::WaitingForRoom)), "waiting_for_room");
        assert_eq!(counts.in_stateful_session.load(Relaxed), sum(&is(Class::Session)), "in_stateful_session");
        assert_eq!(counts.idle.load(Relaxed), sum(&is(Class::Idle)), "idle");
        assert_eq!(counts.open.load(Relaxed), sum(&|client| usize::from(client.class().is_some())), "open");
        assert_eq!(counts.core_bytes.load(Relaxed), sum(&Client::bytes), "core_bytes");
    }
}

fn masked(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    let (header, used) = frame::header(opcode, payload.len());
    let mut bytes = header[..used].to_vec();
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The first whole frame, and its length.
fn unframe(bytes: &[u8]) -> Option<(Heard, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    let heard = match bytes[0] {
        0x81 => Heard::Text(serde_json::from_slice(payload).expect("a client hears JSON")),
        0x88 => Heard::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x89 => Heard::Ping,
        0x8a => Heard::Pong(payload.to_vec()),
        other => panic!("a frame that a server does not send: {other:#x}"),
    };
    Some((heard, header + length))
}

/// Status, trace and `transport_error` of an error that the gateway made.
fn error_in(heard: &Value) -> Option<(u64, Value, bool)> {
    let messages = heard["osrf_msg"].as_array()?;
    let payload = &messages.first()?["__p"]["payload"];
    if !payload["__p"]["status"].as_str()?.starts_with("evergate: ") {
        return None;
    }
    assert!(messages.len() == 1, "the browser client reads only the first message: {heard}");
    assert!(payload["__c"] == "osrfMethodException", "{heard}");
    let trace = messages[0]["__p"]["threadTrace"].clone();
    Some((payload["__p"]["statusCode"].as_u64()?, trace, heard["transport_error"] == true))
}
