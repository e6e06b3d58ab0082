//! Medians with their spread.

use std::fmt;

use super::load::Round;

/// The same figure of several rounds.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// A figure of each round that has it.
    pub fn of(rounds: &[Round], name: &str) -> Self {
        Self(rounds.iter().filter_map(|round| round.get(name).copied()).collect())
    }

    /// The ratios round by round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// The ratio of the two medians, and the spread of the ratios round by round.
    pub fn against(&self, other: &Self) -> String {
        self.over(other).around(self.median() / other.median())
    }

    /// The same in another unit.
    pub fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|figure| figure * factor).collect())
    }

    /// `middle [lowest–highest]`.
    fn around(&self, middle: f64) -> String {
        let lowest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self.0.len() {
            0 => "–".to_owned(),
            1 => number(middle),
            _ => format!("{} [{}–{}]", number(middle), number(lowest), number(highest)),
        }
    }

    /// The middle one; NaN where there is none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }
}

/// `median [lowest–highest]`.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.around(self.median()))
    }
}

/// Three figures, where they are behind the point.
fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
