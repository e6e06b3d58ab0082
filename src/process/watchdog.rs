//! Watches that the cores turn: what the kernel says of their threads, and a witness on the CPU of one that stands still.
//! [`judge`] decides.

pub mod judge;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::counters::Core;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::shared::Shared;
use super::signals;
use judge::{Judge, Look, STANDSTILL_MAX, State, Verdict, Was};

/// A core that has not turned for so long, ms, is looked at closely: three of its ticks.
const CLOSE_LOOK_MS: u64 = 60;
/// A core that has not turned for so long, ms, gets a witness.
const WITNESS_MS: u64 = 1_000;
/// How often a witness shows that its CPU runs.
const WITNESS_EVERY: Duration = Duration::from_millis(100);
/// A standstill that the log hears of, ms.
const NOTABLE_MS: u64 = 1_000;

/// Watches the cores of the process.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    began: Instant,
    /// One a core.
    watched: Vec<Watched>,
}

/// What is known of one core.
#[derive(Debug, Default)]
struct Watched {
    judge: Judge,
    witness: Option<Witness>,
    /// The longest standstill that was recorded, ms.
    longest_ms: u64,
    /// The log has heard of this standstill.
    said: bool,
}

impl Watchdog {
    /// Watches the cores of `shared` from now on.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let judge = |core: &Core| Judge::new(core.counts.heartbeat_ms.load(SeqCst));
        let watched = shared.cores.iter().map(|core| Watched { judge: judge(core), ..Watched::default() }).collect();
        Self { shared: Arc::clone(shared), began: Instant::now(), watched }
    }

    /// Looks at every core; says whether one has failed. The more often, the more it sees.
    pub fn look(&mut self) -> bool {
        let mut failed = false;
        for (index, (core, watched)) in self.shared.cores.iter().zip(&mut self.watched).enumerate() {
            // One that ended as it should has nothing to turn for; one that has not begun waits for its CPU.
            let thread = core.thread.load(SeqCst);
            if thread == 0 || core.ended.load(SeqCst) {
                continue;
            }
            let heartbeat_ms = core.counts.heartbeat_ms.load(SeqCst);
            let still_ms = self.shared.now_ms().saturating_sub(heartbeat_ms);
            let thread = Thread::look(thread, still_ms >= CLOSE_LOOK_MS);
            let verdict = watched.judge.look(Look {
                at: self.began.elapsed(),
                heartbeat_ms,
                ran: thread.ran,
                queued: thread.queued,
                state: thread.state,
                witness: watched.witness.as_ref().map(Witness::beats),
            });
            core.given_ms.store(watched.judge.given().as_millis() as u64, SeqCst);
            match verdict {
                Verdict::Turns(was) => watched.turns(index, core, was),
                Verdict::Still(was) => watched.stands_still(index, core, still_ms, was),
                Verdict::Failed(was) => {
                    failed = true;
                    tracing::error!(
                        "core {index} has stood still for {} s of the time that it was given ({}): the process ends",
                        STANDSTILL_MAX.as_secs(),
                        was.name()
                    );
                }
            }
        }
        failed
    }
}

impl Watched {
    fn turns(&mut self, index: usize, core: &Core, was: Was) {
        self.witness = None;
        self.said = false;
        let longest_ms = core.standstill_ms.load(SeqCst);
        if longest_ms <= self.longest_ms {
            return;
        }
        self.longest_ms = longest_ms;
        core.standstill_was.store(was as u8, SeqCst);
        if longest_ms >= NOTABLE_MS {
            let seconds = longest_ms as f64 / 1_000.0;
            tracing::info!("core {index} stood still for {seconds:.1} s, the longest so far: {}", was.meaning());
        }
    }

    fn stands_still(&mut self, index: usize, core: &Core, still_ms: u64, was: Was) {
        if still_ms >= WITNESS_MS && self.witness.is_none() {
            // Where none can be started, the watchdog's own punctuality has to do.
            self.witness = Witness::start(core.cpu).ok();
        }
        if u128::from(still_ms) >= STANDSTILL_MAX.as_millis() && !self.said {
            self.said = true;
            tracing::warn!("core {index} has not turned for {} s: {}", still_ms / 1_000, was.meaning());
        }
    }
}

