//! Stateful sessions and the books kept of them: whole against the demo's services, and step by step with a worker of the test's own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bus::{Responder, result, status, status_of};
use crate::support::client::{Client, connect, contents, disconnect, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::{PATIENCE, trio, until};

const DEMO: &str = "opensrf.demo";

/// A gateway with a client and a worker of the test's own.
/// A trio whose client has a session with the worker on thread `t`; the CONNECT's bus thread comes with it.
fn in_session(flags: &[&str]) -> (Redis, Gateway, Client, Responder, String) {
    let (redis, gateway, mut client, mut bus) = trio(flags);
    client.send(&envelope("s", "t", &[connect(0)]));
    let thread = bus.accept().thread().to_owned();
    client.until_status(200);
    (redis, gateway, client, bus, thread)
}

#[test]
fn one_worker_serves_a_session_also_where_the_service_is_omitted() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.open_session(DEMO, "s1");
    let mut pids = client.call(DEMO, "s1", 1, "opensrf.demo.pid", "[]");
    pids.extend(client.call(DEMO, "s1", 2, "opensrf.demo.pid", "[]"));
    client.send(&format!(r#"{{"thread":"s1","osrf_msg":[{}]}}"#, request(3, "opensrf.demo.pid", "[]")));
    pids.extend(contents(&client.until_status(205)));
    assert!(pids.len() == 3 && pids.iter().all(|pid| pid == &pids[0]), "{pids:?}");
    client.send(&envelope(DEMO, "s1", &[disconnect(4)]));
    site.gateway.until_count("idle", 1);
}

#[test]
fn a_session_counts_for_itself_and_lives_on_after_its_own_404_and_500() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.open_session(DEMO, "s1");
    let first = client.call(DEMO, "s1", 1, "opensrf.demo.counter", "[]");
    client.request(DEMO, "s1", 2, "opensrf.demo.nosuch", "[]");
    client.until_status(404);
    client.request(DEMO, "s1", 3, "opensrf.demo.fail", "[500, \"x\"]");
    client.until_status(500);
    let second = client.call(DEMO, "s1", 4, "opensrf.demo.counter", "[]");
    assert_eq!(
        second[0].as_f64(),
        first[0].as_f64().map(|n| n + 1.0),
        "the same worker went on counting: {first:?} {second:?}"
    );
    site.gateway.until_count("in_stateful_session", 1);
}

#[test]
fn connect_and_request_sent_back_to_back_meet_the_same_worker() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.send(&envelope(DEMO, "a", &[connect(0)]));
    client.request(DEMO, "a", 1, "opensrf.demo.counter", "[]");
    client.request(DEMO, "a", 2, "opensrf.demo.counter", "[]");
    client.until_status(200);
    let mut counts = contents(&client.until_status(205));
    counts.extend(contents(&client.until_status(205)));
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[1].as_f64(), counts[0].as_f64().map(|n| n + 1.0), "{counts:?}");
    client.send(&envelope(DEMO, "b", &[connect(0), request(1, "opensrf.demo.pid", "[]")]));
    let got = client.until_status(205);
    assert!(got.iter().any(|envelope| envelope.has_status(200)) && contents(&got).len() == 1);
}

#[test]
fn while_a_connect_is_pending_its_thread_waits_in_order_and_others_do_not() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[connect(0)]));
    client.request("s", "t", 1, "first", "[]");
    client.request("s", "t", 2, "second", "[]");
    client.request("s", "other", 9, "elsewhere", "[]");
    let pending = bus.next();
    assert_eq!(pending.kinds(), ["CONNECT"]);
    assert_eq!(bus.next().method(0), "elsewhere", "only the thread of the CONNECT waits");
    bus.status(&pending, 200);
    let first = bus.next_own();
    bus.complete(&first, "1");
    let second = bus.next_own();
    assert_eq!((first.method(0), second.method(0)), ("first", "second"));
    assert_eq!((first.thread(), second.thread()), (pending.thread(), pending.thread()));
    assert_eq!(first.to(), bus.address);
}

