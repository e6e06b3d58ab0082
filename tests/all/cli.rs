//! The command line and its configuration: one table behind every face, errors that a user can act on, passwords that nobody sees.

use std::net::TcpListener;

use evergate::config::TABLE;

use crate::support::Folder;
use crate::support::free_port;
use crate::support::gateway::Gateway;
use crate::support::process::{Ended, evergate};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, until};

const BASE: &str = "domain = \"public.localhost\"\nusername = \"gateway\"\npasswd = \"very-secret\"\n";

/// `evergate config` with this TOML file.
fn config(toml: &str, flags: &[&str], environment: &[(&str, &str)]) -> Ended {
    let folder = Folder::new();
    let path = folder.write("evergate.toml", toml).display().to_string();
    evergate(&[&["config", "--config", &path], flags].concat(), environment)
}

/// The line of `evergate config` for an option.
fn line<'a>(ended: &'a Ended, option: &str) -> &'a str {
    let found = ended
        .stdout
        .lines()
        .find(|line| line.trim_start().split(|c: char| c == '=' || c.is_whitespace()).next() == Some(option));
    found.unwrap_or_else(|| panic!("no {option} in\n{}", ended.text()))
}

#[test]
fn help_config_and_the_sample_all_know_every_option() {
    let help = evergate(&["serve", "--help"], &[]);
    let sample = evergate(&["config", "--sample"], &[]);
    let config = config(BASE, &[], &[]);
    assert_eq!((help.code, sample.code, config.code), (0, 0, 0), "{}{}{}", help.text(), sample.text(), config.text());
    for option in TABLE {
        let name = option.name;
        if let Some(flag) = option.flag() {
            let shown = [format!("--{flag} <"), format!("--{flag}[=")];
            assert!(shown.iter().any(|flag| help.stdout.contains(flag)), "{name} in --help");
        }
        assert!(sample.stdout.contains(&format!("{name} = ")), "{name} in the sample");
        line(&config, name);
    }
    assert!(!help.stdout.contains("--passwd"), "a password is never a flag");
}

#[test]
fn each_value_comes_with_its_source_and_passwords_are_masked() {
    let ended =
        config(&format!("{BASE}parallel_max = 7\n"), &["--garbage-max", "3"], &[("EVERGATE_SESSIONS_MAX", "9")]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(!ended.text().contains("very-secret"));
    for (option, value, source) in [
        ("parallel_max", "7", "evergate.toml"),
        ("garbage_max", "3", "flag"),
        ("sessions_max", "9", "EVERGATE_SESSIONS_MAX"),
        ("backlog_max", "1000", "default"),
    ] {
        let line = line(&ended, option);
        let plain = line.replace([',', '_'], "");
        assert!(
            plain.contains(value)
                && (line.contains(source)
                    || (source == "flag" && line.contains("--garbage-max"))
                    || (source.starts_with("EVERGATE") && line.contains("environment"))),
            "{line}"
        );
    }
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_opensrf_core_xml() {
    let folder = Folder::new();
    let xml = folder.write("opensrf_core.xml", include_str!("../opensrf_core.xml")).display().to_string();
    let from_xml = config("", &["--opensrf-core", &xml], &[]);
    assert!(
        line(&from_xml, "domain").contains("public.localhost") && line(&from_xml, "username").contains("gateway"),
        "{}",
        from_xml.text()
    );
    assert!(!from_xml.text().contains("gateway-test"), "passwords are masked");
    let toml = "username = \"from-file\"\n";
    let (flags, environment) =
        (["--opensrf-core", &xml, "--username", "from-flag"], [("EVERGATE_USERNAME", "from-environment")]);
    for (flags, environment, winner) in [
        (&flags[..2], &environment[..0], "from-file"),
        (&flags[..2], &environment[..], "from-environment"),
        (&flags[..], &environment[..], "from-flag"),
    ] {
        let ended = config(toml, flags, environment);
        assert!(line(&ended, "username").contains(winner), "{}", ended.text());
    }
}

#[test]
fn every_mistake_of_every_source_is_named_at_once() {
    let ended = config(
        "parallel_max = \"many\"\nno_such_option = 1\ngarbage_max = -1\n",
        &["--listen", "nowhere", "--clients-max", "none"],
        &[("EVERGATE_SESSIONS_MAX", "few"), ("EVERGATE_NO_SUCH", "1")],
    );
    assert_eq!(ended.code, 2, "{}", ended.text());
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 7, "{}", ended.stderr);
    assert!(lines.iter().all(|line| line.starts_with("evergate: ") && line.contains("; ")), "{}", ended.stderr);
    for part in ["evergate.toml:1: ", "evergate.toml:2: ", "evergate.toml:3: ", "EVERGATE_NO_SUCH: ", "--listen: "] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {}", ended.stderr);
    }
}

#[test]
fn the_sample_is_a_configuration_that_loads() {
    let sample = evergate(&["config", "--sample"], &[]).stdout;
    let ended = config(
        &format!("{sample}\n"),
        &["--domain", "public.localhost", "--username", "gateway"],
        &[("EVERGATE_PASSWD", "x")],
    );
    assert_eq!(ended.code, 0, "{}", ended.text());
}

