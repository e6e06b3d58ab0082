//! What clients can make us give to the bus is bounded: by client, by address, by core. Redis is the site's, not ours.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::bus::{ROUTER, Responder};
use crate::support::client::{Client, connect, disconnect, envelope, quoted, request};
use crate::support::gateway::Gateway;
use crate::support::raw::{HANDSHAKE, Raw, TEXT, frame};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

/// One core: what is counted by core is counted once.
fn gateway(redis: &Redis, flags: &[&str]) -> Gateway {
    let flags: Vec<&str> = ["--cores", "0"].iter().chain(flags).copied().collect();
    Gateway::serve(redis, &flags)
}

/// A client that a proxy vouches for.
fn client_of(gateway: &Gateway, address: &str) -> Client {
    Client::connect_with(gateway.address(), &[("X-Forwarded-For", address)]).expect("a connection")
}

fn raw_of(gateway: &Gateway, address: &str) -> Raw {
    let mut raw = Raw::connect(gateway.address());
    let header = HANDSHAKE.replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n\r\n"));
    assert!(raw.exchange(&header).starts_with("HTTP/1.1 101 "));
    raw
}

/// So many envelopes, each on a thread of its own, in one piece.
fn envelopes(count: u32, messages: impl Fn(u32) -> Vec<String>) -> Vec<u8> {
    let each = |n: u32| frame(true, TEXT, envelope("s", &format!("t{n}"), &messages(n)).as_bytes());
    (0..count).flat_map(each).collect()
}

fn requests(count: u32) -> Vec<u8> {
    envelopes(count, |n| vec![request(n, "m", "[]")])
}

/// A line of `/metrics`.
#[expect(clippy::cast_sign_loss, reason = "it counts")]
fn counted(gateway: &Gateway, name: &str) -> u64 {
    gateway.metric(&format!("evergate_{name}")) as u64
}

fn until_counted(gateway: &Gateway, name: &str, value: u64) {
    until(&format!("{name} is {value}"), PATIENCE, || counted(gateway, name) == value);
}

/// Reads replies until so many have ended with one of the codes.
fn ended(raw: &mut Raw, count: usize) -> Vec<u16> {
    let mut codes = vec![];
    while codes.len() < count {
        let text = String::from_utf8(raw.next(TEXT).payload).expect("UTF-8");
        codes.extend(crate::support::client::Envelope::new(&text).ends().into_iter().map(|(_, code)| code));
    }
    codes
}

/// The router is away, or does not answer: all that is pushed stays.
fn held(redis: &Redis) -> usize {
    redis.length(ROUTER)
}

#[test]
fn who_sends_too_fast_gets_429_and_the_rest_is_relayed() {
    let redis = Redis::start();
    let mut gateway = gateway(&redis, &["--client-messages-per-second-max", "1"]);
    let mut bus = Responder::new(&redis);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&requests(30));
    // Two at once, then one a second, however slow the machine is.
    let refused = ended(&mut raw, 1)[0];
    assert_eq!(refused, 429);
    let named = "address 127.0.0.1: refused with 429 (client_messages_per_second_max)";
    assert!(gateway.until_logged("refused with 429").ends_with(named));
    until("all have been judged", PATIENCE, || {
        counted(&gateway, "requests_total") + gateway.limit("client_messages_per_second_max") == 30
    });
    let relayed = counted(&gateway, "requests_total");
    assert!((2..30).contains(&relayed), "{relayed}");
    for _ in 0..relayed {
        let arrived = bus.next();
        bus.complete(&arrived, "1");
    }
    let codes = ended(&mut raw, 29);
    assert_eq!(codes.iter().filter(|code| **code == 205).count() as u64, relayed);
    assert_eq!(codes.iter().filter(|code| **code == 429).count() as u64, 29 - relayed);
    gateway.until_count("idle", 1);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    // The log names whom, and says how often, in a line or two for each time that it gathers.
    let log = gateway.log();
    let times = |line: &str| line.strip_prefix(", ").map_or(1, |more| more.split(' ').next().unwrap().parse().unwrap());
    let told: Vec<u64> = log.lines().filter_map(|line| Some(times(line.split_once(named)?.1))).collect();
    assert!(told.iter().sum::<u64>() == 30 - relayed && told.len() < 10, "{relayed} relayed: {log}");
}

