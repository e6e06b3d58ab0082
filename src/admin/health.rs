//! Two verdicts: does the process live (`/healthz`), and should a balancer send it clients (`/readyz`). A core asks as
//! well, for `health_path`: so they read what the cores publish, and take no lock.

use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::counters::Core;
use evergate_proto::opensrf::printable::Shown;

use super::status::held;
use crate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;

/// A core whose loop has not turned for so much of the time that it was given is not healthy. Half of the 10 s after which the
/// process gives such a core up: the balancer should know first. A starved core is healthy: to restart it would help nobody.
pub(super) const GIVEN_MAX_MS: u64 = 5_000;

/// A Redis that has not answered for so long hangs: an answer takes less than a millisecond.
const SILENT_SAID_MS: u64 = 1_000;

/// A yes or no and its reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the answer is 200; else 503.
    pub good: bool,
    /// One line, fit for anybody: a core gives it to whoever asks for `health_path`.
    pub why: String,
    /// The place among the cores of the one whose bus is in trouble.
    pub core: Option<usize>,
}

impl Verdict {
    fn no(why: String) -> Self {
        Self { good: false, why, core: None }
    }

    /// The same, about the bus of the core at place `core`.
    fn of(self, core: usize) -> Self {
        Self { core: Some(core), ..self }
    }

    /// The line for the operator: with what Redis or the host says, and the remedy. Takes a lock: not for a core.
    pub(super) fn told(&self, shared: &Shared) -> String {
        let trouble = self.core.map(|core| held(&shared.cores[core].bus_trouble).clone()).unwrap_or_default();
        if trouble.is_empty() { self.why.clone() } else { format!("{}: {}", self.why, Shown(&trouble)) }
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
    Verdict { good: true, why: format!("every core turns ({})", shared.cores.len()), core: None }
}

/// Good only when Serving, with every core turning, its links up, its pushes taken and answered, or that not so for less than the
/// grace.
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
    for (index, core) in shared.cores.iter().enumerate() {
        let refused_since_ms = Some(core.bus_refused_since_ms.load(Relaxed)).filter(|&since_ms| since_ms > 0);
        let silent_ms = core.bus_silent_ms.load(Relaxed);
        let (what, since_ms) = if !core.bus_state().is_linked() {
            if !core.bus_ever_up.load(Relaxed) {
                return Verdict::no(format!("core {} has not reached the bus yet", core.cpu)).of(index);
            }
            // The state and its time are two stores: 0 here means that the links went away, or came back, just now.
            let away_since_ms = match core.bus_away_since_ms.load(Relaxed) {
                0 => now_ms,
                since_ms => since_ms,
            };
            // Who refused every push, or was silent, before it went away has been of no use for longer.
            let since_ms = refused_since_ms.map_or(away_since_ms, |since_ms| since_ms.min(away_since_ms));
            ("the bus links have been away", since_ms.min(now_ms.saturating_sub(silent_ms)))
        } else if let Some(since_ms) = refused_since_ms {
            ("the bus has refused every push", since_ms)
        } else if silent_ms >= SILENT_SAID_MS {
            ("the bus hangs: Redis has answered nothing of what it was given", now_ms.saturating_sub(silent_ms))
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
            return Verdict::no(line).of(index);
        }
        forgiven.get_or_insert((line, index));
    }
    match forgiven {
        None => Verdict { good: true, why: "serving".into(), core: None },
        Some((line, index)) => Verdict { good: true, why: format!("serving, but {line}"), core: Some(index) },
    }
}
