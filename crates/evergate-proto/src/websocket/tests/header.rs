//! How long a request header may be, and the request of a balancer that is no handshake.

use super::super::handshake::{HEADER_LINES_MAX, Policy, Progress, refuse, response};
use super::handshake::{PEER, changed, policy, progress, request, status, status_of};

fn text(progress: &Progress) -> String {
    let Progress::Refused(refused) = progress else { panic!("{progress:?}") };
    String::from_utf8(refused.response.clone()).unwrap()
}

#[test]
fn more_than_header_bytes_max_is_431_and_names_the_option() {
    for bytes_max in [1_024, 8 << 10, 32 << 10] {
        let policy = Policy { header_bytes_max: bytes_max, ..policy() };
        let padded = |bytes: usize| {
            let fixed = request(&["X: "]).len();
            request(&[&format!("X: {}", "x".repeat(bytes - fixed))])
        };
        assert_eq!(padded(bytes_max).len(), bytes_max);
        assert_eq!(status(&padded(bytes_max), &policy), 101);
        assert_eq!(status(&padded(bytes_max + 1), &policy), 431);
        assert_eq!(progress(&padded(40_000)[..bytes_max - 1], &policy, PEER), Progress::Incomplete);
        let refused = progress(&padded(40_000)[..bytes_max], &policy, PEER);
        assert_eq!(status_of(&refused), 431);
        assert!(text(&refused).contains("header_bytes_max"), "{}", text(&refused));
    }
    assert_eq!(Policy::default().header_bytes_max, 32_768);
}

#[test]
fn as_many_lines_as_may_be_are_taken_and_one_more_is_431() {
    // A good request has five lines of its own.
    let with = |lines: usize| {
        let lines: Vec<String> = (5..lines).map(|n| format!("X{n}: y")).collect();
        changed(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!((HEADER_LINES_MAX, with(256), with(257)), (256, 101, 431));
}

fn probed() -> Policy {
    Policy { health_path: Some("/health".into()), ..policy() }
}

#[test]
fn a_probe_is_get_or_head_of_health_path_however_it_is_written() {
    let probe = |request: &str| match progress(request, &probed(), PEER) {
        Progress::Probe { head } => Some(head),
        _ => None,
    };
    assert_eq!(probe("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), Some(false));
    assert_eq!(probe("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"), Some(true));
    assert_eq!(probe("GET /health?node=1 HTTP/1.0\r\n\r\n"), Some(false));
    assert_eq!(probe("GET http://node/health HTTP/1.1\r\nHost: node\r\n\r\n"), Some(false));
    assert_eq!(probe(&request(&[]).replace("/osrf-websocket-translator", "/health")), Some(false), "an upgrade, too");
    let haproxy = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: haproxy\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert_eq!(probe(haproxy), Some(false));
    for other in [
        "POST /health HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /health/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /Health HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        assert_eq!(probe(other), None, "{other}");
    }
    assert_eq!(progress("GET /health HTTP/1.1\r\nHost: x\r\n", &probed(), PEER), Progress::Incomplete);
    assert_eq!(status(haproxy, &policy()), 400, "it is off unless it is set");
}

#[test]
fn a_probe_that_is_refused_is_told_of_health_path() {
    for changes in [
        &["Sec-WebSocket-Key: haproxy"][..],
        &["Sec-WebSocket-Key"],
        &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="],
        &["Connection: keep-alive"],
        &["Connection"],
    ] {
        let refused = progress(&request(changes), &policy(), PEER);
        assert_eq!(status_of(&refused), 400);
        assert!(text(&refused).contains("health_path"), "{}", text(&refused));
    }
    let options = progress("OPTIONS / HTTP/1.0\r\n\r\n", &policy(), PEER);
    assert!(text(&options).contains("health_path"), "HAProxy's own way to probe");
}

#[test]
fn a_response_after_head_says_how_long_the_body_would_be_and_has_none() {
    let with = String::from_utf8(response(200, "serving", false)).unwrap();
    let without = String::from_utf8(response(200, "serving", true)).unwrap();
    assert_eq!(with, format!("{without}serving\n"));
    for line in ["HTTP/1.1 200 OK\r\n", "\r\nConnection: close\r\n", "\r\nContent-Length: 8\r\n"] {
        assert!(without.contains(line), "{without}");
    }
    assert_eq!(refuse(503, "why"), response(503, "why", false));
}
