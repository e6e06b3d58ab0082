//! `evergate call`, and what the command says of itself: man pages and completions.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use evergate::config::TABLE;
use nix::sys::signal::Signal;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::support::bus::Responder;
use crate::support::gateway::{Gateway, Setup};
use crate::support::other_gateway::{closing_with, right_answer, server, url};
use crate::support::process::{Ended, Process, binary, evergate};
use crate::support::redis::Redis;
use crate::support::{Folder, PATIENCE, until};

fn call(url: &str, words: &[&str]) -> Ended {
    evergate(&[&["call", "--url", url], words].concat(), &[])
}

#[test]
fn each_result_is_printed_as_the_text_that_the_service_wrote() {
    let gateway = Gateway::demo(&[]);
    let url = url(gateway.address());
    for (words, printed) in [
        (&["opensrf.math", "add", "-1", "2.50"][..], "1.5\n"),
        (&["opensrf.demo", "opensrf.demo.count", "3", "0.01"], "1\n2\n3\n"),
        (&["opensrf.demo", "opensrf.demo.echo", "{\"n\":12345678901234567890}"], "{\"n\":12345678901234567890}\n"),
        (&["opensrf.demo", "opensrf.demo.bundled", "2"], "1\n2\n"),
        (&["opensrf.demo", "opensrf.demo.chunked", "6"], "\"abcdef\"\n"),
        (&["--connect", "opensrf.demo", "opensrf.demo.counter"], "1\n"),
    ] {
        let ended = call(&url, words);
        assert_eq!((ended.code, &*ended.stdout), (0, printed), "{words:?}: {}", ended.text());
    }
}

#[test]
fn what_fails_is_said_on_stderr_with_its_code() {
    let gateway = Gateway::demo(&[]);
    let url = url(gateway.address());
    for (words, code, said) in [
        (&["opensrf.demo", "opensrf.demo.fail", "507", "\"full\""][..], 1, "507: full"),
        (&["no.such.service", "m"], 1, "404: "),
        (
            &["--timeout-seconds", "1", "opensrf.demo", "opensrf.demo.never"],
            1,
            "it may or may not have been carried out",
        ),
        (&["opensrf.math", "add", "one"], 2, "param \"one\": it is no JSON"),
    ] {
        let ended = call(&url, words);
        assert!(ended.code == code && ended.stderr.contains(said), "{words:?}: {}", ended.text());
        assert_eq!(ended.stdout, "");
    }
    for (url, said) in [
        ("ws://127.0.0.1:1/", "does a gateway listen there?"),
        ("wss://127.0.0.1/", "TLS is the proxy's work"),
        ("http://127.0.0.1/", "it must be ws://"),
        ("unix:/run/evergate/ws.sock", "it must be ws://HOST:PORT/PATH"),
    ] {
        let ended = call(url, &["s", "m"]);
        assert!(ended.code == 1 && ended.stderr.contains(said), "{}", ended.text());
    }
}

#[test]
fn what_is_no_gateway_is_told_in_a_line() {
    let gateway = Gateway::demo(&[]);
    for path in ["/", "/osrf-websocket-translator"] {
        let ended = call(&format!("ws://{}{path}", gateway.admin()), &["s", "m"]);
        assert!(ended.code == 1 && ended.stderr.contains("is that the admin port?"), "{path}: {}", ended.text());
        assert!(ended.stderr.lines().count() == 1 && ended.stderr.len() < 400, "{path}: {}", ended.text());
    }
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let closes = thread::spawn(move || drop(silent.accept().expect("a client").0));
    let ended = call(&url(address), &["s", "m"]);
    assert!(ended.code == 1 && ended.stderr.contains("a listener with ;proxy"), "{}", ended.text());
    closes.join().expect("it was called");
}

#[test]
fn what_a_1012_left_unanswered_is_called_again_and_what_another_close_did_is_not() {
    let (url, asked) = closing_with(&[1012, 1012, 1001], 0);
    let ended = call(&url, &["opensrf.math", "add", "1", "2"]);
    assert!(ended.code == 1 && ended.stderr.contains("1001"), "{}", ended.text());
    assert!(ended.stderr.contains("it may or may not have been carried out"), "{}", ended.text());
    assert_eq!(asked.lock().expect("nobody panicked").len(), 3);
}

#[test]
fn a_call_waits_for_the_next_gateway_where_the_first_is_gone_and_says_why_another_refuses() {
    let first = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = first.local_addr().expect("its address");
    let restarts = thread::spawn(move || {
        let mut socket = tungstenite::accept(first.accept().expect("a client").0).expect("a handshake");
        drop(first);
        socket.read().expect("a request");
        socket.close(Some(CloseFrame { code: 1012.into(), reason: "".into() })).expect("a Close");
        while socket.read().is_ok() {}
        // Nobody is there for a moment.
        thread::sleep(Duration::from_millis(300));
        let second = TcpListener::bind(address).expect("the port");
        let mut socket = tungstenite::accept(second.accept().expect("a client").0).expect("a handshake");
        let asked = socket.read().expect("a request");
        socket.send(Message::text(right_answer(asked.to_text().expect("text")))).expect("an answer");
    });
    let ended = call(&url(address), &["opensrf.math", "add", "1", "2"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "3\n"), "{}", ended.text());
    restarts.join().expect("both were called");

    let gateway = Setup::serve_at("127.0.0.1:1").start_unready();
    until("it listens", PATIENCE, || TcpStream::connect(gateway.address()).is_ok());
    let ended = call(&url(gateway.address()), &["s", "m"]);
    assert!(ended.code == 1 && ended.stderr.contains("it refuses the handshake: 503"), "{}", ended.text());
}

