//! The subcommands that ask a running process by its control socket. Of the configuration they need where that is, and nothing else.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::cli::{Action, Failure, flag, switch};
use super::error::Error;
use super::load::{Inputs, control};
use super::table::find;

/// A running process, by its control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The option `control`.
    pub control: Option<PathBuf>,
    /// The process, where it is not the one that has the name.
    pub pid: Option<u32>,
}

/// The options of `evergate drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// Show how it goes until the process ends.
    pub watch: bool,
    /// Take a drain back.
    pub cancel: bool,
    /// Print JSON.
    pub json: bool,
}

/// `evergate drain`.
pub(super) fn drain() -> Command {
    asks(
        Command::new("drain")
            .about("Drain the running process: it closes each client when that waits for nothing, and ends")
            .arg(switch("watch", "Show how it goes, and end with the exit code of the process"))
            .arg(switch("cancel", "Take a drain back: clients that are left stay").conflicts_with("watch")),
    )
    .after_help(
        "Examples:\n  evergate drain\n  evergate drain --watch\n  evergate drain --cancel\n\n\
         Whoever may use the control socket may drain: its owner, its group, root. A drain that is under way is \
         watched, or left as it is.\n\nExit codes: 0 asked for; 1 refused, or nobody is there; 2 configuration. With \
         --watch that of the process: 0 nobody was cut off; 3 the deadline cut somebody off; 1 also if it ended \
         without a word, or the drain was cancelled.",
    )
}

/// `evergate status`.
pub(super) fn status() -> Command {
    asks(Command::new("status").about("Print how the running process is"))
        .after_help("Example:\n  evergate status --json")
}

/// Adds what tells which process is asked, and how the answer is printed.
fn asks(command: Command) -> Command {
    let pid = Arg::new("pid").long("pid").value_name("PID").value_parser(value_parser!(u32).range(1..));
    let control = find("control").and_then(|option| flag(option, false));
    command
        .args(control)
        .arg(pid.help("Ask this process, not the one that serves: of two during a hand-over, say"))
        .arg(switch("json", "Print JSON, an object a line, and nothing else"))
        // It says nothing of where the socket is: it is neither listed nor taken in silence.
        .arg(Arg::new("opensrf_core").long("opensrf-core").value_name("FILE").hide(true))
}

/// What is asked of a running process.
pub(super) fn action(name: &str, given: &ArgMatches, inputs: &Inputs) -> Result<Action, Failure> {
    if given.value_source("opensrf_core").is_some() {
        let remedy = "leave it out, and name the socket with --control, or the TOML file that does with --config";
        return Err(Failure::from(Error::new(
            "flag --opensrf-core",
            "it does not say where the control socket is",
            remedy,
        )));
    }
    let control = control(inputs)?;
    let (target, json) = (Target { control, pid: given.get_one("pid").copied() }, given.get_flag("json"));
    Ok(match name {
        "drain" => {
            let [watch, cancel] = ["watch", "cancel"].map(|name| given.get_flag(name));
            Action::Drain { target, options: DrainOptions { watch, cancel, json } }
        }
        _ => Action::Status { target, json },
    })
}
