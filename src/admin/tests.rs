use crate::process::logs::Figures;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use evergate_proto::counters::{Limit, LinkState, Oldest, set};
use serde_json::Value;

use super::health::{GIVEN_MAX_MS, health, readiness};
use super::{Admin, AdminOptions, bind, start};
use crate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;

mod live;
mod metrics;

fn options() -> AdminOptions {
    AdminOptions {
        domain: "private.localhost".into(),
        ready_bus_grace_seconds: 10,
        connections_max: 64,
        hosts: vec!["admin.example".into(), "2001:db8::1".into()],
        numbers: vec![("clients_max", 921), ("log_queue_bytes_max", 65_536), ("drain_max_seconds", 120), ("cores", 2)],
        version: "1.2.3".into(),
        commit: "abc<def>".into(),
        log: Some(Box::new(|| Figures { queued_bytes: 3, full: 2, lines_lost: 7, bytes_lost: 700 })),
        token: None,
        console: None,
    }
}

/// Two cores, on CPUs 0 and 2, serving with their links up.
fn serving() -> Shared {
    let shared = Shared::new(&[0, 2]);
    for core in shared.cores.iter() {
        core.bus.store(LinkState::Up as u8, Relaxed);
        core.bus_ever_up.store(true, Relaxed);
    }
    shared.enter(Phase::Serving);
    shared
}

fn listen(shared: &Arc<Shared>) -> Admin {
    let admin = start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), Arc::clone(shared), options()).unwrap();
    admin.begin();
    admin
}

fn connect(admin: &Admin) -> TcpStream {
    connect_to(admin.addr())
}

fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The status code, the header in lower case, and the body.
fn ask(admin: &Admin, method: &str, path: &str) -> (u16, String, String) {
    ask_with(admin, method, path, "")
}

/// `more` are header lines, each with its end.
fn ask_with(admin: &Admin, method: &str, path: &str, more: &str) -> (u16, String, String) {
    let mut stream = connect(admin);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let code = header.split(' ').nth(1).unwrap().parse().unwrap();
    (code, header.to_ascii_lowercase(), body.to_owned())
}

