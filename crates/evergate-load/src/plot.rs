//! Curves as SVG, in the colours of the page that they stand in.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Width and height of a plot.
const SIZE: (u32, u32) = (860, 340);

/// One colour for each server, and what the page calls it.
const COLOURS: [(RGBColor, &str, &str); 2] =
    [(RGBColor(0, 0, 1), "#000001", "var(--a)"), (RGBColor(0, 0, 2), "#000002", "var(--b)")];

/// Marks of a logarithmic axis beyond which only powers of ten are left.
const LOG_MARKS_MAX: usize = 8;

/// A line through points.
pub struct Curve {
    /// The server's index: its colour.
    pub server: usize,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// What the axes are called and how their values read.
pub struct Axes {
    /// What stands above.
    pub title: &'static str,
    /// What stands below.
    pub x: &'static str,
    /// A mark of the x axis.
    pub x_reads: fn(f64) -> String,
    /// Where x has marks; where it suits, if there are none.
    pub x_marks: Vec<f64>,
    /// A mark of the y axis.
    pub y_reads: fn(f64) -> String,
    /// Whether y is drawn by its logarithm, or else from zero.
    pub y_log: bool,
}

/// One axis.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
    is_log: bool,
}

impl Axis {
    fn linear(range: Range<f64>, mut marks: Vec<f64>) -> Self {
        if marks.is_empty() {
            marks = RangedCoordf64::from(range.clone()).key_points(10);
        }
        Self { range, marks, is_log: false }
    }

    fn log(range: Range<f64>) -> Self {
        let marks = log_marks(&range);
        // Less than a step of 1, 2, 5 is nearly straight.
        if marks.len() < 2 { Self::linear(range, Vec::new()) } else { Self { range, marks, is_log: true } }
    }
}

/// 1, 2, 5, 10 and so on, or powers of ten alone.
fn log_marks(range: &Range<f64>) -> Vec<f64> {
    let decades = range.start.log10().floor() as i32..=range.end.log10().floor() as i32;
    let marks = |steps: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        all.filter(|mark| range.contains(mark)).collect()
    };
    let fine = marks(&[1.0, 2.0, 5.0]);
    if fine.len() > LOG_MARKS_MAX { marks(&[1.0]) } else { fine }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let at = |value: f64| if self.is_log { value.ln() } else { value };
        let (start, end) = (at(self.range.start), at(self.range.end));
        let share = (at(*value) - start) / (end - start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.iter().copied().filter(|mark| (self.range.start..=self.range.end).contains(mark)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {}

/// The plot; nothing where there are no points.
pub fn draw(axes: &Axes, curves: &[Curve]) -> Result<String, String> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    if points().next().is_none() {
        return Ok(String::new());
    }
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-3);
    let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-3);
    let y_min = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let x = Axis::linear(0.0..x_max, axes.x_marks.clone());
    let y = if axes.y_log { Axis::log(y_min * 0.8..y_max * 1.2) } else { Axis::linear(0.0..y_max * 1.1, Vec::new()) };
    let mut svg = String::new();
    let error = |error: DrawingAreaErrorKind<_>| error.to_string();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.caption(axes.title, ("system-ui,sans-serif", 21)).margin(10).margin_right(30);
        builder.x_label_area_size(48).y_label_area_size(82);
        let mut chart = builder.build_cartesian_2d(x, y).map_err(error)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(axes.x)
            .x_label_formatter(&|x| (axes.x_reads)(*x))
            .y_label_formatter(&|y| (axes.y_reads)(*y))
            .label_style(("system-ui,sans-serif", 16))
            .axis_desc_style(("system-ui,sans-serif", 16))
            .draw()
            .map_err(error)?;
        for Curve { server, points } in curves {
            let line = LineSeries::new(points.iter().copied(), COLOURS[server % 2].0.stroke_width(2));
            chart.draw_series(line).map_err(error)?;
        }
        area.present().map_err(error)?;
    }
    let svg = COLOURS.iter().fold(svg, |svg, (_, plotted, shown)| svg.replace(plotted, shown));
    Ok(svg.replace("#000000", "currentColor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_marks_that_are_round_and_not_too_many() {
        assert_eq!(log_marks(&(90.0..600.0)), [100.0, 200.0, 500.0]);
        assert_eq!(log_marks(&(1.5..40_000.0)), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!(Axis::log(6.1..9.9).marks.len() >= 2);
    }

    #[test]
    fn a_plot_has_no_colour_but_the_pages() {
        let axes = Axes {
            title: "",
            x: "",
            x_reads: |x| x.to_string(),
            x_marks: Vec::new(),
            y_reads: |y| y.to_string(),
            y_log: true,
        };
        let curves = [0, 1].map(|server| Curve { server, points: vec![(0.0, 1.0), (1.0, 2.0)] });
        let svg = draw(&axes, &curves).expect("a plot");
        assert!(!svg.contains("\"#") && svg.contains("var(--a)") && svg.contains("var(--b)"), "{svg}");
        assert_eq!(draw(&axes, &[]), Ok(String::new()));
    }
}
