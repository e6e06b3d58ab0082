//! `evergate drain` and `evergate status`, as operators use them: the real commands against a server in this process, whose main thread the
//! tests play, and against the real gateway.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evergate::process::control::{DrainBegun, Request};
use evergate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::process::{Ended, Process, binary, evergate};
use crate::support::served::{BEGUN, Served, status_line};
use crate::support::{Folder, PATIENCE, eventually, trio, until};

#[test]
fn evergate_drain_says_when_the_port_closes_and_by_when_all_are_gone() {
    let served = Served::start();
    let command = served.command(&["drain"]);
    served.drain_when_asked(3);
    let ended = command.ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.text());
    let expected =
        format!("process {} drains: the port closes at once, all are gone in 120 s at most\n", std::process::id());
    assert_eq!(ended.stdout, expected);
}

#[test]
fn evergate_drain_json_prints_the_answer_and_nothing_else() {
    let served = Served::start();
    let command = served.command(&["drain", "--json"]);
    served.drain_when_asked(3);
    let ended = command.ended();
    let answer: Value = serde_json::from_str(&ended.stdout).expect("an object");
    assert_eq!((ended.code, &answer["ok"], &answer["drain"]["seconds_left"]), (0, &true.into(), &120.0.into()));
}

#[test]
fn a_watched_drain_counts_the_clients_and_ends_with_the_exit_code_of_the_process() {
    let mut served = Served::start();
    let command = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    until("a line of the drain", PATIENCE, || command.output().contains("open 6"));
    served.shared.cores[0].counts.idle.store(1, SeqCst);
    served.shared.cores[0].counts.closed_at_gap.store(2, SeqCst);
    until("the next", PATIENCE, || command.output().contains("open 4, sending 0, waiting 0, in session 0, idle 4"));
    served.end(3);
    let ended = command.ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (3, ""), "{}", ended.text());
    assert!(ended.stdout.contains("closed at gap 2, at deadline 0"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("it has ended with 3: the deadline cut somebody off\n"), "{}", ended.stdout);
}

#[test]
fn a_watched_drain_as_json_is_the_status_line_by_line_and_the_exit_code() {
    let mut served = Served::start();
    let command = served.command(&["drain", "--watch", "--json"]);
    served.drain_when_asked(3);
    until("some lines", PATIENCE, || command.output().lines().count() >= 3);
    served.end(0);
    let ended = command.ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.text());
    let mut lines: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.pop().expect("a last line")["ended"]["exit_code"], 0);
    for line in lines {
        assert_eq!((&line["phase"], &line["cores"][1]["open"]), (&"draining".into(), &3.into()), "{line}");
    }
}

#[test]
fn ctrl_c_leaves_the_drain_as_it_is_and_says_so() {
    let served = Served::start();
    let command = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    until("a line of the drain", PATIENCE, || command.output().contains("open 6"));
    command.signal(Signal::SIGINT);
    let ended = command.ended();
    assert_eq!(ended.code, 130, "{}", ended.text());
    assert!(ended.stderr.contains("drains on") && ended.stderr.contains("--cancel"), "{}", ended.stderr);
    assert!(served.requests().is_empty(), "nothing more was asked");
}

#[test]
fn a_drain_that_is_under_way_is_just_watched_and_all_who_watch_hear_of_its_end() {
    let mut served = Served::start();
    let first = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    let second = served.command(&["drain", "--watch"]);
    match served.request() {
        Request::Drain { reply, .. } => reply.answer(Ok(DrainBegun { already: true, ..BEGUN })),
        other => panic!("{other:?}"),
    }
    until("it watches, too", PATIENCE, || second.output().contains("open 6"));
    assert!(second.output().contains("drains already: the port is closed, all"), "{}", second.output());
    served.end(70);
    assert_eq!((first.ended().code, second.ended().code), (70, 70), "a core failed");
    assert_eq!(served.command(&["status"]).ended().code, 1, "nobody is there any more");
}

/// Plays a process that answers a drain, and then says this of itself, and no more.
fn watch_one_that_says(phases: &[Phase]) -> Ended {
    let folder = Folder::new();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut command = binary();
    command.args(["drain", "--watch", "--control"]).arg(&path);
    let process = Process::start("evergate-control", &mut command, folder.path());
    listener.set_nonblocking(true).expect("not to be waited for");
    let (mut stream, _) = eventually("it connects", PATIENCE, || listener.accept().ok());
    stream.set_nonblocking(false).expect("to be waited for");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    BufReader::new(&stream).read_line(&mut String::new()).expect("it asks");
    let shared = Arc::new(Shared::new(&[0]));
    let answer = "{\"ok\":true,\"evergate_control\":1,\"version\":\"0.1.0\",\"pid\":7}\n";
    stream.write_all(answer.as_bytes()).expect("it reads");
    for &phase in phases {
        // A phase never goes back by itself: each is another process's.
        let shared = if phase == Phase::Serving { Arc::new(Shared::new(&[0])) } else { Arc::clone(&shared) };
        shared.enter(phase);
        writeln!(stream, "{}", status_line(&shared)()).expect("it reads");
    }
    if phases.last() == Some(&Phase::Draining) {
        drop(stream);
    }
    process.ended()
}

#[test]
fn a_process_that_ends_without_a_word_and_a_drain_that_is_taken_back_end_the_watching_with_1() {
    for (phases, part) in [
        (&[Phase::Draining][..], "process 7 has ended without a word"),
        (&[Phase::Draining, Phase::Serving], "process 7: the drain was cancelled; 0 clients stay"),
    ] {
        let ended = watch_one_that_says(phases);
        assert!(ended.code == 1 && ended.stderr.contains(part), "{}: {}", ended.code, ended.text());
    }
}

