//! `tuning/apply`, and `evergate check` beside it: both read the same file.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::process::{Process, binary};
use crate::support::{Folder, free_port};

const APPLY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/apply");

/// What a command says that ends well.
fn said(command: &mut Command) -> String {
    let folder = Folder::new();
    let ended = Process::start("command", command, folder.path()).ended();
    assert_eq!(ended.code, 0, "{}", ended.text());
    ended.stdout
}

/// Runs a script in a network namespace of its own, where a process has these ports to connect from.
fn with_ports(range: &str, script: &str) -> String {
    let set = format!("echo '{range}' >/proc/sys/net/ipv4/ip_local_port_range && {script}");
    let mut command = Command::new("unshare");
    // Who is not root is, in there.
    command.args(if nix::unistd::geteuid().is_root() { &["--net"][..] } else { &["--net", "--map-root-user"] });
    said(command.args(["bash", "-c", &set]))
}

#[test]
fn a_dry_run_of_apply_says_what_it_would_change_and_changes_nothing() {
    let after = "cat /proc/sys/net/ipv4/ip_local_port_range";
    let text = with_ports("40000 41999", &format!("{APPLY} --dry-run && {after}"));
    assert!(text.contains("would set net.ipv4.ip_local_port_range = 16384 65535 (now 40000 41999)\n"), "{text}");
    assert!(text.contains("; nothing was changed.\n") && text.ends_with("\n40000\t41999\n"), "{text}");
    for name in ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn an_unknown_option_of_apply_is_named() {
    let ended = Command::new(APPLY).arg("--bogus").output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(2) && said.ends_with(": no option is named --bogus\n"), "{said}");
}

#[test]
fn what_a_host_has_more_of_is_left_to_it() {
    let text = with_ports("1024 65535", &format!("{APPLY} --dry-run"));
    assert!(text.contains("fine      net.ipv4.ip_local_port_range = 1024 65535\n"), "{text}");
}

#[test]
fn apply_puts_its_files_below_a_root_once_and_takes_them_away_again() {
    let root = Folder::new();
    for folder in ["etc/security", "etc/logrotate.d", "usr/lib/tmpfiles.d"] {
        std::fs::create_dir_all(root.path().join(folder)).expect("a folder");
    }
    let apply = |flags: &[&str]| said(Command::new(APPLY).args(flags).arg("--root").arg(root.path()));
    let sysctls = root.path().join("etc/sysctl.d/60-evergate.conf");
    let dry = apply(&["--dry-run"]);
    assert!(
        dry.contains("would install ") && dry.contains("4 to change; nothing was changed.\n") && !sysctls.exists(),
        "{dry}"
    );
    assert!(dry.contains("skipped") && dry.contains("rsyslog.d"), "a host without rsyslog: {dry}");
    assert!(apply(&[]).ends_with("4 changed.\n"));
    let source = include_str!("../../tuning/sysctl.d/60-evergate.conf");
    assert_eq!(std::fs::read_to_string(&sysctls).expect("installed"), source);
    assert!(apply(&[]).ends_with("Nothing to do.\n"));
    std::fs::write(&sysctls, "# mine\n").expect("changed");
    let undone = apply(&["--undo"]);
    assert!(undone.ends_with("3 changed.\n") && undone.contains("(it was changed)") && sysctls.exists(), "{undone}");
}

#[test]
fn check_warns_of_the_settings_that_apply_would_change_and_of_clients_that_cannot_come() {
    let evergate = binary().get_program().display().to_string();
    let account = "EVERGATE_PASSWD=x EVERGATE_DOMAIN=x.invalid EVERGATE_USERNAME=gateway";
    let flags = format!("--listen 127.0.0.1:{} --state-dir off --control off", free_port());
    let check = format!("{account} {evergate} check {flags} || true");
    let narrow = with_ports("40000 40099", &check);
    let advised = "net.ipv4.ip_local_port_range is 40000 40099, 16384 65535 is advised: ";
    let few = "a proxy on this host has 100 ports";
    assert!(narrow.contains(advised) && narrow.contains(few), "{narrow}");
    let wide = with_ports("1024 65535", &check);
    assert!(!wide.contains("16384 65535 is advised"), "{wide}");
    // It ends, since what it is given to listen at is no socket; but first it says so, too.
    let given = "bash -c 'exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"'";
    let served = with_ports("40000 40099", &format!("{account} {given} {evergate} serve {flags} 2>&1 || true"));
    assert!(served.contains(few) && served.contains("LISTEN_FDS cannot be used"), "{served}");
}

#[test]
fn check_names_a_configuration_with_a_password_that_others_may_read() {
    let folder = Folder::new();
    let file = folder.write("evergate.toml", "domain = \"x.invalid\"\nusername = \"gateway\"\npasswd = \"secret\"\n");
    let flags = format!("--listen 127.0.0.1:{} --state-dir off --control off", free_port());
    let report = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("its mode");
        let path = file.display();
        let check = format!("{} check --config {path} {flags} || true", binary().get_program().display());
        said(Command::new("bash").args(["-c", &check]))
    };
    let open = report(0o644);
    assert!(
        open.contains("it holds a password, and every user of this host may read it (mode 0644): chmod o-r "),
        "{open}"
    );
    assert!(!open.contains("secret") && !report(0o640).contains("every user"), "{open}");
}
