//! The life of a core's links to the bus: for each domain in use one that pushes, for the primary domain one that pops besides.
//!
//! What is decided here: when to connect and for how long to wait, whether what answers is a Redis that takes our account, whether it
//! has restarted, what is written and when its answers are read, what a broken link means for whom. The sockets are the event loop's (its
//! `wires`): it does what [`Links::next_want`] asks, tells what came of it, and once a turn takes what is to be written
//! ([`Links::write`]).
//!
//! A link is given up only when TCP says so (reset, FIN, `TCP_USER_TIMEOUT`), never for silence: Redis serves a dead reader first,
//! and a hasty reconnection loses replies.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{Connection, Half, Stage};
use super::domain::Domain;
use super::outbox::Push;
use super::served::Served;
use super::trouble::Trouble;
use crate::clients::limits::BusNames;
use crate::counters::{self, LinkState};

/// The first wait between two attempts to connect, ms; doubles up to `backoff_max_ms`. A link that ended as soon as this after it
/// was opened is given the same pause.
pub(super) const BACKOFF_MS: u64 = 50;

/// What every link must know.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The account on every domain's Redis.
    pub username: String,
    /// Its password.
    pub passwd: String,
    /// The longest wait for a connection that is greeted, ms.
    pub connect_max_ms: u64,
    /// The longest wait between two attempts, ms.
    pub backoff_max_ms: u64,
    /// Silence after which a link that pushes is probed, ms.
    pub probe_ms: u64,
}

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    /// The index of its domain.
    pub domain: usize,
    /// Which of the domain's.
    pub half: Half,
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Open a connection, and tell [`Links::connected`].
    Connect {
        /// For this link.
        link: LinkId,
        /// Names the attempt: what is told of another is ignored.
        generation: u32,
        /// How many have failed in a row: each takes the next of several addresses.
        attempt: u32,
    },
    /// Give the link's connection up.
    Close {
        /// Its link.
        link: LinkId,
        /// Its attempt.
        generation: u32,
    },
}

/// All links of a core.
#[derive(Debug)]
pub struct Links {
    pub(super) options: LinkOptions,
    pub(super) names: Rc<BusNames>,
    /// A list that is never filled: deleting it shows that a link is alive.
    pub(super) probe_key: Rc<str>,
    pub(super) domains: Vec<Domain>,
    pub(super) wants: VecDeque<Want>,
    /// The next batches are the last: the core ends.
    pub(super) ending: bool,
    /// When Redis was asked about the router's list last, ms.
    asked_ms: u64,
    /// The links are not shown as they are.
    pub(super) unpublished: bool,
    /// The state of a small random generator: the cores of all gateways of a site must not come back in step.
    pub(super) random: u64,
}

impl Links {
    /// None is wanted.
    pub fn new(options: LinkOptions, names: Rc<BusNames>) -> Self {
        let seed = names
            .address
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self {
            options,
            probe_key: format!("{}:probe", names.address).into(),
            domains: (0..names.domains.len()).map(|index| Domain::new(index, &names)).collect(),
            names,
            wants: VecDeque::new(),
            ending: false,
            asked_ms: 0,
            unpublished: true,
            random: seed | 1,
        }
    }

    /// The links to the primary domain are wanted.
    pub fn begin(&mut self, now_ms: u64) {
        self.start(0, now_ms);
    }

    /// What the shell is to do next.
    pub fn next_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// Whether the shell has something to do.
    pub fn has_wants(&self) -> bool {
        !self.wants.is_empty()
    }

    /// Which attempt the link's connection is; `None` while there is none, nor one under way.
    pub fn generation(&self, link: LinkId) -> Option<u32> {
        let connection = self.connection(link)?;
        connection.has_socket().then_some(connection.generation)
    }

    fn connection(&self, link: LinkId) -> Option<&Connection> {
        let domain = &self.domains[link.domain];
        if link.half == Half::Push { Some(&domain.push) } else { domain.pop.as_ref() }
    }

    /// Every link that there may be.
    pub fn all(&self) -> impl Iterator<Item = LinkId> + use<> {
        let domains = self.domains.len();
        std::iter::once(LinkId { domain: 0, half: Half::Pop })
            .chain((0..domains).map(|domain| LinkId { domain, half: Half::Push }))
    }

