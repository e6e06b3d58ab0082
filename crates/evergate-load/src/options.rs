//! The command line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::conduct::{Load, Server};
use super::manual;
use super::output::Output;
use super::plan::{Call, Content, Kind, PlanOptions};
use super::round::Pace;
use super::schedule::Arrival;
use super::target::{Target, has_sources};
use super::tls::Trust;

/// Bytes of a frame unless `--pad` says otherwise: an ordinary Evergreen request.
const FRAME_BYTES: usize = 400;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// How each round is run.
    pub load: Load,
    /// What clients send.
    pub plan: PlanOptions,
    /// The server, and the one that it is compared with.
    pub servers: Vec<Server>,
    /// Rounds per server.
    pub rounds: usize,
    /// A line on stderr after each such time; zero: none; `None`: whatever suits stderr.
    pub progress: Option<Duration>,
    /// Where the figures go as JSON.
    pub json: Option<Output>,
    /// Where the report goes as HTML.
    pub report: Option<Output>,
}

const EXAMPLES: &str = "\
Examples:
  evergate-load ws://127.0.0.1:7682/osrf-websocket-translator --clients 1000 --server-pid $(pidof -s evergate)
  evergate-load ws://127.0.0.1:7682/ --rate 2000 --clients 10000 --duration 30 --report load.html
  evergate-load ws://127.0.0.1:7682/ --mix stateless=8,stateful=1,large=1 --churn 50
  evergate-load ws://127.0.0.1:7682/ --vs ws://127.0.0.1:9001/ --server-pid 4711 --server-pid2 4712

Requests go to evergate's demo services (`evergate demo`, `evergate demo-services`) unless --service, --method and \
--params say otherwise. Every reply is checked: thread, threadTrace, types, and where it is known the content. \
A CONNECT and each request within its session count as requests. Times of an open loop (--rate) count from the \
moment at which a request was due: its latency is that of the requests due in the measured time, throughput and CPU \
those of the replies that came in it. Of a session only the CONNECT is due by the clock, and each further request is sent \
and timed when the one before has its reply.

Errors are counted over the whole run, warm-up included. Failed requests, each counted once: lost, missing, status_…, wrong_content, \
wrong_count, wrong_length, wrong_trace, wrong_type. The others are incidents, of connections or of messages that answer no \
request under way; what one of them costs is counted besides: connection_ended and its requests as lost, unparsable and its \
request as missing, a missing one whose reply comes after all as late.

A gateway that is drained closes each client with 1012 while nothing is under way for it. A request that crosses such a Close was not \
relayed: --reconnect sends it again; without it the request is counted as unanswered_1012, which is no failure.

Exit codes:
  0    all replies were right
  1    some error, wrong reply or lost request
  2    wrong usage, or figures that cannot be written
  3    the server refused all connections, in every round
  4    the server was drained (it closed connections with 1012), and there was no other error: nobody lost a request
  130  ended at once by a second Ctrl-C; the first ends the run and reports what there is, with one of the codes above";

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn number(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Arg {
    option(name, value, help).default_value(default).value_parser(value_parser!(u32))
}

fn real(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).value_parser(parse_real)
}

/// The command with all its options.
pub fn command() -> Command {
    Command::new("evergate-load")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Load an OpenSRF WebSocket gateway, check every reply, and measure")
        .after_help(EXAMPLES)
        .disable_help_subcommand(true)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .subcommands(manual::commands())
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .help("Where the gateway listens, ws://HOST:PORT/PATH, or the proxy in front of it, wss://HOST/PATH"),
        )
        .next_help_heading("Load")
        .args(load_options())
        .next_help_heading("TLS, of wss:// URLs")
        .args(tls_options())
        .next_help_heading("Requests")
        .args(request_options())
        .next_help_heading("Measuring")
        .args(measuring_options())
}

