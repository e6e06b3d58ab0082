use super::*;

/// Turns, each after a wait that began `ago` before.
fn waits(busy_poll: &BusyPoll, count: u32, ago: Duration) {
    for _ in 0..count {
        busy_poll.idle_since.set(Instant::now().checked_sub(ago));
        busy_poll.begin_turn();
        busy_poll.end_turn(PENDING_MAX);
    }
}

const LONG: Duration = Duration::from_secs(1);

#[test]
fn many_short_waits_in_a_row_with_little_in_flight_pay() {
    // So long that no hiccup of the machine makes a short wait a long one.
    let busy_poll = BusyPoll::new(Duration::from_secs(1_000));
    waits(&busy_poll, SHORT_WAITS - 1, LONG);
    assert!(!busy_poll.pays());
    waits(&busy_poll, 1, LONG);
    assert!(busy_poll.pays());
    busy_poll.end_turn(PENDING_MAX + 1);
    assert!(!busy_poll.pays(), "the core has become busy");
}

#[test]
fn one_long_wait_ends_it() {
    let busy_poll = BusyPoll::new(Duration::from_millis(1));
    busy_poll.short_waits.set(SHORT_WAITS);
    waits(&busy_poll, 1, LONG);
    assert!(!busy_poll.pays());
}

#[test]
fn turns_without_a_wait_between_them_count_for_nothing() {
    let busy_poll = BusyPoll::new(LONG);
    busy_poll.short_waits.set(SHORT_WAITS - 1);
    busy_poll.begin_turn();
    assert!(!busy_poll.pays());
}

#[test]
fn looking_in_vain_ends_it_and_finding_something_does_not() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    crate::core::ring::build().unwrap().block_on(async {
        let pops = Stream::connect(address).await.unwrap();
        let (mut redis, _) = listener.accept().unwrap();
        let clients = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy_poll = BusyPoll::new(Duration::from_millis(1));
        busy_poll.short_waits.set(SHORT_WAITS);
        busy_poll.look(&clients, &pops);
        assert!(!busy_poll.pays(), "in vain");

        busy_poll.short_waits.set(SHORT_WAITS);
        std::io::Write::write_all(&mut redis, b"+OK\r\n").unwrap();
        pops.readable().await.unwrap();
        busy_poll.look(&clients, &pops);
        assert!(busy_poll.pays(), "a reply");

        let other = Stream::connect(address).await.unwrap();
        clients.send_to(b"x", clients.local_addr().unwrap()).unwrap();
        busy_poll.look(&clients, &other);
        assert!(busy_poll.pays(), "a request");
    });
}
