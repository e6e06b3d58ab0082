//! When requests of an open loop are due: drawn ahead, whatever the server does.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How due times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As independent users make them: gaps of an exponential distribution.
    Poisson,
    /// All gaps alike.
    Fixed,
}

/// Due times without end.
#[derive(Debug)]
pub struct Schedule {
    arrival: Arrival,
    /// Mean gap in nanoseconds.
    gap_ns: f64,
    /// The next due time, in nanoseconds of the run; a fraction so that no rounding adds up.
    next_ns: f64,
    rng: SmallRng,
}

impl Schedule {
    /// From `start_ns` on, `rate` a second.
    pub fn new(arrival: Arrival, rate: f64, start_ns: u64, seed: u64) -> Self {
        let mut schedule =
            Self { arrival, gap_ns: 1e9 / rate, next_ns: start_ns as f64, rng: SmallRng::seed_from_u64(seed) };
        schedule.advance();
        schedule
    }

    /// The next due time.
    #[expect(clippy::cast_sign_loss, reason = "times of the run are not negative")]
    pub fn peek(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one behind it.
    pub fn advance(&mut self) {
        self.next_ns += match self.arrival {
            Arrival::Fixed => self.gap_ns,
            // 1 - [0, 1) is never 0.
            Arrival::Poisson => -(1.0 - self.rng.random::<f64>()).ln() * self.gap_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn fixed_times_keep_their_distance_without_drift() {
        let mut schedule = Schedule::new(Arrival::Fixed, 3.0, SECOND, 1);
        for k in 1..=3_000_u64 {
            assert!(schedule.peek().abs_diff(SECOND + k * SECOND / 3) <= 2, "{k}");
            schedule.advance();
        }
    }

    #[test]
    fn poisson_times_have_the_rate_and_the_spread_of_independent_users() {
        let mut schedule = Schedule::new(Arrival::Poisson, 1_000.0, 0, 7);
        let (mut last, mut gaps) = (0, Vec::new());
        for _ in 0..100_000 {
            gaps.push((schedule.peek() - last) as f64 / 1e9);
            last = schedule.peek();
            schedule.advance();
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.001).abs() < 0.000_02, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "an exponential's deviation is its mean");
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let times = |seed| {
            let mut schedule = Schedule::new(Arrival::Poisson, 50.0, 0, seed);
            (0..100).map(|_| (schedule.peek(), schedule.advance()).0).collect::<Vec<_>>()
        };
        assert_eq!(times(3), times(3));
        assert_ne!(times(3), times(4));
    }
}
