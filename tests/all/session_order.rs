//! Within a session one envelope is under way at a time: a worker that reads a DISCONNECT too early drops what is queued behind it, another answers
//! what is queued in reversed order. `opensrf.demo.perl` and `opensrf.demo.c` are such services.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::client::{Client, Envelope, connect, contents, disconnect, envelope, on_threads, request};
use crate::support::gateway::Gateway;
use crate::support::site::Site;
use crate::support::{PATIENCE, trio};

const PERL: &str = "opensrf.demo.perl";
const C: &str = "opensrf.demo.c";

/// How long something that must not come is waited for.
const QUIET: Duration = Duration::from_millis(300);

/// Sends a session's five requests and its DISCONNECT in one go; the first takes long enough for all of them to arrive meanwhile.
fn send_five_and_a_disconnect(client: &mut Client, service: &str, thread: &str) {
    client.request(service, thread, 1, "opensrf.demo.sleep", "[0.2]");
    for trace in 2..=5 {
        client.request(service, thread, trace, "opensrf.demo.counter", "[]");
    }
    client.send(&envelope(service, thread, &[disconnect(6)]));
}

/// The answers to those, which must be all and in order.
fn receive_five(client: &mut Client) {
    let mut got: Vec<Envelope> = vec![];
    for _ in 0..5 {
        got.extend(client.until_status(205));
    }
    let ended: Vec<(String, u16)> = got.iter().flat_map(Envelope::ends).collect();
    let wanted: Vec<(String, u16)> = (1..=5).map(|trace| (trace.to_string(), 205)).collect();
    assert_eq!(ended, wanted);
    assert_eq!(contents(&got), [json!(0.2), json!(1), json!(2), json!(3), json!(4)]);
}

#[test]
fn five_requests_sent_back_to_back_with_a_disconnect_behind_are_all_answered_in_order() {
    let site = Site::with(&[], &["--keepalive-seconds", "60"]);
    for service in [PERL, C] {
        let clients = (0..10).map(|_| site.client()).collect();
        on_threads(clients, |_, mut client: Client| {
            client.open_session(service, "t");
            send_five_and_a_disconnect(&mut client, service, "t");
            receive_five(&mut client);
            // Two sessions of one client do not wait for one another, and none for its CONNECT's answer.
            for thread in ["u", "v"] {
                client.send(&envelope(service, thread, &[connect(0)]));
            }
            client.until_status(200);
            client.until_status(200);
            client.request(service, "u", 1, "opensrf.demo.sleep", "[3]");
            send_five_and_a_disconnect(&mut client, service, "v");
            receive_five(&mut client);
            assert_eq!(contents(&client.until_status(205)), [json!(3)]);
            client.close();
        });
    }
    site.gateway.until_count("open", 0);
}

#[test]
fn a_whole_session_sent_in_one_go_is_served_from_its_connect_to_its_disconnect() {
    let site = Site::with(&[], &["--keepalive-seconds", "60"]);
    let mut client = site.client();
    for service in [PERL, C] {
        client.send(&envelope(service, "t", &[connect(0)]));
        send_five_and_a_disconnect(&mut client, service, "t");
        client.until_status(200);
        receive_five(&mut client);
        site.gateway.until_count("idle", 1);
    }
}

#[test]
fn a_new_session_on_the_same_thread_begins_behind_the_end_of_the_old_one() {
    let site = Site::with(&[], &["--keepalive-seconds", "60"]);
    let mut client = site.client();
    client.open_session(PERL, "t");
    client.call(PERL, "t", 1, "opensrf.demo.counter", "[]");
    send_five_and_a_disconnect(&mut client, PERL, "t");
    client.send(&envelope(PERL, "t", &[connect(7)]));
    client.request(PERL, "t", 8, "opensrf.demo.counter", "[]");
    client.send(&envelope(PERL, "t", &[disconnect(9)]));
    let mut got = vec![];
    for _ in 0..6 {
        got.extend(client.until_status(205));
    }
    let last = got.pop().expect("an envelope");
    assert_eq!((last.ends(), contents(&[last])), (vec![("8".into(), 205)], vec![json!(1)]));
    assert_eq!(contents(&got), [json!(0.2), json!(2), json!(3), json!(4), json!(5)]);
    site.gateway.until_count("idle", 1);
}

