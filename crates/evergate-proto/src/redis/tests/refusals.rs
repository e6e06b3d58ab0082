//! Whether Redis takes pushes.

use super::super::refusals::{Refusals, remedy};

#[test]
fn refusals_count_from_the_first_and_one_push_that_is_taken_ends_them() {
    let mut refusals = Refusals::default();
    assert_eq!((refusals.since_ms(), refusals.taken()), (0, false));
    assert!(refusals.refused(5_000, "OOM x") && !refusals.refused(9_000, "OOM x"));
    assert_eq!(refusals.since_ms(), 5_000);
    assert!(refusals.taken() && !refusals.taken());
    assert_eq!(refusals.since_ms(), 0);
    assert!(refusals.refused(0, "OOM x"), "the next one is a first again");
    assert_eq!(refusals.since_ms(), 1, "0 says that they are taken");
}

#[test]
fn redis_is_asked_once_a_second_while_it_refuses_and_never_while_it_takes() {
    let mut refusals = Refusals::default();
    assert!(!refusals.wants_probe(60_000));
    refusals.refused(60_000, "OOM x");
    let asked = (60_000..63_000).filter(|&now_ms| refusals.wants_probe(now_ms)).count();
    assert_eq!(asked, 3);
    refusals.taken();
    assert!(!refusals.wants_probe(90_000));
}

#[test]
fn a_refused_probe_of_an_idle_link_has_redis_asked_and_decides_nothing() {
    let mut refusals = Refusals::default();
    refusals.doubt("NOPERM this user has no permissions to run the 'del' command");
    assert!(!refusals.wants_probe(5_000), "the account may push all the same");
    refusals.doubt("READONLY You can't write against a read only replica.");
    assert_eq!((refusals.since_ms(), refusals.wants_probe(5_000)), (0, true));
    refusals.taken();
    assert!(!refusals.wants_probe(10_000));
    refusals.doubt("MISCONF");
    assert!(refusals.refused(10_000, "MISCONF x"), "the push says");
}

#[test]
fn a_refusal_is_told_with_redis_own_word_and_the_remedy_and_again_when_the_word_changes() {
    let mut refusals = Refusals::default();
    assert_eq!(refusals.why(), None);
    assert!(refusals.refused(5_000, "OOM command not allowed when used memory > 'maxmemory'."));
    let why = refusals.why().unwrap();
    assert!(why.starts_with("OOM command not allowed when used memory > 'maxmemory'; raise"), "{why}");
    assert!(refusals.refused(6_000, "READONLY You can't write against a read only replica."), "it is news");
    assert!(!refusals.refused(7_000, "READONLY You can't write against a read only replica."));
    assert!(refusals.why().unwrap().contains("replica: promote it"));
    let news = (7_000..607_000).step_by(1_000).filter(|&now_ms| refusals.refused(now_ms, "READONLY")).count();
    assert_eq!(news, 10, "while it lasts it is news once a minute");
    assert_eq!(refusals.since_ms(), 5_000, "it has been of no use since the first");
    refusals.taken();
    assert_eq!(refusals.why(), None);
    assert_ne!(remedy("MISCONF Errors writing to the AOF file"), remedy("ERR what?"));
    assert_eq!(remedy(""), remedy("OOMX"), "a word is a whole word");
}
