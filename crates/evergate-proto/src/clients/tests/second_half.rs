//! From half of a drain on, as clients see it: who never pauses is made to.

use super::*;

/// The half of a drain of so many seconds, ms.
const fn half_ms(seconds: u64) -> u64 {
    seconds * 1_000 / 2
}

impl World {
    /// Bytes of a client that arrive: they are read, if it is read from, and else lie unread until it is.
    fn arrives(&mut self, slot: SlotIndex, bytes: &[u8]) {
        if self.clients.may_read(slot) {
            self.input(slot, bytes);
        } else {
            self.unread.entry(slot).or_default().extend_from_slice(bytes);
        }
        self.read_again();
    }

    /// Reads what lies unread of those who are read from again.
    fn read_again(&mut self) {
        for slot in std::mem::take(&mut self.resumed) {
            if let Some(bytes) = self.unread.remove(&slot) {
                self.input(slot, &bytes);
            }
        }
    }

    /// A client asks every 20 ms, and each request is answered at the next, until so much time has passed. How many were relayed.
    fn ask_without_pause(&mut self, slot: SlotIndex, first_trace: i64, ms: u64) -> usize {
        let mut relayed = 0;
        for trace in (first_trace..).take((ms / TICK_MS) as usize) {
            for push in self.pushed() {
                let trace = push.json["body"][0]["__p"]["threadTrace"].as_i64().expect("a number");
                self.answer(&push, WORKER, &complete(trace));
                relayed += 1;
            }
            self.arrives(slot, &masked(OpCode::Text, envelope("t", &[request(trace)]).to_string().as_bytes()));
            self.pass(TICK_MS);
            self.read_again();
        }
        relayed
    }
}

#[test]
fn who_never_pauses_is_not_read_from_behind_half_of_the_drain_and_closed_with_1012_once_all_is_answered() {
    let mut world = World::new();
    let slot = world.client();
    world.drain(10, 2_000.0);
    let relayed = world.ask_without_pause(slot, 1, half_ms(10) - TICK_MS);
    assert!(world.is_open(slot) && relayed > 240, "{relayed} relayed");
    world.ask_without_pause(slot, 1_000, 200);
    assert_eq!((world.closed_with(slot), world.drained()), (Some(1012), (1, 0)));
    assert!(world.pushed().is_empty() && world.counts().crossed_close.load(Relaxed) > 0);
    let ended = world.heard(slot).len() as u64;
    assert_eq!(
        world.counts().requests.load(Relaxed),
        ended,
        "what was relayed was answered, and nothing else was relayed"
    );
    world.check_gauges();
}

#[test]
fn what_was_relayed_is_answered_and_delivered_before_a_forced_gap_and_what_waits_goes_out() {
    let mut world = World::with(|limits| limits.parallel_max = 1);
    let slot = world.client();
    world.drain(10, 2_000.0);
    world.say(slot, envelope("t", &[request(1)]));
    world.say(slot, envelope("t", &[request(2)]));
    let first = world.pushed_one();
    world.pass(half_ms(10) + 500);
    let late = masked(OpCode::Text, envelope("t", &[request(3)]).to_string().as_bytes());
    world.arrives(slot, &late);
    assert!(world.clients.is_paused(slot));
    world.answer(&first, WORKER, &complete(1));
    let second = world.pushed_one();
    world.pass(500);
    assert!(world.is_open(slot), "a request is under way");
    world.unacknowledged.insert(slot, 1);
    world.answer(&second, WORKER, &complete(2));
    world.pass(500);
    assert!(world.is_open(slot), "a reply is not delivered");
    world.unacknowledged.clear();
    world.pass(3 * TICK_MS);
    world.read_again();
    assert_eq!((world.closed_with(slot), world.drained()), (Some(1012), (1, 0)));
    assert_eq!((world.heard(slot).len(), world.pushed().len()), (2, 0));
    assert_eq!(world.counts().crossed_close.load(Relaxed), 1, "the unread request is discarded as what crosses is");
}

#[test]
fn who_has_a_session_is_read_from_until_it_ends_and_so_is_who_asks_for_one() {
    let mut world = World::new();
    let (session, connecting) = (world.client(), world.client());
    world.session(session, "t", WORKER);
    world.drain(10, 2_000.0);
    world.say(connecting, envelope("t", &[connect(0)]));
    let asks = world.pushed_one();
    world.pass(half_ms(10) + 500);
    for trace in 1..4 {
        assert!(world.clients.may_read(session) && world.clients.may_read(connecting));
        world.say(session, envelope("t", &[request(trace)]));
        let push = world.pushed_one();
        world.answer(&push, WORKER, &complete(trace));
        world.pass(100);
    }
    world.answer(&asks, WORKER, &[status(0, 200)]);
    assert!(world.clients.may_read(connecting));
    for slot in [session, connecting] {
        world.say(slot, envelope("t", &[disconnect(4)]));
        assert!(!world.clients.may_read(slot), "its session has ended");
        assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"]);
        world.pass(3 * TICK_MS);
        assert_eq!(world.closed_with(slot), Some(1012));
    }
    assert_eq!(world.drained(), (2, 0));
}

