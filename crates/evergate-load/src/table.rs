//! The table at the end of a run.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::figures::{Figures, KindFigures, Latency};
use super::notes;
use super::versus::{Ratio, Ratios};

/// What the ratios' column is called.
const RATIOS: &str = "A / B";

/// One row: its name and how a server's figure reads.
type Row = (&'static str, fn(&Figures) -> Option<String>);

const ROWS: [Row; 27] = [
    ("connections", |f| Some(connections(f))),
    ("measured, s", |f| Some(format!("{:.2}", f.seconds))),
    ("right replies", |f| Some(thousands(f.requests))),
    ("right replies/s", |f| f.throughput.map(count)),
    ("failed requests, whole run", |f| Some(thousands(f.failed_requests))),
    ("other errors, whole run", |f| Some(thousands(f.errors.values().sum::<u64>() - f.failed_requests))),
    ("requests due, answered", |f| f.rate.map(|_| thousands(f.latency_requests))),
    ("latency p50", |f| f.latency_us.as_ref().map(|latency| time(latency.p50))),
    ("latency p90", |f| f.latency_us.as_ref().map(|latency| time(latency.p90))),
    ("latency p99", |f| f.latency_us.as_ref().map(|latency| time(latency.p99))),
    ("latency p99.9", |f| f.latency_us.as_ref().map(|latency| time(latency.p999))),
    ("latency max", |f| f.latency_us.as_ref().map(|latency| time(latency.max))),
    ("sent late (> 1 ms)", |f| f.sent_late.map(thousands)),
    ("due, never sent", |f| f.not_sent.map(thousands)),
    ("connect p50", |f| f.connect_us.as_ref().map(|connect| time(connect.p50))),
    ("connect p99", |f| f.connect_us.as_ref().map(|connect| time(connect.p99))),
    ("came and went", |f| f.churned.map(thousands)),
    ("closed by a drain (1012)", |f| Some(f.drained).filter(|count| *count > 0).map(thousands)),
    ("reconnects, whole run", |f| f.reconnects.map(thousands)),
    ("sent again after a 1012", |f| f.retried.map(thousands)),
    ("lost, whole run", |f| f.reconnects.map(|_| thousands(f.errors.get("lost").copied().unwrap_or(0)))),
    ("server CPU/right reply", |f| f.server.cpu_us_per_request.map(time)),
    ("server CPU, cores", |f| f.server.cpu_share.map(cores)),
    ("server RSS", |f| f.server.rss_bytes.map(bytes)),
    ("server PSS", |f| f.server.pss_bytes.map(bytes)),
    ("PSS/idle client", |f| f.server.pss_bytes_per_idle_client.map(|bytes| format!("{} B", count(bytes)))),
    ("generator CPU, cores", |f| f.generator.cpu_share.map(cores)),
];

/// How many there were, from the round with the fewest to that with the most.
fn connections(figures: &Figures) -> String {
    let [fewest, most] = [figures.connected, figures.connected_most].map(|count| thousands(count as u64));
    if fewest == most { fewest } else { format!("{fewest}–{most}") }
}

fn cores(share: f64) -> String {
    format!("{share:.2}")
}

/// Names and values, one column for each server and one for the ratios; rows of which nothing is known are left out.
pub fn rows(servers: &[&Figures], of_both: Option<&Ratios>) -> Vec<(&'static str, Vec<String>)> {
    let ratios = of_both.map(ratios);
    let row = |(name, of): Row| {
        let cells: Vec<Option<String>> = servers.iter().map(|figures| of(figures)).collect();
        let is_known = cells.iter().any(Option::is_some);
        let ratio =
            ratios.as_ref().map(|ratios| ratios.iter().find(|(of, _)| *of == name).map(|(_, text)| text.clone()));
        is_known.then(|| (name, cells.into_iter().chain(ratio).map(Option::unwrap_or_default).collect()))
    };
    ROWS.into_iter().filter_map(row).collect()
}

/// What the table of kinds shows of each.
pub const KIND_COLUMNS: [&str; 7] =
    ["kind", "right replies", "right replies/s", "failed, whole run", "latency p50", "latency p99", "latency p99.9"];

/// A row for each kind of a mix, of each server in turn; none where the mix is of one.
pub fn kind_rows(servers: &[&Figures]) -> Vec<[String; KIND_COLUMNS.len()]> {
    let named = names(servers.len()).into_iter().zip(servers);
    named.flat_map(|(name, figures)| figures.kinds.iter().map(move |kind| kind_row(name, kind))).collect()
}

fn kind_row(server: &str, figures: &KindFigures) -> [String; KIND_COLUMNS.len()] {
    let latency = |of: fn(&Latency) -> f64| figures.latency_us.as_ref().map(of).map(time).unwrap_or_default();
    [
        format!("{server}{}", figures.kind),
        thousands(figures.requests),
        figures.throughput.map(count).unwrap_or_default(),
        thousands(figures.failed_requests),
        latency(|latency| latency.p50),
        latency(|latency| latency.p99),
        latency(|latency| latency.p999),
    ]
}

/// What is put before what concerns one of two servers; nothing where there is one.
pub fn names(servers: usize) -> [&'static str; 2] {
    if servers > 1 { ["A: ", "B: "] } else { [""; 2] }
}

/// What each column is called.
pub fn columns(servers: &[&Figures], of_both: Option<&Ratios>) -> Vec<String> {
    let names = names(servers.len()).into_iter().zip(servers).map(|(name, figures)| format!("{name}{}", figures.url));
    names.chain(of_both.map(|_| RATIOS.to_owned())).collect()
}

/// The ratios that are known, by the name of their row.
fn ratios(ratios: &Ratios) -> Vec<(&'static str, String)> {
    let text = |ratio: Ratio| {
        let text = format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max);
        if ratio.rounds < ratios.rounds {
            format!("{text}, {} of {} rounds", ratio.rounds, ratios.rounds)
        } else {
            text
        }
    };
    [
        ("server CPU/right reply", ratios.cpu),
        ("latency p50", ratios.p50),
        ("latency p99", ratios.p99),
        ("right replies/s", ratios.throughput),
    ]
    .into_iter()
    .filter_map(|(name, ratio)| ratio.map(|ratio| (name, text(ratio))))
    .collect()
}

