//! The shell of the bus on a core's ring: one link that pushes for each domain in use, one that pops the core's list.
//!
//! A link is given up only when TCP says so (reset, FIN, `TCP_USER_TIMEOUT`), never for silence: Redis serves a dead
//! reader first, and a hasty reconnection loses replies.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use monoio::buf::IoBufMut;
use monoio::time::{sleep, timeout};

use super::inbox::{Inbox, Unexpected};
use super::outbox::{Answer, Outbox, Push};
use super::resp::{self, Token};
use crate::core::Core;
use crate::core::notify::Notify;
use crate::core::stream::Stream;
use crate::counters::{self, LinkState};

/// Bytes that a link reads at once; more for a message that is known to be larger. It also bounds a turn: what one
/// read brought is handed to clients, then their sends have their turn before the next read.
const READ_BYTES: usize = 32 * 1024;
/// The first wait between two attempts to connect, ms; doubles up to `bus_backoff_max_ms`.
const BACKOFF_MS: u64 = 50;

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
    wake: Notify,
    /// The link that pushes.
    push: Cell<LinkState>,
    /// The link that pops; `Up` where there is none.
    pop: Cell<LinkState>,
    /// The tasks have been started.
    started: Cell<bool>,
    /// The highest connection number that this Redis has given us: a lower one means that it restarted.
    redis_id: Cell<i64>,
    /// The next batches are the last: the core ends.
    ending: Cell<bool>,
}

impl Link {
    /// The links to `domain`, not started.
    pub fn new(domain: usize) -> Self {
        Self {
            domain,
            outbox: RefCell::default(),
            wake: Notify::default(),
            push: Cell::new(LinkState::Connecting),
            pop: Cell::new(if domain == 0 { LinkState::Connecting } else { LinkState::Up }),
            started: Cell::new(false),
            redis_id: Cell::new(0),
            ending: Cell::new(false),
        }
    }

    /// Queues a message; it goes out with the next batch.
    pub fn push(&self, core: &Rc<Core>, push: Push) {
        self.outbox.borrow_mut().push(push);
        self.start(core);
        self.wake.notify();
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
}

/// Which of the two links of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Push,
    Pop,
}

/// A connection whose account is accepted, and what it received behind the greeting.
struct Greeted {
    stream: Rc<Stream>,
    input: Input,
}

/// Received bytes and how far they have been read.
#[derive(Default)]
struct Input {
    buffer: Vec<u8>,
    at: usize,
}

impl Input {
    /// Reads more from `stream` behind what is there.
    async fn fill(&mut self, stream: &Stream) -> io::Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            if self.buffer.capacity() > 16 * READ_BYTES {
                self.buffer = Vec::new();
            }
        }
        let wanted = resp::wanted(&self.buffer, self.at);
        let have = self.buffer.len() - self.at;
        if self.at > 0 && self.buffer.capacity() < self.at + wanted.max(have + READ_BYTES / 4) {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(wanted.saturating_sub(have).max(READ_BYTES / 4).max(if have == 0 {
            READ_BYTES
        } else {
            0
        }));
        let filled = self.buffer.len();
        let (result, slice) = stream.read(std::mem::take(&mut self.buffer).slice_mut(filled..)).await;
        self.buffer = slice.into_inner();
        match result? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection")),
            _ => Ok(()),
        }
    }

    fn next(&mut self) -> io::Result<Option<Token<'_>>> {
        resp::next(&self.buffer, &mut self.at)
            .map_err(|resp::Malformed| io::Error::new(io::ErrorKind::InvalidData, "Redis sent what is not RESP"))
    }
}

