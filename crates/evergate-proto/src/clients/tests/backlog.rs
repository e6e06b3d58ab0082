//! What waits, in which order it goes, and when nothing more is read.

use std::collections::BTreeSet;

use super::*;

/// The threads of what was pushed, without the gateway's part.
fn threads(pushed: &[Pushed]) -> Vec<&str> {
    pushed.iter().map(|push| push.thread().split_once(':').expect("a colon").1).collect()
}

#[test]
fn requests_go_in_parallel_up_to_parallel_max_and_then_in_order() {
    let mut world = World::with(|limits| limits.parallel_max = 3);
    let slot = world.client();
    for thread in ["a", "b", "c", "d", "e", "f"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    let pushed = world.pushed();
    assert_eq!(threads(&pushed), ["a", "b", "c"]);
    assert_eq!(world.hits(Limit::parallel_max), 3);
    world.answer(&pushed[1], WORKER, &complete(0));
    let next = world.pushed();
    assert_eq!(threads(&next), ["d"]);
    world.answer(&pushed[0], WORKER, &complete(0));
    world.answer(&next[0], WORKER, &complete(0));
    assert_eq!(threads(&world.pushed()), ["e", "f"]);
    world.check_gauges();
}

#[test]
fn a_small_envelope_does_not_overtake_a_large_one_that_waits() {
    let mut world = World::with(|limits| limits.parallel_max = 3);
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0), request(1)]));
    let first = world.pushed_one();
    world.say(slot, envelope("b", &[request(0), request(1)]));
    world.say(slot, envelope("c", &[request(0)]));
    assert_eq!(world.pushed().len(), 0);
    world.answer(&first, WORKER, &complete(0));
    assert_eq!(threads(&world.pushed()), ["b"]);
}

#[test]
fn a_lone_envelope_goes_even_if_it_holds_more_than_parallel_max() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0), request(1), request(2)]));
    assert_eq!(world.pushed_one().kinds().len(), 3);
}

#[test]
fn a_disconnect_passes_ahead_of_what_waits_but_never_of_its_own_thread() {
    let mut world = World::with(|limits| limits.parallel_max = 1);
    let slot = world.client();
    for thread in ["s", "t"] {
        world.session(slot, thread, WORKER);
    }
    world.say(slot, envelope("a", &[request(0)]));
    let busy = world.pushed_one();
    world.say(slot, envelope("t", &[request(1)]));
    world.say(slot, envelope("s", &[disconnect(1)]));
    world.say(slot, envelope("t", &[disconnect(2)]));
    assert_eq!(threads(&world.pushed()), ["s"]);
    world.answer(&busy, WORKER, &complete(0));
    let request = world.pushed_one();
    assert_eq!((threads(std::slice::from_ref(&request)), request.kinds()), (vec!["t"], vec!["REQUEST"]));
    world.answer(&request, WORKER, &complete(1));
    let last = world.pushed_one();
    assert_eq!((threads(std::slice::from_ref(&last)), last.kinds()), (vec!["t"], vec!["DISCONNECT"]));
    world.check_gauges();
}

#[test]
fn a_disconnect_that_waited_behind_its_connect_goes_though_the_rest_must_wait() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let connecting = world.pushed_one();
    world.say(slot, envelope("a", &[request(0)]));
    world.say(slot, envelope("b", &[request(0)]));
    world.say(slot, envelope("c", &[request(0)]));
    world.say(slot, envelope("t", &[disconnect(1)]));
    assert_eq!(threads(&world.pushed()), ["a"]);
    world.answer(&connecting, WORKER, &[status(0, 200)]);
    assert_eq!(threads(&world.pushed()), ["b", "t"]);
    assert_eq!(world.state(slot).book.sessions(), 0);
}

#[test]
fn a_full_backlog_stops_the_reading_until_there_is_room() {
    let mut world = World::with(|limits| {
        limits.parallel_max = 1;
        limits.backlog_max = 2;
    });
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0)]));
    let first = world.pushed_one();
    world.say(slot, envelope("b", &[request(0)]));
    assert!(world.clients.may_read(slot));
    world.say(slot, envelope("c", &[request(0)]));
    assert!(!world.clients.may_read(slot));
    assert_eq!((world.clients.paused(), world.hits(Limit::backlog_max)), (&BTreeSet::from([slot]), 1));
    world.pass(60_000);
    assert!(world.is_open(slot), "the pong timer is suspended while nothing is read");
    assert_eq!(world.control(slot), [], "and no ping is sent");
    assert!(world.resumed.is_empty());
    world.answer(&first, WORKER, &complete(0));
    assert_eq!((&*world.resumed, world.clients.paused()), (&[slot][..], &BTreeSet::new()));
    assert!(world.clients.may_read(slot));
    world.check_gauges();
}

#[test]
fn a_backlog_is_full_by_its_bytes_too() {
    let mut world = World::with(|limits| {
        limits.parallel_max = 1;
        limits.backlog_bytes_max = 1_000;
    });
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0)]));
    world.say(
        slot,
        envelope(&"b".repeat(60), &[request(0), request(1), request(2), request(3), request(4), request(5)]),
    );
    assert!(!world.clients.may_read(slot));
    world.check_gauges();
}

#[test]
fn a_paused_client_that_breaks_is_forgotten() {
    let mut world = World::with(|limits| {
        limits.parallel_max = 1;
        limits.backlog_max = 1;
    });
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0)]));
    world.say(slot, envelope("b", &[request(0)]));
    assert!(!world.clients.may_read(slot));
    world.hang_up(slot);
    assert!(world.clients.paused().is_empty());
    assert_eq!(world.counts().core_bytes.load(Relaxed), 0);
    world.check_gauges();
}

#[test]
fn a_good_envelope_that_must_wait_resets_the_count_of_bad_ones() {
    let mut world = World::with(|limits| limits.parallel_max = 1);
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0)]));
    for _ in 0..12 {
        world.say(slot, "nonsense");
        world.say(slot, envelope("b", &[request(0)]));
    }
    assert!(world.is_open(slot));
}
