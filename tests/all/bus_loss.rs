//! The bus goes away, stalls, refuses and comes back: clients stay, every request is answered, none twice.

use std::time::{Duration, Instant};

use crate::support::bus::{ROUTER, Responder};
use crate::support::client::{Client, envelope, on_threads, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, free_port, until};

/// The redis-server's clients of the gateway's account.
fn links(redis: &Redis) -> usize {
    redis.connections_of("gateway").len()
}

/// How many cores this machine lets a process use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn two_connections_per_core_and_no_more_whatever_the_number_of_clients() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    until("both links of every core", PATIENCE, || links(&redis) == 2 * cores());
    let mut bus = Responder::new(&redis);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.request("s", "t", 0, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
    assert_eq!(links(&redis), 2 * cores());
    assert_eq!(redis.keys("opensrf:client:gateway:*"), Vec::<String>::new(), "an address that is being read is no key");
}

#[test]
fn redis_killed_and_restarted_under_100_clients_costs_nobody_the_connection() {
    let mut redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "1"]);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&gateway)).collect();
    redis.kill();
    let gone = Instant::now();
    until("the loss is noticed", PATIENCE, || {
        clients[0].request("s", "probe", 1, "m", "[]");
        clients[0].recv_within(PATIENCE).has_status(503)
    });
    assert!(gone.elapsed() < Duration::from_secs(5), "a dead Redis was noticed only after {:?}", gone.elapsed());
    let answers = on_threads(clients, |_, mut client| {
        let asked = Instant::now();
        client.request("s", "t", 7, "m", "[]");
        let told = client.until_status(503).pop().expect("an envelope");
        assert!(told.transport_error() && told.parts()[0].trace == "7", "{}", told.text);
        (client, asked.elapsed())
    });
    let slowest = answers.iter().map(|(_, took)| *took).max().expect("answers");
    assert!(slowest < Duration::from_secs(3), "at once, not after {slowest:?}");
    until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    redis.restart();
    until("ready again", Duration::from_secs(15), || gateway.http("GET", "/readyz").status == 200);
    let _services = Services::start(&redis, &[]);
    let served = on_threads(answers, |_, (mut client, _)| {
        assert_eq!(client.call("opensrf.math", "t", 8, "add", "[1,2]").len(), 1);
        client
    });
    assert_eq!(gateway.count("open"), served.len() as u64, "every one of them kept its connection");
}

#[test]
fn a_redis_that_came_back_empty_ends_everything_pending_at_once() {
    let mut redis = Redis::start();
    // The client ids of a fresh server begin anew: make sure that the gateway's were higher.
    for _ in 0..50 {
        redis.client("default");
    }
    let gateway = Gateway::serve(&redis, &["--bus-lost-reply-seconds", "60"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 5, "m", "[]");
    bus.next();
    drop(bus);
    redis.restart();
    let told = client.recv_within(Duration::from_secs(15));
    assert!(told.has_status(503) && told.transport_error() && told.parts()[0].trace == "5", "{}", told.text);
}

#[test]
fn a_broken_link_ends_what_gets_no_reply_within_the_time_and_nothing_else() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--bus-lost-reply-seconds", "2"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "answered", 1, "m", "[]");
    client.request("s", "lost", 2, "m", "[]");
    let (answered, _lost) = (bus.next(), bus.next());
    redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
    until("reconnected", PATIENCE, || links(&redis) == 2 * cores());
    bus.complete(&answered, "1");
    assert_eq!(client.until_status(205)[0].thread(), "answered");
    let told = client.recv();
    assert!(told.has_status(503) && told.transport_error() && told.thread() == "lost", "{}", told.text);
    gateway.until_count("idle", 1);
}

#[test]
fn a_link_that_redis_closed_while_idle_is_opened_again_before_the_next_push() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    for trace in 0..3 {
        // Idle is the case itself: who has just written does not look first.
        std::thread::sleep(Duration::from_millis(50));
        let closed: i64 = redis.command(&["CLIENT", "KILL", "USER", "gateway"]);
        assert!(closed > 0);
        until("the loss is noticed", PATIENCE, || links(&redis) >= cores());
        client.must_be_connected();
        client.request("s", "t", trace, "m", "[]");
        let arrived = bus.next();
        bus.complete(&arrived, "1");
        let got = client.recv();
        assert!(got.has_status(205), "no 503 for routine: {}", got.text);
    }
}

