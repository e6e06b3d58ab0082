//! The rules of the opening handshake, one by one.

use proptest::prelude::*;

use super::super::handshake::{Address, Net, OriginEntry, Origins, Policy, Progress, read, refuse};

pub(super) const PEER: &str = "198.51.100.7";
const PROXY: &str = "127.0.0.1";

pub(super) fn policy() -> Policy {
    Policy {
        header_bytes_max: 8 << 10,
        health_path: None,
        path: None,
        origins: Origins::Any,
        require_origin: false,
        same_origin: false,
        trusted_proxies: ["127.0.0.0/8", "::1", "10.0.0.0/8"].map(|net| net.parse().unwrap()).to_vec(),
    }
}

fn origins(entries: &[&str]) -> Origins {
    Origins::parse(entries.iter().copied()).unwrap()
}

/// A good request with the lines named in `changes` replaced (`Name: value`), dropped (`Name`) or added.
pub(super) fn request(changes: &[&str]) -> String {
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let good = [
        "Host: gateway.example.org",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let kept = good.iter().filter(|line| !changes.iter().any(|change| name(change) == name(line)));
    let lines: Vec<&str> = kept.chain(changes.iter().filter(|change| change.contains(':'))).copied().collect();
    format!("GET /osrf-websocket-translator HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

pub(super) fn progress(header: &str, policy: &Policy, peer: &str) -> Progress {
    read(header.as_bytes(), policy, Address::Ip(peer.parse().unwrap()))
}

/// 101 or the status of the refusal, whose form is checked.
pub(super) fn status_of(progress: &Progress) -> u16 {
    match progress {
        Progress::Incomplete | Progress::Probe { .. } => panic!("{progress:?}"),
        Progress::Accepted(_) => 101,
        Progress::Refused(refused) => {
            let text = std::str::from_utf8(&refused.response).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {} ", refused.status)), "{text}");
            assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
            refused.status
        }
    }
}

pub(super) fn status(header: &str, policy: &Policy) -> u16 {
    status_of(&progress(header, policy, PEER))
}

pub(super) fn changed(changes: &[&str]) -> u16 {
    status(&request(changes), &policy())
}

fn accepted(changes: &[&str], policy: &Policy, peer: &str) -> super::super::handshake::Accepted {
    match progress(&request(changes), policy, peer) {
        Progress::Accepted(accepted) => accepted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_rfcs_own_example_is_accepted_and_frames_may_follow_at_once() {
    let header = request(&[]);
    let with_frames = format!("{header}\u{1}\u{2}");
    let Progress::Accepted(accepted) = progress(&with_frames, &policy(), PEER) else { panic!("accepted") };
    assert_eq!(accepted.consumed, header.len());
    assert_eq!(
        std::str::from_utf8(&accepted.response).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    assert_eq!(accepted.client, Address::Ip(PEER.parse().unwrap()));
}

#[test]
fn every_beginning_of_a_good_header_is_incomplete() {
    let header = request(&["Origin: https://a.example"]);
    for end in 0..header.len() {
        assert_eq!(progress(&header[..end], &policy(), PEER), Progress::Incomplete, "{end}");
    }
}

#[test]
fn names_and_tokens_are_case_insensitive_and_connection_is_a_list() {
    assert_eq!(changed(&["CONNECTION: keep-alive ,uPGRADE", "uPGRADE: WebSocket"]), 101);
    assert_eq!(changed(&["Connection: keep-alive", "Connection: upgrade"]), 101);
    assert_eq!(changed(&["Upgrade: h2c, websocket"]), 101);
    assert_eq!(changed(&["Connection: upgraded"]), 400);
    assert_eq!(changed(&["Connection: close"]), 400);
    assert_eq!(changed(&["Connection"]), 400);
}

#[test]
fn subprotocols_and_extensions_are_ignored() {
    let accepted =
        accepted(&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate"], &policy(), PEER);
    let text = String::from_utf8(accepted.response).unwrap();
    assert!(!text.contains("Protocol:") && !text.contains("Extensions"));
}

#[test]
fn the_key_is_24_characters_that_decode_to_16_bytes() {
    let key = |key: &str| changed(&[&format!("Sec-WebSocket-Key: {key}")]);
    assert_eq!(changed(&["Sec-WebSocket-Key"]), 400);
    assert_eq!(key("AAAAAAAAAAAAAAAAAAAAAA=="), 101);
    assert_eq!(key("abcdefghijklmnopqrstuv=="), 101, "set bits past the end are ignored");
    for bad in [
        "",
        "short",
        "AAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "AAAA AAAAAAAAAAAAAAAAA==",
        "AAAA_AAAAAAAAAAAAAAAAA==",
    ] {
        assert_eq!(key(bad), 400, "{bad}");
    }
}

#[test]
fn a_repeated_key_version_or_host_is_400() {
    assert_eq!(
        changed(&["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="]),
        400
    );
    assert_eq!(changed(&["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"]), 400);
    assert_eq!(changed(&["Host: a", "Host: a"]), 400);
}

#[test]
fn a_body_is_400() {
    assert_eq!(changed(&["Content-Length: 0"]), 101);
    assert_eq!(changed(&["Content-Length: 1"]), 400);
    assert_eq!(changed(&["Content-Length: -0"]), 400);
    assert_eq!(changed(&["Content-Length: 0", "Content-Length: 5"]), 400);
    assert_eq!(changed(&["Transfer-Encoding: chunked"]), 400);
}

#[test]
fn another_version_is_426_with_ours() {
    for change in
        ["Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13, 8", "Sec-WebSocket-Version:", "Sec-WebSocket-Version"]
    {
        let Progress::Refused(refused) = progress(&request(&[change]), &policy(), PEER) else { panic!("{change}") };
        assert_eq!(refused.status, 426, "{change}");
        assert!(String::from_utf8(refused.response).unwrap().contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
}

#[test]
fn a_plain_get_is_426_with_one_line_of_text() {
    let mut only_path = policy();
    only_path.path = Some("/ws".into());
    for probe in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        for policy in [&policy(), &only_path] {
            let Progress::Refused(refused) = progress(probe, policy, PEER) else { panic!("{probe}") };
            let text = String::from_utf8(refused.response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(refused.status, 426);
            assert!(head.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert_eq!(body.matches('\n').count(), 1);
            assert!(body.ends_with('\n'));
        }
    }
    assert_eq!(changed(&["Upgrade: h2c"]), 426);
    assert_eq!(status("GET /other HTTP/1.1\r\nHost: x\r\n\r\n", &only_path), 404);
}

#[test]
fn other_methods_are_405_and_head_gets_no_body() {
    for method in ["POST", "PUT", "OPTIONS", "CONNECT", "get"] {
        let header = request(&[]).replacen("GET", method, 1);
        let Progress::Refused(refused) = progress(&header, &policy(), PEER) else { panic!("{method}") };
        assert_eq!(refused.status, 405);
        assert!(String::from_utf8(refused.response).unwrap().contains("\r\nAllow: GET\r\n"));
    }
    let Progress::Refused(refused) = progress("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", &policy(), PEER) else { panic!() };
    assert_eq!(refused.status, 405);
    assert!(refused.response.ends_with(b"\r\n\r\n"));
}

#[test]
fn an_old_or_new_http_is_refused() {
    assert_eq!(status(&request(&[]).replacen("HTTP/1.1", "HTTP/1.0", 1), &policy()), 400);
    assert_eq!(status(&request(&[]).replacen("HTTP/1.1", "HTTP/2.0", 1), &policy()), 505);
    assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &policy()), 505);
}

#[test]
fn another_path_is_404_and_the_query_does_not_count() {
    let mut policy = policy();
    policy.path = Some("/osrf-websocket-translator".into());
    let at = |target: &str| status(&request(&[]).replacen("/osrf-websocket-translator", target, 1), &policy);
    assert_eq!(at("/osrf-websocket-translator"), 101);
    assert_eq!(at("/osrf-websocket-translator?a=/b"), 101);
    assert_eq!(at("http://gateway.example.org/osrf-websocket-translator"), 101);
    for wrong in ["/", "/osrf-websocket-translator/", "/x?/osrf-websocket-translator", "http://gateway.example.org"] {
        assert_eq!(at(wrong), 404, "{wrong}");
    }
    for bad in ["*", "gateway.example.org:80", "ftp://x/"] {
        assert_eq!(at(bad), 400, "{bad}");
    }
}

#[test]
fn host_is_demanded_and_judged() {
    assert_eq!(changed(&["Host"]), 400);
    for good in ["a", "a:80", "[::1]:7682", "upstream_name", "", "A.Example.:"] {
        assert_eq!(changed(&[&format!("Host: {good}")]), 101, "{good}");
    }
    for bad in
        ["a b", "a:b", "a:99999", "a/b", "u@a", "[::1", "[x]", "::1", "a,b", ":80", "ä", "[::1]x", "a:+8", "a:8 0"]
    {
        assert_eq!(changed(&[&format!("Host: {bad}")]), 400, "{bad}");
    }
}

#[test]
fn a_malformed_request_is_400_as_soon_as_it_shows() {
    for bad in [
        "\0",
        "GET\r\n",
        "GET / FTP/1.1\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n",
        "\x16\x03\x01",
    ] {
        assert_eq!(status(bad, &policy()), 400, "{bad:?}");
    }
}

#[test]
fn tls_on_the_plain_port_is_told_so_and_nothing_else_is() {
    let reason = |bytes: &str| match progress(bytes, &policy(), PEER) {
        Progress::Refused(refused) => String::from_utf8(refused.response).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(reason("\x16\x03\x01").contains("TLS"));
    assert!(!reason("\0").contains("TLS"));
}

#[test]
fn any_origin_is_allowed_by_default_and_none_may_be_demanded() {
    let mut policy = policy();
    for origin in ["Origin: https://evil.example", "Origin: null", "Origin: ?", "Unrelated: x"] {
        assert_eq!(status(&request(&[origin]), &policy), 101);
    }
    policy.require_origin = true;
    assert_eq!(status(&request(&[]), &policy), 403);
    assert_eq!(status(&request(&["Origin:"]), &policy), 403);
    assert_eq!(status(&request(&["Origin: null"]), &policy), 101);
}

#[test]
fn a_list_of_origins_compares_hosts_and_named_ports() {
    let mut policy = policy();
    policy.origins =
        origins(&["Catalog.Example.org", "b.example:8443", "https://c.example", "https://d.example:444/", "[::1]:80"]);
    let origin = |origin: &str| status(&request(&[&format!("Origin: {origin}")]), &policy);
    for good in [
        "https://catalog.example.org",
        "http://CATALOG.example.ORG:8080",
        "https://b.example:8443",
        "HTTPS://c.example:99",
        "https://d.example:444",
        "http://[::1]",
    ] {
        assert_eq!(origin(good), 101, "{good}");
    }
    for bad in [
        "null",
        "https://evil.example",
        "https://catalog.example.org.evil.example",
        "https://evilcatalog.example.org",
        "https://b.example",
        "http://c.example",
        "https://d.example",
        "https://catalog.example.org/",
        "https://u@catalog.example.org",
        "catalog.example.org",
        "://catalog.example.org",
        "",
    ] {
        assert_eq!(origin(bad), 403, "{bad}");
    }
    assert_eq!(status(&request(&[]), &policy), 101, "no Origin is allowed");
    let twice = ["Origin: https://catalog.example.org", "Origin: https://catalog.example.org"];
    assert_eq!(status(&request(&twice), &policy), 403);
}

#[test]
fn origin_entries_are_parsed_or_named_as_bad() {
    assert_eq!(origins(&["a.example", "*"]), Origins::AnyHost);
    assert_eq!(origins(&[]), Origins::List(vec![]));
    for (written, shown) in
        [("A.example", "a.example"), ("HTTPS://A.Example:8443/", "https://a.example:8443"), (" [::1]:80 ", "[::1]:80")]
    {
        assert_eq!(written.parse::<OriginEntry>().unwrap().to_string(), shown);
    }
    for bad in [
        "",
        "*.example.org",
        "https://*",
        "a/b",
        "https://a/b",
        "a:x",
        "a:0",
        "a b",
        "a!b",
        "1://a",
        "::1",
        "null",
        "https://Null",
    ] {
        let error = bad.parse::<OriginEntry>().unwrap_err();
        assert!(error.contains(&format!("\"{bad}\"")), "{error}");
    }
}

#[test]
fn same_origin_compares_with_host() {
    let mut policy = policy();
    policy.same_origin = true;
    let with = |policy: &Policy, host: &str, origin: &str| {
        status(&request(&[&format!("Host: {host}"), &format!("Origin: {origin}")]), policy)
    };
    assert_eq!(with(&policy, "a.example", "https://A.example"), 101);
    assert_eq!(with(&policy, "a.example:443", "https://a.example"), 101);
    assert_eq!(with(&policy, "a.example:8443", "https://a.example:8443"), 101);
    assert_eq!(with(&policy, "a.example:8443", "https://a.example"), 403);
    assert_eq!(with(&policy, "a.example", "https://b.example"), 403);
    assert_eq!(with(&policy, "a.example", "null"), 403);
    assert_eq!(with(&policy, "", "https://a.example"), 403);
    policy.origins = origins(&["b.example"]);
    assert_eq!(with(&policy, "a.example", "https://b.example"), 101, "the list adds to the own host");
    assert_eq!(with(&policy, "a.example", "https://a.example"), 101);
    assert_eq!(with(&policy, "a.example", "https://c.example"), 403);
    policy.origins = origins(&["*"]);
    assert_eq!(with(&policy, "a.example", "https://b.example"), 403, "same_origin narrows every host to the own");
    assert_eq!(with(&policy, "a.example", "https://a.example"), 101);
    policy.same_origin = false;
    assert_eq!(with(&policy, "a.example", "https://b.example"), 101);
    assert_eq!(with(&policy, "a.example", "null"), 403);
}

#[test]
fn same_origin_believes_the_first_forwarded_host_of_a_trusted_proxy_only() {
    let mut policy = policy();
    policy.same_origin = true;
    let lines = ["Host: upstream", "X-Forwarded-Host: a.example, inner.example", "Origin: https://a.example"];
    accepted(&lines, &policy, PROXY);
    assert_eq!(status(&request(&lines), &policy), 403);
    let unusable = ["Host: a.example", "X-Forwarded-Host: /", "Origin: https://a.example"];
    accepted(&unusable, &policy, PROXY);
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    let client = |peer: &str, lines: &[&str]| accepted(lines, &policy(), peer).client.to_string();
    let cases: &[(&str, &[&str], &str)] = &[
        (PROXY, &["X-Forwarded-For: 203.0.113.5"], "203.0.113.5"),
        (PROXY, &["X-Forwarded-For: 192.0.2.1, 203.0.113.5, 10.1.1.1"], "203.0.113.5"),
        (
            PROXY,
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 203.0.113.5", "X-Forwarded-For: 10.1.1.1"],
            "203.0.113.5",
        ),
        (PROXY, &["X-Forwarded-For: junk, 203.0.113.5"], "203.0.113.5"),
        (PROXY, &["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        (PROXY, &["X-Forwarded-For: [2001:db8::1]:99"], "2001:db8::1"),
        (PROXY, &["X-Forwarded-For: [2001:db8::1]"], "2001:db8::1"),
        (PROXY, &["X-Forwarded-For: 203.0.113.5:99"], "203.0.113.5"),
        (PROXY, &["X-Forwarded-For: ::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:127.0.0.1", &["X-Forwarded-For: 203.0.113.5"], "203.0.113.5"),
        ("::1", &["X-Forwarded-For: 203.0.113.5"], "203.0.113.5"),
        (PROXY, &["X-Forwarded-For: 203.0.113.5, junk"], PROXY),
        (PROXY, &["X-Forwarded-For: 203.0.113.5, junk, 10.1.1.1"], PROXY),
        (PROXY, &["X-Forwarded-For: 203.0.113.5,"], PROXY),
        (PROXY, &["X-Forwarded-For:", "X-Real-IP: 203.0.113.5"], PROXY),
        (PROXY, &["X-Forwarded-For: 10.1.1.1, 10.2.2.2"], PROXY),
        (PROXY, &["X-Forwarded-For: 203.0.113.5", "X-Real-IP: 192.0.2.1"], "203.0.113.5"),
        (PROXY, &["X-Real-IP: 203.0.113.5"], "203.0.113.5"),
        (PROXY, &["X-Real-IP: junk"], PROXY),
        (PROXY, &["X-Real-IP: 203.0.113.5", "X-Real-IP: 203.0.113.6"], PROXY),
        (PROXY, &[], PROXY),
        (PEER, &["X-Forwarded-For: 203.0.113.5", "X-Real-IP: 203.0.113.5"], PEER),
        ("::ffff:198.51.100.7", &[], PEER),
    ];
    for (peer, lines, expected) in cases {
        assert_eq!(client(peer, lines), *expected, "{peer} {lines:?}");
    }
}

#[test]
fn a_net_holds_its_addresses_and_no_others() {
    let holds = |net: &str, address: &str| net.parse::<Net>().unwrap().contains(address.parse().unwrap());
    for (net, address) in [
        ("127.0.0.0/8", "127.255.0.1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("10.9.9.9/8", "10.0.0.1"),
        ("0.0.0.0/0", "203.0.113.5"),
        ("::/0", "2001:db8::1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.0/104", "10.5.5.5"),
        ("2001:db8::/33", "2001:db8:7fff::1"),
        ("192.0.2.1", "192.0.2.1"),
    ] {
        assert!(holds(net, address), "{net} {address}");
    }
    for (net, address) in [
        ("127.0.0.0/8", "128.0.0.1"),
        ("::1", "::2"),
        ("2001:db8::/33", "2001:db8:8000::1"),
        ("192.0.2.1", "192.0.2.2"),
        ("0.0.0.0/0", "::1"),
        ("192.0.2.0/31", "192.0.2.2"),
    ] {
        assert!(!holds(net, address), "{net} {address}");
    }
    for bad in
        ["", "x", "10.0.0.0/33", "::1/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0/8", "example.org"]
    {
        assert!(bad.parse::<Net>().is_err(), "{bad}");
    }
}

#[test]
fn every_refusal_has_a_status_line_and_one_line_of_text() {
    // The phrases of RFC 9110 section 15 and RFC 6585; 599 has none.
    for (status, phrase) in [
        (400, "Bad Request"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (408, "Request Timeout"),
        (426, "Upgrade Required"),
        (431, "Request Header Fields Too Large"),
        (503, "Service Unavailable"),
        (505, "HTTP Version Not Supported"),
        (599, "Refused"),
    ] {
        let text = String::from_utf8(refuse(status, "why")).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} {phrase}\r\n"))
                && text.ends_with("\r\nContent-Length: 4\r\n\r\nwhy\n")
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_values_never_panic(
        host in "[ -~]{0,30}", origin in "[ -~]{0,30}", forwarded in "[ -~]{0,30}", target in "[!-~]{1,30}",
        junk in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut policy = policy();
        policy.same_origin = true;
        policy.origins = origins(&["a"]);
        let header = request(&[
            &format!("Host: {host}"),
            &format!("Origin: {origin}"),
            &format!("X-Forwarded-Host: {forwarded}"),
            &format!("X-Forwarded-For: {forwarded}"),
        ]).replacen("/osrf-websocket-translator", &target, 1);
        progress(&header, &policy, PROXY);
        read(&junk, &policy, Address::Ip(PROXY.parse().unwrap()));
        let _ = (host.parse::<OriginEntry>(), forwarded.parse::<Net>());
    }
}
