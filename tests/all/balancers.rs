//! Two gateways behind nginx and behind `HAProxy`, by the files in `tuning/`: while one drains nobody sees more than its 1012, and whose
//! address stands in the log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::activity::relayed_adds;
use crate::support::balancer::{Balancer, Kind};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, StopsAtEnd, eventually, until};

/// What clients claim to be.
const CLAIMED: &str = "203.0.113.66";
const CLAIM: [(&str, &str); 2] = [("X-Forwarded-For", CLAIMED), ("X-Real-IP", CLAIMED)];

/// Those that a balancer connects from. Clients come from 127.1.0.0/24.
const PROXIES: [&str; 2] = ["--trusted-proxies", "127.0.0.0/29"];

/// Two gateways on one bus, and a balancer before them. Dropped in this order.
struct Pair {
    balancer: Balancer,
    gateways: [Gateway; 2],
    _services: Services,
    _redis: Redis,
}

impl Pair {
    /// None where there is no such balancer here.
    fn start(kind: Kind, flags: [&[&str]; 2]) -> Option<Self> {
        let redis = Redis::start();
        let services = Services::start(&redis, &[]);
        let health: &[&str] =
            if matches!(kind, Kind::HaproxyByHandshake) { &[] } else { &["--health-path", "/health"] };
        let gateways = flags.map(|flags| Setup::serve(&redis).flags(&PROXIES).flags(health).flags(flags).start());
        let balancer = Balancer::start(kind, [gateways[0].address(), gateways[1].address()])?;
        Some(Self { balancer, gateways, _services: services, _redis: redis })
    }

    fn client(&self) -> Client {
        client(self.balancer.address, 100)
    }

    /// Clients that come until the gateway has had one of them, which stay.
    fn until_given_to(&self, gateway: usize) -> Vec<Client> {
        let mut clients = vec![];
        eventually("the balancer sends somebody there", PATIENCE, || {
            clients.push(self.client());
            (self.gateways[gateway].count("open") > 0).then_some(())
        });
        clients
    }
}

/// The address of a client.
fn home(client: u8) -> IpAddr {
    Ipv4Addr::new(127, 1, 0, client).into()
}

fn client(balancer: SocketAddr, number: u8) -> Client {
    Client::connect_from(home(number), balancer, &CLAIM).unwrap_or_else(|error| panic!("a client is refused: {error}"))
}

