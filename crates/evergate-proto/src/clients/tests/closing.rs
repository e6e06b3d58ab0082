//! Handshakes, pings, and every way in which a connection ends.

use super::*;

#[test]
fn a_handshake_may_come_in_pieces_with_frames_behind_it() {
    let mut bytes = HANDSHAKE.to_vec();
    bytes.extend(masked(OpCode::Text, envelope("t", &[request(0)]).to_string().as_bytes()));
    for cut in [1, 40, HANDSHAKE.len() - 1, HANDSHAKE.len(), HANDSHAKE.len() + 3, bytes.len()] {
        let mut world = World::new();
        let slot = world.connection();
        world.input(slot, &bytes[..cut]);
        world.input(slot, &bytes[cut..]);
        assert_eq!(world.pushed().len(), 1, "cut at {cut}");
        assert!(world.received[&slot].starts_with(b"HTTP/1.1 101 "));
        world.check_gauges();
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_answered_with_408() {
    let mut world = World::new();
    let slot = world.connection();
    world.input(slot, &HANDSHAKE[..100]);
    world.pass(9_980);
    assert!(world.received.is_empty());
    world.pass(20);
    assert!(world.received[&slot].starts_with(b"HTTP/1.1 408 "));
    assert_eq!((&*world.half_closed, world.hits(Limit::handshake_timeout_seconds)), (&[slot][..], 1));
    world.pass(2_100);
    assert_eq!(world.hung_up, [slot]);
    world.check_gauges();
    assert_eq!(world.counts().handshaking.load(Relaxed), 0);
}

#[test]
fn before_the_bus_was_ever_reached_a_handshake_is_answered_with_503() {
    let mut world = World::new();
    world.clients.context.bus_ever_up = false;
    let slot = world.connection();
    world.input(slot, HANDSHAKE);
    assert!(world.received[&slot].starts_with(b"HTTP/1.1 503 "));
    assert_eq!(world.counts().open.load(Relaxed), 0);
}

#[test]
fn a_silent_client_is_pinged_and_one_that_answers_lives() {
    let mut world = World::with(|limits| limits.idle_timeout_ms = 0);
    let slot = world.client();
    world.pass(29_980);
    assert_eq!(world.control(slot), []);
    world.pass(20);
    assert_eq!(world.control(slot), [Heard::Ping]);
    world.pass(300_000);
    assert_eq!(world.control(slot), vec![Heard::Ping; 10]);
    assert!(world.is_open(slot));
}

#[test]
fn a_client_that_answers_no_ping_is_given_up_and_any_byte_is_an_answer() {
    let mut world = World::new();
    let (dead, alive) = (world.client(), world.client());
    world.mute.extend([dead, alive]);
    world.pass(40_000);
    world.input(alive, &[0x81]);
    world.pass(10_000);
    assert_eq!(world.hung_up, [dead]);
    assert!(world.is_open(alive));
    assert_eq!(world.hits(Limit::pong_timeout_seconds), 1);
    world.check_gauges();
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let mut world = World::new();
    let slot = world.client();
    world.frame(slot, OpCode::Ping, b"are you there");
    assert_eq!(world.control(slot), [Heard::Pong(b"are you there".to_vec())]);
}

#[test]
fn a_message_that_takes_too_long_closes_with_1008_however_many_pongs_come_between() {
    let mut world = World::new();
    let slot = world.client();
    let mut first = masked(OpCode::Text, b"{");
    first[0] &= 0x7f;
    world.input(slot, &first);
    for _ in 0..29 {
        world.pass(1_000);
        world.frame(slot, OpCode::Pong, b"");
    }
    assert!(world.is_open(slot));
    world.pass(1_000);
    assert_eq!((world.closed_with(slot), world.hits(Limit::message_timeout_seconds)), (Some(1008), 1));
}

#[test]
fn half_a_message_at_our_close_does_not_hide_the_peers_close() {
    let mut world = World::new();
    let slot = world.client();
    let frame = masked(OpCode::Text, envelope("t", &[request(0)]).to_string().as_bytes());
    world.input(slot, &frame[..50]);
    world.clients.stop(1001, false);
    world.settle();
    assert_eq!(world.closed_with(slot), Some(1001));
    world.input(slot, &frame[50..]);
    assert_eq!((world.pushed().len(), world.counts().crossed_close.load(Relaxed)), (0, 1));
    assert!(world.half_closed.is_empty());
    world.say_close(slot, 1001);
    assert_eq!(world.half_closed, [slot]);
}

#[test]
fn an_idle_client_is_closed_with_1000_but_only_at_an_idle_gap() {
    let mut world = World::new();
    let (idle, waiting, session) = (world.client(), world.client(), world.client());
    world.say(waiting, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.session(session, "t", WORKER);
    world.pass(179_980);
    assert!(world.is_open(idle));
    world.pass(20);
    assert_eq!((world.closed_with(idle), world.hits(Limit::idle_timeout_seconds)), (Some(1000), 1));
    world.pass(100_000);
    assert!(world.is_open(waiting) && world.is_open(session));
    world.answer(&push, WORKER, &complete(0));
    world.pass(179_980);
    assert!(world.is_open(waiting), "it counts from the last byte of the reply");
    world.pass(20);
    assert_eq!(world.closed_with(waiting), Some(1000));
    assert!(world.is_open(session));
}

#[test]
fn our_close_waits_for_the_peers_and_then_half_closes() {
    let mut world = World::new();
    let slot = world.client();
    world.clients.stop(1001, false);
    world.settle();
    assert_eq!(world.closed_with(slot), Some(1001));
    assert!(world.half_closed.is_empty() && world.hung_up.is_empty());
    world.say_close(slot, 1001);
    assert_eq!(world.control(slot), []);
    assert_eq!(world.half_closed, [slot]);
    assert!(world.hung_up.is_empty(), "the peer's end is awaited: no reset");
    world.hang_up(slot);
    assert!(world.clients.is_empty());
    world.check_gauges();
}

#[test]
fn a_peer_that_never_answers_our_close_is_hung_up_after_close_timeout() {
    let mut world = World::new();
    let slot = world.client();
    world.clients.stop(1001, false);
    world.pass(2_080);
    assert_eq!((&*world.half_closed, world.hits(Limit::close_timeout_seconds)), (&[][..], 0));
    world.pass(20);
    assert_eq!((&*world.half_closed, world.hits(Limit::close_timeout_seconds)), (&[slot][..], 1));
    world.pass(1_980);
    assert!(world.hung_up.is_empty(), "its end is waited for as long again");
    world.pass(20);
    assert_eq!(world.hung_up, [slot]);
    world.check_gauges();
}

#[test]
fn the_peers_close_is_echoed_behind_what_it_is_owed() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.frame(slot, OpCode::Ping, b"1");
    world.say_close(slot, 4_321);
    assert_eq!(world.control(slot), [Heard::Pong(b"1".to_vec()), Heard::Close(Some(4_321))]);
    assert_eq!(world.pushed_one().kinds(), ["DISCONNECT"]);
    assert_eq!(world.half_closed, [slot]);
    world.say(slot, envelope("u", &[request(0)]));
    assert_eq!(world.pushed().len(), 0);
    assert_eq!(world.counts().crossed_close.load(Relaxed), 0, "it came after the peer's own Close, not across ours");
    world.check_gauges();
}

#[test]
fn a_close_without_a_code_is_echoed_without_one() {
    let mut world = World::new();
    let slot = world.client();
    world.frame(slot, OpCode::Close, b"");
    assert_eq!(world.control(slot), [Heard::Close(None)]);
}

#[test]
fn requests_that_cross_our_close_are_counted_named_and_not_pushed() {
    let mut world = World::new();
    let slot = world.client();
    world.clients.stop(1001, false);
    world.say(slot, envelope("t", &[request(0), request(1), disconnect(2)]));
    world.say(slot, envelope("t", &[connect(3)]));
    world.say(slot, "nonsense");
    assert_eq!((world.pushed().len(), world.heard(slot).len()), (0, 0));
    assert_eq!(world.counts().crossed_close.load(Relaxed), 2);
    assert!(world.log.iter().any(|(level, line)| *level == Severity::Warn && line.ends_with("opensrf.math add")));
}

#[test]
fn half_a_message_after_our_close_is_given_back_with_the_connection() {
    let mut world = World::new();
    let slot = world.client();
    world.clients.stop(1001, false);
    world.input(slot, &masked(OpCode::Text, &[b' '; 5_000])[..4_000]);
    world.check_gauges();
    world.hang_up(slot);
    assert_eq!(world.counts().core_bytes.load(Relaxed), 0);
    assert_eq!(world.clients.context.core_bytes(), 0);
}

#[test]
fn a_protocol_violation_is_closed_with_its_code_and_the_rest_is_discarded() {
    let cases: [(&[u8], u16); 3] = [
        (&[0x81, 0x01, b'x'], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&[0x81, 0xff, 0, 0, 0, 0, 9, 0, 0, 0], 1009),
    ];
    for (bytes, code) in cases {
        let mut world = World::new();
        let slot = world.client();
        world.input(slot, bytes);
        assert_eq!(world.closed_with(slot), Some(code));
        assert_eq!(world.half_closed, [slot], "the peer's Close could not be recognised");
        world.say(slot, envelope("t", &[request(0)]));
        assert_eq!(world.pushed().len(), 0);
        assert!(world.hung_up.is_empty(), "read and discarded: no reset");
        world.pass(2_100);
        assert_eq!(world.hung_up, [slot]);
    }
}

#[test]
fn a_slow_consumer_gets_the_frame_begun_and_then_1008() {
    let mut world = World::with(|limits| limits.outbound_bytes_max = 50_000);
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.stalled.insert(slot);
    let mut big = result(0);
    big["__p"]["payload"]["__p"]["content"] = "z".repeat(20_000).into();
    world.answer(&push, WORKER, &[big.clone()]);
    assert!(world.take_chunk(slot), "the first is begun");
    for _ in 0..2 {
        world.answer(&push, WORKER, &[big.clone()]);
    }
    assert!(world.is_open(slot));
    world.answer(&push, WORKER, &[big]);
    assert!(!world.is_open(slot));
    assert_eq!((world.heard(slot).len(), world.hits(Limit::outbound_bytes_max)), (1, 1));
    world.clients.sent(slot);
    world.stalled.clear();
    world.settle();
    assert_eq!((world.heard(slot).len(), world.closed_with(slot)), (0, Some(1008)));
    world.check_gauges();
}

#[test]
fn one_reply_may_be_larger_than_outbound_bytes_max() {
    let mut world = World::with(|limits| limits.outbound_bytes_max = 1_000);
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    let mut big = result(0);
    big["__p"]["payload"]["__p"]["content"] = "z".repeat(70_000).into();
    world.answer(&push, WORKER, &[big]);
    assert_eq!(world.heard(slot).len(), 1);
    assert!(world.is_open(slot));
}

#[test]
fn a_flood_of_pings_that_is_not_read_ends_like_any_slow_consumer() {
    let mut world = World::with(|limits| limits.outbound_bytes_max = 10_000);
    let slot = world.client();
    world.stalled.insert(slot);
    for _ in 0..100 {
        world.frame(slot, OpCode::Ping, &[b'p'; 125]);
    }
    assert!(!world.is_open(slot));
    assert!(world.state(slot).bytes() < 10_000);
}

#[test]
fn a_client_that_breaks_while_a_close_is_owed_gets_it_still() {
    let mut world = World::new();
    let slot = world.client();
    world.stalled.insert(slot);
    world.clients.stop(1001, false);
    world.clients.ended(slot, "the client ended the connection");
    assert!(!world.state(slot).outbound.is_empty());
    world.stalled.clear();
    world.settle();
    world.drain_outbound(slot);
    assert_eq!(world.closed_with(slot), Some(1001));
}

#[test]
fn a_stall_of_ours_is_not_held_against_those_who_owed_something() {
    let mut world = World::new();
    let (pinged, writing, shaking) = (world.client(), world.client(), world.connection());
    world.mute.insert(pinged);
    world.pass(9_000);
    world.input(writing, &[0x81]);
    world.pass(900);
    let late = world.connection();
    world.pass(20_200);
    world.input(shaking, HANDSHAKE);
    assert!(world.received[&shaking].starts_with(b"HTTP/1.1 408 "), "so much for a handshake of 10 s");
    assert!(world.received[&late].starts_with(b"HTTP/1.1 408 "));
    let fresh = world.connection();
    world.clients.context.now_ms += 60_000;
    let after = world.connection();
    world.clients.tick(|| true);
    world.settle();
    assert!(world.is_open(pinged) && world.is_open(writing), "neither the pong nor the message was late");
    assert!(!world.received.contains_key(&fresh));
    world.input(after, HANDSHAKE);
    world.hang_up(after);
    assert!(world.activity.iter().any(|line| line.contains("disconnect after 0.000 s")), "no time lies ahead");
    world.pass(20_000);
    assert!(!world.is_open(pinged) && !world.is_open(writing));
    world.check_gauges();
}

#[test]
fn a_slow_consumers_close_never_takes_the_place_of_the_answer_to_its_handshake() {
    let mut world = World::with(|limits| limits.outbound_bytes_max = 1_000);
    let slot = world.connection();
    world.stalled.insert(slot);
    let mut bytes = HANDSHAKE.to_vec();
    for _ in 0..20 {
        bytes.extend(masked(OpCode::Ping, &[b'p'; 125]));
    }
    world.input(slot, &bytes);
    assert!(!world.is_open(slot));
    world.stalled.clear();
    world.drain_outbound(slot);
    let received = world.received.remove(&slot).expect("an answer");
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole header") + 4;
    assert!(received.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(unframe(&received[end..]).expect("a frame").0, Heard::Close(Some(1008)));
}

#[test]
fn no_ping_follows_the_close_of_a_client_that_a_tick_finds_slow() {
    let mut world = World::with(|limits| {
        limits.outbound_bytes_max = 1_000;
        (limits.request_max_ms, limits.ping_ms) = (30_000, 30_000);
    });
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.stalled.insert(slot);
    let mut big = result(0);
    big["__p"]["payload"]["__p"]["content"] = "z".repeat(2_000).into();
    world.answer(&push, WORKER, &[big]);
    world.pass(30_000);
    assert!(!world.is_open(slot), "the error that gives the request up finds it slow");
    world.stalled.clear();
    world.drain_outbound(slot);
    assert_eq!(world.control(slot), [Heard::Close(Some(1008))]);
}
