//! A successor takes the listening sockets over: nobody is refused, nobody is reset, nobody loses a reply; and whatever may go wrong
//! with it, the old process serves on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::{Client, connect, envelope};
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, StopsAtEnd, eventually, free_port, until};

/// A successor of `gateway` that serves.
fn replace(gateway: &Gateway) -> Gateway {
    started(Setup::after(gateway), gateway)
}

fn started(setup: Setup, gateway: &Gateway) -> Gateway {
    let successor = setup.start_after(gateway);
    successor.until_logged("serves ws://");
    successor
}

/// Waits until the name of the control socket is that of `gateway`.
fn until_named(gateway: &Gateway) {
    let pid = gateway.pid().to_string();
    until("it has the name", PATIENCE, || {
        std::fs::read_link(gateway.control()).is_ok_and(|to| to.to_string_lossy().ends_with(&pid))
    });
}

/// A successor that has the sockets of `gateway`, and does not get ready: there is no bus where it looks for it.
fn stuck(gateway: &Gateway, flags: &[&str]) -> Gateway {
    let nowhere = format!("public.localhost=127.0.0.1:{}", free_port());
    let successor = Setup::after(gateway).flags(&["--bus-domain-address", &nowhere]).flags(flags).start_after(gateway);
    successor.until_logged("taking over from process");
    successor
}

/// Who comes, asks once, and goes, one after the other, until told to stop.
struct Comers {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Comers {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), answered: AtomicU64::new(0) }
    }

    /// Comes and goes. A request that a 1012 left unanswered is asked again, once, as a client does.
    fn come(&self, address: SocketAddr) {
        while !self.stop.load(SeqCst) {
            let answer = (0..2).find_map(|_| {
                let mut client = Client::connect_with(address, &[]).expect("nobody is refused, and nobody is reset");
                client.call_unless_restarted("opensrf.math", "t", 1, "add", "[1,2]")
            });
            assert_eq!(answer.expect("a request came to nothing"), [3]);
            self.answered.fetch_add(1, SeqCst);
        }
    }

    fn until_more(&self, requests: u64) {
        let before = self.answered.load(SeqCst);
        until("they are answered", PATIENCE, || self.answered.load(SeqCst) >= before + requests);
    }
}

/// Clients come all the time while `act` does what it does with whoever serves there.
fn under_load(address: SocketAddr, act: impl FnOnce(&Comers)) {
    let comers = Comers::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| comers.come(address));
        }
        let _stop = StopsAtEnd(&comers.stop);
        comers.until_more(20);
        act(&comers);
        comers.until_more(20);
    });
}

fn serve_with_services() -> (Redis, Services, Gateway) {
    let redis = Redis::start();
    let services = Services::start(&redis, &[]);
    let gateway = Gateway::serve(&redis, &[]);
    (redis, services, gateway)
}

#[test]
fn a_successor_takes_over_while_clients_come_and_nobody_is_refused_reset_or_forgotten() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let cores = |setup: Setup, cores| setup.environment("EVERGATE_CORES", cores);
    let mut old = cores(Setup::serve(&redis), "0").start();
    let mut gone = vec![];
    under_load(old.address(), |comers| {
        // More cores, fewer, and as many.
        for count in ["0,1", "0", "0"] {
            let mut waiting = Client::connect(&old);
            waiting.request("opensrf.demo", "t", 0, "opensrf.demo.sleep", "[1]");
            let new = started(cores(Setup::after(&old), count), &old);
            assert_eq!(old.wait_exit(PATIENCE), 0);
            old.until_logged("the port is left to others");
            waiting.until_status(205);
            assert_eq!(waiting.close_code(PATIENCE).0, Some(1012));
            assert_eq!(new.status()["pid"], new.pid(), "the admin page is the successor's");
            // Its folder holds the control socket of all.
            gone.push(std::mem::replace(&mut old, new));
            comers.until_more(20);
        }
    });
}

#[test]
fn a_successor_at_another_address_lets_the_old_port_close() {
    let redis = Redis::start();
    let mut old = Gateway::serve(&redis, &[]);
    let mut client = Client::connect(&old);
    let mut new = Setup::after(&old).start_unready();
    new.until_ready();
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(old.wait_exit(PATIENCE), 0);
    assert!(TcpStream::connect(old.address()).is_err(), "nobody listens there");
    let mut bus = Responder::new(&redis);
    let mut client = Client::connect(&new);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    new.until_logged("which this configuration does not name");
}

#[test]
fn a_successor_that_never_reaches_the_bus_ends_with_1_and_the_old_one_serves_on() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let mut old = Setup::serve(&redis).environment("EVERGATE_CORES", "0").start();
    under_load(old.address(), |_| {
        // Nobody waits at a socket of a core that the old one has not.
        let mut new = stuck(&old, &["--cores", "0,1", "--handover-max-seconds", "1"]);
        // The successor has the admin page's socket, too, and leaves it alone until it serves.
        let code = eventually("the end of the successor", PATIENCE, || {
            assert_eq!(old.http("GET", "/readyz").body, "serving\n");
            new.exited()
        });
        assert_eq!(code, 1);
        let said = new.until_logged("serves on");
        assert!(said.contains("handover_max_seconds") && said.contains(&old.pid().to_string()), "{said}");
    });
    old.until_logged("comes to nothing");
    let _new = replace(&old);
    assert_eq!(old.wait_exit(PATIENCE), 0, "the next one takes over");
}

