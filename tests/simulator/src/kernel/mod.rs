//! A kernel in miniature: the ring of a core, its sockets, their peers' side of them. It answers as a kernel may, with every error
//! and in any order, and holds the core to what it was promised ([`evergate_proto::ring`]).
//!
//! - `habits`: what a seed's kernel is like
//! - `connection`: one connection, both of its ends; `listener`: those that are queued
//! - `pool`: buffers that are lent
//! - `flight`: operations under way
//! - `submitting`: what is asked; `completing`: what comes of it; `ring`: the way in

pub mod completing;
pub mod connection;
pub mod flight;
pub mod habits;
pub mod listener;
pub mod pool;
pub mod ring;
pub mod submitting;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use evergate_proto::event_loop::ListeningSocket;
use evergate_proto::ring::{Completion, Pool, Socket};
use evergate_proto::websocket::proxy_header::Opening;

use crate::random::Random;
use crate::tally::{Tally, What};
use crate::world::violated;
use connection::Connection;
use flight::Flight;
use habits::Habits;
use listener::Listener;
use pool::BufferPool;
use submitting::Entry;

/// What the kernel, the host and the actors share: the time, and what happened.
#[derive(Default)]
pub struct Scene {
    /// Since the process began, ns.
    pub now_ns: Cell<u64>,
    pub step: Cell<usize>,
    /// Whoever ended without a Close, as the activity log has it.
    pub ended_bare: RefCell<Vec<IpAddr>>,
    pub trace: RefCell<Option<VecDeque<String>>>,
}

macro_rules! tell {
    ($scene:expr, $($text:tt)*) => {
        if let Some(trace) = &mut *$scene.trace.borrow_mut() {
            let now_ns = $scene.now_ns.get();
            let (ms, us) = (now_ns / 1_000_000, now_ns / 1_000 % 1_000);
            trace.push_back(format!("{:>6} {:>7}.{:03} ms  {}", $scene.step.get(), ms, us, format!($($text)*)));
        }
    };
}
pub(crate) use tell;

/// How connects to a domain's Redis go.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Door {
    #[default]
    Open,
    Refuses,
    Hangs,
}

/// Whose a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Listener(usize),
    Connection(usize),
}

/// The kernel.
pub struct Kernel {
    pub scene: Rc<Scene>,
    random: Random,
    pub habits: Habits,
    /// When an actor acts next, ns: a sleep is over then, with nothing to show.
    pub wake_at_ns: u64,
    /// Nothing odd happens any more.
    pub is_calm: bool,
    descriptors: Vec<Option<Owner>>,
    pub connections: Vec<Connection>,
    pub listeners: Vec<Listener>,
    pub doors: [Door; 2],
    /// Connections of links that were opened and that nobody behind them has seen yet.
    pub opened: Vec<usize>,
    flights: Vec<Flight>,
    /// Asked and not submitted.
    queue: VecDeque<Entry>,
    /// Completed and not told; so many of them may be told before the next entry.
    completed: VecDeque<Completion>,
    due: usize,
    /// So many of them must be told behind this entry: those of quiet sends.
    quiet: usize,
    pools: [BufferPool; 2],
    /// What the core could do, as far as the actors see: it may not sleep then.
    pub undone: Option<String>,
    /// Something was asked, or told, since that was looked at; or time was slept through.
    pub has_progressed: bool,
    /// When it was entered last, ns.
    entered_ns: u64,
    /// The core's turns.
    pub turns: u64,
    /// Others woke the core.
    pub is_woken: bool,
    pub tally: Tally,
}

