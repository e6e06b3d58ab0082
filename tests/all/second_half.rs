//! From half of a drain's time on who never pauses is not read from, so that it has a gap, too: 1012, and nothing of its relayed that it
//! has no reply to. And who is not read from for other reasons.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::bus::Responder;
use crate::support::client::{Client, Event, envelope, on_threads, request};
use crate::support::gateway::Gateway;
use crate::support::raw::{CONTINUATION, PING, PONG, Raw, TEXT};
use crate::support::redis::Redis;

/// What `--drain-max-seconds 6` leaves to those who never pause, but for what the gateway's clock, a coarse one, may be behind the test's.
const HALF: Duration = Duration::from_millis(3_000 - 20);

/// Asks every 20 ms, whatever comes, until it is closed: with which code, when, how many requests it asked, and which were answered. The traces
/// are its own, from `first` on.
fn ask_without_pause(mut client: Client, first: u32) -> (Option<u16>, Instant, usize, Vec<String>) {
    let begun = Instant::now();
    let (mut asked, mut answered) = (0, vec![]);
    for trace in first.. {
        // What is sent while the Close is on its way may fail.
        if client.try_send(&envelope("s", "t", &[request(trace, "m", "[]")])).is_ok() {
            asked += 1;
        }
        let next = Instant::now() + Duration::from_millis(20);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            match client.event(left) {
                Event::Envelope(envelope) => answered.extend(envelope.ends().into_iter().map(|(trace, _)| trace)),
                Event::Close(code) => return (code, Instant::now(), asked, answered),
                Event::Gone(error) => panic!("no Close came: {error}"),
                Event::Ping | Event::Silence => {}
            }
        }
        assert!(begun.elapsed() < PATIENCE, "it is never closed");
    }
    unreachable!("the traces do not end");
}

#[test]
fn who_waits_for_a_long_reply_in_the_second_half_has_its_pings_answered_and_gets_its_reply() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--drain-max-seconds", "8"]);
    let (mut raw, mut bus) = (Raw::upgrade(gateway.address()), Responder::new(&redis));
    raw.text(&envelope("s", "t", &[request(1, "m", "[]")]));
    let asked = bus.next();
    let signalled = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    while signalled.elapsed() < Duration::from_secs(6) {
        raw.frame(true, PING, b"here");
        assert_eq!(raw.next(PONG).payload, b"here", "after {:?}", signalled.elapsed());
        std::thread::sleep(Duration::from_millis(300));
    }
    bus.complete(&asked, "1");
    raw.until_status(205);
    assert_eq!(raw.close_code(), Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn who_never_pauses_is_closed_with_1012_behind_half_of_the_drain_and_nothing_of_its_is_relayed_without_its_reply() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--drain-max-seconds", "6", "--cores", "0"]);
    let clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    let mut bus = Responder::new(&redis);
    let signalled = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    gateway.until_logged("drain: SIGUSR1");
    let (ends, mut relayed) = std::thread::scope(|scope| {
        let served = scope.spawn(move || {
            let mut relayed = vec![];
            while let Some(arrived) = bus.next_within(Duration::from_secs(1)) {
                bus.complete(&arrived, "1");
                relayed.push(arrived.trace(0));
            }
            relayed
        });
        (
            on_threads(clients, |n, client| ask_without_pause(client, n as u32 * 100_000)),
            served.join().expect("the bus serves"),
        )
    });
    let mut answered = vec![];
    for (code, closed, asked, own) in ends {
        assert_eq!(code, Some(1012));
        let after = closed - signalled;
        assert!(after > HALF, "it had no gap, and was closed after {after:?}");
        assert!(own.len() > 20 && own.len() < asked, "{} of {asked} were answered", own.len());
        answered.extend(own);
    }
    answered.sort_unstable();
    relayed.sort_unstable();
    assert_eq!(answered, relayed, "what had no reply was not relayed, and may be sent again");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert!(gateway.log().contains("crossed our Close frame and was not relayed"), "{}", gateway.log());
}

/// On one core, two requests that nobody answers: the bus has room for nobody, and a third client's request lies unread.
fn with_a_full_bus(redis: &Redis, flags: &[&str]) -> (Gateway, [Client; 3]) {
    let flags = [&["--cores", "0", "--bus-unanswered-max", "1"], flags].concat();
    let gateway = Gateway::serve(redis, &flags);
    let clients = [1, 2, 3].map(|n| {
        let fields = [("X-Forwarded-For", &*format!("192.0.2.{n}"))];
        let mut client = Client::connect_with(gateway.address(), &fields).expect("a connection");
        client.request("s", "t", n, "m", "[]");
        let (counter, count) = if n == 3 { ("waiting_for_room", 1) } else { ("waiting_for_replies", n) };
        gateway.until_count(counter, count.into());
        client
    });
    (gateway, clients)
}

#[test]
fn who_is_not_read_because_the_bus_is_full_is_waited_for_and_served_before_its_close() {
    let redis = Redis::start();
    let (mut gateway, mut clients) = with_a_full_bus(&redis, &[]);
    gateway.signal(Signal::SIGUSR1);
    gateway.until_logged("waiting_for_replies=2 waiting_for_room=1 in_stateful_session=0 idle=0");
    let mut bus = Responder::new(&redis);
    for _ in 0..3 {
        let arrived = bus.next();
        bus.complete(&arrived, "1");
    }
    for client in &mut clients {
        client.until_status(205);
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    }
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn who_is_not_read_for_want_of_room_is_closed_with_1012_behind_half_of_the_drain_and_was_not_relayed() {
    let redis = Redis::start();
    let (mut gateway, [first, second, mut unread]) = with_a_full_bus(&redis, &["--drain-max-seconds", "6"]);
    let signalled = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    let (code, before) = unread.close_code(PATIENCE);
    assert!(code == Some(1012) && before.is_empty(), "{code:?}, {before:?}");
    assert!(signalled.elapsed() > HALF, "closed after {:?}", signalled.elapsed());
    gateway.until_count("crossed_close", 1);
    let mut bus = Responder::new(&redis);
    for mut client in [first, second] {
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    }
    assert!(bus.next_within(Duration::from_millis(200)).is_none(), "it may be sent again");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn who_is_not_read_amid_a_message_until_the_deadline_is_cut_off_and_the_log_names_the_limit() {
    let redis = Redis::start();
    let flags = ["--cores", "0", "--bus-unanswered-max", "1", "--drain-max-seconds", "1"];
    let mut gateway = Gateway::serve(&redis, &flags);
    let text = envelope("s", "t", &[request(3, "m", "[]")]);
    let (begin, rest) = text.as_bytes().split_at(20);
    let mut unread = Raw::upgrade(gateway.address());
    unread.frame(false, TEXT, begin);
    unread.frame(true, PING, b"");
    unread.next(PONG);
    let waiting = [1, 2].map(|n| {
        let mut client = Client::connect(&gateway);
        client.request("s", "t", n, "m", "[]");
        gateway.until_count("waiting_for_replies", n.into());
        client
    });
    unread.frame(true, CONTINUATION, rest);
    gateway.until_count("waiting_for_room", 1);
    gateway.signal(Signal::SIGUSR1);
    for mut client in waiting {
        assert_eq!(client.close_code(PATIENCE).0, Some(1001));
    }
    assert_eq!(unread.close_code(), Some(1001));
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
    let line = "was cut off at the deadline: what it sent waited for room (bus_unanswered_max)";
    assert!(gateway.log().contains(line), "{}", gateway.log());
}
