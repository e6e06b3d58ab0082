//! The drain as clients see it.

use super::*;
use crate::drain::DrainOptions;

const QUIET_MS: u64 = 250;

impl World {
    pub(super) fn drain(&mut self, seconds: u64, closes_per_second: f64) {
        let deadline_ms = self.now_ms() + seconds * 1_000;
        self.clients.begin_drain(DrainOptions { deadline_ms, closes_per_second });
        self.settle();
    }

    /// Clients closed at a gap, and at the deadline.
    pub(super) fn drained(&self) -> (u64, u64) {
        (self.counts().closed_at_gap.load(Relaxed), self.counts().closed_at_deadline.load(Relaxed))
    }
}

#[test]
fn a_gap_is_quiet_after_the_quiet_time() {
    assert_eq!(Limits::default().quiet_at_ms(50_000), 50_000 + QUIET_MS);
}

#[test]
fn an_idle_client_is_closed_with_1012_after_the_quiet_time() {
    let mut world = World::new();
    let (old, new) = (world.client(), world.client());
    world.pass(10_000);
    world.say(new, "nonsense");
    world.drain(120, 2_000.0);
    world.pass(TICK_MS);
    assert_eq!(world.closed_with(old), Some(1012));
    world.pass(QUIET_MS - 2 * TICK_MS);
    assert!(world.is_open(new));
    world.pass(2 * TICK_MS);
    assert_eq!((world.closed_with(new), world.drained()), (Some(1012), (2, 0)));
    world.check_gauges();
}

#[test]
fn a_client_that_is_not_read_from_is_at_no_gap_for_a_request_may_have_come() {
    for idle_timeout_ms in [0, 2_000] {
        let mut world = World::with(|limits| limits.idle_timeout_ms = idle_timeout_ms);
        let slot = world.client();
        world.clients.context.loop_holds(u64::MAX / 2);
        assert!(!world.clients.may_read(slot), "the core is full");
        world.check_gauges();
        assert_eq!((world.counts().waiting_for_room.load(Relaxed), world.counts().idle.load(Relaxed)), (1, 0));
        if idle_timeout_ms == 0 {
            world.drain(120, 2_000.0);
        }
        world.pass(5_000);
        assert!(world.is_open(slot));
        world.clients.context.loop_holds(0);
        world.pass(TICK_MS);
        assert!(world.resumed == [slot] && world.is_open(slot), "it is read from first");
        world.say(slot, envelope("t", &[request(7)]));
        let push = world.pushed_one();
        world.answer(&push, WORKER, &complete(7));
        assert_eq!(world.heard(slot).len(), 1);
    }
}

#[test]
fn a_client_is_served_until_its_reply_has_been_taken_by_the_kernel() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.drain(120, 2_000.0);
    world.pass(10_000);
    assert!(world.is_open(slot));
    world.say(slot, envelope("u", &[request(0)]));
    let second = world.pushed_one();
    world.answer(&second, WORKER, &complete(0));
    world.stalled.insert(slot);
    world.answer(&push, WORKER, &complete(0));
    world.pass(5_000);
    assert!(world.is_open(slot), "a reply waits to be taken");
    assert_eq!(world.counts().sending.load(Relaxed), 1);
    world.stalled.clear();
    world.drain_outbound(slot);
    assert_eq!(world.heard(slot).len(), 2);
    world.pass(QUIET_MS - TICK_MS);
    assert!(world.is_open(slot), "the quiet time counts from the last byte taken");
    world.pass(2 * TICK_MS);
    assert_eq!((world.closed_with(slot), world.drained()), (Some(1012), (1, 0)));
}

#[test]
fn a_session_keeps_its_client_open_until_the_disconnect() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.drain(120, 2_000.0);
    world.pass(60_000);
    assert!(world.is_open(slot));
    assert_eq!(world.clients.oldest().map(|o| (o.service, o.method)), Some(("opensrf.math".into(), "session".into())));
    world.say(slot, envelope("t", &[disconnect(1)]));
    world.pass(QUIET_MS + TICK_MS);
    assert_eq!((world.closed_with(slot), world.drained()), (Some(1012), (1, 0)));
}

