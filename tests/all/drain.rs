//! SIGUSR1: nobody loses a reply, everybody is closed at a gap, the port closes at once, and the exit code tells whether anybody was cut.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::{Client, Event, connect, contents, disconnect, envelope, on_threads, request};
use crate::support::gateway::Gateway;
use crate::support::raw::{Raw, frame};
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::{PATIENCE, eventually, until};

const DEMO: &str = "opensrf.demo";
const LONG: Duration = Duration::from_secs(15);

/// What one of the 200 clients of the mixture does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Idle,
    Slow,
    Streaming,
    InSession,
    HalfSent,
}

/// A client of the mixture, set up before the signal.
enum Prepared {
    Whole(Kind, Box<Client>),
    Half(Raw, Vec<u8>),
}

fn prepare(gateway: &Gateway, kind: Kind) -> Prepared {
    if kind == Kind::HalfSent {
        let mut raw = Raw::upgrade(gateway.address());
        let mut bytes = frame(true, 1, envelope("opensrf.math", "h", &[request(0, "add", "[1,2]")]).as_bytes());
        let rest = bytes.split_off(40);
        raw.send(&bytes);
        return Prepared::Half(raw, rest);
    }
    let mut client = Client::connect(gateway);
    match kind {
        Kind::Slow => client.request(DEMO, "s", 0, "opensrf.demo.sleep", "[3]"),
        Kind::Streaming => client.request(DEMO, "s", 0, "opensrf.demo.count", "[5, 0.5]"),
        Kind::InSession => client.open_session(DEMO, "s"),
        Kind::Idle | Kind::HalfSent => {}
    }
    Prepared::Whole(kind, Box::new(client))
}

/// Plays a client's part after the signal at `t0`; everything it is owed must come before its 1012. Gives its kind and when it was closed.
fn play(t0: Instant, prepared: Prepared) -> (Kind, Duration) {
    let (kind, mut client) = match prepared {
        Prepared::Whole(kind, client) => (kind, client),
        Prepared::Half(mut raw, rest) => {
            raw.patience(LONG);
            // The contract's "half a message completed after 2 s": the pause is the case itself, no synchronisation.
            std::thread::sleep(Duration::from_secs(2).saturating_sub(t0.elapsed()));
            raw.send(&rest);
            raw.until_status(205);
            assert_eq!(raw.close_code(), Some(1012), "half-sent");
            return (Kind::HalfSent, t0.elapsed());
        }
    };
    if kind == Kind::InSession {
        std::thread::sleep(Duration::from_secs(2).saturating_sub(t0.elapsed()));
        assert_eq!(
            client.call(DEMO, "s", 1, "opensrf.demo.pid", "[]").len(),
            1,
            "the session is served during the drain"
        );
        client.send(&envelope(DEMO, "s", &[disconnect(2)]));
    }
    let (code, before) = client.close_code(LONG);
    assert_eq!(code, Some(1012), "{kind:?}");
    let owed: Vec<u32> = match kind {
        Kind::Slow => vec![3],
        Kind::Streaming => vec![1, 2, 3, 4, 5],
        Kind::Idle | Kind::InSession | Kind::HalfSent => vec![],
    };
    assert_eq!(contents(&before), owed, "{kind:?}: all that is owed comes before the Close, and nothing else");
    let is_complete = before.last().is_some_and(|last| last.has_status(205));
    assert_eq!(is_complete, !owed.is_empty(), "{kind:?}: its 205");
    (kind, t0.elapsed())
}

