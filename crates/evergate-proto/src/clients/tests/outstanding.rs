//! What the bus has and nobody has answered: it is bounded, and what clients leave behind counts.

use super::*;

const ADDRESS: &str = "192.0.2.1";

fn ask(world: &mut World, slot: SlotIndex, trace: i64) {
    world.say(slot, envelope(&format!("t{trace}"), &[request(trace)]));
}

fn outstanding(world: &World) -> (u64, u64) {
    let counts = world.counts();
    (counts.bus_unanswered.load(Relaxed), counts.bus_orphans.load(Relaxed))
}

#[test]
fn a_message_is_outstanding_until_anything_comes_about_it() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(1), request(2)]));
    let push = world.pushed_one();
    assert_eq!(outstanding(&world), (1, 0), "the bus has one message, whatever is in it");
    assert!(world.counts().bus_unanswered_bytes.load(Relaxed) > 200);
    world.answer(&push, WORKER, &[result(1)]);
    world.heard(slot);
    assert_eq!((outstanding(&world), world.counts().bus_unanswered_bytes.load(Relaxed)), ((0, 0), 0));
    assert_eq!(world.state(slot).book.pending(), 2, "what is pending is another matter");
    world.session(slot, "s", WORKER);
    world.say(slot, envelope("s", &[disconnect(1)]));
    assert_eq!((world.pushed().len(), outstanding(&world)), (1, (0, 0)), "nothing comes about a DISCONNECT");
}

#[test]
fn what_a_client_leaves_behind_counts_against_its_address_until_it_is_answered() {
    let mut world = World::with(|limits| limits.address_orphans_max = 3);
    // A proxy's address, too.
    for peer in [ADDRESS, "127.0.0.1"] {
        let mut pushes = Vec::new();
        for _ in 0..3 {
            let slot = world.client_from(peer);
            ask(&mut world, slot, 1);
            pushes.push(world.pushed_one());
            world.hang_up(slot);
        }
        assert_eq!(outstanding(&world), (3, 3));
        let slot = world.client_from(peer);
        ask(&mut world, slot, 2);
        assert_eq!((world.pushed().len(), world.told(slot)), (0, (429, vec![json!(2)], false)), "{peer}");
        let elsewhere = world.client_from("192.0.2.77");
        ask(&mut world, elsewhere, 3);
        let theirs = world.pushed_one();
        world.answer(&theirs, WORKER, &complete(3));
        world.answer(&pushes[1], WORKER, &[result(1)]);
        assert_eq!(outstanding(&world), (2, 2));
        world.answer(&pushes[1], WORKER, &[status(1, 205)]);
        assert_eq!(outstanding(&world), (2, 2), "once");
        ask(&mut world, slot, 4);
        pushes.push(world.pushed_one());
        for push in &pushes {
            world.answer(push, WORKER, &complete(1));
        }
        assert_eq!(outstanding(&world), (0, 0));
    }
    assert_eq!(world.hits(Limit::address_orphans_max), 2);
    world.check_gauges();
}

#[test]
fn an_orphan_is_thought_of_for_request_max_seconds() {
    let mut world = World::with(|limits| (limits.address_orphans_max, limits.request_max_ms) = (1, 5_000));
    let slot = world.client_from(ADDRESS);
    ask(&mut world, slot, 1);
    world.hang_up(slot);
    world.pass(4_980);
    let slot = world.client_from(ADDRESS);
    ask(&mut world, slot, 2);
    assert_eq!(world.told(slot).0, 429);
    world.pass(20);
    assert_eq!(outstanding(&world), (0, 0));
    world.pushed();
    ask(&mut world, slot, 3);
    assert_eq!(world.pushed().len(), 1);
}

#[test]
fn what_is_given_up_is_an_orphan_for_the_bus_has_it_still() {
    let mut world = World::with(|limits| limits.request_max_ms = 5_000);
    let slot = world.client();
    ask(&mut world, slot, 1);
    let push = world.pushed_one();
    world.pass(5_000);
    assert_eq!((world.told(slot).0, outstanding(&world)), (504, (1, 1)));
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(outstanding(&world), (0, 0));
    // A session is remembered, and with it what its worker has.
    world.session(slot, "s", WORKER);
    world.say(slot, envelope("s", &[request(2)]));
    world.pass(5_000);
    assert_eq!((world.told(slot).0, outstanding(&world)), (504, (1, 1)));
    let first = world.pushed_one();
    world.say(slot, envelope("s", &[request(3)]));
    let second = world.pushed_one();
    assert_eq!(outstanding(&world), (2, 1));
    world.pass(5_000);
    assert_eq!((world.told(slot).0, outstanding(&world)), (504, (1, 1)), "the first is not thought of any more");
    world.answer(&second, WORKER, &complete(3));
    assert_eq!(outstanding(&world), (0, 0));
    world.answer(&first, WORKER, &complete(2));
    world.check_gauges();
}