#[test]
fn a_cancelled_drain_is_confirmed_or_refused_with_the_reason() {
    let served = Served::start();
    for (answer, code, part) in [
        (Ok(()), 0, "the drain is cancelled"),
        (Err("nothing drains: there is nothing to cancel".to_owned()), 1, "refused: nothing drains"),
    ] {
        let command = served.command(&["drain", "--cancel"]);
        match served.request() {
            Request::Cancel { reply, .. } => reply.answer(answer),
            other => panic!("{other:?}"),
        }
        let ended = command.ended();
        assert!(ended.code == code && ended.text().contains(part), "{}: {}", ended.code, ended.text());
    }
}

#[test]
fn evergate_status_prints_what_the_admin_page_says() {
    let served = Served::start();
    served.shared.cores[1].counts.waiting_for_replies.store(7, SeqCst);
    let json = served.command(&["status", "--json"]).ended();
    let status: Value = serde_json::from_str(&json.stdout).expect("an object");
    assert_eq!((json.code, &status["phase"], &status["pid"]), (0, &"serving".into(), &std::process::id().into()));
    assert_eq!(status["cores"][1]["waiting_for_replies"], 7);
    let text = served.command(&["status"]).ended();
    assert!(
        text.code == 0 && text.stdout.contains(": serving\n") && text.stdout.contains("  all       7 "),
        "{}",
        text.text()
    );
    // The same process by its number, whoever has the name.
    let own = served.command(&["status", "--pid", &std::process::id().to_string()]).ended();
    assert_eq!(own.code, 0, "{}", own.text());
}

#[test]
fn where_nobody_listens_the_error_names_the_path_and_the_remedy() {
    let folder = Folder::new();
    let path = folder.path().join("control").display().to_string();
    for arguments in [&["drain", "--control", &path][..], &["status", "--control", &path]] {
        let ended = evergate(arguments, &[]);
        assert!(ended.code == 1 && ended.stdout.is_empty(), "{}", ended.text());
        assert!(ended.stderr.contains(&path) && ended.stderr.contains("is evergate running"), "{}", ended.stderr);
    }
    let off = evergate(&["drain", "--control", "off"], &[]);
    assert!(off.code == 1 && off.stderr.contains("kill -USR1"), "{}", off.text());
    let wrong = evergate(&["drain", "--control", &path, "--config", "/nowhere/evergate.toml"], &[]);
    assert_eq!(wrong.code, 2, "{}", wrong.text());
}

/// The real gateway, drained by the real command.
fn drain(gateway: &Gateway, flags: &[&str], folder: &Folder) -> Process {
    let mut command = binary();
    command.arg("drain").args(flags).arg("--control").arg(gateway.control()).current_dir(folder.path());
    Process::start("evergate-drain", &mut command, folder.path())
}

#[test]
fn who_drains_a_gateway_and_watches_sees_what_it_waits_for_and_ends_as_it_does() {
    for (flags, answers, code) in [(&[][..], true, 0), (&["--drain-max-seconds", "1"], false, 3)] {
        let (_redis, mut gateway, mut client, mut bus) = trio(flags);
        let folder = Folder::new();
        client.request("open-ils.circ", "t", 1, "open-ils.circ.checkout", "[]");
        let arrived = bus.next();
        let command = drain(&gateway, &["--watch"], &folder);
        until("it waits for the reply", PATIENCE, || {
            command.output().contains("waiting 1") && command.output().contains("open-ils.circ.checkout")
        });
        if answers {
            bus.complete(&arrived, "1");
            client.until_status(205);
        }
        let ended = command.ended();
        assert_eq!((ended.code, gateway.wait_exit(PATIENCE)), (code, code), "{}", ended.text());
        assert!(ended.stdout.contains(&format!("it has ended with {code}")), "{}", ended.stdout);
        let run = std::fs::read_dir(folder_of(&gateway)).expect("the folder of its socket");
        let left: Vec<_> = run.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["control.lock"], "its socket and its name are gone");
    }
}

/// The folder of a gateway's control socket.
fn folder_of(gateway: &Gateway) -> PathBuf {
    gateway.control().parent().expect("a folder").to_owned()
}

#[test]
fn a_gateway_whose_drain_was_begun_by_mistake_goes_on_and_who_watches_is_told() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let folder = Folder::new();
    client.request("s", "t", 1, "m", "[]");
    let arrived = bus.next();
    let watching = drain(&gateway, &["--watch"], &folder);
    until("it is watched", PATIENCE, || watching.output().contains("waiting 1"));
    let cancelled = eventually("the port is closed, and can be opened again", PATIENCE, || {
        let cancelled = drain(&gateway, &["--cancel"], &folder).ended();
        (cancelled.code == 0).then_some(cancelled)
    });
    assert!(cancelled.stdout.contains("the drain is cancelled"), "{}", cancelled.text());
    let watched = watching.ended();
    assert!(watched.code == 1 && watched.stderr.contains("was cancelled; 1 clients stay"), "{}", watched.text());
    let again = drain(&gateway, &["--cancel"], &folder).ended();
    assert!(again.code == 1 && again.stderr.contains("refused: no drain is under way"), "{}", again.text());
    bus.complete(&arrived, "1");
    client.until_status(205);
    Client::connect(&gateway);
}
