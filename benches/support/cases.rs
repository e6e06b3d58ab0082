//! The paths of a message through the pure half, one by one and together, as operations that can be repeated.

use std::hint::black_box;

use evergate_proto::opensrf::envelope::{EnvelopeLimits, parse};
use evergate_proto::opensrf::reply::parse_reply;
use evergate_proto::opensrf::transport::{ReplyTo, escaped_len, write_envelope, write_message};
use evergate_proto::redis::inbox::Inbox;
use evergate_proto::redis::resp;
use evergate_proto::websocket::decoder::{Decoder, Event};

use super::core::PureCore;
use super::messages::{self, Content};

/// As the option `ingress` has it by default, quoted.
const INGRESS: &[u8] = b"\"ws-translator-v2\"";

/// One operation, ready to be repeated.
pub type Operation = Box<dyn FnMut()>;

/// An operation and how it is made.
pub struct Case {
    /// Its name; stable, as figures are kept under it.
    pub name: &'static str,
    /// Requests (or messages) that one operation handles.
    pub messages: usize,
    /// Makes it.
    pub make: fn() -> Operation,
}

/// Every case.
pub const CASES: [Case; 9] = [
    Case { name: "frame in, 470 B", messages: 1, make: || frame_in(470) },
    Case { name: "envelope in, 470 B", messages: 1, make: || envelope_in(470) },
    Case { name: "envelope in, 4 KB", messages: 1, make: || envelope_in(4096) },
    Case { name: "envelope out, 600 B", messages: 1, make: || envelope_out(600) },
    Case { name: "envelope out, 4 KB", messages: 1, make: || envelope_out(4096) },
    Case { name: "envelope out, 64 KB", messages: 1, make: || envelope_out(65_536) },
    Case { name: "pop of 128 x 1 KB, per message", messages: 128, make: || pop_in(128) },
    Case { name: "request and reply, one client", messages: 1, make: || round(1) },
    Case { name: "request and reply, 64 clients in a batch", messages: 64, make: || round(64) },
];

/// A frame is found, unmasked and checked for UTF-8.
fn frame_in(bytes: usize) -> Operation {
    let mut frame = messages::frame(messages::request(bytes).as_bytes());
    let mut decoder = Decoder::new();
    Box::new(move || {
        let event = decoder.next(&mut frame, &mut 0, 1 << 20);
        assert!(matches!(black_box(event), Ok(Some(Event::Message(..)))));
    })
}

/// A client's envelope is read and spliced into a bus message.
fn envelope_in(bytes: usize) -> Operation {
    let text = messages::request(bytes);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let envelope = parse(text.as_bytes(), &EnvelopeLimits::DEFAULT).expect("a valid envelope");
        let to = "opensrf:service:_:_:open-ils.search";
        write_message(&mut out, to, "opensrf:client:gateway:h:1:2", "1.2.3:t", b"\"x\"", &envelope, INGRESS);
        black_box(escaped_len(&out));
    })
}

/// A reply is read and wrapped for its client.
fn envelope_out(bytes: usize) -> Operation {
    let text = messages::reply("1.2.3:0.4711", Content::Records, bytes);
    let mut messages = Vec::new();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let reply = parse_reply(text.as_bytes(), std::mem::take(&mut messages)).expect("a valid reply");
        write_envelope(&mut out, ReplyTo { thread: b"\"t\"", xid: b"\"x\"" }, text.as_bytes(), &reply);
        messages = reply.messages;
        black_box(&out);
    })
}

/// Redis' reply to a pair of pops is taken apart.
fn pop_in(count: usize) -> Operation {
    let mut popped = b"*-1\r\n".to_vec();
    popped.extend_from_slice(&messages::pop(count, 1024));
    let mut inbox = Inbox::new("opensrf:client:gateway:h:1:2");
    let mut commands = Vec::new();
    Box::new(move || {
        commands.clear();
        inbox.write(&mut commands);
        let mut at = 0;
        while let Some(token) = resp::next(&popped, &mut at).expect("RESP") {
            black_box(inbox.token(&token).expect("the reply to a pop"));
        }
    })
}

/// Requests of that many clients go all the way to Redis, the replies all the way back.
fn round(clients: usize) -> Operation {
    let mut core = PureCore::new(clients, 470, 600);
    Box::new(move || core.round())
}
