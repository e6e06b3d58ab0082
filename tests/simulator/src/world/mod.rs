//! A core without its ring: does with the pure half what `src/core` does with it, in any order that
//! is legal, and holds all that it sees against the oracle.
//!
//! - `rules`: the limits of a run
//! - `shell`: the product called as the shell calls it, the tick, what may happen next
//! - `conn`: a client's connection
//! - `link`: the links to Redis; `told`: what they say
//! - [`actions`]: what the actors may do at any time
//! - [`checks`]: what must hold after every step
//! - `census`: an operator, who looks who is there and ends connections
//! - `ending`: everything is brought to its end

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::mixture::Mixture;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::redis::Redis;
use crate::tally::Tally;
use crate::workers::Workers;
use conn::Conn;
use evergate_proto::clients::table::Clients;
use evergate_proto::counters::{self, Limit};
use evergate_proto::lifecycle::{Left, Lifecycle, LifecycleOptions, Listener, Orders, Phase};
use evergate_proto::redis::links::{LinkId, Links};
use evergate_proto::redis::outbox::Push;
use link::{Expected, Line};

/// What went wrong.
pub struct Violation(pub String);

macro_rules! violated {
    ($($text:tt)*) => { std::panic::panic_any(crate::world::Violation(format!($($text)*))) };
}
pub(crate) use violated;

macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let line = format!("{:>6} {:>7} ms  {}", $world.step, $world.now, format!($($text)*));
            trace.push_back(line);
        }
    };
}

pub mod actions;
mod census;
pub mod checks;
mod conn;
mod ending;
mod link;
mod rules;
mod shell;
mod told;

pub use rules::{context, limit_the_bus, rules};

pub use link::options as link_options;

/// Of a drain's grace, or of its time, so much must be left for it to be cancelled, ms.
const CANCEL_MARGIN_MS: u64 = 100;

/// Whether the drain can be cancelled, and the port must be opened again for that: `None` where it is too late, or it never was begun.
pub fn cancels(orders: &Orders, now_ms: u64, is_port_closed: bool) -> Option<bool> {
    let is_in_grace = now_ms + CANCEL_MARGIN_MS < orders.drain_start_ms;
    let has_time = now_ms + CANCEL_MARGIN_MS < orders.drain_deadline_ms;
    let is_cancelled =
        orders.phase == Phase::Draining && orders.left == Left::NONE && (is_in_grace || is_port_closed && has_time);
    is_cancelled.then_some(!is_in_grace)
}

pub struct World {
    random: Random,
    mixture: Mixture,
    now: u64,
    next_tick: u64,
    clients: Clients,
    cores: Arc<[counters::Core]>,
    conns: Vec<Option<Conn>>,
    oracle: Oracle,
    /// The product's links; away while they are at work.
    links: Option<Links>,
    /// What the network knows of them: those that push to either domain, the one that pops.
    lines: [Line; 3],
    /// Decided while the links are at work.
    pushed: Vec<(usize, Push)>,
    /// What the links must tell in the call that is under way.
    expected: Expected,
    /// Connections that were given up, and of which something may still be told.
    given_up: Vec<(LinkId, u32)>,
    /// Of each Redis: the highest number that it has given, how often it was seen to have restarted.
    known: [(i64, u32); 2],
    /// Both links to the first domain were up at some time.
    was_up: bool,
    /// The link that pops was lost once.
    are_pops_lost: bool,
    /// What the network does: apart, so that old seeds do what they did.
    network: Random,
    /// Clients that ask in a drain as soon as they have all their answers, if there are such; apart, too.
    restless: Option<Random>,
    /// Ends connections now and then, in some runs; apart, too.
    operator: Option<Random>,
    /// Nothing hangs any more.
    is_ending: bool,
    redis: [Redis; 2],
    workers: Workers,
    /// The product's own account of where the core stands.
    lifecycle: Lifecycle,
    orders: Orders,
    /// Drains that have begun.
    drains: u32,
    listener: Listener,
    /// When a crowded listener has been emptied, ms.
    emptied_at: u64,
    has_ended: bool,
    is_deadline_told: bool,
    /// When everybody was told of the stop, ms.
    stopped_at: u64,
    drain_at_end: bool,
    /// Lines of the activity log.
    activity_lines: u64,
    /// How often the log has said that a client was told 429.
    logged_429: u64,
    next_client: usize,
    /// Messages that Redis has carried out, to see none twice.
    executed: BTreeSet<Vec<u8>>,
    pub tally: Tally,
    pub trace: Option<VecDeque<String>>,
    pub step: usize,
    clients_max: usize,
    life: LifecycleOptions,
    drain_max_ms: u64,
}

