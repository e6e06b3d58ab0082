//! What the page is told over `/events`: what the node is, when a page is opened, and then once a second how it does.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use evergate_proto::counters::Core;
use evergate_proto::lifecycle::Phase;
use evergate_proto::opensrf::printable::Shown;
use serde::Serialize;

use super::health::{Verdict, health, readiness};
use super::history::{Columns, Sample};
use super::latency::ServiceNow;
use super::meter::Pace;
use super::status::{CoreStatus, LOG_QUEUE, LongestWait, Status, seconds};
use super::{AdminOptions, View};
use crate::config::in_a_line;
use crate::process::shared::Shared;

/// Waits that are named, the longest first.
const WAITS_MAX: usize = 8;

/// What does not change, and what has been.
#[derive(Debug, Serialize)]
pub(super) struct Hello<'a> {
    version: &'a str,
    commit: &'a str,
    pid: u32,
    domain: &'a str,
    /// Where clients connect.
    listen: String,
    /// Whether the page has buttons that act.
    actions: bool,
    /// Where the page's console connects; null where it has none.
    console: Option<String>,
    /// The longest drain, and how long its port stays open.
    drain_max_seconds: u64,
    drain_grace_seconds: u64,
    history: Columns,
}

/// The node as of now.
#[derive(Debug, Serialize)]
pub(super) struct Now<'a> {
    phase: &'static str,
    uptime_seconds: f64,
    ready: Said,
    healthy: Said,
    drain: Option<Drain>,
    /// The newest of the samples.
    sample: Option<Sample>,
    cores: Vec<CoreNow<'a>>,
    limits: Vec<Gauge>,
    /// How often each limit was hit, those that were.
    hits: BTreeMap<&'static str, Hit>,
    /// The slowest first.
    services: &'a [ServiceNow],
}

/// How often a limit was hit, and when that was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Hit {
    pub times: u64,
    /// Milliseconds since the process began.
    pub last_at_ms: u64,
}

/// The last event of a process.
#[derive(Debug, Serialize)]
pub(super) struct Ended<'a> {
    /// How it ends.
    pub exit_code: u8,
    /// How it was at its end.
    pub now: Now<'a>,
}

/// A verdict, for an operator.
#[derive(Debug, Serialize)]
struct Said {
    good: bool,
    why: String,
}

/// A drain under way.
#[derive(Debug, Serialize)]
struct Drain {
    /// Until the port closes; 0 when it is closed.
    port_closes_in_seconds: f64,
    /// Until whoever is left is cut off.
    seconds_left: f64,
    /// Clients closed at a gap by this drain.
    closed_at_gap: u64,
    /// Closed by its deadline, and those of them that it hurt.
    closed_at_deadline: u64,
    cut: u64,
    /// Requests that came after a Close.
    crossed_close: u64,
    /// What has been waited for longest, on each core.
    waits: Vec<Wait>,
}

/// What has been waited for longest on one core.
#[derive(Debug, Serialize)]
struct Wait {
    core: usize,
    #[serde(flatten)]
    longest: LongestWait,
}

/// One core: as in `/status`, and what it does in a second.
#[derive(Debug, Serialize)]
struct CoreNow<'a> {
    #[serde(flatten)]
    status: CoreStatus<'a>,
    connections: u64,
    sessions: u64,
    pending: u64,
    buffered: u64,
    turn_longest_us: u64,
    /// None until two seconds have been compared.
    pace: Option<Pace>,
}

/// How near a limit is: of the fullest core where each has its own.
#[derive(Debug, PartialEq, Serialize)]
struct Gauge {
    name: &'static str,
    now: u64,
    most: u64,
    /// What is counted.
    unit: &'static str,
}

impl Said {
    fn of(verdict: &Verdict, shared: &Shared) -> Self {
        Self { good: verdict.good, why: verdict.told(shared) }
    }
}

impl<'a> Hello<'a> {
    pub(super) fn of(view: &'a View, console: Option<String>, history: Columns) -> Self {
        let options = &view.options;
        Self {
            version: &options.version,
            commit: &options.commit,
            pid: std::process::id(),
            domain: &options.domain,
            listen: in_a_line(view.shared.listening().iter().map(|listen| &listen.at)),
            actions: view.actions.is_some(),
            console,
            drain_max_seconds: options.number("drain_max_seconds"),
            drain_grace_seconds: options.number("drain_grace_seconds"),
            history,
        }
    }
}

