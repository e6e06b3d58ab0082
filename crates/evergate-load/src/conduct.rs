//! One round from the first connection to the last close.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::back::Back;
use super::churn;
use super::connect::{Connected, connect};
use super::dispatch;
use super::host::{self, Memory};
use super::output;
use super::peer::{self, Peer};
use super::plan::Plan;
use super::progress::{Progress, Wait};
use super::round::{Pace, Phase, Round, in_flight};
use super::schedule::{Arrival, Schedule};
use super::tally::{Tally, histogram};
use super::target::{Target, source};
use super::watchdog::Watchdog;

/// Handshakes under way at once: a listener's backlog must not overflow.
const HANDSHAKES_MAX: usize = 256;

/// How often the conductor looks around while it waits.
const LOOK: Duration = Duration::from_millis(50);

/// How often the age of requests is looked at, at most.
const EXPIRY: Duration = Duration::from_secs(1);

/// Time for closing handshakes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for every task to end thereafter: longer than a connection and its handshake may take.
const END_TIMEOUT: Duration = Duration::from_secs(25);

/// Slices of the measured part.
const SLICES: u64 = 100;

/// The shortest slice, in nanoseconds.
const SLICE_NS_MIN: u64 = 100_000_000;

/// How a round is run.
#[derive(Debug, Clone)]
pub struct Load {
    /// Active clients.
    pub clients: usize,
    /// Clients that are connected and do nothing.
    pub idle: usize,
    /// Who begins a request when.
    pub pace: Pace,
    /// Requests per second of an open loop.
    pub rate: f64,
    /// How they are spread.
    pub arrival: Arrival,
    /// Length of the measured part.
    pub duration: Duration,
    /// Right replies that end it, in place of the time.
    pub count: Option<u64>,
    /// What goes before it.
    pub warmup: Duration,
    /// Time over which connections are opened; zero: as fast as it goes, and nobody asks before all are open.
    pub ramp: Duration,
    /// Clients whose connection ends come back.
    pub reconnects: bool,
    /// Connects and closes per second besides.
    pub churn: f64,
    /// Local addresses.
    pub sources: u32,
    /// Time after which a request is given up.
    pub timeout: Duration,
    /// Of everything random.
    pub seed: u64,
}

/// A server and its processes.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub target: Target,
    /// Its processes; empty: nothing is known of it.
    pub pids: Vec<u32>,
    /// Whether it is a bare echo.
    pub echo: bool,
}

/// What a round came to.
#[derive(Debug)]
pub struct Measured {
    /// The counts.
    pub tally: Tally,
    /// Length of the measured part.
    pub seconds: f64,
    /// The server's CPU time in it; `None`: unknown.
    pub server_cpu_seconds: Option<f64>,
    /// The server's memory before the first connection.
    pub memory_before: Option<Memory>,
    /// The same with the idle clients connected.
    pub memory_idle: Option<Memory>,
    /// The same at the end of the measured part.
    pub memory: Option<Memory>,
    /// The generator's CPU time in it.
    pub own_cpu_seconds: f64,
    /// Connections that were opened.
    pub connected: usize,
    /// Idle clients that had their round trip when that was measured.
    pub idle: usize,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// Every connection ended before the time; of a count, every one that could bring it nearer.
    pub deserted: bool,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// What was waited for has come.
    Done,
    /// The time is over.
    Time,
    /// Ctrl-C.
    Interrupted,
    /// No connection is left that matters.
    Deserted,
}

