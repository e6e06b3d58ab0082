use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;

use evergate_proto::ring::{Errno, Kind, Op, Pool, Ring as _, Socket, Wait};

use super::{LONG, SMALL, deliver, next, op, pair, pattern, receive_all, reset, small, streams, take};
use crate::core::ring::{PoolSize, Uring, UringSize};

#[test]
fn a_receive_that_goes_on_brings_what_comes_later() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let receive = op(Kind::Receive, 3);
    ring.receive(receive, socket, Pool::Light, true);
    for word in ["one", "two", "three"] {
        peer.write_all(word.as_bytes()).unwrap();
        let mut completion = next(&mut ring);
        assert!(completion.op == receive && completion.more);
        assert_eq!(completion.result, Ok(word.len() as u32));
        assert_eq!(take(&mut ring, &mut completion), word.as_bytes());
    }
}

#[test]
fn a_single_receive_brings_one_buffer_of_either_pool() {
    for (pool, bytes) in [(Pool::Light, 64), (Pool::Heavy, 1_024)] {
        let (mut ring, (ours, mut peer)) = (small(), streams());
        let sent = pattern(3_000);
        deliver(&mut peer, &ours, &sent);
        ring.receive(op(Kind::Receive, 0), Socket(ours.as_raw_fd()), pool, false);
        let mut completion = next(&mut ring);
        assert!(!completion.more);
        assert_eq!(completion.lent.as_ref().unwrap().pool, pool);
        assert_eq!(take(&mut ring, &mut completion), sent[..bytes]);
        ring.enter(Wait::No).unwrap();
        assert!(ring.next().is_none());
    }
}

#[test]
fn a_receive_out_of_buffers_ends_and_goes_on_in_order_when_armed_after_they_were_given_back() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let sent = pattern(1_000);
    peer.write_all(&sent).unwrap();
    let receive = op(Kind::Receive, 0);
    ring.receive(receive, socket, Pool::Light, true);
    let mut lent = Vec::new();
    let why = loop {
        let completion = next(&mut ring);
        match completion.result {
            Ok(_) => lent.push(completion.lent.unwrap()),
            Err(why) => {
                assert!(!completion.more && completion.lent.is_none());
                break why;
            }
        }
    };
    assert_eq!((why, lent.len()), (Errno::NOBUFS, 4));
    let mut received: Vec<u8> = lent.iter().flat_map(|lent| ring.bytes(lent).to_vec()).collect();
    // Armed while the pool is still empty, it ends at once.
    ring.receive(receive, socket, Pool::Light, true);
    assert_eq!(next(&mut ring).result, Err(Errno::NOBUFS));
    for lent in lent {
        ring.give_back(lent);
    }
    received.extend(receive_all(&mut ring, receive, socket, Pool::Light, sent.len() - received.len()));
    assert_eq!(received, sent);
}

#[test]
fn a_pool_gives_the_kernel_more_where_it_uses_up_what_it_has() {
    let size = UringSize { completions: 2_048, light: PoolSize { buffers: 1_000, bytes: 64 }, ..SMALL };
    let (mut ring, (socket, mut peer)) = (Uring::new(&size).unwrap(), pair());
    let sent = pattern(64 * 1_000);
    peer.write_all(&sent).unwrap();
    let receive = op(Kind::Receive, 0);
    ring.receive(receive, socket, Pool::Light, true);
    let (mut lent, mut starved) = (Vec::new(), 0);
    while lent.len() < 1_000 {
        let completion = next(&mut ring);
        match completion.result {
            Ok(_) => lent.extend(completion.lent),
            Err(why) => {
                assert_eq!(why, Errno::NOBUFS);
                starved += 1;
            }
        }
        if !completion.more {
            ring.receive(receive, socket, Pool::Light, true);
        }
    }
    assert!(starved < 10, "{starved}");
    let received: Vec<u8> = lent.iter().flat_map(|lent| ring.bytes(lent).to_vec()).collect();
    assert_eq!(received, sent);
    for lent in lent {
        ring.give_back(lent);
    }
}

