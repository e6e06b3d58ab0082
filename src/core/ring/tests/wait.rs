use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::ring::{Kind, Pool, Ring as _, Wait};

use super::{LONG, op, pair, small};
use crate::core::ring::Uring;

const SHORT: Duration = Duration::from_millis(30);
const LONGER: Duration = Duration::from_millis(90);

/// How long `wait` took, and how many completions came of it.
fn enter(ring: &mut Uring, wait: Wait) -> (Duration, usize) {
    let begin = Instant::now();
    ring.enter(wait).unwrap();
    let took = begin.elapsed();
    (took, std::iter::from_fn(|| ring.next()).count())
}

/// This kernel's ring, and one as on a kernel without what came after 6.1.
fn rings() -> [Uring; 2] {
    let mut old = small();
    old.features.min_wait = false;
    [small(), old]
}

#[test]
fn no_wait_is_none() {
    let (took, completions) = enter(&mut small(), Wait::No);
    assert!(took < LONG && completions == 0);
}

#[test]
fn a_wait_for_something_ends_when_its_time_is_over() {
    let (took, completions) = enter(&mut small(), Wait::Something(SHORT));
    assert!(took >= SHORT && completions == 0, "{took:?}");
}

#[test]
fn a_wait_for_something_ends_with_it() {
    let (mut ring, (socket, mut peer)) = (small(), pair());
    ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
    let writer = thread::spawn(move || peer.write_all(b"something").map(|()| peer));
    let (took, completions) = enter(&mut ring, Wait::Something(LONG));
    assert!(took < LONG && completions == 1);
    writer.join().unwrap().unwrap();
}

#[test]
fn what_was_not_taken_ends_the_next_wait() {
    let (mut ring, (socket, _peer)) = (small(), pair());
    ring.send(op(Kind::Send, 0), socket, vec![1], 0..1, false);
    ring.enter(Wait::Something(LONG)).unwrap();
    let (took, completions) = enter(&mut ring, Wait::Something(LONG));
    assert!(took < LONG && completions == 1);
}

#[test]
fn gathering_ends_with_as_many_as_were_asked_for() {
    for mut ring in rings() {
        let (socket, _peer) = pair();
        (0..3).for_each(|place| ring.send(op(Kind::Send, place), socket, vec![1], 0..1, false));
        let (took, completions) = enter(&mut ring, Wait::Gather { least: LONG, completions: 3, most: LONG * 2 });
        assert!(took < LONG && completions == 3, "{took:?} {completions}");
    }
}

#[test]
fn gathering_takes_what_has_come_when_the_least_time_is_over() {
    for mut ring in rings() {
        let (socket, _peer) = pair();
        ring.send(op(Kind::Send, 0), socket, vec![1], 0..1, false);
        let (took, completions) = enter(&mut ring, Wait::Gather { least: SHORT, completions: 3, most: LONG });
        assert!((SHORT..LONG).contains(&took) && completions == 1, "{took:?} {completions}");
    }
}

#[test]
fn gathering_goes_on_for_something_when_nothing_has_come_in_the_least_time() {
    for mut ring in rings() {
        let wait = Wait::Gather { least: SHORT, completions: 3, most: LONGER };
        let (took, completions) = enter(&mut ring, wait);
        assert!(took >= LONGER && completions == 0, "{took:?}");
        let (socket, mut peer) = pair();
        ring.receive(op(Kind::Receive, 0), socket, Pool::Light, true);
        ring.enter(Wait::No).unwrap();
        let begin = Instant::now();
        let writer = thread::spawn(move || {
            while begin.elapsed() < SHORT * 2 {
                thread::yield_now();
            }
            peer.write_all(b"late").map(|()| peer)
        });
        let (took, completions) = enter(&mut ring, Wait::Gather { least: SHORT, completions: 3, most: LONG });
        assert!((SHORT..LONG).contains(&took) && completions == 1, "{took:?} {completions}");
        writer.join().unwrap().unwrap();
    }
}

#[test]
fn gathering_for_no_time_waits_for_something() {
    for mut ring in rings() {
        let (socket, _peer) = pair();
        ring.send(op(Kind::Send, 0), socket, vec![1], 0..1, false);
        let wait = Wait::Gather { least: Duration::ZERO, completions: 3, most: LONG };
        let (took, completions) = enter(&mut ring, wait);
        assert!(took < LONG && completions == 1, "{took:?} {completions}");
    }
}

#[test]
fn a_ring_says_what_it_is() {
    let said = small().describe();
    assert!(said.contains("8 submissions, 16 completions") && !said.contains('\n'), "{said}");
}
