//! Two verdicts: does the process live (`/healthz`), and should a balancer send it clients (`/readyz`). A core asks as
//! well, for `health_path`: so they read what the cores publish, and take no lock.

use std::sync::atomic::Ordering::Relaxed;

use crate::counters::{Core, LinkState};
use crate::process::phase::{Phase, Shared};

/// A core whose loop has not turned for so much of the time that it was given is not healthy. Half of the 10 s after which the
/// process gives such a core up: the balancer should know first. A starved core is healthy: to restart it would help nobody.
pub(super) const GIVEN_MAX_MS: u64 = 5_000;

/// A yes or no and its reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the answer is 200; else 503.
    pub good: bool,
    /// One line.
    pub why: String,
}

impl Verdict {
    fn no(why: String) -> Self {
        Self { good: false, why }
    }
}

/// Milliseconds since the loop of `core` turned.
pub(super) fn heartbeat_age_ms(core: &Core, now_ms: u64) -> u64 {
    // A core may turn between the caller's reading of the clock and this load.
    now_ms.saturating_sub(core.counts.heartbeat_ms.load(Relaxed))
}

/// Good while every core turns. A core that ended as it should has nothing left to turn for.
pub fn health(shared: &Shared) -> Verdict {
    for core in shared.cores.iter() {
        let given_ms = core.given_ms.load(Relaxed);
        if given_ms >= GIVEN_MAX_MS && !core.ended.load(Relaxed) {
            return Verdict::no(format!("core {} has not turned for {} s", core.cpu, given_ms / 1000));
        }
    }
    Verdict { good: true, why: format!("every core turns ({})", shared.cores.len()) }
}

/// Good only when Serving, with every core turning, its links up and its pushes taken, or that not so for less than the grace.
pub fn readiness(shared: &Shared, now_ms: u64, ready_bus_grace_seconds: u64) -> Verdict {
    let phase = shared.phase();
    if phase != Phase::Serving {
        return Verdict::no(format!("{}: not serving", phase.name()));
    }
    let health = health(shared);
    if !health.good {
        return health;
    }
    let mut forgiven = None;
    for core in shared.cores.iter() {
        let refused_since_ms = Some(core.bus_refused_since_ms.load(Relaxed)).filter(|&since_ms| since_ms > 0);
        let (what, since_ms) = if core.bus_state() != LinkState::Up {
            if !core.bus_ever_up.load(Relaxed) {
                return Verdict::no(format!("core {} has not reached the bus yet", core.cpu));
            }
            // The state and its time are two stores: 0 here means that the links went away, or came back, just now.
            let away_since_ms = match core.bus_away_since_ms.load(Relaxed) {
                0 => now_ms,
                since_ms => since_ms,
            };
            // Who refused every push before it went away has been of no use for longer.
            let since_ms = refused_since_ms.map_or(away_since_ms, |since_ms| since_ms.min(away_since_ms));
            ("the bus links have been away", since_ms)
        } else if let Some(since_ms) = refused_since_ms {
            ("the bus has refused every push", since_ms)
        } else {
            continue;
        };
        let lost_ms = now_ms.saturating_sub(since_ms);
        let line = format!(
            "core {}: {what} for {} s (ready_bus_grace_seconds is {ready_bus_grace_seconds})",
            core.cpu,
            lost_ms / 1000,
        );
        if lost_ms >= ready_bus_grace_seconds.saturating_mul(1000) {
            return Verdict::no(line);
        }
        forgiven.get_or_insert(line);
    }
    Verdict { good: true, why: forgiven.map_or_else(|| "serving".into(), |line| format!("serving, but {line}")) }
}