/// Clients that stay, and ask one question after the other.
struct Visitors {
    stop: AtomicBool,
    /// Questions so far; each is another.
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Visitors {
    /// Comes, asks until told to stop, and comes again after a 1012: whatever else happens is the test's failure.
    fn stay(&self, balancer: SocketAddr, number: u8) {
        let mut client = client(balancer, number);
        while !self.stop.load(SeqCst) {
            let question = self.asked.fetch_add(1, SeqCst);
            let params = format!("[{question},1]");
            let answer = loop {
                match client.call_unless_restarted("opensrf.math", "t", 1, "add", &params) {
                    Some(answer) => break answer,
                    None => client = self::client(balancer, number),
                }
            };
            assert_eq!(answer, [question + 1]);
            self.answered.fetch_add(1, SeqCst);
            // Every other one never pauses for long, so that the drain makes a gap for it at half of its time. The others have their
            // gaps at once: a pause is longer than a proxy's kernel takes to acknowledge (40 ms).
            std::thread::sleep(Duration::from_millis(if number.is_multiple_of(2) { 150 } else { 2 }));
        }
        client.close();
    }

    fn until_more(&self, answers: u64) {
        let before = self.answered.load(SeqCst);
        until("they are answered", PATIENCE, || self.answered.load(SeqCst) >= before + answers);
    }
}

/// Each gateway is drained under load, and back in time for the other.
fn nobody_notices_drains_behind(kind: Kind) {
    const VISITORS: u8 = 8;
    let drain: &[&str] = &["--drain-quiet-ms", "10", "--drain-max-seconds", "4"];
    let Some(mut pair) = Pair::start(kind, [drain, drain]) else { return };
    let visitors = Visitors { stop: AtomicBool::new(false), asked: AtomicU64::new(0), answered: AtomicU64::new(0) };
    let address = pair.balancer.address;
    let mut logs = String::new();
    std::thread::scope(|scope| {
        for number in 0..VISITORS {
            let visitors = &visitors;
            scope.spawn(move || visitors.stay(address, number));
        }
        let _stop = StopsAtEnd(&visitors.stop);
        visitors.until_more(50);
        for (draining, other) in [(0, 1), (1, 0)] {
            pair.gateways[draining].signal(Signal::SIGUSR1);
            assert_eq!(pair.gateways[draining].wait_exit(PATIENCE), 0, "nobody was cut");
            pair.gateways[other].until_count("open", VISITORS.into());
            visitors.until_more(50);
            logs += &pair.gateways[draining].log();
            pair.gateways[draining].restart();
            // Gone again before the other drains, so that the visitors are all that there are.
            drop(pair.until_given_to(draining));
            pair.gateways[other].until_count("open", VISITORS.into());
        }
    });
    // A log is written a little later.
    let answered = visitors.answered.load(SeqCst);
    assert_eq!(visitors.asked.load(SeqCst), answered);
    let relayed = |logs: &str| relayed_adds(logs).len() as u64;
    let before = relayed(&logs);
    until("each is logged", PATIENCE, || before + relayed(&pair.gateways[0].log()) >= answered);
    logs += &pair.gateways[0].log();
    assert_eq!(relayed(&logs), answered, "each question was relayed once");
    for number in 0..VISITORS {
        assert!(logs.contains(&format!("[{}] [] opensrf.math add", home(number))), "{number}: {logs}");
    }
    assert!(!logs.contains(CLAIMED), "{logs}");
}

#[test]
fn behind_nginx_each_of_two_gateways_drains_under_load_and_clients_see_only_its_1012() {
    nobody_notices_drains_behind(Kind::Nginx);
}

#[test]
fn behind_haproxy_each_of_two_gateways_drains_under_load_and_clients_see_only_its_1012() {
    nobody_notices_drains_behind(Kind::Haproxy);
}

/// One gateway has place for a single client.
fn who_has_no_place_there_gets_one_at_the_other(kind: Kind) {
    let Some(pair) = Pair::start(kind, [&["--clients-max", "1"], &[]]) else { return };
    let mut clients: Vec<Client> = (0..6).map(|_| pair.client()).collect();
    for (number, client) in (1..).zip(&mut clients) {
        assert_eq!(client.call("opensrf.math", "t", 1, "add", &format!("[{number},1]")), [number + 1]);
    }
    assert_eq!((pair.gateways[0].count("open"), pair.gateways[1].count("open")), (1, 5));
    assert!(pair.gateways[0].limit("clients_max") > 0, "it was asked");
}

#[test]
fn behind_nginx_a_client_without_a_place_at_one_gateway_gets_one_at_the_other() {
    who_has_no_place_there_gets_one_at_the_other(Kind::Nginx);
}

#[test]
fn behind_haproxy_a_client_without_a_place_at_one_gateway_gets_one_at_the_other() {
    who_has_no_place_there_gets_one_at_the_other(Kind::Haproxy);
}

/// `HAProxy` hears of a drain before the port closes.
#[test]
fn haproxy_sees_a_drain_in_its_grace_and_gives_new_clients_to_the_other() {
    let grace = ["--drain-grace-seconds", "60"];
    let Some(pair) = Pair::start(Kind::Haproxy, [&grace, &grace]) else { return };
    until("HAProxy has seen both", PATIENCE, || pair.balancer.log().matches("code: 200").count() >= 2);
    let mut stays = pair.until_given_to(0);
    pair.gateways[0].signal(Signal::SIGUSR1);
    until("HAProxy calls it down", PATIENCE, || pair.balancer.log().contains("Server evergate/a is DOWN"));
    let open = pair.gateways[0].count("open");
    let mut late: Vec<Client> = (0..4).map(|_| pair.client()).collect();
    for client in stays.iter_mut().chain(&mut late) {
        assert_eq!(client.call("opensrf.math", "t", 1, "add", "[1,2]"), [3]);
    }
    assert_eq!(pair.gateways[0].count("open"), open, "nobody new, and nobody cut off");
}

#[test]
fn the_check_of_haproxy_that_plays_a_websocket_client_is_answered() {
    let Some(mut pair) = Pair::start(Kind::HaproxyByHandshake, [&[], &[]]) else { return };
    until("HAProxy has seen both", PATIENCE, || pair.balancer.log().matches("code: 101").count() >= 2);
    let log = pair.gateways[0].log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    pair.gateways[0].signal(Signal::SIGUSR1);
    assert_eq!(pair.gateways[0].wait_exit(PATIENCE), 0);
    until("HAProxy calls it down", PATIENCE, || pair.balancer.log().contains("Server evergate/a is DOWN"));
    assert_eq!(pair.client().call("opensrf.math", "t", 1, "add", "[1,2]"), [3]);
}