/// How many clients there are, and who asks when.
fn load_options() -> Vec<Arg> {
    vec![
        number("clients", "N", "64", "WebSocket connections that send requests"),
        number("in-flight", "K", "1", "Closed loop: requests under way per connection, 1 or more")
                .value_parser(value_parser!(u32).range(1..=10_000)),
        real("rate", "R", "Open loop: requests per second over all clients, whatever the server does; those of sessions included [default: closed loop]")
                .conflicts_with_all(["in-flight", "think"]),
        option("arrival", "HOW", "Open loop: gaps between requests as independent users make them, or all alike")
                .default_value("poisson")
                .requires("rate")
                .value_parser(PossibleValuesParser::new(["poisson", "fixed"])),
        real("duration", "SECONDS", "Length of the measured part").default_value("10").conflicts_with("count"),
        option("count", "N", "End the measured part after N right replies, in place of --duration, or when nothing but errors came for twice the --timeout").value_parser(value_parser!(u64).range(1..)),
        real("warmup", "SECONDS", "Time under load before the measured part").default_value("1"),
        real("ramp", "SECONDS", "Open the connections over this time; 0: as fast as they are accepted, and requests begin when all are open")
                .default_value("0"),
        real("think", "MILLISECONDS", "Pause of a client between a reply and its next request").default_value("0"),
        real("timeout", "SECONDS", "Age at which a request without its whole reply is given up and counted as missing").default_value("10"),
        number("idle", "N", "0", "Further clients that connect, do one round trip each, and then only answer pings; for memory per client start the server anew and take thousands"),
        Arg::new("reconnect").long("reconnect").action(ArgAction::SetTrue)
                .help("Clients whose connection ends come back, and send again what a Close with 1012 left unanswered, nothing else; such a Close is no error then"),
        real("churn", "R", "Further clients that connect and close at once, per second").default_value("0"),
        number("sources", "N", "1", "Local addresses to connect from: 127.0.0.1 to 127.0.0.N (one allows some 28,000 connections); for a server on IPv4 loopback only")
                .value_parser(value_parser!(u32).range(1..=250)),
        option("seed", "N", "Seed of due times and of the mix [default: drawn, and printed in --json]").value_parser(value_parser!(u64)),
    ]
}

/// Whom they trust.
fn tls_options() -> Vec<Arg> {
    vec![
        option("ca", "FILE.pem", "Trust the certificates in this file, in place of the system's")
            .value_parser(value_parser!(PathBuf)),
        option(
            "server-name",
            "NAME",
            "The server's name in the TLS handshake, its certificate and the Host header, where the URL has its address",
        ),
        Arg::new("insecure")
            .long("insecure")
            .action(ArgAction::SetTrue)
            .conflicts_with("ca")
            .help("Take any certificate, for tests"),
    ]
}

/// What they ask for.
fn request_options() -> Vec<Arg> {
    vec![
        option("mix", "KIND=W,…", "Kinds and their weights: stateless, stateful, streamed, large").default_value("stateless=1").value_parser(parse_mix),
        option("service", "NAME", "Service of stateless and stateful requests").default_value("opensrf.math"),
        option("method", "NAME", "Method of stateless and stateful requests").default_value("add"),
        option("params", "JSON", "Its params, an array [default for add: two numbers that tell client and request, so that the sum is checked]"),
        option("pad", "BYTES", "Append a string to the params, so that the frame has this size [default: 400 for evergate's own demo calls, none for others]")
                .value_parser(value_parser!(u32).range(1..=8_000_000)),
        number("stateful-requests", "N", "3", "Requests between CONNECT and DISCONNECT, 1 or more")
                .value_parser(value_parser!(u32).range(1..=100_000)),
        number("streamed-results", "N", "10", "RESULTs of a streamed request (opensrf.demo.count)").value_parser(value_parser!(u32).range(0..=100_000)),
        number("large-bytes", "BYTES", "100000", "Content of a large reply (opensrf.demo.big)").value_parser(value_parser!(u32).range(0..=64_000_000)),
        Arg::new("echo").long("echo").action(ArgAction::SetTrue)
                .help("The server is a bare WebSocket echo: each reply must be the request's own bytes (a floor to compare with)"),
    ]
}

/// Whose CPU and memory is measured, and where the figures go.
fn measuring_options() -> Vec<Arg> {
    vec![
        pid(
            "server-pid",
            "Process of the server, for its CPU time and memory (of `evergate demo` that is gateway, bus and services together); may be repeated: different processes are summed",
        ),
        option("vs", "URL", "Another server: rounds alternate between both, and ratios are printed"),
        pid("server-pid2", "Process of the other server; may be repeated").requires("vs"),
        Arg::new("echo2")
            .long("echo2")
            .action(ArgAction::SetTrue)
            .requires("vs")
            .help("The other server is a bare WebSocket echo"),
        number("rounds", "N", "5", "Rounds per server with --vs")
            .requires("vs")
            .value_parser(value_parser!(u32).range(1..=1_000)),
        real(
            "progress",
            "SECONDS",
            "Say how it goes on stderr, in a line after each so many seconds; 0: not at all [default: on a terminal, one line that is drawn again and again; else not at all]",
        ),
        option("json", "FILE", "Write all figures as one JSON object; -: to stdout, and the table to stderr")
            .value_parser(value_parser!(PathBuf)),
        option("report", "FILE.html", "Write a page with figures and plots, in one file")
            .value_parser(value_parser!(PathBuf)),
    ]
}

