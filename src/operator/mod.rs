//! What operators ask a running process, by its control socket: `evergate drain`, `evergate status`, `evergate clients`.
//!
//! May use: the control socket's client, stdout, stderr. May never: change anything but by asking the process, or wait without an
//! end that the operator decides.
//!
//! - `clients`: who is connected, and the end of one connection
//! - `report`: what the process says of itself
//! - `screen`: how that is shown while a drain goes on

#![forbid(unsafe_code)]

mod clients;
mod report;
mod screen;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use evergate_proto::opensrf::printable::Shown;
use signal_hook::consts::SIGINT;

use crate::config::asking::{DrainOptions, Target};
use crate::process::Exit;
use crate::process::control::client::{AskError, Connection, judge};
use crate::process::control::protocol::{Command, Ended};
use crate::process::control::{DrainBegun, socket_of};
use crate::stdio;
pub use clients::clients;
use report::Report;
use screen::Screen;

/// How long a status may take.
const STATUS_MAX: Duration = Duration::from_secs(15);

/// How often it is looked whether the operator has had enough.
const LOOK: Duration = Duration::from_millis(200);

/// A silence of the process that the operator hears of.
const SILENCE_SAID: Duration = Duration::from_secs(10);

/// What a shell expects of a program that Ctrl-C has ended: 128 and the signal's number.
const INTERRUPTED: u8 = 128 + 2;

/// `evergate drain`.
pub fn drain(target: &Target, options: DrainOptions) -> ExitCode {
    let done = if options.cancel { cancel(target, options.json) } else { begin(target, options) };
    done.unwrap_or_else(|why| fail(&why))
}

/// `evergate status`.
pub fn status(target: &Target, json: bool) -> ExitCode {
    let told = || -> Result<ExitCode, String> {
        let (mut connection, path) = open(target)?;
        let line = connection.send(Command::Status).map(|()| connection.read(STATUS_MAX));
        let line = line.and_then(|read| Ok(read?)).map_err(|error| explain(&error, &path))?;
        let line = line.ok_or_else(|| format!("{}: it has closed the connection", path.display()))?;
        let report = read(&line, &path)?;
        stdio::print(&if json { format!("{line}\n") } else { report.lines().join("\n") + "\n" })?;
        Ok(ExitCode::SUCCESS)
    };
    told().unwrap_or_else(|why| fail(&why))
}

fn fail(why: &str) -> ExitCode {
    stdio::say(why);
    Exit::Host.into()
}

/// A connection to the process, and its path for errors.
fn open(target: &Target) -> Result<(Connection, PathBuf), String> {
    let Some(control) = &target.control else {
        let why = "control is off, so that no process can be asked: name its socket with --control, or drain with \
                   kill -USR1 PID";
        return Err(why.to_owned());
    };
    let path = target.pid.map_or_else(|| control.clone(), |pid| socket_of(control, pid));
    let connection = Connection::open(&path).map_err(|error| match (&error, target.pid) {
        (AskError::Nobody, Some(pid)) => {
            format!("{}: no evergate with the number {pid} has a control socket there", control.display())
        }
        _ => explain(&error, &path),
    })?;
    Ok((connection, path))
}

/// Why there is no answer, and what to do.
fn explain(error: &AskError, path: &std::path::Path) -> String {
    let path = path.display();
    match error {
        AskError::Nobody => format!(
            "{path}: nobody listens there: is evergate running, and with this path? --control names another, and \
             --config the file that it was started with (`evergate demo` has none unless `--control` names one)"
        ),
        AskError::Failed(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("{path}: {error}: run this as the user of evergate, as a member of that user's group, or as root")
        }
        AskError::Refused(why) | AskError::OtherVersion(why) => format!("{path}: refused: {why}"),
        AskError::Foreign(_) | AskError::Failed(_) => format!("{path}: {error}"),
    }
}

/// Reads a status, where the line is none that refuses it.
fn read(line: &str, path: &std::path::Path) -> Result<Report, String> {
    serde_json::from_str(line).map_err(|error| match judge(line) {
        Err(refused @ (AskError::Refused(_) | AskError::OtherVersion(_))) => explain(&refused, path),
        _ => format!("{}: the status is not understood: {error}", path.display()),
    })
}

fn cancel(target: &Target, json: bool) -> Result<ExitCode, String> {
    let (mut connection, path) = open(target)?;
    let answer = connection.ask(Command::Cancel).map_err(|error| explain(&error, &path))?;
    let said =
        format!("process {}: the drain is cancelled; who is connected stays, and new clients are served", answer.pid);
    print_answer(&answer, &said, json)
}

