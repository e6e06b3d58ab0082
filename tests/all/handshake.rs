//! What comes before a WebSocket: balancers that probe the port of the clients, and long headers.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{HANDSHAKE, Raw};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, free_port, until};

/// The WebSocket check of a path that `HAProxy`'s users copy.
fn haproxy(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: haproxy\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The status and the body of the answer, behind which the connection must end.
fn ask(gateway: &Gateway, request: &str) -> (u16, String) {
    let mut raw = Raw::connect(gateway.address());
    raw.send(request.as_bytes());
    raw.finish();
    let answer = String::from_utf8(raw.read_to_end()).expect("text");
    let (header, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(header.to_lowercase().contains("\r\nconnection: close"), "{header}");
    (header.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
}

#[test]
fn health_path_answers_as_readyz_does_whatever_state_the_process_is_in() {
    let redis = Redis::start();
    let flags = ["--health-path", "/health", "--loglevel", "debug", "--drain-grace-seconds", "60", "--cores", "0"];
    let away = Setup::serve_at(&format!("127.0.0.1:{}", free_port())).flags(&flags).start_unready();
    let start = away.until_logged("serves ws://");
    assert!(start.ends_with(", not ready: no bus yet"), "{start}");
    away.until_logged("cannot be reached");
    assert_eq!(away.http("GET", "/readyz").status, 503);
    // Why the bus cannot be reached is for the operator, not for anybody.
    let (status, body) = ask(&away, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((status, &*body), (503, "core 0 has not reached the bus yet\n"));
    until("the operator hears more", PATIENCE, || {
        let told = away.http("GET", "/readyz").body;
        told.starts_with(body.trim_end()) && told.contains("refused")
    });

    let gateway = Gateway::serve(&redis, &flags);
    let mut client = Client::connect(&gateway);
    for (request, body) in [
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "serving\n"),
        ("GET /health HTTP/1.0\r\n\r\n", "serving\n"),
        ("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (&haproxy("/health"), "serving\n"),
    ] {
        assert_eq!(ask(&gateway, request), (200, body.to_owned()), "{request}");
    }
    let log = gateway.log();
    assert!(!log.contains("refused with") && !log.contains("/health"), "{log}");
    let metrics = gateway.http("GET", "/metrics").body;
    assert!(metrics.contains("evergate_handshakes_refused_total{core=\"0\"} 0"), "{metrics}");

    gateway.signal(Signal::SIGUSR1);
    until("it drains", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    let readyz = gateway.http("GET", "/readyz");
    assert_eq!(ask(&gateway, &haproxy("/health")), (503, readyz.body));
    client.must_be_connected();
}

#[test]
fn a_probe_that_is_no_handshake_is_refused_and_told_of_health_path() {
    let gateway = Gateway::demo(&[]);
    let (status, body) = ask(&gateway, &haproxy("/"));
    assert_eq!(status, 400);
    assert!(body.contains("health_path") && body.contains("Sec-WebSocket-Key"), "{body}");
    let (status, body) = ask(&gateway, &HANDSHAKE.replace("Connection: Upgrade", "Connection: keep-alive"));
    assert_eq!(status, 400);
    assert!(body.contains("health_path") && body.contains("Connection"), "{body}");
    assert_eq!(ask(&gateway, "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n").0, 405, "off unless it is set");
}

#[test]
fn a_node_that_is_full_is_still_well_for_whoever_probes_it() {
    let gateway = Gateway::demo(&["--health-path", "/health", "--clients-max", "1"]);
    let first = Client::connect(&gateway);
    gateway.until_count("open", 1);
    assert_eq!(ask(&gateway, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), (200, "serving\n".to_owned()));
    assert_eq!(ask(&gateway, HANDSHAKE).0, 503);
    first.close();
    until("there is a place again", PATIENCE, || {
        Raw::connect(gateway.address()).exchange(HANDSHAKE).starts_with("HTTP/1.1 101 ")
    });
}

/// A handshake with a cookie of so many bytes.
fn with_cookie(bytes: usize) -> String {
    HANDSHAKE.replace("Host: ", &format!("Cookie: {}\r\nHost: ", "c".repeat(bytes)))
}

#[test]
fn a_header_may_have_32_kib_and_256_lines_and_more_by_an_option() {
    let (usual, more) = (Gateway::demo(&[]), Gateway::demo(&["--header-bytes-max", "64 KiB"]));
    let status = |gateway: &Gateway, header: &str| {
        let answer = Raw::connect(gateway.address()).exchange(header);
        answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).expect("a status line")
    };
    // A 12 KB cookie, as HAProxy passes it on; a 6 KB cookie and a 3 KB Authorization.
    assert_eq!(status(&usual, &with_cookie(12_000)), 101);
    let bearer = format!("Authorization: Bearer {}\r\nHost: ", "t".repeat(3_000));
    assert_eq!(status(&usual, &with_cookie(6_000).replace("Host: ", &bearer)), 101);
    let longest = 32_768 - with_cookie(0).len();
    assert_eq!(status(&usual, &with_cookie(longest)), 101);
    assert_eq!(usual.limit("header_bytes_max"), 0);
    assert_eq!(status(&usual, &with_cookie(longest + 1)), 431);
    assert_eq!(status(&more, &with_cookie(longest + 1)), 101);
    let lines = |count: usize| {
        let own = HANDSHAKE.matches("\r\n").count() - 2;
        HANDSHAKE.replace("Host: ", &format!("{}Host: ", "X: y\r\n".repeat(count - own)))
    };
    assert_eq!(status(&usual, &lines(256)), 101);
    assert_eq!(status(&usual, &lines(257)), 431);
    assert_eq!(usual.limit("header_bytes_max"), 2);
}

#[test]
fn a_long_header_may_come_byte_by_byte_with_a_frame_behind_it() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::connect(gateway.address());
    raw.patience(Duration::from_secs(20));
    let header = with_cookie(9_000);
    for piece in header.as_bytes().chunks(3) {
        raw.send(piece);
    }
    raw.frame(true, crate::support::raw::PING, b"here");
    assert!(raw.read_header().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.next(crate::support::raw::PONG).payload, b"here");
}

#[test]
fn a_header_gets_the_same_answer_wherever_tcp_cuts_it() {
    let gateway = Gateway::demo(&["--cores", "0"]);
    let with_line = |line: &str| HANDSHAKE.replacen("GET /osrf-websocket-translator HTTP/1.1", line, 1);
    for (line, status) in [
        ("GET / HTTP/1.1", "101"),
        ("GET / HTTP/2.0", "505"),
        ("GET / HTTX/1.1 HTTP/1.1", "400"),
        ("GET / RTSP/1.0", "400"),
        ("GET / HTTP/1.0", "400"),
        ("GET x HTTP/1.1", "400"),
        ("POST / HTTP/1.1", "405"),
    ] {
        let header = with_line(line);
        for cut in 0..line.len() + 3 {
            let (begin, rest) = header.split_at(cut);
            let mut raw = Raw::connect(gateway.address());
            raw.send(begin.as_bytes());
            // Whoever comes later on the one core is served later: the beginning has been read.
            assert_eq!(ask(&gateway, "GET / HTTP/1.1\r\n\r\n").0, 426);
            let answer = raw.exchange(rest);
            assert_eq!(answer.split(' ').nth(1), Some(status), "{line:?} cut at {cut}: {answer}");
        }
    }
}
