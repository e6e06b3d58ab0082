//! `evergate-load` against gateways that are drained: what is lost, what is sent again, and how a script can tell.

use std::collections::HashMap;

use nix::sys::signal::Signal;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::support::activity::relayed_adds;
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::{finish, run, start};
use crate::support::other_gateway::{closing_with, right_answer, server, url};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, until};

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
    assert_eq!(
        (run.code, run.errors()),
        (4, HashMap::from([("closed_1012", 4), ("unanswered_1012", 4)])),
        "{}",
        run.output
    );
    assert_eq!((&run.json["drained"], &run.json["failed_requests"]), (&4.into(), &0.into()), "{}", run.json);
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
        assert_eq!((run.code, run.errors().len()), (4, 0), "{pace:?}: {}", run.output);
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
    // Each asks thrice a second, so that there are gaps on a busy machine, too.
    let options = ["--clients", "60", "--rate", "200", "--warmup", "0", "--duration", "60", "--reconnect"];
    let load = start(&folder, &url(first.address()), &options);
    until("the first serves some", PATIENCE, || first.metric("evergate_requests_total") > 50.0);
    until("all are connected", PATIENCE, || first.count("open") + second.count("open") == 60);
    let open = first.count("open");
    first.signal(Signal::SIGUSR1);
    assert_eq!(first.wait_exit(PATIENCE), 0, "{}", first.log());
    until("all are back", PATIENCE, || second.count("open") == 60);
    load.signal(Signal::SIGINT);
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().len()), (4, 0), "{}", run.output);
    assert!(run.output.contains("nobody lost a request"), "{}", run.output);
    assert_eq!(run.json["reconnects"].as_u64(), Some(open), "{}", run.json);
    assert_eq!(run.json["drained"].as_u64(), Some(open), "{}", run.json);
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
fn a_gateway_drained_in_the_middle_without_a_loss_gives_an_exit_code_of_its_own_where_nobody_comes_back() {
    let mut gateway = Gateway::demo(&["--drain-quiet-ms", "1"]);
    let folder = Folder::new();
    let options = ["--clients", "12", "--rate", "60", "--warmup", "0", "--duration", "60"];
    let load = start(&folder, &url(gateway.address()), &options);
    until("it serves some", PATIENCE, || gateway.metric("evergate_requests_total") > 20.0);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0, "{}", gateway.log());
    let run = finish(&folder, load);
    assert_eq!((run.code, run.errors().get("closed_1012")), (4, Some(&12)), "{}", run.output);
    assert_eq!((&run.json["drained"], &run.json["failed_requests"]), (&12.into(), &0.into()), "{}", run.json);
}

#[test]
fn a_drain_that_loses_somebody_is_an_error() {
    let (url, _) = closing_with(&[1012, 1001], 3);
    let run = run(&url, &["--clients", "2", "--duration", "20"]);
    let errors = HashMap::from([("closed_1001", 1), ("closed_1012", 1), ("lost", 1), ("unanswered_1012", 1)]);
    assert_eq!((run.code, run.errors()), (1, errors), "{}", run.output);
}
