//! The shell of the bus on a core's ring: one link that pushes for each domain in use, one that pops the core's list.
//!
//! A link is given up only when TCP says so (reset, FIN, `TCP_USER_TIMEOUT`), never for silence: Redis serves a dead
//! reader first, and a hasty reconnection loses replies.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evergate_proto::clients::from_bus::TOGETHER;
use evergate_proto::clients::router_list::RouterNews;
use evergate_proto::clients::table::Clients;
use evergate_proto::counters::{self, LinkState};
use evergate_proto::redis::inbox::{Inbox, Unexpected};
use evergate_proto::redis::outbox::{Outbox, Push};
use evergate_proto::redis::refusals::{self, Refusals};
use evergate_proto::redis::silence::Silence;
use monoio::time::{sleep, timeout};
use smallvec::SmallVec;

use super::acks::{self, Acks};
use super::connection::{self, Greeted, Input};
use crate::core::Core;
use crate::core::notify::Notify;
use crate::core::stream::Stream;

/// The first wait between two attempts to connect, ms; doubles up to `bus_backoff_max_ms`.
const BACKOFF_MS: u64 = 50;
/// How long a link whose pops were refused before must go without another refusal to count as up.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);
/// How long nothing is popped by a core that is out of buffers, at a time.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// What every link must know.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The account on every domain's Redis.
    pub username: String,
    /// Its password.
    pub passwd: String,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait between two attempts, ms.
    pub backoff_max_ms: u64,
    /// `TCP_USER_TIMEOUT` of the links.
    pub dead: Duration,
    /// Silence after which a link that pushes is probed.
    pub probe: Duration,
}

/// The links of one core to one bus domain: the one that pushes, and for the primary domain the one that pops.
#[derive(Debug)]
pub struct Link {
    /// The index of the domain.
    pub domain: usize,
    /// What waits to be pushed, and what waits for its confirmation.
    pub outbox: RefCell<Outbox>,
    /// Something waits in the outbox, the connection broke, or the core ends.
    pub(super) wake: Notify,
    /// The confirmations of what was pushed.
    pub(super) acks: Acks,
    /// Whether Redis takes pushes.
    pub(super) refusals: RefCell<Refusals>,
    /// How long Redis has confirmed nothing.
    pub(super) silence: RefCell<Silence>,
    /// Why a link could not be opened last, or was given up by Redis.
    trouble: RefCell<String>,
    /// The link that pushes.
    push: Cell<LinkState>,
    /// The link that pops; `Up` where there is none.
    pop: Cell<LinkState>,
    /// The tasks have been started.
    started: Cell<bool>,
    /// The highest connection number that this Redis has given us: a lower one means that it restarted.
    redis_id: Cell<i64>,
    /// How often this Redis was seen to have restarted.
    restarts: Cell<u32>,
    /// The next batches are the last: the core ends.
    ending: Cell<bool>,
    /// When Redis was asked about the router's list last, ms.
    asked_ms: Cell<u64>,
}

impl Link {
    /// The links to `domain`, not started.
    pub fn new(domain: usize) -> Self {
        Self {
            domain,
            outbox: RefCell::default(),
            wake: Notify::default(),
            acks: Acks::default(),
            refusals: RefCell::default(),
            silence: RefCell::default(),
            trouble: RefCell::default(),
            push: Cell::new(LinkState::Connecting),
            pop: Cell::new(if domain == 0 { LinkState::Connecting } else { LinkState::Up }),
            started: Cell::new(false),
            redis_id: Cell::new(0),
            restarts: Cell::new(0),
            ending: Cell::new(false),
            asked_ms: Cell::new(0),
        }
    }

    /// Queues a message; it goes out with the next batch.
    pub fn push(&self, core: &Rc<Core>, push: Push) {
        self.outbox.borrow_mut().push(push);
        self.start(core);
        self.wake.notify();
    }

    /// Redis has told something of the router's list, which is on the primary domain.
    pub(super) fn heard_of_router(&self, core: &Rc<Core>, news: &[RouterNews]) {
        if self.domain == 0 && !news.is_empty() {
            core.clients(|clients| clients.heard_of_router(news));
        }
    }

    /// Somebody would like to know whether the router has taken what is in its list: Redis is asked, once a millisecond at most.
    pub fn ask_about_router(&self, core: &Core) {
        if self.asked_ms.replace(core.now_ms()) < core.now_ms() && !self.outbox.borrow().is_asking() {
            self.outbox.borrow_mut().ask(Rc::clone(&core.names.router));
            self.wake.notify();
        }
    }

