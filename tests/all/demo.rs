//! `evergate demo`: the main job with nothing installed, and one run of a client library of another language.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::process::Process;
use crate::support::{Folder, PATIENCE, until};

#[test]
fn it_prints_its_url_and_a_command_to_try_and_answers() {
    let mut gateway = Gateway::demo(&[]);
    until("it prints its URL", PATIENCE, || gateway.output().contains(&format!("ws://{}", gateway.address())));
    assert!(gateway.output().lines().count() >= 2, "{}", gateway.output());
    let got = Client::connect(&gateway).call("opensrf.math", "t", 0, "add", "[1,2]");
    assert_eq!(got[0].as_f64(), Some(3.0));
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn every_method_of_opensrf_demo_does_what_it_says() {
    let gateway = Gateway::demo(&[]);
    let mut client = Client::connect(&gateway);
    let mut call =
        |method: &str, params: &str| client.call("opensrf.demo", "t", 0, &format!("opensrf.demo.{method}"), params);
    assert!(json!(call("echo", r#"["x",2]"#)).to_string().contains(r#""x""#));
    assert!(!call("sleep", "[0.01]").is_empty());
    assert_eq!(call("count", "[3,0]").len(), 3);
    assert_eq!(call("bundled", "[4]").len(), 4);
    assert_eq!(call("big", "[10]")[0].as_str().map(str::len), Some(10));
    assert!(!call("chunked", "[100]").is_empty());
    assert!(!call("pid", "[]")[0].is_null());
    client.request("opensrf.demo", "t", 1, "opensrf.demo.fail", "[418, \"teapot\"]");
    let failed = client.until_status(418).pop().expect("an envelope");
    assert!(failed.text.contains("teapot"), "{}", failed.text);
}

#[test]
fn a_session_of_the_demo_counts_for_itself_and_ends_by_its_keep_alive() {
    let gateway = Gateway::demo(&["--keepalive-seconds", "1"]);
    let mut client = Client::connect(&gateway);
    client.open_session("opensrf.demo", "s");
    let mut counts = client.call("opensrf.demo", "s", 1, "opensrf.demo.counter", "[]");
    counts.extend(client.call("opensrf.demo", "s", 2, "opensrf.demo.counter", "[]"));
    assert_eq!(counts[1].as_f64(), counts[0].as_f64().map(|n| n + 1.0), "{counts:?}");
    client.until_status(408);
    gateway.until_count("idle", 1);
    assert_eq!(client.call("opensrf.demo", "s", 3, "opensrf.demo.counter", "[]").len(), 1, "served by whoever is free");
}

#[test]
fn a_hundred_clients_at_once_are_all_answered() {
    let gateway = Gateway::demo(&[]);
    let clients: Vec<Client> = (0..100).map(|_| Client::connect(&gateway)).collect();
    crate::support::client::on_threads(clients, |i, mut client| {
        let got = client.call("opensrf.math", "t", 0, "add", &format!("[{i},1]"));
        assert_eq!(got[0].as_f64().map(|sum| format!("{sum}")), Some(format!("{}", i + 1)));
    });
    gateway.until_count("open", 0);
}

#[test]
fn the_websockets_library_of_python_is_served_and_drained_too() {
    let probe = Command::new("python3").args(["-c", "import websockets"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI needs python3 with the package websockets");
        println!("skipped: python3 with the package websockets is not installed");
        return;
    }
    let mut gateway = Gateway::demo(&[]);
    let folder = Folder::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_websockets.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(gateway.address().port().to_string()).arg(gateway.pid().to_string());
    let mut python = Process::start("python", &mut command, folder.path());
    assert_eq!(python.wait_exit(Duration::from_secs(20)), 0, "{}{}", python.output(), python.log());
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}