#[test]
fn a_disconnect_sent_while_a_request_is_served_follows_its_answer() {
    let site = Site::with(&[], &["--keepalive-seconds", "60"]);
    let mut client = site.client();
    client.open_session(PERL, "t");
    client.request(PERL, "t", 1, "opensrf.demo.sleep", "[0.5]");
    // The case of the issue: 0.1 s into a request of 0.5 s.
    std::thread::sleep(Duration::from_millis(100));
    client.send(&envelope(PERL, "t", &[disconnect(2)]));
    assert_eq!(contents(&client.until_status(205)), [json!(0.5)]);
    site.gateway.until_count("idle", 1);

    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    client.request("s", "t", 1, "m", "[]");
    client.send(&envelope("s", "t", &[disconnect(2)]));
    let served = bus.next_own();
    assert!(bus.next_own_within(QUIET).is_none(), "nothing follows while a request is served");
    gateway.until_count("waiting_for_replies", 1);
    bus.complete(&served, "1");
    client.until_status(205);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    gateway.until_count("idle", 1);
}

#[test]
fn a_sessions_requests_reach_its_worker_one_by_one_and_in_order() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    for trace in 1..=3 {
        client.request("s", "t", trace, "m", "[]");
    }
    client.send(&envelope("s", "t", &[request(4, "m", "[]"), request(5, "m", "[]")]));
    client.send(&envelope("s", "t", &[disconnect(6)]));
    for (trace, code) in [(1, 205), (2, 404), (3, 205)] {
        let served = bus.next_own();
        assert_eq!(served.trace(0), trace.to_string());
        assert!(bus.next_own_within(QUIET).is_none(), "the next waits for the end of {trace}");
        bus.status(&served, code);
        client.until_status(code);
    }
    // An envelope of two requests is one thing; the next waits for both.
    let two = bus.next_own();
    bus.complete(&two, "1");
    client.until_status(205);
    assert!(bus.next_own_within(QUIET).is_none(), "one of the two is pending");
    bus.answer(&two, &format!("[{}]", crate::support::bus::status("5", 205)));
    client.until_status(205);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    gateway.until_count("idle", 1);
}

#[test]
fn requests_outside_sessions_go_in_parallel_also_beside_one_that_waits() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "session", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    client.request("s", "session", 1, "m", "[]");
    client.request("s", "session", 2, "m", "[]");
    for trace in 0..20 {
        client.request("s", "t", trace, "m", "[]");
    }
    let stateless: Vec<_> = (0..20).map(|_| bus.next()).collect();
    let served = bus.next_own();
    assert!(bus.next_own_within(QUIET).is_none(), "the session's second request waits for its first");
    for (trace, arrived) in stateless.iter().enumerate().rev() {
        assert_eq!(arrived.trace(0), trace.to_string());
        bus.complete(arrived, "1");
    }
    assert_eq!(client.until_ended(20).len(), 20);
    bus.complete(&served, "1");
    let last = bus.next_own();
    bus.complete(&last, "2");
    assert_eq!(client.until_ended(2).len(), 2);
    gateway.until_count("in_stateful_session", 1);
}

#[test]
fn a_client_that_vanishes_in_the_middle_frees_its_worker_at_once() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    for trace in 1..=5 {
        client.request("s", "t", trace, "m", "[]");
    }
    let served = bus.next_own();
    drop(client);
    // While the first is still served, and nothing of what waited behind it before.
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    bus.complete(&served, "1");
    assert!(bus.next_own_within(QUIET).is_none());
    gateway.until_count("open", 0);

    let site = Site::with(&[], &["--keepalive-seconds", "60", "--workers", "1"]);
    let mut client = site.client();
    client.open_session(PERL, "t");
    client.request(PERL, "t", 1, "opensrf.demo.sleep", "[0.5]");
    client.request(PERL, "t", 2, "opensrf.demo.sleep", "[30]");
    site.gateway.until_count("waiting_for_replies", 1);
    drop(client);
    // The one worker is free as soon as it has ended what it served.
    assert_eq!(site.client().call(PERL, "t", 1, "opensrf.demo.counter", "[]"), [json!(1)]);
}

#[test]
fn a_drain_waits_for_all_that_is_queued_in_a_session_and_cuts_nobody() {
    let mut gateway = Gateway::demo(&["--keepalive-seconds", "60"]);
    let mut client = Client::connect(&gateway);
    client.open_session(PERL, "t");
    send_five_and_a_disconnect(&mut client, PERL, "t");
    gateway.until_count("waiting_for_replies", 1);
    gateway.signal(Signal::SIGUSR1);
    receive_five(&mut client);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    drop(client);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}
