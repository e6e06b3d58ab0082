//! The bus half is tested against `redis-server` with the stock ACL, where that is installed, and against a listener
//! that answers what the test says.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Inputs, Listen, Purpose, Secret, load};

fn config(address: &str) -> Config {
    Config {
        domain: "public.localhost".into(),
        domains: vec!["public.localhost".into()],
        username: "gateway".into(),
        passwd: Secret::new("gateway-test"),
        bus_domain_address: BTreeMap::from([("public.localhost".to_owned(), address.to_owned())]),
        ..load(Inputs::none(Purpose::Demo)).expect("the defaults").config
    }
}

fn text(findings: &[Finding]) -> String {
    let mut out = Vec::new();
    for finding in findings {
        write_finding(&mut out, finding).expect("memory takes it");
    }
    String::from_utf8(out).expect("UTF-8")
}

/// A Redis of the test's own under the stock ACL; stopped on drop.
struct Redis(Child, String);

impl Redis {
    fn start(gateway_commands: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsave \"\"\n\
             user gateway on >gateway-test -@all {gateway_commands} ~opensrf:router:* ~opensrf:client:*\n"
        );
        let mut child = Command::new(std::env::var_os("BUS_SERVER").unwrap_or_else(|| "redis-server".into()))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(settings.as_bytes()).ok()?;
        let redis = Self(child, format!("127.0.0.1:{port}"));
        let end = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(&redis.1).is_err() {
            assert!(Instant::now() < end, "redis-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    /// What the default user, who may do anything, is answered.
    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(&self.1).expect("redis-server listens");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_stock_acl_passes_and_nothing_is_left_behind() {
    let Some(redis) = Redis::start("+lpop +blpop +rpush +del") else { return };
    let config = config(&redis.1);
    let findings = bus::domain(&config, "public.localhost");
    let report = text(&findings);
    assert!(findings.iter().all(|finding| finding.outcome == Outcome::Ok), "{report}");
    assert!(report.contains("RPUSH, BLPOP, LPOP, LPOP with a count, DEL"), "{report}");
    assert!(!report.contains(" is 127.0.0.1"), "a numeric address is not resolved: {report}");
    assert!(redis.ask("DBSIZE").starts_with(":0"), "a key is left");
    assert!(redis.ask("ACL LOG").starts_with("*0"), "something was refused on the way");
}

#[test]
fn a_command_that_the_account_may_not_use_fails_with_the_acl_to_set_and_cleans_up() {
    let Some(redis) = Redis::start("+lpop +rpush +del") else { return };
    let report = text(&bus::domain(&config(&redis.1), "public.localhost"));
    assert!(report.contains("FAIL  bus public.localhost: BLPOP on opensrf:client:gateway:public.localhost:check:"));
    assert!(report.contains("NOPERM") && report.contains("ACL SETUSER gateway +lpop +blpop +rpush +del"), "{report}");
    assert!(redis.ask("DBSIZE").starts_with(":0"), "a key is left");
}

#[test]
fn a_wrong_password_fails_and_is_not_printed() {
    let Some(redis) = Redis::start("+lpop +blpop +rpush +del") else { return };
    let config = Config { passwd: Secret::new("mistyped"), ..config(&redis.1) };
    let report = text(&bus::domain(&config, "public.localhost"));
    assert!(report.contains("FAIL  bus public.localhost: the account \"gateway\" is refused"), "{report}");
    assert!(!report.contains("mistyped"), "{report}");
}

#[test]
fn a_bus_that_nobody_serves_fails() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
    let report = text(&bus::domain(&config(&address), "public.localhost"));
    assert!(report.contains("cannot be reached") && report.contains("start Redis"), "{report}");
}

#[test]
fn a_name_that_does_not_resolve_fails_with_the_option_that_mends_it() {
    let report = text(&bus::domain(&config("nosuch.invalid:6379"), "public.localhost"));
    assert!(report.contains("does not resolve") && report.contains("bus_domain_address"), "{report}");
}

#[test]
fn a_bus_that_never_answers_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let begun = Instant::now();
    let report = text(&bus::domain(&config(&address), "public.localhost"));
    assert!(report.contains("FAIL"), "{report}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn the_last_line_counts_warnings_and_failures() {
    for (warned, failed, said) in
        [(0, 0, "no warnings, nothing failed"), (1, 0, "1 warning, nothing failed"), (4, 2, "4 warnings, 2 failed")]
    {
        assert_eq!(total(warned, failed), said);
    }
}

#[test]
fn the_report_says_false_when_one_line_fails_and_every_failure_has_a_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let config =
        Config { listen: vec![Listen::plain(address)], domains: Vec::new(), admin: None, ..config("127.0.0.1:1") };
    let mut out = Vec::new();
    assert_eq!(run(&config, &["something is odd".to_owned()], &mut out), Ok(false));
    let report = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<&str> = report.lines().collect();
    let failed = lines.iter().position(|line| line.starts_with("FAIL  listen")).expect("the port is taken");
    assert!(lines[failed + 1].starts_with("      "), "{report}");
    let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count() as u32;
    assert_eq!(lines.last(), Some(&&*total(count("warn  "), count("FAIL  "))), "{report}");
    assert!(report.contains("note  behind a proxy") && report.contains("note  configuration: something is odd\n"));
}
