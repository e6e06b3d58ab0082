//! What rounds amount to: the figures that table, JSON and page show.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::conduct::{Load, Measured, Server};
use super::fault::{self, ErrorDetail};
use super::round::Pace;
use super::tally::{OfKind, merged};

/// The shortest measured time that makes a rate, in seconds: the kernel counts a server's CPU time in steps of 10 ms.
pub const RATE_SECONDS_MIN: f64 = 0.1;

/// A share of a core beyond which the generator is called the bottleneck.
const BOTTLENECK: f64 = 0.9;

/// Latencies, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Longest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

impl Latency {
    /// `None` where nothing was measured.
    fn new(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile) as f64);
        let (max, mean) = (microseconds(histogram.max() as f64), microseconds(histogram.mean()));
        Some(Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max, mean })
    }
}

/// Nanoseconds as microseconds with one decimal.
fn microseconds(nanoseconds: f64) -> f64 {
    rounded(nanoseconds / 1e3, 1)
}

/// Of the server's processes. CPU is that of the rounds in which it is known: of a server that died, the earlier ones.
#[derive(Debug, Clone, Serialize)]
pub struct OfServer {
    /// CPU time in the measured part over the right replies that came in it.
    pub cpu_us_per_request: Option<f64>,
    /// CPU time in the measured part.
    pub cpu_seconds: Option<f64>,
    /// CPU time over the length of the measured part.
    pub cpu_share: Option<f64>,
    /// Resident memory at its end.
    pub rss_bytes: Option<u64>,
    /// Proportional memory at its end.
    pub pss_bytes: Option<u64>,
    /// Resident memory before the first connection.
    pub rss_bytes_before: Option<u64>,
    /// Proportional memory before the first connection.
    pub pss_bytes_before: Option<u64>,
    /// Growth of resident memory by each idle client, after its round trip; `None` where it did not grow, as of a server
    /// that had as many clients before and kept their memory.
    pub rss_bytes_per_idle_client: Option<f64>,
    /// Growth of proportional memory by each idle client.
    pub pss_bytes_per_idle_client: Option<f64>,
}

/// Of this process.
#[derive(Debug, Clone, Serialize)]
pub struct OfGenerator {
    /// CPU time over the length of the measured part.
    pub cpu_share: Option<f64>,
    /// The same in the round with the most.
    pub cpu_share_max: Option<f64>,
    /// There it used so much of its core that it may be what was measured.
    pub is_bottleneck: bool,
}

/// Of one kind of a mix.
#[derive(Debug, Clone, Serialize)]
pub struct KindFigures {
    /// As in `--mix`.
    pub kind: &'static str,
    /// Service and method.
    pub call: String,
    /// Right replies that came within the measured part.
    pub requests: u64,
    /// The same per second.
    pub throughput: Option<f64>,
    /// Requests that failed in the whole run, each counted once.
    pub failed_requests: u64,
    /// The same by their faults.
    pub errors: BTreeMap<String, u64>,
    /// Right replies whose latency is in `latency_us`.
    pub latency_requests: u64,
    /// Latencies; of an open loop from the due time.
    pub latency_us: Option<Latency>,
}

impl KindFigures {
    /// Of one kind in all rounds.
    fn new(rounds: &[&OfKind], seconds: f64) -> Option<Self> {
        let first = rounds.first()?;
        let latency = merged(rounds.iter().map(|round| &round.latency));
        let requests = rounds.iter().map(|round| round.answered).sum();
        let mut errors = BTreeMap::<String, u64>::new();
        for (fault, count) in rounds.iter().flat_map(|round| &round.faults) {
            *errors.entry(fault.to_string()).or_default() += count;
        }
        Some(Self {
            kind: first.kind.name(),
            call: first.call.clone(),
            requests,
            throughput: rate(requests as f64, seconds, 1),
            failed_requests: errors.values().sum(),
            errors,
            latency_requests: latency.len(),
            latency_us: Latency::new(&latency),
        })
    }

    /// Of every kind; none where the mix is of one.
    fn all(rounds: &[&Measured], seconds: f64) -> Vec<Self> {
        let kinds = rounds.first().map_or(0, |round| round.tally.kinds.len());
        let of = |kind: usize| rounds.iter().filter_map(|round| round.tally.kinds.get(kind)).collect::<Vec<_>>();
        (0..kinds).filter_map(|kind| Self::new(&of(kind), seconds)).collect()
    }
}