#[test]
fn a_successor_that_is_killed_or_stopped_before_it_serves_leaves_all_as_it_was() {
    let (_redis, _services, old) = serve_with_services();
    under_load(old.address(), |comers| {
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let mut new = stuck(&old, &[]);
            comers.until_more(10);
            new.signal(signal);
            let code = new.wait_exit(PATIENCE);
            assert_eq!(code, if signal == Signal::SIGTERM { 0 } else { 128 + 9 });
            old.until_logged(&format!("process {} comes to nothing", new.pid()));
        }
    });
    assert_eq!(old.status()["phase"], "serving");
}

#[test]
fn a_successor_that_cannot_even_start_is_not_noticed_by_anybody() {
    let (_redis, _services, old) = serve_with_services();
    under_load(old.address(), |_| {
        let mut new = Setup::after(&old).flags(&["--cores", "4095"]).start_after(&old);
        assert_eq!(new.wait_exit(PATIENCE), 2);
    });
    assert_eq!(old.status()["phase"], "serving");
}

#[test]
fn a_second_successor_is_refused_with_the_number_of_the_first() {
    let redis = Redis::start();
    let old = Gateway::serve(&redis, &[]);
    let first = stuck(&old, &[]);
    let mut second = Setup::after(&old).start_after(&old);
    assert_eq!(second.wait_exit(PATIENCE), 1);
    second.until_logged(&format!("process {} is taking over already", first.pid()));
    assert_eq!(old.http("GET", "/readyz").status, 200);
}

#[test]
fn a_successor_that_is_ready_when_the_old_process_has_given_up_on_it_ends_and_the_old_one_serves_on() {
    let redis = Redis::start();
    let old = Setup::serve(&redis).environment("EVERGATE_HANDOVER_MAX_SECONDS", "1").start();
    let port = free_port();
    let setup = Setup::after(&old).environment("EVERGATE_HANDOVER_MAX_SECONDS", "60");
    let mut new =
        setup.flags(&["--bus-domain-address", &format!("public.localhost=127.0.0.1:{port}")]).start_after(&old);
    old.until_logged("comes to nothing");
    // It says so, and closes some seconds later.
    let before = old.open_descriptors();
    until("it has closed the connection", PATIENCE, || old.open_descriptors() < before);
    let _late = Redis::start_on(port);
    assert_eq!(new.wait_exit(PATIENCE * 3), 1);
    new.until_logged("did not serve within handover_max_seconds");
    Client::connect(&old);
    assert_eq!(old.status()["phase"], "serving");
}

#[test]
fn where_a_successor_dies_while_the_old_one_drains_another_is_started_at_once() {
    let (_redis, _services, old) = serve_with_services();
    let mut waiting = Client::waiting(&old, 6.0);
    let mut new = replace(&old);
    // Until then the old one is asked, which says who has taken over.
    until_named(&new);
    new.kill();
    // The kernel takes a killed process' listeners down a little later.
    let again = eventually("another serves", PATIENCE, || {
        let mut again = Setup::after(&old).start_after(&old);
        until("it serves or ends", PATIENCE, || again.log().contains("serves ws://") || again.exited().is_some());
        again.exited().is_none().then_some(again)
    });
    assert_eq!(again.status()["pid"], again.pid());
    Client::connect(&again);
    waiting.until_status(205);
    assert_eq!(waiting.close_code(PATIENCE).0, Some(1012));
}

#[test]
fn where_a_successor_dies_the_drain_can_be_cancelled_and_name_and_admin_page_are_there_again() {
    let (_redis, _services, old) = serve_with_services();
    let mut waiting = Client::waiting(&old, 8.0);
    let mut new = replace(&old);
    new.kill();
    old.cancel_drain();
    until("it is ready", PATIENCE, || old.try_http("GET", "/readyz").is_some_and(|answer| answer.status == 200));
    assert_eq!(old.status()["pid"], old.pid());
    let _newcomer = Client::connect(&old);
    until_named(&old);
    waiting.until_status(205);
}

#[test]
fn an_old_process_that_is_killed_or_stopped_meanwhile_leaves_the_port_to_its_successor() {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let redis = Redis::start();
        let mut old = Gateway::serve(&redis, &[]);
        let new = stuck(&old, &[]);
        old.signal(signal);
        assert_eq!(old.wait_exit(PATIENCE), if signal == Signal::SIGTERM { 0 } else { 128 + 9 });
        new.until_logged("is gone: serving in its place");
        let refusal = Client::refusal(new.address(), &[]);
        assert_eq!(refusal, Some(503), "it is there, though its bus is not");
    }
}

