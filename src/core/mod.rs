//! One pinned thread: its ring, its share of the listening port, its clients, its links to the bus.
//!
//! May use: monoio, the sockets, the clock, tracing (whose writer is another thread). Never: a lock on the message
//! path, a synchronous write, DNS, a decision that the pure half could make.
//!
//! - [`bus`]: the sockets of its links to the bus
//! - [`listener`]: accepting, and closing the share of the port
//! - [`connection`]: reading from clients and sending to them; [`readiness`]: who has something to be read
//! - [`stream`]: a TCP connection that is read and written at the same time
//! - [`ticker`]: time, phases, the end
//! - [`ring`]: its io_uring
//! - [`wait`]: how it waits for its next turn; [`notify`]: waking a task

pub mod bus;
pub mod connection;
pub mod listener;
pub mod monoio_ring;
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
use crate::process::logs::ActivityLog;
use crate::process::resolver::Resolver;
use crate::process::settings::Settings;
use crate::process::shared::Shared;
use bus::Bus;
use connection::Connection;
use evergate_prefetch::prefetch;
use evergate_proto::clients::context::Context;
use evergate_proto::clients::limits::BusNames;
use evergate_proto::clients::output::{BusNews, Output, Severity, SlotIndex};
use evergate_proto::clients::table::Clients;
use evergate_proto::counters::{self, Counts};
use evergate_proto::effects::{Shell, carry_out};
use evergate_proto::redis::links::Links;
use evergate_proto::redis::outbox::Push;
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
    /// Its links to the bus.
    pub bus: Bus,
    /// How it waits for its next turn.
    pub waits: Waits,
    /// The names on the bus.
    pub names: Rc<BusNames>,
    /// Gone when the core has ended.
    activity: RefCell<Option<ActivityLog>>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    /// A connection ended: one that could not be accepted may be now.
    freed: Notify,
}

/// Runs a core until the process stops or its drain is over.
pub fn run(options: CoreOptions) -> std::io::Result<()> {
    monoio_ring::build()?.block_on(async move {
        let core = Rc::new(Core::new(&options)?);
        core.activity.replace(Some(options.activity));
        core.bus.links(|links| links.begin(core.now_ms()));
        core.bus.settle(&core);
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
        let names = Rc::new(BusNames {
            address: options.address.clone(),
            router: settings.router.as_str().into(),
            domains: settings.domains.clone(),
            xid_prefix: format!("{}{}.", settings.xid_prefix, options.index),
        });
        let limits = Rc::new(settings.limits());
        let context = Context::new(limits, Rc::clone(&names), Arc::clone(&options.shared.cores), options.index);
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
            bus: Bus::new(
                Links::new(settings.link.clone(), Rc::clone(&names)),
                &settings.link,
                &settings,
                Arc::clone(&options.resolver),
            ),
            waits: Waits::new(settings.busy_poll),
            names,
            activity: RefCell::default(),
            settings,
            shared: Arc::clone(&options.shared),
            freed: Notify::default(),
        })
    }

    /// Lets `decide` decide, with the time of now, and does what it decided.
    pub fn clients<T>(self: &Rc<Self>, decide: impl FnOnce(&mut Clients) -> T) -> T {
        self.waits.works();
        let mut clients = self.clients.borrow_mut();
        clients.context.now_ms = self.shared.now_ms();
        self.published().turns(clients.context.now_ms);
        let decided = decide(&mut clients);
        if !clients.context.output.is_empty() {
            let mut hands = Hands { core: self, clients: &mut clients };
            let spare = carry_out(&mut hands, self.spare_output.take());
            self.spare_output.replace(spare);
        }
        let (asks, now_ms) = (clients.asks_about_router(), clients.context.now_ms);
        self.bus.links(|links| {
            if asks {
                links.ask_about_router(now_ms);
            }
            links.publish(self.published());
        });
        self.bus.settle(self);
        decided
    }

    /// As [`Self::clients`], with the links.
    pub fn links<T>(self: &Rc<Self>, decide: impl FnOnce(&mut Links, &mut Clients) -> T) -> T {
        self.clients(|clients| self.bus.links(|links| decide(links, clients)))
    }

    /// As [`Self::clients`], for messages that have come together: `decide` says how many.
    pub fn turn(self: &Rc<Self>, decide: impl FnOnce(&mut Clients) -> usize) -> usize {
        self.waits.begin_turn();
        let messages = self.clients(decide);
        self.waits.end_turn(messages);
        messages
    }

    /// Milliseconds since the process began.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    /// Bytes of the messages that wait for their links.
    pub fn bus_bytes(&self) -> u64 {
        self.bus.links(|links| links.bytes())
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

    /// Tells the log what has become of a link, unless another core has.
    fn say_of_bus(&self, news: BusNews) {
        let name = |domain: usize| self.names.domains[domain].as_str();
        match news {
            BusNews::Opened { domain } => {
                if let Some(word) = self.shared.bus_opened(name(domain)) {
                    tracing::info!("bus: {} is {word}", name(domain));
                }
            }
            BusNews::Failed { domain, half, text, refused } => {
                let name = name(domain);
                if self.shared.bus_failed(name, &text) {
                    if refused {
                        let verb = half.verb();
                        tracing::warn!("bus: the link that {verb} {name} cannot be opened: {text}; trying again");
                    } else {
                        tracing::warn!("bus: {name} cannot be reached: {text}; trying again");
                    }
                }
                self.bus.resolve_again();
            }
            BusNews::LacksCounts { domain } => {
                if self.shared.bus_lacks_counts(name(domain)) {
                    tracing::warn!(
                        "bus: the Redis of {} is older than 6.2 and has no LPOP with a count: several BLPOPs are queued \
                         instead, which costs it more; upgrade it when you can",
                        name(domain)
                    );
                }
            }
        }
    }
}

