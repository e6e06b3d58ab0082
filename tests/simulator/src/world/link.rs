//! The links to Redis: the product's own, with a network and two Redises behind them.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use evergate_proto::redis::connection::Half;
use evergate_proto::redis::links::{LinkId, LinkOptions, Links, Want};
use evergate_proto::redis::outbox::{Push, Ticket};
use evergate_proto::redis::trouble::Trouble;

use super::World;
use super::told::Told;
use crate::redis::{Wire, command};
use crate::tally::What;

/// The longest wait for a connection that is greeted, ms.
const CONNECT_MAX_MS: u64 = 700;
/// What answers in place of Redis now and then: it wants to fill the core's memory before it has accepted the account.
const TALKER: &[u8] = b"*2\r\n$2\r\nid\r\n$536870912\r\n0";
/// Where both Redises are, as far as the product cares.
const PORT: Option<u16> = Some(6379);

/// What every link knows.
pub fn options() -> LinkOptions {
    LinkOptions {
        username: "gateway".to_owned(),
        passwd: "secret".to_owned(),
        connect_max_ms: CONNECT_MAX_MS,
        backoff_max_ms: 150,
        probe_ms: 2_000,
    }
}

/// How a link is, by the simulator's own account.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Connecting,
    Up,
    Away,
}

/// One link, as the network knows it.
#[derive(Default)]
pub(super) struct Line {
    state: State,
    /// An attempt that has not been answered, and the attempt whose connection there is.
    attempt: Option<u32>,
    generation: u32,
    /// When the attempt is given up.
    until: u64,
    wire: Option<Wire>,
    /// Bytes of the greeting's answer that have not been read yet, once Redis has given it in full.
    greeting: Option<usize>,
    is_greeted: bool,
    /// It leads to a talker.
    is_talker: bool,
    /// A batch is on its way into the kernel.
    is_writing: bool,
    /// What was known of Redis when the attempt began: its highest number, how often it restarted.
    known: (i64, u32),
    /// Tickets that wait, with their lists; tickets written, one entry a command.
    waiting: Vec<(String, Option<Ticket>)>,
    written: VecDeque<Vec<Ticket>>,
    /// Of an answer that came in part.
    part: Vec<u8>,
}

/// What must be told in the course of one call.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) failed: VecDeque<Ticket>,
    pub(super) emptied: Option<usize>,
    pub(super) pops_lost: bool,
    pub(super) pops_back: bool,
}

/// The links, in the order in which they have their lines.
pub(super) const PUSH: [LinkId; 2] = [LinkId { domain: 0, half: Half::Push }, LinkId { domain: 1, half: Half::Push }];
pub(super) const POP: LinkId = LinkId { domain: 0, half: Half::Pop };

fn place(link: LinkId) -> usize {
    if link == POP { 2 } else { link.domain }
}

impl World {
    fn line(&mut self, link: LinkId) -> &mut Line {
        &mut self.lines[place(link)]
    }

