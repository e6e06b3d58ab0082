//! From what the cores have counted to what they do in a second: the difference of two readings by the time between them.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use evergate_proto::counters::Core;
use serde::Serialize;

use super::history::{Sample, short};
use super::latency::{Latencies, ServiceNow, Times};
use crate::process::shared::Shared;
use crate::process::watchdog::scheduled;

/// What one core has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Gauges of now.
    pub clients: u64,
    pub pending: u64,
    pub buffered: u64,
    /// Counts.
    pub requests: u64,
    pub replies: u64,
    pub errors: u64,
    pub refused: u64,
    pub accepted: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Time on a CPU, by the kernel; none where it does not say.
    pub ran: Option<Duration>,
    /// Of that, time in which it has looked for messages and had none.
    pub looked: Duration,
}

/// What one core does in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Pace {
    #[serde(serialize_with = "short")]
    pub requests: f64,
    #[serde(serialize_with = "short")]
    pub replies: f64,
    #[serde(serialize_with = "short")]
    pub errors: f64,
    #[serde(serialize_with = "short")]
    pub refused: f64,
    #[serde(serialize_with = "short")]
    pub accepted: f64,
    #[serde(serialize_with = "short")]
    pub bytes_in: f64,
    #[serde(serialize_with = "short")]
    pub bytes_out: f64,
    /// Of its time, how much it worked; not a number where the kernel does not say.
    #[serde(serialize_with = "short")]
    pub busy: f64,
    /// Of its time, how much it looked for messages instead of sleeping.
    #[serde(serialize_with = "short")]
    pub looking: f64,
}

impl Totals {
    /// Of a core as of now.
    pub(super) fn of(core: &Core) -> Self {
        let counts = &core.counts;
        Self {
            clients: counts.open.load(Relaxed),
            pending: counts.pending.load(Relaxed),
            buffered: counts.core_bytes.load(Relaxed),
            requests: counts.requests.load(Relaxed),
            replies: counts.messages_out.load(Relaxed),
            errors: counts.errors_made.load(Relaxed),
            refused: counts.handshakes_refused.load(Relaxed),
            accepted: counts.accepted.load(Relaxed),
            bytes_in: core.histograms.message_in.read().sum,
            bytes_out: core.histograms.message_out.read().sum,
            ran: ran(core.thread.load(SeqCst)),
            looked: Duration::from_micros(counts.looked_us.load(Relaxed)),
        }
    }

    /// What was done since `before`, `elapsed` ago.
    fn since(&self, before: &Self, elapsed: Duration) -> Pace {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let rate = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before)) as f64 / seconds;
        let looking = self.looked.saturating_sub(before.looked).as_secs_f64() / seconds;
        let ran = self.ran.zip(before.ran).map_or(f64::NAN, |(now, then)| now.saturating_sub(then).as_secs_f64());
        Pace {
            requests: rate(|totals| totals.requests),
            replies: rate(|totals| totals.replies),
            errors: rate(|totals| totals.errors),
            refused: rate(|totals| totals.refused),
            accepted: rate(|totals| totals.accepted),
            bytes_in: rate(|totals| totals.bytes_in),
            bytes_out: rate(|totals| totals.bytes_out),
            // The two clocks do not read at one moment.
            busy: (ran / seconds - looking).clamp(0.0, 1.0),
            looking: looking.clamp(0.0, 1.0),
        }
    }
}

/// Time for which a thread of this process has run, where the kernel counts it.
fn ran(thread: i32) -> Option<Duration> {
    scheduled(thread).map(|(ran, _)| ran)
}

/// Remembers the last reading.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When it was, and what each core had counted.
    last: Option<(Duration, Vec<Totals>)>,
    latencies: Latencies,
}

impl Meter {
    /// Reads all cores now: a sample of the whole, and the pace of each. The first time there is nothing to compare with.
    pub(super) fn read(&mut self, shared: &Shared) -> Option<(Sample, Vec<Pace>)> {
        let totals: Vec<Totals> = shared.cores.iter().map(Totals::of).collect();
        let now = shared.now();
        let times = self.latencies.read(&shared.cores, now);
        self.compare(now, shared.phase() as u8, &totals, times)
    }