#[test]
fn a_frozen_redis_loses_nothing_and_answers_nothing_twice() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let gateway = Gateway::serve(&redis, &[]);
    let clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    let frozen_at = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|scope| {
        let redis = &redis;
        scope.spawn(move || {
            // The ten seconds are the case itself.
            std::thread::sleep(frozen_at.saturating_duration_since(Instant::now()));
            redis.freeze();
            std::thread::sleep(Duration::from_secs(10));
            redis.thaw();
        });
        on_threads(clients, |_, mut client| {
            let mut ended = std::collections::HashSet::new();
            for trace in 0..60_u32 {
                client.request("opensrf.demo", "t", trace, "opensrf.demo.echo", &format!("[{trace}]"));
                // Paced so that the load goes on while Redis is frozen; up to ten requests in flight.
                while trace as usize >= 10 + ended.len() {
                    take(&mut client, &mut ended);
                }
                std::thread::sleep(Duration::from_millis(40));
            }
            while ended.len() < 60 {
                take(&mut client, &mut ended);
            }
            client.request("opensrf.demo", "fence", 999, "opensrf.demo.echo", "[1]");
            let fence = client.recv_within(PATIENCE);
            assert_eq!(fence.thread(), "fence", "answered twice: {}", fence.text);
        });
    });
}

#[test]
fn a_redis_that_hangs_takes_the_node_out_after_its_grace_and_nothing_else_changes() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "2"]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    let numbers = |redis: &Redis| -> std::collections::BTreeSet<String> {
        redis.connections_of("gateway").iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let before = numbers(&redis);
    redis.freeze();
    for (trace, client) in clients.iter_mut().enumerate() {
        client.request("opensrf.math", "t", trace as u32, "add", "[1,2]");
    }
    until("it is forgiven for its grace, and said", PATIENCE, || {
        let told = gateway.http("GET", "/readyz");
        told.status == 200 && told.body.contains("hangs")
    });
    until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    let told = gateway.http("GET", "/readyz").body;
    assert!(told.contains("the bus hangs") && told.contains("ready_bus_grace_seconds is 2"), "{told}");
    assert_eq!(gateway.http("GET", "/healthz").status, 200);
    clients.push(Client::connect(&gateway));
    gateway.until_count("open", 21);
    for core in gateway.status()["cores"].as_array().expect("cores") {
        assert_eq!(core["bus"][0]["state"], "up", "the links stay");
    }
    clients[20].request("opensrf.math", "t", 20, "add", "[1,2]");
    redis.thaw();
    until("ready again", PATIENCE, || gateway.http("GET", "/readyz").body == "serving\n");
    for mut client in clients {
        let envelopes = client.until_status(205);
        assert_eq!(crate::support::client::contents(&envelopes), [serde_json::json!(3)]);
    }
    assert_eq!(numbers(&redis), before, "they are the same links");
}

#[test]
fn a_redis_that_hangs_without_a_client_is_found_by_the_idle_probe() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "1", "--bus-probe-seconds", "1"]);
    redis.freeze();
    until("not ready", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    redis.thaw();
    until("ready again", PATIENCE, || gateway.http("GET", "/readyz").status == 200);
    assert!(!gateway.log().contains("broke"), "{}", gateway.log());
}

/// Takes envelopes up to the end of one request, which must be answered with its own content and for the first time.
fn take(client: &mut Client, ended: &mut std::collections::HashSet<String>) {
    loop {
        let envelope = client.recv_within(Duration::from_secs(20));
        for part in envelope.parts() {
            if part.kind == "RESULT" {
                assert!(part.content.to_string().contains(&part.trace), "{}", envelope.text);
                assert!(!ended.contains(&part.trace), "answered twice: {}", envelope.text);
            }
        }
        let over = envelope.ends();
        for (trace, code) in &over {
            assert_eq!(*code, 205, "{}", envelope.text);
            assert!(ended.insert(trace.clone()), "ended twice: {}", envelope.text);
        }
        if !over.is_empty() {
            return;
        }
    }
}