    /// Has the links do something, then does what they want, and holds what they said against what must have been said.
    fn links<T>(&mut self, act: impl FnOnce(&mut Links, &mut Told<'_>) -> T) -> T {
        self.clients.context.at(self.now);
        self.oracle.now = self.now;
        let mut links = self.links.take().expect("one call at a time");
        let done = act(&mut links, &mut Told(self));
        for (domain, push) in std::mem::take(&mut self.pushed) {
            links.push(domain, push, self.now);
        }
        self.links = Some(links);
        self.settle();
        self.do_what_links_want();
        let Expected { failed, emptied, pops_lost, pops_back } = std::mem::take(&mut self.expected);
        if !failed.is_empty() || emptied.is_some() || pops_lost || pops_back {
            violated!("not told: {failed:?} fail, restarted {emptied:?}, pops lost {pops_lost}, back {pops_back}");
        }
        for domain in 0..2 {
            let is_away = |line: &Line| line.state == State::Away;
            let away = is_away(&self.lines[domain]) || domain == 0 && is_away(&self.lines[2]);
            if self.clients.context.takes_messages(domain) == away {
                violated!("messages for {domain} are taken and it is away, or neither: {away}");
            }
            self.oracle.accepting[domain] = !away;
        }
        self.was_up |= self.lines[0].state == State::Up && self.lines[2].state == State::Up;
        self.oracle.ever_up = self.was_up;
        if self.clients.context.was_bus_up() != self.was_up {
            violated!("the bus was up once: {}, must be {}", self.clients.context.was_bus_up(), self.was_up);
        }
        done
    }

    pub(super) fn do_what_links_want(&mut self) {
        while let Some(want) = self.links.as_mut().and_then(Links::next_want) {
            match want {
                Want::Connect { link, generation, .. } => {
                    let (until, known) = (self.now + CONNECT_MAX_MS, self.known[link.domain]);
                    let line = self.line(link);
                    if line.attempt.is_some() || line.wire.is_some() {
                        violated!("{link:?} is connected while it has a connection");
                    }
                    (line.attempt, line.until, line.known) = (Some(generation), until, known);
                }
                Want::Close { link, generation } => {
                    let line = self.line(link);
                    if line.attempt.or(line.wire.as_ref().map(|_| line.generation)) != Some(generation) {
                        violated!("{link:?} closes what it does not have");
                    }
                    let Line { state, waiting, .. } = std::mem::take(line);
                    (line.state, line.waiting) = (state, waiting);
                    self.given_up.push((link, generation));
                }
            }
        }
    }

    /// A message is given to a link.
    pub(super) fn give(&mut self, domain: usize, push: Push) {
        self.lines[domain].waiting.push((push.key.to_string(), push.ticket));
        let now = self.now;
        match &mut self.links {
            Some(links) => {
                links.push(domain, push, now);
                self.do_what_links_want();
            }
            // As in the shell: what is decided in a call is done behind it.
            None => self.pushed.push((domain, push)),
        }
    }

    /// What a link's end means, before it is told; `attempt`: it was not yet greeted.
    fn expect_end(&mut self, link: LinkId) {
        let line = &mut self.lines[place(link)];
        match (link.half, line.is_greeted) {
            (Half::Push, true) => {
                self.tally.one(What::push_link_lost);
                self.expected.failed = line.written.drain(..).flatten().collect();
                self.tally.add(What::push_unconfirmed, self.expected.failed.len());
                line.state = State::Connecting;
            }
            (Half::Pop, true) => {
                self.tally.one(What::pop_link_lost);
                let mark = b"{\"sim\":";
                let back = line.wire.as_ref().map_or(&[][..], |wire| &wire.back);
                let lost = back.windows(mark.len()).filter(|part| part == mark).count();
                self.tally.add(What::reply_lost_between_pop_and_read, lost);
                self.expected.pops_lost = true;
                self.are_pops_lost = true;
                line.state = State::Connecting;
            }
            (half, false) => {
                self.tally.add(What::bus_away, usize::from(line.state != State::Away));
                line.state = State::Away;
                if half == Half::Push {
                    self.expected.failed = line.waiting.drain(..).filter_map(|(_, ticket)| ticket).collect();
                    self.tally.add(What::push_unsent, self.expected.failed.len());
                }
            }
        }
    }

    /// Something is still told of a connection that was given up: it means nothing.
    fn tell_late(&mut self) {
        let Some((link, generation)) = self.given_up.pop() else { return };
        self.tally.one(What::link_told_late);
        let reset = || Trouble::Host(io::ErrorKind::ConnectionReset.into());
        self.links(|links, told| match generation % 4 {
            0 => links.connected(told, link, generation, Ok(PORT)),
            1 => links.received(told, link, generation, b"+OK".to_vec(), Ok(Some(3))),
            2 => links.written(told, link, generation, Err(reset())),
            _ => links.broke(told, link, generation, &reset()),
        });
    }

    /// An attempt is answered, or hangs.
    pub(super) fn connect(&mut self, link: LinkId) {
        if self.network.percent(30) {
            self.tell_late();
        }
        let Some(generation) = self.line(link).attempt else { return };
        if self.network.percent(4) && !self.is_ending {
            self.tally.one(What::connect_hangs);
            return;
        }
        if self.redis[link.domain].down {
            self.tally.one(What::connect_refused);
            self.expect_end(link);
            let refused = Trouble::Host(io::ErrorKind::ConnectionRefused.into());
            return self.links(|links, told| links.connected(told, link, generation, Err(refused)));
        }
        // By its number, so that old seeds do what they did.
        let is_talker = generation % 16 == 5 && !self.is_ending;
        let line = self.line(link);
        (line.attempt, line.generation, line.is_talker) = (None, generation, is_talker);
        let wire = line.wire.insert(Wire::default());
        if is_talker {
            wire.back.extend_from_slice(TALKER);
        }
        self.links(|links, told| links.connected(told, link, generation, Ok(PORT)));
    }

    /// The link's next batch goes out.
    pub(super) fn write(&mut self, link: LinkId) {
        let (generation, now) = (self.line(link).generation, self.now);
        if std::mem::take(&mut self.line(link).is_writing) {
            self.links(|links, told| links.written(told, link, generation, Ok(())));
        }
        if link == PUSH[0] && self.clients.asks_about_router() {
            self.links(|links, _| links.ask_about_router(now));
        }
        let Some(links) = &self.links else { return };
        if self.lines[place(link)].wire.is_none() || !links.writes(link) {
            return;
        }
        let mut batch = Vec::new();
        if !self.links(|links, told| links.write(told, link, &mut batch)) || batch.is_empty() {
            violated!("{link:?} has something to write and writes nothing");
        }
        let line = self.line(link);
        line.is_writing = true;
        let is_greeted = line.is_greeted;
        if let Some(wire) = &mut line.wire {
            wire.to.extend_from_slice(&batch);
        }
        if link.half == Half::Push && is_greeted {
            self.note_batch(link, &batch);
        }
    }

    /// Writes down which tickets each command of a batch carries.
    fn note_batch(&mut self, link: LinkId, batch: &[u8]) {
        let (mut at, mut lists, mut several) = (0, BTreeMap::new(), false);
        while let Some((words, used)) = command(&batch[at..]) {
            at += used;
            let mut tickets = Vec::new();
            let list = String::from_utf8_lossy(&words[1]).into_owned();
            match &*words[0] {
                b"RPUSH" if list.ends_with(":probe") => {}
                b"RPUSH" => {
                    several |= words.len() > 3;
                    if lists.insert(list.clone(), ()).is_some() {
                        violated!("two commands of one batch push to {list}");
                    }
                    for _ in &words[2..] {
                        let waiting = &mut self.lines[place(link)].waiting;
                        let Some(at) = waiting.iter().position(|(key, _)| *key == list) else {
                            violated!("{list} is given what nobody gave for it");
                        };
                        tickets.extend(waiting.remove(at).1);
                    }
                }
                b"LPOP" => self.tally.one(What::router_asked),
                _ => {}
            }
            self.line(link).written.push_back(tickets);
        }
        self.tally.add(What::batch_of_several, usize::from(several));
    }

    /// Bytes reach Redis, and it carries out what it can.
    pub(super) fn serve_redis(&mut self) {
        for link in [PUSH[0], PUSH[1], POP] {
            let n = self.some_bytes(|world| world.lines[place(link)].wire.as_ref().map_or(0, |wire| wire.to.len()));
            let redis = &mut self.redis[link.domain];
            let mut seen = Vec::new();
            let line = &mut self.lines[place(link)];
            if let Some(wire) = &mut line.wire
                && !redis.stalled
                && !line.is_talker
            {
                wire.arrive(n);
                redis.serve(wire, |key, message| {
                    if !key.ends_with(b":probe") {
                        seen.push(message.to_vec());
                    }
                });
                if line.greeting.is_none() && wire.done >= 2 {
                    line.greeting = Some(wire.greeting);
                }
            }
            for message in seen {
                // A DISCONNECT of ours answers each 200 that nobody waits for; all else is pushed once.
                let mark = b"\"body\":[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":\"0\",\"locale\"";
                let ours = message.windows(mark.len()).any(|part| part == mark);
                if !ours && !self.executed.insert(message.clone()) {
                    let text = String::from_utf8_lossy(&message);
                    violated!("a push was sent twice: {text}");
                }
            }
        }
    }

    /// What Redis answered reaches the gateway, as far as the link wants to know of it.
    pub(super) fn receive(&mut self, link: LinkId) {
        let n = self.some_bytes(|world| world.lines[place(link)].wire.as_ref().map_or(0, |wire| wire.back.len()));
        let (is_full, now) = (self.clients.context.is_core_full(), self.now);
        let Some(links) = &mut self.links else { return };
        if link == POP && is_full && links.receives(link, is_full) && self.lines[2].is_greeted {
            violated!("replies are received while the core is full");
        }
        let wanted = links.receives(link, is_full) || links.catches_up(link, now).is_some();
        if self.lines[place(link)].wire.is_none() || !wanted {
            return;
        }
        let Some(mut room) = links.room(link) else { violated!("{link:?} has no room to receive into") };
        let line = &mut self.lines[place(link)];
        let bytes: Vec<u8> = line.wire.as_mut().map(|wire| wire.back.drain(..n).collect()).unwrap_or_default();
        let generation = line.generation;
        let later = line.greet(&bytes);
        if let Some(later) = later {
            if line.is_greeted && line.state != State::Up {
                self.expect_greeted(link);
            }
            if link.half == Half::Push {
                self.expect_answers(link, &later);
            }
        }
        // Its number ends with the last byte but one.
        let line = &self.lines[place(link)];
        let has_claimed = line.is_talker && line.wire.as_ref().is_some_and(|wire| wire.read >= TALKER.len() - 1);
        if has_claimed {
            self.tally.one(What::talker_met);
            self.expect_end(link);
        }
        room.extend_from_slice(&bytes);
        let received = (n > 0).then_some(n);
        self.links(|links, told| links.received(told, link, generation, room, Ok(received)));
        self.end_refused(link, has_claimed);
        if link == POP {
            while self.links(|links, told| links.deliver(told)) > 0 {}
        }
    }

    /// The greeting is over: the link is up, and a lower number than before means that Redis restarted empty.
    fn expect_greeted(&mut self, link: LinkId) {
        let line = &mut self.lines[place(link)];
        line.state = State::Up;
        let (id, known) = (line.wire.as_ref().map_or(0, |wire| wire.id), line.known);
        let now_known = &mut self.known[link.domain];
        if id < known.0 && known.1 == now_known.1 {
            *now_known = (id, known.1 + 1);
            self.expected.emptied = Some(link.domain);
        } else {
            now_known.0 = now_known.0.max(id);
        }
        if link == POP {
            self.expected.pops_back = self.are_pops_lost;
        }
    }

    /// Of confirmations: which pushes were refused. Each answer is one line.
    fn expect_answers(&mut self, link: LinkId, bytes: &[u8]) {
        let line = &mut self.lines[place(link)];
        line.part.extend_from_slice(bytes);
        while let Some(end) = line.part.iter().position(|&byte| byte == b'\n') {
            let answer: Vec<u8> = line.part.drain(..=end).collect();
            let Some(tickets) = line.written.pop_front() else { violated!("Redis answers what was not written") };
            if answer.starts_with(b"-") {
                self.tally.add(What::push_refused, tickets.len());
                self.expected.failed.extend(tickets);
            }
        }
        self.tally.add(What::resp_cut, usize::from(!line.part.is_empty()));
    }

    /// A link is given up for what was said where a talker has claimed what it wants, and only there.
    fn end_refused(&mut self, link: LinkId, has_claimed: bool) {
        match (self.line(link).wire.is_none(), has_claimed) {
            (true, false) => violated!("{link:?} was given up for what Redis said"),
            (false, true) => violated!("{link:?} listens to who fills its memory before the account is accepted"),
            _ => {}
        }
    }

    /// The network breaks a connection.
    pub(super) fn break_link(&mut self, link: LinkId) {
        if self.line(link).wire.is_none() {
            return;
        }
        note!(self, "{link:?} breaks");
        self.expect_end(link);
        let generation = self.line(link).generation;
        if self.network.percent(50)
            && let Some(room) = self.links.as_mut().and_then(|links| links.room(link))
        {
            return self.links(|links, told| links.received(told, link, generation, room, Ok(Some(0))));
        }
        let reset = Trouble::Host(io::ErrorKind::ConnectionReset.into());
        self.links(|links, told| links.broke(told, link, generation, &reset));
    }

    /// Time has passed for the links: an attempt that takes too long has failed.
    pub(super) fn tick_links(&mut self) {
        let now = self.now;
        let mut failed = VecDeque::new();
        for link in [POP, PUSH[0], PUSH[1]] {
            let line = self.line(link);
            let is_attempt = line.attempt.is_some() || line.wire.is_some() && !line.is_greeted;
            if is_attempt && now >= line.until {
                self.expect_end(link);
                self.tally.one(What::connect_timed_out);
                failed.append(&mut self.expected.failed);
            }
        }
        self.expected.failed = failed;
        self.links(|links, told| links.tick(told));
        for link in PUSH {
            let waits = self.line(link).is_greeted && !self.line(link).written.is_empty();
            if waits && self.links.as_ref().is_some_and(|links| !links.receives(link, false)) {
                violated!("{link:?} does not wait for what Redis says of its pushes");
            }
        }
    }

    /// Bytes of the messages that wait for their links.
    pub(super) fn bus_bytes(&self) -> Option<u64> {
        self.links.as_ref().map(Links::bytes)
    }
}

impl Line {
    /// Takes the greeting's part of what was received; what comes behind it, once it is over.
    fn greet(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.is_greeted {
            return Some(bytes.to_vec());
        }
        let wire = self.wire.as_mut()?;
        wire.read += bytes.len();
        let greeting = self.greeting.filter(|greeting| wire.read >= *greeting)?;
        self.is_greeted = true;
        Some(bytes[bytes.len() - (wire.read - greeting)..].to_vec())
    }
}
