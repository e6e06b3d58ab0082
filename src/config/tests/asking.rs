//! Where a running process is asked, and what the commands take.

use super::*;
use crate::config::asking::{DrainOptions, Target};

fn target(arguments: &[&str], env: &[(&str, &str)]) -> Target {
    match run_with(arguments, env) {
        Ok(Action::Drain { target, .. } | Action::Status { target, .. } | Action::Clients { target, .. }) => target,
        other => panic!("{other:?}"),
    }
}

/// Flags, variables, and where the socket is then.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], Option<&'static str>);

#[test]
fn control_follows_systemd_then_run_then_off_and_is_the_same_for_who_serves_and_who_asks() {
    let cases: [Case; 6] = [
        (&[], &[], Some("/run/evergate/control")),
        (&[], &[("RUNTIME_DIRECTORY", "/run/e:/x")], Some("/run/e/control")),
        (&["--control", "/c"], &[("RUNTIME_DIRECTORY", "/run/e")], Some("/c")),
        (&[], &[("EVERGATE_CONTROL", "/c/d")], Some("/c/d")),
        (&["--control", "off"], &[], None),
        (&["--control", ""], &[], None),
    ];
    for (flags, env, expected) in cases {
        let expected = expected.map(PathBuf::from);
        let serves = loaded(&[&["config"], flags].concat(), env).config.control;
        assert_eq!(serves, expected, "{flags:?} {env:?}");
        for subcommand in ["drain", "status", "clients"] {
            assert_eq!(target(&[&[subcommand], flags].concat(), env).control, expected, "{flags:?} {env:?}");
        }
    }
    assert_eq!(loaded(&["demo"], &[]).config.control, None, "it leaves the name to who serves");
    let found = error(&["drain", "--control", &"x".repeat(100)], &[]);
    assert!(found.contains("at most 99 bytes"), "{found}");
}

#[test]
fn who_asks_needs_no_account_and_no_opensrf_core_but_hears_of_mistakes() {
    let dir = Dir::new();
    let file =
        dir.file("e.toml", "control = \"/c\"\nopensrf_core = \"/nosuch/core.xml\"\norigins = \"opensrf_core\"\n");
    assert_eq!(target(&["drain", "--config", &file], &[]).control, Some("/c".into()));
    let wrong = dir.file("w.toml", "control = \"/c\"\ndrain_quite_ms = 1\n");
    assert!(error(&["drain", "--config", &wrong], &[]).contains("drain_quiet_ms?"));
    assert!(error(&["status", "--opensrf-core", "/x"], &[]).contains("--control"));
}

#[test]
fn a_drain_is_watched_or_cancelled_by_name_or_by_process() {
    let asked = |flags: &[&str]| match run_with(&[&["drain"], flags].concat(), &[]) {
        Ok(Action::Drain { target, options }) => (target.pid, options),
        other => panic!("{other:?}"),
    };
    let plain = DrainOptions { watch: false, cancel: false, json: false };
    assert_eq!(asked(&[]), (None, plain));
    assert_eq!(
        asked(&["--pid", "7", "--watch", "--json"]),
        (Some(7), DrainOptions { watch: true, json: true, ..plain })
    );
    assert_eq!(asked(&["--cancel"]), (None, DrainOptions { cancel: true, ..plain }));
    assert!(matches!(run_with(&["drain", "--cancel", "--watch"], &[]), Err(Failure::Usage(_))));
}
