//! SIGTERM and SIGINT stop fast, SIGHUP re-reads, a signal during the start is kept, and only the main thread receives any.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::bus::Responder;
use crate::support::client::{Client, connect, envelope};
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Raw;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, free_port, until};

#[test]
fn term_and_int_close_with_1001_tell_the_workers_delete_the_queues_and_exit_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let redis = Redis::start();
        let mut gateway = Gateway::serve(&redis, &[]);
        let (mut idle, mut busy, mut bus) =
            (Client::connect(&gateway), Client::connect(&gateway), Responder::new(&redis));
        busy.send(&envelope("s", "t", &[connect(0)]));
        let address = bus.accept().from().to_owned();
        busy.until_status(200);
        busy.request("s", "u", 1, "m", "[]");
        bus.next();
        gateway.signal(signal);
        assert_eq!(idle.close_code(PATIENCE).0, Some(1001));
        assert_eq!(busy.close_code(PATIENCE).0, Some(1001));
        assert_eq!(bus.next_own().kinds(), ["DISCONNECT"]);
        assert_eq!(gateway.wait_exit(Duration::from_secs(7)), 0, "{signal}");
        assert_eq!(redis.keys("opensrf:client:gateway:*"), Vec::<String>::new(), "{address} is deleted");
    }
}

#[test]
fn a_client_that_never_answers_cannot_hold_up_a_fast_stop() {
    let mut gateway = Gateway::demo(&["--stop-max-seconds", "2", "--close-timeout-seconds", "30"]);
    let silent = crate::support::raw::Raw::upgrade(gateway.address());
    gateway.until_count("open", 1);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(Duration::from_secs(6)), 0);
    drop(silent);
}

#[test]
fn term_during_a_drain_is_0_where_nobody_is_cut_and_3_where_somebody_is() {
    for (pending, code) in [(true, 3), (false, 0)] {
        let redis = Redis::start();
        let mut gateway = Gateway::serve(&redis, &["--drain-quiet-ms", "30000"]);
        let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
        if pending {
            client.request("s", "t", 1, "m", "[]");
            bus.next();
        }
        gateway.signal(Signal::SIGUSR1);
        until("it drains", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
        gateway.signal(Signal::SIGTERM);
        client.close_code(PATIENCE);
        assert_eq!(gateway.wait_exit(PATIENCE), code, "pending: {pending}");
    }
}

#[test]
fn a_usr1_during_the_start_is_kept() {
    let mut gateway = Setup::serve_at(&format!("127.0.0.1:{}", free_port())).start_unready();
    until("the handlers stand", PATIENCE, || {
        gateway.try_http("GET", "/healthz").is_some() || !gateway.log().is_empty()
    });
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn hup_reads_the_origins_again_and_keeps_everybody_connected() {
    let gateway = Setup::demo().line("origins = [\"old.example\"]").start();
    let mut client = Client::connect(&gateway);
    let refusal = |origin: &str| Client::refusal(gateway.address(), &[("Origin", origin)]);
    assert_eq!((refusal("https://old.example"), refusal("https://new.example")), (None, Some(403)));
    gateway.rewrite("old.example", "new.example");
    gateway.signal(Signal::SIGHUP);
    until("the new origins hold", PATIENCE, || refusal("https://new.example").is_none());
    until("on every core", PATIENCE, || (0..8).all(|_| refusal("https://old.example") == Some(403)));
    client.must_be_connected();
}

#[test]
fn hup_reads_trusted_proxies_log_protect_and_the_log_level_again() {
    let lines = "trusted_proxies = [\"10.0.0.0/8\"]\nlog_protect = [\"other.\"]\nloglevel = \"info\"";
    let gateway = Setup::demo().line(lines).start();
    let ask = |method: &str| {
        let mut client =
            Client::connect_with(gateway.address(), &[("X-Forwarded-For", "192.0.2.7")]).expect("a client");
        client.request("opensrf.math", "t", 0, method, "[\"parameter\"]");
        client.until_ended(1);
    };
    ask("secret.first");
    let line = gateway.until_logged("secret.first");
    assert!(line.contains("[127.0.0.1]") && line.contains("parameter"), "{line}");
    gateway.rewrite("10.0.0.0/8", "127.0.0.0/8");
    gateway.rewrite("\"other.\"", "\"secret.\"");
    gateway.signal(Signal::SIGHUP);
    let mut n = 0;
    until("the new values hold", PATIENCE, || {
        n += 1;
        ask(&format!("secret.{n}x"));
        let line = gateway.until_logged(&format!("secret.{n}x"));
        line.contains("[192.0.2.7]") && line.contains("**PARAMS REDACTED**")
    });
    assert!(!gateway.log().contains("DEBUG"), "the level was info");
    gateway.rewrite("\"info\"", "\"debug\"");
    gateway.signal(Signal::SIGHUP);
    until("the new level holds", PATIENCE, || {
        let mut raw = Raw::connect(gateway.address());
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        raw.read_header();
        gateway.log().contains("DEBUG")
    });
}

#[test]
fn hup_with_a_broken_file_changes_nothing_and_ends_nothing() {
    let mut gateway = Setup::demo().line("origins = [\"old.example\"]").start();
    gateway.rewrite("origins =", "no_such_option =");
    gateway.signal(Signal::SIGHUP);
    gateway.until_logged("no_such_option");
    assert_eq!(Client::refusal(gateway.address(), &[("Origin", "https://old.example")]), None);
    assert_eq!(gateway.exited(), None);
}

#[test]
fn hup_reopens_the_log_file_after_a_rotation() {
    let setup = Setup::demo();
    let path = setup.file("evergate.log", "");
    let gateway = setup.flags(&["--logfile", &path]).start();
    let _first = Client::connect(&gateway);
    until("something is logged", PATIENCE, || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0));
    std::fs::rename(&path, format!("{path}.1")).expect("rotate");
    gateway.signal(Signal::SIGHUP);
    until("the file is there again", PATIENCE, || std::path::Path::new(&path).exists());
    Client::connect(&gateway).close();
    until("and written", PATIENCE, || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0));
}

#[test]
fn hup_during_a_drain_and_usr1_twice_do_no_harm() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    for signal in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGUSR1] {
        gateway.signal(signal);
        until("it drains", PATIENCE, || gateway.http("GET", "/readyz").status == 503);
    }
    bus.complete(&arrived, "1");
    client.until_status(205);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn only_the_main_thread_receives_signals() {
    let gateway = Gateway::demo(&[]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("its threads");
    let mut others = 0;
    for task in tasks {
        let path = task.expect("a thread").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy() == gateway.pid().to_string()) {
            continue;
        }
        // The kernel's own io_uring workers cannot be signalled and are not ours to block.
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
        if name.starts_with("iou-") {
            continue;
        }
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask").trim();
        let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
        for signal in [Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            assert_ne!(mask & (1 << (signal as u32 - 1)), 0, "{signal} is not blocked in {}", name.trim());
        }
        others += 1;
    }
    assert!(others >= 1, "cores have threads of their own");
}
