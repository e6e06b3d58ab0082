//! A client at the far end of a connection: what it has said, and what it is sent, byte by byte.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::services::{Pushed, marks, said_by};
use crate::browser::{Browser, Env, Frame, Kind, Said, ends, unframe_all};
use crate::world::violated;

/// A client.
pub struct Peer {
    pub browser: Browser,
    /// Its connection in the kernel.
    pub at: usize,
    /// It begins with no PROXY header where there must be one, or is no proxy that is trusted.
    pub is_unwelcome: bool,
    /// It said what no client should.
    pub misbehaves: bool,
    /// It was told that something of its may be lost.
    pub is_excused: bool,
    /// It said a Close.
    pub closes: bool,
    /// It ends its side when all is said.
    pub ends: bool,
    /// The TCP of a slow reader acknowledges so many bytes at once; 0: all.
    pub drip: usize,
    /// It is over for it.
    pub is_over: bool,
    /// The first part of a frame.
    tail: Vec<u8>,
    /// Bytes sent to it; what is whole at which of them and was not acknowledged.
    sent: u64,
    acknowledged: u64,
    frames: VecDeque<(u64, Frame)>,
    /// The answer to its handshake.
    pub status: Option<u16>,
    /// It was sent a Close.
    pub close: Option<Option<u16>>,
    /// Numbers of the replies that it was sent; those that the core has received for it.
    pub seen: BTreeSet<u64>,
    pub delivered: Vec<u64>,
    /// Ends of each trace that it lacks.
    owed: BTreeMap<i64, i64>,
    /// The same of those that reached Redis.
    under_way: BTreeMap<i64, i64>,
    /// Envelopes that have not reached Redis, by the byte at which each began.
    said: BTreeMap<u64, Rc<Env>>,
    /// The byte of the last that did, by thread and list.
    pushed: Vec<(String, u64)>,
}

impl Peer {
    pub fn new(browser: Browser, at: usize) -> Self {
        Self {
            browser,
            at,
            is_unwelcome: false,
            misbehaves: false,
            is_excused: false,
            closes: false,
            ends: false,
            drip: 0,
            is_over: false,
            tail: Vec::new(),
            sent: 0,
            acknowledged: 0,
            frames: VecDeque::new(),
            status: None,
            close: None,
            seen: BTreeSet::new(),
            delivered: Vec::new(),
            owed: BTreeMap::new(),
            under_way: BTreeMap::new(),
            said: BTreeMap::new(),
            pushed: Vec::new(),
        }
    }

    /// Whether it says something now and then.
    pub fn may_say(&self) -> bool {
        self.browser.shaken && !self.browser.silent && !self.browser.close_sent && !self.ends && !self.is_over
    }

    /// It has said that.
    pub fn has_said(&mut self, said: &Rc<Said>) {
        let Said::Good(env) = &**said else { return };
        let Some((_, at)) = env.xid.as_deref().and_then(said_by) else { return };
        for msg in env.msgs.iter().filter(|msg| msg.kind != Kind::Disconnect) {
            *self.owed.entry(msg.trace).or_default() += 1;
        }
        self.said.insert(at, Rc::clone(env));
    }

    /// It has said all that it wanted to, and has an answer to all of that.
    pub fn has_all(&self) -> bool {
        self.browser.unsent.is_empty() && self.owed.values().all(|n| *n <= 0)
    }

    /// Redis has a message of its.
    pub fn was_pushed(&mut self, list: &str, at: u64, pushed: &Pushed<'_>) {
        let id = self.browser.id;
        let Some(env) = self.said.remove(&at) else { violated!("client {id}: what it said at {at} is pushed twice") };
        let body = env.body();
        if pushed.body.strip_suffix('}') != Some(&body) {
            violated!("client {id}: it said {body}, pushed is {}", pushed.body);
        }
        if pushed.thread.split_once(':').map(|(_, thread)| thread) != Some(&env.thread) {
            violated!("client {id}: it said {:?}, pushed is {}", env.thread, pushed.thread);
        }
        let place = format!("{}\n{list}", env.thread);
        match self.pushed.iter_mut().find(|(last, _)| *last == place) {
            Some((_, last)) if *last > at => {
                violated!("client {id}: what it said at {at} is pushed behind what it said at {last}")
            }
            Some((_, last)) => *last = at,
            None => self.pushed.push((place, at)),
        }
        let mut asks = env.msgs.iter().filter(|msg| msg.kind != Kind::Disconnect).peekable();
        if asks.peek().is_some() && self.close == Some(Some(1012)) && !self.is_excused {
            violated!("client {id}: a request is pushed behind its Close with 1012");
        }
        for msg in asks {
            *self.under_way.entry(msg.trace).or_default() += 1;
        }
    }

