//! The load, a process of its own: visitors that come at a fixed rate, whatever the gateway does. Who is closed with 1012 before
//! its reply comes again, once, for its request was not relayed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::clock::unix_ms;
use super::process::{OTHER_CPU, Process, in_role};
use super::visitor::{Fault, STEP_MAX, Step, Visitor, Why};

/// Addresses that visitors come from, in turns: one has 28,000 ports.
pub const SOURCES: u32 = 16;
/// Visitors at once; there is no descriptor for more of them.
const AT_ONCE_MAX: usize = 8_000;
/// Who is let in as late as that had a packet lost: TCP sends the first again after a second.
const LATE: Duration = Duration::from_millis(900);
/// Faults that are kept with their time, at most: ten seconds without a gateway.
const TIMED_MAX: usize = 20_000;

/// What became of the visitors of a load, or of several.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Who came.
    pub visits: u64,
    /// Who had a reply in the end.
    pub answered: u64,
    /// Connections that never came to the gateway's 101.
    pub failed_connects: u64,
    /// Connections that were reset, at any step.
    pub resets: u64,
    /// Requests that a 1012 left unanswered, and that were sent again.
    pub retried: u64,
    /// Attempts whose request was sent and left unanswered otherwise, or by a second 1012.
    pub unanswered: u64,
    /// Requests that were sent and never answered, also not at the second time.
    pub lost: u64,
    /// Connections that were let in only after [`LATE`].
    pub late: u64,
    /// From the SYN to the gateway's 101, the longest, ms.
    pub entry_ms_max: f64,
    /// How far the load was behind its schedule, at most, ms.
    pub behind_ms_max: f64,
    /// Who did not even try, for [`AT_ONCE_MAX`] were there.
    pub turned_away: u64,
    /// What went wrong, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl Figures {
    /// Takes over those of another load.
    pub fn add(&mut self, other: &Self) {
        self.visits += other.visits;
        self.answered += other.answered;
        self.failed_connects += other.failed_connects;
        self.resets += other.resets;
        self.retried += other.retried;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.late += other.late;
        self.entry_ms_max = self.entry_ms_max.max(other.entry_ms_max);
        self.behind_ms_max = self.behind_ms_max.max(other.behind_ms_max);
        self.turned_away += other.turned_away;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }

    fn entered(&mut self, entry: Duration) {
        self.late += u64::from(entry > LATE);
        self.entry_ms_max = self.entry_ms_max.max(entry.as_secs_f64() * 1e3);
    }

    fn fault(&mut self, fault: Fault) {
        self.failed_connects += u64::from(matches!(fault.step, Step::Connect | Step::Upgrade));
        self.resets += u64::from(fault.why == Why::Reset);
        *self.faults.entry(fault.to_string()).or_default() += 1;
    }
}

/// A fault with its time, ms since 1970.
pub type TimedFault = (u64, String);

/// A load under way.
pub struct Visits(Process);

impl Visits {
    /// Lets `rate` visitors a second come to `target`, from [`SOURCES`] addresses from `source` on.
    pub fn start(target: SocketAddr, source: Ipv4Addr, rate: u64, folder: &Path) -> io::Result<Self> {
        let words = [target.to_string(), source.to_string(), rate.to_string()];
        let command = in_role(&["visits", &words[0], &words[1], &words[2]])?;
        Process::start("visits", OTHER_CPU, &command, folder).map(Self)
    }

    /// Lets nobody else come, and says what became of all who came.
    pub fn finish(mut self) -> io::Result<(Figures, Vec<TimedFault>)> {
        self.0.signal(Signal::SIGTERM)?;
        // Each of two attempts has four steps.
        let code = self.0.wait(8 * STEP_MAX)?;
        serde_json::from_str(&self.0.output())
            .map_err(|error| self.0.error(&format!("ended with {code} and without figures: {error}")))
    }
}

/// The load itself: `--role visits TARGET SOURCE RATE`.
pub fn play(target: &str, source: &str, rate: &str) -> io::Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&is_over))?;
    let load = Rc::new(Load {
        target: target.parse().map_err(io::Error::other)?,
        source: source.parse().map_err(io::Error::other)?,
        figures: RefCell::default(),
        timed: RefCell::default(),
    });
    let rate = rate.parse().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(Rc::clone(&load), rate, &is_over));
    println!("{}", serde_json::to_string(&(&*load.figures.borrow(), &*load.timed.borrow()))?);
    Ok(())
}

/// Where visitors go, and what became of them. Each of them holds it, too.
struct Load {
    /// Where the gateway is.
    target: SocketAddr,
    /// The first of the visitors' own addresses.
    source: Ipv4Addr,
    /// What became of them so far.
    figures: RefCell<Figures>,
    /// The first [`TIMED_MAX`] faults.
    timed: RefCell<Vec<TimedFault>>,
}

impl Load {
    /// Whether it leaves a request without its reply is for the visit to count.
    fn fault(&self, fault: Fault) {
        self.figures.borrow_mut().fault(fault);
        let mut timed = self.timed.borrow_mut();
        if timed.len() < TIMED_MAX {
            timed.push((unix_ms(), fault.to_string()));
        }
    }
}

/// Lets visitors come until it is over, and waits until they have left.
async fn run(load: Rc<Load>, rate: u64, is_over: &AtomicBool) {
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Their callers hold it once each.
    let held = Rc::strong_count(&load);
    let there = || Rc::strong_count(&load) - held;
    let (began, mut number) = (Instant::now(), 0);
    while !is_over.load(Relaxed) {
        tick.tick().await;
        let due = began.elapsed().as_millis() as u64 * rate / 1_000;
        let behind_ms = (due - number) as f64 * 1e3 / rate as f64;
        {
            let mut figures = load.figures.borrow_mut();
            figures.behind_ms_max = figures.behind_ms_max.max(behind_ms);
        }
        while number < due {
            number += 1;
            if there() < AT_ONCE_MAX {
                tokio::task::spawn_local(visit(Rc::clone(&load), number));
            } else {
                load.figures.borrow_mut().turned_away += 1;
            }
        }
    }
    while there() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// One visit, and a second try where a 1012 allows that.
async fn visit(load: Rc<Load>, number: u64) {
    load.figures.borrow_mut().visits += 1;
    let crossed = Fault { step: Step::Request, why: Why::Closed(1012) };
    let mut end = attempt(&load, number).await;
    let is_retried = end == Err(crossed);
    if is_retried {
        load.figures.borrow_mut().retried += 1;
        end = attempt(&load, number).await;
    }
    let mut figures = load.figures.borrow_mut();
    match end {
        Ok(()) | Err(Fault { step: Step::Close, .. }) => figures.answered += 1,
        Err(Fault { step, .. }) => {
            let is_unanswered = step == Step::Request;
            figures.unanswered += u64::from(is_unanswered);
            figures.lost += u64::from(is_unanswered || is_retried);
        }
    }
}

async fn attempt(load: &Load, number: u64) -> Result<(), Fault> {
    let source = Ipv4Addr::from_bits(load.source.to_bits() + (number % u64::from(SOURCES)) as u32);
    let began = Instant::now();
    let end = async {
        let mut visitor = Visitor::enter(load.target, source).await?;
        load.figures.borrow_mut().entered(began.elapsed());
        visitor.ask(number).await?;
        visitor.leave().await
    }
    .await;
    end.inspect_err(|fault| load.fault(*fault))
}
