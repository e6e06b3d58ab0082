//! Delivered means acknowledged: what a client's TCP has not acknowledged is on its way, whatever our kernel has taken.

use super::*;
use crate::drain::DrainOptions;

const QUIET_MS: u64 = 250;

/// A client that was sent a reply of `bytes`, of which its TCP has acknowledged nothing.
fn with_late_reply(world: &mut World, bytes: usize) -> SlotIndex {
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.unacknowledged.insert(slot, bytes as u64);
    let mut big = complete(0);
    big[0]["__p"]["payload"]["__p"]["content"] = "z".repeat(bytes).into();
    world.answer(&push, WORKER, &big);
    assert_eq!(world.heard(slot).len(), 1, "our kernel has taken it");
    slot
}

impl World {
    fn drain_for(&mut self, seconds: u64) {
        let deadline_ms = self.now_ms() + seconds * 1_000;
        self.clients.begin_drain(DrainOptions { deadline_ms, closes_per_second: 2_000.0 });
        self.settle();
    }

    fn acknowledges(&mut self, slot: SlotIndex, bytes: u64) {
        let left = self.unacknowledged.entry(slot).or_default();
        *left = left.saturating_sub(bytes);
    }
}

#[test]
fn a_drain_waits_for_the_acknowledgement_then_for_the_quiet_time() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 3_000);
    world.drain_for(120);
    for _ in 0..10 {
        world.acknowledges(slot, 290);
        world.pass(1_000);
        world.frame(slot, OpCode::Ping, b"");
        assert!(world.is_open(slot), "whatever it sends, its reply is on its way");
    }
    assert_eq!(world.counts().sending.load(Relaxed), 1);
    world.acknowledges(slot, 100);
    world.pass(QUIET_MS);
    assert!(world.is_open(slot), "the quiet time counts from when it was delivered");
    world.pass(2 * TICK_MS);
    assert_eq!(world.closed_with(slot), Some(1012));
    assert_eq!((world.counts().closed_at_gap.load(Relaxed), world.counts().cut.load(Relaxed)), (1, 0));
    world.check_gauges();
}

#[test]
fn a_reply_on_its_way_is_no_idle_gap_without_a_drain_either() {
    let mut world = World::with(|limits| limits.idle_timeout_ms = 3_000);
    let slot = with_late_reply(&mut world, 3_000);
    for _ in 0..20 {
        world.acknowledges(slot, 10);
        world.pass(1_000);
    }
    assert!(world.is_open(slot));
    world.unacknowledged.remove(&slot);
    world.pass(1_000 + 3_000 + TICK_MS);
    assert_eq!(world.closed_with(slot), Some(1000));
}

#[test]
fn at_the_deadline_1012_is_for_who_is_at_a_gap_and_1001_for_whoever_is_owed_something() {
    let mut world = World::new();
    let (idle, late, half) = (world.client(), with_late_reply(&mut world, 3_000), world.client());
    world.input(half, &masked(OpCode::Text, b"12345678")[..9]);
    world.drain_for(120);
    world.clients.drain_deadline();
    world.settle();
    assert_eq!(world.closed_with(idle), Some(1012));
    assert_eq!((world.closed_with(late), world.closed_with(half)), (Some(1001), Some(1001)));
    let counts = world.counts();
    let counted = [&counts.closed_at_gap, &counts.closed_at_deadline, &counts.cut].map(|count| count.load(Relaxed));
    assert_eq!(counted, [1, 2, 1], "half a message is no loss");
}

#[test]
fn a_closing_client_that_still_takes_its_reply_at_the_deadline_is_named_as_cut() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 3_000);
    world.drain_for(120);
    world.say_close(slot, 1000);
    world.clients.drain_deadline();
    assert_eq!(world.counts().cut.load(Relaxed), 1);
    assert!(world.log.is_empty(), "told by the output, not yet taken");
    world.settle();
    assert!(world.log.iter().any(|(_, line)| line.contains("bytes not delivered")), "{:?}", world.log);
}

#[test]
fn a_slow_reader_that_owes_a_pong_is_alive_while_it_takes_enough() {
    let mut world = World::with(|limits| {
        (limits.idle_timeout_ms, limits.ping_ms, limits.pong_timeout_ms) = (0, 1_000, 2_000);
        limits.slow_bytes_per_second_min = 1_000;
    });
    let (enough, too_little) = (with_late_reply(&mut world, 100_000), with_late_reply(&mut world, 100_000));
    for slot in [enough, too_little] {
        world.mute.insert(slot);
    }
    for _ in 0..30 {
        world.acknowledges(enough, 120);
        world.acknowledges(too_little, 80);
        world.pass(100);
    }
    assert!(world.is_open(enough), "1,200 bytes a second");
    assert!(!world.is_open(too_little), "800 bytes a second");
    assert_eq!((world.hits(Limit::slow_bytes_per_second_min), world.hits(Limit::pong_timeout_seconds)), (1, 0));
    world.unacknowledged.remove(&enough);
    world.pass(2_100 + 2_100);
    assert!(!world.is_open(enough), "it has taken everything, and its pong does not come");
    assert_eq!(world.hits(Limit::pong_timeout_seconds), 1);
}

