use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use evergate_proto::ring::{Errno, Kind, Op, Ring as _, Wait};

use super::{next, small};

#[test]
fn another_thread_ends_the_wait() {
    let mut ring = small();
    let waker = ring.waker();
    let woken = thread::spawn(move || waker.wake());
    let completion = next(&mut ring);
    assert!(completion.op.kind == Kind::Wake && completion.result.is_ok() && completion.more);
    assert!(completion.buffer.is_none());
    woken.join().unwrap();
}

#[test]
fn no_wake_is_lost_though_several_may_be_one() {
    const THREADS: u32 = 4;
    const WAKES: u32 = 2_000;
    let mut ring = small();
    let said = Arc::new(AtomicU32::new(0));
    let wakers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (waker, said) = (ring.waker(), Arc::clone(&said));
            thread::spawn(move || {
                for _ in 0..WAKES {
                    said.fetch_add(1, SeqCst);
                    waker.wake();
                }
            })
        })
        .collect();
    let mut completions = 0;
    // Whatever is said before the last wake is heard with it or before it.
    while said.load(SeqCst) < THREADS * WAKES {
        assert_eq!(next(&mut ring).op.kind, Kind::Wake);
        completions += 1;
    }
    for waker in wakers {
        waker.join().unwrap();
    }
    assert!(completions <= THREADS * WAKES);
    // And it still wakes.
    ring.enter(Wait::No).unwrap();
    while ring.next().is_some() {}
    ring.waker().wake();
    assert!(next(&mut ring).more);
}

#[test]
fn wakes_before_the_wait_are_one() {
    let mut ring = small();
    (0..10).for_each(|_| ring.waker().wake());
    assert_eq!(next(&mut ring).op.kind, Kind::Wake);
    ring.enter(Wait::No).unwrap();
    assert!(ring.next().is_none());
}

#[test]
fn a_waker_outlives_its_ring() {
    let ring = small();
    let waker = ring.waker();
    drop(ring);
    waker.wake();
}

#[test]
fn a_wake_up_that_cannot_go_on_says_so() {
    let mut ring = small();
    ring.cancel(Op::new(Kind::Wake, 0, 0));
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.more), (Err(Errno::CANCELED), false));
}
