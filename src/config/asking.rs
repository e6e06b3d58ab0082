//! The subcommands that ask a running process by its control socket. Of the configuration they need where that is, and nothing else.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use evergate_proto::clients::census::States;
use evergate_proto::clients::number::ConnectionNumber;
use evergate_proto::websocket::net::Net;

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

/// The options of `evergate clients`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientsOptions {
    /// Only those from this address or network.
    pub address: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those that have been connected for so long, seconds.
    pub older_than_seconds: Option<u64>,
    /// Only those with so many requests in flight.
    pub in_flight: Option<usize>,
    /// End this connection, and list none.
    pub close: Option<ConnectionNumber>,
    /// At once, not at its gap.
    pub now: bool,
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

/// `evergate clients`.
pub(super) fn clients() -> Command {
    let value = |name: &'static str, placeholder: &'static str, help: String| {
        Arg::new(name).long(name).value_name(placeholder).help(help)
    };
    let network = |text: &str| text.parse::<Net>().map(|_| text.to_owned());
    let state = |text: &str| match States::named(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("there are {}", States::names())),
    };
    let states = format!("Only those in this state: {}", States::names());
    let close = "Close this connection, by its number: at its next gap, with 1012, so that nothing is lost";
    asks(
        Command::new("clients")
            .about("List who is connected, or close one connection")
            .arg(value("address", "ADDRESS", "Only those from this address or network (CIDR)".into()).value_parser(network))
            .arg(value("state", "STATE", states).value_parser(state))
            .arg(
                value("older-than", "SECONDS", "Only those that have been connected for so long".into())
                    .value_parser(value_parser!(u64)),
            )
            .arg(
                value("in-flight", "N", "Only those with so many requests in flight, or more".into())
                    .value_parser(value_parser!(u64).range(1..)),
            )
            .arg(
                value("close", "NUMBER", close.into())
                    .value_parser(value_parser!(ConnectionNumber))
                    .conflicts_with_all(["address", "state", "older-than", "in-flight"]),
            )
            .arg(
                switch("now", "With --close: at once, with 1001; what is under way for it is lost").requires("close"),
            ),
    )
    .after_help(
        "Examples:\n  evergate clients --state waiting_for_replies\n  evergate clients --address 10.0.0.0/8 --older-than 3600 \
         --json\n  evergate clients --close 0.17.3\n\n\
         The number of a connection is that of its lines in the activity log. Ages and counts are those of the moment in which \
         its core was asked.\n\nExit codes: 0 listed, or asked for; 1 there is no such connection, it has ended, nobody is \
         there, or a core has not answered; 2 usage or configuration.",
    )
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
        "clients" => {
            let text = |name: &str| given.get_one::<String>(name).cloned();
            let options = ClientsOptions {
                address: text("address"),
                state: text("state"),
                older_than_seconds: given.get_one("older-than").copied(),
                in_flight: given.get_one::<u64>("in-flight").map(|n| *n as usize),
                close: given.get_one("close").copied(),
                now: given.get_flag("now"),
                json,
            };
            Action::Clients { target, options: Box::new(options) }
        }
        _ => Action::Status { target, json },
    })
}
