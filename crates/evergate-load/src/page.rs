//! The report as a page in one file: figures, latency by percentile, throughput and latency over time.

use std::fmt::Write as _;

use super::about::About;
use super::conduct::Measured;
use super::figures::{Figures, rounded};
use super::notes;
use super::plot::{Axes, Curve, draw};
use super::table::{KIND_COLUMNS, columns, count, kind_rows, names, rows};
use super::tally::merged;
use super::versus::Ratios;

/// Colours follow the reader's choice of light or dark.
const STYLE: &str = "\
    :root{color-scheme:light dark;--a:#1f5fa8;--b:#c2561a;--rule:#ddd;--shade:#f2f2f2;--note:#fff3d6}\
    @media(prefers-color-scheme:dark){:root{--a:#6cb0f5;--b:#f0955c;--rule:#444;--shade:#2b2b2b;--note:#4d3d10}}\
    body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em}\
    h1{font-size:1.4em;overflow-wrap:anywhere}h2{font-size:1.1em;margin-top:1.6em}table{border-collapse:collapse}\
    th,td{padding:.15em .8em;border-bottom:1px solid var(--rule);text-align:right;font-weight:normal}\
    td,tr>th:first-child{white-space:nowrap}tr:first-child>th{overflow-wrap:break-word}\
    tr>:first-child{text-align:left}td{font-variant-numeric:tabular-nums}.errors td:last-child{white-space:normal;text-align:left}\
.wide{overflow-x:auto}\
    .note{background:var(--note);padding:.4em .8em}svg{max-width:100%;height:auto;margin-top:1.2em}\
    .a{color:var(--a)}.b{color:var(--b)}.key{margin-right:1.5em;overflow-wrap:anywhere}\
    code{background:var(--shade);padding:.1em .3em}code span{display:inline-block;overflow-wrap:anywhere;max-width:100%}";

/// Quantiles of the plot; the axis has equal room for each further nine.
const QUANTILES: [(f64, &str); 7] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// The page.
pub fn render(
    servers: &[(&Figures, Vec<&Measured>)],
    of_both: Option<&Ratios>,
    about: &About,
) -> Result<String, String> {
    let figures: Vec<&Figures> = servers.iter().map(|(figures, _)| *figures).collect();
    let has_replies = figures.iter().any(|figures| figures.latency_requests > 0);
    let mut body = table(&figures, of_both);
    body.push_str(&kinds(&figures));
    body.push_str(&noted(&figures, of_both));
    let errors = errors(&figures);
    if errors.is_empty() && has_replies {
        body.push_str("<p>Every reply that came was right.</p>");
    } else if !errors.is_empty() {
        let _ = write!(body, "<h2>Errors</h2><table class=errors>{errors}</table>");
    }
    if figures.len() > 1 {
        body.push_str(&key(&figures));
    }
    if has_replies {
        for plot in [percentiles, throughput, latency_over_time] {
            body.push_str(&plot(servers)?);
        }
    }
    let words: Vec<String> = about.command.iter().map(|word| format!("<span>{}</span>", escape(word))).collect();
    let servers: Vec<String> = figures.iter().map(|figures| escape(&figures.url)).collect();
    Ok(format!(
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>evergate-load: {title}</title><style>{STYLE}</style>\
         <h1>Load test of {title}</h1><p>{day} {minute} UTC, evergate-load {version}</p>\
         <p><code>{command}</code></p>{body}</html>\n",
        title = servers.join(" and "),
        day = about.began.get(..10).unwrap_or_default(),
        minute = about.began.get(11..16).unwrap_or_default(),
        version = about.version,
        command = words.join(" "),
    ))
}

/// All figures, a column for each server.
fn table(figures: &[&Figures], of_both: Option<&Ratios>) -> String {
    let columns = columns(figures, of_both).into_iter().map(|column| breakable(&column));
    let rows = rows(figures, of_both).into_iter();
    drawn(
        [String::new()].into_iter().chain(columns),
        rows.map(|(name, cells)| [name.to_owned()].into_iter().chain(cells)),
    )
}

/// A row for each kind of a mix.
fn kinds(figures: &[&Figures]) -> String {
    let rows = kind_rows(figures);
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>By kind</h2>{}", drawn(KIND_COLUMNS.map(str::to_owned), rows))
}

/// A table under a `head` of HTML; the first cell of each row names it.
fn drawn<Row: IntoIterator<Item = String>>(
    head: impl IntoIterator<Item = String>,
    rows: impl IntoIterator<Item = Row>,
) -> String {
    let mut table = "<div class=wide><table><tr>".to_owned();
    for column in head {
        let _ = write!(table, "<th>{column}</th>");
    }
    for row in rows {
        table.push_str("</tr><tr>");
        for (index, cell) in row.into_iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let _ = write!(table, "<{tag}>{}</{tag}>", escape(&cell));
        }
    }
    table.push_str("</tr></table></div>");
    table
}

/// What must be known beside the figures.
fn noted(figures: &[&Figures], of_both: Option<&Ratios>) -> String {
    let mut noted = String::new();
    for (figures, name) in figures.iter().zip(names(figures.len())) {
        for note in notes::of(figures) {
            let _ = write!(noted, "<p class=note>{name}{}</p>", escape(&note));
        }
    }
    for note in notes::of_table(figures, of_both) {
        let _ = write!(noted, "<p class=note>{}</p>", escape(&note));
    }
    noted
}

