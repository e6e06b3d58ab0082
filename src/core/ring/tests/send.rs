use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::thread;
use std::time::Instant;

use evergate_proto::ring::{Errno, Kind, Op, Ring as _, Socket, Wait};
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
        ring.send(op, socket, buffer, sent);
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
        ring.send(op, socket, pattern(MUCH), sent);
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
    ring.send(op(Kind::Send, 0), socket, buffer, 10);
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
    ring.send(op(Kind::Send, 0), socket, sent.clone(), 0);
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
        ring.send(op(Kind::Send, 0), socket, b"hello".to_vec(), 0);
        let completion = next(&mut ring);
        assert_eq!((completion.result, completion.buffer.unwrap().as_slice()), (Err(expected), b"hello".as_slice()));
    }
}

#[test]
#[should_panic(expected = "begins within its buffer")]
fn a_send_begins_within_its_buffer() {
    small().send(op(Kind::Send, 0), Socket(-1), vec![1], 2);
}
