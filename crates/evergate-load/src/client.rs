//! One client without its socket: what it has asked for, whether what comes back is right, and the frames to be sent.

use std::collections::BTreeSet;

use super::fault::Fault;
use super::frame;
use super::opensrf::{Classed, Envelope, Message, string_bytes};
use super::plan::{Content, Expects, Plan, Step, read_thread};
use super::template::Numbers;

/// Bytes that may wait to be sent before another script begins: a server that does not read shall not cost memory.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Requests given up that are remembered, so that a reply to one of them is late and no duplicate.
const GIVEN_UP_MAX: usize = 16 * 1024;

/// What a reply, or a step of the script, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A request has its whole reply, and it is right.
    Answered {
        /// Which of the plan's scripts it is of.
        script: usize,
        /// When it was due, in nanoseconds of the run.
        due_ns: u64,
    },
    /// A request has failed.
    Failed {
        /// Which of the plan's scripts it is of.
        script: usize,
        /// How.
        fault: Fault,
    },
    /// A script is at its end, well or not: the client may begin another.
    Free,
    /// Something is wrong that is of no request under way.
    Fault(Fault),
}

/// The moment at which a message is judged.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// In nanoseconds of the run.
    pub now_ns: u64,
    /// The run ends: scripts are not gone on with.
    pub is_ending: bool,
}

/// A script under way.
#[derive(Debug)]
struct Exchange {
    /// Its thread's number: that of its first request.
    number: u32,
    /// Which of the plan's scripts.
    script: usize,
    /// Which of the script's steps waits for its reply; those before have theirs.
    step: usize,
    /// The number of that step's request.
    request: u32,
    /// When that request was due, or sent, in nanoseconds of the run.
    due_ns: u64,
    /// RESULTs so far.
    results: u32,
    /// Bytes of chunked content so far, where chunks have come.
    chunked: Option<usize>,
    /// Something was wrong with this step's reply already.
    faulty: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number, which its threads carry.
    number: u32,
    /// The number of its next request.
    next: u32,
    /// Scripts under way.
    exchanges: Vec<Exchange>,
    /// Scripts that were given up, by their threads' numbers.
    given_up: BTreeSet<u32>,
    /// Nothing more is sent: a Close was, which nothing may follow (RFC 6455 section 5.5.1), or nothing can be.
    is_shut: bool,
    /// What the latest Ping held, until its Pong is sent: older ones need none (RFC 6455 section 5.5.3).
    ping: Option<Vec<u8>>,
    /// Scripts that wait until less is unsent.
    pub owed: usize,
    /// What the server said of a request that it failed, until it is noted.
    pub said: Option<(Fault, String)>,
    /// Frames to be sent.
    out: Vec<u8>,
}