#[test]
fn what_the_bus_lost_or_never_took_is_not_outstanding() {
    let mut world = World::new();
    let (slot, leaves) = (world.client(), world.client());
    ask(&mut world, slot, 1);
    ask(&mut world, leaves, 1);
    let tickets: Vec<Ticket> = world.pushed().iter().filter_map(|push| push.ticket).collect();
    world.hang_up(leaves);
    assert_eq!(outstanding(&world), (2, 1));
    for ticket in tickets {
        world.clients.push_failed(ticket, "it was refused");
        world.settle();
    }
    assert_eq!((outstanding(&world), world.told(slot).0), ((0, 0), 503));
    let leaves = world.client();
    for slot in [slot, leaves] {
        ask(&mut world, slot, 2);
    }
    world.hang_up(leaves);
    world.clients.bus_emptied(0);
    world.settle();
    assert_eq!(outstanding(&world), (0, 0));
    world.heard(slot);
    ask(&mut world, slot, 3);
    world.clients.pops_lost();
    world.clients.pops_back();
    world.pass(30_000);
    assert_eq!((world.told(slot).0, outstanding(&world)), (503, (0, 0)));
    world.check_gauges();
}

#[test]
fn with_a_full_bus_who_has_something_there_waits_and_who_has_nothing_sends_one() {
    let mut world = World::with(|limits| limits.bus_unanswered_max = 3);
    let greedy = ["192.0.2.1", "192.0.2.1", "127.0.0.1"].map(|peer| world.client_from(peer));
    for trace in 0..5 {
        ask(&mut world, greedy[2], trace);
    }
    let mut pushes = world.pushed();
    assert_eq!((pushes.len(), outstanding(&world)), (3, (3, 0)));
    assert!(!world.clients.may_read(greedy[2]) && world.clients.may_read(greedy[0]));
    assert_eq!(world.hits(Limit::bus_unanswered_max), 1);
    // Behind a proxy that names nobody each counts for itself; else the address does.
    for (slot, may) in [(greedy[0], 1), (greedy[1], 0), (world.client(), 1)] {
        ask(&mut world, slot, 7);
        assert_eq!(world.pushed().len(), may);
        ask(&mut world, slot, 8);
        assert_eq!(world.pushed().len(), 0);
    }
    // At twice as much nobody may.
    let last = world.client_from("192.0.2.9");
    ask(&mut world, last, 9);
    let newcomer = world.client_from("192.0.2.10");
    assert_eq!((world.pushed().len(), outstanding(&world)), (1, (6, 0)));
    assert!(!world.clients.may_read(newcomer));
    ask(&mut world, newcomer, 10);
    assert_eq!(world.pushed().len(), 0);
    world.check_gauges();
    // One answered makes room for a newcomer, as is seen at the next tick.
    world.answer(&pushes.remove(0), WORKER, &complete(0));
    world.pass(TICK_MS);
    assert_eq!((world.pushed().len(), outstanding(&world)), (1, (6, 0)));
}

#[test]
fn nothing_that_waited_for_a_full_bus_is_lost_and_reading_goes_on() {
    let mut world = World::with(|limits| limits.bus_unanswered_max = 2);
    let slots: Vec<SlotIndex> = (0..4).map(|_| world.client()).collect();
    for trace in 0..6 {
        for slot in &slots {
            ask(&mut world, *slot, trace);
        }
    }
    assert!(slots.iter().all(|slot| !world.clients.may_read(*slot)));
    let mut answered = 0;
    while answered < 24 {
        let pushes = world.pushed();
        assert!(outstanding(&world).0 <= 4 && !pushes.is_empty());
        for push in pushes {
            let trace = push.json["body"][0]["__p"]["threadTrace"].as_i64().expect("a number");
            world.answer(&push, WORKER, &complete(trace));
            answered += 1;
        }
        world.pass(TICK_MS);
    }
    assert_eq!(outstanding(&world), (0, 0));
    for slot in slots {
        assert_eq!((world.heard(slot).len(), world.clients.may_read(slot)), (6, true));
    }
    world.check_gauges();
}

#[test]
fn bytes_on_the_bus_are_bounded_as_well() {
    let mut world = World::with(|limits| limits.bus_unanswered_bytes_max = 10_000);
    let slot = world.client();
    for trace in 0..4 {
        let mut long = request(trace);
        long["__p"]["payload"]["__p"]["params"] = json!(["x".repeat(6_000)]);
        world.say(slot, envelope(&format!("t{trace}"), &[long]));
    }
    let pushes = world.pushed();
    assert_eq!((pushes.len(), world.clients.may_read(slot)), (2, false));
    assert_eq!(world.hits(Limit::bus_unanswered_bytes_max), 1);
    for push in &pushes {
        world.answer(push, WORKER, &complete(0));
    }
    assert_eq!(world.pushed().len(), 2);
}

#[test]
fn what_waits_for_a_full_bus_is_given_up_with_nobody_and_goes_when_orphans_are_forgotten() {
    let mut world = World::with(|limits| (limits.bus_unanswered_max, limits.request_max_ms) = (1, 5_000));
    let slot = world.client_from(ADDRESS);
    ask(&mut world, slot, 1);
    ask(&mut world, slot, 2);
    assert_eq!(world.pushed().len(), 1);
    world.pass(5_000);
    assert_eq!((world.told(slot), world.pushed().len()), ((504, vec![json!(1)], true), 0), "the bus has it still");
    world.check_gauges();
    world.pass(4_980);
    assert_eq!(world.pushed().len(), 0);
    world.pass(TICK_MS);
    assert_eq!(world.pushed().len(), 1, "it is not thought of any more");
}