/// Connects and logs in. The second value is the number that Redis gave the connection.
async fn greet(core: &Core, domain: usize, attempt: u32) -> io::Result<(Greeted, i64)> {
    let options = &core.link_options;
    let address = core
        .resolver
        .address(domain, attempt as usize)
        .ok_or_else(|| io::Error::other("the name is not resolved yet"))?;
    let stream = Stream::connect(address).await?;
    stream.set_nodelay()?;
    stream.set_dead_after(options.dead)?;
    let mut hello = Vec::new();
    let words: [&[u8]; 5] = [b"HELLO", b"2", b"AUTH", options.username.as_bytes(), options.passwd.as_bytes()];
    resp::write_command(&mut hello, &words);
    stream.write_all(hello).await.0?;
    let mut input = Input::default();
    let (mut left, mut id, mut is_id) = (1_usize, 0, false);
    while left > 0 {
        let Some(token) = input.next()? else {
            input.fill(&stream).await?;
            continue;
        };
        left -= 1;
        match token {
            Token::Error(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("Redis refused the account: {text}"),
                ));
            }
            Token::Array(n) => left += n,
            Token::Integer(n) if is_id => id = n,
            _ => {}
        }
        is_id = token == Token::Bulk(b"id");
    }
    Ok((Greeted { stream: Rc::new(stream), input }, id))
}

