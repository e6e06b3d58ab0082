use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// Turns of `messages`, each after a wait that began `ago` before; then what is done before the next.
fn turns(waits: &Waits, count: u32, ago: Duration, messages: usize, pending: u64) -> Before {
    let mut before = Before::Nothing;
    for _ in 0..count {
        waits.idle_since.set(Instant::now().checked_sub(ago));
        waits.begin_turn();
        waits.end_turn(messages);
        let notified = pin!(waits.turn.notified()).poll(&mut Context::from_waker(Waker::noop()));
        before = if notified == Poll::Ready(()) && waits.is_wait_special.take() {
            waits.before(pending)
        } else {
            Before::Nothing
        };
    }
    before
}

const LONG: Duration = Duration::from_secs(1);

/// So patient that no hiccup of the machine makes a short wait a long one.
fn patient() -> Waits {
    Waits::new(Duration::from_secs(1_000))
}

#[test]
fn a_core_looks_when_that_would_have_paid_and_little_is_in_flight() {
    let waits = patient();
    assert_eq!(waits.before(FEW_PENDING), Before::Nothing, "nothing is known");
    assert_eq!(turns(&waits, 1, LONG, 1, FEW_PENDING), Before::Look);
    assert_eq!(turns(&waits, 1, LONG, 1, FEW_PENDING + 1), Before::Nothing);
}

#[test]
fn a_core_lets_messages_gather_when_many_are_in_flight_and_few_come_at_once() {
    let waits = patient();
    turns(&waits, SHORT_WAITS, LONG, 1, MANY_PENDING);
    assert_eq!(turns(&waits, 1, LONG, FEW_MESSAGES - 1, MANY_PENDING), Before::Gather);
    assert_eq!(turns(&waits, 1, LONG, FEW_MESSAGES, MANY_PENDING), Before::Nothing);
    assert_eq!(turns(&waits, 1, LONG, 1, MANY_PENDING - 1), Before::Nothing);
}

#[test]
fn what_came_in_several_turns_without_a_wait_came_at_once() {
    let waits = patient();
    waits.short_in_a_row.set(SHORT_WAITS);
    waits.end_turn(FEW_MESSAGES / 2);
    waits.end_turn(FEW_MESSAGES / 2);
    assert_eq!(waits.before(MANY_PENDING), Before::Nothing);
    waits.end_turn(FEW_MESSAGES / 2);
    assert_eq!(waits.before(MANY_PENDING), Before::Gather);
}

#[test]
fn one_long_wait_begins_the_count_anew() {
    let waits = Waits::new(Duration::from_millis(1));
    waits.short_in_a_row.set(SHORT_WAITS);
    assert_eq!(turns(&waits, 1, LONG, 1, 1), Before::Rest);
    assert_eq!(waits.short_in_a_row.get(), 0);
}

#[test]
fn with_no_time_to_look_it_never_looks_and_lets_messages_gather_still() {
    let waits = Waits::new(Duration::ZERO);
    waits.short_in_a_row.set(SHORT_WAITS);
    assert_eq!((waits.before(1), waits.before(MANY_PENDING)), (Before::Nothing, Before::Gather));
}

#[test]
fn looking_ends_when_something_comes_or_with_its_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    crate::core::monoio_ring::build().unwrap().block_on(async {
        let pops = Rc::new(Stream::connect(address).await.unwrap());
        let (mut redis, _) = listener.accept().unwrap();
        let clients = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let waits = patient();
        waits.set_pops(Some(Rc::clone(&pops)));
        let learn = |waited| waits.looking.borrow_mut().waited(waited);
        learn(LONG);
        let most = waits.looking.borrow().next();
        assert!(waits.look(&clients) >= most, "in vain");

        // So long that only what comes ends it.
        (0..40).for_each(|_| learn(LONG * 900));
        std::io::Write::write_all(&mut redis, b"+OK\r\n").unwrap();
        pops.readable().await.unwrap();
        assert!(waits.look(&clients) < LONG, "a reply");

        let other = Stream::connect(address).await.unwrap();
        clients.send_to(b"x", clients.local_addr().unwrap()).unwrap();
        waits.set_pops(Some(Rc::new(other)));
        assert!(waits.look(&clients) < LONG, "a request");
    });
}

#[test]
fn a_core_rests_outside_the_ring_after_a_long_wait_and_not_while_messages_come_fast() {
    let waits = Waits::new(Duration::from_millis(1));
    assert_eq!(turns(&waits, 1, LONG, 1, 0), Before::Rest);
    let waits = patient();
    assert_eq!(turns(&waits, 1, LONG, 1, FEW_PENDING + 1), Before::Nothing, "a reply came soon");
    waits.idle_since.set(Instant::now().checked_add(LONG));
    waits.ticked(LONG);
    assert_eq!(waits.before(0), Before::Look, "it came just now");
    waits.idle_since.set(Instant::now().checked_sub(LONG));
    waits.ticked(LONG);
    assert_eq!(waits.before(0), Before::Rest, "nothing came for a while");
}

#[test]
fn a_rest_ends_with_the_next_tick_or_when_a_client_comes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let waits = Waits::new(Duration::ZERO);
    let rested = || {
        let began = Instant::now();
        waits.rest(&[]);
        began.elapsed()
    };
    assert!(rested() < LONG, "there is no tick to wait for");
    waits.set_listener(Some(Rc::new(listener)));
    waits.ticked(Duration::from_millis(20));
    let passed = rested();
    assert!(passed >= Duration::from_millis(15) && passed < LONG, "{passed:?}");
    waits.ticked(LONG * 60);
    let client = std::net::TcpStream::connect(address).unwrap();
    assert!(rested() < LONG * 30);
    drop(client);
}

#[test]
fn what_a_turn_wakes_is_done_before_the_core_looks_for_more() {
    let is_told =
        |waits: &Waits| pin!(waits.turn.notified()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(());
    let waits = patient();
    waits.begin_turn();
    waits.works();
    // Here the writer of what was pushed is woken.
    assert!(!is_told(&waits), "who waits would be before it");
    waits.end_turn(1);
    assert!(is_told(&waits));
    waits.working_since.set(None);
    waits.works();
    assert!(is_told(&waits), "work outside of turns is told of at once");
}