#[test]
fn as_many_receives_as_a_wait_gathers_find_buffers() {
    // More than the kernel is given at first, and no more than there are.
    const CLIENTS: u32 = 180;
    let light = PoolSize { buffers: 192, bytes: 2 * 1_024 };
    let mut ring = Uring::new(&UringSize { light, ..UringSize::default() }).unwrap();
    let mut pairs: Vec<_> = (0..CLIENTS).map(|_| streams()).collect();
    for (place, (ours, _)) in (0..).zip(&pairs) {
        ring.receive(op(Kind::Receive, place), Socket(ours.as_raw_fd()), Pool::Light, true);
    }
    ring.enter(Wait::No).unwrap();
    for (ours, peer) in &mut pairs {
        deliver(peer, ours, b"at once");
    }
    ring.enter(Wait::Gather { least: LONG, completions: CLIENTS, most: LONG * 2 }).unwrap();
    for _ in 0..CLIENTS {
        let mut completion = ring.next().unwrap();
        assert!(completion.more);
        assert_eq!(take(&mut ring, &mut completion), b"at once");
    }
}

#[test]
fn the_peers_end_is_0_behind_its_bytes() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    peer.write_all(b"bye").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut completion = next(&mut ring);
    assert_eq!(take(&mut ring, &mut completion), b"bye");
    let completion = next(&mut ring);
    assert!(completion.result == Ok(0) && !completion.more && completion.lent.is_none());
}

#[test]
fn a_reset_is_an_error_without_a_buffer() {
    let (mut ring, (socket, peer)) = (small(), pair());
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    reset(peer);
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.more), (Err(Errno::CONNRESET), false));
    assert!(completion.lent.is_none());
}

#[test]
fn a_cancelled_receive_takes_nothing_that_comes_later() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    ring.enter(Wait::No).unwrap();
    ring.cancel(op(Kind::Receive, 0));
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.more), (Err(Errno::CANCELED), false));
    peer.write_all(b"later").unwrap();
    assert_eq!(receive_all(&mut ring, op(Kind::Receive, 1), socket, Pool::Light, 5), b"later");
}

#[test]
fn a_receive_that_is_cancelled_when_bytes_have_come_loses_none() {
    let (mut ring, (ours, mut peer)) = (small(), streams());
    let (socket, receive) = (Socket(ours.as_raw_fd()), op(Kind::Receive, 0));
    let (mut before, mut after) = (0, 0);
    for round in 0..40 {
        ring.receive(receive, socket, Pool::Light, round % 2 == 0);
        ring.enter(Wait::No).unwrap();
        deliver(&mut peer, &ours, b"bytes");
        // In every other two rounds the bytes are taken before the kernel hears of the cancel.
        if round % 4 < 2 {
            ring.enter(Wait::Something(super::LONG)).unwrap();
        }
        ring.cancel(receive);
        let mut received = Vec::new();
        loop {
            let mut completion = next(&mut ring);
            assert_eq!(completion.op, receive);
            if completion.lent.is_some() {
                received.extend(take(&mut ring, &mut completion));
            } else {
                assert_eq!(completion.result, Err(Errno::CANCELED));
            }
            if !completion.more {
                break;
            }
        }
        if received.is_empty() {
            after += 1;
            received = receive_all(&mut ring, op(Kind::Receive, 1), socket, Pool::Light, 5);
            ring.cancel(op(Kind::Receive, 1));
            assert_eq!(next(&mut ring).result, Err(Errno::CANCELED));
        } else {
            before += 1;
        }
        assert_eq!(received, b"bytes");
    }
    assert!(before >= 20, "bytes before the cancel: {before}, behind it: {after}");
}

