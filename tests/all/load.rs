//! `evergate-load` against the demo, and against servers that do wrong.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::support::activity::relayed_adds;
use crate::support::gateway::{Gateway, Setup};
use crate::support::other_gateway::{closing_with, right_answer, server, url};
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, free_port, serve, until};

/// What a run came to.
struct Run {
    code: i32,
    json: Value,
    output: String,
}

impl Run {
    fn errors(&self) -> HashMap<&str, u64> {
        let errors = self.json["errors"].as_object().expect("errors").iter();
        errors.map(|(kind, count)| (kind.as_str(), count.as_u64().expect("a count"))).collect()
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_evergate-load"))
}

fn start(folder: &Folder, url: &str, options: &[&str]) -> Process {
    let mut command = program();
    command.arg(url).args(options).arg("--json").arg(folder.path().join("load.json"));
    Process::start("evergate-load", &mut command, folder.path())
}

fn finish(folder: &Folder, mut load: Process) -> Run {
    let code = load.wait_exit(PATIENCE * 3);
    let text = std::fs::read_to_string(folder.path().join("load.json")).unwrap_or_default();
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", load.log()));
    Run { code, json, output: load.output() + &load.log() }
}

fn run(url: &str, options: &[&str]) -> Run {
    let folder = Folder::new();
    let load = start(&folder, url, options);
    finish(&folder, load)
}

/// Where nobody listens.
fn nobody() -> String {
    url(SocketAddr::from(([127, 0, 0, 1], free_port())))
}

/// Sends every text back.
fn echo(mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if message.is_text() && socket.send(message).is_err() {
            return;
        }
    }
}