fn get(admin: &Admin, path: &str) -> (u16, String) {
    let (code, _, body) = ask(admin, "GET", path);
    (code, body)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_taken_port_is_an_error_at_once() {
    let shared = Arc::new(serving());
    let admin = listen(&shared);
    assert!(bind(admin.addr()).is_err());
}

#[test]
fn healthz_names_the_core_that_stands_still() {
    let shared = serving();
    assert!(health(&shared).good, "a core has time to start");
    set(&shared.cores[0].counts.heartbeat_ms, 60_000);
    assert!(health(&shared).good, "one that has not turned for long, and was not given the time to, is starved");
    set(&shared.cores[0].given_ms, GIVEN_MAX_MS - 1);
    set(&shared.cores[1].given_ms, GIVEN_MAX_MS);
    let verdict = health(&shared);
    assert!(!verdict.good);
    assert_eq!(verdict.why, "core 2 has not turned for 5 s");
    assert!(!readiness(&shared, 60_000, 10).good, "a balancer must not send clients to it either");
    shared.cores[1].ended.store(true, Relaxed);
    assert!(health(&shared).good, "a core that ended as it should is not ill");
}

#[test]
fn readyz_says_yes_only_while_serving() {
    let shared = Arc::new(Shared::new(&[0]));
    shared.cores[0].bus.store(LinkState::Up as u8, Relaxed);
    let admin = listen(&shared);
    assert_eq!(get(&admin, "/readyz"), (503, "starting: not serving\n".into()));
    shared.enter(Phase::Serving);
    assert_eq!(get(&admin, "/readyz"), (200, "serving\n".into()));
    shared.enter(Phase::Draining);
    assert_eq!(get(&admin, "/readyz"), (503, "draining: not serving\n".into()));
    shared.enter(Phase::Stopping);
    assert_eq!(get(&admin, "/readyz"), (503, "stopping: not serving\n".into()));
    assert_eq!(get(&admin, "/healthz"), (200, "every core turns (1)\n".into()), "a drain is not an illness");
}

#[test]
fn readyz_forgives_a_lost_bus_for_the_grace_and_one_never_reached_not_at_all() {
    let shared = serving();
    let now_ms = 1_000_000;
    for core in shared.cores.iter() {
        set(&core.counts.heartbeat_ms, now_ms);
    }
    let core = &shared.cores[1];
    core.bus.store(LinkState::Away as u8, Relaxed);
    core.bus_away_since_ms.store(now_ms - 9_999, Relaxed);
    let verdict = readiness(&shared, now_ms, 10);
    assert!(
        verdict.good && verdict.why.starts_with("serving, but core 2: the bus links have been away"),
        "{verdict:?}"
    );
    core.bus_away_since_ms.store(now_ms - 10_000, Relaxed);
    assert!(!readiness(&shared, now_ms, 10).good);
    core.bus_away_since_ms.store(now_ms, Relaxed);
    assert!(!readiness(&shared, now_ms, 0).good, "no grace is none");
    core.bus_ever_up.store(false, Relaxed);
    assert_eq!(readiness(&shared, now_ms, 10).why, "core 2 has not reached the bus yet");
}

#[test]
fn readyz_says_no_to_a_bus_that_has_been_silent_for_the_grace_and_counts_on_from_there_when_it_is_lost() {
    let shared = serving();
    let now_ms = 1_000_000;
    let core = &shared.cores[1];
    set(&core.bus_silent_ms, 999);
    assert_eq!(readiness(&shared, now_ms, 10).why, "serving", "an answer may take its time");
    set(&core.bus_silent_ms, 9_999);
    let verdict = readiness(&shared, now_ms, 10);
    assert!(verdict.good && verdict.why.starts_with("serving, but core 2: the bus hangs"), "{verdict:?}");
    set(&core.bus_silent_ms, 10_000);
    assert!(!readiness(&shared, now_ms, 10).good);
    core.bus.store(LinkState::Away as u8, Relaxed);
    core.bus_away_since_ms.store(now_ms, Relaxed);
    assert!(!readiness(&shared, now_ms, 10).good, "it has been of no use for longer than it has been away");
}

#[test]
fn readyz_and_the_page_say_what_redis_says_and_what_a_core_gives_to_anybody_does_not() {
    let shared = Arc::new(serving());
    let second = &shared.cores[1];
    second.bus.store(LinkState::Refusing as u8, Relaxed);
    second.bus_refused_since_ms.store(shared.now_ms(), Relaxed);
    "OOM no memory; raise maxmemory".clone_into(&mut second.bus_trouble.lock().unwrap());
    let public = readiness(&shared, shared.now_ms(), 10);
    assert!(public.good && !public.why.contains("OOM"), "{public:?}");
    let admin = listen(&shared);
    let (code, told) = get(&admin, "/readyz");
    assert!(code == 200 && told.contains("refused every push") && told.contains(": OOM no memory; raise"), "{told}");
    assert!(get(&admin, "/").1.contains("OOM no memory"));
    let status: Value = serde_json::from_str(&get(&admin, "/status").1).unwrap();
    assert_eq!(status["cores"][1]["bus"][0]["state"], "refusing");
}

#[test]
fn status_has_exactly_the_keys_of_the_contract() {
    let shared = Arc::new(serving());
    let admin = listen(&shared);
    let (code, header, body) = ask(&admin, "GET", "/status");
    assert_eq!(code, 200);
    assert!(header.contains("content-type: application/json"));
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        keys(&status),
        ["commit", "cores", "drain", "limits", "listeners", "phase", "pid", "uptime_seconds", "version"],
        "{body}"
    );
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["drain"], serde_json::json!({"seconds_left": null, "oldest": null}));
    assert_eq!(
        keys(&status["cores"][1]),
        [
            "bus",
            "closed_at_deadline",
            "closed_at_gap",
            "core",
            "crossed_close",
            "idle",
            "in_stateful_session",
            "open",
            "sending",
            "waiting_for_replies",
            "waiting_for_room"
        ]
    );
    assert_eq!(status["cores"][1]["core"], 2);
    assert_eq!(status["limits"].as_object().unwrap().len(), Limit::ALL.len() + 1);
    assert_eq!(status["limits"]["log_queue_bytes_max"], 2);
}

