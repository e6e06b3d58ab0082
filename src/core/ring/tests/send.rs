use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::thread;
use std::time::Instant;

use evergate_proto::ring::{Errno, Kind, Op, Pool, Ring as _, Socket, Wait};
use nix::poll::PollFlags;
use socket2::SockRef;

use super::{LONG, next, op, pair, pattern, reset, small, streams, wait_for};
use crate::core::ring::Uring;

/// More than the buffers of both ends of [`narrow`] take.
const MUCH: usize = 1 << 20;

/// Sends `buffer` whole, and says in how many sends.
fn send_all(ring: &mut Uring, op: Op, socket: Socket, mut buffer: Vec<u8>) -> usize {
    let (mut sent, mut sends) = (0, 0);
    while sent < buffer.len() {
        let end = buffer.len();
        ring.send(op, socket, buffer, sent..end, false);
        let completion = next(ring);
        assert!(completion.op == op && !completion.more);
        sent += completion.result.unwrap() as usize;
        sends += 1;
        buffer = completion.buffer.unwrap();
    }
    sends
}

/// A connection that takes little at a time.
fn narrow() -> (TcpStream, TcpStream) {
    let (ours, peer) = streams();
    SockRef::from(&ours).set_send_buffer_size(16 << 10).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(16 << 10).unwrap();
    (ours, peer)
}

/// Sends until a send waits for the peer; how many bytes went before it.
fn fill(ring: &mut Uring, op: Op, socket: Socket) -> usize {
    let mut sent = 0;
    loop {
        ring.send(op, socket, pattern(MUCH), sent..MUCH, false);
        ring.enter(Wait::No).unwrap();
        let Some(completion) = ring.next() else { return sent };
        sent += completion.result.unwrap() as usize;
        assert!(sent < MUCH);
    }
}

#[test]
fn a_send_brings_its_buffer_back() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let buffer = b"not this, this".to_vec();
    let start = buffer.as_ptr();
    ring.send(op(Kind::Send, 0), socket, buffer, 10..14, false);
    let completion = next(&mut ring);
    assert_eq!(completion.result, Ok(4));
    let buffer = completion.buffer.unwrap();
    assert_eq!((buffer.as_slice(), buffer.as_ptr()), (b"not this, this".as_slice(), start));
    let mut received = [0; 4];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"this");
}

#[test]
fn a_short_send_says_so_and_its_rest_follows() {
    let (mut ring, (ours, mut peer)) = (small(), narrow());
    let socket = Socket(ours.into_raw_fd());
    let sent = pattern(MUCH);
    ring.send(op(Kind::Send, 0), socket, sent.clone(), 0..sent.len(), false);
    let completion = next(&mut ring);
    let first = completion.result.unwrap() as usize;
    assert!(0 < first && first < MUCH, "{first}");
    let reader = thread::spawn(move || {
        let mut received = vec![0; MUCH];
        peer.read_exact(&mut received).unwrap();
        received
    });
    let sends = send_all(&mut ring, op(Kind::Send, 0), socket, completion.buffer.unwrap().split_off(first));
    assert!(sends > 1);
    assert!(reader.join().unwrap() == sent);
    let end = Instant::now() + LONG;
    while ring.unacknowledged(socket) > 0 {
        assert!(Instant::now() < end, "the peer has read all of it");
        thread::yield_now();
    }
}

#[test]
fn a_send_that_waits_completes_when_the_peer_reads() {
    let (mut ring, (ours, mut peer)) = (small(), narrow());
    let socket = Socket(ours.as_raw_fd());
    let sent = fill(&mut ring, op(Kind::Send, 0), socket);
    assert!(ring.unacknowledged(socket) > 0);
    let mut received = vec![0; sent];
    peer.read_exact(&mut received).unwrap();
    let completion = next(&mut ring);
    assert!(completion.result.unwrap() > 0 && completion.buffer.unwrap().len() == MUCH);
}

#[test]
fn a_send_that_waits_gives_its_buffer_back_when_it_is_cancelled() {
    let (mut ring, (ours, _peer)) = (small(), narrow());
    let socket = Socket(ours.as_raw_fd());
    fill(&mut ring, op(Kind::Send, 0), socket);
    ring.cancel(op(Kind::Send, 0));
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.buffer.unwrap().len()), (Err(Errno::CANCELED), MUCH));
}

#[test]
fn a_send_to_a_peer_that_has_reset_fails_without_a_signal() {
    let (mut ring, (ours, peer)) = (small(), streams());
    let socket = Socket(ours.as_raw_fd());
    reset(peer);
    wait_for(&ours, PollFlags::POLLIN);
    for expected in [Errno::CONNRESET, Errno::PIPE] {
        ring.send(op(Kind::Send, 0), socket, b"hello".to_vec(), 0..5, false);
        let completion = next(&mut ring);
        assert_eq!((completion.result, completion.buffer.unwrap().as_slice()), (Err(expected), b"hello".as_slice()));
    }
}

