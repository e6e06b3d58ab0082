//! A whole core: the gateway's own event loop on a kernel in miniature, with browsers before it and Redis, a router and workers
//! behind it. What is seen is seen at the sockets.
//!
//! - `host`: what the core needs of the process; `proxies`: who says first for whom it speaks
//! - `peer`: a client, and the judgement of what it is sent; `bus`, `services`: what is behind the links
//! - `actions`: what actors do at any time; `network`: what the network does
//! - `operator`: who asks about clients, and ends some
//! - `checks`: what must hold before and after each turn; `ending`: everything is brought to its end

mod actions;
mod bus;
mod checks;
mod ending;
mod host;
mod network;
mod operator;
mod peer;
mod proxies;
pub mod seal;
mod services;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evergate_proto::counters::{self, Limit};
use evergate_proto::event_loop::{EventLoop, ListeningSocket, Options};
use evergate_proto::lifecycle::{LifecycleOptions, Orders};

use crate::kernel::{Kernel, Scene};
use crate::mixture::Mixture;
use crate::oracle::Rules;
use crate::random::Random;
use crate::tally::{Tally, What};
use crate::world;
pub use actions::ACTIONS;
use bus::Bus;
use host::SimulatedHost;
use operator::Operator;
use peer::Peer;
use services::Services;

/// What the core is started with.
fn options(r: &mut Random, life: LifecycleOptions, heavy_buffers: u32) -> Options {
    Options {
        clients_max: r.between(2, 7),
        refusals_max: r.between(1, 3),
        handshakes_max: r.between(1, 6),
        backlog: r.between(0, 5),
        look_max: Duration::from_micros([0, 50, 1_000][r.below(3)]),
        link: world::link_options(),
        bus_dead: Duration::from_secs(5),
        heavy_buffers,
        life,
    }
}

/// A core, and all that is around it.
pub struct CoreWorld {
    scene: Rc<Scene>,
    random: Random,
    mixture: Mixture,
    rules: Rules,
    life: LifecycleOptions,
    options: Options,
    orders: Rc<Cell<Orders>>,
    /// What the process listens on for the core, and the core has not asked for.
    listeners: Rc<RefCell<Vec<ListeningSocket>>>,
    /// What those do that connect to listeners for proxies.
    of_proxies: Random,
    /// Drains that have begun.
    drains: u32,
    /// When the main thread finds that the core is drained, ms.
    drained_at_ms: Option<u64>,
    cores: Arc<[counters::Core]>,
    core: EventLoop<Kernel, SimulatedHost>,
    peers: Vec<Peer>,
    /// Those that are not over.
    alive: Vec<usize>,
    bus: Bus,
    services: Services,
    /// Which client has, or had, a slot of that generation.
    owners: HashMap<(u32, u32), usize>,
    /// Turns in a row in which nothing was asked, told or slept through.
    idle_turns: u32,
    drain_max_ms: u64,
    drain_at_end: bool,
    /// When everybody was to be told of a stop, ms.
    stopped_at_ms: Option<u64>,
    /// Who asks about clients, and ends some.
    operator: Rc<RefCell<Operator>>,
    /// Clients that ask in a drain as soon as they have all their answers, if there are such.
    restless: Option<Random>,
    /// When they asked last, ms.
    asked_ms: u64,
    /// Behind half of a drain: for how long nothing has been under way of a client, ms, by its number; and when that was looked at.
    free_ms: BTreeMap<usize, u64>,
    looked_ms: u64,
    /// Each client has an address of its own.
    own_addresses: bool,
    /// The links are open before the first client comes.
    comes_up_first: bool,
    /// The core stood still for so long since it was told to end, ms.
    stood_still_ms: u64,
    pub tally: Tally,
    pub step: usize,
}