#[test]
fn without_a_bus_at_the_start_it_waits_not_ready_and_serves_when_it_comes() {
    let port = free_port();
    let mut gateway = Setup::serve_at(&format!("127.0.0.1:{port}")).start_unready();
    until("admin answers", PATIENCE, || gateway.try_http("GET", "/healthz").is_some_and(|answer| answer.status == 200));
    assert_eq!(gateway.http("GET", "/readyz").status, 503);
    assert_eq!(gateway.exited(), None);
    let redis = Redis::start_on(port);
    gateway.until_ready();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 0, "m", "[]");
    bus.next();
}

#[test]
fn an_account_that_is_refused_at_the_start_is_tried_again_and_said_so() {
    let redis = Redis::start();
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">other"]);
    let mut gateway = Setup::serve(&redis).start_unready();
    until("the refusal is logged", PATIENCE, || gateway.log().contains("WRONGPASS"));
    assert_eq!((gateway.exited(), gateway.http("GET", "/readyz").status), (None, 503));
    redis.command::<()>(&["ACL", "SETUSER", "gateway", ">gateway-test"]);
    gateway.until_ready();
}

#[test]
fn a_push_that_redis_refuses_is_told_with_redis_own_word() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut client = Client::connect(&gateway);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    client.request("s", "t", 4, "m", "[]");
    let told = client.until_status(503).pop().expect("an envelope");
    let part = &told.parts()[0];
    assert!(told.transport_error() && part.trace == "4" && part.status.contains("OOM"), "{}", told.text);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut bus = Responder::new(&redis);
    client.request("s", "t", 5, "m", "[]");
    assert_eq!(bus.next().trace(0), "5", "and nothing of the refused one comes later");
}

#[test]
fn a_short_loss_keeps_readiness_for_its_grace() {
    let mut redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--ready-bus-grace-seconds", "60"]);
    redis.kill();
    until("the loss is noticed", PATIENCE, || gateway.status()["cores"][0]["bus"][0]["state"] != "up");
    assert_eq!(gateway.http("GET", "/readyz").status, 200);
    redis.restart();
    until("the links are back", PATIENCE, || gateway.status()["cores"][0]["bus"][0]["state"] == "up");
}

#[test]
fn a_push_that_was_not_confirmed_is_never_sent_again() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut client = Client::connect(&gateway);
    redis.freeze();
    for trace in 0..5 {
        client.send(&envelope("s", "t", &[request(trace, "m", "[]")]));
    }
    gateway.until_count("waiting_for_replies", 1);
    redis.thaw();
    until("all of them arrive", PATIENCE, || redis.length(ROUTER) >= 5);
    redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
    until("reconnected", PATIENCE, || links(&redis) == 2 * cores());
    client.request("s", "t", 9, "fence", "[]");
    let mut bus = Responder::new(&redis);
    let traces: Vec<String> = (0..6).map(|_| bus.next().trace(0)).collect();
    assert_eq!(traces, ["0", "1", "2", "3", "4", "9"]);
}

#[test]
fn a_push_without_its_confirmation_is_told_that_it_may_or_may_not_have_been_carried_out() {
    let mut redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut client = Client::connect(&gateway);
    redis.freeze();
    client.request("s", "t", 3, "m", "[]");
    gateway.until_count("waiting_for_replies", 1);
    redis.kill();
    let told = client.recv();
    let part = &told.parts()[0];
    assert!(told.transport_error() && part.code == 503 && part.trace == "3", "{}", told.text);
    assert!(part.status.contains("may or may not"), "{}", part.status);
}

#[test]
fn an_account_that_may_no_longer_pop_is_away_not_in_a_storm_of_connections_and_comes_back() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let mut client = Client::connect(&gateway);
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "-blpop"]);
    redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
    std::thread::sleep(Duration::from_secs(2));
    let connections = redis.command::<String>(&["INFO", "stats"]);
    let received = connections.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    assert!(received.expect("the count").trim().parse::<u64>().expect("a number") < 100, "{received:?} connections");
    client.request("s", "t", 1, "m", "[]");
    assert!(client.recv_within(PATIENCE).has_status(503));
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "+blpop"]);
    let mut bus = Responder::new(&redis);
    gateway.until_logged("public.localhost is back");
    assert_eq!(gateway.log().matches("refused a pop").count(), 1, "said once, whenever it was tried");
    client.request("s", "t", 2, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
}