#[test]
fn who_asks_again_before_its_next_ping_is_not_looked_at() {
    for (idle_timeout_ms, looked) in [(0, false), (180_000, false), (4_000, true)] {
        let mut world = World::with(|limits| limits.idle_timeout_ms = idle_timeout_ms);
        let slot = world.client();
        for trace in 0..3 {
            world.say(slot, envelope("t", &[request(trace)]));
            let push = world.pushed_one();
            world.answer(&push, WORKER, &complete(trace));
            world.pass(if looked { 3_999 } else { 29_000 });
            assert!(!world.state(slot).outbound.is_delivered(), "{idle_timeout_ms}");
        }
        world.pass(if looked { 1 } else { 1_000 });
        assert!(world.state(slot).outbound.is_delivered(), "{idle_timeout_ms}");
        assert_eq!(world.is_open(slot), !looked, "its reply had arrived by the time of its idle time-out");
    }
}

#[test]
fn who_is_judged_is_read_from_first() {
    let late = envelope("t", &[request(7)]);
    let bytes = masked(OpCode::Text, late.to_string().as_bytes());
    let mut world = World::with(|limits| limits.idle_timeout_ms = 5_000);
    let (draining, idle) = (World::new().client(), world.client());
    world.pass(4_000);
    world.unread.insert(idle, bytes.clone());
    world.pass(1_000);
    assert!(world.is_open(idle), "its request lay unread");
    assert_eq!(world.pushed_one().json["body"][0]["__p"]["threadTrace"], 7);
    let mut world = World::new();
    assert_eq!(world.client(), draining);
    world.pass(1_000);
    world.unread.insert(draining, bytes);
    world.drain_for(120);
    world.pass(TICK_MS);
    assert!(world.is_open(draining));
    let push = world.pushed_one();
    world.answer(&push, WORKER, &complete(7));
    world.pass(2 * QUIET_MS);
    assert_eq!((world.heard(draining).len(), world.closed_with(draining)), (1, Some(1012)));
    assert_eq!(world.counts().crossed_close.load(Relaxed), 0);
}

#[test]
fn a_client_that_closes_while_it_reads_is_not_given_up_while_it_takes_more() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 10_000);
    world.say_close(slot, 1000);
    for _ in 0..9 {
        world.acknowledges(slot, 1_000);
        world.pass(1_900);
    }
    assert!(world.hung_up.is_empty(), "17 s, of which no two without progress");
    world.clients.ended(slot, "it has read our Close");
    world.settle();
    assert!(world.hung_up.is_empty());
    world.unacknowledged.remove(&slot);
    world.pass(120);
    assert_eq!((&*world.hung_up, world.counts().given_up_undelivered.load(Relaxed)), (&[slot][..], 0));
}

#[test]
fn a_closing_client_that_takes_nothing_more_is_given_up_and_counted() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 10_000);
    world.say_close(slot, 1000);
    world.pass(4_500);
    assert_eq!((&*world.hung_up, world.counts().given_up_undelivered.load(Relaxed)), (&[slot][..], 1));
    assert!(world.log.iter().any(|(_, line)| line.contains("were not delivered")));
}

#[test]
fn who_ends_its_side_without_a_close_is_gone_but_gets_what_it_was_sent() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 10_000);
    world.session(slot, "s", WORKER);
    world.clients.ended(slot, "the client ended the connection without a Close frame");
    world.settle();
    assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"]);
    assert_eq!(world.half_closed, [slot], "nothing more will be sent");
    world.pass(1_500);
    world.acknowledges(slot, 5_000);
    world.pass(1_500);
    assert!(world.hung_up.is_empty());
    world.unacknowledged.remove(&slot);
    world.pass(120);
    assert_eq!(world.hung_up, [slot]);
    let gone = world.client();
    world.clients.ended(gone, "the client ended the connection without a Close frame");
    world.settle();
    assert_eq!(world.hung_up, [slot, gone], "one that is owed nothing is over at once");
}

#[test]
fn a_request_is_given_up_by_silence_and_not_by_age() {
    let mut world = World::with(|limits| (limits.request_max_ms, limits.connect_max_ms) = (5_000, 5_000));
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0), request(1)]));
    let push = world.pushed_one();
    for _ in 0..10 {
        world.pass(4_000);
        world.answer(&push, WORKER, &[result(0)]);
        world.pass(900);
        world.answer(&push, WORKER, &[status(0, 100)]);
    }
    assert_eq!(world.heard(slot).len(), 20, "and no 504, neither for it nor for the one behind it");
    world.answer(&push, WORKER, &[status(0, 205)]);
    assert_eq!(world.heard(slot).len(), 1);
    world.pass(5_000);
    assert_eq!(world.told(slot), (504, vec![json!(1)], true));
    world.say(slot, envelope("t", &[connect(2)]));
    let push = world.pushed_one();
    world.pass(4_000);
    world.answer(&push, WORKER, &[status(2, 100)]);
    assert_eq!(world.heard(slot).len(), 1);
    world.pass(1_000);
    assert_eq!(world.told(slot), (504, vec![json!(2)], true), "a CONNECT waits for its answer");
}

