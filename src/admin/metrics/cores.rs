//! What the cores publish, core by core.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use evergate_proto::codes::Codes;
use evergate_proto::counters::{Core, Limit, LinkState};
use prometheus_client::registry::Unit;

use super::super::health::heartbeat_age_ms;
use super::super::status::{LOG_QUEUE, held, seconds};
use super::family::Family;
use crate::process::watchdog::judge::Was;

/// Everything but the limits' hits.
pub(super) fn families(cores: &[Core], now_ms: u64, domain: &str) -> Vec<Family> {
    let mut families = counts(cores, now_ms);
    families.extend([standstills(cores), turns(cores)]);
    families.extend(histograms(cores));
    families.extend([links(cores, domain), errors(cores), refusals(cores), closes(cores)]);
    families
}

fn cpu(core: &Core) -> String {
    core.cpu.to_string()
}

/// The table of [`evergate_proto::counters::Counts`], once a row, with a sample for each core.
fn counts(cores: &[Core], now_ms: u64) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for core in cores {
        for (row, (name, is_gauge, help, value)) in core.counts.table().into_iter().enumerate() {
            if families.len() == row {
                families.push(describe(name, is_gauge, help));
            }
            let family = &mut families[row];
            match name {
                "heartbeat_ms" => family.add([cpu(core)], seconds(heartbeat_age_ms(core, now_ms))),
                "looked_us" => family.add([cpu(core)], Duration::from_micros(value).as_secs_f64()),
                _ => family.add([cpu(core)], value),
            }
        }
    }
    families
}

/// A row of the table, with its unit in Prometheus' own way: base units, named by the encoder.
fn describe(name: &'static str, is_gauge: bool, help: &'static str) -> Family {
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
    let family = if is_gauge { Family::gauge(name, help) } else { Family::counter(name, help) }.labels(&["core"]);
    match unit {
        Some(unit) => family.unit(unit),
        None => family,
    }
}

/// The table of [`evergate_proto::histograms::Histograms`], likewise.
fn histograms(cores: &[Core]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for core in cores {
        for (row, (name, help, reading)) in core.histograms.table().into_iter().enumerate() {
            if families.len() == row {
                families.push(Family::histogram(name, help, reading.scale).labels(&["core"]));
            }
            families[row].add([cpu(core)], reading);
        }
    }
    families
}

/// The watchdog's record: the longest standstill of each core, and what the core was.
fn standstills(cores: &[Core]) -> Family {
    let help = "Longest time between two turns of the core's loop, and what the core was for most of it.";
    let family = Family::gauge("standstill_longest", help).unit(Unit::Seconds).labels(&["core", "was"]);
    cores.iter().fold(family, |family, core| {
        let was = Was::ALL.get(usize::from(core.standstill_was.load(Relaxed))).map_or("", |was| was.name());
        family.with([cpu(core), was.to_owned()], seconds(core.standstill_ms.load(Relaxed)))
    })
}

/// The longest turn of each core: how long it can have kept somebody waiting who had nothing to do with it.
fn turns(cores: &[Core]) -> Family {
    let help = "Longest time for which the core's loop has worked before it asked its ring again.";
    let family = Family::gauge("turn_longest", help).unit(Unit::Seconds).labels(&["core"]);
    let longest = |core: &Core| core.turn_longest_us.load(Relaxed) as f64 / 1e6;
    cores.iter().fold(family, |family, core| family.with([cpu(core)], longest(core)))
}

fn links(cores: &[Core], domain: &str) -> Family {
    let help = "1 while the links to the domain are up and Redis takes pushes.";
    let mut family = Family::gauge("bus_up", help).labels(&["core", "domain"]);
    for core in cores {
        let others = held(&core.other_domains);
        let all =
            std::iter::once((domain, core.bus_state())).chain(others.iter().map(|(name, state)| (&**name, *state)));
        for (domain, state) in all {
            family.add([cpu(core), domain.to_owned()], u64::from(state == LinkState::Up));
        }
    }
    family
}

/// Whether an option of that name is a limit whose hits are counted.
pub(super) fn is_limit(name: &str) -> bool {
    name == LOG_QUEUE || Limit::ALL.iter().any(|(_, limit)| *limit == name)
}

/// `log_full`: times that the log's queue was, which is no core's.
pub(super) fn limit_hits(cores: &[Core], log_full: Option<u64>) -> Family {
    let help = "Times that a limit of the configuration was reached; what all cores share has no core.";
    let mut family = Family::counter("limit_hits", help).labels(&["core", "limit"]);
    for core in cores {
        for &(limit, name) in Limit::ALL {
            family.add([cpu(core), name.to_owned()], core.limit_hits(limit));
        }
    }
    if let Some(full) = log_full {
        family.add([String::new(), LOG_QUEUE.to_owned()], full);
    }
    family
}

/// Over all cores, each code with its count, as a label has it.
fn by_code<const KNOWN: usize>(cores: &[Core], of: impl Fn(&Core) -> &Codes<KNOWN>) -> Vec<(String, u64)> {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for core in cores {
        for (at, (code, count)) in of(core).read().enumerate() {
            if sums.len() == at {
                sums.push((code.map_or("other".to_owned(), |code| code.to_string()), 0));
            }
            sums[at].1 += count;
        }
    }
    sums
}

fn errors(cores: &[Core]) -> Family {
    let family = Family::counter("errors", "Error replies that the gateway made, by status.").labels(&["status"]);
    let errors = by_code(cores, |core| &core.codes.errors);
    errors.into_iter().fold(family, |family, (status, count)| family.with([status], count))
}

fn refusals(cores: &[Core]) -> Family {
    let family = Family::counter("refusals", "Handshakes refused, by HTTP status.").labels(&["status"]);
    let refusals = by_code(cores, |core| &core.codes.refusals);
    refusals.into_iter().fold(family, |family, (status, count)| family.with([status], count))
}

fn closes(cores: &[Core]) -> Family {
    let help = "WebSocket connections that ended, by who began it and with which close code (1005: none given, 1006: no Close).";
    let mut family = Family::counter("closes", help).labels(&["by", "code"]);
    let by =
        [("gateway", by_code(cores, |core| &core.codes.closed)), ("client", by_code(cores, |core| &core.codes.left))];
    for (by, codes) in by {
        for (code, count) in codes {
            family.add([by.to_owned(), code], count);
        }
    }
    family
}