#[test]
fn whatever_a_session_sends_goes_to_its_worker_whichever_service_it_names() {
    let (_redis, _gateway, mut client, mut bus, thread) = in_session(&[]);
    client.request("another.service", "t", 1, "m", "[]");
    client.send(&envelope("s", "t", &[connect(2)]));
    for kind in ["REQUEST", "CONNECT"] {
        let own = bus.next_own();
        assert_eq!((own.kinds(), own.thread(), own.to()), (vec![kind], &*thread, &*bus.address));
        bus.complete(&own, "1");
    }
    client.request("s", "elsewhere", 3, "m", "[]");
    assert_eq!(bus.next().trace(0), "3", "another thread has no part in the session");
}

#[test]
fn a_200_in_a_result_connects_nobody() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    gateway.until_count("idle", 1);
    client.request("s", "t", 1, "m", "[]");
    assert_eq!(bus.next().trace(0), "1", "the next request goes to the router");
}

#[test]
fn a_disconnect_waits_for_what_is_under_way_in_its_session_and_what_follows_it_is_no_part_of_it() {
    let (_redis, gateway, mut client, mut bus, thread) = in_session(&[]);
    client.request("s", "t", 1, "slow", "[]");
    client.send(&envelope("s", "t", &[disconnect(2)]));
    let slow = bus.next_own();
    gateway.until_count("waiting_for_replies", 1);
    client.request("s", "t", 3, "m", "[]");
    bus.complete(&slow, "\"late but wanted\"");
    assert_eq!(contents(&client.until_status(205)), [json!("late but wanted")]);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    let fresh = bus.next();
    assert_ne!(fresh.thread(), thread, "a conversation of its own");
    bus.complete(&fresh, "2");
    assert_eq!(contents(&client.until_status(205)), [json!(2)]);
    gateway.until_count("idle", 1);
}

#[test]
fn a_disconnect_without_a_session_is_not_relayed_and_counts_for_nothing() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[disconnect(0)]));
    client.request("s", "t", 1, "behind it", "[]");
    assert_eq!(bus.next().method(0), "behind it");
    assert!(gateway.metric("evergate_disconnects_ignored_total") >= 1.0);
}

#[test]
fn a_worker_is_told_when_its_client_closes_vanishes_or_is_cut_off() {
    let (_redis, gateway, client, mut bus, thread) = in_session(&[]);
    client.close();
    let goodbye = bus.next_own();
    assert_eq!((goodbye.kinds(), goodbye.thread()), (vec!["DISCONNECT"], &*thread));
    let mut second = Client::connect(&gateway);
    second.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    second.until_status(200);
    drop(second);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"], "without a Close frame too");
    gateway.until_count("open", 0);
}

#[test]
fn a_demo_worker_is_free_again_when_its_client_left() {
    let site = Site::with(&[], &["--keepalive-seconds", "60"]);
    let mut client = site.client();
    client.open_session(DEMO, "t");
    client.call(DEMO, "t", 1, "opensrf.demo.pid", "[]");
    drop(client);
    site.gateway.until_count("open", 0);
    until("no worker keeps a queue of its session", PATIENCE, || {
        site.private.keys("opensrf:client:*").iter().all(|key| site.private.length(key) == 0)
    });
    assert_eq!(site.client().call(DEMO, "t", 1, "opensrf.demo.pid", "[]").len(), 1);
}

#[test]
fn a_200_that_nobody_waits_for_is_answered_with_a_disconnect() {
    let (_redis, gateway, mut client, mut bus) = trio(&["--connect-max-seconds", "1"]);
    client.send(&envelope("s", "t", &[connect(4)]));
    let given_up = bus.next();
    let told = client.until_status(504).pop().expect("an envelope");
    assert!(told.transport_error() && told.parts()[0].trace == "4", "{}", told.text);
    bus.status(&given_up, 200);
    let goodbye = bus.next_own();
    assert_eq!((goodbye.kinds(), goodbye.thread()), (vec!["DISCONNECT"], given_up.thread()));
    client.send(&envelope("s", "t", &[connect(5)]));
    let left = bus.next();
    drop(client);
    gateway.until_count("open", 0);
    bus.status(&left, 200);
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
}

#[test]
fn envelopes_that_waited_for_a_connect_go_to_the_router_when_it_is_refused() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[connect(0)]));
    client.request("s", "t", 1, "m", "[]");
    let pending = bus.next();
    bus.no_such_service(&pending);
    let told = client.until_status(404).pop().expect("an envelope");
    assert!(told.transport_error() && told.parts()[0].trace == "0", "{}", told.text);
    let waited = bus.next();
    assert_eq!(waited.trace(0), "1");
    bus.complete(&waited, "1");
    client.until_status(205);
    gateway.until_count("idle", 1);
}

