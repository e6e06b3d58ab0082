//! Ends a run whose `--count` will not be reached.

use std::time::{Duration, Instant};

use super::tally::Tally;

/// Expires where, long after the last right reply, there is nothing but faults.
pub struct Watchdog {
    /// Time without a right reply.
    time: Duration,
    /// When the latest right reply was seen,
    since: Instant,
    /// how many there were then,
    answered: u64,
    /// and how many faults.
    faults: u64,
}

impl Watchdog {
    /// With what has come so far, for so long without a right reply.
    pub fn new(tally: &Tally, time: Duration) -> Self {
        Self { time, since: Instant::now(), answered: tally.answered, faults: tally.faults.values().sum() }
    }

    /// Whether the time is over, with faults in it.
    pub fn has_expired(&mut self, tally: &Tally) -> bool {
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
    fn a_count_is_waited_for_until_nothing_but_faults_has_come_for_the_time() {
        let mut tally = Tally::new(false);
        tally.begin(0, 1_000);
        tally.fault(Fault::Missing);
        let (mut hasty, mut patient) = (Watchdog::new(&tally, Duration::ZERO), Watchdog::new(&tally, Duration::MAX));
        assert!(!hasty.has_expired(&tally), "no fault has come since");
        tally.fault(Fault::Missing);
        assert!(hasty.has_expired(&tally) && !patient.has_expired(&tally));
        tally.answer(0, 1, 2);
        assert!(!hasty.has_expired(&tally), "a right reply begins the time anew");
    }
}
