//! How a core waits for its clients: what comes is read to its end however it comes, and waiting costs nothing.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::{Client, Envelope, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::process::cpu_seconds;
use crate::support::raw::{HANDSHAKE, PING, PONG, Raw, TEXT, frame};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process").count()
}

/// So many requests, a frame each.
fn requests(count: u32) -> Vec<u8> {
    let each = |trace| frame(true, TEXT, envelope("s", "t", &[request(trace, "m", "[]")]).as_bytes());
    (0..count).flat_map(each).collect()
}

fn next_envelope(raw: &mut Raw) -> Envelope {
    Envelope::new(&String::from_utf8(raw.next(TEXT).payload).expect("UTF-8"))
}

#[test]
fn what_a_client_sent_before_its_end_is_relayed_however_much_it_is() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--parallel-max", "10000"]);
    let mut bus = Responder::new(&redis);
    // Fewer and more than one receive buffer holds, all sent together with the FIN.
    for count in [1, 30, 400] {
        let mut raw = Raw::upgrade(gateway.address());
        raw.send(&requests(count));
        raw.finish();
        for trace in 0..count {
            assert_eq!(bus.next().trace(0), trace.to_string());
        }
        assert!(raw.read_to_end().is_empty(), "closed without a word: nobody is there to read it");
    }
    gateway.until_count("open", 0);
}

#[test]
fn a_client_that_may_not_be_read_from_owes_no_pong_though_nothing_more_of_it_comes() {
    let redis = Redis::start();
    let flags = ["--parallel-max", "1", "--backlog-max", "2", "--ping-seconds", "1", "--pong-timeout-seconds", "1"];
    let gateway = Gateway::serve(&redis, &flags);
    let mut bus = Responder::new(&redis);
    let mut raw = Raw::upgrade(gateway.address());
    // One write, and one read takes it all: no later one finds that the client may not be read from.
    raw.send(&requests(50));
    until("it is noticed", PATIENCE, || gateway.limit("backlog_max") >= 1);
    std::thread::sleep(Duration::from_secs(3));
    for trace in 0..50 {
        let arrived = bus.next();
        assert_eq!(arrived.trace(0), trace.to_string());
        bus.complete(&arrived, "1");
    }
    let mut ended = 0;
    while ended < 50 {
        ended += next_envelope(&mut raw).ends().len();
    }
    gateway.until_count("idle", 1);
}

#[test]
fn a_frame_that_comes_a_byte_at_a_time_is_read_to_its_end() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::connect(gateway.address());
    let text = frame(true, TEXT, envelope("opensrf.math", "t", &[request(0, "add", "[1,2]")]).as_bytes());
    for byte in HANDSHAKE.bytes() {
        raw.send(&[byte]);
    }
    assert!(raw.read_header().starts_with("HTTP/1.1 101 "));
    for byte in text {
        raw.send(&[byte]);
    }
    while !next_envelope(&mut raw).has_status(205) {}
}

#[test]
fn what_a_client_sent_behind_urgent_data_is_read_without_waiting_for_more() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::upgrade(gateway.address());
    // A receive stops short of the urgent byte, whatever is behind it by then: most of the time all of it is. (A gateway that
    // is stopped meanwhile would not do: with a signal pending, which SIGCONT is, the kernel does not go past that byte.)
    for _ in 0..50 {
        raw.frame(true, PING, b"before");
        raw.urgent(0);
        raw.frame(true, PING, b"behind");
        assert_eq!(raw.next(PONG).payload, b"before");
        assert_eq!(raw.next(PONG).payload, b"behind");
    }
}

