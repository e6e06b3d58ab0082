//! Memory per idle client: after one round trip each, against the same process without clients. User memory only: what the
//! kernel needs is measured by the bench `scale`.

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Bench;
use crate::load::{Load, Round};
use crate::process::{Process, SERVER_CPU, eventually};
use crate::results::print_table;
use crate::series::Series;
use crate::site::serve;

/// The longest that all clients may take to connect.
const CONNECT: Duration = Duration::from_mins(2);

/// Measures gateway and floors in turn, each time a new process, and prints the table.
pub fn run(bench: &Bench) -> io::Result<Value> {
    let mut gateways = vec![];
    let mut floors: Vec<Vec<Round>> = bench.floors().iter().map(|_| vec![]).collect();
    for round in 1..=bench.options.rounds {
        eprintln!("idle: round {round} of {}", bench.options.rounds);
        let clients = bench.options.idle;
        let bus = bench.bus()?;
        let gateway = bench.gateway(&bus, &["--clients-max", &(clients + 100).to_string()])?;
        let all_answered = || Ok(gateway.count("requests")? >= clients as u64);
        gateways.push(hold(bench, &gateway.url(), &gateway.process, "", &all_answered)?);
        drop(gateway);
        for (role, rounds) in bench.floors().iter().zip(&mut floors) {
            let (address, echo) = serve(role, SERVER_CPU, &[], bench.folder.path())?;
            rounds.push(hold(bench, &format!("ws://{address}/"), &echo, "--echo", &|| Ok(true))?);
        }
    }
    let row = |name: &str, rounds: &[Round]| {
        let of = |name| Series::of(rounds, name).to_string();
        vec![name.to_owned(), of("rss_per_client"), of("pss_per_client"), of("base_rss")]
    };
    let mut rows = vec![row("gateway", &gateways)];
    rows.extend(bench.floors().iter().zip(&floors).map(|(name, rounds)| row(name, rounds)));
    print_table(
        &format!("Memory of {} idle clients, bytes", bench.options.idle),
        &["server", "RSS/client", "PSS/client", "RSS without clients"],
        &rows,
    );
    Ok(json!({ "part": "idle", "clients": bench.options.idle, "gateway": gateways, "floor": floors.first(),
        "old_floor": floors.get(1) }))
}

/// Connects the clients and compares the server's memory before and after.
fn hold(
    bench: &Bench,
    url: &str,
    server: &Process,
    arguments: &str,
    all_answered: &dyn Fn() -> io::Result<bool>,
) -> io::Result<Round> {
    let clients = bench.options.idle;
    let (before, descriptors) = (server.memory()?, open_files(server)?);
    let arguments = format!("--clients 1 --rate 1 --idle {} --duration 300 {arguments}", clients - 1);
    let load = Load::start(url, server, &arguments, bench.folder.path())?;
    eventually("all clients, connected and answered", CONNECT, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok((open_files(server)? >= descriptors + clients && all_answered()?).then_some(()))
    })?;
    until_quiet(server)?;
    let after = server.memory()?;
    load.interrupt()?;
    let outcome = load.finish(Duration::from_mins(1))?;
    if !outcome.errors.is_empty() {
        return Err(io::Error::other(format!("idle clients: {:?}", outcome.errors)));
    }
    let per_client = |before: u64, after: u64| after.saturating_sub(before) as f64 / clients as f64;
    Ok(Round::from([
        ("rss_per_client", per_client(before.rss, after.rss)),
        ("pss_per_client", per_client(before.pss, after.pss)),
        ("base_rss", before.rss as f64),
    ]))
}

/// How many descriptors a process has open.
fn open_files(process: &Process) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", process.pid()))?.count())
}

/// Waits until a second has passed in which a process used no more than a tick of CPU.
fn until_quiet(process: &Process) -> io::Result<()> {
    eventually("a quiet second", CONNECT, || {
        let before = process.cpu()?;
        std::thread::sleep(Duration::from_secs(1));
        Ok((process.cpu()?.saturating_sub(before) <= Duration::from_millis(10)).then_some(()))
    })
}
