//! What befalls the bus, and who is told.

use super::*;

#[test]
fn a_push_that_failed_is_told_to_exactly_its_envelopes_requests() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.say(slot, envelope("t", &[request(1), request("2"), disconnect(9)]));
    world.say(slot, envelope("u", &[request(1)]));
    let pushed = world.pushed();
    world
        .clients
        .push_failed(pushed[0].ticket.expect("a ticket"), "OOM command not allowed; it may not have been done");
    world.settle();
    let heard = world.heard(slot);
    let told: Vec<_> = heard.iter().filter_map(error_in).collect();
    assert_eq!(told, [(503, json!(1), true), (503, json!("2"), true)]);
    for heard in heard {
        assert_eq!((&heard["thread"], &heard["log_xid"]), (&json!("t"), &json!("x-t")));
        assert!(heard.to_string().contains("OOM command not allowed"), "Redis' own word");
    }
    assert_eq!(world.state(slot).book.pending(), 1);
    world.check_gauges();
}

#[test]
fn a_failed_push_does_not_touch_the_envelopes_before_and_after_it_in_its_session() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    for _ in 0..3 {
        world.say(slot, envelope("t", &[request(1)]));
    }
    let first = world.pushed_one();
    world.answer(&first, WORKER, &complete(1));
    assert_eq!(world.heard(slot).len(), 1);
    let second = world.pushed_one();
    for of_another in [first.ticket, second.ticket] {
        world.clients.push_failed(of_another.expect("a ticket"), "the link broke");
        world.settle();
    }
    assert_eq!(world.told(slot), (503, vec![json!(1)], true));
    let left: Vec<u32> =
        world.state(slot).book.conversations().flat_map(|c| c.pending.iter()).map(|p| p.push).collect();
    assert_eq!(left, [3], "the CONNECT's was 0, and the third has its turn");
}

#[test]
fn a_failed_push_of_a_client_that_is_gone_is_told_to_nobody() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(1)]));
    let ticket = world.pushed_one().ticket.expect("a ticket");
    world.hang_up(slot);
    let next = world.client();
    world.say(next, envelope("t", &[request(1)]));
    world.clients.push_failed(ticket, "the link broke");
    world.settle();
    assert_eq!(world.heard(next).len(), 0);
    world.clients.push_failed(Ticket { slot: 99, generation: 0, n: 0, push: 0 }, "the link broke");
}

#[test]
fn while_the_bus_is_away_requests_are_answered_with_503_at_once() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.clients.context.take_messages(0, false);
    world.say(slot, envelope("u", &[connect(4), request("5")]));
    assert_eq!(world.told(slot), (503, vec![json!(4), json!("5")], true));
    world.say(slot, envelope("t", &[request(1)]));
    let push = world.pushed_one();
    assert_eq!(push.domain, 1, "the worker's domain is not the one that is away");
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(world.heard(slot).len(), 1);
    world.clients.context.take_messages(1, false);
    world.say(slot, envelope("t", &[request(2)]));
    assert_eq!(world.told(slot), (503, vec![json!(2)], true));
    assert_eq!((world.pushed().len(), world.state(slot).garbage()), (0, 0), "the client is not to blame");
}

#[test]
fn a_disconnect_while_the_bus_is_away_ends_the_session_in_the_books() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    for domain in 0..2 {
        world.clients.context.take_messages(domain, false);
    }
    world.say(slot, envelope("t", &[disconnect(1)]));
    assert_eq!((world.heard(slot).len(), world.pushed().len()), (0, 0));
    assert!(world.state(slot).book.is_idle(), "the client believes so, and a drain must not wait for it");
    world.check_gauges();
}