    /// Queues a message; it goes out with the next batch.
    pub fn push(&mut self, domain: usize, push: Push, now_ms: u64) {
        self.domains[domain].outbox.push(push);
        self.start(domain, now_ms);
    }

    /// Somebody would like to know whether the router has taken what is in its list: Redis is asked, once a millisecond at most.
    pub fn ask_about_router(&mut self, now_ms: u64) {
        let primary = &mut self.domains[0];
        if std::mem::replace(&mut self.asked_ms, now_ms) < now_ms && !primary.outbox.is_asking() {
            primary.outbox.ask(Rc::clone(&self.names.router));
        }
    }

    /// Messages that wait to be written, bytes.
    pub fn bytes(&self) -> u64 {
        self.domains.iter().map(|domain| domain.outbox.bytes() as u64).sum()
    }

    /// Whether what is told of `generation` is told of the connection that the link has.
    pub(super) fn is_current(&self, link: LinkId, generation: u32) -> bool {
        self.generation(link) == Some(generation)
    }

    /// Whether something is to be received on a link now. What comes for nobody in a hurry stays in the kernel: confirmations are read
    /// before every eighth batch and once a tick, which spares a busy link a wake-up for each batch, and no reply is taken while the
    /// core is full (`is_full`).
    pub fn receives(&self, link: LinkId, is_full: bool) -> bool {
        let Some(connection) = self.connection(link) else { return false };
        !connection.input.is_lent()
            && match (&connection.stage, link.half) {
                (Stage::Greeting { .. }, _) => connection.greets.is_empty(),
                (Stage::Up { .. }, Half::Push) => self.domains[link.domain].listens,
                (Stage::Up { .. }, Half::Pop) => !is_full || self.ending,
                _ => false,
            }
    }

    /// Room to receive into; it comes back with [`Self::received`]. `None` where somebody has it already.
    pub fn room(&mut self, link: LinkId) -> Option<Vec<u8>> {
        let connection = self.domains[link.domain].connection_mut(link.half)?;
        (connection.has_socket() && !connection.input.is_lent()).then(|| connection.input.take_room())
    }

    /// Bytes that a long message that has begun to come still lacks: nothing can be done before they are here. 0: none has.
    pub fn missing(&self, link: LinkId) -> usize {
        self.connection(link).map_or(0, |connection| connection.input.missing())
    }

    /// What a receive brought; `None` = nothing has come. Of replies, [`Self::deliver`] hands on what is whole.
    pub fn received(
        &mut self,
        clients: &mut impl Served,
        link: LinkId,
        generation: u32,
        buffer: Vec<u8>,
        result: Result<Option<usize>, Trouble>,
    ) {
        let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { return };
        if connection.generation == generation && connection.input.is_lent() {
            connection.input.give(buffer);
        }
        if !self.is_current(link, generation) {
            return;
        }
        match result {
            Ok(None) => {}
            Ok(Some(0)) => self.broke(clients, link, generation, &Trouble::Closed),
            Ok(Some(_)) => self.read(clients, link, generation),
            Err(trouble) => self.broke(clients, link, generation, &trouble),
        }
    }

    /// Reads what has come, but for replies of a link that is up.
    fn read(&mut self, clients: &mut impl Served, link: LinkId, generation: u32) {
        let domain = &mut self.domains[link.domain];
        let Some(connection) = domain.connection_mut(link.half) else { return };
        if let Stage::Greeting { greeting, known, .. } = &mut connection.stage {
            let known = *known;
            match greeting.read(&mut connection.input) {
                Ok(None) => return,
                Ok(Some(greeted)) => self.opened(clients, link, known, &greeted),
                Err(trouble) => return self.failed(clients, link, &trouble),
            }
        }
        if link.half == Half::Push {
            let domain = &mut self.domains[link.domain];
            domain.listens = false;
            if let Err(trouble) = self.confirm(clients, link.domain) {
                return self.broke(clients, link, generation, &trouble);
            }
            let domain = &mut self.domains[link.domain];
            domain.listens |= domain.outbox.is_asking() || domain.trip.is_under_way();
        }
    }

    /// Whether [`Self::write`] has something.
    pub fn writes(&self, link: LinkId) -> bool {
        let Some(connection) = self.connection(link) else { return false };
        let domain = &self.domains[link.domain];
        let waits = match link.half {
            Half::Push => !domain.outbox.is_empty(),
            Half::Pop => domain.inbox.wants_pops(),
        };
        !connection.is_sending && (!connection.greets.is_empty() || connection.is_up() && waits)
    }

