//! The router's list is kept short: who sends much waits for the router, who sends little passes.

use super::*;
use crate::clients::router_list::{LARGE_BYTES, RouterList, RouterNews};

const ADDRESS: &str = "192.0.2.1";

fn ask(world: &mut World, slot: SlotIndex, trace: i64) {
    world.say(slot, envelope(&format!("t{trace}"), &[request(trace)]));
}

fn hear(world: &mut World, news: RouterNews) {
    world.clients.heard_of_router(&[news]);
    world.settle();
}

fn took(messages: u64, length: u64) -> RouterNews {
    RouterNews::Took { messages, length }
}

#[test]
fn a_length_tells_which_of_our_messages_may_be_there() {
    let mut list = RouterList::default();
    let numbers: Vec<u64> = (0..6).map(|_| list.gave(1)).collect();
    let there = |list: &RouterList| numbers.iter().filter(|number| list.has(**number)).count();
    assert_eq!((list.len(), there(&list)), (6, 6));
    list.heard(took(3, 2));
    assert_eq!((list.len(), there(&list)), (5, 5), "one of the first three has left");
    list.heard(took(2, 9));
    assert_eq!((list.len(), there(&list)), (10, 5), "others' messages are there; none of ours came back");
    list.heard(RouterNews::Refused { messages: 1 });
    assert_eq!((list.len(), there(&list)), (9, 5));
    list.heard(RouterNews::Empty);
    assert_eq!((list.len(), there(&list), list.has_large()), (0, 0, false));
    let large = list.gave(LARGE_BYTES);
    list.gave(1);
    assert!(list.has_large());
    list.heard(took(1, 1));
    assert!(list.has(large) && list.has_large());
    list.heard(RouterNews::Lost);
    assert_eq!((list.len(), list.has_large()), (0, false));
    list.heard(took(1, 1));
    assert_eq!(list.len(), 1, "written before the link broke, answered after it: nothing is counted twice");
    list.gave(1);
    assert_eq!(list.len(), 2);
}

#[test]
fn an_address_has_one_message_in_a_long_list_and_the_rest_waits_until_the_router_has_taken_that() {
    let mut world = World::with(|limits| limits.router_queue_max = 3);
    let flood = [world.client_from(ADDRESS), world.client_from(ADDRESS)];
    for trace in 0..10 {
        ask(&mut world, flood[usize::from(trace % 2 == 1)], trace);
    }
    assert_eq!(world.pushed().len(), 3);
    assert_eq!(world.hits(Limit::router_queue_max), 7, "each message that waits");
    assert!(flood.iter().all(|slot| !world.clients.may_read(*slot)) && world.clients.asks_about_router());
    let neighbours: Vec<_> = ["192.0.2.7", "192.0.2.8"].map(|peer| world.client_from(peer)).into();
    for slot in neighbours {
        ask(&mut world, slot, 1);
        ask(&mut world, slot, 2);
        assert_eq!(world.pushed().len(), 1, "the first of each passes");
    }
    hear(&mut world, took(5, 4));
    assert_eq!(world.pushed().len(), 0, "it is as long as before");
    hear(&mut world, RouterNews::Empty);
    let turns: Vec<_> = world.pushed().iter().map(|push| push.ticket.expect("a client's").slot).collect();
    assert_eq!(turns.len(), 3, "no more than there is room for");
    for _ in 0..3 {
        hear(&mut world, took(3, 2));
        hear(&mut world, RouterNews::Empty);
        world.pass(TICK_MS);
    }
    assert_eq!(world.pushed().len(), 6, "all that waited");
    assert!(world.clients.may_read(flood[0]) && !world.clients.asks_about_router());
}

#[test]
fn who_shakes_hands_while_the_list_is_long_is_no_contradiction() {
    let mut world = World::with(|limits| limits.router_queue_max = 1);
    let flood = world.client_from(ADDRESS);
    ask(&mut world, flood, 1);
    let peer = Address::Ip(ADDRESS.parse().expect("an address"));
    let slot = world.clients.accept(peer, Opening::Request);
    let (first, rest) = super::HANDSHAKE.split_at(20);
    world.input(slot, first);
    world.clients.look_to_pause(slot);
    world.input(slot, rest);
    world.clients.look_to_pause(slot);
    assert!(world.is_open(slot) && !world.clients.is_paused(slot));
}

#[test]
fn what_was_answered_has_left_the_list_whatever_redis_told_last() {
    let mut world = World::with(|limits| limits.router_queue_max = 1);
    let slot = world.client_from(ADDRESS);
    for trace in 0..5 {
        ask(&mut world, slot, trace);
        let push = world.pushed_one();
        hear(&mut world, took(1, 40));
        ask(&mut world, slot, 100 + trace);
        assert_eq!(world.pushed().len(), 0);
        world.answer(&push, WORKER, &complete(trace));
        let second = world.pushed_one();
        world.answer(&second, WORKER, &complete(100 + trace));
    }
    world.check_gauges();
}

#[test]
fn large_messages_go_to_the_router_one_after_the_other() {
    let mut world = World::with(|limits| limits.router_queue_max = 64);
    let text = "x".repeat(LARGE_BYTES);
    let large = json!({"service": "s", "thread": "large", "osrf_msg": [{"__c": "osrfMessage", "__p": {"threadTrace": 1,
        "type": "REQUEST", "payload": {"__c": "osrfMethod", "__p": {"method": "m", "params": [text]}}}}]});
    let slots = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|peer| world.client_from(peer));
    for slot in slots {
        world.say(slot, &large);
    }
    assert_eq!(world.pushed().len(), 1);
    ask(&mut world, slots[1], 2);
    assert_eq!(world.pushed().len(), 0, "it waits behind its own");
    let light = world.client_from("192.0.2.9");
    for trace in 0..5 {
        ask(&mut world, light, trace);
        assert_eq!(world.pushed().len(), 1, "others need not wait");
    }
    for (messages, next) in [(6, 2), (2, 1)] {
        hear(&mut world, took(messages, messages));
        assert_eq!(world.pushed().len(), 0);
        hear(&mut world, RouterNews::Empty);
        assert_eq!(world.pushed().len(), next, "the second with what waited behind it");
    }
}