#[test]
#[should_panic(expected = "what is in its buffer")]
fn a_send_is_of_what_is_in_its_buffer() {
    small().send(op(Kind::Send, 0), Socket(-1), vec![1], 0..2, false);
}

#[test]
fn a_quiet_send_ends_no_wait_and_is_told_of_behind_it_before_all_else() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.send(op(Kind::Send, 0), socket, b"ask".to_vec(), 0..3, true);
    let began = Instant::now();
    ring.enter(Wait::Something(LONG / 100)).unwrap();
    assert!(began.elapsed() >= LONG / 100, "nothing came");
    let completion = ring.next().unwrap();
    assert_eq!((completion.op, completion.result, completion.more), (op(Kind::Send, 0), Ok(3), false));
    assert_eq!(completion.buffer.as_deref(), Some(b"ask".as_slice()));
    assert!(ring.next().is_none());
    let mut received = [0; 3];
    peer.read_exact(&mut received).unwrap();

    // Its answer, which comes in the same entry, is behind it.
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    ring.enter(Wait::No).unwrap();
    ring.send(op(Kind::Send, 0), socket, b"ask".to_vec(), 0..3, true);
    std::io::Write::write_all(&mut peer, b"answer").unwrap();
    ring.enter(Wait::Something(LONG)).unwrap();
    let kinds: Vec<Kind> = std::iter::from_fn(|| ring.next()).map(|completion| completion.op.kind).collect();
    assert_eq!(kinds, [Kind::Send, Kind::Receive]);
}

#[test]
fn a_quiet_send_tells_how_much_went_where_the_peer_takes_no_more() {
    let (mut ring, (ours, peer)) = (small(), narrow());
    let socket = Socket(ours.as_raw_fd());
    let (other, _other_peer) = pair();
    ring.send(op(Kind::Send, 0), socket, pattern(MUCH), 0..MUCH, true);
    ring.send(op(Kind::Send, 2), other, b"whole".to_vec(), 0..5, true);
    ring.enter(Wait::No).unwrap();
    let mut told: Vec<_> = std::iter::from_fn(|| ring.next()).collect();
    told.sort_by_key(|completion| completion.op.place);
    let first = told[0].result.unwrap() as usize;
    assert!(0 < first && first < MUCH, "{first}");
    assert_eq!(told[0].buffer.as_ref().map(Vec::len), Some(MUCH));
    assert_eq!((told.len(), told[1].op.place, told[1].result), (2, 2, Ok(5)));
    // Until it takes nothing.
    let mut taken = first;
    let nothing = loop {
        ring.send(op(Kind::Send, 1), socket, pattern(MUCH), taken..MUCH, true);
        ring.enter(Wait::No).unwrap();
        let completion = ring.next().unwrap();
        match completion.result.unwrap() {
            0 => break completion,
            more => taken += more as usize,
        }
    };
    assert_eq!(nothing.buffer.map(|buffer| buffer.len()), Some(MUCH));
    // What it did not take is what the peer does not get.
    drop(ring);
    drop(ours);
    let mut received = Vec::new();
    { peer }.read_to_end(&mut received).unwrap();
    assert_eq!(received, pattern(MUCH)[..taken]);
}

#[test]
fn a_quiet_send_to_whoever_has_gone_fails() {
    let (mut ring, (ours, peer)) = (small(), streams());
    reset(peer);
    wait_for(&ours, PollFlags::POLLHUP);
    let socket = Socket(ours.as_raw_fd());
    ring.send(op(Kind::Send, 0), socket, b"hello".to_vec(), 0..5, true);
    let completion = next(&mut ring);
    assert!(matches!(completion.result, Err(Errno::CONNRESET | Errno::PIPE)), "{completion:?}");
    assert_eq!(completion.buffer.as_deref(), Some(b"hello".as_slice()));
}

#[test]
fn quiet_sends_of_more_than_a_queue_are_all_told_of() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let many = 1_000_u32;
    for place in 0..many {
        ring.send(op(Kind::Send, place), socket, place.to_be_bytes().to_vec(), 0..4, true);
    }
    let mut told = Vec::new();
    while told.len() < many as usize {
        ring.enter(Wait::No).unwrap();
        told.extend(std::iter::from_fn(|| ring.next()).map(|completion| (completion.op.place, completion.result)));
    }
    assert!(told.iter().enumerate().all(|(at, told)| *told == (at as u32, Ok(4))), "{told:?}");
    let mut received = vec![0; many as usize * 4];
    peer.read_exact(&mut received).unwrap();
    assert!(received.chunks(4).enumerate().all(|(at, place)| place == (at as u32).to_be_bytes()));
}