    /// Appends what is to be written on a link now, unless something is being written; says whether that is anything.
    pub fn write(&mut self, clients: &mut impl Served, link: LinkId, out: &mut Vec<u8>) -> bool {
        let domain = &mut self.domains[link.domain];
        let Some(connection) = domain.connection_mut(link.half) else { return false };
        if connection.is_sending {
            return false;
        }
        if !connection.greets.is_empty() {
            out.append(&mut connection.greets);
            connection.is_sending = true;
            return true;
        }
        if !connection.is_up() {
            return false;
        }
        let commands = match link.half {
            Half::Push if domain.outbox.is_empty() => 0,
            Half::Push => {
                let (waited, unconfirmed) = (domain.outbox.len(), domain.outbox.unconfirmed());
                let commands = domain.outbox.write(out);
                let pushed = (waited - domain.outbox.len()) as u64;
                if pushed > 0 {
                    counters::add(&clients.context().counts().bus_pushes, pushed);
                    clients.context().core().histograms.bus_push.count(pushed);
                    domain.trip.pushed(unconfirmed, clients.context().now_us());
                }
                // Before the kernel has taken it: where Redis reads nothing any more, that may never be.
                domain.silence.wrote(clients.context().now_ms());
                // The answer that is timed is waited for, too; most are read when that costs no wake-up.
                domain.listens |= domain.outbox.is_asking() || domain.trip.is_under_way();
                domain.outbox.take_used().for_each(|buffer| clients.recycle(buffer));
                commands
            }
            Half::Pop => domain.inbox.write(out),
        };
        counters::add(&clients.context().counts().bus_commands, commands as u64);
        let writes = commands > 0;
        if let Some(connection) = domain.connection_mut(link.half) {
            connection.is_sending = writes;
        }
        writes
    }

    /// Whether what [`Self::write`] gave just now is a push whose answer is timed; then [`Self::timed_from`] should follow.
    pub fn wants_time(&mut self, link: LinkId) -> bool {
        link.half == Half::Push && self.domains[link.domain].trip.take_fresh()
    }

    /// It is written at `now_us`.
    pub fn timed_from(&mut self, link: LinkId, now_us: u64) {
        self.domains[link.domain].trip.began(now_us);
    }

    /// What [`Self::write`] gave has been taken by the kernel, or never will be.
    pub fn written(&mut self, clients: &mut impl Served, link: LinkId, generation: u32, result: Result<(), Trouble>) {
        if !self.is_current(link, generation) {
            return;
        }
        let now_ms = clients.context().now_ms();
        let domain = &mut self.domains[link.domain];
        let Some(connection) = domain.connection_mut(link.half) else { return };
        connection.is_sending = false;
        if connection.is_up() && link.half == Half::Push {
            domain.outbox.written();
            domain.wrote_ms = now_ms;
            domain.listens |= domain.outbox.is_asking();
        }
        if let Err(trouble) = result {
            self.broke(clients, link, generation, &trouble);
        }
    }

    /// A connection broke, or one under way cannot be opened.
    pub fn broke(&mut self, clients: &mut impl Served, link: LinkId, generation: u32, trouble: &Trouble) {
        if !self.is_current(link, generation) {
            return;
        }
        let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { return };
        let Stage::Up { since_ms } = connection.stage else { return self.failed(clients, link, trouble) };
        self.close(link);
        match link.half {
            Half::Push => self.pushes_ended(clients, link.domain, trouble),
            Half::Pop => self.pops_ended(clients, trouble),
        }
        if self.ending {
            return;
        }
        // A link that ended at once, or by a refusal, is given a pause, and the bus counts as away meanwhile.
        let now_ms = clients.context().now_ms();
        let until_ms = if trouble.is_refusal() {
            self.domains[link.domain].trouble = trouble.to_string();
            self.set_state(clients, link, LinkState::Away);
            now_ms + self.options.backoff_max_ms
        } else {
            self.set_state(clients, link, LinkState::Connecting);
            if now_ms < since_ms + BACKOFF_MS { now_ms + BACKOFF_MS } else { now_ms }
        };
        self.wait(link, now_ms, until_ms);
    }