impl CoreWorld {
    pub fn new(seed: u64, without: u32, verbose: bool) -> Self {
        let mut random = Random::new(seed ^ 0x636f_7265);
        let r = &mut random;
        let mut rules = world::rules(r);
        world::limit_the_bus(&mut rules, &mut Random::new(seed ^ 0x6c69_6d69_7473));
        let mixture = Mixture::new(actions::ACTIONS, r, without);
        rules.quiet_ms = r.between(20, 80);
        let life = LifecycleOptions {
            closes_per_second: [0.0, 2.0, 10.0, 200.0][r.below(4)],
            close_timeout_ms: rules.close_ms,
            stop_max_ms: 500,
        };
        let scene = Rc::new(Scene::default());
        scene.now_ns.set(1_000_000_000);
        *scene.trace.borrow_mut() = verbose.then(Default::default);
        let orders = Rc::new(Cell::new(Orders::SERVING));
        let listeners = Rc::new(RefCell::new(Vec::new()));
        let cores: Arc<[counters::Core]> = vec![counters::Core::new(0)].into();
        let mut kernel = Kernel::new(Rc::clone(&scene), seed);
        let mut of_proxies = Random::new(seed ^ 0x0070_726f_7869_6573);
        let count = 1 + r.below(5) / 3;
        listeners.borrow_mut().extend((0..count).map(|_| proxies::listen(&mut kernel, &mut of_proxies)));
        let options = options(r, life, kernel.habits.pools[1].0.into());
        let operator = Rc::new(RefCell::new(Operator::new(seed)));
        let mut seals = Random::new(seed ^ 0x7365_616c);
        let is_sealed = [seals.percent(25), seals.percent(25)];
        let host = SimulatedHost {
            scene: Rc::clone(&scene),
            orders: Rc::clone(&orders),
            listeners: Rc::clone(&listeners),
            work_ns: [0, 100, 20_000, 400_000, 2_500_000][r.below(5)],
            random: RefCell::new(Random::new(seed ^ 0x686f_7374)),
            operator: Rc::clone(&operator),
            is_sealed,
        };
        let context = world::context(&rules, &cores);
        let core = EventLoop::new(options.clone(), context, kernel, host);
        Self {
            drain_max_ms: r.between(600, 4_000),
            drain_at_end: r.percent(70),
            own_addresses: r.percent(50),
            comes_up_first: r.percent(85),
            scene,
            random,
            mixture,
            rules,
            life,
            options,
            orders,
            listeners,
            of_proxies,
            drains: 0,
            drained_at_ms: None,
            cores,
            core,
            peers: Vec::new(),
            alive: Vec::new(),
            bus: Bus { is_sealed, ..Bus::default() },
            services: Services::default(),
            owners: HashMap::new(),
            idle_turns: 0,
            stopped_at_ms: None,
            operator,
            restless: Random::restless(seed),
            asked_ms: 0,
            free_ms: BTreeMap::new(),
            looked_ms: 0,
            stood_still_ms: 0,
            tally: Tally::default(),
            step: 0,
        }
    }

    /// Runs `steps` steps, then to the end of everything.
    pub fn run(&mut self, steps: usize) {
        if self.comes_up_first {
            self.come_up();
        }
        while self.step < steps && !self.core.has_ended() {
            self.one_step();
        }
        self.finish();
    }

    fn come_up(&mut self) {
        for _ in 0..200 {
            if self.core.clients().context.was_bus_up() {
                break;
            }
            self.serve_redis();
            self.core.ring().wake_at_ns = self.scene.now_ns.get() + 1_000_000;
            self.turn();
        }
    }

    fn one_step(&mut self) {
        self.step += 1;
        self.scene.step.set(self.step);
        let us = if self.random.percent(50) { 0 } else { self.random.between(0, 3_000) };
        if self.random.percent(60) || self.mixture.is_empty() {
            self.network();
        } else {
            self.act();
        }
        self.ask_again();
        if self.operator.borrow_mut().act() {
            self.core.ring().is_woken = true;
        }
        let wake_at_ns = self.scene.now_ns.get() + us * 1_000;
        self.core.ring().wake_at_ns = wake_at_ns;
        self.turn();
    }

    /// The core has a turn.
    fn turn(&mut self) {
        if self.core.has_ended() {
            return;
        }
        self.tally.one(What::turn);
        self.before_turn();
        if let Err(errno) = self.core.turn() {
            world::violated!("the turn fails: {errno:?}");
        }
        self.after_turn();
    }

    fn now_ms(&self) -> u64 {
        self.scene.now_ns.get() / 1_000_000
    }

    /// The limits that were hit, by name.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        Limit::ALL.iter().map(|(limit, name)| (*name, self.cores[0].limit_hits(*limit))).collect()
    }

    /// What happened.
    pub fn happened(&mut self) -> Tally {
        let mut all = self.tally.clone();
        all.merge(&self.core.ring().tally);
        all.merge(&self.operator.borrow().tally);
        all
    }

    /// What happened, line by line.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.scene.trace.borrow_mut().take().unwrap_or_default().into()
    }
}
