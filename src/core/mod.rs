//! One pinned thread: its ring, its share of the listening port, its clients, its links to the bus.
//!
//! May use: monoio, the sockets, the clock, tracing (whose writer is another thread). Never: a lock on the message
//! path, a synchronous write, DNS, a decision that the pure half could make.
//!
//! - [`listener`]: accepting, and closing the share of the port
//! - [`connection`]: reading from clients and sending to them; [`readiness`]: who has something to be read
//! - [`stream`]: a TCP connection that is read and written at the same time
//! - [`ticker`]: time, phases, the end
//! - [`wait`]: how it waits for its next turn; [`notify`]: waking a task

pub mod bus;
pub mod connection;
pub mod listener;
pub mod notify;
pub mod readiness;
pub mod ring;
pub mod stream;
pub mod ticker;
pub mod wait;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::admin::health;
use crate::core::bus::link::{Link, LinkOptions};
use crate::process::logs::ActivityLog;
use crate::process::phase::Shared;
use crate::process::resolver::Resolver;
use crate::process::settings::Settings;
use connection::Connection;
use evergate_prefetch::prefetch;
use evergate_proto::clients::context::Context;
use evergate_proto::clients::limits::Names;
use evergate_proto::clients::output::{Level, Output, SlotIndex};
use evergate_proto::clients::table::Clients;
use evergate_proto::counters::{self, Counts, LinkState};
use evergate_proto::websocket::handshake;
use notify::Notify;
use readiness::Readiness;
use wait::Waits;

/// What a core is started with.
#[derive(Debug)]
pub struct CoreOptions {
    /// Which core this is.
    pub index: usize,
    /// Its share of the listening port.
    pub listener: TcpListener,
    /// What the operator chose, as the cores need it.
    pub settings: Arc<Settings>,
    /// The names on the bus.
    pub address: String,
    /// What all threads can see.
    pub shared: Arc<Shared>,
    /// Where the names of the bus domains are resolved.
    pub resolver: Arc<Resolver>,
    /// Where activity goes.
    pub activity: ActivityLog,
}

/// Everything that a core's tasks share. Lives on one thread.
pub struct Core {
    index: usize,
    clients: RefCell<Clients>,
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    /// What is read from clients, one after the other: an idle connection owns no buffer.
    receive_buffer: RefCell<Vec<u8>>,
    /// Memory for the next decisions.
    spare_output: RefCell<Output>,
    /// Which clients have something to be read.
    pub readiness: Readiness,
    /// Clients that have much to be read: they take turns.
    heavy: RefCell<VecDeque<SlotIndex>>,
    /// Turns in a row in which they were left to the next.
    full_turns: Cell<usize>,
    /// Senders at work: each sends the less at once the more they are.
    senders: Cell<usize>,
    /// Bytes that clients were owed that are gone, and that wait to be freed.
    unfreed: Cell<usize>,
    /// One entry a bus domain; the first is the primary.
    pub links: Vec<Link>,
    /// How it waits for its next turn.
    pub waits: Waits,
    /// What every link must know.
    pub link_options: LinkOptions,
    /// The names on the bus.
    pub names: Rc<Names>,
    /// A list that is never filled: deleting it shows that a link is alive.
    pub probe_key: Rc<str>,
    /// Where the names of the bus domains are resolved.
    pub resolver: Arc<Resolver>,
    /// Gone when the core has ended.
    activity: RefCell<Option<ActivityLog>>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    /// A connection ended: one that could not be accepted may be now.
    freed: Notify,
    /// The links are not shown as they are.
    unpublished: Cell<bool>,
    /// The state of a small random generator, for jitter.
    random: Cell<u64>,
}

/// Runs a core until the process stops or its drain is over.
pub fn run(options: CoreOptions) -> std::io::Result<()> {
    ring::build()?.block_on(async move {
        let core = Rc::new(Core::new(&options)?);
        core.activity.replace(Some(options.activity));
        core.links[0].start(&core);
        let listener = listener::Share::start(&core, options.listener)?;
        monoio::spawn(connection::read_all(Rc::clone(&core)));
        monoio::spawn(wait::run(Rc::clone(&core)));
        ticker::run(&core, listener).await;
        core.activity.take();
        core.published().ended.store(true, Release);
        Ok(())
    })
}

