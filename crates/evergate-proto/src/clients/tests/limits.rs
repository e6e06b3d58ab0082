//! What is refused, and what is given up.

use super::*;

#[test]
fn a_session_more_than_sessions_max_is_refused_with_429() {
    let mut world = World::with(|limits| limits.sessions_max = 2);
    let slot = world.client();
    world.session(slot, "s", WORKER);
    world.say(slot, envelope("t", &[connect(0)]));
    assert_eq!(world.pushed().len(), 1, "connecting ones are counted");
    world.say(slot, envelope("u", &[connect("3"), request(4)]));
    assert_eq!(world.told(slot), (429, vec![json!("3"), json!(4)], false));
    assert_eq!((world.pushed().len(), world.hits(Limit::sessions_max)), (0, 1));
    world.say(slot, envelope("s", &[connect(5)]));
    assert_eq!(world.pushed_one().key, WORKER, "a thread with a session may connect again");
}

#[test]
fn the_service_router_is_refused_unless_it_is_allowed() {
    for (allowed, pushes) in [(false, 0), (true, 1)] {
        let mut world = World::with(|limits| limits.allow_router_calls = allowed);
        let slot = world.client();
        world.say(slot, json!({"service": "\u{72}outer", "thread": "t", "osrf_msg": [request(2)]}));
        assert_eq!(world.pushed().len(), pushes);
        if !allowed {
            assert_eq!(world.told(slot), (403, vec![json!(2)], false));
        }
    }
}

#[test]
fn a_missing_service_is_refused_with_400_except_in_a_session() {
    let mut world = World::new();
    let slot = world.client();
    let nameless = json!({"thread": "t", "osrf_msg": [request(1)]});
    world.say(slot, &nameless);
    assert_eq!(world.told(slot), (400, vec![json!(1)], false));
    world.say(slot, json!({"thread": "t", "osrf_msg": [disconnect(1)]}));
    assert_eq!(world.heard(slot).len(), 0, "a DISCONNECT is never answered");
    world.session(slot, "t", WORKER);
    world.say(slot, &nameless);
    assert_eq!(world.pushed_one().key, WORKER);
}

#[test]
fn too_much_garbage_in_a_row_closes_with_1008() {
    let mut world = World::new();
    let slot = world.client();
    for _ in 0..9 {
        world.say(slot, "nonsense");
        assert_eq!(world.told(slot), (400, vec![json!(0)], false));
    }
    world.say(slot, envelope("t", &[request(0)]));
    for _ in 0..9 {
        world.say(slot, json!({"thread": "no service", "osrf_msg": request(0)}));
    }
    assert!(world.is_open(slot), "a good envelope resets the count");
    assert_eq!(world.heard(slot).len(), 9);
    world.say(slot, "nonsense");
    assert_eq!(world.told(slot), (400, vec![json!(0)], false));
    assert_eq!((world.closed_with(slot), world.hits(Limit::garbage_max)), (Some(1008), 1));
}

#[test]
fn refusals_that_are_no_garbage_do_not_close() {
    let mut world = World::with(|limits| limits.sessions_max = 0);
    let slot = world.client();
    for _ in 0..30 {
        world.say(slot, envelope("t", &[connect(0)]));
        world.say(slot, json!({"service": "router", "thread": "t", "osrf_msg": [request(0)]}));
    }
    assert!(world.is_open(slot));
    assert_eq!(world.heard(slot).len(), 60);
}

#[test]
fn a_message_that_the_router_would_blow_up_beyond_the_limit_is_refused_with_413() {
    let mut world = World::with(|limits| limits.envelope.bus_message_bytes_max = 3_000);
    let slot = world.client();
    let with = |character: &str, count| {
        let mut long = request(1);
        long["__p"]["payload"]["__p"]["params"] = json!([character.repeat(count)]);
        envelope("t", &[long])
    };
    world.say(slot, with("e", 1_000));
    assert_eq!(world.pushed().len(), 1);
    world.say(slot, with("é", 500));
    assert_eq!(world.told(slot), (413, vec![json!(1)], false));
    // The addresses count as well: of the messages alone this is not too large.
    world.say(slot, with("é", 460));
    assert_eq!(world.told(slot), (413, vec![json!(1)], false));
    assert_eq!((world.pushed().len(), world.hits(Limit::bus_message_bytes_max)), (0, 2));
    assert_eq!(world.state(slot).book.conversations().count(), 1, "a refused envelope leaves nothing behind");
    world.check_gauges();
}

#[test]
fn a_request_that_grows_too_old_is_given_up_with_504_and_a_late_reply_finds_nobody() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(7)]));
    let push = world.pushed_one();
    world.pass(599_980);
    assert_eq!((world.heard(slot).len(), world.state(slot).book.pending()), (0, 1));
    world.pass(20);
    assert_eq!(world.told(slot), (504, vec![json!(7)], true));
    assert_eq!(world.hits(Limit::request_max_seconds), 1);
    world.answer(&push, WORKER, &complete(7));
    assert_eq!(world.heard(slot).len(), 0);
    world.check_gauges();
}

#[test]
fn a_reply_after_giving_up_is_forwarded_while_the_conversation_is_remembered() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.say(slot, envelope("t", &[request(1)]));
    let push = world.pushed_one();
    world.pass(600_000);
    assert_eq!(world.told(slot), (504, vec![json!(1)], true));
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(world.heard(slot).len(), 1);
    assert_eq!(world.state(slot).book.sessions(), 1);
}