    /// Has the shell give the connection up; whatever is still told of it is of no interest.
    pub(super) fn close(&mut self, link: LinkId) {
        let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { return };
        self.wants.push_back(Want::Close { link, generation: connection.generation });
        *connection = Connection {
            generation: connection.generation.wrapping_add(1),
            failures: connection.failures,
            backoff_ms: connection.backoff_ms,
            has_been_up: connection.has_been_up,
            ..Domain::connection_of(link.half)
        };
    }

    /// A link is in another state: tells the clients whether messages are taken.
    pub(super) fn set_state(&mut self, clients: &mut impl Served, link: LinkId, state: LinkState) {
        let domain = &mut self.domains[link.domain];
        match link.half {
            Half::Push => domain.push_state = state,
            Half::Pop => domain.pop_state = state,
        }
        let state = domain.state();
        let context = clients.context();
        context.take_messages(link.domain, state != LinkState::Away);
        if link.domain == 0 {
            if state == LinkState::Up {
                context.bus_is_up();
            }
            let (core, now_ms) = (context.core(), context.now_ms());
            if state == LinkState::Up {
                core.bus_ever_up.store(true, Relaxed);
                core.bus_away_since_ms.store(0, Relaxed);
            } else if core.bus_away_since_ms.load(Relaxed) == 0 {
                core.bus_away_since_ms.store(now_ms.max(1), Relaxed);
            }
        }
        self.unpublished = true;
    }

    /// Time has passed.
    pub fn tick(&mut self, clients: &mut impl Served) {
        let now_ms = clients.context().now_ms();
        for link in self.all() {
            let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { continue };
            match connection.stage {
                Stage::Waiting { .. } if self.ending => connection.stage = Stage::Off,
                Stage::Waiting { until_ms } if now_ms >= until_ms => self.connect(link, now_ms),
                Stage::Connecting { until_ms, .. }
                | Stage::Agreeing { until_ms, .. }
                | Stage::Greeting { until_ms, .. }
                    if now_ms >= until_ms =>
                {
                    self.failed(clients, link, &Trouble::TimedOut);
                }
                Stage::Up { .. } if link.half == Half::Pop => self.tick_pops(clients, now_ms),
                _ => {}
            }
        }
        for index in 0..self.domains.len() {
            let silent_ms = self.domains[index].silence.tick(now_ms);
            if index == 0 {
                counters::set(&clients.context().core().bus_silent_ms, silent_ms);
            }
            self.tick_pushes(index, now_ms);
        }
        self.publish(clients.context().core());
    }

    /// The core ends: what waits goes out, its own list is deleted, and no link is opened any more.
    pub fn end(&mut self) {
        self.domains[0].outbox.delete(self.names.address.as_str().into());
        self.ending = true;
    }

    /// True when nothing waits for the links any more, or nothing can be done about it.
    pub fn are_done(&self) -> bool {
        self.domains.iter().all(|domain| {
            domain.push_state != LinkState::Up || (domain.outbox.is_empty() && domain.outbox.is_confirmed())
        })
    }

    /// Whether nothing is under way but waiting: no link is being opened, nothing waits to be written.
    pub fn are_quiet(&self) -> bool {
        self.domains
            .iter()
            .all(|domain| !domain.is_started() || domain.state() == LinkState::Up && domain.outbox.is_empty())
    }

    /// Shows other threads how the links are, unless that has been shown. Where one of them is just reading, the next tick tries again.
    pub fn publish(&mut self, core: &counters::Core) {
        if !self.unpublished {
            return;
        }
        let shown = |domain: &Domain| match domain.state() {
            LinkState::Up if domain.refusals.since_ms() > 0 => LinkState::Refusing,
            state => state,
        };
        let primary = &self.domains[0];
        core.bus.store(shown(primary) as u8, Relaxed);
        counters::set(&core.bus_refused_since_ms, primary.refusals.since_ms());
        let (Ok(mut trouble), Ok(mut others)) = (core.bus_trouble.try_lock(), core.other_domains.try_lock()) else {
            return;
        };
        *trouble = match primary.state() {
            LinkState::Up => primary.refusals.why().unwrap_or_default(),
            _ => primary.trouble.clone(),
        };
        *others = self.domains[1..]
            .iter()
            .zip(&self.names.domains[1..])
            .filter(|(domain, _)| domain.is_started())
            .map(|(domain, name)| (name.clone(), shown(domain)))
            .collect();
        self.unpublished = false;
    }
}
