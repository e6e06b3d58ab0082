//! What the host gives and takes: descriptors, a service manager, a place for the log, variables that others set.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use evergate::config::Descriptors;
use nix::sys::signal::Signal;

use crate::support::client::{Client, connect, envelope, request};
use crate::support::gateway::{Gateway, OTHER_DOMAIN, Setup};
use crate::support::manager::{heard, until_heard};
use crate::support::process::evergate;
use crate::support::raw::Raw;
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::{Folder, PATIENCE, free_port, unique, until};

/// `evergate serve` without a bus, which ends by itself or not at all.
fn serve(flags: &[&str]) -> crate::support::process::Ended {
    let listen = format!("127.0.0.1:{}", free_port());
    let account = ["serve", "--domain", "public.localhost", "--username", "gateway", "--listen", &listen];
    evergate(&[&account[..], flags].concat(), &[("EVERGATE_PASSWD", "x")])
}

/// Descriptors of a gateway that serves nobody but has a link to the other domain on every core.
fn descriptors(flags: &[&str]) -> u64 {
    let site = Site::start(flags);
    let mut clients = Vec::new();
    until("every core has used the other domain", PATIENCE, || {
        // The kernel spreads them over the cores.
        let mut client = site.client();
        client.send(&envelope("opensrf.demo", "t", &[connect(0)]));
        client.until_status(200);
        client.request("opensrf.demo", "t", 1, "opensrf.demo.pid", "[]");
        client.until_status(205);
        clients.push(client);
        let status = site.gateway.status();
        let mut cores = status["cores"].as_array().expect("cores").iter();
        cores.all(|core| {
            let mut links = core["bus"].as_array().expect("links").iter();
            links.any(|link| link["domain"] == OTHER_DOMAIN && link["state"] == "up")
        })
    });
    drop(clients);
    // Connections to the admin page end a moment after their answers.
    let pid = site.gateway.pid();
    let mut least = u64::MAX;
    let end = Instant::now() + Duration::from_secs(3);
    site.gateway.until_count("open", 0);
    while Instant::now() < end {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process").count() as u64;
        least = least.min(open);
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}

#[test]
fn the_descriptors_that_are_counted_with_are_those_that_a_process_has() {
    let needs =
        |cores| Descriptors { cores, listeners: 1, domains: 2, admin: true, control: true, demo: false }.lasting();
    let one = descriptors(&["--cores", "0"]);
    // The log goes to stderr, so that its two are not there; what the test's own parent left open may be.
    assert!((needs(1) - 2..needs(1) + 6).contains(&one), "{one} are open, {} counted", needs(1));
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let two = descriptors(&["--cores", "0-1"]);
        assert_eq!(two - one, needs(2) - needs(1), "of the second core");
    }
}

