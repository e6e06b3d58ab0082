//! The ring on real sockets: each case that the trait's documentation tells of.
//!
//! Every wait is for a completion, and bounded; what has to have reached a socket first is waited for with poll(2).

mod accept;
mod connect;
mod end;
mod overflow;
mod receive;
mod send;
mod wait;
mod wake;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _};
use std::time::{Duration, Instant};

use evergate_proto::ring::{Completion, Errno, Kind, Op, Pool, Ring as _, Socket, Wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

use super::pool::PoolSize;
use super::uring::{Uring, UringSize};

/// The longest that anything may take.
const LONG: Duration = Duration::from_secs(20);
/// Of a ring that is soon full, and whose buffers run out.
const SMALL: UringSize = UringSize {
    submissions: 8,
    completions: 16,
    light: PoolSize { buffers: 4, bytes: 64 },
    heavy: PoolSize { buffers: 2, bytes: 1_024 },
};

fn small() -> Uring {
    Uring::new(&SMALL).unwrap()
}

fn op(kind: Kind, place: u32) -> Op {
    Op::new(kind, place, 1)
}

/// A listener, as the ring knows it; whoever holds the other keeps it open.
fn listener() -> (Socket, TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Socket(listener.as_raw_fd()), listener, address)
}

/// A connection: our end, which is the ring's to close, and the peer's.
fn pair() -> (Socket, TcpStream) {
    let (ours, peer) = streams();
    (Socket(ours.into_raw_fd()), peer)
}

fn streams() -> (TcpStream, TcpStream) {
    let (_, listener, address) = listener();
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    (listener.accept().unwrap().0, peer)
}

/// The next completion.
fn next(ring: &mut Uring) -> Completion {
    let end = Instant::now() + LONG;
    loop {
        if let Some(completion) = ring.next() {
            return completion;
        }
        assert!(Instant::now() < end, "nothing has completed");
        ring.enter(Wait::Something(LONG)).unwrap();
    }
}

/// Bytes that a receive has brought; their buffer is given back.
fn take(ring: &mut Uring, completion: &mut Completion) -> Vec<u8> {
    let lent = completion.lent.take().expect("a buffer");
    let bytes = ring.bytes(&lent).to_vec();
    ring.give_back(lent);
    bytes
}

/// Receives from `pool` until `bytes` have come, however often it has to be armed.
fn receive_all(ring: &mut Uring, op: Op, socket: Socket, pool: Pool, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    ring.receive(op, socket, pool, true);
    while all.len() < bytes {
        let mut completion = next(ring);
        assert_eq!(completion.op, op);
        match completion.result {
            Ok(0) => panic!("the end after {} bytes", all.len()),
            Ok(_) => all.extend(take(ring, &mut completion)),
            Err(why) => assert_eq!(why, Errno::NOBUFS),
        }
        if !completion.more {
            ring.receive(op, socket, pool, true);
        }
    }
    all
}

/// Bytes of which none is as the one before it.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

/// Writes to `peer`, and waits until it can be read at `stream`.
fn deliver(peer: &mut TcpStream, stream: &TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
    wait_for(stream, PollFlags::POLLIN);
}

fn wait_for(stream: &TcpStream, events: PollFlags) {
    let mut polled = [PollFd::new(stream.as_fd(), events)];
    assert_eq!(poll(&mut polled, PollTimeout::try_from(LONG).unwrap()), Ok(1));
}

/// Ends a connection so that its peer hears of a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}
