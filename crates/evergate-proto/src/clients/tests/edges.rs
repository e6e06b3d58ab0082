//! The exact edges of what the other tests promise, each of which a mutant once moved unnoticed.

use std::collections::BTreeSet;

use super::*;

#[test]
fn frames_behind_a_long_handshake_are_read_though_they_do_not_fit_beside_it() {
    let padding = format!("X-Padding: {}\r\n\r\n", "x".repeat(7_900));
    let header = String::from_utf8(HANDSHAKE.to_vec()).unwrap().replacen("\r\n\r\n", &format!("\r\n{padding}"), 1);
    let mut bytes = header.into_bytes();
    for thread in ["a", "b", "c", "d", "e"] {
        bytes.extend(masked(OpCode::Text, envelope(thread, &[request(0)]).to_string().as_bytes()));
    }
    for cut in [1, 4_000, 8_000] {
        let mut world = World::new();
        let slot = world.connection();
        world.input(slot, &bytes[..cut]);
        assert_eq!(world.counts().core_bytes.load(Relaxed), cut as u64, "half a header is counted");
        world.input(slot, &bytes[cut..]);
        assert!(world.is_open(slot));
        assert_eq!(world.pushed().len(), 5, "cut at {cut}");
        world.check_gauges();
    }
}

#[test]
fn only_a_message_that_is_too_large_counts_as_one() {
    let mut world = World::with(|limits| limits.message_bytes_max = 1_000);
    let (large, unmasked) = (world.client(), world.client());
    world.frame(large, OpCode::Text, &[b'x'; 1_001]);
    assert_eq!((world.closed_with(large), world.hits(Limit::message_bytes_max)), (Some(1009), 1));
    world.input(unmasked, b"\x81\x01x");
    assert_eq!((world.closed_with(unmasked), world.hits(Limit::message_bytes_max)), (Some(1002), 1));
}

#[test]
fn a_peer_that_ends_while_it_is_owed_our_close_keeps_its_connection_until_that_is_sent() {
    let mut world = World::new();
    let slot = world.client();
    world.stalled.insert(slot);
    world.clients.stop(1001, false);
    world.settle();
    world.clients.ended(slot, "the client ended the connection");
    world.settle();
    assert!(world.hung_up.is_empty() && matches!(world.state(slot).stage, Stage::Closing { .. }));
    world.stalled.clear();
    world.drain_outbound(slot);
    assert_eq!(world.closed_with(slot), Some(1001));
    world.settle();
    world.pass(100);
    assert_eq!(world.hung_up, [slot], "once it has acknowledged what it was owed");
    assert!(world.clients.is_empty());
}

#[test]
fn an_end_that_the_shell_reports_ends_the_client() {
    let mut world = World::new();
    let slot = world.client();
    assert!(!world.clients.is_empty());
    world.clients.ended(slot, "the connection broke");
    world.settle();
    assert_eq!(world.hung_up, [slot]);
}

#[test]
fn a_backlog_that_holds_as_many_bytes_as_it_may_is_full() {
    let waiting = envelope("b", &[request(0)]);
    for (room, reads) in [(0, false), (1, true)] {
        let bytes = waiting.to_string().len();
        let mut world = World::with(|limits| {
            limits.parallel_max = 1;
            limits.backlog_bytes_max = bytes + room;
        });
        let slot = world.client();
        world.say(slot, envelope("a", &[request(0)]));
        assert!(world.state(slot).book.owns_heap());
        world.say(slot, &waiting);
        assert_eq!(world.clients.may_read(slot), reads);
        assert_eq!(world.hits(Limit::backlog_bytes_max), u64::from(!reads));
    }
}