#[test]
fn a_wrong_configuration_is_exit_2_and_names_file_line_and_remedy() {
    for (toml, word) in [
        ("domain = \"public.localhost\"\nno_such_option = 1\n", "no_such_option"),
        ("domain = \"public.localhost\"\nparallel_max = \"many\"\n", "parallel_max"),
        ("domain = \"public.localhost\"\nparallel_max = -1\n", "parallel_max"),
        ("domain = \"public.localhost\"\njson_depth_max = 1025\n", "json_depth_max"),
        ("domain = \"public.localhost\"\nlisten = \"nowhere\"\n", "listen"),
        ("domain = \"public.localhost\"\nthis is no toml\n", ""),
    ] {
        let ended = config(toml, &[], &[("EVERGATE_PASSWD", "x"), ("EVERGATE_USERNAME", "x")]);
        assert_eq!(ended.code, 2, "{toml}: {}", ended.text());
        assert!(
            ended.stderr.contains("evergate.toml") && ended.stderr.contains('2') && ended.stderr.contains(word),
            "{toml}: {}",
            ended.stderr
        );
    }
}

#[test]
fn usage_errors_are_exit_2() {
    for arguments in [
        &["serve", "--no-such-flag"][..],
        &["nonsense"],
        &["serve", "--config", "/nowhere/evergate.toml"],
        &["serve", "--opensrf-core", "/nowhere/opensrf_core.xml"],
        &["serve", "--domain", "d", "--username", "u", "--passwd", "x"],
        &["demo", "--parallel-max", "x"],
        &["demo", "--cores", "4095"],
        &["serve"],
        &["serve", "--domain", "public.localhost"],
    ] {
        let ended = evergate(arguments, &[]);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.text());
        assert!(!ended.stderr.is_empty(), "{arguments:?} says nothing");
    }
    let nowhere = evergate(&["serve", "--config", "/nowhere/evergate.toml"], &[]);
    assert!(nowhere.stderr.contains("/nowhere/evergate.toml"), "{}", nowhere.stderr);
    let environment = evergate(&["demo"], &[("EVERGATE_PARALLEL_MAX", "x")]);
    assert!(environment.code == 2 && environment.stderr.contains("EVERGATE_PARALLEL_MAX"), "{}", environment.text());
}

#[test]
fn dtds_and_entities_in_opensrf_core_xml_are_refused() {
    let folder = Folder::new();
    let text = include_str!("../opensrf_core.xml")
        .replace("<config>", "<!DOCTYPE config [<!ENTITY d \"public.localhost\">]>\n<config>");
    let xml = folder.write("opensrf_core.xml", &text).display().to_string();
    let ended = evergate(&["config", "--opensrf-core", &xml], &[]);
    assert!(ended.code == 2 && ended.stderr.contains("opensrf_core.xml"), "{}", ended.text());
}

#[test]
fn loglevels_of_opensrf_are_names_of_ours() {
    let folder = Folder::new();
    for (number, name) in [("0", "off"), ("1", "error"), ("2", "warn"), ("3", "info"), ("4", "debug"), ("5", "trace")] {
        let text = include_str!("../opensrf_core.xml").replace("<loglevel>3<", &format!("<loglevel>{number}<"));
        let xml = folder.write("opensrf_core.xml", &text).display().to_string();
        let ended = evergate(&["config", "--opensrf-core", &xml], &[]);
        let line = line(&ended, "loglevel").to_lowercase();
        assert!(line.contains(name) || line.contains(number), "{number}: {line}");
    }
}

/// The arguments of `check` for a Redis.
fn check(redis: &str, password: &str, more: &[&str]) -> Ended {
    let domain = format!("public.localhost={redis}");
    let arguments = ["check", "--domain", "public.localhost", "--username", "gateway", "--bus-domain-address", &domain];
    let environment = [("EVERGATE_PASSWD", password), ("EVERGATE_LISTEN", "127.0.0.1:0")];
    evergate(&[&arguments[..], more].concat(), &environment)
}

#[test]
fn check_beside_the_running_process_says_whose_the_ports_are_and_another_s_fail() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (listen, admin) = (gateway.address().to_string(), gateway.admin().to_string());
    let control = gateway.control().display().to_string();
    let runs = ["--listen", &listen, "--admin", &admin, "--control", &control];
    let ended = check(&redis.address(), "gateway-test", &runs);
    assert_eq!(ended.code, 0, "{}", ended.text());
    for (option, address) in [("listen", listen), ("admin", admin)] {
        let said = format!("{option} {address} is that of evergate, which runs as process {}", gateway.pid());
        assert!(ended.stdout.contains(&said), "{said} in\n{}", ended.stdout);
    }
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = other.local_addr().expect("its address").to_string();
    let ended = check(&redis.address(), "gateway-test", &["--listen", &other, "--control", &control]);
    assert!(ended.code == 1 && ended.stdout.contains("stop whoever listens there"), "{}", ended.text());
}

