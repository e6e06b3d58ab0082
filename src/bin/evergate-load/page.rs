//! The report as a page in one file: figures, latency by percentile, throughput and latency over time.

use std::fmt::Write as _;

use plotters::coord::ranged1d::{NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::conduct::Measured;
use super::figures::{Figures, faults};
use super::table::{columns, count, notes, ratios, rows, thousands, time};
use super::tally::histogram;
use super::versus::Ratios;

/// Width and height of a plot.
const SIZE: (u32, u32) = (860, 340);

/// One colour for each server.
const COLOURS: [RGBColor; 2] = [RGBColor(0x1f, 0x5f, 0xa8), RGBColor(0xc2, 0x56, 0x1a)];

/// Quantiles of the plot; the axis has equal room for each further nine.
const QUANTILES: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// The points of a server's curve.
type Curve = Vec<(f64, f64)>;

/// What an axis is called and how its values read.
struct Axes {
    title: &'static str,
    x: &'static str,
    y_reads: fn(f64) -> String,
    x_reads: fn(f64) -> String,
    /// Whether y is drawn by its logarithm.
    y_log: bool,
}

/// The page.
pub fn render(servers: &[(&Figures, Vec<&Measured>)], of_both: Option<&Ratios>) -> Result<String, String> {
    let mut body = String::new();
    let figures: Vec<&Figures> = servers.iter().map(|(figures, _)| *figures).collect();
    let _ = write!(body, "<table><tr><th></th>");
    for column in columns(&figures) {
        let _ = write!(body, "<th>{}</th>", escape(&column));
    }
    let known = of_both.map(ratios);
    body.push_str(if known.is_some() { "<th>A / B (of rounds)</th></tr>" } else { "</tr>" });
    for (name, cells) in rows(&figures) {
        let _ = write!(body, "<tr><th>{name}</th>");
        for cell in cells {
            let _ = write!(body, "<td>{}</td>", escape(&cell));
        }
        if let Some(known) = &known {
            let ratio = known.iter().find(|(of, _)| *of == name).map_or("", |(_, text)| text);
            let _ = write!(body, "<td>{ratio}</td>");
        }
        body.push_str("</tr>");
    }
    body.push_str("</table>");
    let mut errors = String::new();
    for (figures, rounds) in servers {
        for (fault, count) in faults(rounds) {
            let _ = write!(
                errors,
                "<tr><td>{}</td><th>{fault}</th><td>{}</td><td class=l>{}</td></tr>",
                escape(&figures.url),
                thousands(count),
                fault.meaning()
            );
        }
        for note in notes(figures) {
            let _ = write!(body, "<p class=note>{}</p>", escape(&note));
        }
    }
    if errors.is_empty() {
        body.push_str("<p>Every reply was right.</p>");
    } else {
        let _ = write!(body, "<h2>Errors</h2><table>{errors}</table>");
    }
    body.push_str("<p>");
    for (column, colour) in columns(&figures).iter().zip(COLOURS).filter(|_| figures.len() > 1) {
        let RGBColor(r, g, b) = colour;
        let _ = write!(body, "<b style=\"color:rgb({r},{g},{b})\">&#9644;</b> {} &nbsp; ", escape(column));
    }
    body.push_str("</p>");
    for plot in [percentiles(servers)?, throughput(servers)?, latency_over_time(servers)?] {
        body.push_str(&plot);
    }
    let command: Vec<String> = std::env::args().collect();
    Ok(format!(
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>evergate-load: {title}</title><style>\
         body{{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}}\
         h1{{font-size:1.4em}}h2{{font-size:1.1em;margin-top:1.6em}}table{{border-collapse:collapse}}\
         th,td{{padding:.15em .8em;border-bottom:1px solid #ddd;text-align:right;font-weight:normal}}\
         th:first-child,.l{{text-align:left}}td{{font-variant-numeric:tabular-nums}}\
         .note{{background:#fff3d6;padding:.4em .8em}}svg{{max-width:100%;height:auto;margin-top:1.2em}}\
         code{{background:#f2f2f2;padding:.1em .3em;overflow-wrap:anywhere}}</style>\
         <h1>Load test of {title}</h1><p><code>{command}</code></p>{body}</html>\n",
        title = escape(&figures.first().map_or(String::new(), |figures| figures.url.clone())),
        command = escape(&command.join(" ")),
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A curve of each server.
fn curves(servers: &[(&Figures, Vec<&Measured>)], of: impl Fn(&[&Measured]) -> Vec<(f64, f64)>) -> Vec<Curve> {
    servers.iter().map(|(_, rounds)| of(rounds)).collect()
}

fn percentiles(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let curves = curves(servers, |rounds| {
        let mut all = histogram();
        for round in rounds {
            all += &round.tally.latency;
        }
        // Beyond the last value there is nothing to be drawn.
        let last = nines(1.0 - 0.5 / (all.len().max(1) as f64)).min(nines(QUANTILES[6].0));
        let steps = 240;
        let point = |step: i32| {
            let x = last * f64::from(step) / f64::from(steps);
            (x, (all.value_at_quantile(quantile(x)) as f64 / 1e3).max(1.0))
        };
        if all.is_empty() { Vec::new() } else { (0..=steps).map(point).collect() }
    });
    let axes = Axes {
        title: "Latency by percentile",
        x: "percentile",
        y_reads: time,
        x_reads: |x| {
            QUANTILES
                .iter()
                .find(|(q, _)| (nines(*q) - x).abs() < 1e-6)
                .map_or(String::new(), |(_, name)| (*name).to_owned())
        },
        y_log: true,
    };
    let marks = QUANTILES.iter().map(|(quantile, _)| nines(*quantile)).collect();
    draw(&axes, &curves, marks)
}

/// Where a quantile is on the axis.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn quantile(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

fn throughput(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let curves = over_time(servers, |answered, seconds, _| answered / seconds);
    let axes = Axes {
        title: "Right replies per second over time",
        x: "seconds measured, rounds one after the other",
        y_reads: |y| count(y),
        x_reads: |x| format!("{x}"),
        y_log: false,
    };
    draw(&axes, &curves, Vec::new())
}

fn latency_over_time(servers: &[(&Figures, Vec<&Measured>)]) -> Result<String, String> {
    let curves = over_time(servers, |_, _, p99_us| p99_us.max(1.0));
    let axes = Axes {
        title: "Latency p99 over time",
        x: "seconds measured, rounds one after the other",
        y_reads: time,
        x_reads: |x| format!("{x}"),
        y_log: true,
    };
    draw(&axes, &curves, Vec::new())
}

/// A figure of each slice: of replies, seconds and p99.
fn over_time(servers: &[(&Figures, Vec<&Measured>)], of: fn(f64, f64, f64) -> f64) -> Vec<Curve> {
    curves(servers, |rounds| {
        let (mut points, mut before) = (Vec::new(), 0.0);
        for round in rounds {
            let mut from = 0.0;
            for slice in &round.tally.slices {
                points.push((
                    before + slice.at_seconds,
                    of(slice.answered as f64, slice.at_seconds - from, slice.p99_us),
                ));
                from = slice.at_seconds;
            }
            before += round.seconds;
        }
        points
    })
}

/// A range of x with marks where one wants them.
struct Marked {
    range: std::ops::Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Marked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if self.marks.is_empty() {
            let steps: plotters::coord::types::RangedCoordf64 = self.range.clone().into();
            return steps.key_points(hint);
        }
        self.marks.iter().copied().filter(|mark| *mark <= self.range.end).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Marked {}

fn draw(axes: &Axes, curves: &[Curve], marks: Vec<f64>) -> Result<String, String> {
    let points = || curves.iter().flatten();
    if points().next().is_none() {
        return Ok(String::new());
    }
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-3);
    let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1.0);
    let y_min = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.caption(axes.title, ("sans-serif", 17)).margin(10).x_label_area_size(42).y_label_area_size(82);
        let x = Marked { range: 0.0..x_max, marks };
        macro_rules! chart {
            ($y:expr) => {{
                let mut chart = builder.build_cartesian_2d(x, $y).map_err(|error| error.to_string())?;
                chart
                    .configure_mesh()
                    .light_line_style(TRANSPARENT)
                    .x_desc(axes.x)
                    .x_label_formatter(&|x| (axes.x_reads)(*x))
                    .y_label_formatter(&|y| (axes.y_reads)(*y))
                    .label_style(("sans-serif", 12))
                    .axis_desc_style(("sans-serif", 13))
                    .draw()
                    .map_err(|error| error.to_string())?;
                for (points, colour) in curves.iter().zip(&COLOURS) {
                    let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
                    chart.draw_series(line).map_err(|error| error.to_string())?;
                }
            }};
        }
        if axes.y_log {
            chart!((y_min * 0.8..y_max * 1.2).log_scale());
        } else {
            chart!(0.0..y_max * 1.1);
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}
