//! When a drain lets a client go. What counts as a gap, and the deadline, are tested in `session`.

use super::*;

const START_MS: u64 = 50_000;

fn drain(open: usize, seconds: u64, closes_per_second: f64) -> Drain {
    let options = DrainOptions { quiet_ms: 250, deadline_ms: START_MS + seconds * 1_000, closes_per_second };
    Drain::new(options, open, START_MS)
}

/// How many of `waiting` clients, idle since long ago, are closed in `ms` at a tick of 20 ms.
fn closed_within(drain: &mut Drain, from_ms: u64, ms: u64, waiting: usize) -> usize {
    let mut left = waiting;
    let mut now_ms = from_ms;
    while now_ms < from_ms + ms {
        now_ms += 20;
        while left > 0 && drain.take_turn(0, now_ms) {
            left -= 1;
        }
    }
    waiting - left
}

#[test]
fn a_gap_shorter_than_the_quiet_time_is_not_closed_and_uses_no_turn() {
    let mut drain = drain(1, 120, 2_000.0);
    for now_ms in START_MS..START_MS + 250 {
        assert!(!drain.take_turn(START_MS, now_ms));
    }
    assert_eq!(drain.quiet_at_ms(START_MS), START_MS + 250);
    assert!(drain.take_turn(START_MS, START_MS + 250));
}

#[test]
fn the_pace_is_kept() {
    let mut drain = drain(10_000, 120, 2_000.0);
    assert_eq!(drain.rate(START_MS), Some(2_000.0));
    let closed = closed_within(&mut drain, START_MS, 1_000, 10_000);
    assert!((1_999..=2_001).contains(&closed), "{closed}");
}

#[test]
fn the_pace_is_raised_until_half_of_the_time_suffices() {
    let mut drain = drain(1_000_000, 120, 2_000.0);
    assert!(
        drain.rate(START_MS).is_some_and(|rate| (16_700.0..16_800.0).contains(&rate)),
        "{:?}",
        drain.rate(START_MS)
    );
    assert_eq!(closed_within(&mut drain, START_MS + 250, 60_000 - 250, 1_000_000), 1_000_000);
}

#[test]
fn a_stalled_core_does_not_make_up_for_more_than_a_tenth_of_a_second() {
    let mut drain = drain(10_000, 120, 2_000.0);
    assert_eq!(closed_within(&mut drain, START_MS + 5_000, 20, 10_000), 200);
}

#[test]
fn a_slow_pace_still_closes_one_at_a_time() {
    let mut drain = drain(3, 1_200, 0.5);
    assert_eq!(closed_within(&mut drain, START_MS, 20, 3), 1);
    assert_eq!(closed_within(&mut drain, START_MS + 20, 1_900, 2), 0);
    assert_eq!(closed_within(&mut drain, START_MS + 1_920, 200, 2), 1);
}

#[test]
fn without_a_limit_there_is_no_pace() {
    let mut drain = drain(100_000, 120, 0.0);
    assert_eq!((drain.rate(START_MS), closed_within(&mut drain, START_MS, 20, 100_000)), (None, 100_000));
}

#[test]
fn a_drain_without_time_is_no_division_by_zero() {
    let drain = drain(100, 0, 2_000.0);
    assert!(drain.rate(START_MS).is_some_and(f64::is_finite));
    assert_eq!(drain.deadline_ms(), START_MS);
}

#[test]
fn who_has_waited_longest_for_its_turn_is_first_in_line() {
    let mut drain = drain(3, 120, 2_000.0);
    (1..=3).for_each(|slot| drain.line_up(slot));
    assert_eq!(drain.first_in_line(), Some(1));
    drain.back_to_front(1);
    assert_eq!([(); 4].map(|()| drain.first_in_line()), [Some(1), Some(2), Some(3), None]);
    assert!(!drain.has_line());
}

#[test]
fn a_turn_that_was_not_used_is_another_clients_at_once_and_no_close() {
    let mut drain = drain(1_000, 10, 10.0);
    let rate = drain.rate(START_MS);
    for now_ms in START_MS..START_MS + 100 {
        assert!(drain.take_turn(0, now_ms), "the turn that nobody used is here again");
        drain.give_turn_back();
    }
    assert_eq!(drain.rate(START_MS), rate, "as many are left as before");
    let mut unlimited = Drain::new(DrainOptions { closes_per_second: 0.0, ..drain.options }, 1, START_MS);
    assert!(unlimited.take_turn(0, START_MS));
    unlimited.give_turn_back();
    assert!(unlimited.take_turn(0, START_MS));
}
