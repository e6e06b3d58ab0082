//! Stdout and stderr that are full, or pipes that nobody reads: an error and an exit code, never a panic, and no signal unheard.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::fifo::Fifo;
use crate::support::process::binary;
use crate::support::redis::Redis;
use crate::support::{Folder, PATIENCE, eventually, free_port, until};

/// A child that is killed by its pid when its test ends.
struct Guard(Child);

impl Guard {
    fn start(command: &mut Command, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        Self(command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("start evergate"))
    }

    fn code(&mut self) -> i32 {
        let status = eventually("it ends", 2 * PATIENCE, || self.0.try_wait().expect("wait for a child"));
        status.code().expect("no signal ended it")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("/dev/full")
}

/// What a command ends with when its stdout is full, and what it says.
fn with_full_stdout(mut command: Command, arguments: &[&str]) -> (i32, String) {
    let folder = Folder::new();
    let stderr = folder.write("stderr", "");
    let command = command.args(arguments).env("STATE_DIRECTORY", folder.path());
    let code = Guard::start(command, full(), File::create(&stderr).expect("a file for stderr")).code();
    (code, std::fs::read_to_string(stderr).expect("what it said"))
}

#[test]
fn a_full_stdout_is_an_error_of_every_command_and_no_panic() {
    let redis = Redis::start();
    let folder = Folder::new();
    let [router, service] =
        ["router", "opensrf"].map(|account| folder.write(account, &format!("{account}-test\n")).display().to_string());
    let listen = format!("127.0.0.1:{}", free_port());
    let demo = ["demo", "--listen", &listen, "--admin", "off"];
    let address = redis.address();
    let services = ["demo-services", "--redis", &address, "--domain", "public.localhost", "--router-user", "router"];
    let files = ["--router-password-file", &router, "--service-user", "opensrf", "--service-password-file", &service];
    let check = ["check", "--domain", "public.localhost", "--username", "gateway", "--listen", "127.0.0.1:0"];
    let cases: [&[&str]; 8] = [
        &demo,
        &[&services[..], &files].concat(),
        &["config"],
        &["config", "--sample"],
        &["config", "--markdown"],
        &["--version"],
        &["serve", "--help"],
        &check,
    ];
    for arguments in cases {
        let mut command = binary();
        command.env("EVERGATE_PASSWD", "x");
        let (code, said) = with_full_stdout(command, arguments);
        assert_eq!(code, 1, "{arguments:?}: {said}");
        assert!(said.contains("stdout cannot be written to") && !said.contains("panicked"), "{arguments:?}: {said}");
        // The one that has begun to serve says why it stops, and how it ends.
        let serves = arguments[0] == "demo";
        let told =
            ["stop: the greeting cannot be printed; clients", "evergate ends with 1\n"].map(|line| said.contains(line));
        assert!(told == [serves; 2] && !said.contains("a signal asks"), "{arguments:?}: {said}");
    }
}

#[cfg(feature = "load")]
#[test]
fn a_full_stdout_is_an_error_of_the_load_generator() {
    for arguments in [["--help"], ["--version"]] {
        let (code, said) = with_full_stdout(Command::new(env!("CARGO_BIN_EXE_evergate-load")), &arguments);
        assert!(code == 2 && said.contains("stdout: "), "{arguments:?}: {code}: {said}");
    }
    // A usage error keeps its code when nobody can be told.
    let mut command = Command::new(env!("CARGO_BIN_EXE_evergate-load"));
    assert_eq!(Guard::start(command.arg("--no-such-flag"), full(), full()).code(), 2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_evergate-load"));
    assert_eq!(Guard::start(command.args(["nonsense"]), full(), full()).code(), 2);
}

#[test]
fn a_full_stderr_changes_no_exit_code() {
    for (arguments, code) in [
        (&["serve", "--no-such-flag"][..], 2),
        (&["serve"], 2),
        (&["demo", "--logfile", "/nowhere/at/all"], 1),
        (&["demo", "--cores", "4000"], 2),
    ] {
        assert_eq!(Guard::start(binary().args(arguments), full(), full()).code(), code, "{arguments:?}");
    }
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_no_error_and_no_signal() {
    let folder = Folder::new();
    let mut pipe = Fifo::hold(&folder.path().join("stderr"));
    pipe.fill();
    for arguments in [&["serve", "--no-such-flag"][..], &["serve"]] {
        assert_eq!(Guard::start(binary().args(arguments), Stdio::null(), pipe.writer()).code(), 2, "{arguments:?}");
    }
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = binary();
        command.args(["demo", "--listen", &listen, "--admin", "off"]);
        // Stdout, too: the greeting is printed there.
        let mut demo = Guard::start(&mut command, pipe.writer(), pipe.writer());
        until("it listens", PATIENCE, || TcpStream::connect(&listen).is_ok());
        let pid = Pid::from_raw(demo.0.id().try_into().expect("a pid is an i32"));
        for signal in [Signal::SIGHUP, signal] {
            kill(pid, signal).expect("signal a child that has not been waited for");
        }
        assert_eq!(demo.code(), 0, "{signal}");
    }
    assert!(!pipe.read().contains("panicked"));
    // Whoever reads again gets what is written from then on.
    let mut reader = Guard::start(binary().args(["serve", "--no-such-flag"]), Stdio::null(), pipe.writer());
    assert_eq!(reader.code(), 2);
    until("the error is there", Duration::from_secs(1), || pipe.read().contains("--no-such-flag"));
}
