//! When a drain lets a client go. What counts as a gap, and the deadline, are tested in `clients`.

use super::*;

const START_MS: u64 = 50_000;
const QUIET_MS: u64 = 250;

fn seeded(open: usize, seconds: u64, closes_per_second: f64, seed: u64) -> Drain {
    let options = DrainOptions { deadline_ms: START_MS + seconds * 1_000, closes_per_second };
    Drain::new(options, QUIET_MS, open, START_MS, seed)
}

fn drain(open: usize, seconds: u64, closes_per_second: f64) -> Drain {
    seeded(open, seconds, closes_per_second, 1)
}

/// How many of `waiting` clients that are at their gaps are closed in `ms` at a tick of 20 ms, by the end of each tick.
fn closes(drain: &mut Drain, from_ms: u64, ms: u64, waiting: usize) -> Vec<usize> {
    let mut closed = 0;
    let ticks = (1..=ms.div_ceil(20)).map(|tick| from_ms + tick * 20);
    ticks
        .map(|now_ms| {
            while closed < waiting && drain.take_turn(now_ms) {
                closed += 1;
            }
            closed
        })
        .collect()
}

/// How many are closed in `ms`.
fn closed_within(drain: &mut Drain, from_ms: u64, ms: u64, waiting: usize) -> usize {
    closes(drain, from_ms, ms, waiting).last().copied().unwrap_or(0)
}

#[test]
fn the_pace_is_kept_but_for_the_jitter() {
    let mut drain = drain(100_000, 120, 2_000.0);
    assert_eq!(drain.rate(START_MS), Some(2_000.0));
    let by_tick = closes(&mut drain, START_MS, 20_000, 100_000);
    for pair in by_tick.windows(2) {
        // 40 a tick, by a factor from 0.5 to 1.5.
        assert!((19..=61).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    let closed = by_tick.last().copied().unwrap_or(0);
    assert!((39_000..=41_000).contains(&closed), "{closed}");
}

#[test]
fn the_jitter_has_a_mean_of_one_and_is_spread_evenly_between_its_bounds() {
    let mut jitter = Jitter(7);
    let factors: Vec<f64> = (0..100_000).map(|_| jitter.next()).collect();
    assert!(factors.iter().all(|factor| (0.5..1.5).contains(factor)));
    let mean = factors.iter().sum::<f64>() / factors.len() as f64;
    assert!((0.995..1.005).contains(&mean), "{mean}");
    for tenth in 0..10 {
        let from = 0.5 + f64::from(tenth) / 10.0;
        let there = factors.iter().filter(|factor| (from..from + 0.1).contains(*factor)).count();
        assert!((9_500..10_500).contains(&there), "{there} from {from}");
    }
}

#[test]
fn cores_do_not_go_in_step_and_each_goes_as_its_seed_says() {
    let steps = |seed| closes(&mut seeded(10_000, 120, 100.0, seed), START_MS, 2_000, 10_000);
    assert_eq!(steps(1), steps(1));
    let in_step = steps(1).into_iter().zip(steps(2)).filter(|(one, two)| one == two).count();
    assert!(in_step < 50, "{in_step} of 100 ticks");
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
fn whatever_the_jitter_all_who_are_idle_are_closed_by_half_of_the_time() {
    for seed in 0..200 {
        for (open, seconds, closes_per_second) in
            [(1, 2, 0.1), (3, 2, 0.5), (7, 4, 2.0), (300, 20, 10.0), (20_000, 8, 2_000.0)]
        {
            let mut drain = seeded(open, seconds, closes_per_second, seed);
            let closed = closed_within(&mut drain, START_MS, seconds * 500, open);
            assert_eq!(closed, open, "seed {seed}, {open} in {seconds} s");
        }
    }
}

#[test]
fn who_is_left_at_half_of_the_time_is_spread_over_half_of_the_rest() {
    let mut drain = drain(20_000, 120, 100.0);
    assert!(!drain.begin_second_half(6_000, START_MS + 59_999) && !drain.is_half_over());
    assert!(drain.begin_second_half(6_000, START_MS + 60_000) && drain.is_half_over());
    assert!(!drain.begin_second_half(6_000, START_MS + 60_020), "once");
    assert_eq!(drain.rate(START_MS + 60_000), Some(200.0));
    let closed = closed_within(&mut drain, START_MS + 60_000, 10_000, 6_000);
    assert!((1_900..=2_100).contains(&closed), "{closed}");
    assert_eq!(closed_within(&mut drain, START_MS + 70_000, 21_000, 6_000 - closed), 6_000 - closed);
}

#[test]
fn a_stalled_core_does_not_make_up_for_more_than_a_tenth_of_a_second() {
    let mut drain = drain(10_000, 120, 2_000.0);
    assert_eq!(closed_within(&mut drain, START_MS + 5_000, 20, 10_000), 200);
    let mut drain = seeded(10_000, 120, 2_000.0, 2);
    assert_eq!(closed_within(&mut drain, START_MS + 5_000, 20, 10_000), 200, "whatever the jitter");
}

#[test]
fn a_slow_pace_still_closes_one_at_a_time() {
    let mut drain = drain(3, 1_200, 0.5);
    assert_eq!(closed_within(&mut drain, START_MS, 20, 3), 1);
    assert_eq!(closed_within(&mut drain, START_MS + 20, 1_600, 2), 0);
    assert_eq!(closed_within(&mut drain, START_MS + 1_620, 800, 2), 1);
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
        assert!(drain.take_turn(now_ms), "the turn that nobody used is here again");
        drain.give_turn_back();
    }
    assert_eq!(drain.rate(START_MS), rate, "as many are left as before");
    let mut unlimited = Drain::new(DrainOptions { closes_per_second: 0.0, ..drain.options }, QUIET_MS, 1, START_MS, 1);
    assert!(unlimited.take_turn(START_MS));
    unlimited.give_turn_back();
    assert!(unlimited.take_turn(START_MS));
}