/// Runs a round.
pub async fn run(load: &Load, server: &Server, plan: Plan, stop: &AtomicBool, progress: &Progress) -> Measured {
    let round = Round::new(plan, load.pace, load.count, load.seed);
    round.tally.borrow_mut().recent = progress.is_shown().then(histogram);
    let conductor = Conductor { round, load, stop, progress, expiry_ns: Cell::new(0) };
    let memory_before = host::memory(&server.pids);
    conductor.connect(server, load.idle, true).await;
    if load.idle > 0 {
        conductor.wait(load.timeout, "idle clients", None, |round| in_flight(&round.idle.borrow()) == 0).await;
    }
    let idle = conductor.round.idle_ready();
    let memory_idle = host::memory(&server.pids).filter(|_| load.idle > 0);
    if load.ramp > Duration::ZERO {
        conductor.start();
    }
    conductor.connect(server, load.clients, false).await;
    let connected = conductor.round.opened.get();
    conductor.start();
    if load.churn > 0.0 {
        conductor.round.spawn(churn::run(Rc::clone(&conductor.round), server.target.clone(), load.clone()));
    }

    let behind = load.count.is_none().then_some(load.duration);
    let mut waited = conductor.wait(load.warmup, "warm-up", behind, |_| false).await;
    let round = Rc::clone(&conductor.round);
    let (cpu, own_cpu) = (host::cpu_seconds(&server.pids), host::own_cpu_seconds());
    if waited == Waited::Time {
        let slice_ns = (load.duration.as_nanos() as u64 / SLICES).max(SLICE_NS_MIN);
        round.tally.borrow_mut().begin(round.now_ns(), slice_ns);
        let length = if load.count.is_some() { Duration::MAX } else { load.duration };
        let mut watchdog = Watchdog::new(&round.tally.borrow(), 2 * load.timeout);
        let is_done = |round: &Round| {
            round.phase.get() != Phase::Running || load.count.is_some() && watchdog.has_expired(&round.tally.borrow())
        };
        waited = conductor.wait(length, "measuring", Some(Duration::ZERO), is_done).await;
    }
    round.tally.borrow_mut().end(round.now_ns());
    let server_cpu_seconds = host::cpu_seconds(&server.pids).zip(cpu).map(|(after, before)| after - before);
    let own_cpu_seconds = host::own_cpu_seconds() - own_cpu;
    let memory = host::memory(&server.pids);
    conductor.end().await;
    conductor.close().await;
    let tally = round.tally.replace(Tally::new(false));
    Measured {
        seconds: tally.seconds(),
        tally,
        server_cpu_seconds,
        memory_before,
        memory_idle,
        memory,
        own_cpu_seconds,
        connected,
        idle,
        interrupted: stop.load(Ordering::Relaxed),
        deserted: waited == Waited::Deserted && !stop.load(Ordering::Relaxed),
    }
}

/// How far a wait for a time is, or for a count, which has none.
fn progress_of<'a>(what: &'a str, gone: Duration, time: Duration, behind: Option<Duration>, round: &Round) -> Wait<'a> {
    if time < Duration::MAX {
        let left = behind.map(|behind| time.saturating_sub(gone) + behind);
        return Wait { what, gone: gone.as_millis() as u64, all: time.as_millis() as u64, left };
    }
    let answered = round.tally.borrow().answered;
    let all = round.count.unwrap_or(answered);
    // As fast as so far.
    let left = all.saturating_sub(answered) as f64 * gone.as_secs_f64() / answered as f64;
    Wait { what, gone: answered, all, left: Duration::try_from_secs_f64(left).ok() }
}

struct Conductor<'a> {
    round: Rc<Round>,
    load: &'a Load,
    stop: &'a AtomicBool,
    progress: &'a Progress,
    /// When requests are next looked at for their age, in nanoseconds of the run.
    expiry_ns: Cell<u64>,
}

