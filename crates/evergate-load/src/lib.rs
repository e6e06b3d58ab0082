//! `evergate-load`: loads an `OpenSRF` WebSocket gateway, checks every reply, and measures.
//!
//! It runs on tokio-uring, in one thread, so that it shares no runtime with what it measures.
//!
//! - `options`: the command line; `manual`: its man page and completions; `target`: a server's URL; `tls`: whom a `wss` URL trusts
//! - `plan` and `template`: what is sent, built once; `client`: what comes back, judged, without a socket;
//!   `frame` and `opensrf`: as much of RFC 6455 and `OpenSRF` as a client needs; `fault`: what goes wrong, by kind
//! - `schedule`: due times of an open loop; `dispatch` and `timer`: requests that begin by the clock
//! - `conduct`: a round from first connection to last close; `round`: what its tasks share; `connect`,
//!   `peer`, `back`, `churn`: those tasks, on a `stream` each, and `deadline`: how none leaves an operation behind; `tally`:
//!   what is counted; `watchdog`: when a count is given up; `host`: CPU and memory
//! - `output`: the files that figures go to; `about`: what made them
//! - `figures`, `versus`, `notes`, `table`, `page` with its `plot`s, `progress`: what people and programs
//!   get to see

mod about;
mod back;
mod churn;
mod client;
mod conduct;
mod connect;
mod deadline;
mod dispatch;
mod fault;
mod figures;
mod frame;
mod host;
mod manual;
mod notes;
mod opensrf;
mod options;
mod output;
mod page;
mod peer;
mod plan;
mod plot;
mod progress;
mod round;
mod schedule;
mod stream;
mod table;
mod tally;
mod target;
mod template;
mod timer;
mod tls;
mod versus;
mod watchdog;

use std::io::{self, Write as _};
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use about::About;
use conduct::Measured;
use figures::Figures;
use options::Options;
use output::Output;
use plan::{Plan, PlanOptions};
use progress::Progress;
use versus::{Pair, Ratios};

/// Some error or wrong reply.
const EXIT_ERRORS: u8 = 1;
/// Usage, or a file that cannot be written.
const EXIT_USAGE: u8 = 2;
/// The server refused all connections.
const EXIT_REFUSED: u8 = 3;
/// The server was drained, and nobody lost a request.
const EXIT_DRAINED: u8 = 4;

/// Descriptors besides those of clients.
const OTHER_DESCRIPTORS: u64 = 44;
/// Entries of the ring's submission queue.
const RING_ENTRIES: u32 = 4096;
/// Entries of its completion queue: a read of each client may end at once.
const RING_COMPLETIONS: u32 = 32_768;

/// What `--json` holds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// What made these figures.
    run: &'a About,
    /// The server's figures, all rounds together.
    #[serde(flatten)]
    of_a: &'a Figures,
    /// Those of the other server.
    #[serde(skip_serializing_if = "Option::is_none")]
    vs: Option<&'a Figures>,
    /// Each round of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<&'a [Pair]>,
    /// A's figures over B's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<&'a Ratios>,
    /// Gives the same due times again.
    seed: u64,
}

pub use options::command;

/// Runs the program.
pub fn main() -> ExitCode {
    let matches = match options::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return explain(&error),
    };
    match manual::run(&matches) {
        Ok(None) => {}
        Ok(Some(text)) => {
            let printed = output::print(&mut io::stdout(), "stdout", &text);
            return printed.map_or_else(|error| fail(EXIT_USAGE, &error), |()| ExitCode::SUCCESS);
        }
        Err(error) => return fail(EXIT_USAGE, &error),
    }
    let about = About::now();
    let options = match Options::new(&matches) {
        Ok(options) => options,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let needed = (options.load.clients + options.load.idle + churn::AT_ONCE_MAX) as u64 + OTHER_DESCRIPTORS;
    let allowed = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    if needed > allowed {
        return fail(EXIT_USAGE, &format!("{needed} descriptors are needed, {allowed} are allowed: raise ulimit -n"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends it at once: the first has set the flag.
        let armed = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        if let Err(error) = armed.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop))) {
            return fail(EXIT_USAGE, &format!("no signal handler can be installed: {error}"));
        }
    }
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_taskrun_flag().setup_single_issuer().setup_cqsize(RING_COMPLETIONS);
    let mut runtime = tokio_uring::builder();
    runtime.entries(RING_ENTRIES).uring_builder(&ring);
    let runtime = match tokio_uring::Runtime::new(&runtime) {
        // It is left to the end of the process: its drop frees the buffers of operations under way before it cancels
        // them, and the kernel would write into what others have by then. None is under way, but for a task that hangs.
        Ok(runtime) => ManuallyDrop::new(runtime),
        Err(error) => return fail(EXIT_USAGE, &format!("no io_uring: {error}; `evergate check` says why")),
    };
    let measured = runtime.block_on(measure(&options, &stop));
    match conclude(options, &about, &measured) {
        Ok(code) => code,
        Err(error) => fail(EXIT_USAGE, &error),
    }
}

