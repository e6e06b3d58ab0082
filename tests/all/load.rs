//! `evergate-load` against the demo, and against servers that do wrong.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::support::gateway::Gateway;
use crate::support::load::{finish, program, run, start};
use crate::support::other_gateway::{right_answer, server, url};
use crate::support::process::Process;
use crate::support::{Folder, PATIENCE, free_port, serve, until};

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
    assert_eq!((html.matches("<svg").count(), html.matches("By kind").count()), (3, 1));
    assert!(!html.contains("src=") && !html.contains("href="), "the page needs nothing besides itself");
}

#[test]
fn a_mix_has_figures_by_kind_which_sum_up_to_those_of_all() {
    let gateway = Gateway::demo(&[]);
    let mix = ["--mix", "stateless=4,stateful=2,streamed=1,large=1", "--large-bytes", "300000"];
    let run =
        run(&url(gateway.address()), &[&["--clients", "8", "--count", "600", "--warmup", "0"][..], &mix].concat());
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    let json = &run.json;
    let kinds = json["kinds"].as_array().expect("the kinds of the mix");
    assert_eq!(
        kinds.iter().map(|kind| &kind["kind"]).collect::<Vec<_>>(),
        ["stateless", "stateful", "streamed", "large"]
    );
    for figure in ["/requests", "/throughput", "/latency_us/p50", "/latency_us/p99", "/latency_us/p999"] {
        assert!(kinds.iter().all(|kind| kind.pointer(figure).and_then(Value::as_f64) > Some(0.0)), "{figure}: {json}");
    }
    for figure in ["requests", "latency_requests"] {
        let sum: u64 = kinds.iter().filter_map(|kind| kind[figure].as_u64()).sum();
        assert_eq!(json[figure], sum, "{figure}: {json}");
    }
    assert!(run.output.lines().any(|line| line.starts_with("│ streamed ")), "{}", run.output);
}

#[test]
fn the_errors_of_a_mix_are_those_of_the_kind_that_fails() {
    let gateway = Gateway::demo(&[]);
    let options =
        ["--clients", "2", "--count", "20", "--warmup", "0", "--mix", "stateless,streamed", "--service", "x.y"];
    let run = run(&url(gateway.address()), &options);
    let [stateless, streamed] = &run.json["kinds"].as_array().expect("two kinds")[..] else { panic!("{}", run.json) };
    assert_eq!((run.code, &stateless["errors"]), (1, &run.json["errors"]), "{}", run.output);
    assert!(stateless["errors"]["status_404"].as_u64() > Some(0), "{stateless}");
    assert_eq!((&stateless["requests"], &streamed["failed_requests"]), (&0.into(), &0.into()), "{}", run.json);
    assert!(streamed["requests"].as_u64() > Some(0) && stateless["latency_us"].is_null(), "{}", run.json);
}

#[test]
fn how_it_goes_is_said_on_stderr_where_that_is_asked_for_and_never_on_stdout() {
    let url = server(echo);
    for (asked, is_said) in [(&["--progress", "0.1"][..], true), (&["--progress", "0"], false), (&[], false)] {
        let mut command = program();
        command
            .args([&url, "--echo", "--clients", "2", "--duration", "0.5", "--warmup", "0.1", "--json", "-"])
            .args(asked);
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON and nothing else");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = said.lines().filter(|line| {
            let parts = ["evergate-load: measuring: 2 clients, ", " replies/s, p99 ", ", 0 errors, ", " s left"];
            parts.iter().all(|part| line.contains(part))
        });
        assert_eq!(lines.count() > 0, is_said, "{asked:?}: {said}");
    }
}

#[test]
fn on_a_terminal_one_line_is_drawn_again_and_again_and_taken_away() {
    let folder = Folder::new();
    let (url, json) = (server(echo), folder.path().join("load.json"));
    let run =
        format!("{} {url} --echo --clients 2 --duration 1.5 --warmup 0 --json -", env!("CARGO_BIN_EXE_evergate-load"));
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{run} >{}", json.display()), "/dev/null"]);
    let shown = command.stdin(std::process::Stdio::null()).output().expect("script, of util-linux");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{text}");
    serde_json::from_slice::<Value>(&std::fs::read(&json).expect("the file")).expect("JSON and nothing else");
    let bar = text.rfind("measuring").expect(&text);
    assert!(text.contains("replies/s, p99 ") && text.contains(" s left"), "{text}");
    // Behind the last drawing that line is erased, and the table comes.
    assert!(text[bar..].contains("\u{1b}[2K") && text[bar..].contains("right replies/s"), "{text}");
}

#[test]
fn its_man_page_is_written_and_its_words_are_completed() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| program().args(arguments).output().expect("it starts");
    let directory = folder.path().join("man/man1");
    let written = run(&["man", directory.to_str().expect("a path")]);
    assert_eq!((written.status.code(), written.stdout.len()), (Some(0), 0), "{written:?}");
    let page = std::fs::read_to_string(directory.join("evergate-load.1")).expect("the page");
    assert!(page.contains("\\-\\-server\\-name") && page.contains("Exit codes"), "{page}");
    let completed = run(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&completed.stdout).contains("--server-name"), "{completed:?}");
    let failed = run(&["man", "/dev/null/x"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("/dev/null/x: "), "{failed:?}");
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