#[test]
fn the_clients_of_one_address_share_its_rate_and_other_addresses_do_not_feel_it() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--address-messages-per-second-max", "1", "--router-queue-max", "0"]);
    let mut first = raw_of(&gateway, "2001:db8:0:7::1");
    let mut second = raw_of(&gateway, "2001:db8:0:7::2");
    first.send(&requests(30));
    until("the first is limited", PATIENCE, || gateway.limit("address_messages_per_second_max") > 0);
    second.send(&requests(60));
    assert_eq!(ended(&mut second, 1), [429]);
    let relayed = counted(&gateway, "requests_total");
    let (mut other, mut loopback) = (raw_of(&gateway, "192.0.2.1"), Raw::upgrade(gateway.address()));
    other.send(&requests(2));
    // Nobody vouches for it: it may be a proxy that names nobody.
    loopback.send(&requests(20));
    until("they are relayed", PATIENCE, || counted(&gateway, "requests_total") >= relayed + 22);
}

#[test]
fn an_address_that_connects_too_fast_is_refused_with_429_and_no_other_is() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--address-connects-per-second-max", "1"]);
    let refusals = |address: &str| (0..20).filter(|_| refusal(&gateway, address) == Some(429)).count();
    until("it is refused", PATIENCE, || refusals("192.0.2.1") > 0);
    assert_eq!((refusals("127.0.0.1"), gateway.limit("clients_max")), (0, 0));
    let told = gateway.limit("address_connects_per_second_max");
    drop(client_of(&gateway, "192.0.2.2"));
    assert!(told > 0 && told == gateway.limit("address_connects_per_second_max"));
    // Once it has been patient it is served.
    until("served again", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        refusal(&gateway, "192.0.2.1").is_none()
    });
}

fn refusal(gateway: &Gateway, address: &str) -> Option<u16> {
    Client::refusal(gateway.address(), &[("X-Forwarded-For", address)])
}