#[test]
fn a_connect_is_given_up_sooner_and_a_late_200_is_answered_with_a_disconnect() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0), request(1)]));
    let push = world.pushed_one();
    world.say(slot, envelope("t", &[request(2)]));
    world.pass(30_000);
    assert_eq!(world.told(slot), (504, vec![json!(0)], true));
    assert_eq!(world.hits(Limit::connect_max_seconds), 1);
    assert_eq!(world.pushed_one().key, ROUTER_KEY, "what waited for it goes on without a session");
    world.answer(&push, WORKER, &[status(0, 200)]);
    let farewell = world.pushed_one();
    assert_eq!((&*farewell.key, farewell.thread(), farewell.kinds()), (WORKER, push.thread(), vec!["DISCONNECT"]));
    assert_eq!(world.state(slot).book.sessions(), 0);
    world.check_gauges();
}

#[test]
fn a_late_200_to_a_forgotten_conversation_is_answered_with_a_disconnect() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let push = world.pushed_one();
    world.pass(30_000);
    assert_eq!(world.told(slot), (504, vec![json!(0)], true));
    world.answer(&push, WORKER, &[status(0, 200)]);
    assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"]);
}

#[test]
fn over_core_bytes_max_nothing_is_read_and_the_largest_holder_is_cut() {
    let mut world = World::with(|limits| limits.core_bytes_max = 100_000);
    let (small, large) = (world.client(), world.client());
    for (slot, bytes) in [(small, 40_000), (large, 70_000)] {
        let text = "x".repeat(bytes + 1_000);
        let frame = masked(OpCode::Text, text.as_bytes());
        world.input(slot, &frame[..bytes]);
    }
    assert!(!world.clients.may_read(small) && !world.clients.may_read(large));
    assert_eq!(world.hits(Limit::core_bytes_max), 2, "each that is not read from");
    world.pass(TICK_MS);
    assert_eq!((world.closed_with(large), world.hits(Limit::core_bytes_max)), (Some(1008), 3));
    assert!(world.is_open(small) && world.clients.may_read(small));
    assert_eq!(world.resumed, [large, small]);
    world.pass(TICK_MS);
    assert!(world.is_open(small), "one was enough");
    world.check_gauges();
    for slot in [small, large] {
        world.hang_up(slot);
    }
    assert_eq!(world.counts().core_bytes.load(Relaxed), 0);
}

#[test]
fn what_waits_for_a_client_that_is_not_read_from_stands_in_its_account() {
    let mut world = World::with(|limits| limits.core_bytes_max = 100_000);
    let (small, large) = (world.client(), world.client());
    for (slot, bytes) in [(small, 40_000), (large, 70_000)] {
        world.clients.keep_unheard(slot, bytes);
    }
    assert!(!world.clients.may_read(small) && !world.clients.may_read(large));
    world.pass(TICK_MS);
    assert_eq!(world.closed_with(large), Some(1008));
    assert_eq!(world.resumed, [large, small]);
    assert!(world.is_open(small) && world.clients.may_read(small));
    world.clients.keep_unheard(small, 0);
    assert_eq!(world.counts().core_bytes.load(Relaxed), 0);
}

#[test]
fn when_everything_has_ended_nothing_is_counted_and_an_idle_client_owns_no_buffer() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.session(slot, "s", WORKER);
    for thread in ["a", "b", "c", "d"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    let text = "y".repeat(3_000);
    let frame = masked(OpCode::Text, text.as_bytes());
    world.input(slot, &frame[..2_000]);
    world.input(slot, &frame[2_000..]);
    world.say(slot, envelope("s", &[disconnect(1)]));
    for _ in 0..3 {
        for push in world.pushed() {
            world.answer(&push, WORKER, &complete(0));
        }
    }
    let state = world.state(slot);
    assert!(state.book.is_idle() && !state.book.owns_heap() && !state.outbound.owns_heap());
    assert_eq!((state.unfinished_bytes(), state.bytes()), (0, 0));
    assert_eq!(world.counts().core_bytes.load(Relaxed), 0);
    assert_eq!(world.counts().idle.load(Relaxed), 1);
    world.check_gauges();
    world.hang_up(slot);
    // Its address is remembered until its buckets are full.
    world.pass(2_000);
    for (name, gauge, _, value) in world.counts().table() {
        assert!(!gauge || value == 0, "{name} is {value}");
    }
}

#[test]
fn an_idle_client_costs_no_more_than_it_did() {
    // 15,000 idle clients are the product's daily bread: their state is asserted, so that it grows knowingly.
    // Eight bytes of it are what it may send (its token bucket), which outlives every request.
    assert!(size_of::<Client>() <= 248, "{}", size_of::<Client>());
}

#[test]
fn a_tick_that_is_interrupted_goes_on_where_it_was() {
    let mut world = World::with(|limits| limits.request_max_ms = 5_000);
    let slots: Vec<_> = (0..5).map(|_| world.client()).collect();
    for &slot in &slots {
        world.say(slot, envelope("t", &[request(1)]));
    }
    world.clients.context.now_ms += 5_000;
    let mut calls = 0;
    while !world.clients.tick(|| false) {
        // Time goes on meanwhile; what became due in it is for the next tick.
        world.clients.context.now_ms += 1;
        world.settle();
        calls += 1;
        let told = slots.iter().filter(|slot| !world.heard(**slot).is_empty()).count();
        assert_eq!(told, 1, "one client a call");
    }
    assert_eq!(calls, 5);
}