/// A server that answers each request with the envelopes that this makes of the request's right answer.
fn responder(answers: impl Fn(String) -> Vec<String> + Clone + Send + 'static) -> String {
    server(move |mut socket| {
        while let Ok(message) = socket.read() {
            let Message::Text(text) = message else { continue };
            for answer in answers(right_answer(&text)) {
                if socket.send(Message::text(answer)).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn a_load_of_every_kind_on_the_demo_is_answered_and_measured() {
    let gateway = Gateway::demo(&[]);
    let folder = Folder::new();
    let (page, pid) = (folder.path().join("load.html"), gateway.pid().to_string());
    let mut options = vec!["--clients", "8", "--in-flight", "2", "--duration", "1", "--warmup", "0.2", "--idle", "5"];
    options.extend(["--churn", "20", "--mix", "stateless=4,stateful=2,streamed=1,large=1", "--large-bytes", "300000"]);
    options.extend(["--sources", "2", "--server-pid", &pid, "--report", page.to_str().expect("a path")]);
    let run = finish(&folder, start(&folder, &url(gateway.address()), &options));
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    let json = &run.json;
    assert!(json["requests"].as_u64() > Some(10) && json["churned"].as_u64() > Some(1), "{json}");
    for figure in ["/latency_us/p50", "/connect_us/max", "/server/cpu_us_per_request", "/server/pss_bytes"] {
        assert!(json.pointer(figure).and_then(Value::as_f64) > Some(0.0), "{figure}: {json}");
    }
    assert_eq!(json["idle"], 5);
    let html = std::fs::read_to_string(&page).expect("the page");
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(!html.contains("src=") && !html.contains("href="), "the page needs nothing besides itself");
}

#[test]
fn an_open_loop_sends_at_its_rate_and_measures_from_the_due_time() {
    let gateway = Gateway::demo(&[]);
    let mut options = vec!["--clients", "20", "--rate", "400", "--arrival", "fixed", "--duration", "1"];
    options.extend(["--warmup", "0.2"]);
    let run = run(&url(gateway.address()), &options);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    // Of those that were due in the second, however late a busy machine answers them.
    let due: u64 =
        ["latency_requests", "not_sent"].iter().map(|count| run.json[count].as_u64().expect("a count")).sum();
    assert!((390..=500).contains(&due), "{}", run.json);
}

#[test]
fn a_wrong_reply_is_caught_and_named() {
    type Answers = fn(String) -> Vec<String>;
    let cases: [(&str, Answers); 6] = [
        ("wrong_content", |answer| vec![answer.replace("\"content\":", "\"content\":1")]),
        ("wrong_client", |answer| vec![answer.replace(".000000.", ".000001.")]),
        ("wrong_trace", |answer| vec![answer.replacen("\"threadTrace\":1", "\"threadTrace\":2", 1)]),
        ("duplicate", |answer| vec![answer.clone(), answer]),
        ("unparsable", |answer| vec![answer.replace("]}", "")]),
        ("missing", |_| vec![]),
    ];
    for (kind, answers) in cases {
        let url = responder(answers);
        let run = run(&url, &["--clients", "2", "--duration", "0.5", "--warmup", "0", "--timeout", "0.3"]);
        assert_eq!(run.code, 1, "{kind}: {}", run.output);
        assert!(run.errors().contains_key(kind), "{kind}: {}", run.json);
        assert!(run.output.contains(kind), "{}", run.output);
    }
}

#[test]
fn an_idle_client_without_a_right_reply_has_had_no_round_trip() {
    let url = responder(|_| vec![]);
    let options = ["--clients", "0", "--idle", "3", "--duration", "0.1", "--warmup", "0", "--timeout", "0.2"];
    let run = run(&url, &options);
    assert_eq!(
        (run.code, &run.json["idle"], run.errors().get("missing")),
        (1, &Value::from(0), Some(&3)),
        "{}",
        run.output
    );
}

#[test]
fn one_wrong_reply_among_right_ones_is_counted_once() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let url = responder(move |answer| {
        let is_tenth = sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 10;
        vec![if is_tenth { answer.replace("\"content\":", "\"content\":7") } else { answer }]
    });
    let run = run(&url, &["--clients", "3", "--count", "100", "--warmup", "0.1"]);
    assert_eq!((run.code, run.errors()), (1, HashMap::from([("wrong_content", 1)])), "{}", run.output);
    assert_eq!(run.json["requests"], 100);
}

#[test]
fn a_server_that_drains_is_reported_and_the_run_ends() {
    let url = server(|mut socket| {
        for _ in 0..5 {
            let Ok(Message::Text(text)) = socket.read() else { return };
            socket.send(Message::text(right_answer(&text))).ok();
        }
        let frame = CloseFrame { code: 1012.into(), reason: "drained".into() };
        socket.close(Some(frame)).ok();
        while socket.read().is_ok() {}
    });
    let run = run(&url, &["--clients", "4", "--duration", "20"]);
    assert_eq!((run.code, run.errors().get("closed_1012")), (1, Some(&4)), "{}", run.output);
    assert!(run.output.contains("; the first: drained)"), "{}", run.output);
}

#[test]
fn who_comes_back_sends_again_what_a_1012_left_unanswered_and_nothing_else() {
    let (url, asked) = closing_with(&[1012, 1001, 1012], 3);
    let run = run(&url, &["--clients", "1", "--warmup", "0", "--count", "20", "--reconnect"]);
    let asked = asked.lock().expect("nobody panicked");
    let times = asked.iter().fold(HashMap::<&str, u32>::new(), |mut times, text| {
        *times.entry(text).or_default() += 1;
        times
    });
    let twice = times.values().filter(|times| **times == 2).count() as u64;
    assert_eq!(times.values().max(), Some(&2));
    // Of each connection three are answered: six have gone, and of each third the fourth request is lost.
    assert_eq!((run.errors(), run.code), (HashMap::from([("closed_1001", 2), ("lost", 2)]), 1), "{}", run.output);
    assert_eq!((run.json["reconnects"].as_u64(), run.json["retried"].as_u64()), (Some(6), Some(twice)));
    assert_eq!(twice, 4);
    assert!(run.output.contains("sent again after a 1012"), "{}", run.output);
}

#[test]
fn a_close_with_1012_is_no_error_for_who_comes_back() {
    let (url, _) = closing_with(&[1012], 20);
    // What an open loop asks for must fit into what the server answers, with the pauses that clients make.
    for (pace, count) in [(["--in-flight", "2"], "200"), (["--think", "1"], "200"), (["--rate", "20"], "100")] {
        let options = ["--clients", "4", "--warmup", "0", "--count", count, "--reconnect"];
        let run = run(&url, &[&options[..], &pace].concat());
        assert_eq!((run.code, run.errors().len()), (0, 0), "{pace:?}: {}", run.output);
        assert!(run.json["reconnects"].as_u64() > Some(1), "{pace:?}: {}", run.json);
    }
}

#[test]
fn a_drain_under_load_loses_nothing_where_clients_come_back_and_all_is_carried_out_once() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let flags = ["--share-port", "--drain-quiet-ms", "1", "--loglevel", "info"];
    let mut first = Setup::serve(&redis).flags(&flags).start();
    let mut second = Setup::serve(&redis).flags(&flags).start_sharing(&first);
    second.until_ready();
    let folder = Folder::new();
    let options = ["--clients", "60", "--rate", "1000", "--warmup", "0", "--duration", "4", "--reconnect"];
    let load = start(&folder, &url(first.address()), &options);
    until("the first serves some", PATIENCE, || first.metric("evergate_requests_total") > 200.0);
    until("all are connected", PATIENCE, || first.count("open") + second.count("open") == 60);
    let open = first.count("open");
    first.signal(Signal::SIGUSR1);
    assert_eq!(first.wait_exit(PATIENCE), 0, "{}", first.log());
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert_eq!(run.json["reconnects"].as_u64(), Some(open), "{}", run.json);
    // What crossed a Close was not relayed. Each request has params of its own, and a line for each time that it is.
    let logs = || first.log() + &second.log();
    let answered = run.json["latency_requests"].as_u64().expect("a count") as usize;
    until("all are in a log", PATIENCE, || relayed_adds(&logs()).len() >= answered);
    let logs = logs();
    let mut times = HashMap::<&str, u32>::new();
    for params in relayed_adds(&logs) {
        *times.entry(params).or_default() += 1;
    }
    assert_eq!(times.values().max(), Some(&1));
}

#[test]
fn a_server_that_dies_loses_what_was_under_way_and_nobody_panics() {
    let mut gateway = Gateway::demo(&[]);
    let folder = Folder::new();
    let mut load = start(&folder, &url(gateway.address()), &["--clients", "4", "--duration", "20"]);
    gateway.until_count("open", 4);
    gateway.kill();
    let code = load.wait_exit(PATIENCE);
    assert_eq!(code, 1, "{}", load.log());
    assert!(!load.log().contains("panicked"), "{}", load.log());
}

#[test]
fn who_refuses_everybody_or_is_not_there_gives_exit_code_3() {
    let nobody = nobody();
    let run_nobody = run(&nobody, &["--clients", "3"]);
    assert_eq!((run_nobody.code, run_nobody.errors().get("connect_connection_refused")), (3, Some(&3)));

    let refusing = url(serve(|mut stream| {
        let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
        let refusal = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\ntoo many";
        let _ = std::io::Write::write_all(&mut stream, refusal);
    }));
    let run_refused = run(&refusing, &["--clients", "3"]);
    assert_eq!((run_refused.code, run_refused.errors().get("refused_http_503")), (3, Some(&3)));
    assert!(run_refused.output.contains("; the first: too many)"), "{}", run_refused.output);
}

#[test]
fn two_servers_are_compared_in_turns() {
    let (a, b) = (server(echo), server(echo));
    let mut options = vec!["--echo", "--vs", &b, "--echo2", "--rounds", "3", "--clients", "2", "--duration", "0.2"];
    options.extend(["--warmup", "0.1"]);
    let run = run(&a, &options);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert_eq!(run.json["rounds"].as_array().map(Vec::len), Some(3));
    let ratio = &run.json["ratio"]["throughput"];
    let at = |name: &str| ratio[name].as_f64().unwrap_or_else(|| panic!("{name}: {ratio}"));
    assert!(at("min") > 0.0 && at("median") > 0.0 && at("max") >= at("min"), "{ratio}");
}

#[test]
fn a_server_that_dies_between_rounds_is_no_refusal_and_the_ratios_say_of_how_many_rounds_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let dying = url(listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        // Those of the first round; then nobody listens.
        for stream in listener.incoming().flatten().take(2) {
            std::thread::spawn(move || echo(tungstenite::accept(stream).expect("a handshake")));
        }
    });
    let mut options = vec!["--echo", "--vs", &dying, "--echo2", "--rounds", "2", "--clients", "2"];
    options.extend(["--duration", "0.3", "--warmup", "0.1"]);
    let run = run(&server(echo), &options);
    assert_eq!((run.code, run.json["vs"]["connected"].as_u64()), (1, Some(0)), "{}", run.output);
    assert_eq!((&run.json["ratio"]["rounds"], &run.json["ratio"]["p50"]["rounds"]), (&2.into(), &1.into()));
    assert!(run.output.contains("1 of 2 rounds"), "{}", run.output);
}

/// The number of a line of `/metrics` that counts requests.
fn relayed_requests(line: &str) -> Option<f64> {
    line.strip_prefix("evergate_requests_total{")?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn ctrl_c_ends_with_what_there_is() {
    let gateway = Gateway::demo(&[]);
    let folder = Folder::new();
    let load = start(&folder, &url(gateway.address()), &["--clients", "4", "--duration", "60", "--warmup", "0"]);
    let relayed = || gateway.http("GET", "/metrics").body.lines().filter_map(relayed_requests).sum::<f64>();
    until("requests are relayed", PATIENCE, || relayed() > 200.0);
    load.signal(Signal::SIGINT);
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert_eq!(run.json["interrupted"], true);
    assert!(run.json["requests"].as_u64() > Some(0), "{}", run.json);
}

#[test]
fn ctrl_c_ends_it_while_nobody_answers_the_handshake() {
    let (accepted, connections) = std::sync::mpsc::channel();
    let silent = url(serve(move |stream| {
        accepted.send(()).ok();
        while std::io::Read::read(&mut &stream, &mut [0; 1024]).is_ok_and(|bytes| bytes > 0) {}
    }));
    let folder = Folder::new();
    let load = start(&folder, &silent, &["--clients", "2", "--churn", "10"]);
    connections.recv_timeout(PATIENCE).expect("a connection");
    load.signal(Signal::SIGINT);
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().len(), &run.json["connected"]), (0, 0, &Value::from(0)), "{}", run.output);
    assert!(run.output.contains("interrupted") && !run.output.contains("NaN"), "{}", run.output);
}