#[test]
fn half_a_message_keeps_its_client_open_until_it_is_complete_or_times_out() {
    let mut world = World::new();
    let (completes, stops) = (world.client(), world.client());
    let frame = masked(OpCode::Text, envelope("t", &[request(0)]).to_string().as_bytes());
    for slot in [completes, stops] {
        world.input(slot, &frame[..20]);
    }
    world.drain(120, 2_000.0);
    world.pass(29_000);
    assert!(world.is_open(completes) && world.is_open(stops));
    world.input(completes, &frame[20..]);
    let push = world.pushed_one();
    world.pass(1_000);
    assert_eq!(world.closed_with(stops), Some(1008));
    world.answer(&push, WORKER, &complete(0));
    assert_eq!(world.heard(completes).len(), 1);
    world.pass(QUIET_MS + TICK_MS);
    assert_eq!((world.closed_with(completes), world.drained()), (Some(1012), (1, 0)));
}

#[test]
fn pings_and_pongs_are_no_activity() {
    let mut world = World::new();
    let slot = world.client();
    world.drain(120, 2_000.0);
    for _ in 0..6 {
        world.pass(50);
        world.frame(slot, OpCode::Ping, b"");
        world.frame(slot, OpCode::Pong, b"");
    }
    assert_eq!(world.closed_with(slot), Some(1012));
}

#[test]
fn closes_keep_the_pace_and_the_pace_is_raised_to_be_done_by_half_time() {
    let mut world = World::new();
    let slots: Vec<SlotIndex> = (0..300).map(|_| world.client()).collect();
    world.pass(1_000);
    // 300 in (20 s / 2 - 0.25 s) need about 31 a second; 10 are allowed.
    world.drain(20, 10.0);
    let open = |world: &World| slots.iter().filter(|slot| world.is_open(**slot)).count();
    world.pass(5_000);
    assert!((130..=170).contains(&open(&world)), "{} open after a quarter", open(&world));
    world.pass(5_000);
    assert_eq!((open(&world), world.drained()), (0, (300, 0)));
}

#[test]
fn without_a_limit_everybody_idle_goes_at_once() {
    let mut world = World::new();
    let slots: Vec<SlotIndex> = (0..300).map(|_| world.client()).collect();
    world.pass(1_000);
    world.drain(120, 0.0);
    world.pass(TICK_MS);
    assert!(slots.iter().all(|slot| !world.is_open(*slot)));
}