impl Client {
    /// A client that has done nothing yet.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            next: 0,
            exchanges: Vec::new(),
            given_up: BTreeSet::new(),
            is_shut: false,
            ping: None,
            owed: 0,
            said: None,
            out: Vec::new(),
        }
    }

    /// Scripts under way.
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether another script may begin beside those under way, of which there may be `in_flight_max`.
    pub fn has_room(&self, in_flight_max: usize) -> bool {
        self.takes_more() && self.exchanges.len() < in_flight_max
    }

    /// Whether its connection, and what is unsent on it, allow another script.
    pub fn takes_more(&self) -> bool {
        !self.is_shut && self.out.len() < UNSENT_BYTES_MAX
    }

    /// Whether anything is to be sent.
    pub fn has_unsent(&self) -> bool {
        self.ping.is_some() || !self.out.is_empty()
    }

    /// The frames to be sent; those to come gather in `empty`.
    pub fn take_unsent(&mut self, plan: &Plan, empty: Vec<u8>) -> Vec<u8> {
        self.write_pong(plan);
        std::mem::replace(&mut self.out, empty)
    }

    /// Begins a script whose first request is due at `due_ns`, unless nothing more is sent.
    pub fn begin(&mut self, plan: &Plan, script: usize, due_ns: u64) {
        if self.is_shut {
            return;
        }
        let number = take_number(&mut self.next);
        let exchange =
            Exchange { number, script, step: 0, request: number, due_ns, results: 0, chunked: None, faulty: false };
        plan.scripts[script].steps[0].template.write(&mut self.out, exchange.numbers(self.number));
        self.exchanges.push(exchange);
    }

    /// Judges a message of the server.
    pub fn message(&mut self, plan: &Plan, text: &[u8], moment: Moment, sink: &mut impl FnMut(Outcome)) {
        if plan.echo {
            self.echoed(plan, text, sink);
        } else if let Ok(envelope) = Envelope::new(text) {
            self.envelope(plan, &envelope, moment, sink);
        } else {
            sink(Outcome::Fault(Fault::Unparsable));
        }
    }

    /// Has a Ping answered, in the place of those before it.
    pub fn pong(&mut self, payload: &[u8]) {
        if !self.is_shut {
            let ping = self.ping.get_or_insert_default();
            ping.clear();
            ping.extend_from_slice(payload);
        }
    }

    fn write_pong(&mut self, plan: &Plan) {
        if let Some(ping) = self.ping.take() {
            frame::write(&mut self.out, frame::opcode::PONG, plan.mask, &ping);
        }
    }

    /// Nothing more can be sent.
    pub fn shut(&mut self) {
        self.is_shut = true;
    }

    /// Appends a Close, the last frame, unless one has been.
    pub fn close(&mut self, plan: &Plan, code: u16) {
        if self.is_shut {
            return;
        }
        self.write_pong(plan);
        self.shut();
        frame::write(&mut self.out, frame::opcode::CLOSE, plan.mask, &code.to_be_bytes());
    }

    /// Gives up what was due before `before_ns`.
    pub fn expire(&mut self, plan: &Plan, before_ns: u64, sink: &mut impl FnMut(Outcome)) {
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get_mut(index) {
            if exchange.due_ns >= before_ns {
                index += 1;
                continue;
            }
            self.given_up.insert(exchange.number);
            if self.given_up.len() > GIVEN_UP_MAX {
                self.given_up.pop_first();
            }
            exchange.blame(Fault::Missing, sink);
            self.finish(plan, index, sink);
        }
    }

    /// The connection has ended: all that is under way is lost.
    pub fn lose(&mut self, sink: &mut impl FnMut(Outcome)) {
        for mut exchange in self.exchanges.drain(..) {
            exchange.blame(Fault::Lost, sink);
        }
    }

    /// The connection was closed with 1012, which a gateway sends at an idle gap alone: what has had no reply was never relayed, and
    /// waits for the next connection. What has had a part of it, or is amid a session, was closed against that rule, and is lost.
    pub fn keep_unanswered(&mut self, sink: &mut impl FnMut(Outcome)) {
        let has_begun = |exchange: &mut Exchange| {
            exchange.step > 0 || exchange.results > 0 || exchange.chunked.is_some() || exchange.faulty
        };
        for mut exchange in self.exchanges.extract_if(.., has_begun) {
            exchange.blame(Fault::Lost, sink);
        }
    }

    /// Nobody sends again what [`Self::keep_unanswered`] has kept. How many requests that were.
    pub fn drop_unanswered(&mut self) -> usize {
        self.exchanges.drain(..).count()
    }

    /// There is another connection: what waits for it is sent again. How many requests that were.
    pub fn reopen(&mut self, plan: &Plan) -> usize {
        (self.is_shut, self.ping) = (false, None);
        self.out.clear();
        for exchange in &self.exchanges {
            plan.scripts[exchange.script].steps[exchange.step]
                .template
                .write(&mut self.out, exchange.numbers(self.number));
        }
        self.exchanges.len()
    }

    fn echoed(&mut self, plan: &Plan, text: &[u8], sink: &mut impl FnMut(Outcome)) {
        let number = self.number;
        let is_its = |exchange: &Exchange| {
            let template = &plan.scripts[exchange.script].steps[0].template;
            template.equals(text, exchange.numbers(number))
        };
        match self.exchanges.iter().position(is_its) {
            Some(index) => {
                sink(self.exchanges.swap_remove(index).answered());
                sink(Outcome::Free);
            }
            // Whichever request another content is for, that one will be missing.
            None => sink(Outcome::Fault(self.echoed_again(plan, text).unwrap_or(Fault::WrongThread))),
        }
    }

    /// What an echo is that nobody waits for, if it is one.
    fn echoed_again(&self, plan: &Plan, text: &[u8]) -> Option<Fault> {
        let envelope = Envelope::new(text).ok()?;
        let (_, number) = read_thread(&plan.tag, envelope.thread.as_bytes())?;
        let numbers = Numbers { client: self.number, exchange: number, request: number };
        plan.scripts[0].steps[0].template.equals(text, numbers).then(|| self.over(number))
    }

    /// What a reply is to a script that is not under way.
    fn over(&self, number: u32) -> Fault {
        match number {
            _ if self.given_up.contains(&number) => Fault::Late,
            _ if number < self.next => Fault::Duplicate,
            _ => Fault::WrongThread,
        }
    }

    fn envelope(&mut self, plan: &Plan, envelope: &Envelope<'_>, moment: Moment, sink: &mut impl FnMut(Outcome)) {
        let Some(index) = self.find(plan, envelope.thread.as_bytes(), sink) else { return };
        for (place, message) in envelope.messages.iter().enumerate() {
            let numbers = self.exchanges[index].numbers(self.number);
            let trace = message.object.trace();
            if trace != numbers.trace() {
                let earlier = Numbers { request: numbers.exchange, ..numbers }.trace()..numbers.trace();
                if earlier.contains(&trace) {
                    sink(Outcome::Fault(Fault::Duplicate));
                    continue;
                }
                self.exchanges[index].blame(Fault::WrongTrace, sink);
            }
            self.judge(plan, index, message, moment, sink);
            if self.exchanges.get(index).is_none_or(|exchange| exchange.number != numbers.exchange) {
                // It was the script's last; another may stand in its place, and this envelope is not for that one.
                if place + 1 < envelope.messages.len() {
                    sink(Outcome::Fault(Fault::Duplicate));
                }
                return;
            }
        }
    }

    /// Whose reply it is.
    fn find(&self, plan: &Plan, thread: &[u8], sink: &mut impl FnMut(Outcome)) -> Option<usize> {
        let fault = match read_thread(&plan.tag, thread) {
            None => Fault::WrongThread,
            Some((client, _)) if client != self.number => Fault::WrongClient,
            Some((_, number)) => {
                if let Some(index) = self.exchanges.iter().position(|exchange| exchange.number == number) {
                    return Some(index);
                }
                self.over(number)
            }
        };
        sink(Outcome::Fault(fault));
        None
    }

    /// What a message means to the exchange that it is for.
    fn judge(
        &mut self,
        plan: &Plan,
        index: usize,
        message: &Classed<'_, Message<'_>>,
        moment: Moment,
        sink: &mut impl FnMut(Outcome),
    ) {
        let numbers = self.exchanges[index].numbers(self.number);
        let exchange = &mut self.exchanges[index];
        if !message.is_sound() {
            exchange.blame(Fault::WrongType, sink);
        }
        let Step { expects, .. } = &plan.scripts[exchange.script].steps[exchange.step];
        let Classed { object: message, .. } = message;
        let code = message.code();
        if code >= 300 {
            let call = &plan.scripts[exchange.script].call;
            self.said.get_or_insert_with(|| (status(code), format!("{call}: {}", message.status())));
        }
        match (&*message.kind, expects) {
            ("RESULT", Expects::Results(content)) => {
                if let Some(fault) = exchange.result(content, numbers, code, message.content()) {
                    exchange.blame(fault, sink);
                }
            }
            ("STATUS", _) if matches!(code, 100 | 202) => {}
            ("STATUS", Expects::Connected) if code == 200 => self.next_step(plan, index, moment, sink),
            ("STATUS", Expects::Results(content)) if code == 205 => {
                if let Some(fault) = exchange.complete(content) {
                    exchange.blame(fault, sink);
                }
                self.next_step(plan, index, moment, sink);
            }
            ("STATUS", _) if code >= 300 => {
                exchange.blame(status(code), sink);
                self.finish(plan, index, sink);
            }
            _ => exchange.blame(Fault::WrongType, sink),
        }
    }

    /// A step has its whole reply.
    fn next_step(&mut self, plan: &Plan, index: usize, moment: Moment, sink: &mut impl FnMut(Outcome)) {
        let exchange = &mut self.exchanges[index];
        if !exchange.faulty {
            sink(exchange.answered());
        }
        exchange.step += 1;
        let steps = &plan.scripts[exchange.script].steps;
        let Some(step) = steps.get(exchange.step).filter(|_| !moment.is_ending && !self.is_shut) else {
            return self.finish(plan, index, sink);
        };
        exchange.request = take_number(&mut self.next);
        (exchange.due_ns, exchange.results, exchange.chunked, exchange.faulty) = (moment.now_ns, 0, None, false);
        step.template.write(&mut self.out, exchange.numbers(self.number));
    }

    fn finish(&mut self, plan: &Plan, index: usize, sink: &mut impl FnMut(Outcome)) {
        let exchange = self.exchanges.swap_remove(index);
        let farewell = plan.scripts[exchange.script].farewell.as_ref();
        if let Some(farewell) = farewell.filter(|_| exchange.step > 0 && !self.is_shut) {
            let request = take_number(&mut self.next);
            farewell.write(&mut self.out, Numbers { request, ..exchange.numbers(self.number) });
        }
        sink(Outcome::Free);
    }
}