/// Table, errors and warnings, as they are printed.
pub fn render(figures: &[&Figures], of_both: Option<&Ratios>) -> String {
    let header = [String::new()].into_iter().chain(columns(figures, of_both));
    let all = rows(figures, of_both).into_iter();
    let mut out = drawn(header, all.map(|(name, cells)| [name.to_owned()].into_iter().chain(cells)));
    let kinds = kind_rows(figures);
    if !kinds.is_empty() {
        out.push_str(&drawn(KIND_COLUMNS.map(str::to_owned), kinds));
    }
    for (figures, name) in figures.iter().zip(names(figures.len())) {
        for error in &figures.error_details {
            let _ = writeln!(out, "error: {name}{}: {} ({})", error.kind, error.counted(), error.explained());
        }
        for note in notes::of(figures) {
            let _ = writeln!(out, "{name}{note}");
        }
    }
    for note in notes::of_table(figures, of_both) {
        let _ = writeln!(out, "{note}");
    }
    out
}

/// Lines between which there are columns, of which all but the first stand to the right.
fn drawn<Row: IntoIterator<Item = String>>(
    header: impl IntoIterator<Item = String>,
    rows: impl IntoIterator<Item = Row>,
) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// A time in the unit that suits it, from microseconds.
pub fn time(us: f64) -> String {
    match us {
        ..999.5 => format!("{} µs", digits(us)),
        ..999.5e3 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// Three digits, where they are behind the point.
fn digits(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn bytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// A count that was computed, with commas.
#[expect(clippy::cast_sign_loss, reason = "counts are not negative")]
pub fn count(number: f64) -> String {
    thousands(number.round() as u64)
}

/// A number with commas.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ratio_has_its_row() {
        let one = Some(Ratio { median: 1.0, min: 1.0, max: 1.0, rounds: 1 });
        let all = ratios(&Ratios { cpu: one, p50: one, p99: one, throughput: one, rounds: 2 });
        assert_eq!(all.len(), 4);
        for (name, text) in all {
            assert!(ROWS.iter().any(|(row, _)| *row == name), "{name}");
            assert!(text.ends_with("1 of 2 rounds"), "{text}");
        }
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([9.876, 12.34, 123.4].map(time), ["9.88 µs", "12.3 µs", "123 µs"]);
        assert_eq!([999.4, 999.6, 1_234.0].map(time), ["999 µs", "1.00 ms", "1.23 ms"]);
        assert_eq!([99_960.0, 999_600.0, 2_500_000.0].map(time), ["100 ms", "1.00 s", "2.50 s"]);
    }
}
