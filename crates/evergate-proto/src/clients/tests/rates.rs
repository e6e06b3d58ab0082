//! How fast a client and an address may send and connect.

use super::*;
use crate::clients::rate::{Bucket, Rate};

const ADDRESS: &str = "192.0.2.1";

fn ask(world: &mut World, slot: SlotIndex, trace: i64) {
    world.say(slot, envelope(&format!("t{trace}"), &[request(trace)]));
}

#[test]
fn a_bucket_holds_two_seconds_worth_and_fills_at_its_rate() {
    let rate = Rate::per_second(4);
    let mut bucket = Bucket::default();
    let taken = |bucket: &mut Bucket, now_ms| (0..20).filter(|_| bucket.take(rate, now_ms)).count();
    assert_eq!(taken(&mut bucket, 5_000), 8);
    assert!(!bucket.is_full(6_999) && bucket.is_full(7_000));
    assert_eq!((taken(&mut bucket, 5_249), taken(&mut bucket, 5_250), taken(&mut bucket, 6_000)), (0, 1, 3));
    assert_eq!(taken(&mut bucket, 1_000_000), 8);
    assert!((0..100_000).all(|_| bucket.take(Rate::per_second(0), 1_000_000)), "0 is no limit");
}

#[test]
fn what_a_client_sends_too_fast_is_answered_with_429_and_not_relayed() {
    let mut world = World::with(|limits| limits.client_messages = Rate::per_second(5));
    let (slot, other) = (world.client(), world.client());
    for trace in 0..13 {
        ask(&mut world, slot, trace);
    }
    assert_eq!(world.pushed().len(), 10);
    assert_eq!(world.told(slot), (429, vec![json!(10), json!(11), json!(12)], false));
    assert_eq!(world.hits(Limit::client_messages_per_second_max), 3);
    ask(&mut world, other, 0);
    assert_eq!(world.pushed().len(), 1, "each has its own");
    world.pass(200);
    ask(&mut world, slot, 13);
    ask(&mut world, slot, 14);
    assert_eq!((world.pushed().len(), world.told(slot)), (1, (429, vec![json!(14)], false)));
    assert!(world.is_open(slot), "that is no garbage");
}

#[test]
fn disconnects_count_are_not_answered_and_still_end_their_sessions() {
    let mut world = World::with(|limits| limits.client_messages = Rate::per_second(5));
    let slot = world.client();
    world.session(slot, "s", WORKER);
    for _ in 0..20 {
        world.say(slot, envelope("nothing", &[disconnect(1)]));
    }
    assert_eq!((world.pushed().len(), world.heard(slot).len()), (0, 0));
    assert_eq!(world.counts().disconnects_ignored.load(Relaxed), 20);
    assert_eq!(world.hits(Limit::client_messages_per_second_max), 11);
    ask(&mut world, slot, 1);
    assert_eq!(world.told(slot).0, 429);
    world.say(slot, envelope("s", &[disconnect(1)]));
    assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"], "or its worker would wait for its keep-alive");
}

#[test]
fn the_clients_of_one_address_share_its_rate_and_those_of_a_proxy_have_none() {
    let mut world = World::with(|limits| limits.address_messages = Rate::per_second(5));
    let here = ["2001:db8:0:7:1::1", "2001:db8:0:7:ffff::2"].map(|peer| world.client_from(peer));
    for trace in 0..6 {
        for slot in here {
            ask(&mut world, slot, trace);
        }
    }
    assert_eq!(world.pushed().len(), 10, "one /64 is one address");
    assert_eq!((world.told(here[0]).0, world.told(here[1]).0), (429, 429));
    assert_eq!(world.hits(Limit::address_messages_per_second_max), 2);
    for peer in ["2001:db8:0:8::1", ADDRESS, "127.0.0.1"] {
        let slot = world.client_from(peer);
        for trace in 0..10 {
            ask(&mut world, slot, trace);
        }
        assert_eq!(world.pushed().len(), 10, "{peer}");
        ask(&mut world, slot, 10);
        assert_eq!(world.pushed().len(), usize::from(peer == "127.0.0.1"), "{peer}");
    }
}

#[test]
fn an_address_that_comes_again_has_no_fresh_allowance() {
    let mut world = World::with(|limits| limits.address_messages = Rate::per_second(5));
    for round in 0..3 {
        let slot = world.client_from(ADDRESS);
        for trace in 0..10 {
            ask(&mut world, slot, trace);
        }
        assert_eq!(world.pushed().len(), if round == 0 { 10 } else { 0 });
        world.hang_up(slot);
    }
    world.pass(3_000);
    let slot = world.client_from(ADDRESS);
    ask(&mut world, slot, 0);
    assert_eq!(world.pushed().len(), 1);
}

#[test]
fn an_address_that_connects_too_fast_is_refused_with_429() {
    let mut world = World::with(|limits| limits.address_connects = Rate::per_second(2));
    for peer in [ADDRESS, "2001:db8::1"] {
        for _ in 0..4 {
            let slot = world.client_from(peer);
            world.hang_up(slot);
        }
        let slot = world.connection_from(peer.parse().expect("an address"));
        world.input(slot, HANDSHAKE);
        let answer = String::from_utf8(world.received.remove(&slot).expect("an answer")).expect("text");
        assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && answer.contains("Retry-After: 1\r\n"));
        assert!(!world.is_open(slot));
    }
    assert_eq!(world.hits(Limit::address_connects_per_second_max), 2);
    for _ in 0..20 {
        world.client();
    }
    world.pass(500);
    world.client_from(ADDRESS);
}

#[test]
fn addresses_are_forgotten_when_they_say_nothing_any_more() {
    // Slow enough that their buckets are not full again at once.
    let mut world = World::with(|limits| (limits.addresses_max, limits.address_connects) = (3, Rate::per_second(1)));
    let come_and_go = |world: &mut World, from: u8, to: u8| {
        for last in from..to {
            let slot = world.client_from(&format!("192.0.2.{last}"));
            world.hang_up(slot);
        }
    };
    come_and_go(&mut world, 0, 3);
    world.pass(TICK_MS);
    assert_eq!((world.counts().addresses.load(Relaxed), world.hits(Limit::addresses_max)), (3, 0));
    come_and_go(&mut world, 3, 8);
    world.pass(TICK_MS);
    assert_eq!((world.counts().addresses.load(Relaxed), world.hits(Limit::addresses_max)), (3, 5), "the oldest went");
    let stays = world.client_from("192.0.2.7");
    world.pass(2_100);
    assert_eq!(world.counts().addresses.load(Relaxed), 1);
    world.hang_up(stays);
    world.pass(2_100);
    assert_eq!(world.counts().addresses.load(Relaxed), 0);
}

#[test]
fn what_a_dual_stack_listener_tells_of_ipv4_clients_is_their_own_address() {
    let mut world = World::with(|limits| limits.address_messages = Rate::per_second(5));
    let count = |world: &mut World, peer: &str| {
        let slot = world.client_from(peer);
        (0..12).for_each(|trace| ask(world, slot, trace));
        world.pushed().len()
    };
    assert_eq!(["::ffff:192.0.2.7", "::ffff:192.0.2.8"].map(|peer| count(&mut world, peer)), [10, 10]);
    assert_eq!(count(&mut world, "192.0.2.7"), 0, "it has spent its allowance by the other spelling");
}
