//! A against B: ratios of medians, with the ratios of single rounds as their spread.

use serde::Serialize;

use super::figures::{Figures, rounded};

/// How often A's figure is B's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// A's median over B's.
    pub median: f64,
    /// The least of a round.
    pub min: f64,
    /// The greatest of a round.
    pub max: f64,
    /// The rounds that are compared: those in which both have this figure.
    pub rounds: usize,
}

impl Ratio {
    fn new(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.is_empty() || pairs.iter().any(|(_, b)| *b <= 0.0) {
            return None;
        }
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let rounds = || pairs.iter().map(|(a, b)| a / b);
        let rounded = |ratio| rounded(ratio, 4);
        Some(Self {
            median: rounded(median(a) / median(b)),
            min: rounded(rounds().fold(f64::INFINITY, f64::min)),
            max: rounded(rounds().fold(0.0, f64::max)),
            rounds: pairs.len(),
        })
    }
}

/// The middle, or the mean of the two in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        n if n % 2 == 1 => numbers[n / 2],
        n => f64::midpoint(numbers[n / 2 - 1], numbers[n / 2]),
    }
}

/// One round of both.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The first server's.
    pub a: Figures,
    /// The other's.
    pub b: Figures,
}

/// All ratios; those that are not known are absent.
#[derive(Debug, Clone, Serialize)]
pub struct Ratios {
    /// CPU per request of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Ratio>,
    /// Median latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Ratio>,
    /// 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Ratio>,
    /// Right replies per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Ratio>,
    /// The rounds that both were run in.
    pub rounds: usize,
}

impl Ratios {
    /// Of all rounds in which both were measured.
    pub fn new(rounds: &[Pair]) -> Self {
        let ratio = |of: fn(&Figures) -> Option<f64>| {
            // A round in which one server answered nothing, or not to the end, compares nothing.
            let is_whole = |figures: &Figures| figures.requests > 0 && !figures.deserted && !figures.interrupted;
            let compared = rounds.iter().filter(|pair| is_whole(&pair.a) && is_whole(&pair.b));
            let pairs: Vec<(f64, f64)> = compared.filter_map(|pair| of(&pair.a).zip(of(&pair.b))).collect();
            Ratio::new(&pairs)
        };
        Self {
            cpu: ratio(|figures| figures.server.cpu_us_per_request),
            p50: ratio(|figures| figures.latency_us.as_ref().map(|latency| latency.p50)),
            p99: ratio(|figures| figures.latency_us.as_ref().map(|latency| latency.p99)),
            throughput: ratio(|figures| figures.throughput),
            rounds: rounds.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conduct::Measured;
    use super::super::figures::{
        self,
        tests::{CLOSED, answered, measured},
    };
    use super::*;

    #[test]
    fn a_ratio_is_that_of_medians_and_its_spread_that_of_rounds() {
        let ratio = Ratio::new(&[(2.0, 1.0), (3.0, 2.0), (10.0, 4.0)]).expect("a ratio");
        assert_eq!(ratio, Ratio { median: 1.5, min: 1.5, max: 2.5, rounds: 3 });
        assert_eq!(Ratio::new(&[]), None);
        assert_eq!(Ratio::new(&[(1.0, 0.0)]), None);
    }

    #[test]
    fn rounds_that_were_cut_off_are_not_compared_and_the_ratio_says_of_how_many_it_is() {
        let figures = |round: Measured| figures::tests::of(CLOSED, &[&round]);
        let whole = || Measured { server_cpu_seconds: Some(1.0), ..measured(answered(10)) };
        let pair = |b: Measured| Pair { a: figures(whole()), b: figures(b) };
        let dying = Measured { deserted: true, ..measured(answered(3)) };
        let dead = Measured { deserted: true, connected: 0, seconds: 0.0, ..measured(answered(0)) };
        let interrupted = Measured { interrupted: true, ..whole() };
        let rounds = [pair(whole()), pair(dying), pair(dead), pair(interrupted)];
        let ratios = Ratios::new(&rounds);
        let one = Some(Ratio { median: 1.0, min: 1.0, max: 1.0, rounds: 1 });
        assert_eq!([ratios.cpu, ratios.p50, ratios.p99, ratios.throughput], [one; 4]);
        assert_eq!(ratios.rounds, 4);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_too() {
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }
}
