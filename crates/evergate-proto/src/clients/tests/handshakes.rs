//! Handshakes as the clients of a core have them: where there is no place, where a balancer asks, where a header is long.

use super::*;

const PROBE: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

fn with_health_path() -> World {
    World::with(|limits| limits.policy.health_path = Some("/health".into()))
}

#[test]
fn a_connection_without_a_place_is_refused_at_once_and_counted() {
    let mut world = World::new();
    let slot = world.connection();
    world.clients.no_place(slot);
    world.settle();
    assert!(world.received[&slot].starts_with(b"HTTP/1.1 503 "));
    assert_eq!((world.counts().handshakes_refused.load(Relaxed), &*world.half_closed), (1, &[slot][..]));
}

#[test]
fn where_balancers_probe_a_connection_without_a_place_is_refused_when_it_turns_out_to_be_a_client() {
    let mut world = with_health_path();
    let (client, probe) = (world.connection(), world.connection());
    for slot in [client, probe] {
        world.clients.no_place(slot);
    }
    world.settle();
    assert!(world.half_closed.is_empty());
    world.input(client, HANDSHAKE);
    assert!(world.received[&client].starts_with(b"HTTP/1.1 503 ") && !world.is_open(client));
    world.input(probe, PROBE);
    assert_eq!(world.probes, [(probe, false)]);
}

#[test]
fn a_probe_is_handed_to_the_shell_and_its_answer_ends_the_connection_without_a_word_in_the_logs() {
    let mut world = with_health_path();
    let slot = world.connection();
    world.input(slot, &PROBE[..20]);
    assert!(world.probes.is_empty());
    world.input(slot, &PROBE[20..]);
    assert_eq!(std::mem::take(&mut world.probes), [(slot, false)]);
    let said = (world.log.len(), world.activity.clone());
    world.clients.answer(slot, b"HTTP/1.1 200 OK\r\n\r\n");
    world.settle();
    assert!(world.received[&slot].starts_with(b"HTTP/1.1 200 "));
    assert_eq!((world.half_closed.as_slice(), world.counts().handshakes_refused.load(Relaxed)), (&[slot][..], 0));
    world.hang_up(slot);
    assert_eq!((world.log.len(), world.activity.clone()), said);
    world.check_gauges();
}

#[test]
fn every_connection_counts_until_its_socket_is_given_back() {
    let mut world = World::new();
    let connections = |world: &World| world.counts().connections.load(Relaxed);
    let (client, _handshaking) = (world.client(), world.connection());
    assert_eq!(connections(&world), 2);
    world.clients.stop(1001, false);
    world.settle();
    assert_eq!((world.counts().open.load(Relaxed), connections(&world)), (0, 2), "closing ones, too");
    world.hang_up(client);
    assert_eq!(connections(&world), 1);
}

#[test]
fn a_header_beyond_the_limit_is_counted_and_one_within_it_may_come_byte_by_byte() {
    let mut world = World::with(|limits| limits.policy.header_bytes_max = 1_024);
    let long = [&HANDSHAKE[..HANDSHAKE.len() - 2], b"Cookie: ", &[b'x'; 1_024], b"\r\n\r\n"].concat();
    for pieces in [1, 7, 4_096] {
        let slot = world.connection();
        for piece in long.chunks(pieces) {
            world.input(slot, piece);
        }
        assert!(world.received[&slot].starts_with(b"HTTP/1.1 431 "), "{pieces}");
    }
    assert_eq!(world.hits(Limit::header_bytes_max), 3);
    let slot = world.connection();
    for byte in HANDSHAKE {
        world.input(slot, &[*byte]);
    }
    assert!(world.is_open(slot));
}

/// What a new connection is answered whose bytes come in pieces of so many.
fn answered(world: &mut World, bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
    let slot = world.connection();
    let mut rest = bytes;
    for &piece in pieces {
        let (piece, behind) = rest.split_at(piece.min(rest.len()));
        world.input(slot, piece);
        rest = behind;
    }
    world.input(slot, rest);
    world.received.get(&slot).cloned().unwrap_or_default()
}

#[test]
fn a_connection_gets_the_same_answer_wherever_its_header_is_cut() {
    let mut world = World::with(|limits| limits.policy.header_bytes_max = 400);
    let after = |line: &[u8]| [line, &HANDSHAKE[HANDSHAKE.iter().position(|&b| b == b'\n').unwrap() - 1..]].concat();
    for bytes in [
        HANDSHAKE.to_vec(),
        after(b"GET / HTTP/2.0"),
        after(b"GET / HTTX/1.1"),
        after(b"GET / HTTX/1.1 HTTP/1.1"),
        after(b"GET / HTTP/1.0"),
        after(b"POST / HTTP/1.1"),
        b"GET /\x01 HTTP/1.1".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        [b"GET /", &[b'x'; 500][..]].concat(),
    ] {
        let whole = answered(&mut world, &bytes, &[]);
        for cut in 1..bytes.len() {
            let pieces = answered(&mut world, &bytes, &[cut]);
            assert_eq!(pieces, whole, "cut at {cut}: {:?}", String::from_utf8_lossy(&bytes));
        }
        let single = answered(&mut world, &bytes, &vec![1; bytes.len()]);
        assert_eq!(single, whole, "byte by byte: {:?}", String::from_utf8_lossy(&bytes));
    }
}
