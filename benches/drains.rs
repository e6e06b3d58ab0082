//! Drains under load beside a second gateway on the port: what do clients lose that come back and send again what a Close with
//! 1012 left unanswered, and what those that do not? Told of each: requests lost, sent again, relayed twice.
//!
//! `cargo bench --bench drains --features load -- [OPTIONS]`
//!
//!     --drains N       drains of either kind, by turns (30)
//!     --clients N      clients, of which about half are the drained gateway's (450)
//!     --rate R         requests per second over all of them (300)
//!     --seconds S      how long each load lasts (8); the drain begins when a third of that is over
//!     --flags "…"      more flags for the gateways
//!
//! `EVERGATE_BIN` is another gateway's binary, `EVERGATE_LOAD_BIN` another generator. The gateways run on CPU 0, generator,
//! responder and Redis on CPU 1. A request is carried out each time that a gateway relays it: its log has a line for each, with
//! the request's own params.

#[path = "../tests/all/support/activity.rs"]
mod activity;
#[path = "support/load.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod load;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "support/role.rs"]
mod role;
#[path = "support/site.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod site;
#[path = "support/words.rs"]
mod words;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use activity::relayed_adds;
use load::{Load, Outcome};
use nix::sys::signal::Signal;
use process::{Folder, eventually};
use serde::Serialize;
use serde_json::{Value, json};
use site::{Bus, Gateway, GatewayOptions};
use words::Words;

/// The longest that all clients may take to connect, and that a drain or a load may go on for beyond its time.
const PATIENCE: Duration = Duration::from_mins(3);

/// What is asked for on the command line.
struct Options {
    drains: usize,
    clients: u64,
    rate: u64,
    seconds: u64,
    flags: String,
}

/// What one drain came to.
#[derive(Serialize)]
struct Drained {
    /// From the signal to the process' end.
    seconds: f64,
    /// The drained gateway's.
    exit_code: i32,
    /// Connections that clients opened anew.
    reconnects: u64,
    /// Requests that a Close with 1012 left unanswered, and that were sent again.
    retried: u64,
    /// Requests that were never answered.
    lost: u64,
    /// Of any kind, but for those that are lost and the Closes that cost them.
    other_errors: u64,
    /// Requests that were answered.
    answered: u64,
    /// How often either gateway relayed one.
    relayed: u64,
    /// Requests that were relayed again.
    twice: u64,
    /// Requests that crossed the Close of the drained gateway, which did not relay them.
    crossed: u64,
}

fn main() -> io::Result<()> {
    if role::play()? || !words::is_bench() {
        return Ok(());
    }
    let options = options()?;
    println!("{}", provenance::line());
    let mut kinds = [(true, Vec::new()), (false, Vec::new())];
    for number in 1..=options.drains {
        eprintln!("drain {number} of {}", options.drains);
        for (reconnects, drained) in &mut kinds {
            drained.push(drain(&options, *reconnects)?);
        }
    }
    let rows: Vec<Vec<String>> = kinds.iter().map(|(reconnects, drained)| row(*reconnects, drained)).collect();
    results::print_table(
        &format!("{} drains, {} clients, {} requests/s", options.drains, options.clients, options.rate),
        &[
            "clients",
            "lost",
            "sent again",
            "relayed twice",
            "reconnects",
            "crossed",
            "answered",
            "other errors",
            "exit codes but 0",
            "longest, s",
        ],
        &rows,
    );
    let part = |(reconnects, drained): &(bool, Vec<Drained>)| json!({ "reconnect": reconnects, "drains": drained });
    let parts: Vec<Value> = kinds.iter().map(part).collect();
    let Options { drains, clients, rate, seconds, flags } = &options;
    results::save(
        "drains",
        &json!({ "drains": drains, "clients": clients, "rate": rate, "seconds": seconds, "flags": flags }),
        &parts,
    )
}

/// Two gateways on a port, a load on both, and the end of the first.
#[expect(clippy::cast_sign_loss, reason = "counts are not negative")]
fn drain(options: &Options, reconnects: bool) -> io::Result<Drained> {
    let folder = Folder::new()?;
    let bus = Bus::start(false, folder.path())?;
    let flags: Vec<&str> = options.flags.split_ascii_whitespace().collect();
    let listen = Some(site::free_address()?);
    let shared = GatewayOptions { listen, shares_port: true, flags: &flags, ..GatewayOptions::default() };
    let mut first = Gateway::start(&bus, shared, folder.path())?;
    let mut second = Gateway::start(&bus, shared, folder.path())?;
    let Options { clients, rate, seconds, .. } = options;
    let back = if reconnects { "--reconnect" } else { "" };
    let arguments = format!("--clients {clients} --rate {rate} --warmup 0 --duration {seconds} {back}");
    let load = Load::start(&first.url(), &second.process, &arguments, folder.path())?;
    eventually("all clients", PATIENCE, || {
        Ok((first.count("open")? + second.count("open")? >= *clients).then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(*seconds) / 3);
    let began = Instant::now();
    first.process.signal(Signal::SIGUSR1)?;
    let exit_code = first.process.wait(PATIENCE)?;
    let drained_seconds = began.elapsed().as_secs_f64();
    let Outcome { round, errors } = load.finish(PATIENCE)?;
    // What its log still lacks it writes at its end.
    second.process.signal(Signal::SIGTERM)?;
    second.process.wait(PATIENCE)?;
    let log = |gateway: &Gateway| fs::read_to_string(site::log(folder.path(), gateway.admin));
    let logs = [log(&first)?, log(&second)?];
    let relayed: Vec<&str> = logs.iter().flat_map(|log| relayed_adds(log)).collect();
    let distinct: HashSet<&str> = relayed.iter().copied().collect();
    let figure = |name| round.get(name).copied().unwrap_or_default() as u64;
    let error = |name: &str| errors.get(name).copied().unwrap_or_default();
    let costs = ["lost", "closed_1012"];
    Ok(Drained {
        seconds: drained_seconds,
        exit_code,
        reconnects: figure("reconnects"),
        retried: figure("retried"),
        lost: error("lost"),
        other_errors: errors.iter().filter(|(name, _)| !costs.contains(&name.as_str())).map(|(_, count)| count).sum(),
        answered: figure("answered"),
        relayed: relayed.len() as u64,
        twice: (relayed.len() - distinct.len()) as u64,
        crossed: logs[0].matches("crossed our Close frame and was not relayed").count() as u64,
    })
}

fn row(reconnects: bool, drained: &[Drained]) -> Vec<String> {
    let sum = |of: fn(&Drained) -> u64| drained.iter().map(of).sum::<u64>().to_string();
    let longest = drained.iter().map(|one| one.seconds).fold(0.0, f64::max);
    vec![
        if reconnects { "come back" } else { "do not" }.to_owned(),
        sum(|one| one.lost),
        sum(|one| one.retried),
        sum(|one| one.twice),
        sum(|one| one.reconnects),
        sum(|one| one.crossed),
        sum(|one| one.answered),
        sum(|one| one.other_errors),
        sum(|one| u64::from(one.exit_code != 0)),
        format!("{longest:.1}"),
    ]
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options { drains: 30, clients: 450, rate: 300, seconds: 8, flags: String::new() };
    let mut words = Words::of("drains");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--drains" => options.drains = words.parsed()?,
            "--clients" => options.clients = words.parsed()?,
            "--rate" => options.rate = words.parsed()?,
            "--seconds" => options.seconds = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