#[test]
fn a_start_that_fails_says_so_on_the_terminal_too_where_the_log_is_a_file() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("its address").to_string();
    let folder = Folder::new();
    let logfile = folder.path().join("log").display().to_string();
    let arguments = ["serve", "--domain", "public.localhost", "--username", "gateway", "--control", "off"];
    let places = ["--listen", &listen, "--logfile", &logfile];
    let ended = evergate(&[&arguments[..], &places].concat(), &[("EVERGATE_PASSWD", "x")]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    let said = format!("host: listen {listen} cannot be used");
    let logged = std::fs::read_to_string(&logfile).expect("a log");
    assert!(ended.stderr.contains(&said) && logged.contains(&said), "{}\n{logged}", ended.text());
}

#[test]
fn check_passes_line_by_line_and_leaves_nothing_on_the_bus() {
    let redis = Redis::start();
    redis.command::<i64>(&["RPUSH", crate::support::bus::ROUTER, "{}"]);
    let ended = check(&redis.address(), "gateway-test", &[]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(ended.stdout.lines().count() >= 5, "{}", ended.stdout);
    let text = ended.stdout.to_lowercase();
    for word in ["kernel", "io_uring", "clients_max", "public.localhost", "gateway"] {
        assert!(text.contains(word), "{word} in\n{}", ended.stdout);
    }
    assert_eq!(redis.keys("*"), [crate::support::bus::ROUTER], "the router's key is left alone, its own is gone");
    assert_eq!(redis.length(crate::support::bus::ROUTER), 1);
}

#[test]
fn check_fails_with_1_and_a_remedy_for_what_fails() {
    let mut redis = Redis::start();
    let wrong = check(&redis.address(), "wrong", &[]);
    assert!(wrong.code == 1 && wrong.text().contains("WRONGPASS"), "{}", wrong.text());
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "-blpop"]);
    let forbidden = check(&redis.address(), "gateway-test", &[]);
    assert!(forbidden.code == 1 && forbidden.text().contains("BLPOP"), "{}", forbidden.text());
    let address = redis.address();
    redis.kill();
    let dead = check(&address, "gateway-test", &[]);
    assert!(dead.code == 1 && dead.text().contains(&address), "{}", dead.text());
    let unresolved =
        evergate(&["check", "--domain", "no-such-host.invalid", "--username", "gateway"], &[("EVERGATE_PASSWD", "x")]);
    assert!(unresolved.code == 1 && unresolved.text().contains("no-such-host.invalid"), "{}", unresolved.text());
}

#[test]
fn check_compares_the_open_files_limit_with_clients_max() {
    let redis = Redis::start();
    let ended = check(&redis.address(), "gateway-test", &["--clients-max", "16000000"]);
    assert!(ended.code == 1 && ended.text().to_lowercase().contains("nofile"), "{}", ended.text());
}

#[test]
fn a_password_comes_from_file_or_environment_and_shows_nowhere() {
    let redis = Redis::start();
    let folder = Folder::new();
    let toml = format!(
        "listen = \"127.0.0.1:{}\"\ndomain = \"public.localhost\"\nusername = \"gateway\"\npasswd = \"gateway-test\"\nbus_domain_address = {{ \"public.localhost\" = \"{}\" }}\n",
        free_port(),
        redis.address()
    );
    let path = folder.write("evergate.toml", &toml).display().to_string();
    let ended = evergate(&["check", "--config", &path], &[]);
    assert!(ended.code == 0 && !ended.text().contains("gateway-test"), "{}", ended.text());
}

#[test]
fn demo_services_say_once_on_stderr_why_they_are_not_ready_and_go_on_trying() {
    let mut redis = Redis::start();
    let (process, _folder) = Services::spawn(&redis.address(), "wrong", &[]);
    until("the links have said it, the router's among them", PATIENCE, || {
        process.log().matches("cannot read").count() >= 3 && process.log().contains("router@127.0.0.1:")
    });
    assert!(!process.log().contains("router-wrong"), "{}", process.log());
    redis.kill();
    until("the error has changed", PATIENCE, || process.log().matches("refused").count() >= 3);
    redis.restart();
    redis.command::<()>(&["ACL", "SETUSER", "router", ">router-wrong"]);
    redis.command::<()>(&["ACL", "SETUSER", "opensrf", ">opensrf-wrong"]);
    until("they are ready", PATIENCE, || process.output().contains("ready"));
    let refused = evergate(&["demo-services", "--config", "x", "--help"], &[]);
    assert!(
        !refused.stdout.contains("--opensrf-core") && refused.stdout.contains("opensrf.demo.echo"),
        "{}",
        refused.stdout
    );
}

#[test]
fn version_and_help_end_with_0() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["demo", "--help"],
        &["demo-services", "--help"],
        &["check", "--help"],
        &["config", "--help"],
    ] {
        let ended = evergate(arguments, &[]);
        assert!(ended.code == 0 && !ended.stdout.is_empty(), "{arguments:?}: {}", ended.text());
    }
}