    /// Starts the tasks of the links, once.
    pub fn start(&self, core: &Rc<Core>) {
        if !self.started.replace(true) {
            let domain = self.domain;
            monoio::spawn(push_loop(Rc::clone(core), domain));
            if domain == 0 {
                monoio::spawn(pop_loop(Rc::clone(core)));
            }
        }
    }

    /// Whether the tasks have been started.
    pub fn is_started(&self) -> bool {
        self.started.get()
    }

    /// The connection whose confirmations are waited for on the ring.
    pub fn listens(&self) -> Option<Rc<Stream>> {
        self.acks.listens()
    }

    /// Time has passed: a link that has been quiet is listened to, and probed after a while.
    pub fn tick(&self, core: &Core) {
        let silent_ms = self.silence.borrow_mut().tick(core.now_ms());
        if self.domain == 0 {
            counters::set(&core.published().bus_silent_ms, silent_ms);
        }
        if !self.started.get() || self.push.get() != LinkState::Up {
            return;
        }
        let quiet_ms = self.acks.quiet_ms(core.now_ms());
        // A refusal is told within a tick. Later than that the end of the connection is waited for.
        if quiet_ms >= acks::QUIET_MS || self.ending.get() || !self.outbox.borrow().is_confirmed() {
            self.acks.listen();
        }
        let outbox = &self.outbox;
        // While others are under way, they show it.
        let is_unused = outbox.borrow().is_empty() && outbox.borrow().is_confirmed();
        if is_unused && self.refusals.borrow_mut().wants_probe(core.now_ms()) {
            // What was refused tells nothing of now, and where the node was taken out nobody else asks.
            let probe = Push { key: Rc::clone(&core.probe_key), message: b"probe".to_vec(), ticket: None };
            outbox.borrow_mut().push(probe);
            outbox.borrow_mut().delete(Rc::clone(&core.probe_key));
            self.wake.notify();
        }
        if is_unused && Duration::from_millis(quiet_ms) >= core.link_options.probe {
            outbox.borrow_mut().delete(Rc::clone(&core.probe_key));
            self.wake.notify();
        }
    }

    /// The core ends: deletes the core's own list with the last batch.
    pub fn end(&self, own: Option<Rc<str>>) {
        if let Some(own) = own {
            self.outbox.borrow_mut().delete(own);
        }
        self.ending.set(true);
        self.wake.notify();
    }

    /// True when nothing waits for this link any more, or nothing can be done about it.
    pub fn is_done(&self) -> bool {
        let outbox = self.outbox.borrow();
        !self.started.get() || self.push.get() != LinkState::Up || (outbox.is_empty() && outbox.is_confirmed())
    }

    /// Both links, as one state.
    pub fn state(&self) -> LinkState {
        match (self.push.get(), self.pop.get()) {
            (LinkState::Up, LinkState::Up) => LinkState::Up,
            (LinkState::Away, _) | (_, LinkState::Away) => LinkState::Away,
            _ => LinkState::Connecting,
        }
    }

    /// The same, and whether Redis takes pushes.
    pub fn shown_state(&self) -> LinkState {
        match self.state() {
            LinkState::Up if self.refused_since_ms() > 0 => LinkState::Refusing,
            state => state,
        }
    }

    /// Since when Redis has refused every push, ms; 0 = it takes them, as far as is known.
    pub fn refused_since_ms(&self) -> u64 {
        self.refusals.borrow().since_ms()
    }

    /// Why the links are of no use, with the remedy; empty while they are of use.
    pub fn trouble(&self) -> String {
        match self.state() {
            LinkState::Up => self.refusals.borrow().why().unwrap_or_default(),
            _ => self.trouble.borrow().clone(),
        }
    }
}

/// Which of the two links of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Push,
    Pop,
}

impl Half {
    /// What it does, for the log.
    fn verb(self) -> &'static str {
        match self {
            Self::Push => "pushes to",
            Self::Pop => "pops from",
        }
    }
}

async fn greet(core: &Core, domain: usize, half: Half, attempt: u32) -> io::Result<Greeted> {
    let address = core
        .resolver
        .address(domain, attempt as usize)
        .ok_or_else(|| io::Error::other("the name is not resolved yet"))?;
    let own = core.names.address.as_bytes();
    match half {
        Half::Push => connection::greet(address, &core.link_options, &[b"DEL", core.probe_key.as_bytes()]).await,
        // Takes nothing, but needs what a pop needs.
        Half::Pop => connection::greet(address, &core.link_options, &[b"LPOP", own, b"0"]).await,
    }
}