    /// The core's kernel has taken bytes for it: they must go on with what a WebSocket server may send.
    pub fn check(&mut self, bytes: &[u8]) {
        let from = self.sent - self.tail.len() as u64;
        self.sent += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let (frames, used) = unframe_all(&self.tail);
        // Where each ends does not matter, but that it is not heard before.
        let end = from + used as u64;
        self.tail.drain(..used);
        for frame in frames {
            self.check_frame(&frame);
            self.frames.push_back((end, frame));
        }
    }

    fn check_frame(&mut self, frame: &Frame) {
        let id = self.browser.id;
        match (frame, self.status) {
            (Frame::Http(101), None) if self.is_unwelcome => {
                violated!("client {id} is let in without a PROXY header of a proxy's")
            }
            (Frame::Http(status), None) => self.status = Some(*status),
            (Frame::Nonsense(byte), _) => violated!("client {id} is sent a frame that no server sends: {byte:#x}"),
            (_, Some(101)) if self.close.is_none() => {}
            (_, status) => violated!("client {id} is sent {frame:?} behind {status:?} and {:?}", self.close),
        }
        match frame {
            Frame::Text(text) => self.check_text(text),
            Frame::Close(code) => {
                if matches!(code, Some(1002 | 1003 | 1007 | 1009)) && !self.misbehaves {
                    violated!("client {id} is closed with {code:?}, and said nothing wrong");
                }
                let left = self.under_way.iter().find(|(_, n)| **n > 0);
                if let (Some(1012), Some((trace, _)), false) = (code, left, self.is_excused) {
                    violated!("client {id} is closed with 1012, but its request {trace} was relayed and not answered");
                }
                let unseen = self.delivered.iter().find(|number| !self.seen.contains(number));
                if let (Some(1012), Some(number), false) = (code, unseen, self.is_excused) {
                    violated!("client {id} is closed with 1012 before reply {number}, which the core has received");
                }
                self.close = Some(*code);
            }
            _ => {}
        }
    }

    fn check_text(&mut self, text: &[u8]) {
        let id = self.browser.id;
        for (owner, number) in marks(text) {
            if owner != id {
                violated!("client {id} is sent what is another's: {}", String::from_utf8_lossy(text));
            }
            let Some(number) = number else { continue };
            if self.seen.last().is_some_and(|last| *last >= number) {
                violated!("client {id} is sent reply {number} behind {:?}", self.seen.last());
            }
            self.seen.insert(number);
        }
        let text = String::from_utf8_lossy(text);
        for (trace, code) in ends(&text) {
            *self.owed.entry(trace).or_default() -= 1;
            *self.under_way.entry(trace).or_default() -= 1;
            self.is_excused |= matches!(code, 503 | 504);
        }
    }

    /// Its TCP takes `n` bytes: the frames that are whole.
    pub fn acknowledge(&mut self, n: usize) -> Vec<Frame> {
        self.acknowledged += n as u64;
        let mut whole = Vec::new();
        while self.frames.front().is_some_and(|(end, _)| *end <= self.acknowledged) {
            whole.extend(self.frames.pop_front().map(|(_, frame)| frame));
        }
        whole
    }

    /// The first part of a frame is the last that it was sent.
    pub fn is_amid_frame(&self) -> bool {
        !self.tail.is_empty()
    }

    /// It has stayed, and all has had its time: what must have come.
    pub fn must_have_all(&self) {
        let id = self.browser.id;
        if self.is_amid_frame() {
            violated!("client {id} has the first {} bytes of a frame", self.tail.len());
        }
        if let Some((trace, _)) = self.owed.iter().find(|(_, n)| **n > 0)
            && !self.misbehaves
        {
            violated!("client {id} has no answer to its request {trace}");
        }
        if let Some(number) = self.delivered.iter().find(|number| !self.seen.contains(number))
            && !self.is_excused
        {
            violated!("client {id} was not sent reply {number}, which the core has received");
        }
    }
}
