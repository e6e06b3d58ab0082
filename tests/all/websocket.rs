//! RFC 6455 on a raw socket: the handshake and its refusals, frames, every close code that a client can provoke, pings, dead and idle clients.

use std::time::Duration;

use crate::support::bus::Responder;
use crate::support::client::{Client, envelope, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{ACCEPT, BINARY, CLOSE, CONTINUATION, Frame, HANDSHAKE, PING, PONG, Raw, TEXT, frame};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, free_port, until};

/// The answer to a request header; every refusal must close, and say so.
fn answer(gateway: &Gateway, header: &str) -> String {
    let mut raw = Raw::connect(gateway.address());
    let answer = raw.exchange(header);
    if !answer.starts_with("HTTP/1.1 101 ") {
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        raw.finish();
        raw.read_to_end();
    }
    answer
}

fn code(gateway: &Gateway, header: &str) -> u16 {
    let answer = answer(gateway, header);
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status line: {answer:?}"))
}

/// The code of a refusal, and when to ask again.
fn retry_after(gateway: &Gateway) -> (u16, String) {
    let answer = answer(gateway, HANDSHAKE);
    let after = answer.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap_or_default();
    (answer[9..12].parse().expect("a code"), after.to_owned())
}

/// `add [1,2]` as text.
fn add() -> String {
    envelope("opensrf.math", "t", &[request(0, "add", "[1,2]")])
}

#[test]
fn the_rfcs_own_handshake_gets_the_rfcs_own_answer_on_any_path() {
    let gateway = Gateway::demo(&[]);
    for path in ["/osrf-websocket-translator", "/", "/any/other?x=1"] {
        let answer = answer(&gateway, &HANDSHAKE.replace("/osrf-websocket-translator", path));
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains(ACCEPT), "{answer}");
    }
    let lax = HANDSHAKE
        .replace("Connection: Upgrade", "cOnNeCtIoN: keep-alive , uPgRaDe")
        .replace("Upgrade: websocket", "UPGRADE: WebSocket");
    assert_eq!(code(&gateway, &lax), 101);
}

#[test]
fn with_a_path_set_every_other_is_404() {
    let gateway = Gateway::demo(&["--path", "/osrf-websocket-translator"]);
    assert_eq!(code(&gateway, HANDSHAKE), 101);
    assert_eq!(code(&gateway, &HANDSHAKE.replace("/osrf-websocket-translator", "/other")), 404);
}

#[test]
fn subprotocols_and_extensions_are_ignored() {
    let gateway = Gateway::demo(&[]);
    let offered = HANDSHAKE.replace(
        "Upgrade: websocket",
        "Upgrade: websocket\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate",
    );
    let answer = answer(&gateway, &offered).to_lowercase();
    assert!(
        answer.starts_with("http/1.1 101 ")
            && !answer.contains("sec-websocket-protocol")
            && !answer.contains("sec-websocket-extensions"),
        "{answer}"
    );
}

#[test]
fn a_plain_get_answers_426_with_one_line_of_text_so_that_a_balancer_sees_life() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::connect(gateway.address());
    raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = String::from_utf8(raw.read_to_end()).expect("text");
    let (header, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(header.starts_with("HTTP/1.1 426 ") && header.to_lowercase().contains("connection: close"), "{header}");
    assert_eq!(body.lines().filter(|line| !line.is_empty()).count(), 1, "{body:?}");
}

