//! One large drain: 19,000 clients on one gateway, 2,000 of them with a request in flight, 500 in a session that they end by
//! themselves 20 to 40 s later, 200 that take a reply of 3 MB at 150 KB/s, the rest idle; then SIGUSR1. Told: whether every
//! reply came whole (each is unlike all others, and compared byte by byte), whether every client was closed with 1012 and
//! only when it had done, how the closes were spread, and the exit code. A plot shows the course of it.
//!
//! `cargo bench --bench large_drain -- [OPTIONS]`
//!
//!     --clients N      all clients (19000)
//!     --asking N       those with a request in flight (2000), answered 3 to 23 s after it was asked
//!     --sessions N     those in a session (500)
//!     --slow N         those that read a large reply (200)
//!     --closes R       drain_closes_per_second (2000)
//!     --seed N         for whatever is left to chance (1)
//!     --flags "…"      more flags for the gateway
//!
//! `EVERGATE_BIN` is another gateway's binary. It runs on CPU 0; two processes of clients, Redis and who answers on CPU 1. A
//! process needs 20,000 open files at the most. Exit code 1 if anything is not as promised.

#[expect(dead_code, reason = "of what others answer, only the worker's address is used")]
#[path = "support/answer.rs"]
mod answer;
#[path = "large_drain/client.rs"]
mod client;
#[path = "support/clock.rs"]
mod clock;
#[path = "large_drain/connection.rs"]
mod connection;
#[path = "large_drain/course.rs"]
mod course;
#[path = "large_drain/crowd.rs"]
mod crowd;
#[path = "large_drain/messages.rs"]
mod messages;
#[path = "support/pin.rs"]
mod pin;
#[path = "large_drain/plot.rs"]
mod plot;
#[expect(dead_code, reason = "shared with benchmarks that measure CPU and memory")]
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[expect(dead_code, reason = "only its reading of Redis is used")]
#[path = "support/responder.rs"]
mod responder;
#[path = "support/results.rs"]
mod results;
#[path = "large_drain/role.rs"]
mod role;
#[path = "large_drain/service.rs"]
mod service;
#[path = "support/site.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod site;
#[path = "large_drain/verdict.rs"]
mod verdict;
#[path = "support/words.rs"]
mod words;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::{LEAD_MS, Outcome};
use clock::unix_ms;
use course::{Course, seconds_between};
use crowd::Crowd;
use nix::sys::signal::Signal;
use pin::pin;
use plot::Picture;
use process::{Folder, OTHER_CPU, Process, eventually, in_role};
use serde_json::json;
use site::{Bus, Gateway, GatewayOptions};
use verdict::Drain;
use words::Words;

/// Processes of clients: one may have 20,000 open files.
const CROWDS: u32 = 2;
/// Clients that the gateway takes: with its links and logs it stays below 20,000 descriptors.
const CLIENTS_MAX: &str = "19200";
/// The longest that all clients may take to connect, or to begin their sessions and replies.
const BEGIN: Duration = Duration::from_mins(2);
/// The longest that a drain may take: `drain_max_seconds` and a margin.
const DRAIN: Duration = Duration::from_secs(150);
/// Lines of the gateway's log that are kept.
const LOG_LINES: usize = 20;
/// How long clients may take to end after the gateway has.
const END: Duration = Duration::from_secs(20);

/// What is asked for on the command line.
struct Options {
    clients: u32,
    asking: u32,
    sessions: u32,
    slow: u32,
    closes: u64,
    seed: u64,
    flags: String,
}

