//! How long things take now: of histograms that only ever grow, what was added since a reading of before.

use std::collections::VecDeque;
use std::time::Duration;

use evergate_proto::counters::Core;
use evergate_proto::histograms::{BOUNDS, Histogram, LATENCY, MOMENT, Reading, Scale};
use evergate_proto::services::{OTHER, Seen, Services};
use serde::Serialize;

use super::history::short;

/// Samples over which times are taken: a node with few requests has too few in a second.
const SAMPLES: usize = 10;

/// Samples over which services are judged, and how many of them pass between two readings.
const SERVICE_SAMPLES: usize = 60;
const SERVICE_EVERY: usize = 10;

/// Services that are shown.
const SERVICES_MAX: usize = 12;

/// Times as of now.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_field_names, reason = "a number has its unit in its name")]
pub(super) struct Times {
    /// To the first reply, of all services, microseconds: half of them, and all but a hundredth, took no longer. Not a number where there
    /// was none.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Redis' round trip, the mean, microseconds.
    pub bus_us: f64,
}

/// What one service's callers see.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ServiceNow {
    name: String,
    /// Requests that ended, a second.
    #[serde(serialize_with = "short")]
    requests: f64,
    /// To the first reply, as in [`Times`].
    #[serde(serialize_with = "short")]
    p50_us: f64,
    #[serde(serialize_with = "short")]
    p99_us: f64,
    /// Requests that ended with an error, a second.
    #[serde(serialize_with = "short")]
    failures: f64,
}

/// What each service's callers had seen at some time.
type Reckoning = (Duration, Vec<(String, Seen)>);

/// Remembers readings.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// The first replies of all services, and Redis' round trips; the newest last.
    sums: VecDeque<(Reading, Reading)>,
    services: VecDeque<Reckoning>,
    /// Readings since the last of `services`.
    since: usize,
    now: Vec<ServiceNow>,
}

impl Latencies {
    /// Reads all cores at `now`.
    pub(super) fn read(&mut self, cores: &[Core], now: Duration) -> Times {
        let services: Vec<&Services> = cores.iter().map(|core| &core.services).collect();
        let seen = Services::seen(&services);
        let first = seen.iter().fold(nothing(&LATENCY), |sum, (_, seen)| sum.and(&seen.first));
        let trip = cores.iter().fold(nothing(&MOMENT), |sum, core| sum.and(&core.histograms.bus_round_trip.read()));
        let named = seen.into_iter().map(|(name, seen)| (name.unwrap_or(OTHER).to_owned(), seen)).collect();
        self.judge(now, named);
        let (first_before, trip_before) = self.sums.front().copied().unwrap_or((first, trip));
        self.sums.push_back((first, trip));
        if self.sums.len() > SAMPLES {
            self.sums.pop_front();
        }
        let (first, trip) = (added(&first, &first_before), added(&trip, &trip_before));
        Times { p50_us: quantile(&first, 0.5), p99_us: quantile(&first, 0.99), bus_us: mean(&trip) }
    }

    /// The services of the last minute, the slowest first.
    pub(super) fn services(&self) -> &[ServiceNow] {
        &self.now
    }

    fn judge(&mut self, now: Duration, seen: Vec<(String, Seen)>) {
        if let Some((then, before)) = self.services.front() {
            let seconds = now.saturating_sub(*then).as_secs_f64().max(1e-3);
            self.now = slowest(&seen, before, seconds);
        }
        if self.since == 0 {
            self.services.push_back((now, seen));
            if self.services.len() > SERVICE_SAMPLES / SERVICE_EVERY {
                self.services.pop_front();
            }
        }
        self.since = (self.since + 1) % SERVICE_EVERY;
    }
}

/// Those that have answered since `before`, `seconds` ago, the slowest first.
fn slowest(seen: &[(String, Seen)], before: &[(String, Seen)], seconds: f64) -> Vec<ServiceNow> {
    let of = |(name, seen): &(String, Seen)| {
        // Places are given for good: a name has all that it had, and perhaps none before.
        let then = before.iter().find(|(of, _)| of == name).map(|(_, seen)| seen);
        let first = then.map_or(seen.first, |then| added(&seen.first, &then.first));
        let ended = seen.completion.values() - then.map_or(0, |then| then.completion.values());
        let failures = seen.failures - then.map_or(0, |then| then.failures);
        (first.values() > 0 || ended > 0).then(|| ServiceNow {
            name: name.clone(),
            requests: ended as f64 / seconds,
            p50_us: quantile(&first, 0.5),
            p99_us: quantile(&first, 0.99),
            failures: failures as f64 / seconds,
        })
    };
    let mut services: Vec<ServiceNow> = seen.iter().filter_map(of).collect();
    services.sort_by(|a, b| b.p99_us.total_cmp(&a.p99_us));
    services.truncate(SERVICES_MAX);
    services
}