#[test]
fn the_deadline_cuts_who_is_busy_and_counts_who_waited_only_for_its_turn_as_closed_at_its_gap() {
    let mut world = World::new();
    let (turn, busy, session, unsent) = (world.client(), world.client(), world.client(), world.client());
    world.say(busy, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    let connected = world.session(session, "t", WORKER);
    world.say(unsent, envelope("t", &[request(0)]));
    let answered = world.pushed_one();
    world.stalled.insert(unsent);
    world.answer(&answered, WORKER, &complete(0));
    world.drain(120, 2_000.0);
    world.clients.drain_deadline();
    world.settle();
    assert_eq!(world.drained(), (1, 3));
    assert_eq!(world.closed_with(turn), Some(1012));
    assert_eq!((world.closed_with(busy), world.closed_with(session)), (Some(1001), Some(1001)));
    let farewell = world.pushed_one();
    assert_eq!((farewell.thread(), farewell.kinds()), (connected.thread(), vec!["DISCONNECT"]));
    world.stalled.clear();
    world.drain_outbound(unsent);
    assert_eq!(
        (world.heard(unsent).len(), world.closed_with(unsent)),
        (1, Some(1001)),
        "what was unsent is not dropped"
    );
    world.answer(&push, WORKER, &complete(0));
    assert_eq!(world.heard(busy).len(), 0);
    let cut = |line: &str| world.log.iter().filter(|(_, text)| text.contains(line)).count();
    assert_eq!((cut("cut off at the deadline"), cut("opensrf.math add for ")), (3, 1));
    world.check_gauges();
}

#[test]
fn a_stop_during_a_drain_counts_who_had_something_pending() {
    let mut world = World::new();
    let (idle, busy, late) = (world.client(), world.client(), world.connection());
    world.say(busy, envelope("t", &[request(0)]));
    world.drain(120, 2_000.0);
    world.clients.stop(1001, true);
    world.settle();
    assert_eq!(world.drained(), (0, 1));
    assert_eq!((world.closed_with(idle), world.closed_with(busy)), (Some(1001), Some(1001)));
    assert!(world.received[&late].starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_connection_that_was_established_when_the_drain_began_is_taken_and_served() {
    let mut world = World::new();
    let slot = world.connection();
    world.drain(120, 2_000.0);
    world.pass(500);
    world.input(slot, HANDSHAKE);
    world.received.remove(&slot);
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.pass(1_000);
    world.answer(&push, WORKER, &complete(0));
    assert_eq!(world.heard(slot).len(), 1);
    world.pass(QUIET_MS + TICK_MS);
    assert_eq!((world.closed_with(slot), world.drained()), (Some(1012), (1, 0)));
}

#[test]
fn a_request_that_crosses_the_drains_close_is_counted() {
    let mut world = World::new();
    let slot = world.client();
    world.pass(1_000);
    world.drain(120, 2_000.0);
    world.pass(TICK_MS);
    world.say(slot, envelope("t", &[request(0)]));
    assert_eq!((world.pushed().len(), world.counts().crossed_close.load(Relaxed)), (0, 1));
}

#[test]
fn the_oldest_thing_waited_for_is_named() {
    let mut world = World::new();
    let (first, second) = (world.client(), world.client());
    world.say(first, envelope("t", &[request(0)]));
    world.pass(3_000);
    world.say(second, envelope("t", &[request(0)]));
    world.pass(1_000);
    let oldest = world.clients.oldest().expect("two wait");
    assert_eq!((&*oldest.service, &*oldest.method, oldest.age_ms), ("opensrf.math", "add", 4_000));
    assert_eq!(oldest.client, "127.0.0.1");
}

#[test]
fn what_a_client_that_was_cut_still_held_is_named_and_only_what_it_lost_counts_as_cut() {
    let mut world = World::new();
    let (half, unsent, busy) = (world.client(), world.client(), world.client());
    world.input(half, &masked(OpCode::Text, b"12345678")[..9]);
    world.say(unsent, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.stalled.insert(unsent);
    world.answer(&push, WORKER, &complete(0));
    world.say(busy, envelope("t", &[request(0)]));
    world.clients.context.now_ms += 5_000;
    world.say(busy, envelope("u", &[request(0)]));
    world.clients.context.now_ms += 1_000;
    let bytes = world.state(unsent).outbound.undelivered_bytes();
    let oldest = world.clients.oldest().expect("somebody waits");
    assert_eq!((&*oldest.service, &*oldest.method, oldest.age_ms), ("opensrf.math", "add", 6_000));
    world.drain(120, 2_000.0);
    world.clients.drain_deadline();
    world.settle();
    assert_eq!(world.drained(), (0, 3));
    assert_eq!(world.counts().cut.load(Relaxed), 2, "half a message is no loss");
    for (line, word) in [
        ("half a message", "closed"),
        (&*format!("reply {bytes} bytes not delivered"), "cut off"),
        ("opensrf.math add for 6000 ms", "cut off"),
    ] {
        let said = format!("was {word} at the deadline: {line}");
        let named = world.log.iter().filter(|(_, text)| text.contains(&said));
        assert_eq!(named.count(), 1, "{said}");
    }
}

#[test]
fn a_stop_without_a_drain_counts_nobody_as_cut_and_says_why_it_closes() {
    for (code, word) in [(1001, "stopping"), (1011, "failed")] {
        let mut world = World::new();
        let slot = world.client();
        world.say(slot, envelope("t", &[request(0)]));
        world.clients.stop(code, false);
        world.settle();
        assert_eq!((world.drained(), world.closed_with(slot)), ((0, 0), Some(code)));
        assert!(world.activity.iter().any(|text| text.contains("disconnect after") && text.contains(word)));
    }
}
