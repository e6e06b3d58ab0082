//! Latencies by the time at which a call was due, and what they come to over some windows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due: a caller that is held up does not ask less.
    pub due: Instant,
    /// From there to its answer, or to when nobody waited any longer.
    pub took: Duration,
    /// Whether the right answer came.
    pub is_good: bool,
}

/// Calls that are over, in the order of their ends: whoever makes them adds, whoever judges looks.
#[derive(Clone, Default)]
pub struct Samples(Arc<Mutex<Vec<Sample>>>);

impl Samples {
    /// Moves `ended` in.
    pub fn append(&self, ended: &mut Vec<Sample>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(ended);
    }

    /// All so far.
    pub fn all(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A time from, to.
pub type Window = (Instant, Instant);

/// What the calls of some windows come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Calls.
    pub calls: usize,
    /// Those without the right answer. In the percentiles they count with the time that was waited for them.
    pub failed: usize,
    /// The middle one, milliseconds; NaN where there was none, like the others.
    pub p50: f64,
    /// 99 % were as fast or faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Summary {
    /// Of the calls that were due in one of the windows.
    pub fn of(samples: &[Sample], windows: &[Window]) -> Self {
        let within = |sample: &&Sample| windows.iter().any(|&(from, to)| from <= sample.due && sample.due < to);
        let calls: Vec<&Sample> = samples.iter().filter(within).collect();
        let mut ms: Vec<f64> = calls.iter().map(|sample| sample.took.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (ms.len() * percent).div_ceil(100).max(1);
            ms.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        let failed = calls.iter().filter(|sample| !sample.is_good).count();
        Self { calls: calls.len(), failed, p50: percentile(50), p99: percentile(99), max: percentile(100) }
    }

    /// For the file of results.
    pub fn json(&self) -> Value {
        let Self { calls, failed, p50, p99, max } = self;
        json!({ "calls": calls, "failed": failed, "p50_ms": p50, "p99_ms": p99, "max_ms": max })
    }
}
