//! How long Redis has said nothing.

use super::super::silence::Silence;

/// Ticks to `to_ms` and says what the last one found.
fn tick_to(silence: &mut Silence, from_ms: u64, to_ms: u64) -> u64 {
    (from_ms..=to_ms).step_by(20).map(|now_ms| silence.tick(now_ms)).last().unwrap_or(0)
}

#[test]
fn silence_counts_from_the_first_that_is_unconfirmed_and_every_answer_begins_it_anew() {
    let mut silence = Silence::default();
    assert_eq!(tick_to(&mut silence, 20, 60_000), 0, "nothing was asked");
    silence.wrote(60_000);
    assert_eq!(tick_to(&mut silence, 60_000, 65_000), 5_000);
    silence.wrote(65_000);
    assert_eq!(tick_to(&mut silence, 65_000, 70_000), 10_000, "asking again is no answer");
    silence.answered(70_000, false);
    assert_eq!(tick_to(&mut silence, 70_000, 72_000), 2_000, "something is still waited for");
    silence.answered(72_000, true);
    assert_eq!(tick_to(&mut silence, 72_000, 90_000), 0);
}

#[test]
fn a_standstill_of_our_own_is_not_taken_for_one_of_redis() {
    let mut silence = Silence::default();
    silence.wrote(1_000);
    assert_eq!(tick_to(&mut silence, 1_000, 3_000), 2_000);
    assert_eq!(silence.tick(63_000), 2_000, "nothing could be read meanwhile");
    assert_eq!(tick_to(&mut silence, 63_000, 64_000), 3_000, "and it goes on from there");
}