#[test]
fn where_nobody_is_a_successor_starts_as_the_first() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--replace"]);
    gateway.until_logged("starting as the first");
    Client::connect(&gateway);
}

#[test]
fn a_successor_that_speaks_another_version_is_told_both_and_the_old_one_serves_on() {
    let redis = Redis::start();
    let old = Gateway::serve(&redis, &[]);
    let mut stream = UnixStream::connect(old.control()).expect("the control socket");
    let ask =
        "{\"evergate_control\":2,\"version\":\"9.9.9\",\"command\":\"replace\",\"listen\":\"127.0.0.1:1\",\"pid\":7}\n";
    stream.write_all(ask.as_bytes()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).expect("an answer");
    for part in ["\"ok\":false", "9.9.9 with version 2", env!("CARGO_PKG_VERSION"), "version 1"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert_eq!(old.http("GET", "/readyz").status, 200);
}

#[test]
fn an_old_process_that_speaks_another_version_is_not_replaced_and_what_it_says_is_told() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis).flags(&["--replace"]);
    let control = setup.control();
    std::fs::create_dir_all(control.parent().expect("a folder")).expect("a folder");
    let listener = UnixListener::bind(&control).expect("a socket");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a successor");
        let mut ask = String::new();
        BufReader::new(&stream).read_line(&mut ask).expect("it asks");
        assert!(ask.contains("\"evergate_control\":1") && ask.contains(env!("CARGO_PKG_VERSION")), "{ask}");
        let refusal = "{\"ok\":false,\"evergate_control\":2,\"version\":\"9.9.9\",\"pid\":7,\"error\":\"this is version 2 of evergate 9.9.9\"}\n";
        stream.write_all(refusal.as_bytes()).expect("it reads");
        let _ = stream.read(&mut [0]);
    });
    let mut new = setup.start_unready();
    assert_eq!(new.wait_exit(PATIENCE), 1);
    other.join().expect("it is told which version asks");
    new.until_logged("this is version 2 of evergate 9.9.9");
}

#[test]
fn a_plain_second_serve_says_who_is_there_and_how_to_replace_it() {
    let redis = Redis::start();
    let old = Gateway::serve(&redis, &[]);
    let mut second = Setup::beside(&old).start_after(&old);
    assert_eq!(second.wait_exit(PATIENCE), 1);
    let said = second.until_logged("--replace");
    assert!(said.contains(&format!("process {}", old.pid())) && said.contains("--share-port"), "{said}");
    Client::connect(&old);
}

#[test]
fn a_process_that_was_taken_over_from_cannot_take_its_drain_back() {
    let (_redis, _services, mut old) = serve_with_services();
    let mut waiting = Client::waiting(&old, 2.0);
    let new = replace(&old);
    old.until_logged("the port is left to others");
    // Until the port counts as closed it is told to try again.
    until("it is refused because of the successor", PATIENCE, || {
        old.signal(Signal::SIGUSR2);
        old.log().contains(&format!("process {} took it over", new.pid()))
    });
    waiting.until_status(205);
    assert_eq!(old.wait_exit(PATIENCE), 0);
    Client::connect(&new);
}

#[test]
fn sockets_of_the_service_manager_are_served_left_listening_by_a_drain_and_taken_again() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for round in 0..2 {
        // Who comes first is waiting when it starts.
        let comes = std::thread::spawn(move || Client::connect_with(address, &[]).expect("nobody is refused"));
        let mut gateway = Setup::serve(&redis).start_with(&listener);
        let mut client = comes.join().expect("a client");
        gateway.until_logged("which the service manager keeps");
        gateway.signal(Signal::SIGUSR1);
        assert_eq!(client.close_code(PATIENCE).0, Some(1012), "round {round}");
        assert_eq!(gateway.wait_exit(PATIENCE), 0);
        // Nobody serves, and nobody is refused: who comes waits for the next one.
        TcpStream::connect(address).expect("the manager listens");
    }
}

#[test]
fn a_successor_that_has_the_sockets_of_the_service_manager_has_the_old_one_drain() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut old = Setup::serve(&redis).start_with(&listener);
    old.until_ready();
    let mut client = Client::connect(&old);
    let new = Setup::after(&old).start_with_after(&listener, &old);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(old.wait_exit(PATIENCE), 0);
    new.until_logged("serves ws://");
    Client::connect(&new);
}

#[test]
fn a_drain_of_sockets_that_the_service_manager_keeps_can_be_cancelled() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut gateway = Setup::serve(&redis).start_with(&listener);
    gateway.until_ready();
    let mut client = Client::connect_with(listener.local_addr().expect("an address"), &[]).expect("it listens");
    client.send(&envelope("s", "t", &[connect(0)]));
    Responder::new(&redis).accept();
    client.until_status(200);
    gateway.signal(Signal::SIGUSR1);
    until("it drains", PATIENCE, || gateway.status()["phase"] == "draining");
    gateway.cancel_drain();
    assert_eq!(gateway.status()["phase"], "serving");
    let _another = Client::connect_with(listener.local_addr().expect("an address"), &[]).expect("it is served");
}
