//! A core without its ring, with one call for each thing that can happen, and nothing bounded but by the bench.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use evergate_proto::clients::context::Context;
use evergate_proto::clients::limits::{BusNames, Limits};
use evergate_proto::clients::output::{Output, SlotIndex};
use evergate_proto::clients::table::Clients;
use evergate_proto::counters;
use evergate_proto::effects::{Effector, carry_out};
use evergate_proto::redis::outbox::{Outbox, Push, Ticket};
use evergate_proto::redis::resp::Token;
use evergate_proto::websocket::proxy_header::Opening;

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// More than any dimension grows to.
const UNBOUNDED: usize = 1 << 30;
/// ASCII masked with it is ASCII.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// What one of a client's messages is.
#[derive(Clone, Copy)]
pub enum Kind {
    Connect,
    Request,
    Disconnect,
}

fn name_of(domain: usize) -> String {
    format!("private{domain}.localhost")
}

/// A client's frame around one envelope of these messages, numbered from 1.
pub fn envelope(thread: usize, kinds: &[Kind]) -> Vec<u8> {
    let mut text = format!(r#"{{"service":"opensrf.math","thread":"thread-{thread}","osrf_msg":["#);
    for (at, kind) in kinds.iter().enumerate() {
        let (name, payload) = match kind {
            Kind::Connect => ("CONNECT", "null"),
            Kind::Request => ("REQUEST", r#"{"__c":"osrfMethod","__p":{"method":"add","params":[1,2]}}"#),
            Kind::Disconnect => ("DISCONNECT", "null"),
        };
        let comma = if at > 0 { "," } else { "" };
        let trace = at + 1;
        write!(
            text,
            r#"{comma}{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"{name}","payload":{payload}}}}}"#
        )
        .expect("a string takes what is written");
    }
    text.push_str("]}");
    frame(text.as_bytes())
}

/// A client's text frame.
pub fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 0xff];
    frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
    if let Ok(short) = u16::try_from(text.len()) {
        frame = vec![0x81, 0xfe];
        frame.extend_from_slice(&short.to_be_bytes());
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message that reached the bus.
pub struct Pushed {
    /// Its thread there.
    pub thread: String,
    pub ticket: Option<Ticket>,
}

/// A core without its ring.
pub struct Core {
    pub clients: Clients,
    /// What reached the bus, oldest first.
    pub pushed: Vec<Pushed>,
    /// Whom the core wants to look at.
    pub look: Vec<SlotIndex>,
    /// Whose connection is over.
    pub hang_up: Vec<SlotIndex>,
    /// How many were read from again.
    pub resumed: usize,
    outbox: Outbox,
    commands: Vec<u8>,
    spare: Output,
    reply: String,
}

impl Core {
    /// With so many domains, under limits that `change` has changed.
    pub fn new(domains: usize, change: impl FnOnce(&mut Limits)) -> Self {
        let names = BusNames {
            address: "opensrf:client:gateway:public.localhost:vm:1:2".to_owned(),
            router: "opensrf:router:router:public.localhost".into(),
            domains: (0..domains).map(name_of).collect(),
            xid_prefix: "1.".to_owned(),
        };
        let mut limits = Limits {
            parallel_max: UNBOUNDED,
            backlog_max: UNBOUNDED,
            backlog_bytes_max: UNBOUNDED,
            sessions_max: UNBOUNDED,
            outbound_bytes_max: UNBOUNDED,
            core_bytes_max: UNBOUNDED as u64,
            // Nobody tells of a router here.
            router_queue_max: 0,
            message_bytes_max: UNBOUNDED,
            activity_bytes_max: 0,
            ..Limits::default()
        };
        limits.envelope.messages_per_envelope_max = UNBOUNDED;
        limits.envelope.bus_message_bytes_max = UNBOUNDED;
        change(&mut limits);
        let cores: Arc<[_]> = Arc::new([counters::Core::new(0)]);
        let mut context = Context::new(Rc::new(limits), Rc::new(names), cores, 0);
        context.at(1_000_000);
        context.bus_is_up();
        Self {
            clients: Clients::new(context),
            pushed: Vec::new(),
            look: Vec::new(),
            hang_up: Vec::new(),
            resumed: 0,
            outbox: Outbox::default(),
            commands: Vec::new(),
            spare: Output::default(),
            reply: String::new(),
        }
    }

    /// Clients that have shaken hands.
    pub fn open(&mut self, count: usize) -> Vec<SlotIndex> {
        let open = |_| {
            let slot = self.clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST).into(), Opening::Request);
            self.say(slot, &mut HANDSHAKE.to_vec());
            slot
        };
        (0..count).map(open).collect()
    }

    /// Bytes come from a client, unless it is not read from.
    pub fn say(&mut self, slot: SlotIndex, bytes: &mut [u8]) {
        if self.clients.may_read(slot) {
            self.clients.input(slot, bytes);
            self.settle();
            self.clients.may_read(slot);
        }
    }

    /// A worker of the domain says the code of a STATUS about `trace` of a message that was pushed.
    pub fn answer(&mut self, (domain, number): (usize, usize), thread: &str, trace: usize, code: u16) {
        let mut reply = std::mem::take(&mut self.reply);
        reply.clear();
        write!(
            reply,
            r#"{{"to":"x","from":"opensrf:client:opensrf:private{domain}.localhost:vm:{number}:1","thread":"{thread}","osrf_xid":"1","body":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"s","statusCode":{code}}}}}}}}}]}}"#
        )
        .expect("a string takes what is written");
        self.clients.from_bus(&[reply.as_bytes()]);
        self.reply = reply;
        self.settle();
    }

    /// Time passes, and everybody whom the core wants to look at is looked at.
    pub fn tick(&mut self, ms: u64, unacknowledged: u64) {
        self.clients.context.at(self.clients.context.now_ms() + ms);
        self.clients.tick(|| true);
        self.settle();
        for slot in std::mem::take(&mut self.look) {
            self.clients.looked(slot, unacknowledged);
            self.settle();
        }
    }

    /// What was pushed since the last call.
    pub fn take_pushed(&mut self) -> Vec<Pushed> {
        std::mem::take(&mut self.pushed)
    }

    /// The batch is written, and confirmed.
    pub fn write_batch(&mut self) {
        self.commands.clear();
        let commands = self.outbox.write(&mut self.commands);
        self.outbox.take_used().for_each(|buffer| self.clients.recycle(buffer));
        self.outbox.written();
        for _ in 0..commands {
            self.outbox.answer(&Token::Integer(1)).expect("each command is answered once");
        }
    }

    /// Does what was decided.
    pub fn settle(&mut self) {
        let spare = std::mem::take(&mut self.spare);
        self.spare = carry_out(self, spare);
    }
}

impl Effector for Core {
    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    fn push(&mut self, _: usize, push: Push) {
        let text = std::str::from_utf8(&push.message).expect("JSON");
        let (_, rest) = text.split_once(r#""thread":""#).expect("a bus message names its thread");
        let thread = rest[..rest.find('"').expect("a string ends")].to_owned();
        self.pushed.push(Pushed { thread, ticket: push.ticket });
        self.outbox.push(push);
    }

    fn send(&mut self, slot: SlotIndex) {
        while let Some(chunk) = self.clients.take_outbound(slot) {
            self.clients.recycle(chunk.buffer);
            self.clients.sent(slot);
        }
    }

    fn look(&mut self, slot: SlotIndex) {
        self.look.push(slot);
    }

    fn resume(&mut self, _: SlotIndex) {
        self.resumed += 1;
    }

    fn hang_up(&mut self, slot: SlotIndex) {
        self.hang_up.push(slot);
    }
}