/// A mixture of 200 clients, drained by `signal`.
fn drain_the_mixture(site: &mut Site, signal: impl Fn(&Gateway)) {
    let kinds = [Kind::Idle, Kind::Slow, Kind::Streaming, Kind::InSession, Kind::HalfSent];
    let prepared: Vec<Prepared> = (0..200).map(|i| prepare(&site.gateway, kinds[4 - i % 5])).collect();
    site.gateway.until_count("open", 200);
    let t0 = Instant::now();
    signal(&site.gateway);
    let gateway = &site.gateway;
    let ends = std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            gateway.until_refused();
            t0.elapsed()
        });
        let ends = on_threads(prepared, |_, prepared| play(t0, prepared));
        let refused = refused.join().expect("the port closes");
        assert!(refused < Duration::from_secs(1), "new connects were refused only after {refused:?}");
        ends
    });
    let idle = ends.iter().filter(|(kind, _)| *kind == Kind::Idle).map(|(_, end)| *end).max().expect("idle clients");
    assert!(idle < Duration::from_secs(3), "idle clients were closed only after {idle:?}");
    assert_eq!(site.gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn two_hundred_clients_of_every_kind_are_drained_without_losing_a_reply() {
    drain_the_mixture(&mut Site::with(&[], &["--keepalive-seconds", "60"]), |gateway| gateway.signal(Signal::SIGUSR1));
}

#[test]
fn the_same_holds_when_the_whole_process_group_gets_the_signal() {
    drain_the_mixture(&mut Site::with(&[], &["--keepalive-seconds", "60"]), |gateway| {
        gateway.signal_group(Signal::SIGUSR1);
    });
}

#[test]
fn new_connects_are_refused_at_once_and_idle_clients_closed_with_1012() {
    let mut gateway = Gateway::demo(&[]);
    let idle: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    let mut busy = Client::waiting(&gateway, 3.0);
    let t0 = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    gateway.until_refused();
    let refused = t0.elapsed();
    // The contract says 100 ms on an unburdened machine; CI's two cores are shared.
    assert!(refused < Duration::from_millis(500), "refused only after {refused:?}");
    for mut client in idle {
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    }
    assert!(t0.elapsed() < Duration::from_secs(2), "idle clients closed only after {:?}", t0.elapsed());
    busy.until_status(205);
    assert_eq!(busy.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn readiness_is_503_life_is_200_and_status_is_served_to_the_end() {
    let mut gateway = Gateway::demo(&[]);
    let mut busy = Client::waiting(&gateway, 2.0);
    assert_eq!(gateway.status()["phase"], "serving");
    gateway.signal(Signal::SIGUSR1);
    until("readiness is 503", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    assert_eq!(gateway.http("GET", "/healthz").status, 200);
    let oldest = eventually("the oldest thing waited for", PATIENCE, || {
        let status = gateway.status();
        assert_eq!(status["phase"], "draining");
        assert!(status["drain"]["seconds_left"].as_f64().is_some_and(|left| left <= 120.0), "{status}");
        status["drain"]["oldest"].is_object().then(|| status["drain"]["oldest"].clone())
    });
    assert_eq!((&oldest["service"], &oldest["method"]), (&"opensrf.demo".into(), &"opensrf.demo.sleep".into()));
    assert!(
        oldest["age_ms"].is_u64() && oldest["client"].as_str().is_some_and(|client| client.contains("127.0.0.1")),
        "{oldest}"
    );
    busy.until_status(205);
    assert_eq!(busy.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_reply_in_flight_when_usr1_arrives_is_delivered() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    gateway.signal(Signal::SIGUSR1);
    gateway.until_refused();
    bus.complete(&arrived, "\"in time\"");
    let (code, before) = client.close_code(PATIENCE);
    assert_eq!((code, contents(&before)), (Some(1012), vec!["in time".into()]));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_request_that_arrives_before_the_close_is_relayed_and_puts_the_gap_off() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--drain-quiet-ms", "3000"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    gateway.signal(Signal::SIGUSR1);
    gateway.until_refused();
    for trace in 0..3 {
        client.request("s", "t", trace, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
    let last = Instant::now();
    assert_eq!(client.close_code(LONG).0, Some(1012));
    assert!(last.elapsed() > Duration::from_millis(2_500), "closed {:?} after its last reply", last.elapsed());
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn pings_are_no_activity_and_do_not_keep_a_client_open() {
    let mut gateway = Gateway::demo(&["--drain-quiet-ms", "1000"]);
    let mut client = Client::connect(&gateway);
    gateway.signal(Signal::SIGUSR1);
    let t0 = Instant::now();
    let code = loop {
        client.ping();
        if let Event::Close(code) = client.event(Duration::from_millis(50)) {
            break code;
        }
        assert!(t0.elapsed() < PATIENCE, "kept open by its pings");
    };
    assert_eq!(code, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_session_is_kept_until_its_disconnect() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    gateway.signal(Signal::SIGUSR1);
    gateway.until_refused();
    until("counted as a session", PATIENCE, || gateway.count("in_stateful_session") == 1);
    for trace in 1..4 {
        client.request("s", "t", trace, "m", "[]");
        let arrived = bus.next_own();
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
    client.send(&envelope("s", "t", &[disconnect(4)]));
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn the_oldest_thing_that_a_drain_waits_for_is_named_also_where_it_is_a_session() {
    let gateway = Gateway::demo(&[]);
    let mut client = Client::connect(&gateway);
    client.open_session(DEMO, "t");
    gateway.signal(Signal::SIGUSR1);
    gateway.until_logged("oldest: opensrf.demo session for ");
    client.send(&envelope(DEMO, "t", &[disconnect(1)]));
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
}

#[test]
fn a_half_sent_message_during_a_drain_ends_with_1008_at_its_time_out() {
    let mut gateway = Gateway::demo(&["--message-timeout-seconds", "2"]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&frame(true, 1, envelope(DEMO, "t", &[]).as_bytes())[..12]);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(raw.close_code(), Some(1008));
    assert_eq!(gateway.wait_exit(PATIENCE), 0, "nobody was cut by the deadline");
}

#[test]
fn a_request_after_our_close_is_discarded_counted_and_logged() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--close-timeout-seconds", "5"]);
    let (mut busy, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    busy.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let mut raw = Raw::upgrade(gateway.address());
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(raw.close_code(), Some(1012));
    raw.text(&envelope("crossing.service", "t", &[request(1, "crossing.method", "[]")]));
    gateway.until_count("crossed_close", 1);
    gateway.until_logged("crossed our Close frame and was not relayed: crossing.service crossing.method");
    // Who goes on is counted, and gets no line for each.
    let many: Vec<String> = (0..150).map(|n| request(n, &format!("method.{n}"), "[]")).collect();
    raw.text(&envelope("crossing.service", "t", &many));
    gateway.until_count("crossed_close", 151);
    gateway.until_logged("more than 100 requests crossed our Close");
    assert_eq!(gateway.log().matches("crossed our Close frame and was not relayed").count(), 100);
    raw.close(1012);
    assert!(bus.next_within(Duration::from_millis(200)).is_none(), "it never reaches the bus");
    bus.complete(&arrived, "1");
    busy.until_status(205);
    assert_eq!(busy.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn the_pace_spreads_the_closes() {
    let mut gateway = Gateway::demo(&["--drain-closes-per-second", "10", "--cores", "0"]);
    let clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    gateway.until_count("open", 20);
    let t0 = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    let ends = on_threads(clients, |_, mut client| (client.close_code(LONG).0, t0.elapsed()));
    assert!(ends.iter().all(|(code, _)| *code == Some(1012)));
    let spread = ends.iter().map(|(_, end)| *end).max();
    assert!(spread > Some(Duration::from_millis(1_200)), "20 closes at 10 a second in {spread:?}");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn the_pace_is_raised_so_that_all_who_were_idle_are_gone_by_half_of_the_deadline() {
    let mut gateway = Gateway::demo(&["--drain-closes-per-second", "1", "--drain-max-seconds", "8"]);
    let clients: Vec<Client> = (0..40).map(|_| Client::connect(&gateway)).collect();
    gateway.until_count("open", 40);
    let t0 = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    let ends = on_threads(clients, |_, mut client| (client.close_code(LONG).0, t0.elapsed()));
    assert!(ends.iter().all(|(code, end)| *code == Some(1012) && *end < Duration::from_millis(5_500)), "{ends:?}");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn during_the_grace_new_clients_are_still_served() {
    let mut gateway = Gateway::demo(&["--drain-grace-seconds", "3"]);
    gateway.signal(Signal::SIGUSR1);
    until("readiness is 503", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    let mut late = Client::connect(&gateway);
    assert_eq!(late.call("opensrf.math", "t", 0, "add", "[1,2]").len(), 1);
    assert_eq!(late.close_code(LONG).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_connection_that_stood_at_the_signal_is_served_never_reset_and_never_503() {
    let mut gateway = Gateway::demo(&[]);
    let mut standing: Vec<Raw> = (0..10).map(|_| Raw::connect(gateway.address())).collect();
    gateway.signal(Signal::SIGUSR1);
    for raw in &mut standing {
        let answer = raw.exchange(crate::support::raw::HANDSHAKE);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        raw.text(&envelope("opensrf.math", "t", &[request(0, "add", "[1,2]")]));
        raw.until_status(205);
        assert_eq!(raw.close_code(), Some(1012));
    }
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn with_nobody_connected_it_ends_at_once_and_a_second_signal_changes_nothing() {
    let mut gateway = Gateway::demo(&[]);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(Duration::from_secs(3)), 0, "nobody is waited for");
    let mut busy = Gateway::demo(&[]);
    let mut client = Client::waiting(&busy, 1.5);
    busy.signal(Signal::SIGUSR1);
    busy.until_refused();
    busy.signal(Signal::SIGUSR1);
    client.until_status(205);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(busy.wait_exit(PATIENCE), 0);
}

#[test]
fn the_counters_say_who_is_waited_for_and_sum_to_open_also_in_the_log() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let mut bus = Responder::new(&redis);
    let (mut waiting, mut session, idle) =
        (Client::connect(&gateway), Client::connect(&gateway), Client::connect(&gateway));
    session.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    session.until_status(200);
    waiting.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    for (counter, value) in
        [("open", 3), ("waiting_for_replies", 1), ("in_stateful_session", 1), ("idle", 1), ("sending", 0)]
    {
        gateway.until_count(counter, value);
    }
    gateway.signal(Signal::SIGUSR1);
    gateway.until_count("closed_at_gap", 1);
    gateway.until_logged(
        "core 0: open=2 sending=0 waiting_for_replies=1 waiting_for_room=0 in_stateful_session=1 idle=0 ",
    );
    drop(idle);
    bus.complete(&arrived, "1");
    assert_eq!(waiting.close_code(PATIENCE).0, Some(1012));
    session.send(&envelope("s", "t", &[disconnect(1)]));
    assert_eq!(session.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}