/// What clap has to say: an error on stderr, help or version on stdout.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if error.use_stderr() {
        return EXIT_USAGE.into();
    }
    output::judge("stdout", printed).map_or_else(|error| fail(EXIT_USAGE, &error), |()| ExitCode::SUCCESS)
}

fn fail(code: u8, error: &str) -> ExitCode {
    output::say(error);
    code.into()
}

/// Runs all rounds, the servers in turn. One list for each server.
async fn measure(options: &Options, stop: &AtomicBool) -> Vec<Vec<Measured>> {
    let progress = Progress::new(options.progress);
    let mut measured: Vec<Vec<Measured>> = options.servers.iter().map(|_| Vec::new()).collect();
    let all = options.rounds * options.servers.len();
    'rounds: for round in 0..options.rounds {
        for (index, (server, measured)) in options.servers.iter().zip(&mut measured).enumerate() {
            let behind = all - round * options.servers.len() - index - 1;
            let name = table::names(options.servers.len())[index];
            let of = if all > 1 { format!("{name}{}/{} ", round + 1, options.rounds) } else { String::new() };
            // How long a count takes is not known.
            let each =
                if options.load.count.is_none() { options.load.warmup + options.load.duration } else { Duration::ZERO };
            progress.begin(of, each * u32::try_from(behind).unwrap_or(0));
            let plan = Plan::new(&PlanOptions { echo: server.echo, ..options.plan.clone() });
            measured.push(conduct::run(&options.load, server, plan, stop, &progress).await);
            if stop.load(Ordering::Relaxed) {
                break 'rounds;
            }
        }
    }
    progress.clear();
    measured
}

/// Prints and writes the figures; the exit code.
fn conclude(options: Options, about: &About, measured: &[Vec<Measured>]) -> Result<ExitCode, String> {
    let figures = |server: usize, rounds: &[&Measured]| Figures::new(&options.load, &options.servers[server], rounds);
    let of_all: Vec<Vec<&Measured>> = measured.iter().map(|rounds| rounds.iter().collect()).collect();
    let totals: Vec<Figures> = of_all.iter().enumerate().map(|(server, rounds)| figures(server, rounds)).collect();
    let pairs: Vec<Pair> = match measured {
        [a, b] => a.iter().zip(b).map(|(a, b)| Pair { a: figures(0, &[a]), b: figures(1, &[b]) }).collect(),
        _ => Vec::new(),
    };
    let ratios = (measured.len() > 1).then(|| Ratios::new(&pairs));
    let servers: Vec<(&Figures, Vec<&Measured>)> = totals.iter().zip(of_all).collect();
    let text = table::render(&totals.iter().collect::<Vec<_>>(), ratios.as_ref());
    let mut written = if matches!(options.json, Some(Output::Stdout)) || matches!(options.report, Some(Output::Stdout))
    {
        output::print(&mut io::stderr(), "stderr", &text)
    } else {
        output::print(&mut io::stdout(), "stdout", &text)
    };
    if let Some(mut json) = options.json {
        let rounds = ratios.as_ref().map(|_| pairs.as_slice());
        let (ratio, seed) = (ratios.as_ref(), options.load.seed);
        let report = Report { run: about, of_a: &totals[0], vs: totals.get(1), rounds, ratio, seed };
        let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        written = written.and(json.write(&(text + "\n")));
    }
    if let Some(mut report) = options.report {
        written = written.and(report.write(&page::render(&servers, ratios.as_ref(), about)?));
    }
    written?;
    Ok(if totals.iter().any(|figures| figures.refused) {
        EXIT_REFUSED.into()
    } else if totals.iter().any(|figures| figures.failures > 0) {
        EXIT_ERRORS.into()
    } else if totals.iter().any(|figures| figures.drained > 0) {
        EXIT_DRAINED.into()
    } else {
        ExitCode::SUCCESS
    })
}