#[test]
fn ctrl_c_ends_it_while_connections_are_opened_one_by_one() {
    let (accepted, connections) = std::sync::mpsc::channel();
    let url = server(move |mut socket| {
        accepted.send(()).ok();
        while let Ok(Message::Text(text)) = socket.read() {
            socket.send(Message::text(right_answer(&text))).ok();
        }
    });
    let folder = Folder::new();
    let load = start(&folder, &url, &["--clients", "1000", "--ramp", "1000000"]);
    connections.recv_timeout(PATIENCE).expect("a connection");
    load.signal(Signal::SIGINT);
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert!(run.output.contains("interrupted"), "{}", run.output);
}

#[test]
fn the_requests_of_sessions_are_within_the_rate() {
    let gateway = Gateway::demo(&[]);
    let options = ["--clients", "20", "--rate", "400", "--duration", "1", "--warmup", "0.2", "--mix", "stateful"];
    let run = run(&url(gateway.address()), &options);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert!((1..=800).contains(&run.json["requests"].as_u64().expect("requests")), "{}", run.json);
}

#[test]
fn a_count_that_cannot_be_reached_is_given_up() {
    let url = responder(|_| vec![]);
    let run = run(&url, &["--clients", "2", "--count", "5", "--warmup", "0", "--timeout", "0.2"]);
    assert_eq!((run.code, run.json["requests"].as_u64()), (1, Some(0)), "{}", run.output);
    assert!(run.errors().contains_key("missing"), "{}", run.json);
}