    /// The services of the last minute, the slowest first.
    pub(super) fn services(&self) -> &[ServiceNow] {
        self.latencies.services()
    }

    fn compare(&mut self, now: Duration, phase: u8, totals: &[Totals], times: Times) -> Option<(Sample, Vec<Pace>)> {
        let (then, before) = self.last.replace((now, totals.to_vec()))?;
        let elapsed = now.saturating_sub(then);
        let paces: Vec<Pace> =
            totals.iter().zip(&before).map(|(totals, before)| totals.since(before, elapsed)).collect();
        let sum = |of: fn(&Pace) -> f64| paces.iter().map(of).sum::<f64>();
        let gauge = |of: fn(&Totals) -> u64| totals.iter().map(of).sum::<u64>() as f64;
        let sample = Sample {
            at_ms: now.as_millis() as u64,
            phase,
            clients: gauge(|totals| totals.clients),
            pending: gauge(|totals| totals.pending),
            buffered: gauge(|totals| totals.buffered),
            requests: sum(|pace| pace.requests),
            replies: sum(|pace| pace.replies),
            errors: sum(|pace| pace.errors),
            refused: sum(|pace| pace.refused),
            accepted: sum(|pace| pace.accepted),
            busy: sum(|pace| pace.busy) / paces.len().max(1) as f64,
            bytes_in: sum(|pace| pace.bytes_in),
            bytes_out: sum(|pace| pace.bytes_out),
            p50_us: times.p50_us,
            p99_us: times.p99_us,
            bus_us: times.bus_us,
        };
        Some((sample, paces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Times = Times { p50_us: 1.0, p99_us: 2.0, bus_us: f64::NAN };

    #[test]
    fn a_rate_is_a_difference_by_the_time_that_really_passed() {
        let mut meter = Meter::default();
        let totals = |requests, ran_ms| Totals {
            clients: 5,
            requests,
            errors: requests / 10,
            ran: Some(Duration::from_millis(ran_ms)),
            looked: Duration::from_millis(ran_ms / 4),
            ..Totals::default()
        };
        assert_eq!(meter.compare(SECOND, 1, &[totals(100, 0), totals(0, 0)], TIMES), None, "one reading is no rate");
        // The thread came two seconds late, say.
        let (sample, paces) =
            meter.compare(4 * SECOND, 1, &[totals(400, 1_200), totals(30, 0)], TIMES).expect("two readings");
        assert_eq!((sample.at_ms, sample.phase, sample.clients), (4_000, 1, 10.0));
        assert!((sample.requests - 110.0).abs() < 1e-9 && (sample.errors - 11.0).abs() < 1e-9, "{sample:?}");
        assert!((paces[0].requests - 100.0).abs() < 1e-9 && (paces[1].requests - 10.0).abs() < 1e-9, "{paces:?}");
        // Of three seconds 1.2 on a CPU, 0.3 of those looking.
        assert!((paces[0].busy - 0.3).abs() < 1e-9 && (paces[0].looking - 0.1).abs() < 1e-9, "{paces:?}");
        assert!((sample.busy - 0.15).abs() < 1e-9, "{sample:?}");
    }

    #[test]
    fn where_the_kernel_does_not_count_the_time_of_threads_it_is_unknown_and_not_nothing() {
        let mut meter = Meter::default();
        meter.compare(SECOND, 1, &[Totals::default()], TIMES);
        let (sample, _) = meter.compare(2 * SECOND, 1, &[Totals::default()], TIMES).expect("two readings");
        assert!(sample.busy.is_nan() && sample.requests == 0.0, "{sample:?}");
    }

    #[test]
    fn the_time_of_a_thread_of_this_process_is_read_and_that_of_none_is_not() {
        let me = nix::unistd::gettid().as_raw();
        let before = ran(me).expect("this kernel counts");
        let mut n = 0_u64;
        while ran(me).expect("it counts") < before + Duration::from_millis(20) {
            n = n.wrapping_add(1);
        }
        assert!(n > 0);
        assert_eq!(ran(0), None);
    }
}