fn pid(name: &'static str, help: &'static str) -> Arg {
    option(name, "PID", help).action(ArgAction::Append).value_parser(value_parser!(u32).range(1..))
}

/// A number of at least 0.
fn parse_real(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 1000000000 is needed".to_owned()),
    }
}

fn parse_mix(text: &str) -> Result<Vec<(Kind, u32)>, String> {
    let mut mix: Vec<(Kind, u32)> = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        let kind = kind.ok_or_else(|| format!("no kind is called {name:?}: stateless, stateful, streamed, large"))?;
        let weight = weight.trim().parse::<u32>().ok().filter(|weight| *weight <= 1_000_000);
        let weight = weight.ok_or_else(|| format!("{part}: a weight is a whole number up to 1000000"))?;
        if mix.iter().any(|(other, _)| *other == kind) {
            return Err(format!("{name} is named twice"));
        }
        mix.push((kind, weight));
    }
    mix.retain(|(_, weight)| *weight > 0);
    if mix.is_empty() { Err("at least one weight must be more than 0".to_owned()) } else { Ok(mix) }
}

impl Options {
    /// From the arguments; the error is one of usage.
    pub fn new(matches: &ArgMatches) -> Result<Self, String> {
        let given = Given(matches);
        let (load, trust) = (given.load()?, given.trust());
        let mut servers = vec![given.server("url", "server-pid", "echo", &load, &trust)?];
        if given.text("vs").is_some() {
            servers.push(given.server("vs", "server-pid2", "echo2", &load, &trust)?);
        }
        if trust.is_given() && servers.iter().all(|server| server.target.tls.is_none()) {
            return Err("--ca, --insecure and --server-name are for wss:// URLs".to_owned());
        }
        let plan = given.plan()?;
        let rounds = if servers.len() > 1 { given.number("rounds") as usize } else { 1 };
        let (json, report) = (given.output("json")?, given.output("report")?);
        if json.as_ref().zip(report.as_ref()).is_some_and(|(json, report)| json.is(report)) {
            return Err("--json and --report: two files are needed".to_owned());
        }
        let progress = matches.get_one::<f64>("progress").map(|&seconds| Duration::from_secs_f64(seconds));
        Ok(Self { load, plan, servers, rounds, progress, json, report })
    }
}

/// The arguments that were given, or stand for those that were not.
struct Given<'a>(&'a ArgMatches);