#[test]
fn a_bad_handshake_is_refused_with_its_own_code() {
    let gateway = Gateway::demo(&[]);
    let changed = |from: &str, to: &str| {
        assert!(HANDSHAKE.contains(from), "{from}");
        code(&gateway, &HANDSHAKE.replacen(from, to, 1))
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for bad in [
        "",
        "short",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZS4=",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBsZSBub25jZSE0NTY3",
    ] {
        assert_eq!(changed(key, bad), 400, "key {bad:?}");
    }
    for line in
        ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n", "Host: localhost\r\n"]
    {
        assert_eq!(changed(line, &format!("{line}{line}")), 400, "repeated {line}");
        assert_ne!(changed(line, ""), 101, "without {line}");
    }
    assert_eq!(changed("Host: localhost\r\n", "Host: localhost\r\nContent-Length: 5\r\n"), 400, "a body");
    assert_eq!(changed("GET ", "POST "), 405);
    assert_eq!(changed("GET ", "HEAD "), 405);
    assert_ne!(changed("HTTP/1.1", "HTTP/1.0"), 101);
    assert_ne!(changed("Connection: Upgrade", "Connection: keep-alive"), 101);
    assert_eq!(changed("Host: localhost\r\n", &format!("Host: localhost\r\nX: {}\r\n", "x".repeat(40_000))), 431);
    let version = answer(&gateway, &HANDSHAKE.replace("Version: 13", "Version: 8"));
    assert!(version.starts_with("HTTP/1.1 426 ") && version.contains("Sec-WebSocket-Version: 13"), "{version}");
    assert_ne!(code(&gateway, "\u{1}\u{2} nonsense\r\n\r\n"), 101);
}

#[test]
fn a_handshake_that_takes_too_long_is_408() {
    let gateway = Gateway::demo(&["--handshake-timeout-seconds", "1"]);
    let mut raw = Raw::connect(gateway.address());
    let answer = raw.exchange("GET / HTTP/1.1\r\nHost: x\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(gateway.limit("handshake_timeout_seconds"), 1);
}

#[test]
fn over_clients_max_and_before_the_first_bus_link_it_is_503() {
    let gateway = Gateway::demo(&["--clients-max", "1"]);
    let first = Client::connect(&gateway);
    gateway.until_count("open", 1);
    assert_eq!(retry_after(&gateway), (503, "10".to_owned()), "handshake_timeout_seconds");
    assert!(gateway.limit("clients_max") >= 1);
    first.close();
    until("the place is free, its socket closed", PATIENCE, || code(&gateway, HANDSHAKE) == 101);
    let busless = Setup::serve_at(&format!("127.0.0.1:{}", free_port())).start_unready();
    until("it listens", PATIENCE, || std::net::TcpStream::connect(busless.address()).is_ok());
    assert_eq!(retry_after(&busless), (503, "2".to_owned()));
}

#[test]
fn bytes_after_the_header_are_frames_and_single_bytes_are_as_good() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::connect(gateway.address());
    raw.send(&[HANDSHAKE.as_bytes(), &frame(true, TEXT, add().as_bytes())].concat());
    assert!(raw.read_header().starts_with("HTTP/1.1 101 "));
    raw.until_status(205);
    let mut slow = Raw::connect(gateway.address());
    for byte in HANDSHAKE.as_bytes() {
        slow.send(&[*byte]);
    }
    assert!(slow.read_header().starts_with("HTTP/1.1 101 "));
    for byte in frame(true, TEXT, add().as_bytes()) {
        slow.send(&[byte]);
    }
    slow.until_status(205);
}

#[test]
fn origins_are_compared_by_host_and_by_port_only_where_the_entry_names_one() {
    let gateway = Setup::demo().line("origins = [\"catalog.example.org\", \"staff.example.org:8443\"]").start();
    let refusal = |origin: &str| Client::refusal(gateway.address(), &[("Origin", origin)]);
    for fine in ["https://catalog.example.org", "https://CATALOG.example.org:444", "http://staff.example.org:8443"] {
        assert_eq!(refusal(fine), None, "{fine}");
    }
    for foreign in [
        "https://evil.example.org",
        "https://staff.example.org",
        "https://staff.example.org:8444",
        "https://catalog.example.org.evil.org",
        "https://xcatalog.example.org",
        "null",
    ] {
        assert_eq!(refusal(foreign), Some(403), "{foreign}");
    }
    assert_eq!(Client::refusal(gateway.address(), &[]), None, "no Origin header is allowed");
}

#[test]
fn the_scheme_of_an_origin_counts_only_where_the_entry_names_one() {
    let gateway = Setup::demo().line("origins = [\"HTTPS://catalog.example.org\", \"any.example.org\"]").start();
    let refusal = |origin: &str| Client::refusal(gateway.address(), &[("Origin", origin)]);
    for fine in ["https://catalog.example.org", "https://catalog.example.org:8443", "http://any.example.org"] {
        assert_eq!(refusal(fine), None, "{fine}");
    }
    assert_eq!(refusal("http://catalog.example.org"), Some(403));
}

#[test]
fn any_origin_is_the_default_and_a_star_is_all_hosts_but_null() {
    let gateway = Gateway::demo(&[]);
    for origin in ["https://anything.example", "null"] {
        assert_eq!(Client::refusal(gateway.address(), &[("Origin", origin)]), None, "{origin}");
    }
    let starred = Setup::demo().line("origins = [\"*\"]").flags(&["--require-origin"]).start();
    assert_eq!(Client::refusal(starred.address(), &[("Origin", "https://anything.example")]), None);
    assert_eq!(
        Client::refusal(starred.address(), &[("Origin", "null")]),
        Some(403),
        "refused whenever a list is in force"
    );
    assert_eq!(Client::refusal(starred.address(), &[]), Some(403), "--require-origin");
}

#[test]
fn same_origin_compares_with_x_forwarded_host_from_a_trusted_proxy_else_host() {
    let gateway = Gateway::demo(&["--same-origin"]);
    let host = gateway.address().to_string();
    let own = format!("http://{host}");
    assert_eq!(Client::refusal(gateway.address(), &[("Origin", &own)]), None);
    assert_eq!(Client::refusal(gateway.address(), &[("Origin", "https://evil.example")]), Some(403));
    let forwarded = [("Origin", "https://evergreen.example"), ("X-Forwarded-Host", "evergreen.example")];
    assert_eq!(Client::refusal(gateway.address(), &forwarded), None);
    let untrusting = Setup::demo().line("trusted_proxies = [\"10.9.9.9\"]").flags(&["--same-origin"]).start();
    assert_eq!(
        Client::refusal(untrusting.address(), &forwarded),
        Some(403),
        "the header of somebody untrusted says nothing"
    );
}

#[test]
fn origins_can_come_from_opensrf_core_xml() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis).line("origins = \"opensrf_core\"");
    let xml = setup.file("opensrf_core.xml", include_str!("../opensrf_core.xml"));
    let gateway = setup.flags(&["--opensrf-core", &xml, "--logfile", "stderr"]).start();
    assert_eq!(Client::refusal(gateway.address(), &[("Origin", "https://catalog.example.org")]), None);
    assert_eq!(Client::refusal(gateway.address(), &[("Origin", "https://evil.example.org")]), Some(403));
}

