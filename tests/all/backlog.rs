//! What waits: its order, and that it costs nothing to wait in a crowd.

use crate::support::bus::Responder;
use crate::support::client::{connect, disconnect, envelope, request};
use crate::support::process::cpu_seconds;
use crate::support::{PATIENCE, trio, until};

/// Answers the next requests, which must be those of the threads `from` to `to`.
fn answer(bus: &mut Responder, from: usize, to: usize) {
    for number in from..to {
        let arrived = bus.next();
        assert_eq!(arrived.client_thread(), format!("t{number}"));
        bus.complete(&arrived, "1");
    }
}

#[test]
fn what_ends_costs_the_same_however_many_threads_wait_and_a_disconnect_among_them() {
    let (_redis, gateway, mut client, mut bus) =
        trio(&["--cores", "0", "--busy-poll-us", "0", "--router-queue-max", "0"]);
    client.send(&envelope("s", "session", &[connect(0)]));
    bus.accept();
    client.until_status(200);
    client.send(&envelope("s", "session", &[request(1, "m", "[]")]));
    let busy = bus.next_own();
    // It waits behind its own thread, in front of 900 others that wait for room.
    client.send(&envelope("s", "session", &[disconnect(2)]));
    for number in 0..1_000 {
        client.send(&envelope("s", &format!("t{number}"), &[request(1, "m", "[]")]));
    }
    // The session's request and 99 more are under way.
    until("all the others wait", PATIENCE, || gateway.limit("parallel_max") >= 901);
    let cpu = || cpu_seconds(gateway.pid());
    let began = cpu();
    answer(&mut bus, 0, 300);
    let crowded = cpu() - began;
    answer(&mut bus, 300, 600);
    let began = cpu();
    answer(&mut bus, 600, 900);
    let alone = cpu() - began;
    answer(&mut bus, 900, 1_000);
    bus.complete(&busy, "1");
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    // The same process, the same work, CPU time and not the clock's: each walked all that waits, and cost five times as much.
    assert!(crowded <= alone.max(0.05) * 2.5, "300 ends cost {crowded} s of CPU among many, {alone} s among few");
}
