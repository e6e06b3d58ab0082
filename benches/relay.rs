//! What the gateway costs per request, against the floor, driven by the same generator in the same alternation. The floor is
//! the cheapest bare echo known here: io_uring without a runtime, multishot receives, provided buffers (`support/raw.rs`).
//!
//! `cargo bench --bench relay --features load -- [OPTIONS]`
//!
//!     --only LIST     parts: 1,64,1000,10000 (clients, closed loop), open (10,000 clients at 2,000/s), idle (memory),
//!                     large (a 1 MB reply), flood (63 clients beside one with 100 in flight); default: all. Besides: mix
//!                     (64 clients, with sessions, streamed and large replies; the floor's are stateless)
//!     --rounds N      alternations (5)
//!     --seconds S     measured part of each (5)
//!     --stub          a RESP stub in place of Redis and responder
//!     --log on|off    the gateway's log, a line for each request, in a file on a tmpfs (on)
//!     --idle N        clients of the part idle (15000)
//!     --flags "…"     more flags for the gateway, to compare settings
//!     --old-floor     beside the floor the one of results up to 2026-11-29: the echo on monoio, a task for each client
//!                     (`support/echo.rs`)
//!
//! `EVERGATE_BIN` is another gateway's binary, `EVERGATE_LOAD_BIN` another generator. The gateway and the floor run on CPU 0,
//! generator, responder and Redis on CPU 1. CPU times are utime + stime of a process over the requests it served, all its
//! threads together.

#[path = "support/client.rs"]
mod client;
#[path = "relay/flood.rs"]
mod flood;
#[path = "relay/idle.rs"]
mod idle;
#[path = "relay/large.rs"]
mod large;
#[path = "support/load.rs"]
mod load;
#[path = "support/pin.rs"]
mod pin;
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "relay/requests.rs"]
mod requests;
#[path = "support/results.rs"]
mod results;
#[path = "support/role.rs"]
mod role;
#[path = "support/series.rs"]
mod series;
#[path = "support/site.rs"]
mod site;
#[path = "support/words.rs"]
mod words;

use std::time::Duration;
use std::{io, thread};

use pin::pin;
use process::{Folder, OTHER_CPU};
use serde_json::{Value, json};
use site::{Bus, Gateway, GatewayOptions};
use words::Words;

/// How long a gateway is left alone before it is measured.
const REST: Duration = Duration::from_millis(500);

/// What is asked for on the command line.
struct Options {
    /// The parts to run.
    only: Vec<String>,
    /// Alternations.
    rounds: usize,
    /// The measured part of each round, seconds.
    seconds: f64,
    /// The stub in place of Redis.
    stub: bool,
    /// Whether the gateway logs.
    log: bool,
    /// Clients of the part `idle`.
    idle: usize,
    /// More flags for the gateway, words between spaces.
    flags: String,
    /// The old floor beside the floor.
    old_floor: bool,
}

/// What every part needs.
struct Bench {
    /// The command line.
    options: Options,
    /// For logs and outputs.
    folder: Folder,
}

impl Bench {
    /// A new gateway on `bus`, with more flags.
    fn gateway(&self, bus: &Bus, flags: &[&str]) -> io::Result<Gateway> {
        let flags: Vec<&str> = self.options.flags.split_ascii_whitespace().chain(flags.iter().copied()).collect();
        let options = GatewayOptions { log: self.options.log, flags: &flags, ..GatewayOptions::default() };
        let gateway = Gateway::start(bus, options, self.folder.path())?;
        // At rest a core learns how long a wake-up takes, as one that has run for a while has.
        thread::sleep(REST);
        Ok(gateway)
    }

    /// A new bus.
    fn bus(&self) -> io::Result<Bus> {
        Bus::start(self.options.stub, self.folder.path())
    }

    /// The roles of the floors that are asked for.
    fn floors(&self) -> &'static [&'static str] {
        if self.options.old_floor { &["floor", "old-floor"] } else { &["floor"] }
    }
}

fn main() -> io::Result<()> {
    if role::play()? || !words::is_bench() {
        return Ok(());
    }
    let options = options()?;
    // What this process does itself between measurements, and as a client of the part `large`.
    pin(OTHER_CPU)?;
    let bench = Bench { options, folder: Folder::new()? };
    let Options { only, rounds, seconds, stub, log, flags, .. } = &bench.options;
    println!("{}", provenance::line());
    println!(
        "{rounds} alternating rounds of {seconds} s; {}; activity log {}; medians [lowest–highest]",
        if *stub { "RESP stub in Redis' place" } else { "Redis under the stock ACL" },
        if *log { "to a file on a tmpfs" } else { "off" },
    );
    let told = json!({ "only": only, "rounds": rounds, "seconds": seconds, "stub": stub, "log": log, "flags": flags,
        "floor": "raw ring, multishot" });
    let mut parts: Vec<Value> = requests::run(&bench)?;
    for (name, part) in
        [("idle", idle::run as fn(&Bench) -> io::Result<Value>), ("large", large::run), ("flood", flood::run)]
    {
        if only.iter().any(|part| part == name) {
            parts.push(part(&bench)?);
        }
    }
    results::save("relay", &told, &parts)
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options {
        only: ["1", "64", "1000", "10000", "open", "idle", "large", "flood"].map(str::to_owned).into(),
        rounds: 5,
        seconds: 5.0,
        stub: false,
        log: true,
        idle: 15_000,
        flags: String::new(),
        old_floor: false,
    };
    let mut words = Words::of("relay");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--stub" => options.stub = true,
            "--old-floor" => options.old_floor = true,
            "--only" => options.only = words.text()?.split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds = words.parsed()?,
            "--seconds" => options.seconds = words.parsed()?,
            "--idle" => options.idle = words.parsed()?,
            "--log" => options.log = words.text()? == "on",
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
