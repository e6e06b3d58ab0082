//! `/status`: one JSON document, with exactly the keys of [`Status`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evergate_proto::counters::{self, Core, Limit};
use serde::Serialize;

use evergate_proto::opensrf::printable::Shown;
use evergate_proto::websocket::proxy_header::Opening;

use crate::config::Listen;
use crate::process::shared::Shared;

/// The limit of the log, which no core hits.
pub(super) const LOG_QUEUE: &str = "log_queue_bytes_max";

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    /// Of this program.
    pub version: &'a str,
    /// The commit it was built from.
    pub commit: &'a str,
    /// Process id.
    pub pid: u32,
    /// starting, serving, draining or stopping.
    pub phase: &'static str,
    /// Since the process began, to the millisecond.
    pub uptime_seconds: f64,
    /// Always there; empty where nothing drains.
    pub drain: Drain,
    /// What clients connect to, in the order of `listen`.
    pub listeners: Vec<ListenerStatus>,
    /// One a core, in the order in which they were started.
    pub cores: Vec<CoreStatus<'a>>,
    /// Times that each limit was hit, over all cores.
    pub limits: BTreeMap<&'static str, u64>,
}

/// One listener.
#[derive(Debug, Serialize)]
pub(super) struct ListenerStatus {
    /// Where: an address and a port, or `unix:` and a path.
    pub address: String,
    /// Whether a PROXY header is to come first.
    pub proxy: bool,
}

/// How far the drain is.
#[derive(Debug, Serialize)]
pub(super) struct Drain {
    /// To the deadline, never below 0; null where nothing drains.
    pub seconds_left: Option<f64>,
    /// What has been waited for longest, over all cores.
    pub oldest: Option<LongestWait>,
}

/// [`counters::Oldest`] as JSON.
#[derive(Debug, Serialize)]
pub(super) struct LongestWait {
    /// The service.
    pub service: String,
    /// The method; empty for a CONNECT or a session.
    pub method: String,
    /// Milliseconds.
    pub age_ms: u64,
    /// The client's address.
    pub client: String,
}

/// One core.
#[derive(Debug, Serialize)]
pub(super) struct CoreStatus<'a> {
    /// The CPU it is pinned to.
    pub core: usize,
    /// The sum of `sending`, `waiting_for_replies`, `waiting_for_room`, `in_stateful_session` and `idle`.
    pub open: u64,
    /// Clients with nothing pending, no session, nothing to send.
    pub idle: u64,
    /// Clients that wait for a reply.
    pub waiting_for_replies: u64,
    /// Clients with nothing pending that the bus or the core has no room for: what they sent waits.
    pub waiting_for_room: u64,
    /// Clients with a session and nothing pending.
    pub in_stateful_session: u64,
    /// Clients with reply bytes that the kernel has not taken.
    pub sending: u64,
    /// Closed by the drain at a gap.
    pub closed_at_gap: u64,
    /// Cut by the drain's deadline.
    pub closed_at_deadline: u64,
    /// Requests that came after our Close.
    pub crossed_close: u64,
    /// The primary domain's links, then the other domains'.
    pub bus: Vec<Bus<'a>>,
}

/// The links to one domain.
#[derive(Debug, Serialize)]
pub(super) struct Bus<'a> {
    /// The domain's name.
    pub domain: std::borrow::Cow<'a, str>,
    /// connecting, up, away, or refusing: connected, and Redis refuses every push.
    pub state: &'static str,
}

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// What the cores publish.
    pub shared: &'a Shared,
    /// Of this program.
    pub version: &'a str,
    /// The commit it was built from.
    pub commit: &'a str,
    /// The primary domain.
    pub domain: &'a str,
    /// How often the log's queue was full; none where there is no log.
    pub log_full: Option<u64>,
}

impl<'a> Status<'a> {
    /// The document as of now.
    pub(super) fn of(source: Source<'a>, now_ms: u64) -> Self {
        let Source { shared, version, commit, domain, log_full } = source;
        Self {
            version,
            commit,
            pid: std::process::id(),
            phase: shared.phase().name(),
            uptime_seconds: seconds(now_ms),
            drain: Drain { seconds_left: seconds_left(shared), oldest: oldest(shared) },
            listeners: shared.listening().iter().map(ListenerStatus::of).collect(),
            cores: shared.cores.iter().map(|core| CoreStatus::of(core, domain)).collect(),
            limits: limit_hits(shared, log_full).collect(),
        }
    }
}

/// Times that each limit was hit, over all cores; `log_full`: how often the log's queue was, which is no core's.
pub(super) fn limit_hits(shared: &Shared, log_full: Option<u64>) -> impl Iterator<Item = (&'static str, u64)> {
    let of = |limit| shared.cores.iter().map(|core| core.limit_hits(limit)).sum::<u64>();
    Limit::ALL.iter().map(move |&(limit, name)| (name, of(limit))).chain(log_full.map(|full| (LOG_QUEUE, full)))
}

/// The document as of now, as one line of JSON.
pub(super) fn json(source: Source, now_ms: u64) -> Result<String, serde_json::Error> {
    // What does not show stands within strings, where its escape means the same.
    serde_json::to_string(&Status::of(source, now_ms)).map(|text| Shown(&text).to_string())
}

impl ListenerStatus {
    fn of(listen: &Listen) -> Self {
        Self { address: listen.at.to_string(), proxy: listen.opening == Opening::ProxyHeader }
    }
}

impl<'a> CoreStatus<'a> {
    fn of(core: &Core, domain: &'a str) -> Self {
        let counts = &core.counts;
        let [idle, waiting_for_replies, waiting_for_room, in_stateful_session, sending] = [
            &counts.idle,
            &counts.waiting_for_replies,
            &counts.waiting_for_room,
            &counts.in_stateful_session,
            &counts.sending,
        ]
        .map(|gauge| gauge.load(Relaxed));
        let primary = Bus { domain: domain.into(), state: core.bus_state().name() };
        let others = held(&core.other_domains);
        Self {
            core: core.cpu,
            // Not the gauge: the sum must hold in every answer, and the core writes on while this reads.
            open: [idle, waiting_for_replies, waiting_for_room, in_stateful_session, sending].iter().sum(),
            idle,
            waiting_for_replies,
            waiting_for_room,
            in_stateful_session,
            sending,
            closed_at_gap: counts.closed_at_gap.load(Relaxed),
            closed_at_deadline: counts.closed_at_deadline.load(Relaxed),
            crossed_close: counts.crossed_close.load(Relaxed),
            bus: std::iter::once(primary)
                .chain(others.iter().map(|(domain, state)| Bus { domain: domain.clone().into(), state: state.name() }))
                .collect(),
        }
    }
}

/// Seconds to the drain's deadline; none where there is no drain.
fn seconds_left(shared: &Shared) -> Option<f64> {
    shared.drain_left_ms().map(seconds)
}

/// What has been waited for longest, over all cores.
fn oldest(shared: &Shared) -> Option<LongestWait> {
    shared.cores.iter().filter_map(LongestWait::of).max_by_key(|wait| wait.age_ms)
}

impl LongestWait {
    /// On one core.
    pub(super) fn of(core: &Core) -> Option<Self> {
        let counters::Oldest { service, method, age_ms, client } = held(&core.oldest).clone()?;
        Some(Self { service, method, age_ms, client })
    }
}

/// Seconds, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The lock, for as long as a copy takes; what a core left behind when it panicked can still be shown.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