#[test]
fn status_sums_up_and_escapes_what_clients_wrote() {
    let shared = Arc::new(serving());
    let second = &shared.cores[1];
    for (gauge, value) in [
        (&second.counts.open, 99),
        (&second.counts.idle, 4),
        (&second.counts.waiting_for_replies, 3),
        (&second.counts.waiting_for_room, 5),
        (&second.counts.in_stateful_session, 2),
        (&second.counts.sending, 1),
    ] {
        set(gauge, value);
    }
    second.limit_hit(Limit::parallel_max);
    shared.cores[0].limit_hit(Limit::parallel_max);
    second.other_domains.lock().unwrap().push(("public.localhost".into(), LinkState::Away));
    let oldest = |age_ms, method: &str| Oldest {
        service: "opensrf.demo".into(),
        method: method.into(),
        age_ms,
        client: "192.0.2.1".into(),
    };
    *shared.cores[0].oldest.lock().unwrap() = Some(oldest(10, "younger"));
    *second.oldest.lock().unwrap() = Some(oldest(1500, "a\"b\n<script>"));
    shared.drain(0, 3_600_000);
    let admin = listen(&shared);

    let status: Value = serde_json::from_str(&get(&admin, "/status").1).unwrap();
    assert_eq!(status["cores"][1]["open"], 15, "the sum holds whatever the gauge says");
    assert_eq!(status["limits"]["parallel_max"], 2);
    assert_eq!(
        status["cores"][1]["bus"],
        serde_json::json!([
            {"domain": "private.localhost", "state": "up"}, {"domain": "public.localhost", "state": "away"}
        ])
    );
    assert_eq!(status["drain"]["oldest"]["method"], "a\"b\n<script>");
    assert_eq!(status["drain"]["oldest"]["age_ms"], 1500);
    let left = status["drain"]["seconds_left"].as_f64().unwrap();
    assert!(left > 3500.0 && left <= 3600.0, "{left}");

    let (code, header, page) = ask(&admin, "GET", "/");
    assert_eq!(code, 200);
    assert!(header.contains("content-type: text/html"));
    assert!(page.contains("evergate: draining") && page.contains("abc&lt;def&gt;"), "{page}");
}

#[test]
fn the_page_does_not_call_itself_serving_alone_while_the_bus_has_not_been_reached() {
    let shared = Arc::new(Shared::new(&[0]));
    shared.enter(Phase::Serving);
    let (_, page) = get(&listen(&shared), "/");
    assert!(page.contains("<title>evergate: serving, not ready</title>"), "{page}");
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let admin = listen(&Arc::new(serving()));
    let (code, header, body) = ask(&admin, "HEAD", "/readyz");
    assert_eq!((code, body.as_str()), (200, ""));
    assert!(header.contains("content-length: 8"), "{header}");
}

#[test]
fn other_methods_and_paths_are_refused() {
    let admin = listen(&Arc::new(serving()));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (code, header, _) = ask(&admin, method, "/status");
        assert_eq!(code, 405);
        assert!(header.contains("allow: get, head"), "{header}");
    }
    assert_eq!(get(&admin, "/nothing").0, 404);
    assert_eq!(get(&admin, "/status?pretty").0, 200, "a query changes nothing");
}

#[test]
fn every_answer_forbids_caching_and_sniffing() {
    let admin = listen(&Arc::new(serving()));
    for path in ["/", "/healthz", "/readyz", "/status", "/metrics", "/nothing", "/actions/drain"] {
        let (_, header, _) = ask(&admin, "GET", path);
        for line in ["cache-control: no-store", "x-content-type-options: nosniff", "connection: close"] {
            assert!(header.contains(line), "{path}: {line} is missing in {header}");
        }
    }
}

/// The code and the body of an answer to these bytes.
fn say(admin: &Admin, bytes: &str) -> (u16, String) {
    say_to(admin.addr(), bytes)
}

