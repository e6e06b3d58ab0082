//! What rounds amount to: the figures that table, JSON and page show.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::conduct::{Load, Measured, Server};
use super::fault::Fault;
use super::round::Pace;
use super::tally::histogram;

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
    fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile) as f64);
        let (max, mean) = (microseconds(histogram.max() as f64), microseconds(histogram.mean()));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max, mean }
    }
}

/// Nanoseconds as microseconds with one decimal.
fn microseconds(nanoseconds: f64) -> f64 {
    (nanoseconds / 100.0).round() / 10.0
}

/// Of the server's processes.
#[derive(Debug, Clone, Serialize)]
pub struct OfServer {
    /// CPU time per right reply in the measured part.
    pub cpu_us_per_request: Option<f64>,
    /// CPU time in the measured part.
    pub cpu_seconds: Option<f64>,
    /// Resident memory at its end.
    pub rss_bytes: Option<u64>,
    /// Proportional memory at its end.
    pub pss_bytes: Option<u64>,
    /// Resident memory before the first connection.
    pub rss_bytes_before: Option<u64>,
    /// Proportional memory before the first connection.
    pub pss_bytes_before: Option<u64>,
    /// Growth of resident memory by each idle client, after its round trip.
    pub rss_bytes_per_idle_client: Option<f64>,
    /// Growth of proportional memory by each idle client.
    pub pss_bytes_per_idle_client: Option<f64>,
}

/// Of this process.
#[derive(Debug, Clone, Serialize)]
pub struct OfGenerator {
    /// CPU time over the length of the measured part.
    pub cpu_share: f64,
    /// It used so much of its core that it may be what was measured.
    pub is_bottleneck: bool,
}

/// All figures of one server.
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
    /// Right replies: those that came within it, or of an open loop those to requests that were due within it.
    pub requests: u64,
    /// Faults of the whole run, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Right replies per second.
    pub throughput: f64,
    /// Latencies.
    pub latency_us: Latency,
    /// Times from the first SYN to the end of the handshake.
    pub connect_us: Latency,
    /// Of the server's processes.
    pub server: OfServer,
    /// Of this process.
    pub generator: OfGenerator,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Open loop: requests sent more than a millisecond after they were due.
    pub sent_late: u64,
    /// Open loop: requests that were due and never sent.
    pub not_sent: u64,
    /// Clients of `--churn` that came and went.
    pub churned: u64,
    /// Idle clients that had their round trip.
    pub idle: usize,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// No connection was left before the time.
    pub deserted: bool,
}

impl Figures {
    /// Of all rounds together.
    pub fn new(load: &Load, server: &Server, rounds: &[&Measured]) -> Self {
        let mut latency = histogram();
        let mut connect = histogram();
        for round in rounds {
            latency += &round.tally.latency;
            connect += &round.tally.connect;
        }
        let count = |of: fn(&Measured) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
        let real = |of: fn(&Measured) -> Option<f64>| rounds.iter().map(|round| of(round)).sum::<Option<f64>>();
        // An empty sum is -0.
        let seconds = rounds.iter().fold(0.0, |sum, round| sum + round.seconds);
        let requests = latency.len();
        let cpu = real(|round| round.server_cpu_seconds).filter(|_| seconds > 0.0);
        // A round that ended before it began has a share of no time.
        let measured = rounds.iter().filter(|round| round.tally.answered > 0);
        let share = measured.map(|round| round.own_cpu_share).fold(0.0, f64::max);
        let last = rounds.last();
        let idle = last.map_or(0, |round| round.idle);
        let per_idle = |of: fn(&super::host::Memory) -> Option<u64>| {
            let last = last.filter(|round| round.idle > 0)?;
            let (before, after) = (of(&last.memory_before?)?, of(&last.memory_idle?)?);
            Some(rounded((after as f64 - before as f64) / last.idle as f64, 1))
        };
        let errors: BTreeMap<_, _> =
            faults(rounds).into_iter().map(|(fault, count)| (fault.to_string(), count)).collect();
        let is_refused = |round: &&Measured| round.connected == 0 && round.tally.churned == 0 && !round.interrupted;
        let memory = last.and_then(|round| round.memory);
        let before = last.and_then(|round| round.memory_before);
        Self {
            url: server.target.url.clone(),
            clients: load.clients,
            connected: rounds.iter().map(|round| round.connected).min().unwrap_or(0),
            connected_most: rounds.iter().map(|round| round.connected).max().unwrap_or(0),
            refused: !errors.is_empty() && rounds.iter().all(is_refused),
            in_flight: if let Pace::Closed { in_flight, .. } = load.pace { Some(in_flight) } else { None },
            rate: (load.pace == Pace::Open).then_some(load.rate),
            seconds: rounded(seconds, 6),
            requests,
            errors,
            throughput: if seconds > 0.0 { rounded(requests as f64 / seconds, 1) } else { 0.0 },
            latency_us: Latency::new(&latency),
            connect_us: Latency::new(&connect),
            server: OfServer {
                cpu_us_per_request: cpu
                    .filter(|_| count(|round| round.tally.answered) > 0)
                    .map(|cpu| rounded(cpu * 1e6 / count(|round| round.tally.answered) as f64, 3)),
                cpu_seconds: cpu.map(|cpu| rounded(cpu, 3)),
                rss_bytes: memory.map(|memory| memory.rss_bytes),
                pss_bytes: memory.and_then(|memory| memory.pss_bytes),
                rss_bytes_before: before.map(|memory| memory.rss_bytes),
                pss_bytes_before: before.and_then(|memory| memory.pss_bytes),
                rss_bytes_per_idle_client: per_idle(|memory| Some(memory.rss_bytes)),
                pss_bytes_per_idle_client: per_idle(|memory| memory.pss_bytes),
            },
            generator: OfGenerator { cpu_share: rounded(share, 3), is_bottleneck: share > BOTTLENECK },
            bytes_in: count(|round| round.tally.bytes_in),
            bytes_out: count(|round| round.tally.bytes_out),
            sent_late: count(|round| round.tally.sent_late),
            not_sent: count(|round| round.tally.not_sent),
            churned: count(|round| round.tally.churned),
            idle,
            interrupted: rounds.iter().any(|round| round.interrupted),
            deserted: rounds.iter().any(|round| round.deserted),
        }
    }
}