/// Connects until it works; the bus counts as away as soon as an attempt has failed.
async fn connect(core: &Rc<Core>, domain: usize, half: Half) -> Option<Greeted> {
    let link = &core.links[domain];
    let mut backoff_ms = BACKOFF_MS;
    let mut failures = 0_u32;
    loop {
        if link.ending.get() {
            return None;
        }
        let known_id = link.redis_id.get();
        let attempt = timeout(core.link_options.connect_timeout, greet(core, domain, failures)).await;
        let error = match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((greeted, id)) => {
                if failures > 0 {
                    tracing::info!("bus: {} is back", core.domain_name(domain));
                }
                // The two links of a domain connect side by side: their numbers are compared with what was known before
                // the attempt, and a restart that the other has found is not found twice.
                let emptied = id < known_id && id < link.redis_id.get();
                link.redis_id.set(if emptied { id } else { link.redis_id.get().max(id) });
                if emptied {
                    tracing::warn!("bus: {} was restarted; what was pending is over", core.domain_name(domain));
                    core.clients(|clients| clients.bus_emptied(domain));
                }
                set_state(core, domain, half, LinkState::Up);
                return Some(greeted);
            }
            Err(error) => error,
        };
        if failures == 0 {
            counters::add(&core.counts().bus_links_lost, 1);
            tracing::warn!("bus: {} cannot be reached: {error}; trying again", core.domain_name(domain));
        }
        failures = failures.saturating_add(1);
        core.resolver.resolve_again();
        set_state(core, domain, half, LinkState::Away);
        if half == Half::Push {
            let unsent = link.outbox.borrow_mut().take_unsent();
            let text = format!(
                "the bus (Redis of {}) is away; nothing was carried out; try again shortly",
                core.domain_name(domain)
            );
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

/// The link that pushes, for the life of the core.
async fn push_loop(core: Rc<Core>, domain: usize) {
    while let Some(greeted) = connect(&core, domain, Half::Push).await {
        let error = push(&core, domain, greeted).await;
        let link = &core.links[domain];
        link.push.set(LinkState::Connecting);
        let unconfirmed = link.outbox.borrow_mut().take_unconfirmed();
        if link.ending.get() {
            return;
        }
        if unconfirmed.is_empty() {
            tracing::debug!("bus: the idle link to {} ended: {error}", core.domain_name(domain));
        } else {
            counters::add(&core.counts().bus_links_lost, 1);
            let name = core.domain_name(domain);
            tracing::warn!("bus: the link to {name} broke with {} pushes unconfirmed: {error}", unconfirmed.len());
            let text = format!("the link to the bus broke ({error}); this may or may not have been carried out");
            core.clients(|clients| unconfirmed.into_iter().for_each(|ticket| clients.push_failed(ticket, &text)));
        }
    }
}

/// Pushes until the connection breaks, which it returns the reason of.
async fn push(core: &Rc<Core>, domain: usize, greeted: Greeted) -> io::Error {
    let link = &core.links[domain];
    let Greeted { stream, input } = greeted;
    let broken: Rc<RefCell<Option<io::Error>>> = Rc::default();
    let reader = monoio::spawn({
        let (core, stream, broken) = (Rc::clone(core), Rc::clone(&stream), Rc::clone(&broken));
        async move {
            let error = confirm(&core, domain, &stream, input).await;
            *broken.borrow_mut() = Some(error);
            core.links[domain].wake.notify();
        }
    });
    let probe: Rc<str> = format!("{}:probe", core.names.address).into();
    while broken.borrow().is_none() {
        if link.outbox.borrow().is_empty() {
            if timeout(core.link_options.probe, link.wake.notified()).await.is_err()
                && link.outbox.borrow().is_confirmed()
            {
                link.outbox.borrow_mut().delete(Rc::clone(&probe));
            }
            continue;
        }
        let mut batch = Vec::new();
        let (messages, commands) = {
            let mut outbox = link.outbox.borrow_mut();
            (outbox.len(), outbox.write(&mut batch))
        };
        counters::add(&core.counts().bus_pushes, messages as u64);
        counters::add(&core.counts().bus_commands, commands as u64);
        if let (Err(error), _) = stream.write_all(batch).await {
            broken.borrow_mut().get_or_insert(error);
        }
    }
    stream.shutdown(Shutdown::Both);
    reader.await;
    broken.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Reads the confirmations until the connection breaks.
async fn confirm(core: &Rc<Core>, domain: usize, stream: &Stream, mut input: Input) -> io::Error {
    loop {
        let mut refused = Vec::new();
        loop {
            let answer = match input.next() {
                Ok(None) => break,
                Ok(Some(token)) => core.links[domain].outbox.borrow_mut().answer(&token),
                Err(error) => return error,
            };
            match answer {
                Some(Answer::Done) => {}
                Some(Answer::Refused(tickets, text)) => refused.push((tickets, text)),
                None => return io::Error::new(io::ErrorKind::InvalidData, "Redis answered what was not asked"),
            }
        }
        for (tickets, text) in refused {
            tracing::warn!("bus: {} refused a push: {text}", core.domain_name(domain));
            let text = format!("the bus (Redis) refused the message: {text}; it may or may not have been carried out");
            core.clients(|clients| tickets.into_iter().for_each(|ticket| clients.push_failed(ticket, &text)));
        }
        if let Err(error) = input.fill(stream).await {
            return error;
        }
    }
}

/// The link that pops the core's list, for the life of the core.
async fn pop_loop(core: Rc<Core>) {
    let mut lost = false;
    while let Some(greeted) = connect(&core, 0, Half::Pop).await {
        if lost {
            core.clients(crate::session::clients::Clients::pops_back);
        }
        let error = pop(&core, greeted).await;
        lost = true;
        let link = &core.links[0];
        link.pop.set(LinkState::Connecting);
        if link.ending.get() {
            return;
        }
        core.clients(crate::session::clients::Clients::pops_lost);
        tracing::warn!("bus: the link that pops from {} broke: {error}", core.domain_name(0));
        counters::add(&core.counts().bus_links_lost, 1);
    }
}

/// Pops until the connection breaks, which it returns the reason of.
async fn pop(core: &Rc<Core>, greeted: Greeted) -> io::Error {
    let Greeted { stream, mut input } = greeted;
    let mut inbox = Inbox::new(&core.names.address);
    loop {
        // Deliver first: what it uses up of the pairs queued ahead must be topped up before the wait for more.
        if let Err(error) = deliver(core, &mut inbox, &mut input) {
            return error;
        }
        let mut commands = Vec::new();
        let written = inbox.write(&mut commands);
        if written > 0 {
            counters::add(&core.counts().bus_commands, written as u64);
            if let (Err(error), _) = stream.write_all(commands).await {
                return error;
            }
        }
        if let Err(error) = input.fill(&stream).await {
            return error;
        }
    }
}

/// Hands on the messages that are complete.
fn deliver(core: &Rc<Core>, inbox: &mut Inbox, input: &mut Input) -> io::Result<()> {
    let unexpected = |error| match error {
        Unexpected::Refused(text) => {
            io::Error::new(io::ErrorKind::PermissionDenied, format!("Redis refused a pop: {text}"))
        }
        Unexpected::Shape => io::Error::new(io::ErrorKind::InvalidData, "Redis answered what was not asked"),
    };
    core.clients(|clients| {
        while let Some(token) = input.next()? {
            if let Some(message) = inbox.token(&token).map_err(unexpected)? {
                clients.from_bus(message);
            }
        }
        Ok(())
    })
}
