//! What the command line may say, and what it stands for.

use super::*;

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let all = ["evergate-load", "ws://127.0.0.1:1/"].iter().chain(arguments);
    let matches = command().try_get_matches_from(all).map_err(|error| error.to_string())?;
    Options::new(&matches)
}

#[test]
fn the_command_is_sound_and_every_option_has_its_help() {
    let mut command = command();
    command.clone().debug_assert();
    let help = command.render_long_help().to_string();
    for argument in command.get_arguments() {
        assert!(argument.get_help().is_some(), "{}", argument.get_id());
        assert!(argument.is_positional() || help.contains(&format!("--{}", argument.get_id())));
    }
}

#[test]
fn the_defaults_are_those_of_the_help() {
    let options = parse(&[]).expect("no option is needed");
    assert_eq!(options.load.clients, 64);
    assert_eq!(options.load.pace, Pace::Closed { in_flight: 1, think_ns: 0 });
    assert_eq!((options.load.duration, options.load.warmup), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!(options.plan.mix, [(Kind::Stateless, 1)]);
    assert_eq!((options.plan.call.content, options.plan.call.padded), (Content::Sum, true));
    assert_eq!(options.rounds, 1);
}

#[test]
fn what_contradicts_itself_or_means_nothing_is_refused() {
    for wrong in [
        &["--rate", "5", "--think", "3"][..],
        &["--rate", "0"],
        &["--duration", "5", "--count", "7"],
        &["--clients", "0", "--count", "7"],
        &["--clients", "0", "--idle", "9", "--rate", "5"],
        &["--clients", "0"],
        &["--mix", "stateless=0"],
        &["--mix", "stateless=1,stateless=2"],
        &["--mix", "other=1"],
        &["--params", "{}"],
        &["--server-pid", "4000000000"],
        &["--server-pid2", "1"],
        &["--arrival", "fixed"],
        &["--rounds", "2"],
        &["--stateful-requests", "0"],
        &["--in-flight", "0"],
        &["--duration", "-1"],
        &["--timeout", "0"],
        &["--vs", "http://a/"],
        &["--insecure"],
        &["--vs", "wss://127.0.0.1/", "--ca", "/nowhere"],
        &["--vs", "wss://127.0.0.1/", "--ca", "/nowhere", "--insecure"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_process_that_is_named_twice_counts_once_and_one_that_is_gone_is_named() {
    let own = std::process::id().to_string();
    let options = parse(&["--server-pid", &own, "--server-pid", &own]).expect("options");
    assert_eq!(options.servers[0].pids, [std::process::id()]);
    let error = parse(&["--server-pid", &own, "--server-pid", "4000000000"]).expect_err("no such process");
    assert!(error.contains("--server-pid 4000000000:"), "{error}");
}

#[test]
fn files_are_opened_before_the_load_and_are_two() {
    let one = std::env::temp_dir().join(format!("evergate-load.{}.json", std::process::id()));
    let one = one.to_str().expect("a path").to_owned();
    let none = format!("{one}/x");
    std::fs::write(&one, "kept").expect("a file");
    let mut options = parse(&["--json", &one]).expect("options");
    assert_eq!(std::fs::read_to_string(&one).expect("the file"), "kept");
    options.json.as_mut().expect("an output").write("new").expect("it is written");
    assert_eq!(std::fs::read_to_string(&one).expect("the file"), "new");
    for wrong in [&["--json", &none][..], &["--report", &none], &["--json", &one, "--report", &one]] {
        assert!(parse(wrong).expect_err("a usage error").starts_with("--"), "{wrong:?}");
    }
    assert!(parse(&["--json", "-", "--report", "-"]).is_err());
    std::fs::remove_file(&one).expect("the file");
}

#[test]
fn sources_are_for_loopback_alone() {
    assert!(parse(&["--sources", "3"]).is_ok());
    for other in ["ws://[::1]:1/", "ws://192.0.2.1:1/"] {
        let error = parse(&["--sources", "3", "--vs", other]).expect_err(other);
        assert!(error.contains("--sources"), "{error}");
    }
}

#[test]
fn content_is_checked_where_it_is_known() {
    let content = |arguments: &[&str]| parse(arguments).expect("options").plan.call.content;
    assert_eq!(content(&["--params", "[1,\"2\"]"]), Content::Number(3.0));
    assert_eq!(content(&["--method", "sub", "--params", "[1,2]"]), Content::Any);
}