#[test]
fn the_demo_has_no_more_descriptors_than_are_counted_with() {
    let gateway = Gateway::demo(&["--cores", "0"]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.send(&envelope("opensrf.demo", "s", &[connect(0)]));
        client.until_status(200);
        client.send(&envelope("opensrf.math", "t", &[request(0, "add", "[1,2]")]));
        client.until_status(205);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("the process").count() as u64;
    let counted = Descriptors { cores: 1, listeners: 1, domains: 1, admin: true, control: false, demo: true }.lasting();
    assert!(open - 20 <= counted, "{} are open, {counted} counted", open - 20);
}

#[test]
fn more_clients_than_descriptors_are_refused_at_the_start_with_a_remedy() {
    let ended = serve(&["--clients-max", "10000000"]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    for part in ["clients_max", "10000000", "LimitNOFILE", "auto"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_rush_of_clients_without_a_place_is_refused_and_takes_no_descriptor_that_is_kept_aside() {
    let gateway = Gateway::demo(&["--clients-max", "1", "--cores", "0"]);
    let _first = Client::connect(&gateway);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("the process").count() as u64;
    let before = open();
    // They do not end when they are told, so that each keeps its socket for close_timeout_seconds.
    let mut rush: Vec<Raw> = (0..300).map(|_| Raw::connect(gateway.address())).collect();
    let mut most = 0;
    until("the rush shows", PATIENCE, || {
        most = open().max(most);
        most >= before + 32
    });
    for raw in &mut rush {
        assert!(raw.read_header().starts_with("HTTP/1.1 503 "));
        most = open().max(most);
    }
    assert!(most <= before + 32 + 2, "{before}, then {most}");
}

#[test]
fn a_service_manager_behind_an_abstract_socket_hears_of_start_drain_and_stop() {
    let name = format!("evergate-test-{}-{}", std::process::id(), unique());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut gateway = Setup::demo().environment("NOTIFY_SOCKET", &format!("@{name}")).start();
    let ready = until_heard(&manager, "READY=1");
    assert!(ready.contains("READY=1\n") && ready.contains(&format!("MAINPID={}", gateway.pid())), "{ready}");
    let _client = Client::connect(&gateway);
    while !heard(&manager).starts_with("STATUS=serving 1 client, 0 requests in flight") {}
    gateway.signal(Signal::SIGHUP);
    let reloading = until_heard(&manager, "RELOADING=1");
    let monotonic = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|usec| usec.parse::<u64>().ok());
    assert!(monotonic > Some(0), "{reloading}");
    until_heard(&manager, "READY=1");
    gateway.signal(Signal::SIGUSR1);
    let draining = until_heard(&manager, "STATUS=draining");
    assert!(draining.contains("1 client open (0 sending") && draining.ends_with(" s left"), "{draining}");
    gateway.signal(Signal::SIGTERM);
    while !heard(&manager).contains("STOPPING=1") {}
    gateway.wait_exit(PATIENCE);
}

#[test]
fn a_watchdog_hears_of_a_process_whose_cores_turn() {
    let folder = Folder::new();
    let socket = folder.path().join("manager");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let socket = socket.display().to_string();
    let gateway = Setup::demo().environment("NOTIFY_SOCKET", &socket).environment("WATCHDOG_USEC", "400000").start();
    (0..5).for_each(|_| drop(until_heard(&manager, "WATCHDOG=1")));
    // What is stopped feeds nobody.
    gateway.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    manager.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    while manager.recv(&mut [0; 4_096]).is_ok() {}
    assert!(manager.recv(&mut [0; 4_096]).is_err());
    gateway.signal(Signal::SIGCONT);
    until_heard(&manager, "WATCHDOG=1");
}

#[test]
fn a_service_manager_that_does_not_listen_is_said_once_and_hinders_nothing() {
    let folder = Folder::new();
    let socket = folder.path().join("nobody").display().to_string();
    let mut gateway = Setup::demo().environment("NOTIFY_SOCKET", &socket).start();
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert_eq!(gateway.log().matches(&socket).count(), 1, "{}", gateway.log());
}

#[test]
fn a_log_file_that_cannot_be_opened_ends_serve_with_1_and_a_remedy() {
    let ended = serve(&["--logfile", "/nowhere/at/all.log"]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    let said = &ended.stderr;
    assert!(said.contains("/nowhere/at/all.log") && said.contains("make its directory"), "{said}");
}

#[test]
fn a_syslog_that_is_away_is_said_once_for_both_logs() {
    if std::path::Path::new("/dev/log").exists() {
        return;
    }
    let gateway = Setup::demo().flags(&["--logfile", "syslog"]).start();
    gateway.until_logged("serves ws://");
    let log = gateway.log();
    assert_eq!(log.matches("syslog cannot be reached").count(), 1, "{log}");
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_this_name_are_ignored_with_a_warning() {
    let redis = Redis::start();
    let gateway = Setup::serve(&redis)
        .environment("EVERGATE_PORT", "tcp://10.0.0.1:7682")
        .environment("EVERGATE_SERVICE_HOST", "10.0.0.1")
        .environment("EVERGATE_SERVICE_PORT_WS", "7682")
        .environment("EVERGATE_PORT_7682_TCP_ADDR", "10.0.0.1")
        .environment("EVERGATE_ADMIN_PORT", "tcp://10.0.0.2:7683")
        .start();
    let warning = gateway.until_logged("Kubernetes");
    assert!(warning.contains("WARN") && warning.contains("EVERGATE_PORT,"), "{warning}");
}