#[test]
fn what_waited_is_refused_when_its_turn_comes_and_the_bus_is_away() {
    let mut world = World::with(|limits| limits.parallel_max = 1);
    let slot = world.client();
    for thread in ["a", "b", "c"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    let push = world.pushed_one();
    world.clients.context.take_messages(0, false);
    world.answer(&push, WORKER, &complete(0));
    assert_eq!(world.heard(slot).len(), 3);
    assert!(world.state(slot).book.is_idle());
}

#[test]
fn a_lost_reply_is_given_up_only_where_nothing_came_since_the_loss() {
    let mut world = World::new();
    let slot = world.client();
    for thread in ["silent", "answered", "streaming"] {
        world.say(slot, envelope(thread, &[request(1)]));
    }
    let pushed = world.pushed();
    world.clients.pops_lost();
    world.pass(60_000);
    assert_eq!(world.heard(slot).len(), 0, "it counts from the reconnection");
    world.answer(&pushed[1], WORKER, &complete(1));
    world.say(slot, envelope("later", &[request(1)]));
    world.clients.pops_back();
    world.pass(29_980);
    world.answer(&pushed[2], WORKER, &[result(1)]);
    assert_eq!(world.heard(slot).len(), 2);
    world.pass(20);
    let heard = world.heard_one(slot);
    assert_eq!((&heard["thread"], error_in(&heard)), (&json!("silent"), Some((503, json!(1), true))));
    assert_eq!((world.counts().maybe_lost.load(Relaxed), world.hits(Limit::bus_lost_reply_seconds)), (1, 1));
    world.pass(30_000);
    assert_eq!((world.heard(slot).len(), world.state(slot).book.pending()), (0, 2));
    world.check_gauges();
}

#[test]
fn a_second_loss_counts_from_the_second_reconnection() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(1)]));
    world.clients.pops_lost();
    world.clients.pops_back();
    world.pass(20_000);
    world.clients.pops_lost();
    world.pass(20_000);
    world.clients.pops_back();
    world.pass(29_980);
    assert_eq!(world.heard(slot).len(), 0);
    world.pass(20);
    assert_eq!(world.told(slot), (503, vec![json!(1)], true));
}

#[test]
fn a_bus_that_came_back_empty_ends_everything_that_was_pending() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.session(slot, "s", WORKER);
    world.say(slot, envelope("s", &[request(1)]));
    world.say(slot, envelope("u", &[request(2)]));
    world.say(slot, envelope("v", &[request(3)]));
    assert_eq!(world.pushed().len(), 2);
    world.clients.bus_emptied(0);
    world.settle();
    let told: Vec<_> = world.heard(slot).iter().map(|heard| error_in(heard).expect("an error")).collect();
    assert_eq!(told, [(503, json!(1), true), (503, json!(2), true)]);
    assert_eq!(world.pushed_one().thread(), "0.0.2:v", "what waited goes to the bus that is back");
    assert_eq!(world.state(slot).book.sessions(), 1, "the worker lives");
    world.check_gauges();
}

#[test]
fn another_domain_that_came_back_empty_ends_what_went_to_its_workers() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "s", WORKER);
    world.session(slot, "o", OTHER_WORKER);
    for thread in ["s", "o", "u"] {
        world.say(slot, envelope(thread, &[request(1)]));
    }
    world.clients.bus_emptied(1);
    world.settle();
    assert_eq!(world.heard_one(slot)["thread"], "s");
    assert_eq!(world.state(slot).book.pending(), 2);
}

#[test]
fn a_methods_name_of_megabytes_is_not_kept_while_it_is_pending() {
    let mut world = World::new();
    let slot = world.client();
    let name = "é".repeat(500_000);
    world.say(
        slot,
        envelope("t", &[message("REQUEST", 1, json!({"__c": "osrfMethod", "__p": {"method": name, "params": []}}))]),
    );
    assert!(world.pushed_one().ticket.is_some(), "relayed");
    let mut pending = world.state(slot).book.conversations().flat_map(|c| c.pending.iter());
    assert!(pending.next().expect("the request").method.len() <= 256);
}
