//! `/metrics`: every counter, in the text format of `OpenMetrics` 1.0 or in the older one of Prometheus, which more programs read.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use evergate_proto::counters::{Core, Limit, LinkState};
use hyper::HeaderMap;
use hyper::header::{ACCEPT, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::View;
use super::health::heartbeat_age_ms;
use super::status::{LOG_QUEUE, held, seconds};
use crate::process::logs::Figures;
use crate::process::shared::Shared;
use crate::process::watchdog::judge::Was;
use evergate_proto::lifecycle::Phase;

/// How they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `OpenMetrics` 1.0.
    Open,
    /// Prometheus' text format, 0.0.4.
    Classic,
}

impl Format {
    /// What a scraper with these `Accept` headers reads. Whoever does not say is a program that knows the older one, or a person.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accepts =
            |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"));
        if headers.get_all(ACCEPT).iter().any(accepts) { Self::Open } else { Self::Classic }
    }

    /// Its media type. Without that a scraper would take `# TYPE name counter` for another metric than `name_total`.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Phases, in order.
const PHASES: [Phase; 4] = [Phase::Starting, Phase::Serving, Phase::Draining, Phase::Stopping];

/// The whole exposition.
pub(super) fn render(view: &View, now_ms: u64, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("evergate");
    registry.register_collector(Box::new(Snapshot::of(view, now_ms)));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(match format {
        Format::Open => out,
        Format::Classic => classic(&out),
    })
}

/// The same in the older format: there a counter's name has its `_total` in the comments, too, what a program is stands in a gauge,
/// and units and the end are not marked.
fn classic(open: &str) -> String {
    let kinds: HashMap<&str, &str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut out = String::with_capacity(open.len());
    for line in open.lines() {
        let comment = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        let Some((mark, (name, rest))) = comment.and_then(|(mark, line)| Some((mark, line.split_once(' ')?))) else {
            if !line.starts_with('#') {
                out.extend([line, "\n"]);
            }
            continue;
        };
        let (suffix, kind) = match kinds.get(name) {
            Some(&"counter") => ("_total", "counter"),
            Some(&"info") => ("_info", "gauge"),
            kind => ("", kind.copied().unwrap_or("untyped")),
        };
        out.extend([mark, name, suffix, " ", if mark == "# TYPE " { kind } else { rest }, "\n"]);
    }
    out
}

