//! How long Redis takes to answer a push, of one push a second: to hear of an answer at once costs a wake-up, and most are read when
//! that costs nothing.

/// One push in so long is timed, microseconds.
const EVERY_US: u64 = 1_000_000;

/// The push of one link that is timed.
#[derive(Debug, Default)]
pub struct Trip {
    /// Answers that come before its own, and when it was written, microseconds.
    under_way: Option<(usize, u64)>,
    /// When exactly that was, nobody has said yet.
    is_fresh: bool,
    /// From then on the next may be, microseconds.
    next_us: u64,
}

impl Trip {
    /// A push is written, behind so many commands that have not been answered. It is timed if that is due.
    pub fn pushed(&mut self, unanswered: usize, now_us: u64) {
        if self.under_way.is_none() && now_us >= self.next_us {
            self.under_way = Some((unanswered, now_us));
            self.next_us = now_us + EVERY_US;
            self.is_fresh = true;
        }
    }

    /// Whether a timed push was just written; then [`Self::began`] should say when, since a turn takes as long as an answer.
    pub fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.is_fresh)
    }

    /// The timed push was written now.
    pub fn began(&mut self, now_us: u64) {
        if let Some((_, since_us)) = &mut self.under_way {
            *since_us = now_us;
        }
    }

    /// An answer has come: how long it took, if it is the one, microseconds.
    pub fn answered(&mut self, now_us: u64) -> Option<u64> {
        let (before, since_us) = self.under_way.as_mut()?;
        if *before > 0 {
            *before -= 1;
            return None;
        }
        let took_us = now_us.saturating_sub(*since_us);
        self.under_way = None;
        Some(took_us)
    }

    /// Whether an answer is waited for.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The link broke.
    pub fn broken_off(&mut self) {
        self.under_way = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_timed_push_is_told_from_those_before_it() {
        let mut trip = Trip::default();
        trip.pushed(2, 3);
        assert!(trip.is_under_way() && trip.take_fresh() && !trip.take_fresh());
        trip.began(10);
        let answers = [20, 30, 45, 50].map(|now_us| trip.answered(now_us));
        assert_eq!(answers, [None, None, Some(35), None]);
    }

    #[test]
    fn one_push_a_second_is_timed_and_none_beside_it() {
        let mut trip = Trip::default();
        trip.pushed(0, 0);
        trip.pushed(1, EVERY_US);
        assert_eq!(trip.answered(EVERY_US + 1), Some(EVERY_US + 1));
        trip.pushed(0, EVERY_US - 1);
        assert!(!trip.is_under_way());
        trip.pushed(0, EVERY_US);
        assert!(trip.is_under_way());
        trip.broken_off();
        assert_eq!(trip.answered(EVERY_US * 2), None);
    }
}