impl World {
    pub fn new(seed: u64, without: u32, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let r = &mut random;
        let mut rules = rules::rules(r);
        rules::limit_the_bus(&mut rules, &mut Random::new(seed ^ 0x6275_735f_6c69_6d69));
        let mixture = Mixture::new(actions::ACTIONS, r, without);
        let clients_max = r.between(2, 7) as usize;
        rules.quiet_ms = r.between(20, 80);
        let closes_per_second = [0.0, 2.0, 10.0, 200.0][r.below(4)];
        let drain_max_ms = r.between(600, 4000);
        let drain_at_end = r.percent(70);
        let cores: Arc<[counters::Core]> = vec![counters::Core::new(0)].into();
        let context = rules::context(&rules, &cores);
        let life = LifecycleOptions { closes_per_second, close_timeout_ms: rules.close_ms, stop_max_ms: 500 };
        let lifecycle = Lifecycle::new(life);
        let mut links = Links::new(link::options(), Rc::clone(context.names()));
        links.begin(1_000);
        let mut world = Self {
            random,
            mixture,
            now: 1_000,
            next_tick: 1_000,
            clients: Clients::new(context),
            cores,
            conns: Vec::new(),
            oracle: Oracle::new(rules),
            links: Some(links),
            lines: Default::default(),
            pushed: Vec::new(),
            expected: Expected::default(),
            given_up: Vec::new(),
            known: [(0, 0); 2],
            was_up: false,
            are_pops_lost: false,
            network: Random::new(seed ^ 0x6e65_7477_6f72_6b00),
            restless: Random::restless(seed),
            operator: Random::operator(seed),
            is_ending: false,
            redis: [Redis::default(), Redis::default()],
            workers: Workers::default(),
            lifecycle,
            orders: Orders::SERVING,
            drains: 0,
            listener: Listener::Closed,
            emptied_at: 0,
            has_ended: false,
            is_deadline_told: false,
            stopped_at: 0,
            drain_at_end,
            activity_lines: 0,
            logged_429: 0,
            next_client: 1,
            executed: BTreeSet::new(),
            tally: Tally::default(),
            trace: verbose.then(VecDeque::new),
            step: 0,
            clients_max,
            life,
            drain_max_ms,
        };
        world.do_what_links_want();
        world
    }

    /// Runs `steps` steps, then to the end of everything.
    pub fn run(&mut self, steps: usize) {
        self.live();
        while self.step < steps && !self.has_ended {
            self.one_step();
        }
        self.finish();
    }

    fn one_step(&mut self) {
        self.step += 1;
        let ms = if self.random.percent(50) { 0 } else { self.random.between(0, 3) };
        self.advance(ms);
        if self.has_ended {
            return;
        }
        if self.random.percent(60) || self.mixture.is_empty() {
            self.schedule();
        } else {
            self.act();
        }
        self.ask_again();
        self.operate();
        self.check();
    }

    /// The limits that were hit, by name.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        Limit::ALL.iter().map(|(limit, name)| (*name, self.cores[0].limit_hits(*limit))).collect()
    }

    /// What happened.
    pub fn happened(&self) -> Tally {
        let mut all = self.tally.clone();
        all.merge(&self.oracle.tally);
        all
    }
}