impl Given<'_> {
    fn number(&self, name: &str) -> u32 {
        self.0.get_one::<u32>(name).copied().unwrap_or_default()
    }

    fn real(&self, name: &str) -> f64 {
        self.0.get_one::<f64>(name).copied().unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.get_one::<String>(name).cloned()
    }

    fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.real(name))
    }

    /// A process that is named twice counts once.
    fn pids(&self, name: &str) -> Vec<u32> {
        let named = self.0.get_many::<u32>(name).into_iter().flatten();
        named.copied().collect::<BTreeSet<u32>>().into_iter().collect()
    }

    fn load(&self) -> Result<Load, String> {
        let rate = self.0.get_one::<f64>("rate").copied();
        if rate.is_some_and(|rate| rate < 0.001) {
            return Err("--rate must be at least 0.001".to_owned());
        }
        let timeout = self.seconds("timeout");
        if timeout.is_zero() {
            return Err("--timeout must be more than 0".to_owned());
        }
        let pace = match rate {
            Some(_) => Pace::Open,
            None => Pace::Closed {
                in_flight: self.number("in-flight") as usize,
                think_ns: Duration::from_secs_f64(self.real("think") / 1e3).as_nanos() as u64,
            },
        };
        let load = Load {
            clients: self.number("clients") as usize,
            idle: self.number("idle") as usize,
            pace,
            rate: rate.unwrap_or_default(),
            arrival: if self.text("arrival").as_deref() == Some("fixed") { Arrival::Fixed } else { Arrival::Poisson },
            duration: self.seconds("duration"),
            count: self.0.get_one::<u64>("count").copied(),
            warmup: self.seconds("warmup"),
            ramp: self.seconds("ramp"),
            reconnects: self.0.get_flag("reconnect"),
            churn: self.real("churn"),
            sources: self.number("sources"),
            timeout,
            seed: self.0.get_one::<u64>("seed").copied().unwrap_or_else(random),
        };
        has_clients(&load)?;
        Ok(load)
    }

    /// The server whose URL the argument `url` has.
    fn server(&self, url: &str, pid: &str, echo: &str, load: &Load, trust: &Trust) -> Result<Server, String> {
        let pids = self.pids(pid);
        if let Some(gone) = pids.iter().find(|&&id| super::host::cpu_seconds(&[id]).is_none()) {
            return Err(format!("--{pid} {gone}: no such process, or it may not be looked at"));
        }
        let url = self.text(url).unwrap_or_default();
        let target = Target::new(&url, trust)?;
        if load.sources > 1 && !has_sources(target.address) {
            let address = target.address;
            return Err(format!("--sources: loopback IPv4 only, and {url} is at {address}; spread over hosts instead"));
        }
        Ok(Server { target, pids, echo: self.0.get_flag(echo) })
    }

    fn trust(&self) -> Trust {
        Trust {
            ca: self.0.get_one::<PathBuf>("ca").cloned(),
            insecure: self.0.get_flag("insecure"),
            server_name: self.text("server-name"),
        }
    }

    fn plan(&self) -> Result<PlanOptions, String> {
        let tag = random() as u32;
        Ok(PlanOptions {
            tag: format!("load.{tag:08x}"),
            // Never 0: a mask that changes nothing would spare the server its work's test.
            mask: (tag | 0x0101_0101).to_le_bytes(),
            mix: self.0.get_one::<Vec<(Kind, u32)>>("mix").cloned().unwrap_or_default(),
            call: self.call()?,
            stateful_requests: self.number("stateful-requests"),
            streamed_results: self.number("streamed-results"),
            large_bytes: self.number("large-bytes") as usize,
            frame_bytes: self.0.get_one::<u32>("pad").map_or(FRAME_BYTES, |bytes| *bytes as usize),
            echo: false,
        })
    }

    /// The stateless call, and what is known of its content.
    fn call(&self) -> Result<Call, String> {
        let [service, method] = ["service", "method"].map(|name| self.text(name).unwrap_or_default());
        let params = self.text("params");
        let is_add = service == "opensrf.math" && method == "add";
        let values = match &params {
            None => Vec::new(),
            Some(params) => serde_json::from_str::<Vec<serde_json::Value>>(params)
                .map_err(|error| format!("--params is no JSON array: {error}"))?,
        };
        let number = |value: &serde_json::Value| {
            value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse::<f64>().ok()))
        };
        let content = match (is_add, &params, values.as_slice()) {
            (true, None, _) => Content::Sum,
            (true, Some(_), [left, right, ..]) => {
                number(left).zip(number(right)).map_or(Content::Any, |(left, right)| Content::Number(left + right))
            }
            _ => Content::Any,
        };
        let padded = self.0.contains_id("pad") || (is_add && params.is_none());
        // Another method is not known to take two numbers.
        let params = if is_add { params } else { Some(params.unwrap_or_else(|| "[]".to_owned())) };
        Ok(Call { service, method, params, content, padded })
    }

    fn output(&self, name: &str) -> Result<Option<Output>, String> {
        let opened = self.0.get_one::<PathBuf>(name).map(|path| Output::open(path));
        opened.transpose().map_err(|error| format!("--{name} {error}"))
    }
}

/// Whether there is somebody to do what is asked for.
fn has_clients(load: &Load) -> Result<(), String> {
    if load.clients + load.idle > 999_999 {
        return Err("--clients and --idle: 999999 together at most".to_owned());
    }
    for (name, is_given) in [("count", load.count.is_some()), ("rate", load.pace == Pace::Open)] {
        if is_given && load.clients == 0 {
            return Err(format!("--{name} needs --clients of 1 or more: nobody else asks for anything"));
        }
    }
    if load.clients + load.idle == 0 && load.churn <= 0.0 {
        return Err("--clients 0 needs --idle or --churn: there is nobody to connect".to_owned());
    }
    Ok(())
}

fn random() -> u64 {
    // Without a random source, the process id still tells runs apart.
    getrandom::u64().unwrap_or_else(|_| std::process::id().into())
}

#[cfg(test)]
mod tests;
