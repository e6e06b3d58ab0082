//! Who is connected, and the end of one connection: `/connections`, `evergate clients`, and the numbers in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::activity::said;
use crate::support::bus::Responder;
use crate::support::client::{Client, envelope, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::process::{Ended, Process, binary};
use crate::support::redis::Redis;
use crate::support::{Folder, PATIENCE, eventually, trio, until};

/// `evergate clients` with these flags, for that gateway.
fn clients(gateway: &Gateway, flags: &[&str]) -> Ended {
    let folder = Folder::new();
    let mut command = binary();
    command.arg("clients").args(flags).arg("--control").arg(gateway.control()).current_dir(folder.path());
    Process::start("evergate-clients", &mut command, folder.path()).ended()
}

/// The objects that it prints.
fn rows(gateway: &Gateway, flags: &[&str]) -> Vec<Value> {
    let ended = clients(gateway, &[&["--json"], flags].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.text());
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// All pages that `/connections` has for a query, of so many connections each.
fn pages(gateway: &Gateway, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = gateway.http("GET", &format!("/connections?limit={limit}{query}{cursor}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page: Value = serde_json::from_str(&answer.body).expect("a page");
        let connections = page["connections"].as_array().expect("a list");
        assert!(connections.len() <= limit && page["silent_cores"] == serde_json::json!([]), "{page}");
        all.extend(connections.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {row}"))
}

fn numbers(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| text(row, "connection")).collect()
}

#[test]
fn under_load_every_client_that_stays_is_on_exactly_one_page_of_two_cores() {
    let gateway = Setup::demo().start();
    let stay: Vec<Client> = (0..40).map(|_| Client::connect(&gateway)).collect();
    let known: BTreeSet<String> = numbers(&pages(&gateway, "", 1_000)).into_iter().map(str::to_owned).collect();
    assert_eq!(known.len(), 40);
    let cores: BTreeSet<u64> = pages(&gateway, "", 7).iter().map(|row| row["core"].as_u64().expect("a CPU")).collect();
    let cpus = gateway.status()["cores"].as_array().expect("cores").len();
    assert_eq!(cores.len(), cpus.min(2), "40 clients are on all cores: {cores:?}");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..2_u32 {
            let (gateway, done) = (&gateway, &done);
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    let mut client = Client::connect(gateway);
                    client.call("opensrf.math", "t", n, "add", "[1,2]");
                    client.close();
                }
            });
        }
        for limit in [1, 3, 7, 40, 1_000] {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for number in numbers(&pages(&gateway, "", limit)) {
                *seen.entry(number.to_owned()).or_default() += 1;
            }
            assert!(known.iter().all(|number| seen.get(number) == Some(&1)), "{limit} a page: {known:?} in {seen:?}");
        }
        done.store(true, SeqCst);
    });
    drop(stay);
}

#[test]
fn what_has_reached_a_client_is_not_listed_as_on_its_way() {
    let gateway = Setup::demo().start();
    let mut client = Client::connect(&gateway);
    client.call("opensrf.math", "t", 0, "add", "[1,2]");
    until("its reply is delivered", PATIENCE, || pages(&gateway, "", 10)[0]["undelivered_bytes"] == 0);
}

#[test]
fn connections_are_found_by_address_state_age_and_requests_in_flight() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut bus = Responder::new(&redis);
    let forwarded = |address: &'static str| {
        Client::connect_with(gateway.address(), &[("X-Forwarded-For", address)]).expect("a client")
    };
    let (_idle, mut waits, mut sits) = (forwarded("192.0.2.1"), forwarded("192.0.2.2"), forwarded("2001:db8::1"));
    sits.send(&envelope("s", "t", &[crate::support::client::connect(0)]));
    bus.accept();
    sits.until_status(200);
    waits.send(&envelope("s", "t", &[request(0, "a.method", "[]"), request(1, "a.method", "[]")]));
    bus.next();
    let addresses = |query: &str| -> BTreeSet<String> {
        pages(&gateway, query, 2).iter().map(|row| text(row, "address").to_owned()).collect()
    };
    let set = |addresses: &[&str]| -> BTreeSet<String> { addresses.iter().map(|it| (*it).to_owned()).collect() };
    let all = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    for (query, expected) in [
        ("", &all[..]),
        ("&state=open", &all[..]),
        ("&state=closing", &[]),
        ("&state=idle", &all[..1]),
        ("&state=waiting_for_replies", &all[1..2]),
        ("&in_flight=2", &all[1..2]),
        ("&in_flight=3", &[]),
        ("&state=in_stateful_session", &all[2..]),
        ("&address=192.0.2.0%2F24", &all[..2]),
        ("&address=2001:db8::1", &all[2..]),
        ("&address=192.0.2.0%2F24&state=idle", &all[..1]),
        ("&age_seconds=3600", &[]),
    ] {
        assert_eq!(addresses(query), set(expected), "{query}");
    }
    let row = &pages(&gateway, "&state=waiting_for_replies", 9)[0];
    assert_eq!((&row["requests"], &row["in_flight"], &row["sessions"]), (&2.into(), &2.into(), &0.into()), "{row}");
    until("all have been there for a second", PATIENCE, || addresses("&age_seconds=1") == set(&all));
    for (query, part) in [("state=tired", "handshaking"), ("colour=red", "there are address"), ("limit=0", "1 to 1000")]
    {
        let answer = gateway.http("GET", &format!("/connections?{query}"));
        assert!(answer.status == 400 && answer.body.contains(part), "{}: {}", answer.status, answer.body);
    }
    assert_eq!(gateway.http("POST", "/connections").status, 405);
    assert_eq!(gateway.http("HEAD", "/connections").status, 200);
}