impl<'a> Now<'a> {
    pub(super) fn of(
        view: &'a View,
        sample: Option<Sample>,
        paces: &[Pace],
        hits: &BTreeMap<&'static str, Hit>,
        services: &'a [ServiceNow],
    ) -> Self {
        let (shared, now_ms) = (&view.shared, view.shared.now_ms());
        let Status { phase, uptime_seconds, cores, .. } = Status::of(view.source(), now_ms);
        let core = |(index, (core, status)): (usize, (&Core, CoreStatus<'a>))| CoreNow {
            connections: core.counts.connections.load(Relaxed),
            sessions: core.counts.sessions.load(Relaxed),
            pending: core.counts.pending.load(Relaxed),
            buffered: core.counts.core_bytes.load(Relaxed),
            turn_longest_us: core.turn_longest_us.load(Relaxed),
            pace: paces.get(index).copied(),
            status,
        };
        Self {
            phase,
            uptime_seconds,
            ready: Said::of(&readiness(shared, now_ms, view.options.ready_bus_grace_seconds), shared),
            healthy: Said::of(&health(shared), shared),
            drain: shared.has_drain().then(|| Drain::of(shared)),
            sample,
            cores: shared.cores.iter().zip(cores).enumerate().map(core).collect(),
            limits: gauges(shared, &view.options, view.options.log.as_ref().map(|log| log().queued_bytes)),
            hits: hits.clone(),
            services,
        }
    }
}

impl Drain {
    fn of(shared: &Shared) -> Self {
        let sum = |of: fn(&Core) -> u64| shared.cores.iter().map(of).sum::<u64>();
        let at_gap = sum(|core| core.counts.closed_at_gap.load(Relaxed));
        let at_deadline = sum(|core| core.counts.closed_at_deadline.load(Relaxed));
        let of = |core: &Core| LongestWait::of(core).map(|longest| Wait { core: core.cpu, longest });
        let mut waits: Vec<Wait> = shared.cores.iter().filter_map(of).collect();
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.longest.age_ms));
        waits.truncate(WAITS_MAX);
        Self {
            // Once the process stops, nobody comes any more.
            port_closes_in_seconds: match shared.phase() {
                Phase::Draining => seconds(shared.drain_start_ms().saturating_sub(shared.now_ms())),
                _ => 0.0,
            },
            seconds_left: seconds(shared.drain_left_ms().unwrap_or_default()),
            closed_at_gap: at_gap.saturating_sub(shared.closed_before()),
            closed_at_deadline: at_deadline,
            cut: sum(|core| core.counts.cut.load(SeqCst)),
            crossed_close: sum(|core| core.counts.crossed_close.load(Relaxed)),
            waits,
        }
    }
}

/// The limits of which it can be told how near they are, in the order of the options.
fn gauges(shared: &Shared, options: &AdminOptions, log_bytes: Option<u64>) -> Vec<Gauge> {
    let sum = |of: fn(&Core) -> u64| shared.cores.iter().map(of).sum::<u64>();
    let fullest = |of: fn(&Core) -> u64| shared.cores.iter().map(of).max().unwrap_or_default();
    let gauge = |name, unit, now| Gauge { name, now, most: options.number(name), unit };
    let mut gauges = vec![
        gauge("clients_max", "connections", sum(|core| core.counts.connections.load(Relaxed))),
        gauge("handshakes_max", "handshakes", fullest(|core| core.counts.handshaking.load(Relaxed))),
        gauge("core_bytes_max", "bytes", fullest(|core| core.counts.core_bytes.load(Relaxed))),
        gauge("addresses_max", "addresses", fullest(|core| core.counts.addresses.load(Relaxed))),
        gauge("bus_unanswered_max", "messages", fullest(|core| core.counts.bus_unanswered.load(Relaxed))),
        gauge("bus_unanswered_bytes_max", "bytes", fullest(|core| core.counts.bus_unanswered_bytes.load(Relaxed))),
    ];
    gauges.extend(log_bytes.map(|bytes| gauge(LOG_QUEUE, "bytes", bytes)));
    gauges
}

/// One event of the stream: its name, and its data as one line of JSON. What others wrote and does not show is escaped, so that it
/// cannot begin a line.
pub(super) fn event(name: &str, data: &impl Serialize) -> String {
    // Numbers and text: nothing that JSON could not hold.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {}\n\n", Shown(&data))
}