#[test]
fn each_protocol_error_is_closed_with_1002() {
    let gateway = Gateway::demo(&[]);
    let masked = |head: &[u8]| [head, &[0, 0, 0, 0]].concat();
    let close = |payload: &[u8]| frame(true, CLOSE, payload);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("unmasked", vec![0x81, 1, b'x']),
        ("RSV1", masked(&[0xC1, 0x80])),
        ("RSV2", masked(&[0xA1, 0x80])),
        ("RSV3", masked(&[0x91, 0x80])),
        ("opcode 3", masked(&[0x83, 0x80])),
        ("opcode 11", masked(&[0x8B, 0x80])),
        ("fragmented Ping", frame(false, PING, b"x")),
        ("long Ping", frame(true, PING, &[0; 126])),
        ("length of 16 bits not needed", masked(&[0x81, 0xFE, 0, 125])),
        ("length of 64 bits not needed", masked(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF])),
        ("length with the top bit", masked(&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0])),
        ("continuation of nothing", frame(true, CONTINUATION, b"x")),
        ("text within a fragmented message", [frame(false, TEXT, b"x"), frame(true, TEXT, b"y")].concat()),
        ("Close of one byte", close(&[3])),
        ("Close 999", close(&999_u16.to_be_bytes())),
        ("Close 1004", close(&1004_u16.to_be_bytes())),
        ("Close 1005", close(&1005_u16.to_be_bytes())),
        ("Close 1006", close(&1006_u16.to_be_bytes())),
        ("Close 1015", close(&1015_u16.to_be_bytes())),
        ("Close 2999", close(&2999_u16.to_be_bytes())),
        ("Close 5000", close(&5000_u16.to_be_bytes())),
    ];
    for (name, bytes) in cases {
        let mut raw = Raw::upgrade(gateway.address());
        raw.send(&bytes);
        let got = raw.close_code();
        // A length with its top bit set is also simply too large.
        assert!(got == Some(1002) || (name.contains("top bit") && got == Some(1009)), "{name}: {got:?}");
        raw.finish();
        raw.read_to_end();
    }
    gateway.until_count("open", 0);
}