/// A histogram that has counted nothing.
fn nothing(scale: &'static Scale) -> Reading {
    Histogram::new(scale).read()
}

/// What was counted after `before`.
fn added(now: &Reading, before: &Reading) -> Reading {
    let mut added = *now;
    added.buckets.iter_mut().zip(before.buckets).for_each(|(bucket, before)| *bucket = bucket.saturating_sub(before));
    added.sum = now.sum.saturating_sub(before.sum);
    added
}

/// The value that so much of all values do not exceed, as if those of a bucket lay evenly in it; the last bound where they are beyond it.
fn quantile(of: &Reading, part: f64) -> f64 {
    let wanted = of.values() as f64 * part;
    let mut below = 0.0;
    for (at, &count) in of.buckets[..BOUNDS].iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = count as f64;
        if below + count >= wanted {
            let from = at.checked_sub(1).map_or(0, |before| of.scale.bounds[before]) as f64;
            return from + (of.scale.bounds[at] as f64 - from) * (wanted - below) / count;
        }
        below += count;
    }
    if of.values() == 0 { f64::NAN } else { of.scale.bounds[BOUNDS - 1] as f64 }
}

fn mean(of: &Reading) -> f64 {
    of.sum as f64 / of.values() as f64
}

#[cfg(test)]
mod tests {
    use evergate_proto::services::{Outcome, Places};

    use super::*;

    fn counted(values: &[u64]) -> Reading {
        let histogram = Histogram::new(&LATENCY);
        for value in values {
            histogram.count(*value);
        }
        histogram.read()
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_the_value() {
        // All of 1,000 to 2,500.
        let evenly = counted(&[2_000; 100]);
        assert!((quantile(&evenly, 0.5) - 1_750.0).abs() < 1.0 && (quantile(&evenly, 0.99) - 2_485.0).abs() < 1.0);
        let mixed = counted(&[vec![400; 98], vec![200_000, 90_000_000]].concat());
        assert!(quantile(&mixed, 0.5) <= 500.0, "{}", quantile(&mixed, 0.5));
        assert!((100_000.0..=250_000.0).contains(&quantile(&mixed, 0.99)), "{}", quantile(&mixed, 0.99));
        assert!((quantile(&mixed, 1.0) - 60_000_000.0).abs() < 1.0, "beyond the last bound is the last bound");
        assert!(quantile(&counted(&[]), 0.5).is_nan() && mean(&counted(&[])).is_nan());
    }

    #[test]
    fn what_was_before_does_not_count_and_a_quiet_time_has_no_latency() {
        let shared = crate::process::shared::Shared::new(&[0, 1]);
        let mut latencies = Latencies::default();
        let mut places = Places::default();
        let heard = |places: &mut Places, core: usize, name: &str, after_us: u64| {
            let services = &shared.cores[core].services;
            let outcome = Outcome { is_first: true, completed: 1, failed: u32::from(name == "b") };
            services.heard(places.of(services.names(), name), outcome, after_us);
        };
        heard(&mut places, 0, "a", 50_000_000);
        shared.cores[0].histograms.bus_round_trip.count(900_000);
        let mut at = Duration::ZERO;
        let mut read = |latencies: &mut Latencies| {
            at += Duration::from_secs(1);
            latencies.read(&shared.cores, at)
        };
        assert!(read(&mut latencies).p50_us.is_nan(), "that was before");
        heard(&mut places, 1, "a", 900);
        heard(&mut places, 0, "b", 9_000);
        shared.cores[1].histograms.bus_round_trip.count(100);
        shared.cores[0].histograms.bus_round_trip.count(300);
        let times = read(&mut latencies);
        assert!((500.0..=1_000.0).contains(&times.p50_us) && (5_000.0..=10_000.0).contains(&times.p99_us), "{times:?}");
        assert!((times.bus_us - 200.0).abs() < 1e-9, "{times:?}");
        let names: Vec<&str> = latencies.services().iter().map(|service| &*service.name).collect();
        assert_eq!(names, ["b", "a"], "the slowest first, and none that has not answered");
        let [slow, fast] = latencies.services() else { panic!("{:?}", latencies.services()) };
        assert!((slow.failures - 1.0).abs() < 1e-9 && slow.requests > 0.0 && fast.failures == 0.0, "{slow:?} {fast:?}");
        for _ in 0..=SAMPLES {
            read(&mut latencies);
        }
        assert!(read(&mut latencies).p99_us.is_nan() && latencies.services().len() == 2, "a minute is longer");
        for _ in 0..=SERVICE_SAMPLES {
            read(&mut latencies);
        }
        assert!(latencies.services().is_empty());
    }
}