/// A row for each kind of error.
fn errors(figures: &[&Figures]) -> String {
    let mut errors = String::new();
    for (figures, name) in figures.iter().zip(names(figures.len())) {
        for error in &figures.error_details {
            let (kind, counted, explained) = (&error.kind, error.counted(), escape(&error.explained()));
            let _ = write!(errors, "<tr><td>{name}{kind}</td><td>{counted}</td><td>{explained}</td></tr>");
        }
    }
    errors
}

/// Whose curves have which colour.
fn key(figures: &[&Figures]) -> String {
    let mut key = "<p>".to_owned();
    for (column, class) in columns(figures, None).iter().zip(["a", "b"]) {
        let _ = write!(key, "<span class=key><b class={class}>&#9644;</b> {}</span> ", escape(column));
    }
    key.push_str("</p>");
    key
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A column's name, to be broken only within its path: neither in a host's name nor in its port.
fn breakable(column: &str) -> String {
    let path = column.find("://").and_then(|scheme| Some(scheme + 3 + column[scheme + 3..].find('/')?));
    let (server, path) = column.split_at(path.unwrap_or(column.len()));
    let pieces: Vec<String> = path.split_inclusive(|letter: char| !letter.is_alphanumeric()).map(escape).collect();
    format!("{}<wbr>{}", escape(server), pieces.join("<wbr>"))
}

fn percentiles(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let curve = |(server, (_, rounds)): (usize, &(&Figures, Vec<&Measured>))| {
        let all = merged(rounds.iter().map(|round| &round.tally.latency));
        // Beyond the last value there is nothing to be drawn.
        let last = nines(1.0 - 0.5 / (all.len().max(1) as f64)).min(nines(QUANTILES[6].0));
        let steps = 240;
        let point = |step: i32| {
            let x = last * f64::from(step) / f64::from(steps);
            (x, (all.value_at_quantile(quantile(x)) as f64 / 1e3).max(1.0))
        };
        Curve { server, points: if all.is_empty() { Vec::new() } else { (0..=steps).map(point).collect() } }
    };
    let axes = Axes {
        title: "Latency by percentile",
        x: "percentile",
        x_reads: |x| {
            let named = QUANTILES.iter().find(|(quantile, _)| (nines(*quantile) - x).abs() < 1e-6);
            named.map_or(String::new(), |(_, name)| (*name).to_owned())
        },
        x_marks: QUANTILES.iter().map(|(quantile, _)| nines(*quantile)).collect(),
        y_reads: time_mark,
        y_log: true,
    };
    let curves: Vec<Curve> = servers.iter().enumerate().map(curve).collect();
    draw(&axes, &curves)
}

/// Where a quantile is on the axis.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn quantile(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

fn throughput(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let y_reads = |y| if y < 100.0 { number_mark(y) } else { count(y) };
    let axes = axes_of_time("Right replies per second over time", servers, y_reads, false);
    draw(&axes, &over_time(servers, |answered, seconds, _| Some(answered / seconds)))
}

fn latency_over_time(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let axes = axes_of_time("Latency p99 of the replies that came, over time", servers, time_mark, true);
    // Where no reply came, there is no latency.
    draw(&axes, &over_time(servers, |answered, _, p99_us| (answered > 0.0).then_some(p99_us.max(1.0))))
}

fn axes_of_time(
    title: &'static str,
    servers: &[(&Figures, Vec<&Measured>)],
    y_reads: fn(f64) -> String,
    y_log: bool,
) -> Axes {
    let has_rounds = servers.iter().any(|(_, rounds)| rounds.len() > 1);
    let x = if has_rounds { "seconds measured, rounds one after the other" } else { "seconds" };
    Axes { title, x, x_reads: number_mark, x_marks: Vec::new(), y_reads, y_log }
}

/// A figure of each slice, of replies, seconds and p99: a curve for each round.
fn over_time(servers: &[(&Figures, Vec<&Measured>)], of: fn(f64, f64, f64) -> Option<f64>) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (server, (_, rounds)) in servers.iter().enumerate() {
        let mut before = 0.0;
        for round in rounds {
            let (mut points, mut from) = (Vec::new(), 0.0);
            for slice in &round.tally.slices {
                let figure = of(slice.answered as f64, slice.at_seconds - from, slice.p99_us);
                points.extend(figure.map(|figure| (before + slice.at_seconds, figure)));
                from = slice.at_seconds;
            }
            before += round.seconds;
            curves.push(Curve { server, points });
        }
    }
    curves
}

/// A number at an axis, whose steps are round.
fn number_mark(number: f64) -> String {
    rounded(number, 3).to_string()
}

/// A time at an axis, from microseconds.
fn time_mark(us: f64) -> String {
    match us {
        ..1e3 => format!("{} µs", number_mark(us)),
        ..1e6 => format!("{} ms", number_mark(us / 1e3)),
        _ => format!("{} s", number_mark(us / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_breaks_within_its_path_alone() {
        assert_eq!(breakable("A: ws://[::1]:7682/a-b?c"), "A: ws://[::1]:7682<wbr>/<wbr>a-<wbr>b?<wbr>c");
        assert_eq!(breakable("ws://a:1"), "ws://a:1<wbr>");
    }
}