#[test]
fn text_that_is_no_utf8_is_closed_with_1007_also_across_fragments() {
    let gateway = Gateway::demo(&[]);
    for bytes in [
        frame(true, TEXT, &[0xff]),
        frame(true, TEXT, &[0xed, 0xa0, 0x80]),
        [frame(false, TEXT, b"\"\xc3"), frame(true, CONTINUATION, b"(\"")].concat(),
        frame(true, TEXT, b"\"\xe2\x82"),
        frame(true, CLOSE, &[3, 0xe8, 0xff]),
        frame(true, BINARY, &[0xff]),
        // What cannot become text any more is not waited for.
        frame(false, TEXT, b"\"\xff"),
        [frame(false, TEXT, b"\"\xf4"), frame(false, CONTINUATION, b"\x90")].concat(),
        frame(true, TEXT, &[&[0xff], &[b'x'; 200][..]].concat())[..20].to_vec(),
    ] {
        let mut raw = Raw::upgrade(gateway.address());
        raw.send(&bytes);
        assert_eq!(raw.close_code(), Some(1007), "{bytes:?}");
    }
}

#[test]
fn a_clients_close_is_echoed_and_the_stream_ends_without_a_reset() {
    let gateway = Gateway::demo(&[]);
    for code in [1000, 1001, 1003, 1007, 1011, 1012, 3000, 4999] {
        let mut raw = Raw::upgrade(gateway.address());
        raw.frame(true, CLOSE, &[&u16::to_be_bytes(code)[..], b"bye"].concat());
        assert_eq!(raw.close_code(), Some(code));
        assert!(raw.read_to_end().is_empty());
    }
    let mut raw = Raw::upgrade(gateway.address());
    raw.frame(true, CLOSE, b"");
    let echo = raw.read_frame().expect("a Close");
    assert_eq!((echo.opcode, echo.payload.len() % 2), (CLOSE, 0));
    assert!(raw.read_to_end().is_empty());
    gateway.until_count("open", 0);
}

#[test]
fn after_our_close_what_comes_is_read_and_discarded_until_the_time_out_and_never_reset() {
    let gateway = Gateway::demo(&["--close-timeout-seconds", "1", "--message-bytes-max", "2000000"]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&[0x81, 0xFF, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(raw.close_code(), Some(1009));
    assert!(raw.try_send(&vec![0; 1_000_000]), "it reads on");
    assert!(raw.read_to_end().is_empty(), "our side is shut down when the client's Close does not come");
}

#[test]
fn a_message_that_is_too_large_is_closed_with_1009_whole_or_in_fragments() {
    let gateway = Gateway::demo(&["--message-bytes-max", "2000"]);
    let half = "x".repeat(1_200);
    for bytes in [
        frame(true, TEXT, &[b' '; 2_001]),
        [frame(false, TEXT, half.as_bytes()), frame(true, CONTINUATION, half.as_bytes())].concat(),
    ] {
        let mut raw = Raw::upgrade(gateway.address());
        raw.send(&bytes);
        assert_eq!(raw.close_code(), Some(1009));
    }
    let mut fits = Raw::upgrade(gateway.address());
    fits.text(&format!("{}{}", add(), " ".repeat(2_000 - add().len())));
    fits.until_status(205);
    assert_eq!(gateway.limit("message_bytes_max"), 2);
}

#[test]
fn ten_mebibytes_are_the_limit_of_a_message() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.send(&[&[0x81, 0xFF][..], &(10_u64 * 1024 * 1024 + 1).to_be_bytes(), &[1, 2, 3, 4]].concat());
    assert_eq!(raw.close_code(), Some(1009));
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::upgrade(gateway.address());
    let text = envelope("opensrf.demo", "t", &[request(0, "opensrf.demo.echo", "[\"é€😀\"]")]);
    let bytes = text.as_bytes();
    raw.frame(false, TEXT, &bytes[..1]);
    for byte in &bytes[1..bytes.len() - 1] {
        raw.frame(false, CONTINUATION, &[*byte]);
    }
    raw.frame(true, PING, b"between");
    assert_eq!(raw.next(PONG), Frame { fin: true, opcode: PONG, payload: b"between".to_vec() });
    raw.frame(false, CONTINUATION, b"");
    raw.frame(true, CONTINUATION, &bytes[bytes.len() - 1..]);
    raw.until_status(205);
}

#[test]
fn a_binary_frame_is_as_good_as_text_and_replies_are_text() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.frame(true, BINARY, add().as_bytes());
    let reply = raw.read_frame().expect("a reply");
    assert_eq!((reply.opcode, reply.fin), (TEXT, true));
}