#[test]
fn a_connection_has_one_number_in_the_log_on_the_page_and_in_the_list() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("open-ils.circ", "t", &[request(1, "a.method", "[1]")]).replacen(
        '{',
        "{\"log_xid\":\"1764.5-x\",",
        1,
    ));
    let arrived = bus.next();
    assert_eq!(arrived.xid(), "1764.5-x", "as the services log it");
    let line = gateway.until_logged("open-ils.circ a.method");
    let (_, tail) = said(&line).expect("number and log_xid");
    let number = tail.strip_suffix(" 1764.5-x").expect("the log_xid");
    assert_eq!(said(&gateway.until_logged("] [] connect")).expect("a number").1, number);
    assert_eq!(numbers(&pages(&gateway, "", 9)), [number]);
    assert_eq!(numbers(&rows(&gateway, &[])), [number]);
    let (_, place) = number.split_once('.').expect("a CPU");
    assert!(arrived.thread().starts_with(place), "the bus thread {} has the rest of {number}", arrived.thread());
    bus.complete(&arrived, "1");
    client.until_status(205);
    client.close();
    assert_eq!(said(&gateway.until_logged("] [] disconnect")).expect("a number").1, number);
}

#[test]
fn evergate_clients_prints_a_table_and_json_and_takes_filters() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let _idle = Client::connect(&gateway);
    client.request("s", "t", 1, "m", "[]");
    bus.next();
    let table = clients(&gateway, &[]);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""), "{}", table.text());
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("connection ") && lines[3] == "2 connections", "{}", table.stdout);
    let waiting = rows(&gateway, &["--in-flight", "1"]);
    assert!(waiting.len() == 1 && text(&waiting[0], "state") == "waiting_for_replies", "{waiting:?}");
    assert!(rows(&gateway, &["--older-than", "3600"]).is_empty());
    assert_eq!(rows(&gateway, &["--address", "127.0.0.0/8", "--state", "idle"]).len(), 1);
    for (flags, part) in [
        (&["--state", "tired"][..], "handshaking"),
        (&["--address", "nobody"], "CIDR"),
        (&["--close", "17"], "0.17.3"),
        (&["--now"], "--close"),
    ] {
        let refused = clients(&gateway, flags);
        assert!(refused.code == 2 && refused.stderr.contains(part), "{}: {}", refused.code, refused.text());
    }
}

#[test]
fn a_connection_that_is_closed_at_its_gap_gets_its_reply_first() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let mut other = Client::connect(&gateway);
    client.request("s", "t", 1, "m", "[]");
    let arrived = bus.next();
    let waiting = rows(&gateway, &["--state", "waiting_for_replies"]);
    let number = text(&waiting[0], "connection");
    let asked = clients(&gateway, &["--close", number]);
    assert!(asked.code == 0 && asked.stdout.contains("at its next gap"), "{}", asked.text());
    assert_eq!(rows(&gateway, &["--state", "waiting_for_replies"])[0]["closing_at_gap"], true);
    gateway.until_logged(&format!("closes connection {number} at its gap"));
    bus.complete(&arrived, "1");
    let (code, before) = client.close_code(PATIENCE);
    assert!(code == Some(1012) && before.iter().any(|reply| reply.has_status(205)), "{code:?}: {before:?}");
    drop(client);
    let gone = eventually("it has ended", PATIENCE, || {
        let again = clients(&gateway, &["--close", number]);
        (again.code == 1).then_some(again)
    });
    assert!(gone.stderr.contains("has ended already"), "{}", gone.text());
    let unknown = clients(&gateway, &["--close", "4095.1.2"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("no connection 4095.1.2"), "{}", unknown.text());
    let closed = gateway.metric("evergate_closed_by_operator_total");
    assert!((closed - 1.0).abs() < 0.1, "{closed}");
    other.must_be_connected();
}

