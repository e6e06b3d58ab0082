//! `/metrics` as promtool judges it, and what `tuning/` has for Prometheus and Grafana, in a Prometheus.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::process::Process;
use crate::support::{Folder, PATIENCE, StopsAtEnd, eventually, free_port, until};

const DASHBOARD: &str = include_str!("../../tuning/grafana/evergate.json");
const CONFIGURATION: &str = include_str!("../../tuning/prometheus/prometheus.yml");
const RULES: &str = include_str!("../../tuning/prometheus/evergate-alerts.yml");

/// Where what is installed for Prometheus is.
fn tuning(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tuning/prometheus").join(file)
}

/// Whether Prometheus is installed, promtool with it; not where `tests/run` found that it cannot be. Who runs the tests otherwise, and
/// has none, is told.
fn has_prometheus() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let found = ["prometheus", "promtool"].iter().all(is_there);
    let may_be_without = std::env::var_os("EVERGATE_TESTS_WITHOUT_PROMETHEUS").is_some();
    assert!(found || may_be_without, "no Prometheus: apt install prometheus");
    found
}

/// What promtool says to `input`, and whether it is content.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(tuning(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("promtool reads it");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Calls of all kinds, one after the other: answered, refused by their service, for nobody, and no JSON.
fn call_once(client: &mut Client, at: u32) {
    client.call("opensrf.math", &at.to_string(), at, "add", "[1,2]");
    client.request("opensrf.demo", &format!("f{at}"), at, "opensrf.demo.fail", "[500,\"no\"]");
    client.recv();
    client.request("nobody.has.this", &format!("n{at}"), at, "any", "[]");
    client.recv();
    client.send("{");
    client.recv();
}

#[test]
fn promtool_has_nothing_to_say_of_an_idle_gateway_nor_of_one_that_has_served() {
    if !has_prometheus() {
        return;
    }
    let gateway = Gateway::demo(&["--cores", "0"]);
    let judged = || promtool(&["check", "metrics"], &gateway.http("GET", "/metrics").body);
    assert_eq!(judged(), (true, String::new()), "idle");
    let mut client = Client::connect(&gateway);
    for at in 0..3 {
        call_once(&mut client, at);
    }
    client.close();
    until("its end is counted", PATIENCE, || gateway.metric("evergate_closes_total") >= 1.0);
    assert_eq!(judged(), (true, String::new()), "after it has served");
    for (name, least) in [
        ("evergate_first_reply_seconds_count", 6.0),
        ("evergate_completion_seconds_count", 6.0),
        ("evergate_service_errors_total", 3.0),
        ("evergate_errors_total", 3.0),
        ("evergate_bus_round_trip_seconds_count", 1.0),
        ("evergate_bus_push_messages_count", 1.0),
        ("evergate_bus_pop_messages_count", 1.0),
        ("evergate_turn_seconds_count", 1.0),
        ("evergate_received_bytes_total", 1.0),
        ("evergate_bus_received_bytes_total", 1.0),
        ("process_cpu_seconds_total", f64::MIN_POSITIVE),
    ] {
        let value = gateway.metric(name);
        assert!(value >= least, "{name}: {value}");
    }
    let body = gateway.http("GET", "/metrics").body;
    assert!(body.contains("service=\"opensrf.math\"") && !body.contains("nobody.has.this"), "{body}");
    let pid_open = gateway.open_descriptors() as f64;
    let said = gateway.metric("process_open_fds");
    assert!((said - pid_open).abs() <= 4.0, "{said} of {pid_open}");
}

#[test]
fn promtool_accepts_configuration_and_rules_and_the_alerts_fire_when_they_should() {
    if !has_prometheus() {
        return;
    }
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "evergate-alerts.yml"],
        ["test", "rules", "evergate-alerts.test.yml"],
    ] {
        let (is_content, said) = promtool(&arguments, "");
        assert!(is_content, "{arguments:?}: {said}");
    }
}