#[test]
fn a_ping_gets_its_own_payload_back_and_an_unasked_pong_nothing() {
    let gateway = Gateway::demo(&[]);
    let mut raw = Raw::upgrade(gateway.address());
    raw.frame(true, PONG, b"unasked");
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        raw.frame(true, PING, payload);
        assert_eq!(raw.read_frame(), Some(Frame { fin: true, opcode: PONG, payload: payload.to_vec() }));
    }
}

#[test]
fn a_message_half_sent_for_too_long_is_closed_with_1008() {
    let gateway = Gateway::demo(&["--message-timeout-seconds", "1"]);
    for half in [&frame(true, TEXT, add().as_bytes())[..20], &frame(false, TEXT, b"{"), &[0x81]] {
        let mut raw = Raw::upgrade(gateway.address());
        raw.send(half);
        assert_eq!(raw.close_code(), Some(1008));
    }
    assert_eq!(gateway.limit("message_timeout_seconds"), 3);
}

#[test]
fn an_idle_client_is_closed_with_1000_and_a_busy_one_is_not() {
    let gateway = Gateway::demo(&["--idle-timeout-seconds", "1"]);
    let (mut busy, mut idle) = (Client::connect(&gateway), Raw::upgrade(gateway.address()));
    busy.request("opensrf.demo", "t", 0, "opensrf.demo.sleep", "[2]");
    assert_eq!(idle.close_code(), Some(1000));
    busy.until_status(205);
    assert_eq!(busy.close_code(PATIENCE).0, Some(1000));
    assert_eq!(gateway.limit("idle_timeout_seconds"), 2);
}

#[test]
fn silence_is_pinged_any_byte_is_a_pong_and_the_dead_are_dropped() {
    let gateway = Gateway::demo(&["--ping-seconds", "1", "--pong-timeout-seconds", "1"]);
    let (mut dead, mut alive) = (Raw::upgrade(gateway.address()), Raw::upgrade(gateway.address()));
    for _ in 0..3 {
        alive.next(PING);
        alive.frame(true, PONG, b"not the payload of the ping");
    }
    gateway.until_count("open", 1);
    while dead.read_frame().is_some() {}
    assert_eq!(gateway.limit("pong_timeout_seconds"), 1);
    alive.text(&add());
    alive.until_status(205);
}

#[test]
fn the_end_of_the_stream_without_a_close_is_the_end_of_the_client() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut bus = Responder::new(&redis);
    let mut raw = Raw::upgrade(gateway.address());
    raw.text(&add());
    let arrived = bus.next();
    raw.finish();
    gateway.until_count("open", 0);
    bus.complete(&arrived, "3");
    raw.patience(Duration::from_secs(5));
    assert!(raw.read_to_end().is_empty(), "nothing more for a client that has gone");
}

#[test]
fn a_slow_consumer_is_closed_with_1008_after_the_frame_that_was_begun() {
    let gateway = Gateway::demo(&["--outbound-bytes-max", "1048576"]);
    let mut raw = Raw::upgrade(gateway.address());
    for trace in 0..40 {
        raw.text(&envelope("opensrf.demo", "t", &[request(trace, "opensrf.demo.big", "[1000000]")]));
    }
    until("it is noticed", Duration::from_secs(15), || gateway.limit("outbound_bytes_max") >= 1);
    let mut whole = 0;
    let last = loop {
        match raw.read_frame() {
            Some(frame) if frame.opcode == CLOSE => {
                break frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
            Some(_) => whole += 1,
            None => break None,
        }
    };
    assert_eq!(last, Some(1008), "after {whole} frames");
    assert!(whole < 80, "queued frames are dropped");
}
