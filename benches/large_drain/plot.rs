//! The course of a drain as a picture: who is open, what is waited for, how many are closed in each second.

use std::io;
use std::ops::Range;
use std::time::Instant;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::course::{Sample, seconds_between};

/// Width and height.
const SIZE: (u32, u32) = (900, 780);
/// Letters.
const FONT: &str = "system-ui,sans-serif";
const BLUE: RGBColor = RGBColor(31, 99, 173);
const ORANGE: RGBColor = RGBColor(214, 108, 12);
const GREEN: RGBColor = RGBColor(32, 134, 72);
const PURPLE: RGBColor = RGBColor(122, 72, 160);

/// What is drawn.
pub struct Picture<'a> {
    /// What stands above: all clients, those with a request in flight, in a session, with a large reply.
    pub clients: [u32; 4],
    /// The moment of the signal.
    pub signal: Instant,
    /// What the page said.
    pub samples: &'a [Sample],
    /// Clients that saw their Close, in each second from the signal on.
    pub closes: &'a [u64],
    /// The closes a second that are configured.
    pub pace: u64,
}

/// Why there is no picture.
type NotDrawn = DrawingAreaErrorKind<io::Error>;
/// A part of the picture.
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A part with its axes.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// A line: what it is called, its colour, what it shows.
type Line = (&'static str, RGBColor, fn(&Sample) -> u64);

impl Picture<'_> {
    /// As SVG.
    pub fn draw(&self) -> Result<String, NotDrawn> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let [all, asking, sessions, slow] = self.clients.map(|count| thousands(count.into()));
            let title =
                format!("{all} clients drained: {asking} requests in flight, {sessions} sessions, {slow} slow readers");
            let area = area.titled(&title, (FONT, 21))?;
            let panels = area.margin(0, 5, 5, 20).split_evenly((3, 1));
            self.lines(&panels[0], &[("open", BLUE, |sample| sample.open)])?;
            let waits: [Line; 3] = [
                ("waiting for a reply", ORANGE, |sample| sample.waiting),
                ("in a session", GREEN, |sample| sample.in_session),
                ("taking a reply", PURPLE, |sample| sample.sending),
            ];
            self.lines(&panels[1], &waits)?;
            self.bars(&panels[2])?;
            area.present()?;
        }
        Ok(svg)
    }

    fn lines(&self, panel: &Panel<'_>, lines: &[Line]) -> Result<(), NotDrawn> {
        let most = lines.iter().flat_map(|(.., of)| self.samples.iter().map(of)).max().unwrap_or(0);
        let mut chart = self.chart(panel, most, "", "clients")?;
        for &(name, colour, of) in lines {
            let points = self.samples.iter().map(|sample| (self.since_signal(sample.at), of(sample) as f64));
            let line = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        name_lines(&mut chart, SeriesLabelPosition::UpperRight)
    }

    fn bars(&self, panel: &Panel<'_>) -> Result<(), NotDrawn> {
        let most = self.closes.iter().copied().max().unwrap_or(0).max(self.pace);
        let mut chart = self.chart(panel, most, "seconds since SIGUSR1", "closes in each second")?;
        let bar = |(second, &closes): (usize, &u64)| {
            let from = second as f64;
            Rectangle::new([(from + 0.05, 0.0), (from + 0.95, closes as f64)], BLUE.filled())
        };
        chart.draw_series(self.closes.iter().enumerate().filter(|(_, closes)| **closes > 0).map(bar))?;
        let Range { start, end } = self.seconds();
        let pace = [start, end].map(|second| (second, self.pace as f64));
        let line = chart.draw_series(DashedLineSeries::new(pace, 6, 4, ORANGE.stroke_width(2)))?;
        line.label("drain_closes_per_second")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], ORANGE.stroke_width(2)));
        // Not above the line that it names.
        name_lines(&mut chart, SeriesLabelPosition::MiddleRight)
    }

    /// A part with its axes, and a mark where the signal came.
    fn chart<'a, 'b>(&self, panel: &'a Panel<'b>, most: u64, x: &str, y: &str) -> Result<Chart<'a, 'b>, NotDrawn> {
        let top = most.max(1) as f64 * 1.1;
        let mut builder = ChartBuilder::on(panel);
        builder.margin_top(12).x_label_area_size(if x.is_empty() { 25 } else { 45 }).y_label_area_size(75);
        let mut chart = builder.build_cartesian_2d(self.seconds(), 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(RGBColor(225, 225, 225));
        mesh.x_desc(x).y_desc(y).label_style((FONT, 15)).axis_desc_style((FONT, 15));
        mesh.x_labels(12).y_labels(6).x_label_formatter(&|second| format!("{second:.0}"));
        mesh.y_label_formatter(&|count| thousands(*count)).draw()?;
        chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, top)], RGBColor(140, 140, 140))])?;
        Ok(chart)
    }

    /// From the first sample to the last.
    fn seconds(&self) -> Range<f64> {
        let at = |sample: Option<&Sample>| sample.map_or(0.0, |sample| self.since_signal(sample.at));
        at(self.samples.first())..at(self.samples.last()).max(self.closes.len() as f64)
    }

    fn since_signal(&self, at: Instant) -> f64 {
        seconds_between(self.signal, at)
    }
}

/// Says which line is which.
fn name_lines<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, place: SeriesLabelPosition) -> Result<(), NotDrawn> {
    let mut names = chart.configure_series_labels();
    names.position(place).label_font((FONT, 15)).background_style(WHITE);
    names.draw()
}

/// A count as people read it.
fn thousands(count: f64) -> String {
    if count < 1e3 { format!("{count:.0}") } else { format!("{:.0},{:03.0}", (count / 1e3).floor(), count % 1e3) }
}
