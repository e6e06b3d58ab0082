//! `evergate call`, as it is asked for.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::value::RawValue;

use super::cli::switch;
use super::error::{Error, Errors};

/// Where OpenSRF's clients connect. The gateway takes any path unless it is told one.
pub const URL_PATH: &str = "/osrf-websocket-translator";
/// A gateway of this host, with the options as they are.
pub const CALL_URL: &str = "ws://127.0.0.1:7682/osrf-websocket-translator";

/// What is called, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The gateway, `ws://HOST:PORT/PATH`.
    pub url: String,
    /// The OpenSRF service.
    pub service: String,
    /// The method.
    pub method: String,
    /// Each a JSON text.
    pub params: Vec<String>,
    /// In a session: CONNECT, the request, DISCONNECT.
    pub connects: bool,
    /// How long all of it may take.
    pub limit: Duration,
}

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("call")
        .about("Call a method of a service through a gateway, and print what it answers")
        .arg(Arg::new("service").value_name("SERVICE").required(true).help("The service: opensrf.math, say"))
        .arg(Arg::new("method").value_name("METHOD").required(true).help("Its method"))
        .arg(
            Arg::new("params")
                .value_name("PARAM")
                .num_args(0..)
                .allow_negative_numbers(true)
                .help("Its params, each a JSON text: 1, '\"a string\"', '{\"a\":[]}'"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .default_value(CALL_URL)
                .help("The gateway"),
        )
        .arg(switch("connect", "Call in a session: CONNECT, the request, DISCONNECT"))
        .arg(
            Arg::new("timeout-seconds")
                .long("timeout-seconds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=86_400))
                .default_value("60")
                .help("How long all of it may take"),
        )
        .after_help(
            "Examples:\n  evergate call opensrf.math add 1 2\n  evergate call opensrf.demo opensrf.demo.count 5 0.5\n  \
             evergate call --url ws://10.0.0.5:7682/ open-ils.actor opensrf.system.echo '\"hello\"'\n\n\
             Each result is a line of JSON, printed as it comes. A request that a drain (Close 1012) left unanswered was \
             not carried out, and is sent again on a new connection.\n\nExit codes: 0 it is complete; 1 the service, the \
             router or the gateway refused it, or no gateway could be asked: stderr says which; 2 usage.",
        )
}

/// What is called; an error for each param that is no JSON.
pub(super) fn asked(given: &ArgMatches, errors: &mut Errors) -> Call {
    let text = |name: &str| given.get_one::<String>(name).cloned().unwrap_or_default();
    let params: Vec<String> = given.get_many("params").into_iter().flatten().cloned().collect();
    for param in &params {
        if let Err(why) = serde_json::from_str::<&RawValue>(param) {
            let remedy = "write each as JSON; a string has quotes of its own: '\"text\"'";
            errors.push(Error::new(format_args!("param {param:?}"), format!("it is no JSON: {why}"), remedy));
        }
    }
    Call {
        url: text("url"),
        service: text("service"),
        method: text("method"),
        params,
        connects: given.get_flag("connect"),
        limit: Duration::from_secs(given.get_one("timeout-seconds").copied().unwrap_or(60)),
    }
}
