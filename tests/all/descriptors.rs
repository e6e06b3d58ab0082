//! More clients than there are descriptors for: what is not a client's goes on as if there were none of them.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::rush::{End, Rush};
use crate::support::{PATIENCE, until};

/// What the process may open.
const NOFILE: u32 = 1_000;

/// What of it is left whatever clients do: most of what is kept for the admin page, and for what is open for a moment.
const LEFT: usize = 64;

/// More than what is open besides the clients' connections: rings, listeners, links, logs, and who asks the admin page.
const BESIDES: f64 = 50.0;

/// So many clients at once, as fast as four threads can.
fn rush(gateway: &Gateway, clients: usize) -> (Rush, Duration) {
    let began = Instant::now();
    let mut rush = Rush::default();
    std::thread::scope(|scope| {
        let come = || {
            let mut rush = Rush::default();
            (0..clients / 4).for_each(|_| assert!(rush.come(gateway.address()), "the kernel takes them"));
            rush
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
        for thread in threads {
            rush.append(thread.join().expect("a thread"));
        }
    });
    (rush, began.elapsed())
}

#[test]
fn more_clients_than_descriptors_leave_admin_logs_bus_links_and_everybody_who_is_served_alone() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis).descriptors(NOFILE);
    let log = setup.file("evergate.log", "");
    let gateway = setup.flags(&["--logfile", &log]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (_rush, most, asked) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let (mut asked, mut most) = (0, 0);
            while !over.load(SeqCst) && began.elapsed() < Duration::from_mins(1) {
                assert_eq!(gateway.http("GET", "/healthz").status, 200, "it answers all the time");
                most = gateway.open_descriptors().max(most);
                asked += 1;
            }
            (asked, most)
        });
        let (rush, took) = rush(&gateway, 4_000);
        println!("{:.0} connects/s", rush.len() as f64 / took.as_secs_f64());
        until("no more are let in", PATIENCE, || gateway.limit("clients_max") > 0);

        // Both logs are opened anew, and written.
        let moved = format!("{log}.1");
        std::fs::rename(&log, &moved).expect("rotate");
        gateway.signal(Signal::SIGHUP);
        until("the log is there again", PATIENCE, || std::fs::metadata(&log).is_ok_and(|file| file.len() > 0));

        // The links to the bus come back.
        let links = redis.connections_of("gateway").len();
        redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
        until("every link is back", PATIENCE, || redis.connections_of("gateway").len() == links);
        until("and used", PATIENCE, || gateway.http("GET", "/readyz").body == "serving\n");
        client.request("s", "t", 1, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        client.until_status(205);

        over.store(true, SeqCst);
        let (asked, most) = asked.join().expect("the admin page answers");
        (rush, most, asked)
    });
    assert!(asked >= 10, "asked {asked} times");
    assert!(most + LEFT <= NOFILE as usize, "{most} open: clients take what is kept aside");
    // Whatever is connected is counted: those that were told that there is no place, and those that are being closed.
    let counted = || gateway.metric("evergate_connections");
    until("all are counted", PATIENCE, || (gateway.open_descriptors() as f64) < counted() + BESIDES);
    let complaints = [&log, &format!("{log}.1")].map(|path| std::fs::read_to_string(path).expect("a log"));
    assert!(complaints.iter().all(|log| !log.contains("Too many open files")), "{complaints:?}");
}

/// Everybody was served and closed at a gap, or had been refused before the signal, for there was no place.
fn assert_nobody_lost(ends: &[End]) {
    let count = |end: End| ends.iter().filter(|&&found| found == end).count();
    let (served, refused) = (count(End::Closed(1012)), count(End::Refused(503)));
    println!("{served} served, {refused} refused before the signal");
    assert_eq!(served + refused, ends.len(), "{} were lost: reset, or ended without a word", count(End::Lost));
    assert!(served > NOFILE as usize, "{served} served: those too for whom there was no descriptor at first");
}

#[test]
fn a_drain_takes_and_serves_everybody_who_is_established_though_descriptors_are_short() {
    let redis = Redis::start();
    let mut gateway = Setup::serve(&redis).descriptors(NOFILE).start();
    let (mut rush, _) = rush(&gateway, 1_600);
    until("no more are let in", PATIENCE, || gateway.limit("clients_max") > 0);
    gateway.signal(Signal::SIGUSR1);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let ends = std::thread::scope(|scope| {
        // Whoever comes now is none of theirs, and must not keep the drain from its end.
        scope.spawn(|| {
            while !over.load(SeqCst) && began.elapsed() < Duration::from_mins(1) {
                drop(TcpStream::connect_timeout(&gateway.address(), Duration::from_millis(100)));
            }
        });
        // A signal is handled by a thread that may have to wait for its CPU.
        until("it says that it drains", PATIENCE, || {
            let ready = gateway.http("GET", "/readyz");
            ready.status == 503 && ready.body.contains("draining")
        });
        assert_eq!(gateway.http("GET", "/healthz").status, 200);
        let ends = rush.until_ended(Duration::from_mins(1));
        over.store(true, SeqCst);
        ends
    });
    assert_nobody_lost(&ends);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_successor_beside_one_that_is_out_of_descriptors_takes_over_and_nobody_is_lost() {
    let redis = Redis::start();
    let mut first = Setup::serve(&redis).flags(&["--share-port"]).descriptors(NOFILE).start();
    let (mut rush, _) = rush(&first, 1_600);
    until("no more are let in", PATIENCE, || first.limit("clients_max") > 0);
    let mut successor = Setup::serve(&redis).flags(&["--share-port"]).start_sharing(&first);
    successor.until_ready();
    first.signal(Signal::SIGUSR1);
    assert_nobody_lost(&rush.until_ended(Duration::from_mins(1)));
    assert_eq!(first.wait_exit(PATIENCE), 0);
    let (mut client, mut bus) = (Client::connect(&successor), Responder::new(&redis));
    client.request("s", "t", 1, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
}

#[test]
fn the_table_of_descriptors_is_wide_enough_from_the_start() {
    let gateway = Gateway::demo(&["--clients-max", "5000"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("its status");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse::<usize>().ok());
    // Otherwise the kernel widens it when a client comes that does not fit, and the core waits for that.
    assert!(size.is_some_and(|size| size >= 5_000), "{size:?}");
}