#[test]
fn a_message_that_began_before_half_of_the_drain_is_read_to_its_end_and_one_that_began_behind_it_is_not() {
    let mut world = World::new();
    let (before, behind) = (world.client(), world.client());
    let message = |trace| masked(OpCode::Text, envelope("t", &[request(trace)]).to_string().as_bytes());
    let two = [message(1), message(2)].concat();
    let end = message(1).len();
    world.drain(10, 2_000.0);
    world.say(behind, envelope("t", &[request(0)]));
    let asked = world.pushed_one();
    world.arrives(before, &two[..end / 2]);
    world.pass(half_ms(10) + 500);
    assert!(world.clients.may_read(before), "it is amid a message");
    world.arrives(before, &two[end / 2..end + 10]);
    let push = world.pushed_one();
    // It holds the beginning of a message all the same, and goes on with it behind its Close.
    world.arrives(before, &two[end + 10..]);
    assert!(world.clients.is_paused(before) && world.pushed().is_empty());
    world.arrives(behind, &two[..10]);
    assert!(world.clients.is_paused(behind));
    for (slot, push, trace) in [(before, &push, 1), (behind, &asked, 0)] {
        world.answer(push, WORKER, &complete(trace));
        world.pass(3 * TICK_MS);
        world.read_again();
        assert_eq!((world.closed_with(slot), world.heard(slot).len()), (Some(1012), 1));
    }
    assert_eq!((world.drained(), world.counts().crossed_close.load(Relaxed)), ((2, 0), 1));
}

#[test]
fn a_session_that_asked_for_itself_in_what_waited_is_read_from_though_half_of_the_drain_is_over() {
    let mut world = World::with(|limits| limits.parallel_max = 1);
    let slot = world.client();
    world.drain(10, 2_000.0);
    world.say(slot, envelope("t", &[request(1)]));
    world.say(slot, envelope("u", &[connect(2)]));
    let push = world.pushed_one();
    world.pass(half_ms(10) + 500);
    let next = masked(OpCode::Text, envelope("u", &[request(3)]).to_string().as_bytes());
    world.arrives(slot, &next);
    assert!(world.clients.is_paused(slot), "it has no session");
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(world.resumed, [slot], "it asks for one");
    world.read_again();
    let asks = world.pushed_one();
    world.answer(&asks, WORKER, &[status(2, 200)]);
    assert_eq!(world.pushed_one().kinds(), ["REQUEST"]);
}

#[test]
fn who_is_not_read_from_for_want_of_room_has_a_forced_gap_too() {
    let mut world = World::new();
    let slot = world.client();
    world.drain(10, 2_000.0);
    world.clients.context.loop_holds(u64::MAX / 2);
    world.arrives(slot, &masked(OpCode::Text, envelope("t", &[request(1)]).to_string().as_bytes()));
    world.pass(half_ms(10) - TICK_MS);
    assert!(world.is_open(slot));
    world.pass(3 * TICK_MS);
    world.read_again();
    assert_eq!((world.closed_with(slot), world.pushed().len()), (Some(1012), 0));
    assert_eq!(world.counts().crossed_close.load(Relaxed), 1);
}

#[test]
fn forced_gaps_keep_the_pace() {
    let mut world = World::new();
    let slots: Vec<SlotIndex> = (0..100).map(|_| world.client()).collect();
    for slot in &slots {
        world.say(*slot, envelope("t", &[request(0)]));
    }
    let pushes = world.pushed();
    world.drain(40, 10.0);
    world.pass(half_ms(40));
    for push in &pushes {
        world.answer(push, WORKER, &complete(0));
    }
    let open = |world: &World| slots.iter().filter(|slot| world.is_open(**slot)).count();
    world.pass(4_000);
    assert!((50..=70).contains(&open(&world)), "{} open", open(&world));
    world.pass(6_500);
    assert_eq!((open(&world), world.drained()), (0, (100, 0)));
}

#[test]
fn a_cancelled_drain_reads_from_everybody_again() {
    let mut world = World::new();
    let slot = world.client();
    world.drain(10, 2_000.0);
    world.say(slot, envelope("t", &[request(1)]));
    let push = world.pushed_one();
    world.pass(half_ms(10) + 500);
    let next = masked(OpCode::Text, envelope("t", &[request(2)]).to_string().as_bytes());
    world.arrives(slot, &next[..10]);
    world.arrives(slot, &next[10..]);
    assert!(world.clients.is_paused(slot));
    world.clients.cancel_drain();
    world.settle();
    assert_eq!(world.resumed, [slot]);
    world.read_again();
    let second = world.pushed_one();
    for (push, trace) in [(push, 1), (second, 2)] {
        world.answer(&push, WORKER, &complete(trace));
    }
    world.pass(10_000);
    assert_eq!((world.is_open(slot), world.heard(slot).len()), (true, 2));
}

#[test]
fn at_the_deadline_a_forced_gap_is_a_gap_and_a_stop_says_what_was_not_read() {
    for stops in [false, true] {
        let mut world = World::new();
        let slots: Vec<SlotIndex> = (0..50).map(|_| world.client()).collect();
        for slot in &slots {
            world.say(*slot, envelope("t", &[request(0)]));
        }
        let pushes = world.pushed();
        world.drain(4, 0.1);
        world.pass(half_ms(4) + TICK_MS);
        for (slot, push) in slots.iter().zip(&pushes) {
            world.arrives(*slot, &masked(OpCode::Text, b"{}"));
            world.answer(push, WORKER, &complete(0));
        }
        world.pass(100);
        let closed = slots.iter().filter(|slot| !world.is_open(**slot)).count() as u64;
        assert!(closed < 25, "{closed} had their turn");
        if stops {
            world.clients.stop(1001, true);
            world.settle();
            assert_eq!(world.drained(), (closed, 50 - closed));
            let named = "cut off by a stop: what it sent in the second half of the drain";
            assert!(world.log.iter().any(|(_, text)| text.ends_with(named)), "{:?}", world.log);
        } else {
            world.clients.drain_deadline();
            world.settle();
            assert_eq!(world.drained(), (50, 0));
        }
    }
}
