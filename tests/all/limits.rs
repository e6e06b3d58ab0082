//! Every queue has a named limit, a counter that says when it was hit, and somebody who is told.

use std::collections::BTreeSet;

use evergate::config::TABLE;
use evergate_proto::counters::Limit;

use crate::support::client::{Client, connect, contents, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::{PATIENCE, trio, until};

#[test]
fn above_parallel_max_requests_wait_in_order_and_nobody_is_refused() {
    let (redis, gateway, mut client, mut bus) = trio(&["--parallel-max", "2"]);
    for trace in 0..6 {
        client.request("s", "t", trace, "m", "[]");
    }
    let mut in_flight = std::collections::VecDeque::from([bus.next(), bus.next()]);
    client.must_be_connected();
    assert_eq!(redis.length(crate::support::bus::ROUTER), 0, "the third waits");
    for trace in 0..6_u32 {
        let arrived = in_flight.pop_front().expect("one in flight");
        assert_eq!(arrived.trace(0), trace.to_string());
        bus.complete(&arrived, "1");
        client.until_status(205);
        if trace < 4 {
            in_flight.push_back(bus.next());
        }
    }
    assert!(gateway.limit("parallel_max") >= 1);
    gateway.until_count("idle", 1);
}

#[test]
fn one_clients_limit_is_no_others() {
    let (_redis, gateway, mut client, mut bus) = trio(&["--parallel-max", "1"]);
    client.request("s", "t", 0, "m", "[]");
    client.request("s", "t", 1, "m", "[]");
    assert_eq!(bus.next().trace(0), "0");
    let mut other = Client::connect(&gateway);
    other.request("s", "t", 7, "m", "[]");
    assert_eq!(bus.next().trace(0), "7");
}

#[test]
fn a_full_backlog_stops_the_reading_and_loses_nothing() {
    let flags = ["--parallel-max", "1", "--backlog-max", "2", "--ping-seconds", "1", "--pong-timeout-seconds", "1"];
    let (_redis, gateway, mut client, mut bus) = trio(&flags);
    for trace in 0..50 {
        client.request("s", "t", trace, "m", "[]");
    }
    until("it is noticed", PATIENCE, || gateway.limit("backlog_max") >= 1);
    // The pong timer is suspended: three seconds of a client that is not read must not cost it its connection.
    std::thread::sleep(std::time::Duration::from_secs(3));
    for trace in 0..50_u32 {
        let arrived = bus.next();
        assert_eq!(arrived.trace(0), trace.to_string());
        bus.complete(&arrived, "1");
    }
    let mut ended = 0;
    while ended < 50 {
        ended += client.recv().ends().len();
    }
    gateway.until_count("idle", 1);
}

#[test]
fn a_reset_is_noticed_while_a_client_is_not_read() {
    let (_redis, gateway, mut client, mut bus) = trio(&["--parallel-max", "1", "--backlog-max", "1"]);
    client.send(&envelope("s", "session", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    for trace in 0..20 {
        client.request("s", "t", trace, "m", "[]");
    }
    until("it is noticed", PATIENCE, || gateway.limit("backlog_max") >= 1);
    drop(client);
    gateway.until_count("open", 0);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
}

#[test]
fn over_core_bytes_max_the_largest_holder_gets_1008() {
    let (_redis, gateway, mut small, mut bus) = trio(&["--core-bytes-max", "3000000", "--cores", "0"]);
    small.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let mut half = vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0];
    half.extend(vec![b' '; 5_000_000]);
    let mut large = Raw::upgrade(gateway.address());
    large.try_send(&half);
    assert_eq!(large.close_code(), Some(1008));
    bus.complete(&arrived, "1");
    small.until_status(205);
    assert!(gateway.limit("core_bytes_max") >= 1);
}

#[test]
fn a_client_that_does_not_read_harms_nobody_else() {
    let (_redis, gateway, mut lazy, mut bus) = trio(&["--cores", "0"]);
    lazy.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let megabyte = format!("\"{}\"", "x".repeat(1_000_000));
    for _ in 0..8 {
        bus.answer(&arrived, &format!("[{}]", crate::support::bus::result("0", &megabyte)));
    }
    let mut other = Client::connect(&gateway);
    other.request("s", "t", 1, "m", "[]");
    let second = bus.next();
    bus.complete(&second, "2");
    assert_eq!(contents(&other.until_status(205)), [serde_json::json!(2)]);
    bus.status(&arrived, 205);
    assert_eq!(contents(&lazy.until_status(205)).len(), 8, "and it gets everything once it reads");
}

#[test]
fn every_limit_has_its_counter_in_status() {
    let gateway = Gateway::demo(&[]);
    let limits = gateway.status()["limits"].clone();
    for (_, name) in Limit::ALL {
        assert_eq!(limits[name], 0, "{name}");
    }
}

#[test]
fn every_option_that_bounds_something_is_a_limit_with_a_counter() {
    // What these bound is seen otherwise: a drain, a stop and a hand-over by how they end, lines of a log by being cut or counted as dropped, a
    // link by its state.
    let seen_otherwise = [
        "activity_bytes_max",
        "bus_backoff_max_ms",
        "bus_connect_timeout_seconds",
        "drain_max_seconds",
        "handover_max_seconds",
        "log_queue_bytes_max",
        "stop_max_seconds",
    ];
    let bounds = |name: &&str| name.contains("_max") || name.contains("_timeout");
    let limits: BTreeSet<&str> = Limit::ALL.iter().map(|(_, name)| *name).collect();
    let options: BTreeSet<&str> = TABLE.iter().map(|option| option.name).collect();
    let bounding: BTreeSet<&str> = options.iter().copied().filter(bounds).collect();
    let uncounted: Vec<&str> = bounding.difference(&limits).copied().collect();
    assert_eq!(uncounted, seen_otherwise, "a limit that nobody counts, or one of these has its counter now");
    assert!(limits.is_subset(&options), "counters of no option: {:?}", limits.difference(&options));
}

#[test]
fn a_lowered_depth_and_a_lowered_number_of_messages_hold() {
    let (_redis, _gateway, mut client, mut bus) = trio(&["--json-depth-max", "20", "--messages-per-envelope-max", "2"]);
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    client.request("s", "t", 1, "m", &nested(20));
    assert!(client.recv().has_status(400));
    client.send(&envelope("s", "t", &[request(0, "m", "[]"), request(1, "m", "[]"), request(2, "m", "[]")]));
    assert!(client.recv().has_status(400));
    client.request("s", "t", 3, "m", &nested(8));
    assert_eq!(bus.next().trace(0), "3");
}

#[test]
fn out_of_descriptors_accepting_pauses_until_somebody_leaves_and_the_log_says_so_once() {
    // So few that accepts are single ones: one that goes on keeps the limit that it was started with.
    let gateway = Gateway::demo(&["--cores", "0", "--clients-max", "1000"]);
    // At the start it would be said, and nobody would be accepted for whom there is no descriptor.
    gateway.limit_descriptors(120);
    let mut waiting = std::collections::VecDeque::new();
    let mut served = vec![];
    for _ in 0..160 {
        waiting.push_back(Raw::connect(gateway.address()));
    }
    for raw in &mut waiting {
        raw.send(crate::support::raw::HANDSHAKE.as_bytes());
    }
    gateway.until_logged("Too many open files");
    while let Some(mut raw) = waiting.pop_front() {
        assert!(raw.read_header().starts_with("HTTP/1.1 101 "), "everybody is served in the end");
        served.push(raw);
        if served.len() > 20 {
            served.clear();
        }
    }
    let complaints = gateway.log().matches("Too many open files").count();
    assert!(complaints <= 1, "{complaints} lines within a minute");
}