#[test]
fn a_keep_alive_408_ends_the_session_and_the_next_request_is_served_by_whoever_is_free() {
    let site = Site::with(&[], &["--keepalive-seconds", "1"]);
    let mut client = site.client();
    client.open_session(DEMO, "t");
    client.call(DEMO, "t", 1, "opensrf.demo.pid", "[]");
    let told = client.until_status(408).pop().expect("an envelope");
    assert!(!told.transport_error(), "{}", told.text);
    site.gateway.until_count("idle", 1);
    assert_eq!(client.call(DEMO, "t", 2, "opensrf.demo.pid", "[]").len(), 1);
}

#[test]
fn a_408_never_ends_a_request_by_its_trace_and_what_was_on_its_way_to_the_worker_ends_with_503() {
    let (_redis, gateway, mut client, mut bus, _) = in_session(&[]);
    client.request("s", "other", 0, "elsewhere", "[]");
    let elsewhere = bus.next();
    client.send(&envelope("s", "t", &[request(1, "on its way", "[]"), request(2, "too", "[]")]));
    let late = bus.next_own();
    bus.answer(&late, &format!("[{}]", status("0", 408)));
    let mut lost: Vec<(String, u16)> = vec![];
    while lost.len() < 2 {
        let got = client.recv();
        if got.has_status(503) {
            assert!(got.transport_error(), "{}", got.text);
            lost.extend(got.ends());
        }
    }
    lost.sort();
    assert_eq!(lost, [("1".into(), 503), ("2".into(), 503)]);
    gateway.until_count("waiting_for_replies", 1);
    bus.complete(&elsewhere, "1");
    client.until_status(205);
    client.request("s", "t", 3, "m", "[]");
    assert_eq!(bus.next().trace(0), "3", "the session is forgotten");
}

#[test]
fn a_307_and_a_417_end_request_and_session_and_are_passed_through() {
    for code in [307, 417] {
        let (_redis, gateway, mut client, mut bus, _) = in_session(&[]);
        client.request("s", "t", 1, "m", "[]");
        let arrived = bus.next_own();
        bus.status(&arrived, code);
        let got = client.until_status(code).pop().expect("an envelope");
        assert!(!got.transport_error() && got.text.contains("said by the test"), "{}", got.text);
        gateway.until_count("idle", 1);
        client.request("s", "t", 2, "m", "[]");
        assert_eq!(bus.next().trace(0), "2", "after {code}, back to the router");
    }
}

#[test]
fn any_other_error_leaves_the_session_alive() {
    let (_redis, gateway, mut client, mut bus, _) = in_session(&[]);
    for (trace, code) in [(1, 400), (2, 401), (3, 403), (4, 404), (5, 500)] {
        client.request("s", "t", trace, "m", "[]");
        let arrived = bus.next_own();
        bus.status(&arrived, code);
        assert!(!client.until_status(code).pop().expect("an envelope").transport_error());
        gateway.until_count("in_stateful_session", 1);
    }
}

#[test]
fn a_repeated_trace_is_counted_so_the_first_205_does_not_end_both() {
    let (_redis, gateway, mut client, mut bus, _) = in_session(&[]);
    client.request("s", "t", 1, "a", "[]");
    client.request("s", "t", 1, "b", "[]");
    let first = bus.next_own();
    bus.complete(&first, "1");
    client.until_status(205);
    let second = bus.next_own();
    gateway.until_count("waiting_for_replies", 1);
    bus.complete(&second, "2");
    client.until_status(205);
    gateway.until_count("in_stateful_session", 1);
}

#[test]
fn two_parallel_requests_on_one_thread_keep_it_busy_until_both_have_ended() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 1, "a", "[]");
    client.request("s", "t", 2, "b", "[]");
    let (first, second) = (bus.next(), bus.next());
    bus.complete(&second, "2");
    client.until_status(205);
    gateway.until_count("waiting_for_replies", 1);
    bus.complete(&first, "1");
    client.until_status(205);
    gateway.until_count("idle", 1);
}