fn main() -> io::Result<ExitCode> {
    if role::play()? || !words::is_bench() {
        return Ok(ExitCode::SUCCESS);
    }
    let options = options()?;
    println!("{}", provenance::line());
    // The gateway has its CPU to itself.
    pin(OTHER_CPU)?;
    let drain = drain(&options)?;
    drain.print();
    let complaints = drain.complaints();
    for complaint in &complaints {
        println!("NOT AS PROMISED: {complaint}");
    }
    let Options { clients, asking, sessions, slow, closes, seed, flags } = &options;
    let picture = Picture {
        clients: [*clients, *asking, *sessions, *slow],
        signal: drain.signal,
        samples: &drain.course.samples,
        closes: &drain.closes_per(1_000),
        pace: *closes,
    };
    let plot = save_plot(&picture.draw().map_err(|error| io::Error::other(error.to_string()))?)?;
    let told = json!({ "clients": clients, "asking": asking, "sessions": sessions, "slow": slow, "closes": closes,
        "seed": seed, "flags": flags, "plot": plot });
    results::save("large_drain", &told, &drain.json())?;
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Brings everybody to where they are at the signal, gives it, and waits for the end.
fn drain(options: &Options) -> io::Result<Drain> {
    let folder = Folder::new()?;
    let bus = Bus::with("service", |redis| in_role(&["service", &redis.to_string()]), folder.path())?;
    let closes = options.closes.to_string();
    let own = ["--clients-max", CLIENTS_MAX, "--drain-closes-per-second", &closes];
    let flags: Vec<&str> = own.into_iter().chain(options.flags.split_ascii_whitespace()).collect();
    let mut gateway =
        Gateway::start(&bus, GatewayOptions { flags: &flags, ..GatewayOptions::default() }, folder.path())?;
    let mut crowds = Crowds::start(options, &gateway, folder.path())?;
    let mut course = Course::new(gateway.admin);
    course.until("all clients open", BEGIN, |now| now.open == u64::from(options.clients))?;
    // The plot begins here.
    course.samples.clear();
    crowds.next_stage()?;
    course.until("sessions, and large replies on their way", BEGIN, |now| {
        now.in_session == u64::from(options.sessions) && now.sending == u64::from(options.slow)
    })?;
    crowds.next_stage()?;
    let before = course.until("all requests in flight", Duration::from_millis(LEAD_MS), |now| {
        now.waiting == u64::from(options.asking)
    })?;
    let (signal, signal_ms) = (Instant::now(), unix_ms());
    gateway.process.signal(Signal::SIGUSR1)?;
    let exit_code = course.while_not(DRAIN, &mut || gateway.process.exited())?;
    let seconds = seconds_between(signal, Instant::now());
    let outcomes = crowds.finish()?;
    let log = fs::read_to_string(site::log(folder.path(), gateway.admin))?;
    let log =
        log.lines().filter(|line| line.contains("drain: over") || line.contains("WARN") || line.contains("ERROR"));
    let log = log.take(LOG_LINES).map(str::to_owned).collect();
    drop(bus);
    Ok(Drain { outcomes, course, before, signal, signal_ms, seconds, exit_code, pace: options.closes, log })
}

/// The processes that the clients are in.
struct Crowds {
    /// The processes.
    processes: Vec<Process>,
    /// What they are told by.
    orders: Vec<UnixStream>,
}

impl Crowds {
    /// Starts them; they begin to connect.
    fn start(options: &Options, gateway: &Gateway, folder: &Path) -> io::Result<Self> {
        let orders = folder.join("orders");
        let listener = UnixListener::bind(&orders)?;
        let Options { clients, asking, sessions, slow, seed, .. } = *options;
        let idle = clients.checked_sub(asking + sessions + slow);
        let idle = idle.ok_or_else(|| io::Error::other("more clients at work than there are clients"))?;
        let (address, orders) = (gateway.address.to_string(), orders.display().to_string());
        let all = Crowd { first: 0, seed, clients: [idle, asking, sessions, slow] };
        let mut crowds = Self { processes: Vec::new(), orders: Vec::new() };
        for crowd in all.divide(CROWDS) {
            let numbers = crowd.words();
            let words = ["clients", &address, &orders].into_iter().chain(numbers.iter().map(String::as_str));
            let command = in_role(&words.collect::<Vec<_>>())?;
            crowds.processes.push(Process::start("clients", OTHER_CPU, &command, folder)?);
        }
        listener.set_nonblocking(true)?;
        for process in &mut crowds.processes {
            let (orders, _) = eventually("all processes of clients", BEGIN, || match process.exited()? {
                Some(code) => Err(process.error(&format!("ended with {code}"))),
                None => Ok(listener.accept().ok()),
            })?;
            crowds.orders.push(orders);
        }
        Ok(crowds)
    }

    /// Tells all clients to go on.
    fn next_stage(&mut self) -> io::Result<()> {
        self.orders.iter_mut().try_for_each(|orders| orders.write_all(&[1]))
    }

    /// What came of all clients, once the last of them has ended.
    fn finish(mut self) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for process in &mut self.processes {
            let code = eventually("the end of all clients", END, || process.exited())?;
            let read: Result<Vec<Outcome>, _> = serde_json::from_str(&process.output());
            outcomes.extend(read.map_err(|error| process.error(&format!("ended with {code}, and {error}")))?);
        }
        Ok(outcomes)
    }
}

/// Keeps the plot beside the raw results; gives its name.
fn save_plot(svg: &str) -> io::Result<String> {
    let date = provenance::date().replace(' ', "-").replace(':', "");
    let name = format!("large_drain-{date}.svg");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results").join(&name);
    fs::write(&path, svg)?;
    println!("\nplot: {}", path.display());
    Ok(name)
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options {
        clients: 19_000,
        asking: 2_000,
        sessions: 500,
        slow: 200,
        closes: 2_000,
        seed: 1,
        flags: String::new(),
    };
    let mut words = Words::of("large_drain");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--clients" => options.clients = words.parsed()?,
            "--asking" => options.asking = words.parsed()?,
            "--sessions" => options.sessions = words.parsed()?,
            "--slow" => options.slow = words.parsed()?,
            "--closes" => options.closes = words.parsed()?,
            "--seed" => options.seed = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
