//! A core without its ring: the pure half, called as `src/core` calls it, with a browser and a
//! service that answers at once.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use evergate_proto::clients::context::Context;
use evergate_proto::clients::from_bus::TOGETHER;
use evergate_proto::clients::limits::BusNames;
use evergate_proto::clients::output::{Output, SlotIndex};
use evergate_proto::clients::table::Clients;
use evergate_proto::counters;
use evergate_proto::effects::{Effector, carry_out};
use evergate_proto::redis::inbox::Inbox;
use evergate_proto::redis::outbox::{Outbox, Push};
use evergate_proto::redis::resp::{self, Token};
use evergate_proto::websocket::proxy_header::Opening;
use memchr::memmem;
use smallvec::SmallVec;

use super::messages::{self, Content};

const ADDRESS: &str = "opensrf:client:gateway:public.localhost:vm:29482:e725a801";
const HANDSHAKE: &[u8] = b"GET /osrf-websocket-translator HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Stands where the bus thread goes in a reply.
const THREAD: &str = "THREAD";

/// A core without its ring. Its buffers are made once, so that what a round allocates is the pure half's.
pub struct PureCore {
    clients: Clients,
    outbox: Outbox,
    inbox: Inbox,
    /// The clients, all of them open.
    slots: Vec<SlotIndex>,
    /// The request as the browser masks it.
    request: Vec<u8>,
    /// A reply up to the thread, and from there on.
    reply: (String, String),
    /// What one read brought.
    read: Vec<u8>,
    /// What is written to Redis.
    commands: Vec<u8>,
    /// What Redis answers to the pops.
    popped: Vec<u8>,
    /// Exchanged for what is to be done.
    output: Output,
    /// Bytes that the clients' kernels have taken in this round.
    pub sent_bytes: usize,
}

impl PureCore {
    /// A core with so many clients, under the defaults of the options table.
    pub fn new(clients: usize, request_bytes: usize, reply_bytes: usize) -> Self {
        let names = BusNames {
            address: ADDRESS.to_owned(),
            router: "opensrf:router:router:public.localhost".into(),
            domains: vec!["public.localhost".to_owned(), "private.localhost".to_owned()],
            xid_prefix: "1795334569.0.".to_owned(),
        };
        let cores: Arc<[_]> = Arc::new([counters::Core::new(0)]);
        let mut context = Context::new(Rc::default(), Rc::new(names), cores, 0);
        context.at(1_000_000);
        context.bus_is_up();
        let reply = messages::reply(THREAD, Content::Records, reply_bytes);
        let (before, after) = reply.split_once(THREAD).expect("a reply names its thread");
        let mut core = Self {
            clients: Clients::new(context),
            outbox: Outbox::default(),
            inbox: Inbox::new(ADDRESS),
            slots: Vec::new(),
            request: messages::frame(messages::request(request_bytes).as_bytes()),
            reply: (before.to_owned(), after.to_owned()),
            read: Vec::new(),
            commands: Vec::new(),
            popped: Vec::new(),
            output: Output::default(),
            sent_bytes: 0,
        };
        for _ in 0..clients {
            let slot = core.clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST).into(), Opening::Request);
            core.clients.input(slot, &mut HANDSHAKE.to_vec());
            core.settle();
            core.slots.push(slot);
        }
        core.round();
        assert!(core.sent_bytes > clients * reply_bytes / 2, "every client gets its reply: {} bytes", core.sent_bytes);
        core
    }

    /// Every client sends a request; one push takes them to Redis, one pair of pops brings the replies, and every
    /// client is sent its own.
    pub fn round(&mut self) {
        self.sent_bytes = 0;
        self.clients.context.at(self.clients.context.now_ms() + 1);
        for at in 0..self.slots.len() {
            self.read.clear();
            self.read.extend_from_slice(&self.request);
            self.clients.input(self.slots[at], &mut self.read);
            self.settle();
        }
        self.commands.clear();
        let commands = self.outbox.write(&mut self.commands);
        self.outbox.take_used().for_each(|buffer| self.clients.recycle(buffer));
        self.outbox.written();
        self.answer_all();
        for _ in 0..commands {
            self.outbox.answer(&Token::Integer(1)).expect("each command is answered once");
        }
        self.commands.clear();
        self.inbox.write(&mut self.commands);
        let mut at = 0;
        let mut more = true;
        while more {
            let mut messages = SmallVec::<[&[u8]; TOGETHER]>::new();
            while messages.len() < TOGETHER && more {
                match resp::next(&self.popped, &mut at).expect("RESP") {
                    Some(token) => messages.extend(self.inbox.token(&token).expect("the reply to a pop")),
                    None => more = false,
                }
            }
            self.clients.from_bus(&messages);
            // The replies lie in what was popped, which is borrowed.
            let Self { clients, outbox, sent_bytes, output, .. } = self;
            *output = carry_out(&mut Hands { clients, outbox, sent_bytes }, std::mem::take(output));
        }
    }

    /// The service: for each message that was pushed a reply, the first in a BLPOP's, the others in an LPOP's.
    fn answer_all(&mut self) {
        const KEY: &[u8] = br#""thread":""#;
        self.popped.clear();
        let mut rest = &self.commands[..];
        for at in 0..self.slots.len() {
            let start = memmem::find(rest, KEY).expect("a bus message names its thread") + KEY.len();
            let end = start + memchr::memchr(b'"', &rest[start..]).expect("a string ends");
            match at {
                0 => {
                    resp::write_array(&mut self.popped, 2);
                    resp::write_bulk(&mut self.popped, ADDRESS.as_bytes());
                }
                1 => resp::write_array(&mut self.popped, self.slots.len() - 1),
                _ => {}
            }
            let (before, after) = (self.reply.0.as_bytes(), self.reply.1.as_bytes());
            let bytes = before.len() + (end - start) + after.len();
            write!(self.popped, "${bytes}\r\n").expect("a vector takes what is written");
            self.popped.extend_from_slice(before);
            self.popped.extend_from_slice(&rest[start..end]);
            self.popped.extend_from_slice(after);
            self.popped.extend_from_slice(b"\r\n");
            rest = &rest[end..];
        }
        if self.slots.len() == 1 {
            self.popped.extend_from_slice(b"*-1\r\n");
        }
    }

    /// Does what was decided.
    fn settle(&mut self) {
        let Self { clients, outbox, sent_bytes, output, .. } = self;
        *output = carry_out(&mut Hands { clients, outbox, sent_bytes }, std::mem::take(output));
    }
}

/// What of a core does something about decisions.
struct Hands<'c> {
    clients: &'c mut Clients,
    outbox: &'c mut Outbox,
    sent_bytes: &'c mut usize,
}

impl Effector for Hands<'_> {
    fn clients(&mut self) -> &mut Clients {
        self.clients
    }

    fn push(&mut self, _: usize, push: Push) {
        self.outbox.push(push);
    }

    fn send(&mut self, slot: SlotIndex) {
        while let Some(chunk) = self.clients.take_outbound(slot) {
            *self.sent_bytes += chunk.bytes().len();
            self.clients.recycle(chunk.buffer);
            self.clients.sent(slot);
        }
    }
}
