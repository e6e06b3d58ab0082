//! How a core waits for its next turn.
//!
//! As a rule it sleeps until something has come. A core that waits only shortly does better, at either end:
//!
//! - With few requests in flight the next message is about to come, and to wake a CPU that sleeps takes long on a
//!   virtual machine: a lone request passes two such sleeps, as much as all the work done for it. So the core looks.
//! - With many in flight and few handled in each turn, most of a turn is what every turn costs: waking up, a write to Redis, a
//!   pop. The core waits a moment in any case, so that more gathers for the next; as network cards do (interrupt moderation), and
//!   for the same reason. How long is learned: twice what the last turn took, whatever the CPU.
//!
//! Figures: docs/performance.md, "How a core waits".

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ring::Wait;
use crate::waiting::Looking;

/// What is short besides the time that the core would look: what waking up may add to a wait.
const WAKE_UP: Duration = Duration::from_micros(100);
/// Short waits in a row before the core lets messages gather.
const SHORT_WAITS: u32 = if cfg!(feature = "simulator") { 3 } else { 16 };
/// Requests in flight for which a wake-up is too much.
pub(super) const FEW_PENDING: u64 = 4;
/// Requests in flight of which more are sure to come in a moment, where a turn has handled fewer than half of them. With 64
/// a sleep more costs what a turn less saves.
const MANY_PENDING: u64 = if cfg!(feature = "simulator") { FEW_PENDING + 1 } else { 200 };
/// The moment at least, and at most: a timer of the kernel's takes some time, too.
const GATHER: RangeInclusive<Duration> = Duration::from_micros(10)..=Duration::from_micros(200);
/// So many completions end it.
const GATHERED: u32 = 64;

/// What a core knows of its last waits and turns.
#[derive(Debug)]
pub(super) struct Waits {
    looking: Looking,
    /// When the last turn was over that was for a message; `None` once the wait behind it is over.
    idle_since: Option<Duration>,
    /// Short waits in a row.
    short_in_a_row: u32,
    /// Messages since the last wait.
    messages: usize,
    /// When the turn under way began, and how long the last took that was for a message.
    began: Duration,
    turn: Duration,
}

impl Waits {
    /// Looks for at most so long, where that pays.
    pub fn new(look_max: Duration) -> Self {
        Self {
            looking: Looking::new(look_max),
            idle_since: None,
            short_in_a_row: 0,
            messages: 0,
            began: Duration::ZERO,
            turn: Duration::ZERO,
        }
    }

    /// A message has come.
    pub fn heard(&mut self, now: Duration) {
        self.began = now;
        if let Some(since) = self.idle_since.take() {
            let waited = now.saturating_sub(since);
            self.looking.waited(waited);
            let is_short = waited <= self.looking.most() + WAKE_UP;
            self.short_in_a_row = if is_short { self.short_in_a_row.saturating_add(1) } else { 0 };
        }
    }

    /// The turn is over, and was for so many messages.
    pub fn end_turn(&mut self, messages: usize, now: Duration) {
        self.messages += messages;
        if messages > 0 {
            self.turn = now.saturating_sub(self.began);
            self.idle_since = Some(now);
        }
    }

    /// How to wait, with so many requests in flight, for `most` at most; and for how long to look before that is done, which is for
    /// `few_max` requests at most.
    pub fn next(&mut self, pending: u64, few_max: u64, most: Duration) -> (Wait, Duration) {
        if most.is_zero() {
            return (Wait::No, Duration::ZERO);
        }
        let messages = std::mem::take(&mut self.messages);
        let is_in_flow = self.short_in_a_row >= SHORT_WAITS;
        if pending <= few_max && !self.looking.next().is_zero() {
            (Wait::No, self.looking.next().min(most))
        } else if pending >= MANY_PENDING && (messages as u64) < pending / 2 && is_in_flow {
            let least = (self.turn * 2).clamp(*GATHER.start(), *GATHER.end());
            (Wait::Gather { least, completions: GATHERED, most }, Duration::ZERO)
        } else {
            (Wait::Something(most), Duration::ZERO)
        }
    }

    /// It has slept for so long until a time at which nothing had come, and is back so much later.
    pub fn woke(&mut self, slept: Duration, late: Duration) {
        self.looking.woke(slept, late);
    }

