//! Whether `--count` can still be reached.

use std::time::{Duration, Instant};

use super::tally::Tally;

/// Whether `--count` may still be reached: not where, long after the last right reply, there is nothing but faults.
pub struct Hope {
    /// Time without a right reply.
    time: Duration,
    /// When the latest right reply was seen,
    since: Instant,
    /// how many there were then,
    answered: u64,
    /// and how many faults.
    faults: u64,
}

impl Hope {
    /// With what has come so far, for so long without a right reply.
    pub fn new(tally: &Tally, time: Duration) -> Self {
        Self { time, since: Instant::now(), answered: tally.answered, faults: tally.faults.values().sum() }
    }

    /// Whether there is none left.
    pub fn is_gone(&mut self, tally: &Tally) -> bool {
        if tally.answered != self.answered {
            *self = Self::new(tally, self.time);
        }
        tally.faults.values().sum::<u64>() > self.faults && self.since.elapsed() >= self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn a_count_is_hoped_for_until_nothing_but_faults_has_come_for_the_time() {
        let mut tally = Tally::new(false);
        tally.begin(0, 1_000);
        tally.fault(Fault::Missing);
        let (mut hope, mut patient) = (Hope::new(&tally, Duration::ZERO), Hope::new(&tally, Duration::MAX));
        assert!(!hope.is_gone(&tally), "no fault has come since");
        tally.fault(Fault::Missing);
        assert!(hope.is_gone(&tally) && !patient.is_gone(&tally));
        tally.answer(1, 2);
        assert!(!hope.is_gone(&tally), "a right reply gives new hope");
    }
}