#[test]
fn statuses_that_end_nothing_leave_the_request_pending() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 1, "a", "[]");
    let arrived = bus.next();
    for code in [100, 202] {
        bus.status(&arrived, code);
        client.until_status(code);
    }
    bus.answer(&arrived, &format!("[{}]", result("1", "1").replace("200", "206")));
    client.recv();
    gateway.until_count("waiting_for_replies", 1);
    bus.status(&arrived, 205);
    client.until_status(205);
    gateway.until_count("idle", 1);
}

#[test]
fn a_request_that_nobody_answers_is_given_up_and_its_client_told() {
    let (_redis, gateway, mut client, mut bus) = trio(&["--request-max-seconds", "1"]);
    client.request("s", "t", 6, "m", "[]");
    bus.next();
    let told = client.until_status(504).pop().expect("an envelope");
    assert!(told.transport_error() && told.parts()[0].trace == "6", "{}", told.text);
    gateway.until_count("idle", 1);
    until("counted", PATIENCE, || gateway.limit("request_max_seconds") == 1);
}

#[test]
fn a_reply_after_giving_up_is_forwarded_while_its_session_is_remembered() {
    let (_redis, _gateway, mut client, mut bus, _) = in_session(&["--request-max-seconds", "1"]);
    client.request("s", "t", 1, "m", "[]");
    let slow = bus.next_own();
    client.until_status(504);
    bus.complete(&slow, "\"late\"");
    assert_eq!(contents(&client.until_status(205)), [json!("late")]);
}

#[test]
fn a_worker_that_answers_with_an_older_xid_is_still_understood() {
    let (_redis, gateway, mut client, mut bus, _) = in_session(&[]);
    client.request("s", "t", 1, "m", "[]");
    let arrived = bus.next_own();
    let from = bus.address.clone();
    bus.answer_from(&from, &arrived, "\"older\"", &format!("[{}]", status("1", 205)));
    assert_eq!(client.until_status(205)[0].json["log_xid"], "older");
    gateway.until_count("in_stateful_session", 1);
}

#[test]
fn a_404_of_a_worker_with_the_routers_class_is_not_mistaken_for_the_routers() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 1, "a", "[]");
    client.request("s", "t", 2, "b", "[]");
    let (first, second) = (bus.next(), bus.next());
    bus.answer(&first, &format!("[{}]", status_of("1", 404, "osrfServiceException")));
    let got = client.until_status(404).pop().expect("an envelope");
    assert!(!got.transport_error(), "{}", got.text);
    gateway.until_count("waiting_for_replies", 1);
    bus.complete(&second, "1");
    client.until_status(205);
}

#[test]
fn the_session_over_its_limit_is_refused_with_429_and_the_others_go_on() {
    let (_redis, gateway, mut client, mut bus, _) = in_session(&["--sessions-max", "1"]);
    client.send(&envelope("s", "second", &[connect(3)]));
    // The gateway may refuse the CONNECT itself or the session that its 200 would open; either way the client is told.
    if let Some(arrived) = bus.next_within(Duration::from_millis(300)) {
        bus.status(&arrived, 200);
    }
    let told = client.until_status(429).pop().expect("an envelope");
    assert_eq!((told.thread(), told.parts()[0].trace.as_str()), ("second", "3"));
    assert_eq!(gateway.limit("sessions_max"), 1);
    client.request("s", "t", 1, "m", "[]");
    let own = bus.next_own();
    bus.complete(&own, "1");
    assert_eq!(contents(&client.until_status(205)), [Value::from(1)]);
}

#[test]
fn a_stream_that_keeps_talking_is_not_given_up_however_long_it_takes_in_a_session_or_not() {
    let gateway = Gateway::demo(&["--request-max-seconds", "2"]);
    let mut client = Client::connect(&gateway);
    client.open_session(DEMO, "t");
    client.request(DEMO, "stateless", 0, "opensrf.demo.count", "[14, 0.5]");
    client.request(DEMO, "t", 1, "opensrf.demo.count", "[14, 0.5]");
    let (mut results, mut over) = (0, 0);
    while over < 2 {
        let got = client.recv();
        assert!(!got.transport_error(), "{}", got.text);
        results += contents(std::slice::from_ref(&got)).len();
        over += usize::from(got.has_status(205));
    }
    assert_eq!((results, gateway.limit("request_max_seconds")), (28, 0));
}