    /// It has looked, for so long.
    pub fn looked(&mut self, looked: Duration) {
        self.looking.looked(looked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(20);

    /// Turns of `messages`, each after a wait of so long; then how it waits.
    fn turns(waits: &mut Waits, count: u32, waited: Duration, messages: usize, pending: u64) -> (Wait, Duration) {
        let (mut now, mut next) = (LONG, (Wait::No, Duration::ZERO));
        for _ in 0..count {
            waits.idle_since = Some(now);
            now += waited;
            waits.heard(now);
            waits.end_turn(messages, now);
            next = waits.next(pending, FEW_PENDING, TICK);
        }
        next
    }

    /// It may look for long, and that pays.
    fn patient() -> Waits {
        let mut waits = Waits::new(LONG);
        for _ in 0..100 {
            waits.woke(LONG, LONG);
        }
        waits
    }

    const SLEEP: (Wait, Duration) = (Wait::Something(TICK), Duration::ZERO);

    fn gathers((wait, _): (Wait, Duration)) -> bool {
        matches!(wait, Wait::Gather { .. })
    }

    fn looks((wait, look): (Wait, Duration)) -> bool {
        wait == Wait::No && !look.is_zero()
    }

    #[test]
    fn a_core_looks_when_that_would_have_paid_and_little_is_in_flight() {
        let mut waits = patient();
        assert_eq!(waits.next(FEW_PENDING, FEW_PENDING, TICK), SLEEP, "nothing is known");
        assert!(looks(turns(&mut waits, 1, LONG, 1, FEW_PENDING)));
        assert_eq!(turns(&mut waits, 1, LONG, 1, FEW_PENDING + 1), SLEEP);
    }

    #[test]
    fn a_core_does_not_look_where_nobody_waits_for_it() {
        let mut waits = patient();
        turns(&mut waits, 1, LONG, 1, 1);
        assert!(looks(waits.next(0, 0, TICK)) && looks(waits.next(1, FEW_PENDING, TICK)));
        assert_eq!(waits.next(1, 0, TICK), SLEEP);
    }

    #[test]
    fn a_core_never_looks_beyond_what_is_due() {
        let mut waits = patient();
        turns(&mut waits, 30, LONG, 1, 1);
        assert_eq!(waits.next(1, FEW_PENDING, TICK), (Wait::No, TICK));
        assert_eq!(waits.next(1, FEW_PENDING, Duration::ZERO), (Wait::No, Duration::ZERO));
    }

    #[test]
    fn a_core_lets_messages_gather_when_many_are_in_flight_and_few_come_at_once() {
        let mut waits = patient();
        turns(&mut waits, SHORT_WAITS, LONG, 1, MANY_PENDING);
        assert!(gathers(turns(&mut waits, 1, LONG, 99, MANY_PENDING)));
        assert_eq!(turns(&mut waits, 1, LONG, 100, MANY_PENDING), SLEEP);
        assert!(gathers(turns(&mut waits, 1, LONG, 100, MANY_PENDING * 2)));
        assert_eq!(turns(&mut waits, 1, LONG, 1, MANY_PENDING - 1), SLEEP);
    }

    #[test]
    fn what_gathers_waits_for_no_longer_than_twice_what_a_turn_takes() {
        for (turn_us, least_us) in [(1, 10), (30, 60), (90, 180), (5_000, 200)] {
            let mut waits = patient();
            waits.short_in_a_row = SHORT_WAITS;
            waits.heard(LONG);
            waits.end_turn(1, LONG + Duration::from_micros(turn_us));
            let (wait, _) = waits.next(MANY_PENDING, FEW_PENDING, TICK);
            let least = Duration::from_micros(least_us);
            assert_eq!(wait, Wait::Gather { least, completions: GATHERED, most: TICK }, "{turn_us} µs");
        }
    }

    #[test]
    fn what_came_in_several_turns_without_a_wait_came_at_once() {
        let mut waits = patient();
        waits.short_in_a_row = SHORT_WAITS;
        waits.end_turn(50, LONG);
        assert_eq!(waits.next(MANY_PENDING, FEW_PENDING, Duration::ZERO), (Wait::No, Duration::ZERO));
        waits.end_turn(50, LONG);
        assert_eq!(waits.next(MANY_PENDING, FEW_PENDING, TICK), SLEEP);
        waits.end_turn(50, LONG);
        assert!(gathers(waits.next(MANY_PENDING, FEW_PENDING, TICK)));
    }

    #[test]
    fn one_long_wait_begins_the_count_anew() {
        let mut waits = Waits::new(Duration::from_millis(1));
        waits.short_in_a_row = SHORT_WAITS;
        assert_eq!(turns(&mut waits, 1, LONG, 1, 1), SLEEP);
        assert_eq!(waits.short_in_a_row, 0);
    }

    #[test]
    fn with_no_time_to_look_it_never_looks_and_lets_messages_gather_still() {
        let mut waits = Waits::new(Duration::ZERO);
        waits.short_in_a_row = SHORT_WAITS;
        assert_eq!(waits.next(1, FEW_PENDING, TICK), SLEEP);
        assert!(gathers(waits.next(MANY_PENDING, FEW_PENDING, TICK)));
    }

    #[test]
    fn what_is_no_message_is_no_end_of_a_wait() {
        let mut waits = patient();
        waits.end_turn(1, LONG);
        waits.end_turn(0, LONG * 2);
        assert_eq!(waits.idle_since, Some(LONG));
    }
}