fn say_to(address: SocketAddr, bytes: &str) -> (u16, String) {
    let mut stream = connect_to(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).unwrap().parse().unwrap();
    (code, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_request_for_another_host_gets_421_and_is_told_of_admin_hosts() {
    let admin = listen(&Arc::new(serving()));
    let port = admin.addr().port();
    let of = |host: &str| say(&admin, &format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for own in [
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "demo.localhost",
        "127.0.0.1",
        "127.8.8.8:80",
        "[::1]:7683",
        "[::ffff:127.0.0.1]",
        "admin.example",
        "Admin.Example:443",
        "[2001:db8::1]",
        &format!("127.0.0.1:{port}"),
    ] {
        assert_eq!(of(own).0, 200, "{own}");
    }
    let foreign = [
        "evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "admin.example.org",
        "",
        "user@localhost",
        "localhost@evil.example",
        "local\thost",
        "127.0.0.1:x:y",
        "[::1",
        "0.0.0.0",
    ];
    for host in foreign {
        let (code, body) = of(host);
        assert!(code == 421 && body.contains("admin_hosts") && !body.contains("cores"), "{host}: {code} {body}");
    }
    assert!(of("<script>").1.len() < 400);
    let (_, metrics) = get(&admin, "/metrics");
    assert!(metrics.contains(&format!("evergate_admin_hosts_refused_total {}\n", foreign.len() + 1)), "{metrics}");
}

#[test]
fn one_host_is_needed_and_a_target_that_names_another_counts() {
    let admin = listen(&Arc::new(serving()));
    let ask = |bytes: &str| say(&admin, bytes).0;
    assert_eq!(ask("GET /healthz HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"), 400);
    assert_eq!(ask("GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 421);
    assert_eq!(ask("GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421);
    assert_eq!(ask("GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
    assert_eq!(ask("GET /healthz HTTP/1.0\r\n\r\n"), 200, "as HAProxy asks");
    assert_eq!(ask("GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n"), 421);
}

/// How long it takes until the connection is closed from the other side.
fn until_closed(stream: &mut TcpStream, began: Instant) -> Duration {
    let _ = stream.read_to_end(&mut Vec::new());
    began.elapsed()
}

#[test]
fn who_sends_nothing_is_let_go_after_2_s_and_who_sends_half_a_header_after_5() {
    let admin = listen(&Arc::new(serving()));
    let began = Instant::now();
    let (mut silent, mut half) = (connect(&admin), connect(&admin));
    half.write_all(b"GET /status HT").unwrap();
    let silent = until_closed(&mut silent, began).as_secs_f64();
    assert!((1.9..4.5).contains(&silent), "{silent}");
    let half = until_closed(&mut half, began).as_secs_f64();
    assert!((4.9..8.0).contains(&half), "{half}");
}

#[test]
fn a_request_may_come_slowly_within_its_5_s() {
    let admin = listen(&Arc::new(serving()));
    let mut stream = connect(&admin);
    for piece in ["GET /heal", "thz HTTP/1.1\r\n", "Host: localhost\r\n\r\n"] {
        std::thread::sleep(Duration::from_millis(1_200));
        stream.write_all(piece.as_bytes()).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn connections_that_say_nothing_or_half_a_request_or_take_no_answer_delay_no_probe() {
    let admin = listen(&Arc::new(serving()));
    let mut kept = Vec::new();
    for n in 0..400 {
        let mut stream = connect(&admin);
        match n % 3 {
            0 => {}
            1 => stream.write_all(b"GET /status HT").unwrap(),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap(),
        }
        kept.push(stream);
        if n % 20 == 0 {
            let began = Instant::now();
            assert_eq!(get(&admin, "/healthz").0, 200);
            assert!(began.elapsed() < Duration::from_secs(1), "{n}: {:?}", began.elapsed());
        }
    }
}

#[test]
fn where_there_is_no_place_who_has_come_least_far_for_longest_makes_room() {
    let admin = start(
        bind("127.0.0.1:0".parse().unwrap()).unwrap(),
        Arc::new(serving()),
        AdminOptions { connections_max: 3, ..options() },
    )
    .unwrap();
    admin.begin();
    let mut asking = connect(&admin);
    asking.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let mut silent: Vec<TcpStream> = (0..8).map(|_| connect(&admin)).collect();
    // The newest two have the places that are left, so the others have been closed, in less than the 2 s that all have.
    let began = Instant::now();
    for stream in &mut silent[..6] {
        assert!(until_closed(stream, began) < Duration::from_millis(1_500), "{:?}", began.elapsed());
    }
    asking.write_all(b"Host: localhost\r\n\r\n").unwrap();
    silent[7].write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    for stream in [&mut asking, &mut silent[7]] {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