impl Exchange {
    fn numbers(&self, client: u32) -> Numbers {
        Numbers { client, exchange: self.number, request: self.request }
    }

    /// Says it once for each step: a request has failed or it has not.
    fn blame(&mut self, fault: Fault, sink: &mut impl FnMut(Outcome)) {
        if !std::mem::replace(&mut self.faulty, true) {
            sink(Outcome::Failed { script: self.script, fault });
        }
    }

    fn answered(&self) -> Outcome {
        Outcome::Answered { script: self.script, due_ns: self.due_ns }
    }

    /// What is wrong with a RESULT.
    fn result(&mut self, content: &Content, numbers: Numbers, code: u64, got: &str) -> Option<Fault> {
        let is_chunk = matches!(code, 204 | 206);
        if !is_chunk && code != 200 {
            return Some(status(code));
        }
        if !is_chunk || self.chunked.is_none() {
            self.results += 1;
        }
        let number = || got.trim_matches('"').parse::<f64>().ok();
        let is_right = match content {
            Content::Any => true,
            // Exact: the sum has ten digits.
            Content::Sum => number() == Some((numbers.left() + numbers.right()) as f64),
            Content::Number(expected) => number() == Some(*expected),
            Content::Counted(_) => number() == Some(f64::from(self.results)),
            Content::Length(expected) => {
                let bytes = string_bytes(got);
                if is_chunk {
                    // A chunk's content is a piece of the content's own JSON text, written as a string.
                    *self.chunked.get_or_insert_default() += bytes.unwrap_or(0);
                    return None;
                }
                return (bytes != Some(*expected)).then_some(Fault::WrongLength);
            }
        };
        (!is_right).then_some(Fault::WrongContent)
    }

    /// What is missing when the reply ends.
    fn complete(&self, content: &Content) -> Option<Fault> {
        let results = match content {
            Content::Any => return None,
            Content::Counted(results) => *results,
            Content::Sum | Content::Number(_) | Content::Length(_) => 1,
        };
        if self.results != results {
            return Some(Fault::WrongCount);
        }
        match content {
            // Two quotes more than the string itself.
            Content::Length(expected) if self.chunked.is_some_and(|bytes| bytes != expected + 2) => {
                Some(Fault::WrongLength)
            }
            _ => None,
        }
    }
}

/// The number of the next request.
fn take_number(next: &mut u32) -> u32 {
    std::mem::replace(next, next.wrapping_add(1))
}

/// What a `statusCode` says that calls nothing right.
fn status(code: u64) -> Fault {
    Fault::Status(u16::try_from(code).unwrap_or(u16::MAX))
}

#[cfg(test)]
pub mod tests;