/// Connects until it works; the bus counts as away as soon as an attempt has failed, and as up again where `is_up`.
async fn connect(core: &Rc<Core>, domain: usize, half: Half, is_up: bool) -> Option<Greeted> {
    let link = &core.links[domain];
    let mut backoff_ms = BACKOFF_MS;
    let mut failures = 0_u32;
    loop {
        if link.ending.get() {
            return None;
        }
        let (known_id, known_restarts) = (link.redis_id.get(), link.restarts.get());
        let attempt = timeout(core.link_options.connect_timeout, greet(core, domain, half, failures)).await;
        let error = match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(greeted) => {
                let id = greeted.id;
                if let Some(word) = core.shared().bus_opened(core.domain_name(domain)) {
                    tracing::info!("bus: {} is {word}", core.domain_name(domain));
                }
                // The two links of a domain connect side by side: their numbers are compared with what was known before
                // the attempt, and a restart that the other has found is not found twice.
                let emptied = id < known_id && link.restarts.get() == known_restarts;
                link.redis_id.set(if emptied { id } else { link.redis_id.get().max(id) });
                if emptied {
                    link.restarts.set(known_restarts.wrapping_add(1));
                    tracing::warn!("bus: {} was restarted; what was pending is over", core.domain_name(domain));
                    core.clients(|clients| clients.bus_emptied(domain));
                }
                if is_up {
                    set_state(core, domain, half, LinkState::Up);
                }
                return Some(greeted);
            }
            Err(error) => error,
        };
        if failures == 0 {
            counters::add(&core.counts().bus_links_lost, 1);
        }
        let name = core.domain_name(domain);
        let text = error.to_string();
        let text = text.trim_end_matches('.');
        if core.shared().bus_failed(name, text) {
            if is_refusal(&error) {
                tracing::warn!("bus: the link that {} {name} cannot be opened: {text}; trying again", half.verb());
            } else {
                tracing::warn!("bus: {name} cannot be reached: {text}; trying again");
            }
        }
        failures = failures.saturating_add(1);
        text.clone_into(&mut link.trouble.borrow_mut());
        core.resolver.resolve_again();
        set_state(core, domain, half, LinkState::Away);
        if half == Half::Push {
            let unsent = link.outbox.borrow_mut().take_unsent();
            link.heard_of_router(core, &[RouterNews::Lost]);
            let text = core.names.away(domain);
            core.clients(|clients| unsent.into_iter().for_each(|ticket| clients.push_failed(ticket, &text)));
        }
        // Jitter: the cores of all gateways of a site must not come back in step.
        sleep(Duration::from_millis(backoff_ms / 2 + core.jitter(backoff_ms / 2 + 1))).await;
        backoff_ms = (backoff_ms * 2).min(core.link_options.backoff_max_ms.max(1));
    }
}

fn set_state(core: &Rc<Core>, domain: usize, half: Half, state: LinkState) {
    let link = &core.links[domain];
    let half = if half == Half::Push { &link.push } else { &link.pop };
    half.set(state);
    core.link_changed(domain);
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData)
}

/// A link ended. One that did so at once, or by a refusal, is given a pause, and the bus counts as away meanwhile.
async fn ended(core: &Rc<Core>, domain: usize, half: Half, began_ms: u64, error: &io::Error) {
    if is_refusal(error) {
        *core.links[domain].trouble.borrow_mut() = error.to_string();
        set_state(core, domain, half, LinkState::Away);
        sleep(Duration::from_millis(core.link_options.backoff_max_ms)).await;
    } else {
        set_state(core, domain, half, LinkState::Connecting);
        if core.now_ms() < began_ms + BACKOFF_MS {
            sleep(Duration::from_millis(BACKOFF_MS)).await;
        }
    }
}

/// The link that pushes, for the life of the core.
async fn push_loop(core: Rc<Core>, domain: usize) {
    while let Some(greeted) = connect(&core, domain, Half::Push, true).await {
        let began_ms = core.now_ms();
        let error = acks::push(&core, domain, greeted).await;
        let link = &core.links[domain];
        link.push.set(LinkState::Connecting);
        let unconfirmed = link.outbox.borrow_mut().take_unconfirmed();
        link.heard_of_router(&core, &[RouterNews::Lost]);
        if link.ending.get() {
            return;
        }
        if unconfirmed.is_empty() {
            tracing::debug!("bus: the idle link that pushes to {} ended: {error}", core.domain_name(domain));
        } else {
            counters::add(&core.counts().bus_links_lost, 1);
            let name = core.domain_name(domain);
            tracing::warn!(unconfirmed = unconfirmed.len(), "bus: the link that pushes to {name} broke: {error}");
            let text = format!("the link to the bus broke ({error}); this may or may not have been carried out");
            core.clients(|clients| unconfirmed.into_iter().for_each(|ticket| clients.push_failed(ticket, &text)));
        }
        ended(&core, domain, Half::Push, began_ms, &error).await;
    }
}