impl Kernel {
    pub fn new(scene: Rc<Scene>, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6b65_726e_656c);
        let habits = Habits::new(&mut random);
        Self {
            scene,
            wake_at_ns: 0,
            is_calm: false,
            descriptors: vec![None; 3],
            connections: Vec::new(),
            listeners: Vec::new(),
            doors: [Door::Open; 2],
            opened: Vec::new(),
            flights: Vec::new(),
            queue: VecDeque::new(),
            completed: VecDeque::new(),
            due: 0,
            quiet: 0,
            pools: habits.pools.map(|(buffers, bytes)| BufferPool::new(buffers, bytes)),
            undone: None,
            has_progressed: true,
            entered_ns: 0,
            turns: 0,
            is_woken: false,
            tally: Tally::default(),
            habits,
            random,
        }
    }

    /// The process listens: one listener more.
    pub fn listen(&mut self, opening: Opening, is_shared: bool) -> ListeningSocket {
        let number = self.listeners.len();
        self.listeners.push(Listener::new(opening));
        let socket = self.lowest_for(Owner::Listener(number));
        ListeningSocket { socket, number: number as u8 % 64, opening, is_shared }
    }

    /// The listener of a descriptor, which must be open.
    fn listener_of(&self, socket: Socket, what: &str) -> usize {
        match self.owner(socket, what) {
            Owner::Listener(at) => at,
            Owner::Connection(_) => violated!("{what} on what is no listener"),
        }
    }

    /// One of the listeners that take whoever connects, if any does.
    pub fn some_listener(&mut self) -> Option<usize> {
        let takes: Vec<usize> = (0..self.listeners.len()).filter(|at| self.listeners[*at].takes()).collect();
        (!takes.is_empty()).then(|| takes[self.random.below(takes.len())])
    }

    /// Those that are queued on any.
    pub fn queued(&self) -> impl Iterator<Item = usize> + '_ {
        self.listeners.iter().flat_map(|listener| listener.queue.iter().copied())
    }

    /// Whose descriptor it is; it must be open.
    fn owner(&self, socket: Socket, what: &str) -> Owner {
        let place = usize::try_from(socket.0).ok().and_then(|at| self.descriptors.get(at));
        let Some(Some(owner)) = place else { violated!("{what} on descriptor {}, which is not open", socket.0) };
        *owner
    }

    /// The connection of a descriptor, which must be open.
    fn connection_of(&self, socket: Socket, what: &str) -> usize {
        match self.owner(socket, what) {
            Owner::Connection(at) => at,
            Owner::Listener(_) => violated!("{what} on a listener"),
        }
    }

    /// The lowest descriptor that is free becomes that of a connection.
    fn descriptor_for(&mut self, at: usize) -> Socket {
        let socket = self.lowest_for(Owner::Connection(at));
        self.connections[at].socket = Some(socket);
        socket
    }

    fn lowest_for(&mut self, owner: Owner) -> Socket {
        let free =
            self.descriptors[3..].iter().position(Option::is_none).map_or(self.descriptors.len(), |free| free + 3);
        if free == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[free] = Some(owner);
        Socket(free as i32)
    }

    /// A client has connected to a listener; which connection that is.
    pub fn connect_client(&mut self, connection: Connection, listener: usize) -> usize {
        let at = self.connections.len();
        self.connections.push(connection);
        self.listeners[listener].queue.push_back(at);
        at
    }

    /// Connections that have a descriptor.
    pub fn open_connections(&self) -> impl Iterator<Item = usize> + '_ {
        self.descriptors.iter().filter_map(|owner| match owner {
            Some(Owner::Connection(at)) => Some(*at),
            _ => None,
        })
    }

    /// Whether a connection is given back as soon as what was asked is submitted.
    pub fn is_closing(&self, at: usize) -> bool {
        let socket = self.connections[at].socket;
        self.queue.iter().any(|entry| matches!(entry, Entry::Close(closing) if Some(*closing) == socket))
    }

    /// Buffers that are lent, or on their way to be.
    pub fn buffers_out(&self) -> usize {
        self.pools.iter().map(BufferPool::out).sum()
    }

    /// Whether a client that has sent something may have to wait for a buffer.
    pub fn lacks_buffers(&self) -> bool {
        self.pools.iter().any(BufferPool::is_used_up)
    }

    fn pool(&mut self, pool: Pool) -> &mut BufferPool {
        &mut self.pools[usize::from(pool == Pool::Heavy)]
    }

    /// Operations under way of which the core has not been told the end.
    pub fn flights(&self) -> &[Flight] {
        &self.flights
    }

    /// Whether the odd thing happens that this kernel does so many times of a hundred.
    fn oddly(&mut self, percent: usize) -> bool {
        !self.is_calm && percent > 0 && self.random.percent(percent)
    }

    fn one(&mut self, what: What) {
        self.tally.one(what);
    }

    fn pass_ns(&self, ns: u64) {
        self.scene.now_ns.set(self.scene.now_ns.get() + ns);
    }
}
