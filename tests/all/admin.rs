//! The admin endpoints, and the port that belongs to one process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::gateway::{Gateway, Setup};
use crate::support::process::evergate;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

#[test]
fn status_has_every_member_that_the_contract_names() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let status = gateway.status();
    assert_eq!(status["pid"].as_u64(), Some(u64::from(gateway.pid())));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        status["commit"].is_string() && status["uptime_seconds"].is_number() && status["limits"].is_object(),
        "{status}"
    );
    assert_eq!(status["phase"].as_str().map(str::to_lowercase).as_deref(), Some("serving"));
    assert!(status.get("drain").is_some(), "{status}");
    let cores = status["cores"].as_array().expect("cores");
    assert_eq!((cores.len(), cores[0]["core"].as_u64()), (1, Some(0)));
    for counter in [
        "open",
        "idle",
        "waiting_for_replies",
        "waiting_for_room",
        "in_stateful_session",
        "sending",
        "closed_at_gap",
        "closed_at_deadline",
        "crossed_close",
    ] {
        assert_eq!(cores[0][counter].as_u64(), Some(0), "{counter}");
    }
    assert_eq!(cores[0]["bus"][0]["domain"], "public.localhost");
    assert!(cores[0]["bus"][0]["state"].is_string());
}

#[test]
fn get_and_head_are_served_and_nothing_else() {
    let gateway = Gateway::demo(&[]);
    for path in ["/healthz", "/readyz", "/status"] {
        assert_eq!(gateway.http("GET", path).status, 200, "{path}");
        let head = gateway.http("HEAD", path);
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(gateway.http(method, path).status, 405, "{method} {path}");
        }
    }
    assert_eq!(gateway.http("GET", "/nothing").status, 404);
}

#[test]
fn one_core_or_all_of_them_as_asked() {
    let all = Gateway::demo(&[]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(all.status()["cores"].as_array().map(Vec::len), Some(cores));
    let one = Gateway::demo(&["--cores", "0"]);
    assert_eq!(one.status()["cores"].as_array().map(Vec::len), Some(1));
}

#[test]
fn admin_beyond_loopback_needs_its_own_flag() {
    let ended = evergate(&["demo", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], &[]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert!(
        ended.text().contains("admin-allow-remote") || ended.text().contains("admin_allow_remote"),
        "{}",
        ended.text()
    );
}

#[test]
fn a_port_that_somebody_listens_on_ends_serve_with_1_and_a_reason() {
    let redis = Redis::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let state = std::env::temp_dir().display().to_string();
    let domain = format!("public.localhost={}", redis.address());
    let arguments = [
        "serve",
        "--domain",
        "public.localhost",
        "--username",
        "gateway",
        "--bus-domain-address",
        &domain,
        "--listen",
        &address,
        "--state-dir",
        &state,
    ];
    let ended = evergate(&arguments, &[("EVERGATE_PASSWD", "gateway-test")]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.text().contains(&address), "{}", ended.text());
}

#[test]
fn a_second_gateway_on_the_port_is_refused_unless_it_shares() {
    let first = Gateway::demo(&["--share-port"]);
    let address = first.address().to_string();
    let mut second = Setup::demo().flags(&["--share-port"]).start_sharing(&first);
    second.until_ready();
    let alone = evergate(&["demo", "--listen", &address, "--admin", "off"], &[]);
    assert_eq!(alone.code, 1, "{}", alone.text());
    until("both serve", PATIENCE, || {
        first.http("GET", "/readyz").status == 200 && second.http("GET", "/readyz").status == 200
    });
}

#[test]
fn silent_connections_delay_no_probe_and_each_has_2_s_of_its_own() {
    let gateway = Gateway::demo(&[]);
    let mut silent: Vec<TcpStream> = Vec::new();
    for most in [64, 128, 400] {
        while silent.len() < most {
            silent.push(TcpStream::connect(gateway.admin()).expect("a connection"));
        }
        let began = Instant::now();
        assert_eq!(gateway.http("GET", "/healthz").status, 200);
        assert!(began.elapsed() < Duration::from_millis(500), "{most}: {:?}", began.elapsed());
    }
    // Where the host gives descriptors enough, nobody had to make room.
    let last = silent.last_mut().expect("400");
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is still open");
    let mut answer = String::new();
    last.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection to the admin page from an address of one's own, that takes as little as can be at a time.
fn connect_from(address: &str, gateway: &Gateway) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1).expect("the smallest");
    let own: SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(&own.into()).expect("an address of loopback");
    socket.connect_timeout(&gateway.admin().into(), PATIENCE).expect("a connection");
    socket.into()
}

/// Asks for `/healthz` from an address and says how long the answer took.
fn probe(address: &str, gateway: &Gateway) -> Duration {
    let began = Instant::now();
    let mut stream = connect_from(address, gateway);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    began.elapsed()
}

#[test]
fn four_hundred_each_that_say_nothing_half_a_request_or_take_no_answer_delay_no_probe() {
    let gateway = Gateway::demo(&[]);
    let metrics = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut kept, mut took) = (vec![], vec![]);
    for said in [&b""[..], b"GET /status HT", metrics] {
        for n in 0..400 {
            let mut attacker = connect_from("127.0.0.2", &gateway);
            // Its place may have been given to another already.
            let _ = attacker.write_all(said);
            kept.push(attacker);
            if n % 40 == 39 {
                // From elsewhere, and from the very address that all of them have.
                took.extend([probe("127.0.0.1", &gateway), probe("127.0.0.2", &gateway)]);
            }
        }
    }
    took.sort();
    println!("probes: median {:?}, longest {:?}", took[took.len() / 2], took[took.len() - 1]);
    // Sooner than the shortest time that any of them has.
    assert!(took.iter().all(|took| *took < Duration::from_secs(2)), "{took:?}");
    assert!(gateway.metric("evergate_admin_connections_dropped_total") > 0.0, "somebody had to make room");
}

#[test]
fn a_page_is_for_its_own_names_and_those_of_admin_hosts() {
    let ask = |gateway: &Gateway, host: &str| {
        let mut stream = TcpStream::connect(gateway.admin()).expect("a connection");
        write!(stream, "GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let gateway = Gateway::demo(&["--admin-hosts", "Admin.example, 192.0.2.7"]);
    let address = gateway.admin().to_string();
    for own in [&address, "localhost", "admin.example:443", "192.0.2.7"] {
        assert!(ask(&gateway, own).starts_with("HTTP/1.1 200 "), "{own}");
    }
    for foreign in ["evil.example", "admin.example.evil.example", "192.0.2.8"] {
        let answer = ask(&gateway, foreign);
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("admin_hosts"), "{foreign}: {answer}");
        assert!(!answer.contains("uptime_seconds"), "{answer}");
    }
    let wrong = evergate(&["demo", "--admin-hosts", "admin.example:443"], &[]);
    assert!(wrong.code == 2 && wrong.text().contains("without a port"), "{}", wrong.text());
}
