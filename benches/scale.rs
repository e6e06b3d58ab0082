//! Many idle clients: 19,000 in one process, which is what the limit of open files of a process allows here, then 190,000
//! in ten processes on one port, with ten generators. Memory in user space and in the kernel, latency of requests by 1 % of
//! the clients, the drain of all of them, and what follows for a million.
//!
//! `cargo bench --bench scale --features load -- [OPTIONS]`
//!
//!     --processes LIST   gateways on the port, one measurement for each number (1,10)
//!     --clients N        clients per process (18500)
//!     --seconds S        how long 1 % of the clients ask, once a second each (10)
//!     --closes R         closes per second in the drain, all gateways together (4000): beyond that generators and gateways,
//!                        which share two CPUs here, are late for pings and replies
//!     --flags "…"        more flags for the gateways
//!
//! `EVERGATE_BIN` is another gateway's binary, `EVERGATE_LOAD_BIN` another generator. Gateways run on CPU 0, generators,
//! responder and Redis on CPU 1. Both ends of a connection are on this host: half of the kernel's memory is the generators'.

#[path = "scale/computed.rs"]
mod computed;
#[path = "scale/fleet.rs"]
mod fleet;
#[path = "scale/kernel.rs"]
mod kernel;
#[path = "support/load.rs"]
mod load;
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "support/role.rs"]
mod role;
#[path = "support/site.rs"]
mod site;
#[path = "support/words.rs"]
mod words;

use std::io;
use std::time::Duration;

use fleet::{Drained, Fleet};
use kernel::Kernel;
use load::Round;
use process::Folder;
use serde_json::{Value, json};
use words::Words;

/// What is asked for on the command line.
struct Options {
    /// Gateways on the port, one measurement for each number.
    processes: Vec<usize>,
    /// Clients per process.
    clients: usize,
    /// How long 1 % of the clients ask.
    seconds: f64,
    /// Closes per second in the drain.
    closes: usize,
    /// More flags for the gateways, words between spaces.
    flags: String,
}

fn main() -> io::Result<()> {
    if role::play()? || !words::is_bench() {
        return Ok(());
    }
    let options = options()?;
    println!("{}", provenance::line());
    let mut parts = Vec::new();
    for &processes in &options.processes {
        kernel::has_room(processes, options.clients)?;
        parts.push(measure(&options, processes)?);
    }
    let told = json!({ "clients": options.clients, "seconds": options.seconds, "closes": options.closes, "flags": options.flags });
    results::save("scale", &told, &parts)
}

/// One number of processes, from the first connection to the last close.
fn measure(options: &Options, processes: usize) -> io::Result<Value> {
    let total = processes * options.clients;
    // A folder for each measurement: the logs of the last would be taken for this one's.
    let folder = Folder::new()?;
    let active = total / 100;
    let mut fleet = Fleet::start(processes, options.closes, &options.flags, &folder)?;
    // What was closed just before still counts as in use for a while.
    std::thread::sleep(Duration::from_secs(5));
    let (kernel, base) = (Kernel::now()?, fleet.memory()?);
    let connect_seconds = fleet.hold(total - active, &folder)?;
    let idle_cpu_share = fleet.idle_cpu_share()?;
    let (grown, memory) = (Kernel::now()?.since(&kernel), fleet.memory()?);
    let idle = (total - active) as f64;
    let per_client = |before: u64, after: u64| after.saturating_sub(before) as f64 / idle;
    let mut figures = Round::from([
        ("connects_per_second", idle / connect_seconds),
        ("idle_cpu_us_per_client_second", idle_cpu_share * 1e6 / idle),
        ("rss_per_client", per_client(base.rss, memory.rss)),
        ("pss_per_client", per_client(base.pss, memory.pss)),
        ("kernel_per_end", grown.bytes() / idle / 2.0),
        ("unreclaimable_per_end", grown.unreclaimable as f64 / idle / 2.0),
    ]);
    let requests = fleet.requests(active, options.seconds, &folder)?;
    let drained = fleet.drain(active, &folder)?;
    figures.insert("drain_seconds", drained.seconds);
    print(&figures, &requests, &drained, processes, total);
    let caches = grown.print(idle);
    computed::print(&figures)?;
    Ok(json!({
        "processes": processes, "clients": total, "figures": figures, "caches_objects_per_client": caches,
        "requests": requests, "drain": drained.json(),
    }))
}

fn print(figures: &Round, requests: &Round, drained: &Drained, processes: usize, total: usize) {
    let figure = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let request = |name: &str| requests.get(name).copied().unwrap_or(f64::NAN);
    let ms = |name: &str| request(name) / 1e3;
    let rows = [
        row("user memory per client, RSS, bytes", format!("{:.0}", figure("rss_per_client"))),
        row("user memory per client, PSS, bytes", format!("{:.0}", figure("pss_per_client"))),
        row("kernel, caches that grew, bytes per end of a connection", format!("{:.0}", figure("kernel_per_end"))),
        row("kernel, SUnreclaim + PageTables, the same", format!("{:.0}", figure("unreclaimable_per_end"))),
        row("connects with one round trip each, per second", format!("{:.0}", figure("connects_per_second"))),
        row(
            "CPU of an idle client (its pings), µs per second",
            format!("{:.2}", figure("idle_cpu_us_per_client_second")),
        ),
        row("requests by 1 % of them, one a second each: p50 ms", format!("{:.2}", ms("p50_us"))),
        row("p99 ms", format!("{:.2}", ms("p99_us"))),
        row("p99.9 ms", format!("{:.2}", ms("p999_us"))),
        row("Redis and responder, CPU µs per request", format!("{:.1}", request("redis_us") + request("responder_us"))),
        row("drain: SIGUSR1 to the last process's end, s", format!("{:.2}", drained.seconds)),
        row("drain: first process's end, s", format!("{:.2}", drained.first_seconds)),
        row("drain: clients closed with 1012, seen by them", drained.closed.to_string()),
        row("drain: requests that crossed a Close", drained.crossed.to_string()),
        row("drain: lost or wrong, seen by clients", format!("{:?}", drained.errors)),
        row("drain: exit codes", format!("{:?}", drained.codes)),
    ];
    results::print_table(&format!("{total} clients, {processes} process(es) on one port"), &["", ""], &rows);
    for (reason, count) in &drained.reasons {
        println!("drain: {count} clients were gone because: {reason}");
    }
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options =
        Options { processes: vec![1, 10], clients: 18_500, seconds: 10.0, closes: 4_000, flags: String::new() };
    let mut words = Words::of("scale");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--processes" => {
                let numbers: Result<_, _> = words.text()?.split(',').map(str::parse).collect();
                options.processes = numbers.map_err(io::Error::other)?;
            }
            "--clients" => options.clients = words.parsed()?,
            "--seconds" => options.seconds = words.parsed()?,
            "--closes" => options.closes = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
