//! SIGUSR2: a drain that was a mistake is taken back. The port is open again, the node ready, and whoever is left stays.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::activity::relayed_adds;
use crate::support::bus::Responder;
use crate::support::client::{Client, Event, connect, disconnect, envelope};
use crate::support::gateway::Gateway;
use crate::support::process::binary;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, StopsAtEnd, eventually, until};

fn cancel(gateway: &Gateway) {
    gateway.cancel_drain();
    assert_eq!(gateway.status()["phase"], "serving");
}

fn drain(gateway: &Gateway) {
    gateway.signal(Signal::SIGUSR1);
    gateway.until_refused();
}

#[test]
fn who_was_idle_is_gone_who_was_busy_stays_and_newcomers_are_served() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &[]);
    let mut bus = Responder::new(&redis);
    let mut idle = Client::connect(&gateway);
    let (mut busy, mut in_session) = (Client::connect(&gateway), Client::connect(&gateway));
    busy.request("s", "busy", 0, "m", "[]");
    let asked = bus.next();
    in_session.send(&envelope("s", "t", &[connect(0)]));
    bus.accept();
    in_session.until_status(200);
    drain(&gateway);
    assert_eq!(idle.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.http("GET", "/readyz").status, 503);
    cancel(&gateway);
    until("it is ready", PATIENCE, || gateway.http("GET", "/readyz").status == 200);
    assert!(gateway.status()["drain"]["seconds_left"].is_null());

    // Both stay beyond their gap.
    bus.complete(&asked, "\"in time\"");
    busy.until_status(205);
    in_session.send(&envelope("s", "t", &[disconnect(9)]));
    bus.next_own();
    let mut new = Client::connect(&gateway);
    for client in [&mut busy, &mut in_session, &mut new] {
        assert!(matches!(client.event(Duration::from_millis(700)), Event::Silence), "it stays");
        client.request("s", "again", 1, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
    assert_eq!(gateway.count("open"), 3);

    // And the next drain is one. What the first has closed is no part of it.
    let mut asks = binary();
    asks.args(["drain", "--json", "--control"]).arg(gateway.control());
    let asked = asks.output().expect("evergate drain");
    let answer: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(answer["drain"]["closed_before"], 1, "{answer}");
    for client in [&mut busy, &mut in_session, &mut new] {
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    }
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

/// Asks again and again until told to stop, comes back at a 1012, and asks again what that left unanswered. How often it was told, and how often
/// answered.
fn ask_on(address: SocketAddr, number: usize, stop: &AtomicBool) -> [usize; 2] {
    let come = || eventually("it is taken", PATIENCE, || Client::connect_with(address, &[]).ok());
    let (mut client, mut told, mut asked) = (come(), 0, 0);
    while !stop.load(SeqCst) {
        let params = format!("[{number}, {asked}]");
        if let Some(sum) = client.call_unless_restarted("opensrf.math", "t", asked, "add", &params) {
            assert_eq!(sum, [number + asked as usize], "what it asked for");
            asked += 1;
            // Some leave gaps and some do not.
            std::thread::sleep(Duration::from_millis(number as u64 % 4 * 120));
        } else {
            told += 1;
            client = come();
        }
    }
    [told, asked as usize]
}

#[test]
fn drains_are_cancelled_under_load_and_nothing_is_lost_or_done_twice() {
    let gateway = Gateway::demo(&["--drain-quiet-ms", "100", "--drain-closes-per-second", "20"]);
    let (stop, address) = (AtomicBool::new(false), gateway.address());
    let ends: Vec<[usize; 2]> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|number| {
                scope.spawn({
                    let stop = &stop;
                    move || ask_on(address, number, stop)
                })
            })
            .collect();
        let stops = StopsAtEnd(&stop);
        until("all are there", PATIENCE, || gateway.count("open") == 24);
        for _ in 0..4 {
            drain(&gateway);
            // Some are closed, the others stay.
            let gone = gateway.count("closed_at_gap");
            until("some are closed", PATIENCE, || gateway.count("closed_at_gap") >= gone + 4);
            cancel(&gateway);
            until("they are back", PATIENCE, || gateway.count("open") == 24);
        }
        drop(stops);
        clients.into_iter().map(|client| client.join().expect("it gets all that it asks for")).collect()
    });
    let [told, answered] = [0, 1].map(|which| ends.iter().map(|end| end[which]).sum::<usize>());
    assert!(told >= 16, "{told} were told to come again");
    // Each asks for a sum of its own each time, so that each line of the log is there once.
    let carried_out = || relayed_adds(&gateway.log()).len();
    until("all that was answered was carried out, and nothing else", PATIENCE, || carried_out() == answered);
    let log = gateway.log();
    let distinct: HashSet<&str> = relayed_adds(&log).into_iter().collect();
    assert!(distinct.len() == answered && answered > 100, "{} of {answered} were carried out once", distinct.len());
}

#[test]
fn a_drain_is_cancelled_in_its_grace_and_nobody_has_noticed() {
    let mut gateway = Gateway::demo(&["--drain-grace-seconds", "60"]);
    let mut client = Client::connect(&gateway);
    gateway.signal(Signal::SIGUSR1);
    until("it is not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    cancel(&gateway);
    assert_eq!(client.call("opensrf.math", "t", 0, "add", "[1,2]"), [3]);
    Client::connect(&gateway);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0, "a drain that is no more cuts nobody");
}

#[test]
fn a_drain_whose_port_another_has_by_now_goes_on() {
    let mut gateway = Gateway::demo(&[]);
    let mut client = Client::waiting(&gateway, 3.0);
    drain(&gateway);
    let _other = eventually("the port is free", PATIENCE, || std::net::TcpListener::bind(gateway.address()).ok());
    gateway.signal(Signal::SIGUSR2);
    let said = gateway.until_logged("SIGUSR2 changes nothing");
    assert!(said.contains("in use"), "{said}");
    client.until_status(205);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn without_a_drain_there_is_nothing_to_cancel() {
    let gateway = Gateway::demo(&[]);
    gateway.signal(Signal::SIGUSR2);
    gateway.until_logged("no drain is under way");
    Client::connect(&gateway);
}

#[test]
fn a_core_that_is_empty_waits_for_the_others_and_serves_again() {
    let mut gateway = Gateway::demo(&["--cores", "0,1"]);
    // The kernel deals them out.
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(&gateway)).collect();
    let mut last = clients.pop().expect("sixteen");
    last.request("opensrf.demo", "t", 0, "opensrf.demo.sleep", "[3]");
    gateway.until_count("waiting_for_replies", 1);
    drain(&gateway);
    for client in &mut clients {
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    }
    gateway.until_count("open", 1);
    cancel(&gateway);
    // Both cores take connections: of so many each gets some.
    let clients: Vec<Client> = (0..40).map(|_| Client::connect(&gateway)).collect();
    let status = gateway.status();
    let open: Vec<u64> =
        status["cores"].as_array().expect("cores").iter().filter_map(|core| core["open"].as_u64()).collect();
    assert!(open.len() == 2 && open.iter().all(|&open| open > 2), "{open:?}");
    last.until_status(205);
    drop(clients);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}
