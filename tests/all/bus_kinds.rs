//! A bus that is not as it should be: one that refuses every push, an old Redis, a server that is no Redis at all.

use std::time::Duration;

use crate::support::client::{Client, on_threads};
use crate::support::gateway::{Gateway, Setup};
use crate::support::other_bus::{redis_6_0, stranger};
use crate::support::process::{Ended, evergate};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, until};

fn check(redis: &str) -> Ended {
    let domain = format!("public.localhost={redis}");
    let arguments = ["--domain", "public.localhost", "--username", "gateway", "--bus-domain-address", &domain];
    let arguments = [&["check", "--listen", "127.0.0.1:0"][..], &arguments].concat();
    evergate(&arguments, &[("EVERGATE_PASSWD", "gateway-test")])
}

#[test]
fn a_node_whose_pushes_are_all_refused_is_not_ready_after_its_grace_and_ready_again_without_any_client() {
    for (refuse, word, take) in [
        (&["CONFIG", "SET", "maxmemory", "1"][..], "OOM", &["CONFIG", "SET", "maxmemory", "0"][..]),
        (&["ACL", "SETUSER", "gateway", "-rpush"], "NOPERM", &["ACL", "SETUSER", "gateway", "+rpush"]),
    ] {
        let redis = Redis::start();
        let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "2"]);
        let _services = Services::start(&redis, &[]);
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
        redis.command::<()>(refuse);
        for client in &mut clients {
            client.request("opensrf.math", "t", 4, "add", "[1,2]");
            let told = client.until_status(503).pop().expect("an envelope");
            assert!(told.transport_error() && told.parts()[0].status.contains(word), "{}", told.text);
        }
        let within = gateway.http("GET", "/readyz");
        assert!(within.status == 200 && within.body.contains("refused every push"), "{}", within.body);
        until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
        // Long after the last request of a client.
        std::thread::sleep(Duration::from_secs(2));
        let out = gateway.http("GET", "/readyz");
        assert!(out.status == 503 && out.body.contains("refused every push"), "{}", out.body);
        let log = gateway.log();
        assert_eq!(log.matches("refused a push").count(), 1, "for all cores: {log}");
        redis.command::<()>(take);
        until("ready again", PATIENCE, || gateway.http("GET", "/readyz").status == 200);
        gateway.until_logged("takes pushes again");
        on_threads(clients, |_, mut client| client.call("opensrf.math", "t", 5, "add", "[1,2]"));
        assert_eq!(redis.keys("opensrf:client:gateway:*"), Vec::<String>::new(), "what was asked with is gone");
    }
}

/// Has a Redis refuse every push in one way.
type Refuse = fn(&Redis);

fn no_memory(redis: &Redis) {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
}

fn no_right(redis: &Redis) {
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "-rpush"]);
}

fn no_disk(redis: &Redis) {
    redis.command::<()>(&["CONFIG", "SET", "save", "3600 1"]);
    redis.lose_disk();
    until("it refuses to write", PATIENCE, || {
        // Refused at first while another is under way.
        let _ = redis::cmd("BGSAVE").query::<String>(&mut redis.client("default"));
        redis.command::<String>(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
    });
}

fn no_master(redis: &Redis) {
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
}

#[test]
fn a_bus_that_refuses_pushes_is_shown_as_refusing_with_redis_own_word_and_the_remedy() {
    for (refuse, word, remedy, state) in [
        (no_memory as Refuse, "OOM", "maxmemory", "refusing"),
        (no_right, "NOPERM", "evergate check", "refusing"),
        (no_disk, "MISCONF", "disk", "refusing"),
        // It closes the connections that wait for a pop, and lets none wait again.
        (no_master, "READONLY", "replica", "away"),
    ] {
        let redis = Redis::start();
        let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "1", "--cores", "0"]);
        let mut client = Client::connect(&gateway);
        refuse(&redis);
        client.request("opensrf.math", "t", 4, "add", "[1,2]");
        client.until_status(503);
        let bus = || gateway.status()["cores"][0]["bus"][0]["state"].clone();
        until("it is shown", PATIENCE, || bus() == state);
        until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
        let told = gateway.http("GET", "/readyz").body;
        let logged = gateway.until_logged("refused a push");
        for line in [&told, &logged, &gateway.http("GET", "/").body] {
            assert!(line.contains(word) && line.contains(remedy), "{word}, {remedy}: {line}");
        }
        assert!(gateway.metric("evergate_bus_up") < 0.5, "no use is made of it");
    }
}

