//! `/metrics`: every counter, in the text format of `OpenMetrics` 1.0 or in the older one of Prometheus, which more programs read.
//!
//! - `family`: one metric with its samples
//! - `cores`: what the cores publish; `services`: what services cost their callers; `host`: what the kernel knows of the process
//! - `reference`: the table of docs/metrics.md

mod cores;
mod family;
mod host;
mod reference;
mod services;

use std::collections::HashMap;
use std::fmt;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, HeaderValue};
use prometheus_client::encoding::text;
use prometheus_client::registry::{Registry, Unit};

use super::View;
use super::actions::Actions;
use super::status::seconds;
use crate::process::logs::Figures;
use crate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;
use family::{Families, Family};
pub use reference::markdown;

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

/// The whole exposition.
pub(super) fn render(view: &View, now_ms: u64, format: Format) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(64 * 1024);
    for (prefix, families) in [("evergate", own(view, now_ms)), ("process", host::families(view.began))] {
        let mut registry = Registry::with_prefix(prefix);
        registry.register_collector(Box::new(Families(families)));
        text::encode_registry(&mut out, &registry)?;
    }
    text::encode_eof(&mut out)?;
    Ok(match format {
        Format::Open => out,
        Format::Classic => classic(&out),
    })
}

/// All that is the gateway's own.
fn own(view: &View, now_ms: u64) -> Vec<Family> {
    let View { shared, options, places, hosts, actions, .. } = view;
    let build = [options.version.clone(), options.commit.clone()];
    let mut families = vec![
        Family::info("build", "What this program is.", &["version", "commit"]).with(build, 1),
        Family::gauge("uptime", "Time since the process began.").unit(Unit::Seconds).value(seconds(now_ms)),
        process(),
        phase(shared),
        drain_left(shared),
    ];
    families.extend(cores::families(&shared.cores, now_ms, &options.domain));
    families.extend(services::families(&shared.cores));
    families.push(cores::limit_hits(&shared.cores, options.log.as_ref().map(|log| log().full)));
    families.push(limits(&options.numbers));
    families.extend([
        Family::counter("admin_connections_dropped", "Connections to the admin page that had to make room.")
            .value(places.dropped()),
        Family::counter("admin_hosts_refused", "Requests to the admin page for a host that is none of its own.")
            .value(hosts.refused()),
        Family::counter(
            "admin_actions_refused",
            "Requests to act that came without the token, or from a page of somebody else's.",
        )
        .value(actions.as_ref().map_or(0, Actions::refused)),
    ]);
    if let Some(log) = &options.log {
        families.extend(log_figures(log()));
    }
    families
}

/// Which process it is, for whoever asks while a successor takes over.
fn process() -> Family {
    let help = "1, with the number of the process: a successor has another.";
    Family::gauge("process", help).labels(&["pid"]).with([std::process::id().to_string()], 1)
}

/// A state set: 1 for the phase that the process is in.
fn phase(shared: &Shared) -> Family {
    let now = shared.phase();
    let family = Family::gauge("phase", "1 for the phase that the process is in.").labels(&["phase"]);
    let with = |family: Family, phase: Phase| family.with([phase.name().to_owned()], u64::from(phase == now));
    Phase::ALL.into_iter().fold(family, with)
}

/// No sample where nothing drains: 0 would say that the deadline has come.
fn drain_left(shared: &Shared) -> Family {
    let family = Family::gauge("drain_left", "Time to the deadline of the drain.").unit(Unit::Seconds);
    match shared.drain_left_ms() {
        Some(left_ms) => family.value(seconds(left_ms)),
        None => family,
    }
}

/// Every limit whose hits are counted, by the name of its option.
fn limits(numbers: &[(&'static str, u64)]) -> Family {
    let help = "What the configuration allows, in the unit of the option of that name (0 of some: no limit).";
    let family = Family::gauge("limit", help).labels(&["limit"]);
    let limits = numbers.iter().filter(|(name, _)| cores::is_limit(name));
    limits.fold(family, |family, (name, value)| family.with([(*name).to_owned()], *value))
}

fn log_figures(log: Figures) -> [Family; 3] {
    [
        Family::counter("log_lines_dropped", "Log lines lost: the queue was full, or they could not be written.")
            .value(log.lines_lost),
        Family::counter("log_dropped", "Bytes of those lines.").unit(Unit::Bytes).value(log.bytes_lost),
        Family::gauge("log_queue", "Bytes of log lines that wait to be written.")
            .unit(Unit::Bytes)
            .value(log.queued_bytes),
    ]
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
