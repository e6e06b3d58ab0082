//! For whom a client speaks: the PROXY header, and a Unix socket's peer.

use super::*;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n";

fn proxied(world: &mut World, peer: &str) -> SlotIndex {
    world.connection_of(Address::Ip(peer.parse().expect("an address")), Opening::ProxyHeader)
}

/// The handshake, with a header line more.
fn handshake_with(line: &str) -> Vec<u8> {
    let handshake = std::str::from_utf8(HANDSHAKE).expect("text");
    handshake.replacen("\r\n", &format!("\r\n{line}\r\n"), 1).into_bytes()
}

/// The lines of the activity log so far, each without what follows the address and a word.
fn connects(world: &World) -> Vec<&str> {
    world.activity.iter().filter_map(|line| Some(line.split_once(" [] connect")?.0)).collect()
}

#[test]
fn a_proxy_header_names_the_client_wherever_tcp_cuts_it() {
    let whole = [HEADER, HANDSHAKE].concat();
    for cut in 1..whole.len() {
        let mut world = World::new();
        let slot = proxied(&mut world, "127.0.0.1");
        world.input(slot, &whole[..cut]);
        assert!(!world.is_open(slot));
        world.input(slot, &whole[cut..]);
        assert!(world.is_open(slot), "cut at {cut}");
        assert_eq!(connects(&world), ["[192.0.2.7]"], "cut at {cut}");
    }
    let mut world = World::new();
    let slot = proxied(&mut world, "127.0.0.1");
    for byte in whole {
        world.input(slot, &[byte]);
    }
    assert!(world.is_open(slot));
}

#[test]
fn what_follows_the_header_is_read_as_it_is_also_frames() {
    let mut world = World::new();
    let slot = proxied(&mut world, "127.0.0.1");
    let close = [0x88, 0x80, 0, 0, 0, 0];
    world.input(slot, &[HEADER, HANDSHAKE, &close].concat());
    assert!(!world.is_open(slot), "its Close has been read");
    assert_eq!(world.activity.len(), 2, "{:?}", world.activity);
}

#[test]
fn whom_the_header_names_may_be_a_proxy_itself_and_no_other_is_believed() {
    for (header, line, shown) in [
        ("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "X-Forwarded-For: 203.0.113.9", "[192.0.2.7]"),
        ("PROXY TCP4 127.0.0.9 192.0.2.1 1 2\r\n", "X-Forwarded-For: 203.0.113.9", "[203.0.113.9]"),
        ("PROXY UNKNOWN\r\n", "X-Forwarded-For: 203.0.113.9", "[203.0.113.9]"),
        ("PROXY UNKNOWN\r\n", "X-Nothing: at all", "[127.0.0.1]"),
    ] {
        let mut world = World::new();
        let slot = proxied(&mut world, "127.0.0.1");
        world.input(slot, &[header.as_bytes(), &handshake_with(line)].concat());
        assert_eq!(connects(&world), [shown], "{header}");
    }
}

#[test]
fn an_untrusted_peer_is_not_admitted_where_proxies_connect_and_is_counted_and_named() {
    let mut world = World::new();
    let untrusted = Address::Ip("198.51.100.1".parse().expect("an address"));
    assert!(!world.clients.admits(untrusted, Opening::ProxyHeader));
    world.settle();
    assert_eq!(world.counts().proxy_headers_refused.load(Relaxed), 1);
    assert_eq!((world.counts().accepted.load(Relaxed), world.counts().connections.load(Relaxed)), (1, 0));
    let (level, line) = &world.log[0];
    assert_eq!(*level, Severity::Warn);
    assert!(line.starts_with("address 198.51.100.1: closed: ") && line.contains("trusted_proxies"), "{line}");
    for (peer, opening) in [
        (untrusted, Opening::Request),
        (Address::Ip(Ipv4Addr::LOCALHOST.into()), Opening::ProxyHeader),
        (Address::Unix, Opening::ProxyHeader),
    ] {
        assert!(world.clients.admits(peer, opening), "{peer} {opening:?}");
    }
    world.settle();
    assert_eq!((world.counts().proxy_headers_refused.load(Relaxed), world.log.len()), (1, 1));
}

#[test]
fn who_sends_no_header_or_too_slowly_is_closed_without_an_answer_and_named_once_in_the_log() {
    let mut world = World::new();
    for _ in 0..50 {
        let slot = proxied(&mut world, "127.0.0.1");
        world.input(slot, HANDSHAKE);
        assert!(world.received.get(&slot).is_none_or(Vec::is_empty));
    }
    let slow = proxied(&mut world, "127.0.0.1");
    world.input(slow, &HEADER[..HEADER.len() - 1]);
    world.pass(9_900);
    assert!(!world.hung_up.contains(&slow) || world.hung_up.len() == 50);
    world.pass(200);
    assert_eq!(world.hung_up.len(), 51);
    assert_eq!(world.counts().proxy_headers_refused.load(Relaxed), 51);
    assert_eq!(world.hits(Limit::handshake_timeout_seconds), 1);
    let lines: Vec<&str> = world.log.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("sends no PROXY header") && lines[1].ends_with(", 49 times more within 10 s"));
    assert!(lines[2].contains("handshake_timeout_seconds"), "{}", lines[2]);
}

#[test]
fn a_peer_that_ends_before_its_header_is_a_probe_and_nothing_is_said_of_it() {
    let mut world = World::new();
    let slot = proxied(&mut world, "127.0.0.1");
    world.clients.ended(slot, "");
    world.settle();
    assert_eq!((world.hung_up.len(), world.log.len()), (1, 0));
}

#[test]
fn the_peer_of_a_unix_socket_is_a_proxy_that_is_trusted_and_shown_as_unix_where_it_names_nobody() {
    let mut world = World::with(|limits| {
        limits.address_connects = super::super::rate::Rate::per_second(1);
        limits.policy.trusted_proxies.clear();
    });
    for line in ["X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.8", "X-Nothing: at all"] {
        let slot = world.connection_of(Address::Unix, Opening::Request);
        world.input(slot, &handshake_with(line));
        assert!(world.is_open(slot));
    }
    assert_eq!(connects(&world), ["[192.0.2.7]", "[192.0.2.8]", "[unix:]"]);
    // Who names nobody stands for everybody: no limit of one address holds it.
    for _ in 0..20 {
        let slot = world.connection_of(Address::Unix, Opening::Request);
        world.input(slot, HANDSHAKE);
        assert!(world.is_open(slot));
    }
    // A client that is named is held to them: 192.0.2.7 has connected once, and may twice in a row.
    for is_open in [true, false] {
        let slot = world.connection_of(Address::Unix, Opening::ProxyHeader);
        world.input(slot, &[HEADER, HANDSHAKE].concat());
        assert_eq!(world.is_open(slot), is_open);
    }
}