/// All figures of one server; `None` is what was not measured.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The server.
    pub url: String,
    /// Active clients asked for.
    pub clients: usize,
    /// Connections that were opened, idle ones included, in the round with the fewest.
    pub connected: usize,
    /// The same in the round with the most.
    pub connected_most: usize,
    /// Every connection of every round was refused.
    pub refused: bool,
    /// Requests under way per client; none in an open loop.
    pub in_flight: Option<usize>,
    /// Requests per second asked for; none in a closed loop.
    pub rate: Option<f64>,
    /// Length of the measured part.
    pub seconds: f64,
    /// Right replies that came within it: throughput and the server's CPU per request are of these.
    pub requests: u64,
    /// Faults of the whole run, warm-up included, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The same at length, in the order of [`fault::Fault`].
    pub error_details: Vec<ErrorDetail>,
    /// Requests that failed in the whole run, each counted once: the errors that are no incidents.
    pub failed_requests: u64,
    /// Right replies per second.
    pub throughput: Option<f64>,
    /// Right replies whose latency is in `latency_us`: `requests`, but of an open loop those to requests that were due
    /// within the measured part, whenever they came.
    pub latency_requests: u64,
    /// Latencies; of an open loop from the due time.
    pub latency_us: Option<Latency>,
    /// The same by kind; absent where the mix is of one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindFigures>,
    /// Times from the first SYN to the end of the handshake, of the whole run.
    pub connect_us: Option<Latency>,
    /// Of the server's processes.
    pub server: OfServer,
    /// Of this process.
    pub generator: OfGenerator,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Open loop: requests sent more than a millisecond after they were due.
    pub sent_late: Option<u64>,
    /// Open loop: requests that were due and never sent.
    pub not_sent: Option<u64>,
    /// Clients per second of `--churn`; none without it.
    pub churn: Option<f64>,
    /// Those that came and went in the measured part.
    pub churned: Option<u64>,
    /// Connections of `--reconnect` that took the place of others, in the whole run; none without it.
    pub reconnects: Option<u64>,
    /// Requests that a Close with 1012 left unanswered, and that were sent again.
    pub retried: Option<u64>,
    /// Connections that the server closed with 1012, in the whole run.
    pub drained: u64,
    /// Errors that a drain in which nothing is lost does not make.
    #[serde(skip)]
    pub failures: u64,
    /// Idle clients that had their round trip.
    pub idle: usize,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// Every connection ended before the time.
    pub deserted: bool,
}

impl Figures {
    /// Of all rounds together.
    pub fn new(load: &Load, server: &Server, rounds: &[&Measured]) -> Self {
        let latency = merged(rounds.iter().map(|round| &round.tally.latency));
        let connect = merged(rounds.iter().map(|round| &round.tally.connect));
        let count = |of: fn(&Measured) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
        // An empty sum is -0.
        let seconds = rounds.iter().fold(0.0, |sum, round| sum + round.seconds);
        let requests = count(|round| round.tally.answered);
        let is_open = load.pace == Pace::Open;
        let has_churn = load.churn > 0.0;
        let faults = rounds.iter().flat_map(|round| &round.tally.faults);
        let details = fault::details(rounds.iter().map(|round| &round.tally), &server.target);
        Self {
            url: server.target.url.clone(),
            clients: load.clients,
            connected: rounds.iter().map(|round| round.connected).min().unwrap_or(0),
            connected_most: rounds.iter().map(|round| round.connected).max().unwrap_or(0),
            refused: !details.is_empty() && connect.is_empty() && !rounds.iter().any(|round| round.interrupted),
            in_flight: if let Pace::Closed { in_flight, .. } = load.pace { Some(in_flight) } else { None },
            rate: is_open.then_some(load.rate),
            seconds: rounded(seconds, 6),
            requests,
            errors: details.iter().map(|detail| (detail.kind.clone(), detail.count)).collect(),
            failed_requests: details.iter().filter(|detail| detail.is_request).map(|detail| detail.count).sum(),
            error_details: details,
            throughput: rate(requests as f64, seconds, 1),
            latency_requests: latency.len(),
            latency_us: Latency::new(&latency),
            kinds: KindFigures::all(rounds, seconds),
            connect_us: Latency::new(&connect),
            server: OfServer::new(rounds),
            generator: OfGenerator::new(rounds, seconds),
            bytes_in: count(|round| round.tally.bytes_in),
            bytes_out: count(|round| round.tally.bytes_out),
            sent_late: is_open.then(|| count(|round| round.tally.sent_late)),
            not_sent: is_open.then(|| count(|round| round.tally.not_sent)),
            churn: has_churn.then_some(load.churn),
            churned: has_churn.then(|| count(|round| round.tally.churned)),
            reconnects: load.reconnects.then(|| count(|round| round.tally.reconnects)),
            retried: load.reconnects.then(|| count(|round| round.tally.retried)),
            drained: count(|round| round.tally.drained),
            failures: faults.filter(|(fault, _)| !fault.is_of_drain()).map(|(_, count)| count).sum(),
            idle: rounds.last().map_or(0, |round| round.idle),
            interrupted: rounds.iter().any(|round| round.interrupted),
            deserted: rounds.iter().any(|round| round.deserted && round.connected > 0),
        }
    }
}