#[test]
fn a_message_may_take_long_while_its_bytes_come_but_not_for_ever() {
    let mut world = World::with(|limits| (limits.message_timeout_ms, limits.message_max_ms) = (2_000, 20_000));
    let (steady, silent) = (world.client(), world.client());
    let bytes = masked(OpCode::Text, &[b'x'; 100]);
    world.input(silent, &bytes[..10]);
    world.input(steady, &bytes[..6]);
    for at in 0..12 {
        world.input(steady, &bytes[6 + at..7 + at]);
        world.pass(1_500);
    }
    assert!(world.is_open(steady) && !world.is_open(silent));
    assert_eq!((world.closed_with(silent), world.hits(Limit::message_timeout_seconds)), (Some(1008), 1));
    world.input(steady, &bytes[18..19]);
    world.pass(1_500);
    world.input(steady, &bytes[19..20]);
    world.pass(600);
    assert_eq!((world.closed_with(steady), world.hits(Limit::message_max_seconds)), (Some(1008), 1));
}

#[test]
fn pings_between_its_fragments_are_no_bytes_of_a_message() {
    let mut world = World::with(|limits| limits.message_timeout_ms = 2_000);
    let slot = world.client();
    let mut first = masked(OpCode::Text, b"[");
    first[0] &= 0x7f;
    world.input(slot, &first);
    for _ in 0..3 {
        world.pass(900);
        world.frame(slot, OpCode::Ping, b"still here");
    }
    assert_eq!(world.closed_with(slot), Some(1008));
}

#[test]
fn a_closing_client_that_takes_too_little_is_given_up_as_an_open_one_would_be() {
    let mut world = World::with(|limits| {
        (limits.pong_timeout_ms, limits.slow_bytes_per_second_min) = (5_000, 1_000);
    });
    let (enough, too_little) = (with_late_reply(&mut world, 100_000), with_late_reply(&mut world, 100_000));
    for slot in [enough, too_little] {
        world.say_close(slot, 1000);
    }
    for _ in 0..12 {
        world.acknowledges(enough, 1_200);
        world.acknowledges(too_little, 800);
        world.pass(1_000);
    }
    assert_eq!((&*world.hung_up, world.hits(Limit::slow_bytes_per_second_min)), (&[too_little][..], 1));
    assert_eq!(world.counts().given_up_undelivered.load(Relaxed), 1);
}

#[test]
fn closing_clients_cannot_hold_a_core_out_of_buffers() {
    let mut world = World::with(|limits| limits.core_bytes_max = 100_000);
    let (closing, open) = (world.client(), world.client());
    world.stalled.extend([closing, open]);
    let ask = |world: &mut World, slot| {
        world.say(slot, envelope("t", &[request(0)]));
        let push = world.pushed_one();
        let mut big = result(0);
        big["__p"]["payload"]["__p"]["content"] = "z".repeat(60_000).into();
        world.answer(&push, WORKER, &[big]);
    };
    ask(&mut world, closing);
    assert!(world.take_chunk(closing), "its kernel is full");
    world.say_close(closing, 1000);
    assert_eq!((world.hits(Limit::core_bytes_max), world.hung_up.len()), (0, 0), "there is room");
    ask(&mut world, open);
    assert_eq!(
        (world.hits(Limit::core_bytes_max), &*world.hung_up),
        (1, &[closing][..]),
        "with the reply that was too much"
    );
    assert!(world.clients.may_read(open) && world.is_open(open));
}

#[test]
fn a_handshake_that_is_not_over_at_the_deadline_is_refused() {
    let mut world = World::new();
    let slot = world.connection();
    world.input(slot, &HANDSHAKE[..50]);
    world.drain_for(5);
    world.clients.drain_deadline();
    world.settle();
    assert!(world.received[&slot].starts_with(b"HTTP/1.1 503 "));
    world.input(slot, &HANDSHAKE[50..]);
    world.say(slot, envelope("t", &[request(0)]));
    assert_eq!(world.pushed().len(), 0, "nothing of it is relayed any more");
}

#[test]
fn a_stop_during_a_drain_counts_a_closing_client_that_still_takes_its_reply() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 3_000);
    world.say_close(slot, 1000);
    world.drain_for(120);
    world.clients.stop(1001, true);
    assert_eq!(world.counts().cut.load(Relaxed), 1);
}

#[test]
fn a_drain_that_waits_for_a_slow_reader_names_it() {
    let mut world = World::new();
    let slot = with_late_reply(&mut world, 3_000);
    world.drain_for(120);
    world.pass(5_000);
    let oldest = world.clients.oldest().expect("it is waited for");
    assert_eq!((&*oldest.service, oldest.age_ms > 4_000), ("reply", true), "{oldest:?}");
    assert!(oldest.method.ends_with("bytes not delivered"), "{oldest:?}");
    world.say_close(slot, 1000);
    world.pass(1_000);
    assert!(world.clients.oldest().is_some(), "one that closes is waited for, too");
}