/// One metric: its name, whether it is a gauge, its help line, its unit and its values with their labels.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    is_gauge: bool,
    help: &'static str,
    unit: Option<Unit>,
    samples: Vec<(Vec<(&'static str, String)>, Value)>,
}

/// A value of a sample.
#[derive(Clone, Copy, Debug)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// All values at one moment: a [`Collector`] must own what it encodes.
#[derive(Debug)]
struct Snapshot {
    metrics: Vec<Metric>,
    build: Vec<(&'static str, String)>,
}

impl Snapshot {
    fn of(view: &View, now_ms: u64) -> Self {
        let View { shared, options, .. } = view;
        let mut metrics = vec![
            Metric {
                name: "uptime",
                is_gauge: true,
                help: "Time since the process began.",
                unit: Some(Unit::Seconds),
                samples: vec![(vec![], Value::Real(seconds(now_ms)))],
            },
            process(),
            phase(shared),
            drain_left(shared),
        ];
        metrics.extend(cores(&shared.cores, now_ms));
        metrics.push(standstills(&shared.cores));
        metrics.push(turns(&shared.cores));
        metrics.push(links(&shared.cores, &options.domain));
        metrics.push(limits(view));
        let admin = [
            (
                "admin_connections_dropped",
                "Connections to the admin page that had to make room.",
                view.places.dropped(),
            ),
            (
                "admin_hosts_refused",
                "Requests to the admin page for a host that is none of its own.",
                view.hosts.refused(),
            ),
        ];
        metrics.extend(admin.map(|(name, help, value)| Metric {
            name,
            is_gauge: false,
            help,
            unit: None,
            samples: vec![(vec![], Value::Whole(value))],
        }));
        if let Some(log) = &options.log {
            metrics.extend(log_figures(log()));
        }
        Self { metrics, build: vec![("version", options.version.clone()), ("commit", options.commit.clone())] }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let build = Info::new(self.build.clone());
        build.encode(encoder.encode_descriptor("build", "What this program is.", None, MetricType::Info)?)?;
        for metric in &self.metrics {
            let kind = if metric.is_gauge { MetricType::Gauge } else { MetricType::Counter };
            let mut encoder = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            for (labels, value) in &metric.samples {
                // No sample without labels stands beside others, and an empty family would print `{}`.
                if labels.is_empty() {
                    value.encode(metric.is_gauge, encoder)?;
                    break;
                }
                value.encode(metric.is_gauge, encoder.encode_family(&labels.as_slice())?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(self, is_gauge: bool, encoder: MetricEncoder) -> fmt::Result {
        match (is_gauge, self) {
            (true, Self::Whole(value)) => ConstGauge::new(value).encode(encoder),
            (true, Self::Real(value)) => ConstGauge::new(value).encode(encoder),
            (false, Self::Whole(value)) => ConstCounter::new(value).encode(encoder),
            (false, Self::Real(value)) => ConstCounter::new(value).encode(encoder),
        }
    }
}

/// A state set: 1 for the phase that the process is in.
fn phase(shared: &Shared) -> Metric {
    let now = shared.phase();
    let sample = |phase: Phase| (vec![("phase", phase.name().to_owned())], Value::Whole(u64::from(phase == now)));
    Metric {
        name: "phase",
        is_gauge: true,
        help: "1 for the phase that the process is in.",
        unit: None,
        samples: PHASES.map(sample).into(),
    }
}

/// Which process it is, for whoever asks while a successor takes over.
fn process() -> Metric {
    Metric {
        name: "process",
        is_gauge: true,
        help: "1, with the number of the process: a successor has another.",
        unit: None,
        samples: vec![(vec![("pid", std::process::id().to_string())], Value::Whole(1))],
    }
}

/// No sample where nothing drains: 0 would say that the deadline has come.
fn drain_left(shared: &Shared) -> Metric {
    Metric {
        name: "drain_left",
        is_gauge: true,
        help: "Time to the deadline of the drain.",
        unit: Some(Unit::Seconds),
        samples: shared.drain_left_ms().map(|left_ms| (vec![], Value::Real(seconds(left_ms)))).into_iter().collect(),
    }
}

/// The table of [`evergate_proto::counters::Counts`], once a row, with a sample for each core.
fn cores(cores: &[Core], now_ms: u64) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for core in cores {
        for (row, (name, is_gauge, help, value)) in core.counts.table().into_iter().enumerate() {
            if metrics.len() == row {
                metrics.push(describe(name, is_gauge, help));
            }
            let value = match name {
                "heartbeat_ms" => Value::Real(seconds(heartbeat_age_ms(core, now_ms))),
                "looked_us" => Value::Real(Duration::from_micros(value).as_secs_f64()),
                _ => Value::Whole(value),
            };
            metrics[row].samples.push((vec![("core", core.cpu.to_string())], value));
        }
    }
    metrics
}

/// A row of the table, with its unit in Prometheus' own way: base units, named by the encoder.
fn describe(name: &'static str, is_gauge: bool, help: &'static str) -> Metric {
    let (name, help, unit) = match name {
        // Milliseconds on the process's own clock mean nothing to a scraper.
        "heartbeat_ms" => ("heartbeat_age", "Time since the core's loop last turned.", Some(Unit::Seconds)),
        "looked_us" => {
            ("looked", "Time for which the core has looked for messages instead of sleeping.", Some(Unit::Seconds))
        }
        _ => match name.strip_suffix("_bytes") {
            Some(name) => (name, help, Some(Unit::Bytes)),
            None => (name, help, None),
        },
    };
    Metric { name, is_gauge, help, unit, samples: Vec::new() }
}

/// The watchdog's record: the longest standstill of each core, and what the core was.
fn standstills(cores: &[Core]) -> Metric {
    let sample = |core: &Core| {
        let was = Was::ALL.get(usize::from(core.standstill_was.load(Relaxed))).map_or("", |was| was.name());
        let labels = vec![("core", core.cpu.to_string()), ("was", was.to_owned())];
        (labels, Value::Real(seconds(core.standstill_ms.load(Relaxed))))
    };
    Metric {
        name: "standstill_longest",
        is_gauge: true,
        help: "Longest time between two turns of the core's loop, and what the core was for most of it.",
        unit: Some(Unit::Seconds),
        samples: cores.iter().map(sample).collect(),
    }
}

/// The longest turn of each core: how long it can have kept somebody waiting who had nothing to do with it.
fn turns(cores: &[Core]) -> Metric {
    let sample = |core: &Core| {
        let labels = vec![("core", core.cpu.to_string())];
        (labels, Value::Real(core.turn_longest_us.load(Relaxed) as f64 / 1e6))
    };
    Metric {
        name: "turn_longest",
        is_gauge: true,
        help: "Longest time for which the core's loop has worked before it asked its ring again.",
        unit: Some(Unit::Seconds),
        samples: cores.iter().map(sample).collect(),
    }
}

fn links(cores: &[Core], domain: &str) -> Metric {
    let sample = |core: &Core, domain: &str, state: LinkState| {
        let labels = vec![("core", core.cpu.to_string()), ("domain", domain.to_owned())];
        (labels, Value::Whole(u64::from(state == LinkState::Up)))
    };
    let mut samples = Vec::new();
    for core in cores {
        samples.push(sample(core, domain, core.bus_state()));
        samples.extend(held(&core.other_domains).iter().map(|(domain, state)| sample(core, domain, *state)));
    }
    Metric {
        name: "bus_up",
        is_gauge: true,
        help: "1 while the links to the domain are up and Redis takes pushes.",
        unit: None,
        samples,
    }
}

fn log_figures(log: Figures) -> [Metric; 3] {
    let metric = |name, is_gauge, help, unit, value| Metric {
        name,
        is_gauge,
        help,
        unit,
        samples: vec![(vec![], Value::Whole(value))],
    };
    [
        metric(
            "log_lines_dropped",
            false,
            "Log lines lost: the queue was full, or they could not be written.",
            None,
            log.lines_lost,
        ),
        metric("log_dropped", false, "Bytes of those lines.", Some(Unit::Bytes), log.bytes_lost),
        metric("log_queue", true, "Bytes of log lines that wait to be written.", Some(Unit::Bytes), log.queued_bytes),
    ]
}

fn limits(view: &View) -> Metric {
    let View { shared, options, .. } = view;
    let mut samples = Vec::with_capacity(shared.cores.len() * Limit::ALL.len() + 1);
    for core in shared.cores.iter() {
        for &(limit, name) in Limit::ALL {
            let labels = vec![("core", core.cpu.to_string()), ("limit", name.to_owned())];
            samples.push((labels, Value::Whole(core.limit_hits(limit))));
        }
    }
    if let Some(log) = &options.log {
        samples.push((vec![("limit", LOG_QUEUE.to_owned())], Value::Whole(log().full)));
    }
    let help = "Times that a limit of the configuration was reached.";
    Metric { name: "limit_hits", is_gauge: false, help, unit: None, samples }
}