/// A core that does what its clients have decided.
struct Hands<'c> {
    core: &'c Rc<Core>,
    clients: &'c mut Clients,
}

impl Hands<'_> {
    /// Has `act` done to the connection of `slot`, if it has one.
    fn connection(&mut self, slot: SlotIndex, act: impl FnOnce(&Rc<Core>, &mut Clients, &Rc<Connection>)) {
        if let Some(Some(connection)) = self.core.connections.borrow().get(slot as usize) {
            act(self.core, self.clients, connection);
        }
    }
}

impl Shell for Hands<'_> {
    fn clients(&mut self) -> &mut Clients {
        self.clients
    }

    fn begin(&mut self, decided: &Output) {
        // Among thousands of clients each connection is cold.
        if decided.send.len() > 1 {
            let connections = self.core.connections.borrow();
            for &slot in &decided.send {
                connections.get(slot as usize).and_then(Option::as_deref).inspect(|connection| prefetch(*connection));
            }
        }
    }

    fn activity(&mut self, lines: &str) {
        if let Some(log) = &mut *self.core.activity.borrow_mut() {
            log.log(self.clients.context.now_ms, lines);
        }
    }

    fn bus(&mut self, news: BusNews) {
        self.core.say_of_bus(news);
    }

    fn log(&mut self, level: Severity, line: String) {
        match level {
            Severity::Warn => tracing::warn!("{line}"),
            Severity::Info => tracing::info!("{line}"),
            Severity::Debug => tracing::debug!("{line}"),
        }
    }

    fn push(&mut self, domain: usize, push: Push) {
        let now_ms = self.clients.context.now_ms;
        self.core.bus.links(|links| links.push(domain, push, now_ms));
    }

    fn pushed(&mut self) {
        self.clients.context.shell_bytes = self.core.shell_bytes();
    }

    fn probe(&mut self, slot: SlotIndex, head: bool) {
        let Core { shared, settings, .. } = &**self.core;
        let ready = health::readiness(shared, self.core.now_ms(), settings.ready_bus_grace_seconds);
        let status = if ready.good { 200 } else { 503 };
        self.clients.answer(slot, &handshake::response(status, &ready.why, head));
    }

    fn send(&mut self, slot: SlotIndex) {
        self.connection(slot, |core, clients, connection| connection::send_outbound(core, clients, slot, connection));
    }

    fn half_close(&mut self, slot: SlotIndex) {
        self.connection(slot, |_, _, connection| connection.stream.shutdown(Shutdown::Write));
    }

    fn look(&mut self, slot: SlotIndex) {
        self.connection(slot, |core, clients, connection| connection::look(core, clients, slot, connection));
    }

    fn resume(&mut self, slot: SlotIndex) {
        self.connection(slot, |core, _, connection| core.readiness.look_again(&connection.stream, slot));
    }

    fn hang_up(&mut self, slot: SlotIndex) {
        if let Some(connection) = self.core.connection(slot) {
            connection::release(self.core, self.clients, slot, &connection);
        }
    }
}