#[test]
fn a_backlog_that_fills_by_its_bytes_is_counted_once_and_under_their_own_name() {
    let mut world = World::with(|limits| (limits.parallel_max, limits.backlog_bytes_max) = (1, 1));
    let slot = world.client();
    world.say(slot, envelope("a", &[request(0)]));
    for thread in ["b", "c"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    assert_eq!((world.hits(Limit::backlog_bytes_max), world.hits(Limit::backlog_max)), (1, 0));
}

#[test]
fn a_paused_client_that_ends_takes_no_other_with_it() {
    let mut world = World::with(|limits| {
        limits.parallel_max = 1;
        limits.backlog_max = 1;
    });
    let slots = [world.client(), world.client()];
    for slot in slots {
        world.say(slot, envelope("a", &[request(0)]));
        world.say(slot, envelope("b", &[request(0)]));
        assert!(!world.clients.may_read(slot));
    }
    world.hang_up(slots[0]);
    assert_eq!(*world.clients.paused(), BTreeSet::from([slots[1]]));
}

#[test]
fn limits_that_were_read_again_hold_at_once() {
    let mut world = World::new();
    let slot = world.client();
    let limits = Limits { parallel_max: 1, ..Limits::default() };
    world.clients.set_limits(Rc::new(limits));
    world.say(slot, envelope("a", &[request(0)]));
    world.say(slot, envelope("b", &[request(0)]));
    assert_eq!(world.pushed().len(), 1);
}

#[test]
fn a_disconnect_that_waits_is_seen_behind_requests_that_wait() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let connecting = world.pushed_one();
    for thread in ["a", "b", "c", "d"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    world.say(slot, envelope("t", &[disconnect(1)]));
    let first = world.pushed_one();
    // Everything in front ends, then the backlog is worked off to its end: nothing is taken for waiting that does not.
    world.answer(&connecting, WORKER, &[status(0, 200)]);
    assert_eq!(world.pushed().iter().flat_map(Pushed::kinds).collect::<Vec<_>>(), ["REQUEST", "DISCONNECT"]);
    assert!(world.state(slot).book.waiting().all(|waiting| waiting.counted > 0));
    world.answer(&first, WORKER, &complete(0));
    assert_eq!(world.pushed().len(), 1);
    assert_eq!(world.state(slot).book.backlog(), 1);
}

#[test]
fn half_a_message_gets_its_whole_time_again_when_reading_resumes() {
    let paused_with = |half: bool| {
        let mut world = World::with(|limits| {
            (limits.parallel_max, limits.backlog_max, limits.idle_timeout_ms) = (1, 1, 0);
        });
        let slot = world.client();
        world.say(slot, envelope("a", &[request(0)]));
        let first = world.pushed_one();
        let mut bytes = masked(OpCode::Text, envelope("b", &[request(0)]).to_string().as_bytes());
        if half {
            bytes.extend_from_slice(&masked(OpCode::Text, b"12345678")[..9]);
        }
        world.input(slot, &bytes);
        assert!(!world.clients.may_read(slot));
        world.pass(60_000);
        world.answer(&first, WORKER, &complete(0));
        assert_eq!(world.resumed, [slot]);
        (world, slot)
    };
    let (mut world, slot) = paused_with(true);
    world.pass(29_000);
    assert!(world.is_open(slot), "the time in which nothing was read does not count");
    world.pass(1_500);
    assert_eq!(world.closed_with(slot), Some(1008));
    let (mut world, slot) = paused_with(false);
    world.pass(60_000);
    assert!(world.is_open(slot), "there is no half message");
}

#[test]
fn what_waits_for_the_bus_counts_towards_core_bytes_max_and_the_limit_itself_is_allowed() {
    let mut world = World::with(|limits| limits.core_bytes_max = 1_000);
    let slot = world.client();
    world.clients.context.loop_holds(1_000);
    assert!(world.clients.may_read(slot));
    world.clients.context.loop_holds(1_001);
    assert!(!world.clients.may_read(slot));
}

#[test]
fn every_made_up_log_xid_is_another() {
    let mut world = World::new();
    let slot = world.client();
    for thread in ["a", "b", "c"] {
        world.say(slot, json!({"service": "s", "thread": thread, "osrf_msg": [request(0)]}));
    }
    let xids: HashSet<String> = world.pushed().iter().map(|push| push.json["osrf_xid"].to_string()).collect();
    assert_eq!(xids.len(), 3);
}

#[test]
fn each_reason_for_giving_up_is_counted_by_its_own_limit() {
    let hits = |world: &World| {
        [Limit::request_max_seconds, Limit::connect_max_seconds, Limit::bus_lost_reply_seconds]
            .map(|limit| world.hits(limit))
    };
    let given_up = |message: Value, lost: bool| {
        let mut world = World::with(|limits| limits.idle_timeout_ms = 0);
        let slot = world.client();
        world.say(slot, envelope("a", &[message]));
        if lost {
            world.clients.pops_lost();
            world.clients.pops_back();
        }
        world.pass(600_000);
        assert_eq!(world.told(slot).1.len(), 1);
        hits(&world)
    };
    assert_eq!(given_up(request(0), false), [1, 0, 0]);
    assert_eq!(given_up(connect(0), false), [0, 1, 0]);
    assert_eq!(given_up(request(0), true), [0, 0, 1]);
}

#[test]
fn what_is_in_doubt_is_given_up_in_time_though_something_older_was_given_up_before() {
    let mut world = World::with(|limits| limits.idle_timeout_ms = 0);
    let slot = world.client();
    world.say(slot, envelope("old", &[request(0)]));
    world.pass(590_000);
    world.say(slot, envelope("young", &[request(0)]));
    world.clients.pops_lost();
    world.clients.pops_back();
    world.pass(10_000);
    assert_eq!(world.told(slot).0, 504);
    world.pass(19_000);
    assert!(world.heard(slot).is_empty());
    world.pass(1_500);
    assert_eq!(world.told(slot).0, 503);
}

#[test]
fn small_frames_travel_together_up_to_16_kib_and_every_byte_is_counted() {
    let (mut outbound, mut reuse) = (Outbound::default(), Reuse::default());
    let mut queued = 0;
    for n in 0..100 {
        outbound.text(&mut reuse, 300, |out| out.extend_from_slice(&[b'x'; 296]));
        queued += 300;
        assert_eq!(outbound.bytes(), queued, "after {n}");
    }
    let mut chunks = Vec::new();
    assert!(outbound.is_ready() && outbound.owns_heap());
    while let Some(chunk) = outbound.take() {
        assert!(!outbound.is_ready(), "one send at a time");
        assert_eq!(outbound.bytes(), queued, "what is being sent is still held");
        queued -= chunk.bytes().len();
        chunks.push(chunk.bytes().len());
        outbound.sent();
    }
    assert_eq!((queued, outbound.bytes()), (0, 0));
    assert_eq!(chunks.len(), 2, "30,000 bytes: {chunks:?}");
    assert!(chunks[0] > 15_000 && chunks[0] <= 16 * 1024);
    assert!(outbound.is_empty() && !outbound.is_ready() && !outbound.owns_heap());
    outbound.text(&mut reuse, 300, |out| out.push(b'x'));
    outbound.drop_queued();
    assert!(outbound.is_empty() && !outbound.owns_heap());
}

#[test]
fn a_bus_that_is_away_is_named() {
    let mut world = World::new();
    let slot = world.client();
    world.clients.context.take_messages(0, false);
    world.say(slot, envelope("t", &[request(0)]));
    let text = world.heard_one(slot)["osrf_msg"][0]["__p"]["payload"]["__p"]["status"].to_string();
    assert!(text.contains("public.localhost") && text.contains("away"), "{text}");
}

#[test]
fn a_disconnect_never_passes_a_request_of_its_own_thread_that_waits_for_room() {
    let mut world = World::with(|limits| limits.parallel_max = 2);
    let slot = world.client();
    world.session(slot, "t", WORKER);
    for thread in ["a", "b"] {
        world.say(slot, envelope(thread, &[request(0)]));
    }
    let busy = world.pushed();
    world.say(slot, envelope("t", &[request(1), request(2)]));
    world.say(slot, envelope("t", &[disconnect(3)]));
    world.answer(&busy[0], WORKER, &complete(0));
    assert_eq!(world.pushed().len(), 0, "there is room for one, not for two");
    world.answer(&busy[1], WORKER, &complete(0));
    let requests = world.pushed_one();
    assert_eq!(requests.kinds().len(), 2);
    world.answer(&requests, WORKER, &[complete(1), complete(2)].concat());
    assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"]);
}

#[test]
fn a_backlog_counts_as_full_when_it_is_and_not_before() {
    let mut world = World::with(|limits| (limits.parallel_max, limits.backlog_max) = (1, 3));
    let slot = world.client();
    for (thread, hits) in [("a", 0), ("b", 0), ("c", 0), ("d", 1)] {
        world.say(slot, envelope(thread, &[request(0)]));
        assert_eq!(world.hits(Limit::backlog_max), hits, "{thread}");
    }
}

#[test]
fn a_client_is_looked_at_when_its_next_timer_runs_out_and_not_before() {
    let due_in = |world: &World, slot| world.state(slot).due_ms(&world.clients.context) - world.now_ms();
    let mut world = World::with(|limits| limits.idle_timeout_ms = 25_000);
    let slot = world.connection();
    assert_eq!(due_in(&world, slot), 10_000, "the handshake");
    world.input(slot, HANDSHAKE);
    assert_eq!(due_in(&world, slot), 25_000, "the idle gap");
    world.say(slot, envelope("t", &[connect(0)]));
    assert_eq!(due_in(&world, slot), 30_000, "the CONNECT, and the ping");
    let push = world.pushed_one();
    world.mute.insert(slot);
    world.clients.context.now_ms += 2_000;
    world.answer(&push, WORKER, &[status(0, 200)]);
    assert_eq!(due_in(&world, slot), 25_000, "whether the reply has arrived: the idle time-out would begin with it");
    world.unacknowledged.insert(slot, 1);
    world.pass(25_000);
    assert_eq!(due_in(&world, slot), 1_000, "whether the late reply has arrived");
    world.unacknowledged.remove(&slot);
    world.pass(1_000);
    assert_eq!(due_in(&world, slot), 2_000, "the ping: a session is no gap");
    let other = world.client();
    world.say(other, envelope("t", &[request(1)]));
    assert_eq!(world.state(other).times.requests_due.ms(), world.now_ms() + 600_000);
    world.pass(2_000);
    assert_eq!(due_in(&world, slot), 20_000, "the pong");
    world.input(slot, &masked(OpCode::Text, b"12345678")[..9]);
    assert_eq!(due_in(&world, slot), 30_000, "the half message, and the ping");
    world.clients.context.now_ms += 1_000;
    world.input(slot, b"x");
    assert_eq!(due_in(&world, slot), 30_000, "the half message, and the ping");
    world.clients.stop(1001, false);
    assert_eq!(due_in(&world, slot), 100, "whether our Close has arrived");
    world.settle();
    world.pass(100);
    assert_eq!(due_in(&world, slot), 2_000, "the peer's Close");
    world.clients.ended(slot, "x");
    assert!(world.state(slot).due_ms(&world.clients.context) > world.now_ms());
}

#[test]
fn a_404_ends_a_conversation_only_when_the_router_says_that_the_service_is_unknown() {
    let mut world = World::new();
    let slot = world.client();
    let not_found =
        |class: &str| message("STATUS", 0, json!({"__c": class, "__p": {"status": "not here", "statusCode": 404}}));
    for (from, class) in [(WORKER, "osrfServiceException"), (ROUTER, "osrfMethodException")] {
        world.say(slot, envelope("t", &[request(0), request(1)]));
        let push = world.pushed_one();
        world.answer(&push, from, &[not_found(class)]);
        assert_eq!(traces(&world.heard_one(slot)), [json!(0)]);
        assert_eq!(world.state(slot).book.pending(), 1, "{from} {class}");
        world.answer(&push, WORKER, &complete(1));
        world.heard(slot);
    }
}

#[test]
fn only_the_sessions_own_worker_can_end_it_by_its_keep_alive() {
    let mut world = World::new();
    let slot = world.client();
    let push = world.session(slot, "t", WORKER);
    world.answer(&push, OTHER_WORKER, &[status(0, 408)]);
    assert_eq!(world.state(slot).book.sessions(), 1);
    world.answer(&push, WORKER, &[status(0, 408)]);
    assert_eq!(world.state(slot).book.sessions(), 0);
}

#[test]
fn a_200_said_twice_is_nothing_new_but_another_workers_is_sent_away() {
    let mut world = World::new();
    let slot = world.client();
    let push = world.session(slot, "t", WORKER);
    world.answer(&push, WORKER, &[status(0, 200)]);
    assert_eq!(world.pushed().len(), 0);
    world.answer(&push, OTHER_WORKER, &[status(0, 200)]);
    let disconnect = world.pushed_one();
    assert_eq!((&*disconnect.key, disconnect.kinds()), (OTHER_WORKER, vec!["DISCONNECT"]));
    world.say(slot, envelope("t", &[request(1)]));
    assert_eq!(world.pushed_one().key, WORKER);
}

#[test]
fn a_sign_of_life_takes_the_doubt_from_its_own_request_alone() {
    let mut world = World::with(|limits| limits.idle_timeout_ms = 0);
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0), request(1)]));
    let push = world.pushed_one();
    world.clients.pops_lost();
    world.clients.pops_back();
    world.answer(&push, WORKER, &[message("RESULT", 1, json!({"__c": "osrfResult", "__p": {"statusCode": 206}}))]);
    world.heard(slot);
    world.pass(31_000);
    assert_eq!(world.told(slot), (503, vec![json!(0)], true));
    assert_eq!(world.state(slot).book.pending(), 1);
}

#[test]
fn what_comes_with_a_foreign_workers_200_is_forwarded() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0), request(1)]));
    let push = world.pushed_one();
    world.answer(&push, FOREIGN_WORKER, &[status(0, 200), result(1)]);
    let heard = world.heard(slot);
    assert_eq!(heard.len(), 2);
    assert_eq!(traces(&heard[0]), [json!(0), json!(1)]);
    assert_eq!(error_in(&heard[1]), Some((503, json!(0), true)));
}