#[test]
fn a_call_to_a_gateway_that_is_drained_is_answered_before_or_by_the_next() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &[]);
    let mut bus = Responder::new(&redis);
    let folder = Folder::new();
    let mut command = binary();
    command.args(["call", "--url", &url(gateway.address()), "s", "m"]);
    let mut calls = Process::start("evergate-call", &mut command, folder.path());
    let arrived = bus.next();
    gateway.signal(Signal::SIGUSR1);
    bus.complete(&arrived, "\"in time\"");
    assert_eq!(calls.wait_exit(PATIENCE), 0, "{}", calls.log());
    assert_eq!(calls.output(), "\"in time\"\n");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_reply_that_is_no_json_is_shown_without_its_escapes() {
    let url = server(|mut socket| {
        if socket.read().is_ok() {
            socket.send(Message::text("\u{1b}[2Jno JSON")).ok();
        }
        while socket.read().is_ok() {}
    });
    let ended = call(&url, &["s", "m"]);
    assert!(ended.code == 1 && ended.stderr.contains("not understood"), "{}", ended.text());
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.text());
    // The same with a right one.
    let url = server(|mut socket| {
        if let Ok(Message::Text(text)) = socket.read() {
            socket.send(Message::text(right_answer(&text))).ok();
        }
        while socket.read().is_ok() {}
    });
    assert_eq!(call(&url, &["opensrf.math", "add", "20", "22"]).stdout, "42\n");
}

#[test]
fn every_subcommand_has_a_man_page_and_serve_s_has_every_option() {
    let folder = Folder::new();
    let pages = folder.path().join("man").join("man1");
    let ended = evergate(&["man", &pages.display().to_string()], &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.text());
    let read = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["serve", "demo", "drain", "status", "demo-services", "check", "config", "call", "man", "completions"] {
        let page = read(&format!("evergate-{name}.1"));
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
        assert!(read("evergate.1").contains(&name.replace('-', "\\-")), "{name}");
    }
    let serve = read("evergate-serve.1");
    assert!(serve.contains(".SH SYNOPSIS\n\\fBevergate serve\\fR [\\fIOPTIONS\\fR]\n.SH DESCRIPTION"), "{serve}");
    let headings = |page: &str| -> Vec<String> {
        page.lines().filter_map(|line| Some(line.strip_prefix(".SH ")?.trim_matches('"').to_owned())).collect()
    };
    let ends = ["EXIT STATUS", "NOTES", "EXAMPLES"];
    for name in ["drain", "serve"] {
        let found = headings(&read(&format!("evergate-{name}.1")));
        assert!(found.windows(ends.len()).any(|found| found == ends), "{name}: {found:?}");
    }
    for option in TABLE {
        let Some(flag) = option.flag() else { continue };
        assert!(serve.contains(&format!("\\-\\-{}", flag.replace('-', "\\-"))), "{flag}");
    }
    if cfg!(feature = "load") {
        assert!(read("evergate-load.1").contains("\\-\\-clients"));
    }
    let taken = folder.write("file", "");
    let ended = evergate(&["man", &taken.display().to_string()], &[]);
    assert!(ended.code == 1 && ended.stderr.contains("cannot be written"), "{}", ended.text());
}

#[test]
fn bash_reads_its_completions_and_the_other_shells_have_some() {
    let folder = Folder::new();
    let bash = evergate(&["completions", "bash"], &[]);
    assert_eq!(bash.code, 0, "{}", bash.text());
    let script = folder.write("completions", &bash.stdout);
    // What a user would be shown for `evergate serve --dr`.
    let asks = format!(
        "source {}; COMP_WORDS=(evergate serve --dr); COMP_CWORD=2; _evergate evergate --dr serve; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let said = Command::new("bash").args(["-c", &asks]).output().expect("bash");
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    for flag in ["--drain-max-seconds", "--drain-quiet-ms"] {
        assert!(said.contains(flag), "{said}");
    }
    for shell in ["zsh", "fish"] {
        let ended = evergate(&["completions", shell], &[]);
        assert!(ended.code == 0 && ended.stdout.contains("drain-max-seconds"), "{shell}: {}", ended.text());
    }
    if cfg!(feature = "load") {
        let ended = evergate(&["completions", "fish", "evergate-load"], &[]);
        assert!(ended.code == 0 && ended.stdout.contains("-l clients"), "{}", ended.text());
    }
}