impl Core {
    fn new(options: &CoreOptions) -> std::io::Result<Self> {
        let settings = Arc::clone(&options.settings);
        let names = Rc::new(Names {
            address: options.address.clone(),
            router: settings.router.as_str().into(),
            domains: settings.domains.clone(),
            xid_prefix: format!("{}{}.", settings.xid_prefix, options.index),
        });
        let limits = Rc::new(settings.limits());
        let context = Context::new(limits, Rc::clone(&names), Arc::clone(&options.shared.cores), options.index);
        let seed = options
            .address
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(Self {
            index: options.index,
            clients: RefCell::new(Clients::new(context)),
            connections: RefCell::default(),
            receive_buffer: RefCell::default(),
            spare_output: RefCell::default(),
            readiness: Readiness::new()?,
            heavy: RefCell::default(),
            full_turns: Cell::new(0),
            senders: Cell::new(0),
            unfreed: Cell::default(),
            links: (0..names.domains.len()).map(Link::new).collect(),
            waits: Waits::new(settings.busy_poll),
            link_options: settings.link.clone(),
            probe_key: format!("{}:probe", names.address).into(),
            names,
            resolver: Arc::clone(&options.resolver),
            activity: RefCell::default(),
            settings,
            shared: Arc::clone(&options.shared),
            freed: Notify::default(),
            unpublished: Cell::new(false),
            random: Cell::new(seed | 1),
        })
    }

    /// Lets `decide` decide, with the time of now, and does what it decided.
    pub fn clients<T>(self: &Rc<Self>, decide: impl FnOnce(&mut Clients) -> T) -> T {
        self.waits.works();
        let mut clients = self.clients.borrow_mut();
        clients.context.now_ms = self.shared.now_ms();
        self.published().turns(clients.context.now_ms);
        let decided = decide(&mut clients);
        // What is done may lead to more decisions: what was sent may be the last that its client waited for.
        while !clients.context.output.is_empty() {
            let mut output = clients.take_output(self.spare_output.take());
            self.carry_out(&mut clients, &mut output);
            output.clear();
            self.spare_output.replace(output);
        }
        if clients.asks_about_router() {
            self.links[0].ask_about_router(self);
        }
        decided
    }

    /// As [`Self::clients`], for so many messages that have come together.
    pub fn turn<T>(self: &Rc<Self>, messages: usize, decide: impl FnOnce(&mut Clients) -> T) -> T {
        self.waits.begin_turn(messages);
        let decided = self.clients(decide);
        self.waits.end_turn();
        decided
    }

    /// Does what was decided.
    fn carry_out(self: &Rc<Self>, clients: &mut Clients, output: &mut Output) {
        if !output.activity.is_empty()
            && let Some(log) = &mut *self.activity.borrow_mut()
        {
            log.log(clients.context.now_ms, &output.activity);
        }
        for (level, line) in output.events.drain(..) {
            match level {
                Level::Warn => tracing::warn!("{line}"),
                Level::Info => tracing::info!("{line}"),
                Level::Debug => tracing::debug!("{line}"),
            }
        }
        if !output.pushes.is_empty() {
            for (domain, push) in output.pushes.drain(..) {
                self.links[domain].push(self, push);
            }
            clients.context.shell_bytes = self.shell_bytes();
        }
        if !output.probes.is_empty() {
            let ready = health::readiness(&self.shared, self.now_ms(), self.settings.ready_bus_grace_seconds);
            let status = if ready.good { 200 } else { 503 };
            for (slot, head) in output.probes.drain(..) {
                clients.answer(slot, &handshake::response(status, &ready.why, head));
            }
        }
        let connections = self.connections.borrow();
        let each = |slots: &[SlotIndex], act: &mut dyn FnMut(SlotIndex, &Rc<Connection>)| {
            for &slot in slots {
                if let Some(Some(connection)) = connections.get(slot as usize) {
                    act(slot, connection);
                }
            }
        };
        if output.send.len() > 1 {
            each(&output.send, &mut |_, connection| prefetch(&**connection));
        }
        each(&output.send, &mut |slot, connection| connection::send_outbound(self, clients, slot, connection));
        each(&output.half_close, &mut |_, connection| connection.stream.shutdown(Shutdown::Write));
        each(&output.look, &mut |slot, connection| connection::look(self, clients, slot, connection));
        each(&output.resume, &mut |slot, connection| self.readiness.look_again(&connection.stream, slot));
        drop(connections);
        for &slot in &output.hang_up {
            if let Some(connection) = self.connection(slot) {
                connection::release(self, clients, slot, &connection);
            }
        }
    }