#[test]
fn no_connection_leaves_a_descriptor_behind_however_it_ends() {
    let gateway = Gateway::demo(&["--cores", "0", "--path", "/here"]);
    let header = HANDSHAKE.replace("/osrf-websocket-translator", "/here");
    let add = envelope("opensrf.math", "t", &[request(0, "add", "[1,2]")]);
    let upgrade = || {
        let mut raw = Raw::connect(gateway.address());
        assert!(raw.exchange(&header).starts_with("HTTP/1.1 101 "));
        raw
    };
    // Whatever is opened once and for all is open after this.
    let mut first = upgrade();
    first.text(&add);
    first.next(TEXT);
    first.close(1000);
    gateway.until_count("open", 0);
    let before = descriptors(gateway.pid());
    for round in 0..40 {
        let mut raw = upgrade();
        match round % 5 {
            0 => raw.close(1000),
            1 => raw.finish(),
            // A reset, beside a request that has not been read perhaps.
            2 => {
                raw.text(&add);
                raw.reset();
            }
            // The gateway closes it: no such opcode.
            3 => {
                raw.frame(true, 3, b"");
                assert_eq!(raw.close_code(), Some(1002));
            }
            // Refused: no such path.
            _ => {
                let mut refused = Raw::connect(gateway.address());
                assert!(refused.exchange(HANDSHAKE).starts_with("HTTP/1.1 404 "));
            }
        }
    }
    until("no more descriptors than before", PATIENCE, || descriptors(gateway.pid()) <= before);
    assert_eq!((gateway.count("open"), gateway.count("handshaking")), (0, 0));
}

#[test]
fn a_lone_client_is_served_whether_its_core_looks_before_it_sleeps_or_not_and_then_the_core_sleeps() {
    for micros in ["0", "1000"] {
        let mut gateway = Gateway::demo(&["--cores", "0", "--busy-poll-us", micros]);
        let mut client = Client::connect(&gateway);
        for trace in 0..300 {
            assert_eq!(client.call("opensrf.math", "t", trace, "add", "[1,2]"), [3]);
        }
        let before = cpu_seconds(gateway.pid());
        std::thread::sleep(Duration::from_millis(1_500));
        let spent = cpu_seconds(gateway.pid()) - before;
        assert!(spent < 0.5, "{spent} s of CPU while nothing happens");
        client.request("opensrf.demo", "t", 300, "opensrf.demo.sleep", "[0.3]");
        gateway.until_count("waiting_for_replies", 1);
        gateway.signal(Signal::SIGUSR1);
        let (code, envelopes) = client.close_code(PATIENCE);
        assert!(code == Some(1012) && envelopes.iter().any(|envelope| envelope.has_status(205)), "{code:?}");
        drop(client);
        assert_eq!(gateway.wait_exit(PATIENCE), 0);
    }
}

#[test]
fn a_client_that_says_goodbye_in_the_middle_of_a_large_reply_gets_the_rest_of_it_and_our_close() {
    let gateway = Gateway::demo(&["--cores", "0"]);
    let mut raw = Raw::upgrade(gateway.address());
    let bytes = 14_000_000;
    raw.text(&envelope("opensrf.demo", "t", &[request(0, "opensrf.demo.big", &format!("[{bytes}]"))]));
    gateway.until_count("sending", 1);
    // Its slot must not be given to these while the sender is at work.
    raw.close(1000);
    gateway.until_count("open", 0);
    let mut others: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    for client in &mut others {
        assert_eq!(client.call("opensrf.math", "t", 0, "add", "[1,2]"), [3]);
    }
    assert!(raw.next(TEXT).payload.len() > bytes);
    assert_eq!(raw.close_code(), Some(1000));
    assert!(raw.read_to_end().is_empty());
}

#[test]
fn with_hundreds_of_requests_in_flight_a_core_that_lets_messages_gather_loses_none() {
    let redis = Redis::start();
    // Patient: what counts as a short wait is longer than a busy machine makes it.
    let mut gateway = Gateway::serve(&redis, &["--cores", "0", "--parallel-max", "1000", "--busy-poll-us", "1000"]);
    let mut bus = Responder::new(&redis);
    let mut many = Client::connect(&gateway);
    for trace in 0..300 {
        many.request("s", "many", trace, "m", "[]");
    }
    let waiting: Vec<_> = (0..300).map(|_| bus.next()).collect();
    let mut lone = Client::connect(&gateway);
    for trace in 0..200 {
        lone.request("s", "lone", trace, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        lone.until_status(205);
    }
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(lone.close_code(PATIENCE).0, Some(1012), "idle");
    for arrived in &waiting {
        bus.complete(arrived, "1");
    }
    assert_eq!(many.until_ended(300).len(), 300);
    assert_eq!(many.close_code(PATIENCE).0, Some(1012));
    drop((lone, many));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}