impl Conductor<'_> {
    /// Opens connections, so many handshakes at once at most, and waits until each stands or has failed, or for Ctrl-C.
    async fn connect(&self, server: &Server, connections: usize, is_idle: bool) {
        let (round, began) = (&self.round, Instant::now());
        let target = Rc::new(server.target.clone());
        let first = if is_idle { 0 } else { self.load.idle };
        for n in 0..connections {
            if !is_idle && self.load.ramp > Duration::ZERO {
                let due = self.load.ramp.mul_f64(n as f64 / connections as f64);
                self.watch(due.saturating_sub(began.elapsed()), |_| None).await;
            }
            self.watch(Duration::MAX, |round| (round.shaking.get() < HANDSHAKES_MAX).then_some(Waited::Done)).await;
            if self.is_stopped() {
                return;
            }
            if n % 64 == 0 {
                let wait = Wait { what: "connecting", gone: n as u64, all: connections as u64, left: None };
                self.progress.show(wait, round);
            }
            let number = first + n;
            let (round, target) = (Rc::clone(round), Rc::clone(&target));
            let source = source(number, self.load.sources);
            let back = self.load.reconnects.then(|| Back::new(Rc::clone(&target), source));
            let shaking = round.counted(|round| &round.shaking);
            Rc::clone(&round).spawn(async move {
                let began_ns = round.now_ns();
                let connected = connect(&round, &target, source).await;
                drop(shaking);
                if let Some(Connected { stream, rest }) = connected {
                    let taken_ns = round.now_ns() - began_ns;
                    round.tally.borrow_mut().connect.saturating_record(taken_ns);
                    let peer = Peer::new(number as u32, stream, is_idle);
                    round.add(&peer);
                    Rc::clone(&round).spawn(peer::run(round, peer, rest, back));
                }
            });
        }
        self.watch(Duration::MAX, |round| (round.shaking.get() == 0).then_some(Waited::Done)).await;
    }

    /// Lets clients begin.
    fn start(&self) {
        if self.round.phase.replace(Phase::Running) == Phase::Running {
            return;
        }
        for peer in &*self.round.peers.borrow() {
            self.round.start(peer);
        }
        match self.load.pace {
            Pace::Open => {
                let schedule = Schedule::new(
                    self.load.arrival,
                    self.load.rate / self.round.plan.steps_mean(),
                    self.round.now_ns(),
                    self.load.seed.wrapping_add(1),
                );
                self.spawn_timed(dispatch::open_loop(Rc::clone(&self.round), schedule));
            }
            Pace::Closed { think_ns: 1.., .. } => self.spawn_timed(dispatch::thinkers(Rc::clone(&self.round))),
            Pace::Closed { .. } => {}
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for a time, a condition, Ctrl-C or the end of the last connection that matters. The round ends so long `behind` it, where
    /// that is known.
    async fn wait(
        &self,
        time: Duration,
        what: &str,
        behind: Option<Duration>,
        mut is_done: impl FnMut(&Round) -> bool,
    ) -> Waited {
        let began = Instant::now();
        let Load { clients, idle, count, .. } = *self.load;
        let is_deserted = |round: &Round| match round.phase.get() {
            // Clients that come and go hold no connection.
            _ if clients + idle == 0 => false,
            // Nobody brings the count nearer any more.
            Phase::Running if count.is_some() => round.peers.borrow().is_empty(),
            _ => round.open() == 0,
        };
        let look = |round: &Round| {
            self.progress.show(progress_of(what, began.elapsed(), time, behind, round), round);
            if is_done(round) {
                Some(Waited::Done)
            } else if is_deserted(round) {
                Some(Waited::Deserted)
            } else {
                None
            }
        };
        self.watch(time, look).await
    }

    /// Waits for a time, Ctrl-C, or what `look` finds, and gives up requests that take too long.
    async fn watch(&self, time: Duration, mut look: impl FnMut(&Round) -> Option<Waited>) -> Waited {
        let began = Instant::now();
        loop {
            if let Some(waited) = look(&self.round) {
                return waited;
            }
            if self.is_stopped() {
                return Waited::Interrupted;
            }
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Waited::Time;
            }
            self.expire();
            let _ = timeout(LOOK.min(left), self.round.changed.notified()).await;
        }
    }

    /// Lets no further request begin, and what is under way end.
    async fn end(&self) {
        self.round.phase.set(Phase::Ending);
        // What was due before is sent first: clients that close would not take it.
        self.until(END_TIMEOUT, |round| !round.is_timed.get()).await;
        self.wait(self.load.timeout + LOOK, "last replies", None, |round| in_flight(&round.peers.borrow()) == 0).await;
        self.expiry_ns.set(0);
        self.expire();
    }

    /// Gives up requests that have waited for too long; not at every look, for it asks each client.
    fn expire(&self) {
        let (now_ns, timeout) = (self.round.now_ns(), self.load.timeout);
        if now_ns >= self.expiry_ns.get() {
            self.expiry_ns.set(now_ns + (timeout / 4).min(EXPIRY).as_nanos() as u64);
            self.round.expire(now_ns.saturating_sub(timeout.as_nanos() as u64));
        }
    }

    /// Closes every connection politely, then those that do not answer, and waits for the end of all that is under way.
    async fn close(&self) {
        self.round.phase.set(Phase::Closing);
        self.round.closes.notify_waiters();
        self.round.thinking.borrow_mut().clear();
        let all: Vec<Rc<Peer>> = self.round.peers.borrow().iter().chain(&*self.round.idle.borrow()).cloned().collect();
        for peer in &all {
            peer.close(&self.round);
        }
        self.until(CLOSE_TIMEOUT, |round| round.open() == 0).await;
        for peer in &all {
            peer.cut();
        }
        self.until(END_TIMEOUT, |round| round.tasks.get() == 0).await;
        if self.round.tasks.get() > 0 {
            output::say(&format!("{} tasks have not ended", self.round.tasks.get()));
        }
    }

    /// Waits for a condition, so long at most.
    async fn until(&self, time: Duration, is_done: impl Fn(&Round) -> bool) {
        let began = Instant::now();
        while !is_done(&self.round) && began.elapsed() < time {
            let _ = timeout(LOOK, self.round.changed.notified()).await;
        }
    }

    /// A task that sends by the clock. Without a timer there is no load: that is worth a word.
    fn spawn_timed(&self, task: impl Future<Output = std::io::Result<()>> + 'static) {
        let round = Rc::clone(&self.round);
        round.is_timed.set(true);
        self.round.spawn(async move {
            if let Err(error) = task.await {
                output::say(&format!("no timer: {error}"));
            }
            round.is_timed.set(false);
        });
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::peer::tests::{round_on, sockets};

    /// A load of one client, for tests.
    pub fn load(pace: Pace) -> Load {
        Load {
            clients: 1,
            idle: 0,
            pace,
            rate: 1_000.0,
            arrival: Arrival::Fixed,
            duration: Duration::from_secs(1),
            count: None,
            warmup: Duration::ZERO,
            ramp: Duration::ZERO,
            reconnects: false,
            churn: 0.0,
            sources: 1,
            timeout: Duration::from_millis(100),
            seed: 1,
        }
    }

    #[test]
    fn what_is_due_when_an_open_loop_ends_is_sent_before_clients_close() {
        tokio_uring::start(async {
            let (ours, theirs) = sockets();
            let (round, peer) = round_on(ours, Pace::Open);
            round.spawn(peer::run(Rc::clone(&round), peer, Vec::new(), None));
            let (load, stop, progress) = (load(Pace::Open), AtomicBool::new(false), Progress::new(None));
            let conductor = Conductor {
                round: Rc::clone(&round),
                load: &load,
                stop: &stop,
                progress: &progress,
                expiry_ns: Cell::new(0),
            };
            conductor.start();
            round.tally.borrow_mut().begin(round.now_ns(), SLICE_NS_MIN);
            // The dispatcher does not get to see this.
            round.tally.borrow_mut().end(round.now_ns() + 10_000_000);
            conductor.end().await;
            drop(theirs);
            conductor.close().await;
            let tally = round.tally.borrow();
            assert_eq!(tally.not_sent, 0);
            assert!(tally.faults.get(&Fault::Missing) >= Some(&9), "{:?}", tally.faults);
        });
    }
}