/// The link that pops the core's list, for the life of the core.
async fn pop_loop(core: Rc<Core>) {
    let (mut lost, mut refused) = (false, false);
    while let Some(greeted) = connect(&core, 0, Half::Pop, !refused).await {
        if lost {
            core.clients(Clients::pops_back);
        }
        let began_ms = core.now_ms();
        if greeted.lacks.is_some() && core.shared().bus_lacks_counts(core.domain_name(0)) {
            tracing::warn!(
                "bus: the Redis of {} is older than 6.2 and has no LPOP with a count: several BLPOPs are queued instead, which \
                 costs it more; upgrade it when you can",
                core.domain_name(0)
            );
        }
        core.waits.set_pops(Some(Rc::clone(&greeted.stream)));
        let error = pop(&core, greeted, &mut refused).await;
        core.waits.set_pops(None);
        lost = true;
        let link = &core.links[0];
        link.pop.set(LinkState::Connecting);
        if link.ending.get() {
            return;
        }
        core.clients(Clients::pops_lost);
        tracing::warn!("bus: the link that pops from {} broke: {error}", core.domain_name(0));
        counters::add(&core.counts().bus_links_lost, 1);
        // An account that may log in and not pop (an ACL, a replica, a key of another type) is refused again at once.
        refused = is_refusal(&error);
        ended(&core, 0, Half::Pop, began_ms, &error).await;
    }
}

/// Pops until the connection breaks, which it returns the reason of. After a refusal (`refused`, cleared here) the link
/// is up only when its first pops were not refused for a while.
async fn pop(core: &Rc<Core>, greeted: Greeted, refused: &mut bool) -> io::Error {
    let Greeted { stream, mut input, lacks, .. } = greeted;
    let own = &core.names.address;
    let mut inbox = if lacks.is_some() { Inbox::without_counts(own) } else { Inbox::new(own) };
    loop {
        // Deliver first: what it uses up of the pairs queued ahead must be topped up before the wait for more.
        if let Err(error) = deliver(core, &mut inbox, &mut input) {
            return error;
        }
        let mut commands = Vec::new();
        let written = inbox.write(&mut commands);
        if written > 0 {
            counters::add(&core.counts().bus_commands, written as u64);
            if let (Err(error), _) = stream.write(commands).await {
                return error;
            }
        }
        if *refused && timeout(REFUSAL_WAIT, stream.readable()).await.is_err() {
            *refused = false;
            set_state(core, 0, Half::Pop, LinkState::Up);
            tracing::info!("bus: {} lets the gateway pop again", core.domain_name(0));
        }
        // Redis has the room that this core has not. Those who hold too much are cut at once, so that it is not for long.
        while core.is_full() && !core.links[0].ending.get() {
            sleep(FULL_PAUSE).await;
        }
        if let Err(error) = input.fill(&stream).await {
            return error;
        }
    }
}

/// Hands on the messages that are complete.
fn deliver(core: &Rc<Core>, inbox: &mut Inbox, input: &mut Input) -> io::Result<()> {
    let unexpected = |error| match error {
        Unexpected::Refused(text) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("Redis refused a pop: {}", refusals::explain(&text)),
        ),
        Unexpected::Shape => io::Error::new(io::ErrorKind::InvalidData, "Redis answered what was not asked"),
    };
    loop {
        let mut messages = SmallVec::<[&[u8]; TOGETHER]>::new();
        let more = input.each(|token| {
            messages.extend(inbox.token(token).map_err(unexpected)?);
            Ok(messages.len() == TOGETHER)
        });
        if !messages.is_empty() {
            let mut rest = &messages[..];
            while !rest.is_empty() {
                let taken = core.turn(rest.len(), |clients| clients.from_bus(rest));
                rest = &rest[taken..];
                if core.is_full() {
                    core.clients(Clients::cut_holders);
                }
            }
        }
        if !more? {
            return Ok(());
        }
    }
}