/// Faults of all rounds.
pub fn faults(rounds: &[&Measured]) -> BTreeMap<Fault, u64> {
    let mut sum = BTreeMap::new();
    for (fault, count) in rounds.iter().flat_map(|round| &round.tally.faults) {
        *sum.entry(*fault).or_default() += count;
    }
    sum
}

fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (number * scale).round() / scale
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::conduct::tests::load;
    use crate::tally::Tally;
    use crate::target::Target;

    /// A round in which so many replies came on so many connections.
    fn measured(connected: usize, replies: u64, interrupted: bool) -> Measured {
        let mut tally = Tally::new(false);
        tally.begin(0, 1_000_000_000);
        (0..replies).for_each(|_| tally.answer(1_000, 2_000));
        if connected == 0 && !interrupted {
            tally.fault(Fault::Refused(503));
        }
        Measured {
            tally,
            seconds: if replies > 0 { 1.0 } else { 0.0 },
            server_cpu_seconds: Some(0.5),
            memory_before: None,
            memory_idle: None,
            memory: None,
            own_cpu_share: 0.1,
            connected,
            idle: 0,
            interrupted,
            deserted: connected == 0,
        }
    }

    /// The figures of rounds, each with its connections and replies, and whether it was interrupted.
    pub fn figures(rounds: &[(usize, u64, bool)]) -> Figures {
        let rounds: Vec<Measured> = rounds.iter().map(|round| measured(round.0, round.1, round.2)).collect();
        let target = Target::new("ws://127.0.0.1:1/").expect("a URL");
        let server = Server { target, pids: vec![1], echo: false };
        Figures::new(&load(Pace::Open), &server, &rounds.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_server_that_was_not_measured_has_no_figure_that_is_none() {
        let rows = crate::table::rows(&[&figures(&[(4, 9, true)]), &figures(&[])]);
        let cells: Vec<&String> = rows.iter().map(|(_, cells)| &cells[1]).collect();
        assert!(!cells.iter().any(|cell| cell.contains("NaN") || cell.contains("-0")), "{cells:?}");
    }

    #[test]
    fn who_refused_one_round_has_not_refused_all() {
        assert!(figures(&[(0, 0, false), (0, 0, false)]).refused);
        let partly = figures(&[(4, 9, false), (0, 0, false)]);
        assert_eq!((partly.refused, partly.connected, partly.connected_most), (false, 0, 4));
        assert!(!figures(&[]).refused, "nobody asked");
        assert!(!figures(&[(0, 0, true)]).refused, "nobody waited for the answer");
    }
}