fn begin(target: &Target, options: DrainOptions) -> Result<ExitCode, String> {
    let DrainOptions { watch, json, .. } = options;
    // Before the drain can have begun: a Ctrl-C that comes with it is answered, too.
    let interrupted = Arc::new(AtomicBool::new(false));
    if watch {
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))
            .map_err(|error| format!("no signal handler can be installed: {error}"))?;
    }
    let (mut connection, path) = open(target)?;
    let answer = connection.ask(Command::Drain { watch }).map_err(|error| explain(&error, &path))?;
    let said = format!("process {} {}", answer.pid, answer.drain.map_or_else(|| "drains".to_owned(), describe));
    if !watch {
        return print_answer(&answer, &said, json);
    }
    if !json {
        stdio::print(&format!("{said}\n"))?;
    }
    let closed_before = answer.drain.map_or(0, |drain| drain.closed_before);
    follow(&mut connection, &mut Screen::new(json, closed_before), answer.pid, &interrupted)
}

/// The answer of the process as JSON, or what it means.
fn print_answer(answer: &impl serde::Serialize, said: &str, json: bool) -> Result<ExitCode, String> {
    let line = if json { serde_json::to_string(answer).map_err(|error| error.to_string())? } else { said.to_owned() };
    stdio::print(&format!("{line}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(drain: DrainBegun) -> String {
    let DrainBegun { already, port_closes_in_seconds, seconds_left, closed_before: _ } = drain;
    let begun = if already { "drains already" } else { "drains" };
    let port = if port_closes_in_seconds > 0.0 {
        format!("the port closes in {port_closes_in_seconds:.1} s")
    } else {
        "the port closes at once".to_owned()
    };
    let port = if already && port_closes_in_seconds <= 0.0 { "the port is closed".to_owned() } else { port };
    format!("{begun}: {port}, all are gone in {seconds_left:.0} s at most")
}

/// Shows how it goes until the process has ended.
fn follow(
    connection: &mut Connection,
    screen: &mut Screen,
    pid: u32,
    interrupted: &AtomicBool,
) -> Result<ExitCode, String> {
    let (mut heard, mut said, mut drains) = (Instant::now(), false, false);
    loop {
        if interrupted.load(SeqCst) {
            screen.leave();
            stdio::say(&format!(
                "process {pid} drains on: `evergate drain --watch` shows it again, `--cancel` takes it back"
            ));
            return Ok(INTERRUPTED.into());
        }
        let line = match connection.read(LOOK) {
            Ok(Some(line)) => line,
            Ok(None) => {
                screen.leave();
                return Err(format!("process {pid} has ended without a word: its log may say why"));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                if heard.elapsed() >= SILENCE_SAID && !std::mem::replace(&mut said, true) {
                    screen.say(&format!(
                        "process {pid} has said nothing for {} s: is it stopped?",
                        SILENCE_SAID.as_secs()
                    ));
                }
                continue;
            }
            Err(error) => {
                screen.leave();
                return Err(format!("process {pid}: {error}"));
            }
        };
        (heard, said) = (Instant::now(), false);
        if let Ok(Ended { ended }) = serde_json::from_str(&line) {
            screen.end(&line, ended.exit_code)?;
            return Ok(ended.exit_code.into());
        }
        let report: Report = serde_json::from_str(&line)
            .map_err(|error| format!("process {pid}: its status is not understood: {error}: {}", Shown(&line)))?;
        if drains && report.is_serving() {
            screen.leave();
            return Err(format!("process {pid}: the drain was cancelled; {} clients stay", report.open()));
        }
        drains |= !report.is_serving();
        screen.show(&line, &report)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_told_with_the_port_and_the_deadline() {
        let drain = |already, port_closes_in_seconds| DrainBegun {
            already,
            port_closes_in_seconds,
            seconds_left: 120.0,
            closed_before: 0,
        };
        for (drain, said) in [
            (drain(false, 0.0), "drains: the port closes at once, all are gone in 120 s at most"),
            (drain(false, 5.0), "drains: the port closes in 5.0 s, all"),
            (drain(true, 1.25), "drains already: the port closes in 1.2 s, all"),
            (drain(true, 0.0), "drains already: the port is closed, all"),
        ] {
            assert!(describe(drain).starts_with(said), "{}", describe(drain));
        }
    }

    #[test]
    fn a_number_that_no_evergate_has_is_named() {
        let target = Target { control: Some("/nowhere/evergate/control".into()), pid: Some(1) };
        let said = open(&target).map(drop).expect_err("nobody is there");
        assert_eq!(said, "/nowhere/evergate/control: no evergate with the number 1 has a control socket there");
    }

    #[test]
    fn errors_name_the_path_and_the_remedy() {
        let path = std::path::Path::new("/run/evergate/control");
        for (error, parts) in [
            (AskError::Nobody, ["nobody listens", "`evergate demo` has none unless `--control` names one"]),
            (AskError::from(io::Error::from(io::ErrorKind::PermissionDenied)), ["group", "root"]),
            (AskError::Refused("nothing drains".to_owned()), ["refused", "nothing drains"]),
        ] {
            let said = explain(&error, path);
            assert!(parts.iter().all(|part| said.contains(part)) && said.contains("/run/evergate/control"), "{said}");
        }
    }
}