/// What the kernel says of a thread of this process.
#[derive(Debug, Default)]
struct Thread {
    ran: Duration,
    queued: Duration,
    state: Option<State>,
}

impl Thread {
    /// Looks at the thread of that number; for its state, which costs more, only if `closely`.
    fn look(thread: i32, closely: bool) -> Self {
        let scheduled = scheduled(thread);
        // A kernel without CONFIG_SCHED_INFO tells at least, to 10 ms, how long a thread ran; the state tells the rest.
        let stat = if closely || scheduled.is_none() { read(thread, "stat") } else { None };
        let (state, ran) = stat.as_deref().and_then(stat_of).unzip();
        let (ran, queued) = scheduled.unwrap_or((ran.unwrap_or_default(), Duration::ZERO));
        Self { ran, queued, state: state.flatten().filter(|_| closely) }
    }
}

/// For how long a thread of this process has run, and has waited in a run queue, where the kernel counts it (`CONFIG_SCHED_INFO`).
pub fn scheduled(thread: i32) -> Option<(Duration, Duration)> {
    schedstat(&read(thread, "schedstat")?)
}

fn read(thread: i32, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).ok()
}

/// Of `/proc/PID/task/TID/schedstat`: the time on a CPU, the time in a run queue.
fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut fields = text.split_ascii_whitespace().map(|field| field.parse().map(Duration::from_nanos));
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Of `/proc/PID/task/TID/stat`: the state, the time on a CPU.
fn stat_of(text: &str) -> Option<(Option<State>, Duration)> {
    // The name, in parentheses, may hold spaces and parentheses.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = match fields.next()? {
        "R" => Some(State::Runnable),
        "S" | "I" => Some(State::Asleep),
        "D" => Some(State::Blocked),
        "T" | "t" => Some(State::Stopped),
        _ => None,
    };
    let ticks: u64 = fields.skip(10).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    Some((state, Duration::from_millis(ticks * 1_000 / per_second.max(1))))
}

/// A thread on the CPU of a core that stands still, for as long as it does: its beats show that the CPU runs what sleeps there
/// when its time has come. Without it a CPU that the hypervisor has taken, timer and all, would pass for a core that has failed.
#[derive(Debug)]
struct Witness(Arc<AtomicU64>);

impl Witness {
    fn start(cpu: usize) -> std::io::Result<Self> {
        let beats = Arc::new(AtomicU64::new(0));
        let beating = Arc::downgrade(&beats);
        signals::blocked(|| {
            thread::Builder::new().name("witness".to_owned()).spawn(move || {
                let mut set = CpuSet::new();
                let _ = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
                while let Some(beats) = beating.upgrade() {
                    beats.fetch_add(1, SeqCst);
                    drop(beats);
                    thread::sleep(WITNESS_EVERY);
                }
            })
        })?;
        Ok(Self(beats))
    }

    fn beats(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_and_stat_are_read_whatever_the_name_of_the_thread() {
        assert_eq!(schedstat("1500000000 42 7\n"), Some((Duration::from_millis(1_500), Duration::from_nanos(42))));
        assert_eq!(schedstat(""), None);
        let stat = "7 (a) R (b) D 1 2 3 4 5 6 7 8 9 10 150 25 0 0";
        assert_eq!(stat_of(stat), Some((Some(State::Blocked), Duration::from_millis(1_750))));
        assert_eq!(stat_of("7 (x) t 1 2 3 4 5 6 7 8 9 10 0 0").map(|read| read.0), Some(Some(State::Stopped)));
        assert_eq!(stat_of("nothing"), None);
    }

    #[test]
    fn a_thread_of_this_process_is_seen_running_and_asleep() {
        let me = nix::unistd::gettid().as_raw();
        let before = Thread::look(me, true);
        assert_eq!(before.state, Some(State::Runnable));
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {}
        assert!(Thread::look(me, false).ran > before.ran);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeper = thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        let sleeper_id = receiver.recv().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while Thread::look(sleeper_id, true).state != Some(State::Asleep) {
            assert!(Instant::now() < until, "it never sleeps");
        }
        drop(end);
        sleeper.join().unwrap();
    }

    #[test]
    fn a_witness_beats_while_it_is_wanted() {
        let witness = Witness::start(crate::config::Host::ask().cpus[0]).unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while witness.beats() < 3 {
            assert!(Instant::now() < until, "it does not beat");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
