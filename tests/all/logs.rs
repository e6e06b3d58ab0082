//! A log or a configuration that hangs hurts nobody: signals are heard, clients served, losses counted; and what is repeated is said once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::Client;
use crate::support::fifo::{self, Fifo};
use crate::support::gateway::{Gateway, Setup};
use crate::support::process::evergate;
use crate::support::redis::Redis;
use crate::support::{Folder, PATIENCE, eventually, trio, until};

/// Moves a file away and puts a FIFO in its place that nobody has opened.
fn hang(path: &Path) -> PathBuf {
    let moved = path.with_extension("old");
    std::fs::rename(path, &moved).expect("move a file away");
    fifo::make(path);
    moved
}

/// A gateway with its log and its configuration in files, and the two files.
fn with_files(redis: &Redis) -> (Gateway, PathBuf, PathBuf) {
    let setup = Setup::serve(redis);
    let log = PathBuf::from(setup.file("evergate.log", ""));
    let gateway = setup.flags(&["--logfile", &log.display().to_string()]).start();
    let configuration = log.with_file_name("evergate.toml");
    (gateway, log, configuration)
}

#[test]
fn a_drain_works_after_hup_whatever_hangs_and_the_log_says_what_hung() {
    for is_log in [true, false] {
        let redis = Redis::start();
        let (mut gateway, log, configuration) = with_files(&redis);
        let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
        client.request("s", "t", 0, "m", "[]");
        let arrived = bus.next();
        let hanging = if is_log { &log } else { &configuration };
        let moved = hang(hanging);
        let readable = if is_log { &moved } else { &log };
        gateway.signal(Signal::SIGHUP);
        gateway.signal(Signal::SIGUSR1);
        until("it drains", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
        assert_eq!(
            (gateway.status()["phase"].as_str(), gateway.http("GET", "/healthz").status),
            (Some("draining"), 200)
        );
        let path = hanging.display().to_string();
        let line = eventually("what hung is said", 2 * PATIENCE, || {
            let text = std::fs::read_to_string(readable).expect("the log");
            text.lines().find(|line| line.contains(&path) && line.contains("cannot be")).map(str::to_owned)
        });
        assert!(line.contains("ERROR") && line.contains("within 5 s") && line.contains("FIFO"), "{line}");
        bus.complete(&arrived, "1");
        client.until_status(205);
        assert_eq!(client.close_code(PATIENCE).0, Some(1012));
        assert_eq!(gateway.wait_exit(PATIENCE), 0);
    }
}

#[test]
fn a_stop_works_after_any_number_of_hups_whatever_hangs() {
    let redis = Redis::start();
    let (mut gateway, log, configuration) = with_files(&redis);
    let mut client = Client::connect(&gateway);
    hang(&log);
    hang(&configuration);
    for _ in 0..3 {
        gateway.signal(Signal::SIGHUP);
        client.must_be_connected();
        assert_eq!((gateway.http("GET", "/readyz").status, gateway.status()["phase"].as_str()), (200, Some("serving")));
    }
    gateway.signal(Signal::SIGTERM);
    assert_eq!(client.close_code(PATIENCE).0, Some(1001));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_log_that_takes_no_byte_costs_lines_that_are_counted_and_said_and_holds_up_no_stop() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis);
    let path = setup.file("log", "");
    std::fs::remove_file(&path).expect("a name for the FIFO");
    let mut log = Fifo::hold(Path::new(&path));
    let mut gateway = setup.flags(&["--logfile", &path, "--log-queue-bytes-max", "65536", "--cores", "0"]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    let params = format!("[\"{}\"]", "x".repeat(1_400));
    // The pipe, the writer's buffer and the queue hold 64 KiB each.
    let mut flood = |bound: Duration| {
        let before = gateway.metric("evergate_log_lines_dropped_total");
        until("the queue is full", bound, || {
            client.request("open-ils.actor", "t", 0, "a.method", &params);
            let arrived = bus.next();
            bus.complete(&arrived, "1");
            client.until_status(205);
            gateway.metric("evergate_log_lines_dropped_total") > before + 10.0
        });
    };
    flood(6 * PATIENCE);
    assert_eq!(gateway.http("GET", "/readyz").status, 200);
    assert!(gateway.metric("evergate_log_queue_bytes") <= 65_536.0);
    assert!(gateway.metric("evergate_log_dropped_bytes_total") > 14_000.0);
    assert!(gateway.limit("log_queue_bytes_max") > 0);
    let (mut text, mut said) = (String::new(), 0);
    until("all losses are said", PATIENCE, || {
        text.push_str(&log.read());
        let losses = text.lines().filter(|line| line.contains(" are missing here"));
        said = losses.filter_map(|line| line.split_once("log: ")?.1.split(' ').next()?.parse::<u64>().ok()).sum();
        said as f64 >= gateway.metric("evergate_log_lines_dropped_total")
    });
    assert!(text.lines().any(|line| line.contains("WARN") && line.contains("log_queue_bytes_max")), "{text:.2000}");
    flood(6 * PATIENCE);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(client.close_code(PATIENCE).0, Some(1001));
    let closed = Instant::now();
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
}

#[test]
fn a_file_that_hangs_at_the_start_ends_it_with_2_and_is_named_with_a_remedy() {
    // The place of FILE is a FIFO of each one's own: one would open it for another.
    let services = "demo-services --redis 127.0.0.1:1 --domain d --router-user r --service-user s";
    let cases = [
        "demo --logfile FILE".to_owned(),
        "demo --config FILE".to_owned(),
        "serve --opensrf-core FILE".to_owned(),
        "check --config FILE".to_owned(),
        "config --config FILE".to_owned(),
        format!("{services} --router-password-file FILE --service-password-file /dev/null"),
    ];
    std::thread::scope(|scope| {
        for command in &cases {
            scope.spawn(move || {
                let folder = Folder::new();
                let path = folder.path().join("fifo");
                fifo::make(&path);
                let path = path.display().to_string();
                let arguments: Vec<&str> =
                    command.split(' ').map(|word| if word == "FILE" { &*path } else { word }).collect();
                let ended = evergate(&arguments, &[]);
                assert_eq!(ended.code, 2, "{command}: {}", ended.text());
                let said = ended.stderr.lines().find(|line| line.contains(&path)).unwrap_or_default();
                assert!(said.contains("within 5 s") && said.contains("FIFO"), "{command}: {}", ended.text());
                assert!(["correct the path", "read the FIFO"].iter().any(|remedy| said.contains(remedy)), "{said}");
            });
        }
    });
}

#[test]
fn a_signal_while_the_start_waits_for_its_log_is_kept() {
    let setup = Setup::demo();
    let path = setup.file("log", "");
    std::fs::remove_file(&path).expect("a name for the FIFO");
    fifo::make(Path::new(&path));
    let mut gateway = setup.flags(&["--logfile", &path]).start_unready();
    let caught = format!("/proc/{}/status", gateway.pid());
    until("the handlers stand", PATIENCE, || {
        let status = std::fs::read_to_string(&caught).unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .map(|mask| u64::from_str_radix(mask.trim(), 16));
        mask.is_some_and(|mask| mask.expect("hexadecimal") & (1 << (Signal::SIGUSR1 as u32 - 1)) != 0)
    });
    gateway.signal(Signal::SIGUSR1);
    let mut log = Fifo::hold(Path::new(&path));
    let mut text = String::new();
    let code = eventually("it drains and ends", 2 * PATIENCE, || {
        text.push_str(&log.read());
        gateway.exited()
    });
    text.push_str(&log.read());
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("drain: SIGUSR1"), "{text}");
}

#[test]
fn a_warning_that_is_repeated_is_said_once_with_its_number() {
    let (redis, mut gateway, mut client, mut bus) = trio(&["--cores", "0"]);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let began = Instant::now();
    for n in 0..168 {
        bus.push(arrived.from(), "?".repeat(1 + n).as_bytes());
    }
    until("all are popped", PATIENCE, || gateway.metric("evergate_bus_garbage_total") >= 168.0);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    let windows = 1 + began.elapsed().as_secs() / 10;
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a message could not be read")).collect();
    let more = |line: &&str| line.split_once(" [")?.1.split(' ').next()?.parse::<u64>().ok();
    let gathered: u64 = lines.iter().filter_map(more).sum();
    let alone = lines.iter().filter(|line| more(line).is_none()).count() as u64;
    assert!(alone <= windows && alone + gathered == 168, "{log}");
    assert!(log.ends_with(" evergate ends with 0\n"), "nothing is said behind the last line: {log}");
    drop(redis);
}
