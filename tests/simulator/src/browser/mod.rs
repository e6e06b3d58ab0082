//! A client: what it says, encoded by its own encoder, and what it has been sent.

mod envelope;
mod frame;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::random::Random;
use crate::workers::Job;
use crate::world::violated;
pub use envelope::{Bounds, Env, Ev, INGRESS, Kind, Msg, Said, escaped};
pub use frame::{Frame, unframe_all};

/// Threads: as written in the envelope, as given back, as on the bus.
const THREADS: &[(&str, &str, &str)] = &[
    ("", "\"\"", ""),
    ("\"thread\":\"a\",", "\"a\"", "a"),
    ("\"thread\":\"q\\\"\\\\:\",", "\"q\\\"\\\\:\"", "q\\\"\\\\:"),
    ("\"thread\":5,", "\"5\"", "5"),
    ("\"thread\":\"x\\u00e9\",", "\"x\\u00e9\"", "x\u{e9}"),
];

/// The STATUSes in a message from the gateway that end a request or a CONNECT: threadTrace, code.
pub fn ends(text: &str) -> Vec<(i64, u16)> {
    let number = |message: &str, key: &str| -> Option<i64> {
        let rest = message.split_once(key)?.1.trim_start_matches('"');
        rest.split(|c: char| !c.is_ascii_digit() && c != '-').next()?.parse().ok()
    };
    text.split("{\"__c\":\"osrfMessage\"")
        .skip(1)
        .filter(|message| message.contains("\"type\":\"STATUS\""))
        .filter_map(|message| {
            let code = number(message, "\"statusCode\":")? as u16;
            Some((number(message, "\"threadTrace\":")?, code)).filter(|_| code >= 200 && code != 202)
        })
        .collect()
}

/// One client.
pub struct Browser {
    /// Its number in the run; every payload of its carries it.
    pub id: usize,
    /// Encoded and not yet in the network.
    pub unsent: VecDeque<u8>,
    /// Bytes encoded in all.
    encoded: u64,
    /// Bytes that the gateway has read.
    pub read: u64,
    /// What is complete at which byte.
    pub events: VecDeque<(u64, Ev)>,
    /// The bytes at which nothing is unfinished.
    pub clean: VecDeque<u64>,
    pub is_clean: bool,
    pub shaken: bool,
    pub close_sent: bool,
    pub close_got: bool,
    /// It says nothing more.
    pub silent: bool,
    pub reading: bool,
    /// Bytes that its kernel still takes while it does not read.
    pub window: usize,
    received: Vec<u8>,
    /// How often a request of each threadTrace reached the bus, less how often the end of one was heard.
    unanswered: BTreeMap<i64, i64>,
    /// Requests and CONNECTs that it said, less the ends that it heard.
    owed: i64,
    next_trace: i64,
    threads: usize,
}