#[test]
fn a_flood_of_disconnects_reaches_nobody() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &[]);
    let mut raw = Raw::upgrade(gateway.address());
    let filler = quoted(&"x".repeat(1_000));
    let flood = envelopes(10_000, |n| vec![disconnect(n).replace(r#""null""#, &filler)]);
    raw.send(&flood);
    until("they are ignored", PATIENCE * 3, || counted(&gateway, "disconnects_ignored_total") == 10_000);
    assert_eq!((held(&redis), redis.keys("opensrf:client:opensrf:*").len()), (0, 0));
    assert_eq!(counted(&gateway, "errors_made_total"), 0, "and nobody is answered");
    // On a session of its own one reaches the worker, once.
    let mut bus = Responder::new(&redis);
    raw.text(&envelope("s", "session", &[connect(0)]));
    bus.accept();
    raw.next(TEXT);
    for _ in 0..1_000 {
        raw.text(&envelope("s", "session", &[disconnect(1)]));
    }
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    until("the others are ignored", PATIENCE, || counted(&gateway, "disconnects_ignored_total") == 10_999);
    assert_eq!(redis.length(&bus.address), 0);
}

#[test]
fn connect_request_abort_and_again_fills_no_redis() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--address-orphans-max", "40", "--router-queue-max", "0"]);
    // By a proxy that names nobody, and of an address: each has its own bound.
    for (address, most) in [(None, 40), (Some("192.0.2.1"), 80)] {
        for n in 0..60 {
            let mut raw = match address {
                None => Raw::upgrade(gateway.address()),
                Some(address) => raw_of(&gateway, address),
            };
            raw.send(&envelopes(1, |_| vec![if n % 2 == 0 { connect(0) } else { request(0, "m", "[]") }]));
            raw.finish();
            raw.read_to_end();
        }
        until_counted(&gateway, "connections", 0);
        until(&format!("{address:?} has {most} there"), PATIENCE, || held(&redis) == most);
        assert_eq!(counted(&gateway, "bus_orphans"), most as u64);
    }
    assert_eq!(gateway.limit("address_orphans_max"), 40);
    let mut client = Client::connect(&gateway);
    client.request("s", "t", 1, "m", "[]");
    assert!(client.recv().has_status(429));
    let mut other = client_of(&gateway, "192.0.2.2");
    other.request("s", "other", 2, "m", "[]");
    // A router that wakes up: the workers' answers to those who left make room again.
    let mut bus = Responder::new(&redis);
    for _ in 0..81 {
        let arrived = bus.next();
        match arrived.kinds()[0] {
            "CONNECT" => bus.status(&arrived, 200),
            _ => bus.complete(&arrived, "1"),
        }
    }
    other.until_status(205);
    until_counted(&gateway, "bus_orphans", 0);
    for _ in 0..40 {
        assert_eq!(bus.next_own().kinds(), ["DISCONNECT"], "their sessions are ended");
    }
    client.request("s", "t", 3, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    assert_eq!(counted(&gateway, "bus_unanswered"), 0);
}

#[test]
fn who_left_is_not_thought_of_for_ever() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--address-orphans-max", "1", "--request-max-seconds", "2"]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&requests(1));
    raw.finish();
    raw.read_to_end();
    until("it is there", PATIENCE, || held(&redis) == 1);
    let mut client = Client::connect(&gateway);
    until("a request is relayed again", PATIENCE, || {
        client.request("s", "t", 1, "m", "[]");
        held(&redis) == 2 || !client.recv().has_status(429)
    });
}

#[test]
fn what_nobody_answers_is_bounded_and_the_neighbours_still_get_through() {
    let redis = Redis::start();
    let flags = ["--bus-unanswered-max", "10", "--ping-seconds", "1", "--pong-timeout-seconds", "1"];
    let gateway = gateway(&redis, &flags);
    // Its requests are never answered, on however many connections.
    let mut attackers: Vec<Raw> = (0..3).map(|_| raw_of(&gateway, "192.0.2.66")).collect();
    for raw in &mut attackers {
        raw.send(&requests(90));
    }
    until("it is noticed", PATIENCE, || gateway.limit("bus_unanswered_max") >= 1);
    // What the core has counted may still be on its way to Redis.
    until("the bound is reached", PATIENCE, || held(&redis) == 10);
    let mut neighbours: Vec<Client> = (0..10).map(|n| client_of(&gateway, &format!("192.0.2.{n}"))).collect();
    for client in &mut neighbours {
        client.request("s", "neighbour", 0, "m", "[]");
        client.request("s", "neighbour", 1, "m", "[]");
    }
    until("each neighbour's first", PATIENCE, || held(&redis) == 20);
    let mut last = client_of(&gateway, "192.0.2.200");
    last.request("s", "last", 0, "m", "[]");
    until("at twice the bound nobody is read", PATIENCE, || gateway.limit("bus_unanswered_max") >= 14);
    assert_eq!((held(&redis), counted(&gateway, "bus_unanswered")), (20, 20));
    // None of them owes a pong while it is not read from.
    std::thread::sleep(Duration::from_secs(3));
    gateway.until_count("open", 14);
    let mut bus = Responder::new(&redis);
    // Half of the attacker's patience is at an end: a reset is noticed.
    attackers.remove(0).reset();
    gateway.until_count("open", 13);
    // The bus answers: all that anybody asked for gets its answer, those that waited included.
    let mut answered = 0;
    while let Some(arrived) = bus.next_within(Duration::from_secs(2)) {
        bus.complete(&arrived, "1");
        answered += 1;
        assert!(held(&redis) <= 20);
    }
    assert!((201..=211 + 90).contains(&answered), "{answered}");
    for raw in &mut attackers {
        assert_eq!(ended(raw, 90), [205; 90]);
    }
    for client in &mut neighbours {
        client.until_ended(2);
    }
    last.until_status(205);
    assert_eq!(counted(&gateway, "bus_unanswered"), 0);
}

#[test]
fn redis_memory_stays_bounded_whatever_is_parked_there() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--bus-unanswered-bytes-max", "2 MiB", "--router-queue-max", "0"]);
    let memory = || {
        let info: String = redis.command(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.and_then(|bytes| bytes.trim().parse::<u64>().ok()).expect("used_memory")
    };
    let before = memory();
    let params = format!("[{}]", quoted(&"x".repeat(100_000)));
    let piece = frame(true, TEXT, envelope("s", "t", &[request(0, "m", &params)]).as_bytes());
    let mut raws: Vec<Raw> = (0..4).map(|n| raw_of(&gateway, &format!("192.0.2.{n}"))).collect();
    // 40 MB; what the kernel does not take stays with the sender.
    let writers: Vec<_> = raws
        .drain(..)
        .map(|mut raw| {
            let piece = piece.clone();
            std::thread::spawn(move || {
                raw.patience_to_send(Duration::from_millis(500));
                while raw.try_send(&piece) {}
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer");
    }
    assert!(gateway.limit("bus_unanswered_bytes_max") > 0);
    assert!((20..=45).contains(&held(&redis)), "{}", held(&redis));
    let more = memory().saturating_sub(before);
    assert!(more < 8 << 20, "{more} bytes more");
}

#[test]
fn a_flood_for_a_service_that_does_not_exist_and_of_those_who_leave_at_once_leaves_nothing_behind() {
    let gateway = Gateway::demo(&["--cores", "0"]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&envelopes(500, |n| vec![request(n, "m", "[]")]));
    assert_eq!(ended(&mut raw, 500), [404; 500]);
    assert_eq!(counted(&gateway, "bus_unanswered"), 0);
    for n in 0..200 {
        let mut raw = Raw::upgrade(gateway.address());
        let asked = if n % 2 == 0 { connect(0) } else { request(0, "opensrf.demo.echo", "[1]") };
        raw.text(&envelope("opensrf.demo", "t", &[asked]));
        raw.reset();
    }
    until_counted(&gateway, "bus_unanswered", 0);
    assert_eq!((counted(&gateway, "bus_orphans"), counted(&gateway, "sessions")), (0, 0));
    until_counted(&gateway, "connections", 1);
}

#[test]
fn a_flood_waits_in_the_gateway_and_a_neighbour_passes_it_on_the_way_to_the_router() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &["--router-queue-max", "16"]);
    // The router takes nothing. Those of an address have one message there each time that the list is long.
    let mut attackers: Vec<Raw> = (0..4).map(|n| raw_of(&gateway, &format!("192.0.2.{}", 100 + n % 2))).collect();
    for raw in &mut attackers {
        raw.send(&requests(90));
    }
    until("it is noticed", PATIENCE, || gateway.limit("router_queue_max") >= 4);
    let mut neighbour = client_of(&gateway, "192.0.2.1");
    neighbour.request("s", "neighbour", 0, "m", "[]");
    until("the neighbour's request", PATIENCE, || held(&redis) >= 17);
    assert!(held(&redis) <= 18, "{}", held(&redis));
    // It takes one at a time, and answers none: those that wait have their turns all the same, and no request is lost.
    let mut bus = Responder::new(&redis);
    let mut arrived = Vec::new();
    while let Some(one) = bus.next_within(Duration::from_secs(2)) {
        arrived.push(one);
        assert!(held(&redis) <= 18, "{}", held(&redis));
    }
    assert_eq!(arrived.len(), 4 * 90 + 1);
    let place = arrived.iter().position(|one| one.client_thread() == "neighbour");
    assert!(place.is_some_and(|place| place <= 18), "{place:?}");
    for one in &arrived {
        bus.complete(one, "1");
    }
    for raw in &mut attackers {
        assert_eq!(ended(raw, 90), [205; 90]);
    }
    neighbour.until_status(205);
    assert_eq!(counted(&gateway, "bus_unanswered"), 0);
}

#[test]
fn large_requests_go_to_the_router_one_after_the_other() {
    let redis = Redis::start();
    let gateway = gateway(&redis, &[]);
    let params = format!("[{}]", quoted(&"x".repeat(100_000)));
    let mut senders: Vec<Client> = (0..5).map(|n| client_of(&gateway, &format!("192.0.2.{n}"))).collect();
    for client in &mut senders {
        client.request("s", "large", 0, "m", &params);
    }
    until("they wait", PATIENCE, || gateway.limit("router_queue_max") >= 4);
    let mut light = client_of(&gateway, "192.0.2.9");
    light.request("s", "light", 0, "m", "[]");
    until("others need not", PATIENCE, || held(&redis) == 2);
    let mut bus = Responder::new(&redis);
    for _ in 0..6 {
        let arrived = bus.next();
        assert!(held(&redis) <= 1, "{}", held(&redis));
        bus.complete(&arrived, "1");
    }
    for client in senders.iter_mut().chain([&mut light]) {
        client.until_status(205);
    }
}
