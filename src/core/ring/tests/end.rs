use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use evergate_proto::ring::{Kind, Pool, Ring as _, Socket, Wait};
use nix::poll::PollFlags;
use socket2::SockRef;

use super::{LONG, deliver, listener, next, op, pair, pattern, receive_all, reset, small, streams, wait_for};
use crate::core::ring::sockets;

#[test]
fn bytes_and_a_close_reach_the_peer_in_order() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.send(op(Kind::Send, 0), socket, b"last words".to_vec(), 0..10, false);
    ring.close(socket);
    let completion = next(&mut ring);
    assert_eq!((completion.op, completion.result), (op(Kind::Send, 0), Ok(10)));
    let mut received = String::new();
    peer.read_to_string(&mut received).unwrap();
    assert_eq!(received, "last words");
    assert!(ring.next().is_none(), "it does not tell how it went");
    assert!(nix::sys::socket::getpeername::<()>(socket.0).is_err(), "it is closed");
    assert_eq!(ring.unclosed(), 0);
}

#[test]
fn a_shutdown_is_of_its_socket_whoever_has_the_number_afterwards() {
    for _ in 0..200 {
        let (mut ring, (ours, _peer)) = (small(), pair());
        ring.shutdown(ours, Shutdown::Both);
        ring.close(ours);
        ring.enter(Wait::No).unwrap();
        let (next_one, mut peer) = streams();
        (&next_one).write_all(b"well").unwrap();
        let mut received = [0; 4];
        peer.read_exact(&mut received).unwrap();
        peer.write_all(b"well").unwrap();
        (&next_one).read_exact(&mut received).unwrap();
    }
}

#[test]
fn a_shutdown_sends_our_end_and_leaves_the_peers_words_to_be_received() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.shutdown(socket, Shutdown::Write);
    ring.enter(Wait::No).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    peer.write_all(b"still here").unwrap();
    assert_eq!(receive_all(&mut ring, op(Kind::Receive, 0), socket, Pool::Light, 10), b"still here");
}

#[test]
fn a_shutdown_ends_the_receive_under_way() {
    let (mut ring, (socket, _peer)) = (small(), pair());
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    ring.enter(Wait::No).unwrap();
    ring.shutdown(socket, Shutdown::Both);
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.more), (Ok(0), false));
}

#[test]
fn a_close_of_what_is_not_open_is_counted() {
    let mut ring = small();
    ring.close(Socket(9_999));
    ring.shutdown(Socket(9_999), Shutdown::Both);
    ring.cancel(op(Kind::Send, 5));
    ring.enter(Wait::No).unwrap();
    assert!(ring.next().is_none());
    assert_eq!(ring.unclosed(), 1);
}

#[test]
fn the_end_of_a_peer_that_is_not_read_from_is_seen_and_reads_nothing() {
    for is_reset in [false, true] {
        let (mut ring, (ours, mut peer)) = (small(), streams());
        let socket = Socket(ours.as_raw_fd());
        ring.watch_end(op(Kind::WatchEnd, 0), socket);
        deliver(&mut peer, &ours, b"unread");
        ring.enter(Wait::No).unwrap();
        assert!(ring.next().is_none(), "bytes are not the end");
        if is_reset {
            reset(peer);
        } else {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        let completion = next(&mut ring);
        assert_eq!((completion.op.kind, completion.result, completion.more), (Kind::WatchEnd, Ok(0), false));
        if !is_reset {
            assert_eq!(receive_all(&mut ring, op(Kind::Receive, 0), socket, Pool::Light, 6), b"unread");
        }
    }
}

#[test]
fn a_watch_is_cancelled_like_any_other() {
    let (mut ring, (socket, _peer)) = (small(), pair());
    ring.watch_end(op(Kind::WatchEnd, 0), socket);
    ring.cancel(op(Kind::WatchEnd, 0));
    assert_eq!(next(&mut ring).result, Err(evergate_proto::ring::Errno::CANCELED));
}

#[test]
fn a_ring_that_is_dropped_at_work_takes_no_byte_that_comes_afterwards() {
    let mut ring = small();
    let (light, mut light_peer) = streams();
    let (link, mut link_peer) = streams();
    let (full, _full_peer) = streams();
    let (listener, _listener, _) = listener();
    SockRef::from(&full).set_send_buffer_size(16 << 10).unwrap();
    ring.receive(op(Kind::Receive, 0), Socket(light.as_raw_fd()), Pool::Light, true);
    ring.receive_into(op(Kind::LinkReceive, 0), Socket(link.as_raw_fd()), Vec::with_capacity(1_000), 0);
    ring.accept(op(Kind::Accept, 0), listener, true);
    for place in 0..3 {
        ring.send(op(Kind::Send, place), Socket(full.as_raw_fd()), pattern(4 << 20), 0..4 << 20, false);
    }
    ring.enter(Wait::No).unwrap();
    // One more that the kernel has not seen.
    ring.watch_end(op(Kind::WatchEnd, 0), Socket(light.as_raw_fd()));
    drop(ring);
    for (mut ours, peer) in [(light, &mut light_peer), (link, &mut link_peer)] {
        deliver(peer, &ours, b"for the next");
        let mut received = [0; 12];
        ours.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"for the next");
    }
}

#[test]
fn connections_that_nobody_asked_for_end_with_the_ring() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    ring.accept(op(Kind::Accept, 0), socket, true);
    ring.enter(Wait::No).unwrap();
    let mut clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    ring.enter(Wait::Something(LONG)).unwrap();
    let accepted = next(&mut ring);
    let kept = Socket(accepted.result.unwrap().cast_signed());
    drop(ring);
    sockets::close(kept);
    // Those that were accepted and not asked for were closed; the rest waits at the listener.
    clients[1].set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(clients[1].read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn a_dropped_ring_leaves_neither_descriptor_nor_mapping() {
    let count = |what: &str| std::fs::read_dir(what).unwrap().count();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    drop(small());
    let before = (count("/proc/self/fd"), maps());
    for _ in 0..20 {
        let (ours, _peer) = streams();
        let mut ring = small();
        ring.receive(op(Kind::Receive, 0), Socket(ours.as_raw_fd()), Pool::Light, true);
        ring.receive_into(op(Kind::LinkReceive, 0), Socket(ours.as_raw_fd()), Vec::with_capacity(10), 0);
        ring.enter(Wait::No).unwrap();
    }
    let after = (count("/proc/self/fd"), maps());
    assert_eq!(before.0, after.0);
    assert!(after.1 < before.1 + 10, "{before:?} {after:?}");
}

#[test]
fn a_panic_leaves_the_kernel_what_it_has() {
    let (ours, mut peer) = streams();
    let socket = Socket(ours.try_clone().unwrap().into_raw_fd());
    let panicked = std::thread::spawn(move || {
        let mut ring = small();
        ring.receive_into(op(Kind::LinkReceive, 0), socket, Vec::with_capacity(1_000), 0);
        ring.enter(Wait::No).unwrap();
        panic!("as it should");
    });
    assert!(panicked.join().is_err());
    // The kernel ends what is left of the ring when the thread has gone; whoever reads then gets what comes.
    drop(peer.write_all(b"x"));
    wait_for(&ours, PollFlags::POLLIN);
}
