//! The table of docs/metrics.md.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use super::family::{Family, Kind};
use super::{host, own};
use crate::admin::{AdminOptions, View};
use crate::process::logs::Figures;
use crate::process::shared::Shared;

/// Every metric as a row: its name in Prometheus' text format, its kind, its labels, what it says.
pub fn markdown() -> String {
    let options = AdminOptions { log: Some(Box::new(Figures::default)), ..AdminOptions::default() };
    let view = View::new(Arc::new(Shared::new(&[0])), options, ([127, 0, 0, 1], 0).into(), None);
    let mut text = "| metric | kind | labels | what it says |\n|---|---|---|---|\n".to_owned();
    let groups = [("evergate", own(&view, 0)), ("process", host::families(SystemTime::UNIX_EPOCH))];
    for (prefix, family) in groups.iter().flat_map(|(prefix, families)| families.iter().map(move |one| (prefix, one))) {
        let Family { kind, labels, help, .. } = family;
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {help} |", family.shown_name(prefix), labels.join(", "));
    }
    text
}