    /// Milliseconds since the process began.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    /// Bytes of the messages that wait for their links.
    pub fn bus_bytes(&self) -> u64 {
        self.links.iter().map(|link| link.outbox.borrow().bytes() as u64).sum()
    }

    /// Bytes that stand in no client's account: messages that wait for their links, and what waits to be freed.
    pub fn shell_bytes(&self) -> u64 {
        self.bus_bytes() + self.unfreed.get() as u64
    }

    /// Whether the core holds more than it may.
    pub fn is_full(&self) -> bool {
        let mut clients = self.clients.borrow_mut();
        clients.context.shell_bytes = self.shell_bytes();
        clients.context.is_core_full()
    }

    /// Remembers the connection of `slot`.
    pub fn connect(&self, slot: SlotIndex, connection: Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let at = slot as usize;
        if connections.len() <= at {
            connections.resize(at + 1, None);
        }
        connections[at] = Some(connection);
    }

    /// The connection of `slot`.
    pub fn connection(&self, slot: SlotIndex) -> Option<Rc<Connection>> {
        self.connections.borrow().get(slot as usize)?.clone()
    }

    /// Forgets the connection of `slot`.
    pub fn disconnect(&self, slot: SlotIndex) {
        self.connections.borrow_mut()[slot as usize] = None;
        self.freed.notify();
    }

    /// Requests that wait for their replies.
    pub fn pending(&self) -> u64 {
        self.counts().pending.load(Relaxed)
    }

    /// This core's gauges and counts.
    pub fn counts(&self) -> &Counts {
        &self.published().counts
    }

    /// What this core publishes.
    pub fn published(&self) -> &counters::Core {
        &self.shared.cores[self.index]
    }

    /// What all threads can see.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether a list is the router's.
    pub fn is_router_list(&self, key: &Rc<str>) -> bool {
        Rc::ptr_eq(key, &self.names.router)
    }

    /// The name of a bus domain.
    pub fn domain_name(&self, domain: usize) -> &str {
        &self.names.domains[domain]
    }

    /// A number below `below`, for jitter.
    pub fn jitter(&self, below: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x % below.max(1)
    }

    /// A link of `domain` changed its state: publishes it, and tells the clients whether messages are taken.
    pub fn link_changed(self: &Rc<Self>, domain: usize) {
        let state = self.links[domain].state();
        self.clients(|clients| {
            clients.context.accepting[domain] = state != LinkState::Away;
            clients.context.bus_ever_up |= domain == 0 && state == LinkState::Up;
        });
        if domain == 0 {
            let published = self.published();
            if state == LinkState::Up {
                published.bus_ever_up.store(true, Relaxed);
                published.bus_away_since_ms.store(0, Relaxed);
            } else if published.bus_away_since_ms.load(Relaxed) == 0 {
                published.bus_away_since_ms.store(self.shared.now_ms().max(1), Relaxed);
            }
        }
        self.publish_link(domain);
    }

    /// Shows the admin page how the links of `domain` are.
    pub fn publish_link(&self, domain: usize) {
        let (link, published) = (&self.links[domain], self.published());
        if domain == 0 {
            published.bus.store(link.shown_state() as u8, Relaxed);
            counters::set(&published.bus_refused_since_ms, link.refused_since_ms());
        }
        self.unpublished.set(true);
        self.publish_words();
    }

    /// Shows what takes a lock, unless it has been shown. Where the admin page is just reading, the next tick tries again.
    pub fn publish_words(&self) {
        if !self.unpublished.get() {
            return;
        }
        let published = self.published();
        let (Ok(mut trouble), Ok(mut others)) = (published.bus_trouble.try_lock(), published.other_domains.try_lock())
        else {
            return;
        };
        *trouble = self.links[0].trouble();
        *others = self.links[1..]
            .iter()
            .filter(|link| link.is_started())
            .map(|link| (self.domain_name(link.domain).to_owned(), link.shown_state()))
            .collect();
        self.unpublished.set(false);
    }
}