impl Browser {
    pub fn new(id: usize, random: &mut Random) -> Self {
        Self {
            id,
            unsent: VecDeque::new(),
            encoded: 0,
            read: 0,
            events: VecDeque::new(),
            clean: VecDeque::new(),
            is_clean: true,
            shaken: false,
            close_sent: false,
            close_got: false,
            silent: false,
            reading: true,
            window: 0,
            received: Vec::new(),
            unanswered: BTreeMap::new(),
            owed: 0,
            next_trace: i64::from(random.percent(50)),
            threads: 1 + random.below(THREADS.len()),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.encoded += bytes.len() as u64;
    }

    fn done(&mut self, event: Ev) {
        self.events.push_back((self.encoded, event));
        self.clean.push_back(self.encoded);
    }

    /// What a proxy says before it.
    pub fn say_first(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    pub fn shake_hands(&mut self, random: &mut Random) {
        self.shaken = true;
        if random.percent(7) {
            self.put(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            self.done(Ev::BadHandshake(426));
        } else {
            self.shake_well();
        }
    }

    /// A handshake that must be accepted.
    pub fn shake_well(&mut self) {
        self.put(
            b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        self.done(Ev::Handshake);
    }

    fn header(&mut self, random: &mut Random, first: u8, len: usize) -> [u8; 4] {
        let mask = (random.next() as u32).to_be_bytes();
        let mut bytes = vec![first];
        if len < 126 {
            bytes.push(0x80 | len as u8);
        } else {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        bytes.extend_from_slice(&mask);
        self.put(&bytes);
        mask
    }

    fn frame(&mut self, random: &mut Random, first: u8, payload: &[u8]) {
        let mask = self.header(random, first, payload.len());
        let masked: Vec<u8> = payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        self.put(&masked);
    }

    /// A data message, in one frame or several, perhaps with pings between them. Says into how many.
    pub fn message(&mut self, random: &mut Random, text: &[u8], event: Ev) -> usize {
        let opcode = if random.percent(10) { 2 } else { 1 };
        if text.len() < 4 || !random.percent(12) {
            self.frame(random, 0x80 | opcode, text);
            self.done(event);
            return 1;
        }
        let pieces = 2 + random.below(2);
        let mut from = 0;
        for piece in 0..pieces {
            let last = piece == pieces - 1;
            let to = if last { text.len() } else { from + random.below(text.len() - from) };
            let first = if piece == 0 { opcode } else { 0 } | if last { 0x80 } else { 0 };
            self.frame(random, first, &text[from..to]);
            from = to;
            if !last && random.percent(30) {
                let payload = vec![b'p'; random.below(9)];
                self.frame(random, 0x89, &payload);
                self.events.push_back((self.encoded, Ev::Ping(payload)));
            }
        }
        self.done(event);
        pieces
    }

    pub fn ping(&mut self, random: &mut Random) {
        let payload = vec![b'z'; random.below(126)];
        self.frame(random, 0x89, &payload);
        self.done(Ev::Ping(payload));
    }

    pub fn pong(&mut self, random: &mut Random) {
        self.frame(random, 0x8a, b"");
        self.done(Ev::Pong);
    }

    pub fn close(&mut self, random: &mut Random) {
        let code = [None, Some(1000_u16), Some(1001), Some(3000)][random.below(4)];
        let payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        self.frame(random, 0x88, &payload);
        self.done(Ev::Close(code));
        self.close_sent = true;
    }

    /// Breaks RFC 6455. The verdict must come at the byte that shows it.
    pub fn violate(&mut self, random: &mut Random, bounds: &Bounds) {
        let start = self.encoded;
        let (at, code) = match random.below(6) {
            0 => {
                self.put(&[0x81, 0x05, b'h', b'e', b'l', b'l', b'o']);
                (2, 1002)
            }
            1 => {
                self.put(&[0xc1, 0x80, 1, 2, 3, 4]);
                (1, 1002)
            }
            2 => {
                self.put(&[0x83, 0x80, 1, 2, 3, 4]);
                (1, 1002)
            }
            3 => {
                self.put(&[0x80, 0x80, 1, 2, 3, 4]);
                (1, 1002)
            }
            4 => {
                let len = (bounds.message_bytes + 1) as u16;
                self.put(&[0x81, 0x80 | 126, (len >> 8) as u8, len as u8, 1, 2, 3, 4, 5]);
                (4, 1009)
            }
            _ => {
                // Whether more fragments are to come makes no difference.
                let fin = if start.is_multiple_of(2) { 0x80 } else { 0 };
                self.frame(random, fin | 1, b"\xff{}");
                // Behind the header of six bytes.
                (7, 1007)
            }
        };
        self.events.push_back((start + at, Ev::Violation(code)));
        self.close_sent = true;
    }

    /// A frame that is never finished.
    pub fn half(&mut self, random: &mut Random) {
        let mut whole = Self::new(0, random);
        whole.frame(random, 0x81, b"a message that will not end");
        let keep = 1 + random.below(whole.unsent.len() - 1);
        let bytes: Vec<u8> = whole.unsent.into_iter().take(keep).collect();
        self.put(&bytes);
        self.close_sent = true;
    }

    fn trace(&mut self, random: &mut Random) -> (i64, String) {
        // Some clients hardly count on.
        let new = if self.id % 8 == 7 { 50 } else { 93 };
        if random.percent(new) || self.next_trace == 0 {
            self.next_trace += 1;
        }
        let trace = self.next_trace - 1;
        (trace, if random.percent(20) { format!("\"{trace}\"") } else { trace.to_string() })
    }

    fn msg(&mut self, random: &mut Random, kind: Kind, fat: usize) -> (String, Msg) {
        let (trace, spelled) = self.trace(random);
        let name = ["CONNECT", "REQUEST", "DISCONNECT"][kind as usize];
        let own = if random.percent(15) { ",\"ingress\":[\"mine\",{\"a\":1}]" } else { "" };
        let payload = if kind == Kind::Request {
            let fill: String = (0..fat).map(|at| ['\u{e9}', 'x', '\u{1f600}', '\u{7f}', '\u{20ac}'][at % 5]).collect();
            format!(
                "{{\"__c\":\"osrfMethod\",\"__p\":{{\"method\":\"m\",\"params\":[\"<c{}>\",100000000000000000000001,\"{fill}\"]}}}}",
                self.id
            )
        } else {
            "\"null\"".to_owned()
        };
        let rest = |own: &str| format!("\"threadTrace\":{spelled}{own},\"type\":\"{name}\",\"payload\":{payload}}}}}");
        let text = format!("{{\"__c\":\"osrfMessage\",\"__p\":{{{}", rest(own));
        let relayed = format!("{{\"__c\":\"osrfMessage\",\"__p\":{{\"ingress\":{INGRESS},{}", rest(""));
        (text, Msg { kind, trace, spelled, relayed })
    }

    /// Says an envelope of these kinds.
    pub fn say(&mut self, random: &mut Random, kinds: &[Kind], fat: usize) -> Rc<Said> {
        let thread = random.below(self.threads);
        self.say_on(random, thread, kinds, fat)
    }

    pub fn say_on(&mut self, random: &mut Random, thread: usize, kinds: &[Kind], fat: usize) -> Rc<Said> {
        let (written, spelled, bus) = THREADS[thread];
        let service = match random.below(40) {
            0 => None,
            1 => Some("router"),
            2 | 3 => Some("no.such"),
            _ => Some("opensrf.math"),
        };
        let (texts, msgs): (Vec<String>, Vec<Msg>) = kinds.iter().map(|kind| self.msg(random, *kind, fat)).unzip();
        let xid = (fat > 0 || !random.percent(10)).then(|| format!("\"x{}.{}\"", self.id, self.encoded));
        let xid_text = xid.as_ref().map(|xid| format!("\"log_xid\":{xid},")).unwrap_or_default();
        let service_text = service.map(|service| format!("\"service\":\"{service}\",")).unwrap_or_default();
        let osrf =
            if texts.len() == 1 && random.percent(20) { texts[0].clone() } else { format!("[{}]", texts.join(",")) };
        let text = format!("{{{service_text}{written}{xid_text}\"api_ver\":1,\"osrf_msg\":{osrf}}}");
        let env = Env {
            thread: bus.to_owned(),
            spelled: spelled.to_owned(),
            xid,
            service: service.map(str::to_owned),
            msgs,
            text_len: text.len(),
        };
        self.owed += env.counted() as i64;
        let said = Rc::new(Said::Good(Rc::new(env)));
        self.message(random, text.as_bytes(), Ev::Message(Rc::clone(&said)));
        said
    }

    /// Says something that must be refused with 400.
    pub fn say_badly(&mut self, random: &mut Random, bounds: &Bounds) {
        let id = self.id;
        let one = |trace: &str, kind: &str| {
            format!(
                "{{\"__c\":\"osrfMessage\",\"__p\":{{\"threadTrace\":{trace},\"type\":\"{kind}\",\"payload\":{{\"__c\":\"osrfMethod\",\"__p\":{{\"method\":\"m\",\"params\":[\"<c{id}>\"]}}}}}}}}"
            )
        };
        let envelope = |messages: &str| {
            format!("{{\"thread\":\"a\",\"log_xid\":\"b{id}\",\"service\":\"s\",\"osrf_msg\":[{messages}]}}")
        };
        let (which, silent) = (random.below(8), random.percent(50));
        let (text, addressed, traces): (String, bool, Vec<&str>) = match which {
            0 => ("{".to_owned(), false, vec![]),
            1 => ("nonsense".to_owned(), false, vec![]),
            2 => (envelope("null"), true, vec![]),
            3 => (envelope(&one("7", "NONSENSE")), true, vec!["7"]),
            4 => {
                let many = vec![one("8", "REQUEST"); bounds.per_envelope + 1];
                (envelope(&many.join(",")), true, vec!["8"; bounds.per_envelope + 1])
            }
            5 => {
                let (kind, traces) = if silent { ("DISCONNECT", vec![]) } else { ("REQUEST", vec!["9"]) };
                (envelope(&one("9", kind).replace("\"m\"", "\"m\\u0000\"")), true, traces)
            }
            6 => {
                let deep = format!("{}1{}", "[".repeat(bounds.depth), "]".repeat(bounds.depth));
                (envelope(&one("\"4\"", "REQUEST").replace("\"m\"", &deep)), true, vec!["\"4\""])
            }
            _ => (
                envelope(&one("3", "REQUEST").replace("\"payload\"", "\"type\":\"REQUEST\",\"payload\"")),
                true,
                vec!["3"],
            ),
        };
        let said = Said::Bad {
            spelled: if addressed { "\"a\"" } else { "\"\"" }.to_owned(),
            xid: addressed.then(|| format!("\"b{id}\"")),
            traces: traces.into_iter().map(str::to_owned).collect(),
            silent: silent && which == 5,
        };
        self.message(random, text.as_bytes(), Ev::Message(Rc::new(said)));
    }

    /// The gateway has read `n` bytes more: what that completed.
    pub fn complete(&mut self, n: usize) -> Vec<Ev> {
        self.read += n as u64;
        let mut complete = Vec::new();
        while self.events.front().is_some_and(|(end, _)| *end <= self.read) {
            complete.extend(self.events.pop_front().map(|(_, event)| event));
        }
        self.is_clean = false;
        while self.clean.front().is_some_and(|end| *end <= self.read) {
            self.is_clean = self.clean.pop_front() == Some(self.read);
        }
        complete
    }

    /// Bytes arrive: the frames that they complete.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.received.extend_from_slice(bytes);
        let (frames, used) = unframe_all(&self.received);
        self.received.drain(..used);
        for frame in &frames {
            if let Frame::Text(text) = frame {
                for (trace, _) in ends(&String::from_utf8_lossy(text)) {
                    self.owed -= 1;
                    *self.unanswered.entry(trace).or_default() -= 1;
                }
            }
        }
        frames
    }

    /// One of two asks again as soon as it can, where clients are restless.
    pub fn is_restless(&self) -> bool {
        !self.id.is_multiple_of(2) && !self.close_got
    }

    /// It has said all that it wanted to, and has an answer to all of that.
    pub fn has_all(&self) -> bool {
        self.unsent.is_empty() && self.owed <= 0
    }

    /// An envelope of its reached the bus.
    pub fn was_pushed(&mut self, text: &str) {
        for (kind, trace) in Job::new(text.as_bytes()).asks {
            if kind != b'D' {
                *self.unanswered.entry(trace).or_default() += 1;
            }
        }
    }

    /// It was closed with 1012, at a gap: what it has had no reply to was not relayed, so that it may say it again.
    pub fn may_say_again(&self, slot: u32) {
        if let Some((trace, _)) = self.unanswered.iter().find(|(_, n)| **n > 0) {
            violated!("slot {slot} is closed with 1012, but its request {trace} was relayed and not answered");
        }
    }
}
