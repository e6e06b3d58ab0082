//! Whole sessions sent in one go: clients that open a session, send 1 to 20 requests back to back and a DISCONNECT right behind them, against a
//! service that reads as a Perl service does (`opensrf.demo.perl`). Every answer must come, in order, with the content that only this session can
//! have: `counter []` counts its calls.
//!
//! `cargo bench --bench sessions -- [OPTIONS]`
//!
//!     --clients N     clients, each with a connection of its own (1000)
//!     --sessions N    sessions of each, one after the other (5); every second one does not wait for its CONNECT
//!     --service NAME  the service (opensrf.demo.perl)
//!     --seed N        for the numbers of requests (1)
//!     --flags "…"     more flags for the gateway
//!
//! The gateway is `evergate demo`; `EVERGATE_BIN` is another one's binary. Exit code 1 if anything is lost, out of order or wrong.

#[path = "support/pin.rs"]
mod pin;
#[expect(dead_code, reason = "shared with benchmarks that measure CPU and memory")]
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "sessions/session.rs"]
mod session;
#[path = "support/words.rs"]
mod words;

use std::io;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use pin::pin;
use process::{Folder, OTHER_CPU, Process, SERVER_CPU, eventually, free_port, http};
use serde_json::json;
use session::{Client, Tally};
use words::Words;

/// How long the gateway may take to be ready.
const START: Duration = Duration::from_secs(20);
/// How long what is pending may take to end once all clients have gone.
const SETTLE: Duration = Duration::from_secs(10);
/// Stack of a client's thread.
const STACK_BYTES: usize = 256 * 1024;

/// What is asked for on the command line.
struct Options {
    clients: usize,
    sessions: usize,
    service: String,
    seed: u64,
    flags: String,
}

fn main() -> io::Result<ExitCode> {
    if !words::is_bench() {
        return Ok(ExitCode::SUCCESS);
    }
    let options = options()?;
    println!("{}", provenance::line());
    let folder = Folder::new()?;
    let [address, admin] = [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut gateway = start(address, admin, &options.flags, &folder)?;
    // Threads take it over: the clients leave the gateway its CPU.
    pin(OTHER_CPU)?;
    let begun = Instant::now();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let options = &options;
        let clients: Vec<_> = (0..options.clients)
            .map(|number| {
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, move || {
                    let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
                    Client::play(address, &options.service, options.sessions, seed)
                })
            })
            .collect::<io::Result<_>>()?;
        let join = |client: std::thread::ScopedJoinHandle<'_, Tally>| {
            client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok::<_, io::Error>(clients.into_iter().map(join).collect())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let tally = tallies.into_iter().fold(Tally::default(), Tally::add);
    // A request or a session that is left in the books would hold up a drain.
    let left = eventually("an empty gateway", SETTLE, || Ok((gauges(admin) == Some((0, 0))).then_some((0, 0))));
    let left = left.ok().or_else(|| gauges(admin));
    let is_served = gateway.exited()?.is_none();
    let good = tally.is_whole() && left == Some((0, 0)) && is_served;
    print(&options, &tally, left, seconds);
    let told = json!({ "clients": options.clients, "sessions": options.sessions, "service": options.service,
        "seed": options.seed, "flags": options.flags });
    let part = json!({ "seconds": seconds, "sessions": tally.sessions, "requests": tally.requests, "answers": tally.answers,
        "lost": tally.lost, "out_of_order": tally.out_of_order, "wrong": tally.wrong, "failed": tally.failed,
        "pending_after": left.map(|left| left.0), "sessions_after": left.map(|left| left.1) });
    results::save("sessions", &told, &[part])?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(options: &Options, tally: &Tally, left: Option<(u64, u64)>, seconds: f64) {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let left = |which: fn((u64, u64)) -> u64| left.map_or_else(|| "?".to_owned(), |left| which(left).to_string());
    let rows = [
        row("sessions", tally.sessions.to_string()),
        row("requests, 1 to 20 a session, a DISCONNECT behind", tally.requests.to_string()),
        row("answers, in order and right", tally.answers.to_string()),
        row("lost", tally.lost.to_string()),
        row("out of order", tally.out_of_order.to_string()),
        row("wrong content", tally.wrong.to_string()),
        row("connections that failed", tally.failed.to_string()),
        row("pending in the gateway afterwards", left(|left| left.0)),
        row("sessions in the gateway afterwards", left(|left| left.1)),
        row("seconds", format!("{seconds:.1}")),
        row("requests per second", format!("{:.0}", tally.requests as f64 / seconds)),
    ];
    let title = format!("{} clients, {} sessions each, {}", options.clients, options.sessions, options.service);
    results::print_table(&title, &["", ""], &rows);
    for example in tally.examples.iter().take(5) {
        println!("for example: {example}");
    }
}

/// A gateway with a bus and services of its own.
fn start(address: SocketAddr, admin: SocketAddr, flags: &str, folder: &Folder) -> io::Result<Process> {
    let binary = std::env::var_os("EVERGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_evergate").into());
    let mut command = Command::new(binary);
    command.args(["demo", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
    // A worker that is never told of its session's end would hide in a short keep-alive.
    command.args(["--cores", &SERVER_CPU.to_string(), "--loglevel", "warn", "--keepalive-seconds", "600"]);
    command.args(flags.split_ascii_whitespace());
    let mut process = Process::start("evergate-demo", SERVER_CPU, &command, folder.path())?;
    eventually("the gateway's readiness", START, || match process.exited()? {
        Some(code) => Err(process.error(&format!("ended with {code} instead of serving"))),
        None => Ok(http(admin, "/readyz").map(drop)),
    })?;
    Ok(process)
}

/// Requests pending and sessions connected, over all cores.
fn gauges(admin: SocketAddr) -> Option<(u64, u64)> {
    let metrics = http(admin, "/metrics")?;
    let sum = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with('{'));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    Some((sum("evergate_pending"), sum("evergate_sessions")))
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options =
        Options { clients: 1_000, sessions: 5, service: "opensrf.demo.perl".to_owned(), seed: 1, flags: String::new() };
    let mut words = Words::of("sessions");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--clients" => options.clients = words.parsed()?,
            "--sessions" => options.sessions = words.parsed()?,
            "--service" => options.service = words.text()?,
            "--seed" => options.seed = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