#[test]
fn clients_that_come_and_go_are_a_load_of_their_own_and_a_close_without_answer_is_an_error() {
    let gateway = Gateway::demo(&[]);
    let options = ["--clients", "0", "--churn", "50", "--duration", "0.5", "--warmup", "0"];
    let right = run(&url(gateway.address()), &options);
    assert_eq!((right.code, right.errors().len()), (0, 0), "{}", right.output);
    assert!(right.json["churned"].as_u64() > Some(0), "{}", right.json);

    let rude = server(|mut socket| {
        std::io::Read::read(socket.get_mut(), &mut [0; 64]).ok();
        socket2::SockRef::from(socket.get_ref()).set_linger(Some(std::time::Duration::ZERO)).ok();
    });
    let wrong = run(&rude, &options);
    assert_eq!(wrong.code, 1, "{}", wrong.output);
    assert!(wrong.errors().contains_key("io_connection_reset"), "{}", wrong.json);
}

#[test]
fn figures_that_cannot_be_printed_are_an_error_and_those_in_files_are_kept() {
    let nobody = nobody();
    let folder = Folder::new();
    let json = folder.path().join("load.json");
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let run = |to: std::process::Stdio| {
        let mut command = program();
        command.args([&nobody, "--clients", "1", "--json"]).arg(&json).stdout(to);
        command.output().expect("it starts")
    };
    let output = run(full().into());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("stdout: ") && error.contains("space"), "{error}");
    assert!(std::fs::read_to_string(&json).expect("the file").contains("\"seconds\""));

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(run(writer.into()).status.code(), Some(3));
}

#[test]
fn json_to_stdout_leaves_the_table_to_stderr_and_says_what_made_it() {
    let nobody = nobody();
    let mut command = program();
    let output = command.args([&nobody, "--clients", "1", "--json", "-"]).output().expect("it starts");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(
        (&json["run"]["version"], &json["run"]["command"][1]),
        (&env!("CARGO_PKG_VERSION").into(), &nobody.into())
    );
    assert!(json["run"]["began"].as_str().is_some_and(|began| began.ends_with('Z')), "{json}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing listens on 127.0.0.1:"));
}

#[test]
fn its_help_names_every_default_and_a_usage_error_gives_exit_code_2() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| {
        let mut command = program();
        let mut process = Process::start("evergate-load", command.args(arguments), folder.path());
        (process.wait_exit(PATIENCE), process.output(), process.log())
    };
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["--rate", "[default: 64]", "Exit codes", "--server-pid2"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    let (code, _, error) = run(&["http://127.0.0.1/"]);
    assert_eq!(code, 2);
    assert!(error.contains("ws://"), "{error}");
}