/// A Prometheus that scrapes a gateway five times a second, configured by the files in `tuning/`.
struct Prometheus {
    /// Declared first: it is killed before its folder goes.
    process: Process,
    folder: Folder,
    address: SocketAddr,
}

impl Prometheus {
    fn watching(gateway: &Gateway) -> Self {
        let folder = Folder::new();
        folder.write("evergate-alerts.yml", RULES);
        let configuration = CONFIGURATION
            .replace("127.0.0.1:7683", &gateway.admin().to_string())
            .replace("interval: 15s", "interval: 200ms");
        assert!(configuration.contains(&gateway.admin().to_string()) && !configuration.contains("15s"));
        folder.write("prometheus.yml", &configuration);
        let (process, address) = Self::start(&folder);
        let mut own = Self { process, folder, address };
        until("Prometheus is ready", PATIENCE * 3, || {
            // Somebody else may have been faster to take its port.
            if own.process.exited().is_some() {
                (own.process, own.address) = Self::start(&own.folder);
            }
            own.try_get("/-/ready")
                .is_some_and(|answer| answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"))
        });
        own
    }

    fn start(folder: &Folder) -> (Process, SocketAddr) {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(folder.path().join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(folder.path().join("data"));
        command.arg(format!("--web.listen-address={address}"));
        (Process::start("prometheus", &mut command, folder.path()), address)
    }

    fn try_get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn get(&self, path: &str) -> Value {
        let text = self.try_get(path).unwrap_or_else(|| panic!("{path}: {}", self.process.log()));
        let (_, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// What a query yields.
    fn query(&self, query: &str) -> Vec<Value> {
        let mut encoded = String::new();
        for byte in query.bytes() {
            write!(encoded, "%{byte:02x}").expect("a String takes all");
        }
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }
}

/// Every query of the dashboard, with the title of its panel.
fn queries(value: &Value, title: &str, found: &mut Vec<(String, String)>) {
    let title = value["title"].as_str().or(value["name"].as_str()).unwrap_or(title);
    if let Some(query) = value["expr"].as_str() {
        let query = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "5s");
        found.push((title.to_owned(), query));
    }
    match value {
        Value::Object(members) => members.values().for_each(|member| queries(member, title, found)),
        Value::Array(elements) => elements.iter().for_each(|element| queries(element, title, found)),
        _ => {}
    }
}

#[test]
fn every_query_of_the_dashboard_and_every_rule_works_in_a_prometheus_that_scrapes_a_gateway() {
    // What says something only when something happens that does not here.
    const QUIET: [&str; 3] = ["Drain", "Limits reached", "Drains begin"];
    if !has_prometheus() {
        return;
    }
    let gateway = Gateway::demo(&["--cores", "0"]);
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut found = Vec::new();
    queries(&dashboard, "", &mut found);
    assert!(found.len() > 50, "{found:?}");
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = StopsAtEnd(&stops);
        scope.spawn(|| {
            for at in 0.. {
                if stops.load(SeqCst) {
                    break;
                }
                // A refused handshake, and a connection that comes and goes.
                assert_eq!(Client::refusal(gateway.address(), &[("Sec-WebSocket-Version", "7")]), Some(426));
                let mut client = Client::connect(&gateway);
                call_once(&mut client, at);
                client.close();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let prometheus = Prometheus::watching(&gateway);
        for (title, query) in &found {
            let is_quiet = QUIET.contains(&title.as_str());
            eventually(&format!("{title}: {query}"), PATIENCE * 2, || {
                let result = prometheus.query(query);
                let has_numbers = result.iter().all(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"));
                (is_quiet || (!result.is_empty() && has_numbers)).then_some(())
            });
        }
        let rules = RULES.matches("- alert:").count();
        until("every rule has been evaluated", PATIENCE * 2, || {
            let answer = prometheus.get("/api/v1/rules");
            let all = answer["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
            let failed: Vec<&Value> = all.iter().filter(|rule| rule["health"] == "err").collect();
            assert!(failed.is_empty(), "{failed:?}");
            all.iter().filter(|rule| rule["health"] == "ok").count() == rules
        });
    });
}