impl OfServer {
    fn new(rounds: &[&Measured]) -> Self {
        let last = rounds.last();
        let per_idle = |of: fn(&super::host::Memory) -> Option<u64>| {
            let last = last.filter(|round| round.idle > 0)?;
            let (before, after) = (of(&last.memory_before?)?, of(&last.memory_idle?)?);
            let growth = after.checked_sub(before).filter(|growth| *growth > 0)?;
            Some(rounded(growth as f64 / last.idle as f64, 1))
        };
        let memory = last.and_then(|round| round.memory);
        let before = last.and_then(|round| round.memory_before);
        let cpu = ServerCpu::new(rounds);
        Self {
            cpu_us_per_request: cpu.as_ref().and_then(ServerCpu::us_per_request),
            cpu_seconds: cpu.as_ref().map(|cpu| rounded(cpu.used, 3)),
            cpu_share: cpu.as_ref().and_then(|cpu| rate(cpu.used, cpu.seconds, 3)),
            rss_bytes: memory.map(|memory| memory.rss_bytes),
            pss_bytes: memory.and_then(|memory| memory.pss_bytes),
            rss_bytes_before: before.map(|memory| memory.rss_bytes),
            pss_bytes_before: before.and_then(|memory| memory.pss_bytes),
            rss_bytes_per_idle_client: per_idle(|memory| Some(memory.rss_bytes)),
            pss_bytes_per_idle_client: per_idle(|memory| memory.pss_bytes),
        }
    }
}

impl OfGenerator {
    fn new(rounds: &[&Measured], seconds: f64) -> Self {
        let used: f64 = rounds.iter().map(|round| round.own_cpu_seconds).sum();
        let measured = rounds.iter().filter(|round| round.seconds >= RATE_SECONDS_MIN);
        let share_max = measured.map(|round| round.own_cpu_seconds / round.seconds).reduce(f64::max);
        Self {
            cpu_share: rate(used, seconds, 3),
            cpu_share_max: share_max.map(|share| rounded(share, 3)),
            is_bottleneck: share_max.is_some_and(|share| share > BOTTLENECK),
        }
    }
}

/// The server's CPU in the rounds of which it is known.
struct ServerCpu {
    /// In seconds.
    used: f64,
    /// Length of their measured parts.
    seconds: f64,
    /// Right replies that came in them.
    answered: u64,
}

impl ServerCpu {
    fn new(rounds: &[&Measured]) -> Option<Self> {
        let known = |round: &&Measured| {
            let used = round.server_cpu_seconds?;
            Some(Self { used, seconds: round.seconds, answered: round.tally.answered })
        };
        rounds.iter().filter_map(known).reduce(|a, b| Self {
            used: a.used + b.used,
            seconds: a.seconds + b.seconds,
            answered: a.answered + b.answered,
        })
    }

    fn us_per_request(&self) -> Option<f64> {
        let is_known = self.answered > 0 && self.seconds >= RATE_SECONDS_MIN;
        is_known.then(|| rounded(self.used * 1e6 / self.answered as f64, 3))
    }
}

/// So much a second, where the time is long enough to say so.
fn rate(number: f64, seconds: f64, decimals: i32) -> Option<f64> {
    (seconds >= RATE_SECONDS_MIN).then(|| rounded(number / seconds, decimals))
}

/// So many decimals of it.
pub fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (number * scale).round() / scale
}

#[cfg(test)]
pub mod tests;