#[test]
fn a_bus_that_refuses_the_account_says_so_on_the_page_and_to_the_probe_of_readiness() {
    let redis = Redis::start();
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">other"]);
    let mut gateway = Setup::serve(&redis).flags(&["--cores", "0"]).start_unready();
    until("why is told", PATIENCE, || {
        gateway.try_http("GET", "/readyz").is_some_and(|answer| answer.body.contains("WRONGPASS"))
    });
    let told = gateway.http("GET", "/readyz");
    assert!(
        told.status == 503 && told.body.contains("evergate check") && !told.body.contains("-test"),
        "{}",
        told.body
    );
    redis.command::<()>(&["ACL", "SETUSER", "gateway", ">gateway-test"]);
    gateway.until_ready();
    assert_eq!(gateway.http("GET", "/readyz").body, "serving\n");
}

#[test]
fn without_any_client_a_redis_that_cannot_write_to_its_disk_is_found_by_the_idle_probe() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "1", "--bus-probe-seconds", "1"]);
    no_disk(&redis);
    until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    redis.command::<()>(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    until("ready again", PATIENCE, || gateway.http("GET", "/readyz").status == 200);
    assert_eq!(redis.keys("opensrf:client:gateway:*"), Vec::<String>::new(), "what was asked with is gone");
}

#[test]
fn a_redis_that_has_become_a_replica_takes_the_node_out_until_it_is_a_master_again() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "1"]);
    let mut client = Client::connect(&gateway);
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    client.request("opensrf.math", "t", 1, "add", "[1,2]");
    client.until_status(503);
    until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    redis.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    until("ready again", Duration::from_secs(20), || gateway.http("GET", "/readyz").status == 200);
    let _services = Services::start(&redis, &[]);
    client.call("opensrf.math", "t", 2, "add", "[1,2]");
}

#[test]
fn a_redis_6_0_is_served_from_and_said_to_be_old_once_and_check_passes() {
    let redis = Redis::start();
    let old = redis_6_0(&redis.address());
    let _services = Services::start(&redis, &["--workers", "10"]);
    let mut gateway = Setup::serve_at(&old).start_unready();
    gateway.until_ready();
    let clients: Vec<Client> = (0..40).map(|_| Client::connect(&gateway)).collect();
    let clients = on_threads(clients, |_, mut client| {
        for trace in 0..25 {
            assert_eq!(client.call("opensrf.math", "t", trace, "add", "[1,2]").len(), 1);
        }
        client
    });
    let large =
        on_threads(clients, |_, mut client| client.call("opensrf.demo", "t", 99, "opensrf.demo.big", "[300000]").len());
    assert!(large.iter().all(|&contents| contents == 1), "{large:?}");
    let log = gateway.log();
    assert_eq!(log.matches("older than 6.2").count(), 1, "{log}");
    let ended = check(&old);
    assert!(ended.code == 0 && ended.stdout.contains("older than 6.2"), "{}", ended.text());
    let left = redis.keys("opensrf:client:gateway:*");
    assert!(left.iter().all(|key| !key.contains(":check:")), "{left:?}");
}

#[test]
fn what_is_no_redis_is_called_so_with_the_likely_cause_by_the_log_and_by_check() {
    let xmpp = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0'><stream:error>\
                <not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (greeting, answer, cause) in [
        ("", xmpp, "ejabberd"),
        ("", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP server"),
        ("220 mail.example ESMTP\r\n", "500 what?\r\n", "220 mail.example ESMTP"),
        // An alert of TLS.
        ("", "\u{15}\u{3}\u{3}\0\u{2}\u{2}(", "rediss://HOST:PORT"),
    ] {
        let address = stranger(greeting, answer);
        let mut gateway = Setup::serve_at(&address).start_unready();
        let line = gateway.until_logged("no Redis");
        assert!(line.contains(cause) && !line.contains("account"), "{line}");
        assert_eq!((gateway.exited(), gateway.http("GET", "/readyz").status), (None, 503));
        let ended = check(&address);
        assert_eq!(ended.code, 1, "{}", ended.text());
        let line =
            ended.stdout.lines().find(|line| line.contains("no Redis")).unwrap_or_else(|| panic!("{}", ended.text()));
        assert!(line.contains(cause) && !ended.stdout.contains("the account"), "{}", ended.stdout);
    }
}

#[test]
fn a_redis_before_6_0_which_knows_no_accounts_is_named_by_its_version() {
    let address = stranger("", "-ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, \r\n");
    let gateway = Setup::serve_at(&address).start_unready();
    gateway.until_logged("older than 6.0");
    let ended = check(&stranger("", "-ERR wrong number of arguments for 'auth' command\r\n"));
    assert!(ended.code == 1 && ended.stdout.contains("older than 6.0"), "{}", ended.text());
}
