//! The table at the end of a run.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::conduct::Measured;
use super::figures::{Figures, faults};
use super::versus::{Ratio, Ratios};

/// What the ratios' column is called.
pub const RATIOS: &str = "A / B of medians (of rounds)";

/// One row: its name and how a server's figure reads.
type Row = (&'static str, fn(&Figures) -> Option<String>);

const ROWS: [Row; 21] = [
    ("connections", |f| Some(connections(f))),
    ("measured, s", |f| Some(format!("{:.2}", f.seconds))),
    ("right replies", |f| Some(thousands(f.requests))),
    ("errors", |f| Some(thousands(f.errors.values().sum()))),
    ("requests/s", |f| Some(count(f.throughput))),
    ("latency p50", |f| latency(f, f.latency_us.p50)),
    ("latency p90", |f| latency(f, f.latency_us.p90)),
    ("latency p99", |f| latency(f, f.latency_us.p99)),
    ("latency p99.9", |f| latency(f, f.latency_us.p999)),
    ("latency max", |f| latency(f, f.latency_us.max)),
    ("connect p50", |f| connect(f, f.connect_us.p50)),
    ("connect p99", |f| connect(f, f.connect_us.p99)),
    ("server CPU/request", |f| f.server.cpu_us_per_request.map(time)),
    ("server CPU, cores", |f| f.server.cpu_seconds.map(|cpu| format!("{:.2}", cpu / f.seconds))),
    ("server RSS", |f| f.server.rss_bytes.map(bytes)),
    ("server PSS", |f| f.server.pss_bytes.map(bytes)),
    ("PSS/idle client", |f| f.server.pss_bytes_per_idle_client.map(|bytes| format!("{} B", count(bytes)))),
    ("sent late (> 1 ms)", |f| f.rate.map(|_| thousands(f.sent_late))),
    ("due, never sent", |f| f.rate.map(|_| thousands(f.not_sent))),
    ("came and went", |f| (f.churned > 0).then(|| thousands(f.churned))),
    ("generator CPU, cores", |f| Some(format!("{:.2}", f.generator.cpu_share))),
];

/// How many there were, from the round with the fewest to that with the most.
fn connections(figures: &Figures) -> String {
    let [fewest, most] = [figures.connected, figures.connected_most].map(|count| thousands(count as u64));
    if fewest == most { fewest } else { format!("{fewest}–{most}") }
}

/// A latency, where anything was measured.
fn latency(figures: &Figures, us: f64) -> Option<String> {
    (figures.requests > 0).then(|| time(us))
}

/// Time for a connection, where there was one.
fn connect(figures: &Figures, us: f64) -> Option<String> {
    (figures.connect_us.max > 0.0).then(|| time(us))
}

/// Names and values, one column for each server; rows of which nothing is known are left out.
pub fn rows(servers: &[&Figures]) -> Vec<(&'static str, Vec<String>)> {
    let row = |(name, of): Row| {
        let cells: Vec<Option<String>> = servers.iter().map(|figures| of(figures)).collect();
        let known = cells.iter().any(Option::is_some);
        known.then(|| (name, cells.into_iter().map(Option::unwrap_or_default).collect()))
    };
    ROWS.into_iter().filter_map(row).collect()
}

/// What is put before what concerns one of two servers; nothing where there is one.
pub fn names(servers: usize) -> [&'static str; 2] {
    if servers > 1 { ["A: ", "B: "] } else { [""; 2] }
}

/// What each server's column is called.
pub fn columns(servers: &[&Figures]) -> Vec<String> {
    names(servers.len()).iter().zip(servers).map(|(name, figures)| format!("{name}{}", figures.url)).collect()
}

/// The ratios that are known, by name.
pub fn ratios(ratios: &Ratios) -> Vec<(&'static str, String)> {
    let text = |ratio: Ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max);
    [
        ("server CPU/request", ratios.cpu),
        ("latency p50", ratios.p50),
        ("latency p99", ratios.p99),
        ("requests/s", ratios.throughput),
    ]
    .into_iter()
    .filter_map(|(name, ratio)| ratio.map(|ratio| (name, text(ratio))))
    .collect()
}

/// Table, errors and warnings, as they are printed.
pub fn render(servers: &[(&Figures, Vec<&Measured>)], of_both: Option<&Ratios>) -> String {
    let figures: Vec<&Figures> = servers.iter().map(|(figures, _)| *figures).collect();
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let mut header: Vec<String> = vec![String::new()];
    header.extend(columns(&figures));
    let ratios = of_both.map(ratios);
    if ratios.is_some() {
        header.push(RATIOS.to_owned());
    }
    table.set_header(header);
    for (name, cells) in rows(&figures) {
        let mut row = vec![name.to_owned()];
        row.extend(cells);
        if let Some(ratios) = &ratios {
            row.push(ratios.iter().find(|(of, _)| *of == name).map_or_else(String::new, |(_, text)| text.clone()));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut out = format!("{table}\n");
    for ((figures, rounds), name) in servers.iter().zip(names(servers.len())) {
        for (fault, count) in faults(rounds) {
            let _ = writeln!(out, "error: {name}{fault}: {} ({})", thousands(count), fault.meaning());
        }
        for note in notes(figures) {
            let _ = writeln!(out, "{name}{note}");
        }
    }
    out
}

/// What the reader must know of the figures.
pub fn notes(figures: &Figures) -> Vec<String> {
    let mut notes = Vec::new();
    if figures.generator.is_bottleneck {
        notes.push(format!(
            "warning: the generator used {:.0} % of a core: it may be what was measured, not the server",
            figures.generator.cpu_share * 100.0
        ));
    }
    if figures.not_sent > 0 {
        let unsent = thousands(figures.not_sent);
        notes.push(format!("warning: {unsent} requests were due and never sent; their latency is in no figure"));
    }
    if figures.deserted {
        notes.push("warning: every connection ended before the time".to_owned());
    }
    if figures.seconds <= 0.0 {
        notes.push("note: nothing was measured".to_owned());
    }
    if figures.interrupted {
        notes.push("note: interrupted; the figures are those until then".to_owned());
    }
    notes
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
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([9.876, 12.34, 123.4].map(time), ["9.88 µs", "12.3 µs", "123 µs"]);
        assert_eq!([999.4, 999.6, 1_234.0].map(time), ["999 µs", "1.00 ms", "1.23 ms"]);
        assert_eq!([99_960.0, 999_600.0, 2_500_000.0].map(time), ["100 ms", "1.00 s", "2.50 s"]);
    }
}
