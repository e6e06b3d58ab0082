//! The deadline of a drain: who is closed there, what counts as cut, and what the exit code says.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::{Client, connect, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::raw::{Raw, frame};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

const DEMO: &str = "opensrf.demo";
const LONG: Duration = Duration::from_secs(15);

#[test]
fn at_the_deadline_a_request_without_an_answer_is_cut_with_exit_3_and_named_in_the_log() {
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "5"]);
    let mut client = Client::connect(&gateway);
    client.request(DEMO, "t", 0, "opensrf.demo.never", "[]");
    gateway.until_count("waiting_for_replies", 1);
    let t0 = Instant::now();
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(client.close_code(LONG).0, Some(1001), "not 1012: it may have been carried out");
    assert!(t0.elapsed() > Duration::from_millis(4_500), "cut after {:?}", t0.elapsed());
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
    let line = gateway.until_logged("was cut off at the deadline");
    assert!(line.contains("opensrf.demo opensrf.demo.never"), "{line}");
}

#[test]
fn at_the_deadline_workers_of_sessions_are_told_and_the_exit_code_is_3() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--drain-max-seconds", "1"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(client.close_code(PATIENCE).0, Some(1001));
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
}

#[test]
fn bytes_that_a_client_has_not_taken_count_as_sending_and_their_loss_as_a_cut() {
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "1", "--outbound-bytes-max", "67108864"]);
    let mut raw = Raw::upgrade(gateway.address());
    for trace in 0..6 {
        raw.text(&envelope(DEMO, "t", &[request(trace, "opensrf.demo.big", "[4000000]")]));
    }
    let metric = |name| gateway.metric(name);
    until("all are answered", PATIENCE, || {
        metric("evergate_requests_total") >= 6.0 && metric("evergate_pending") == 0.0
    });
    gateway.until_count("sending", 1);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(LONG), 3);
    let line = gateway.until_logged("was cut off at the deadline");
    assert!(line.contains(" bytes not delivered"), "{line}");
}

#[test]
fn half_a_handshake_at_the_deadline_is_refused_and_told_when_to_come_again() {
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "1", "--close-timeout-seconds", "3"]);
    let mut raw = Raw::connect(gateway.address());
    raw.send(b"GET / HTTP/1.1\r\n");
    until("it is accepted", PATIENCE, || gateway.metric("evergate_handshaking") >= 1.0);
    gateway.signal(Signal::SIGUSR1);
    let refusal = raw.read_header();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: 3\r\n"), "{refusal}");
    drop(raw);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn half_a_message_at_the_deadline_is_closed_and_told_as_no_loss() {
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "1"]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&frame(true, 1, envelope(DEMO, "t", &[]).as_bytes())[..12]);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(raw.close_code(), Some(1001));
    assert_eq!(gateway.wait_exit(PATIENCE), 0, "nothing was lost");
    let log = gateway.log();
    assert!(log.contains("was closed at the deadline: half a message"), "{log}");
    assert!(log.contains("0 clients closed at a gap, 1 at the deadline unhurt, 0 cut off"), "{log}");
}