#[test]
fn a_connection_that_is_closed_now_is_told_1001_and_its_worker_and_the_log_hear_of_it() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[crate::support::client::connect(0)]));
    bus.accept();
    client.until_status(200);
    let number = text(&rows(&gateway, &[])[0], "connection").to_owned();
    let asked = clients(&gateway, &["--close", &number, "--now", "--json"]);
    let answer: Value = serde_json::from_str(&asked.stdout).expect("an object");
    assert_eq!((asked.code, &answer["closes"]), (0, &"now".into()), "{}", asked.text());
    assert_eq!(client.close_code(PATIENCE).0, Some(1001));
    assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
    gateway.until_logged("was cut off by the operator: s session");
    assert!(gateway.until_logged("] [] disconnect").contains("the operator of this gateway"));
}

#[test]
fn a_process_that_cannot_list_its_clients_is_named_with_its_version() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let folder = Folder::new();
    let path = folder.path().join("control");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let old = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).expect("a line");
        let answer = "{\"ok\":false,\"evergate_control\":1,\"version\":\"0.1.0\",\"pid\":7,\"error\":\"unknown variant \
                      `connections`, expected one of `status`\"}\n";
        stream.write_all(answer.as_bytes()).expect("it reads");
        asked
    });
    let mut command = binary();
    command.args(["clients", "--json", "--control"]).arg(&path).current_dir(folder.path());
    let ended = Process::start("evergate-clients", &mut command, folder.path()).ended();
    assert!(ended.code == 1 && ended.stderr.contains("process 7 is evergate 0.1.0, which cannot"), "{}", ended.text());
    assert!(old.join().expect("the old process").contains("\"command\":\"connections\""));
}

#[test]
fn as_json_every_line_of_the_log_is_an_object_whatever_clients_write() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--log-format", "json", "--activity-bytes-max", "300"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    let hostile = "\u{202e}\",\"target\":\"forged\\\u{7f}\u{2028}\u{feff}}";
    let params = [
        serde_json::json!([hostile, {"a": [1, 2.50]}]),
        serde_json::json!([hostile.repeat(100)]),
        serde_json::json!([]),
    ];
    for (trace, params) in params.iter().enumerate() {
        let asked = envelope("open-ils.x", hostile, &[request(trace as u32, "METHOD", &params.to_string())]);
        client.send(&asked.replace("METHOD", "a.\\\"\\n\\u001b\\\\method").replacen(
            '{',
            "{\"log_xid\":\"\\\"x ]\",",
            1,
        ));
        bus.next();
    }
    client.send("no JSON \u{202e}\u{1b}");
    gateway.signal(Signal::SIGUSR1);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
    let log = gateway.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(log.chars().all(|c| c == '\n' || evergate_proto::opensrf::printable::shows(c)), "{log:?}");
    for line in &lines {
        for key in ["time", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
        assert_eq!(line["pid"], gateway.pid(), "{line}");
    }
    let of = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["target"] == "activity" && line["message"] == message).collect()
    };
    let requests = of("request");
    assert_eq!(requests.len(), 3);
    for (line, params) in requests.iter().zip(&params) {
        let told = (&line["address"], &line["service"], &line["method"], &line["log_xid"]);
        let said = (&"127.0.0.1".into(), &"open-ils.x".into(), &"a.\"\n\u{1b}\\method".into(), &"\"x ]".into());
        assert_eq!(told, said, "{line}");
        assert_eq!(line["connection"], of("connect")[0]["connection"]);
        if line.get("cut").is_none() {
            assert_eq!(&serde_json::from_str::<Value>(text(line, "params")).expect("JSON in a string"), params);
        }
    }
    assert_eq!(requests.iter().filter(|line| line["cut"] == true).count(), 1);
    assert_eq!((of("disconnect").len(), &of("disconnect")[0]["requests"]), (1, &3.into()));
    assert!(lines.iter().any(|line| line["level"] == "WARN" && text(line, "message").contains("was cut off")), "{log}");
}