#[test]
fn what_is_received_into_a_buffer_stands_behind_what_was_there() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let receive = op(Kind::LinkReceive, 0);
    let mut buffer = Vec::with_capacity(100);
    buffer.extend(b"old");
    let start = buffer.as_ptr();
    ring.receive_into(receive, socket, buffer, 0);
    peer.write_all(b"new").unwrap();
    let completion = next(&mut ring);
    assert!(completion.op == receive && completion.result == Ok(3) && !completion.more);
    let buffer = completion.buffer.unwrap();
    assert_eq!((buffer.as_slice(), buffer.as_ptr()), (b"oldnew".as_slice(), start));
    // The peer's end leaves it as it was.
    drop(peer);
    ring.receive_into(receive, socket, buffer, 0);
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.buffer.unwrap().as_slice()), (Ok(0), b"oldnew".as_slice()));
}

#[test]
fn a_cancelled_receive_into_a_buffer_gives_it_back_as_it_was() {
    let (mut ring, (socket, _peer)) = (small(), pair());
    let receive = op(Kind::LinkReceive, 0);
    let mut buffer = Vec::with_capacity(100);
    buffer.extend(b"old");
    ring.receive_into(receive, socket, buffer, 0);
    ring.cancel(receive);
    let completion = next(&mut ring);
    assert_eq!(completion.result, Err(Errno::CANCELED));
    assert_eq!(completion.buffer.unwrap(), b"old");
}

#[test]
#[should_panic(expected = "no room")]
fn a_full_buffer_is_not_received_into() {
    small().receive_into(op(Kind::LinkReceive, 0), Socket(-1), vec![], 0);
}

#[test]
#[should_panic(expected = "two operations of one name")]
fn two_operations_with_memory_have_two_names() {
    let (mut ring, (socket, _peer)) = (small(), pair());
    ring.receive_into(op(Kind::LinkReceive, 0), socket, Vec::with_capacity(10), 0);
    ring.receive(op(Kind::LinkReceive, 0), socket, Pool::Light, true);
}

#[test]
fn a_completion_names_the_generation_that_asked() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let old = Op::new(Kind::Receive, 77, 0x00ab_cdef);
    let send = Op { kind: Kind::Send, ..old };
    ring.receive(old, socket, Pool::Light, true);
    ring.send(send, socket, b"ask".to_vec(), 0..3, false);
    assert_eq!(next(&mut ring).op, send);
    peer.write_all(b"answer").unwrap();
    let mut completion = next(&mut ring);
    assert_eq!(completion.op, old);
    take(&mut ring, &mut completion);
    // A cancel for the next one in the place is not for this one.
    ring.cancel(Op::new(Kind::Receive, 77, 0x00ab_cdf0));
    peer.write_all(b"again").unwrap();
    let mut completion = next(&mut ring);
    assert!(completion.op == old && completion.more);
    assert_eq!(take(&mut ring, &mut completion), b"again");
}

#[test]
#[should_panic(expected = "is not lent")]
fn a_buffer_that_was_not_lent_cannot_be_read() {
    small().bytes(&evergate_proto::ring::Lent { pool: Pool::Light, id: 0, len: 1 });
}

#[test]
fn a_receive_of_a_whole_waits_for_it_and_takes_no_more() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    let receive = op(Kind::LinkReceive, 0);
    ring.receive_into(receive, socket, Vec::with_capacity(100), 10);
    peer.write_all(b"only a").unwrap();
    ring.enter(Wait::Something(LONG / 100)).unwrap();
    assert!(ring.next().is_none(), "it is not whole");
    peer.write_all(b" part, and more").unwrap();
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.buffer.as_deref()), (Ok(10), Some(b"only a par".as_slice())));
    // What has come when the peer ends is told.
    ring.receive_into(receive, socket, Vec::with_capacity(100), 50);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(next(&mut ring).buffer.as_deref(), Some(b"t, and more".as_slice()));
}
