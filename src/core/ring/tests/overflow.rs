use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use evergate_proto::ring::{Errno, Kind, Pool, Ring as _, Socket, Wait};

use super::{LONG, SMALL, next, op, pair, small, streams, take};
use crate::core::ring::{PoolSize, Uring, UringSize};

#[test]
fn a_full_submission_queue_loses_nothing() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    for place in 0..1_000 {
        ring.send(op(Kind::Send, place), socket, place.to_be_bytes().to_vec(), 0..4, false);
    }
    for place in 0..1_000 {
        let completion = next(&mut ring);
        assert_eq!((completion.op.place, completion.result), (place, Ok(4)));
        assert_eq!(completion.buffer.unwrap(), place.to_be_bytes());
        let mut received = [0; 4];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, place.to_be_bytes());
    }
}

#[test]
fn what_fails_at_once_and_is_started_again_does_not_keep_a_turn_from_its_end() {
    let mut ring = small();
    let receive = |ring: &mut Uring, place| ring.receive(op(Kind::Receive, place), Socket(-1), Pool::Light, true);
    (0..50).for_each(|place| receive(&mut ring, place));
    for _ in 0..10 {
        ring.enter(Wait::Something(LONG)).unwrap();
        let mut turn = 0;
        while let Some(completion) = ring.next() {
            assert_eq!((completion.result, completion.more), (Err(Errno(libc::EBADF)), false));
            receive(&mut ring, completion.op.place);
            turn += 1;
        }
        assert!((1..=50).contains(&turn), "{turn}");
    }
}

#[test]
fn an_overflow_of_the_completion_queue_is_counted_and_loses_nothing() {
    const CLIENTS: u32 = 100;
    let size = UringSize { light: PoolSize { buffers: 512, bytes: 64 }, ..SMALL };
    let mut ring = Uring::new(&size).unwrap();
    let mut pairs: Vec<_> = (0..CLIENTS).map(|_| streams()).collect();
    for (place, (ours, _)) in (0..).zip(&pairs) {
        ring.receive(op(Kind::Receive, place), Socket(ours.as_raw_fd()), Pool::Light, true);
    }
    ring.enter(Wait::No).unwrap();
    let mut received: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for round in 0..20_u8 {
        for (_, peer) in &mut pairs {
            peer.write_all(&[round; 200]).unwrap();
        }
        while received.values().map(Vec::len).sum::<usize>() < (usize::from(round) + 1) * pairs.len() * 200 {
            let mut completion = next(&mut ring);
            match completion.result {
                Ok(_) => {
                    let bytes = take(&mut ring, &mut completion);
                    received.entry(completion.op.place).or_default().extend(bytes);
                }
                Err(why) => assert_eq!(why, Errno::NOBUFS),
            }
            if !completion.more {
                let socket = Socket(pairs[completion.op.place as usize].0.as_raw_fd());
                ring.receive(completion.op, socket, Pool::Light, true);
            }
        }
    }
    let expected: Vec<u8> = (0..20).flat_map(|round| [round; 200]).collect();
    assert!(received.len() == pairs.len() && received.values().all(|bytes| *bytes == expected));
    assert!(ring.overflows() > 0);
}
