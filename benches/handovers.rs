//! Restarts under load: does any visitor notice? Gateways follow each other on one port, while visitors come at a fixed rate: each
//! connects, upgrades, asks once, takes its reply and closes. By turns the successor takes over the listening sockets
//! (`evergate serve --replace`), or listens beside the old one (`SO_REUSEPORT`), which is then drained or stopped, or the old one is stopped
//! and the port bound anew: what the first of these spares, the others show. On loopback, and over a route with a delay, where handshakes are
//! under way when a listener is closed.
//!
//! `cargo bench --bench handovers -- [OPTIONS]`
//!
//!     --hand-overs N   restarts of each kind on each route (30)
//!     --row N          how many of them in a row, under one load, before it is another kind's turn (5)
//!     --rate R         visitors per second (2000)
//!     --pause S        seconds of load before, between and after restarts (1)
//!     --kinds LIST     hand-over,side-by-side,stop-beside,naive (these)
//!     --routes LIST    loopback,delayed (both)
//!     --delay MS       of the route with a delay, each way (5)
//!     --flags "…"      more flags for the gateways
//!
//! `EVERGATE_BIN` is another gateway's binary. The gateways run on CPU 0; visitors, responder, Redis and what delays packets on CPU 1.
//! The route with a delay needs root and `ip`; without root it is left out. No sysctl is set; the result has those that matter.
//!
//! A connect has failed that was refused, reset or left without the gateway's 101 for ten seconds. Who has sent its request and gets a 1012
//! in the place of the reply sends it again on a new connection, once, as clients may; lost is what has no reply even so. Late are
//! connects of more than 900 ms: a packet of theirs was dropped, and TCP sent it again. Exit code 1 where a hand-over cost anybody
//! anything.

#[path = "support/clock.rs"]
mod clock;
#[path = "support/messages.rs"]
#[expect(dead_code, reason = "the bench codec uses the rest")]
mod messages;
#[path = "handovers/mirror.rs"]
mod mirror;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "handovers/restart.rs"]
mod restart;
#[path = "support/results.rs"]
mod results;
#[path = "handovers/role.rs"]
mod role;
#[path = "handovers/route.rs"]
mod route;
#[path = "support/site.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod site;
#[path = "handovers/visitor.rs"]
mod visitor;
#[path = "handovers/visits.rs"]
mod visits;
#[path = "support/words.rs"]
mod words;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;
use process::{Folder, free_port};
use restart::{Kind, Line, Restart};
use route::Route;
use serde_json::{Value, json};
use site::Bus;
use visits::{Figures, Visits};
use words::Words;

/// What is asked for on the command line.
struct Options {
    /// Restarts of each kind on each route.
    hand_overs: usize,
    /// Of these so many in a row.
    row: usize,
    /// Visitors per second.
    rate: u64,
    /// Load before, between and after restarts.
    pause: Duration,
    /// The kinds of restart.
    kinds: Vec<Kind>,
    /// Whether loopback is one of the routes.
    on_loopback: bool,
    /// Whether the one with a delay is.
    over_delay: bool,
    /// Its delay, each way.
    delay_ms: u64,
    /// More flags for the gateways, words between spaces.
    flags: String,
}

/// What the restarts of one kind came to, on one route.
struct Outcome {
    /// Of which kind.
    kind: Kind,
    /// How each went.
    restarts: Vec<Restart>,
    /// What became of the visitors, in all turns.
    figures: Figures,
}

impl Outcome {
    /// Whether no visitor noticed anything, and every gateway ended as it should.
    fn is_flawless(&self) -> bool {
        let Figures { visits, answered, retried, turned_away, .. } = self.figures;
        let is_faultless = self.figures.faults.values().sum::<u64>() == retried;
        is_faultless
            && visits > 0
            && answered == visits
            && turned_away == 0
            && self.restarts.iter().all(|restart| restart.exit_code == 0)
    }
}

fn main() -> io::Result<ExitCode> {
    if role::play()? || !words::is_bench() {
        return Ok(ExitCode::SUCCESS);
    }
    let options = options()?;
    println!("{}", provenance::line());
    let folder = Folder::new()?;
    let (mut parts, mut is_gapless) = (Vec::new(), true);
    if options.on_loopback {
        is_gapless &= measure(&options, Route::loopback(), folder.path(), &mut parts)?;
    }
    if options.over_delay && !geteuid().is_root() {
        println!("\nThe route with a delay is left out: it needs root.");
    } else if options.over_delay {
        let route = Route::delayed(options.delay_ms, folder.path())?;
        is_gapless &= measure(&options, route, folder.path(), &mut parts)?;
    }
    results::save("handovers", &told(&options), &parts)?;
    Ok(if is_gapless { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All kinds by turns on one route; false where one that promises it was not without a gap.
fn measure(options: &Options, route: Route, folder: &Path, parts: &mut Vec<Value>) -> io::Result<bool> {
    let outcome = |&kind: &Kind| Outcome { kind, restarts: Vec::new(), figures: Figures::default() };
    let mut outcomes: Vec<Outcome> = options.kinds.iter().map(outcome).collect();
    for begun in (0..options.hand_overs).step_by(options.row) {
        let row = options.row.min(options.hand_overs - begun);
        for outcome in &mut outcomes {
            // It is shared memory: what a turn has written goes with it.
            let folder = folder.join("turn");
            fs::create_dir(&folder)?;
            let (restarts, figures) = turn(options, &route, outcome.kind, row, &folder)?;
            fs::remove_dir_all(&folder)?;
            let faults: u64 = figures.faults.values().sum();
            eprintln!("{}: {} {}: {faults} faults", route.name, outcome.kind.name(), begun + row);
            outcome.restarts.extend(restarts);
            outcome.figures.add(&figures);
        }
    }
    print(options, &route, &outcomes);
    let (name, sysctls) = (route.name.clone(), route::sysctls());
    let mirrored = route.finish()?;
    if let Some(mirrored) = mirrored {
        println!(
            "\nThe route: {} packets, the latest {:.1} ms too late, {} dropped",
            mirrored.packets, mirrored.late_ms_max, mirrored.dropped
        );
    }
    let kinds: Vec<Value> = outcomes.iter().map(part).collect();
    parts.push(json!({ "route": name, "sysctls": sysctls, "mirrored": mirrored, "kinds": kinds }));
    Ok(outcomes.iter().all(|outcome| !outcome.kind.is_gapless() || outcome.is_flawless()))
}

/// So many restarts of a kind in a row, under one load.
fn turn(
    options: &Options,
    route: &Route,
    kind: Kind,
    row: usize,
    folder: &Path,
) -> io::Result<(Vec<Restart>, Figures)> {
    let bus = Bus::start(false, folder)?;
    let listen = SocketAddr::from((route.gateway, free_port()?));
    let line = Line { kind, bus: &bus, listen, flags: &options.flags, folder };
    let mut gateway = line.begin()?;
    let visits = Visits::start(SocketAddr::from((route.target, listen.port())), route.source, options.rate, folder)?;
    sleep(options.pause);
    let mut restarts = Vec::new();
    for _ in 0..row {
        let restart;
        (gateway, restart) = line.restart(gateway)?;
        restarts.push(restart);
        sleep(options.pause);
    }
    let (figures, timed) = visits.finish()?;
    restart::assign(&timed, &mut restarts);
    drop(gateway);
    Ok((restarts, figures))
}

fn print(options: &Options, route: &Route, outcomes: &[Outcome]) {
    let title = format!("{}: {} restarts of each kind, {} visitors/s", route.name, options.hand_overs, options.rate);
    let head = [
        "kind",
        "visitors",
        "failed connects",
        "resets",
        "1012 before a reply",
        "other ends before a reply",
        "lost",
        "late",
        "longest connect, ms",
        "load behind, ms",
        "exit codes but 0",
        "successor ready, s",
        "old one gone, s",
    ];
    results::print_table(&title, &head, &outcomes.iter().map(row).collect::<Vec<_>>());
    for Outcome { kind, figures, .. } in outcomes {
        let faults: Vec<String> = figures.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        println!("\n{}: {}", kind.name(), if faults.is_empty() { "no fault".to_owned() } else { faults.join(", ") });
    }
}

fn row(outcome: &Outcome) -> Vec<String> {
    let Outcome { kind, restarts, figures } = outcome;
    let longest = |of: fn(&Restart) -> f64| format!("{:.2}", restarts.iter().map(of).fold(0.0, f64::max));
    vec![
        kind.name().to_owned(),
        figures.visits.to_string(),
        figures.failed_connects.to_string(),
        figures.resets.to_string(),
        figures.retried.to_string(),
        figures.unanswered.to_string(),
        figures.lost.to_string(),
        figures.late.to_string(),
        format!("{:.0}", figures.entry_ms_max),
        format!("{:.0}", figures.behind_ms_max),
        restarts.iter().filter(|restart| restart.exit_code != 0).count().to_string(),
        longest(|restart| restart.ready_seconds),
        longest(|restart| restart.ended_seconds),
    ]
}

fn part(outcome: &Outcome) -> Value {
    let Outcome { kind, restarts, figures } = outcome;
    json!({ "kind": kind.name(), "figures": figures, "restarts": restarts })
}

fn told(options: &Options) -> Value {
    let Options { hand_overs, row, rate, pause, delay_ms, flags, .. } = options;
    let other = std::env::var_os("EVERGATE_BIN").is_some();
    json!({
        "hand_overs": hand_overs, "row": row, "rate": rate, "pause_seconds": pause.as_secs_f64(),
        "delay_ms": delay_ms, "flags": flags, "other_gateway": other,
    })
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options {
        hand_overs: 30,
        row: 5,
        rate: 2_000,
        pause: Duration::from_secs(1),
        kinds: vec![Kind::HandOver, Kind::SideBySide, Kind::StopBeside, Kind::Naive],
        on_loopback: true,
        over_delay: true,
        delay_ms: 5,
        flags: String::new(),
    };
    let mut words = Words::of("handovers");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--hand-overs" => options.hand_overs = words.parsed::<usize>()?.max(1),
            "--row" => options.row = words.parsed::<usize>()?.max(1),
            "--rate" => options.rate = words.parsed::<u64>()?.max(1),
            "--pause" => options.pause = Duration::from_secs_f64(words.parsed()?),
            "--kinds" => {
                let names = words.text()?;
                let kind = |name| kind(name).ok_or_else(|| words.unknown(name));
                options.kinds = names.split(',').map(kind).collect::<io::Result<_>>()?;
            }
            "--routes" => {
                let names = words.text()?;
                (options.on_loopback, options.over_delay) = routes(&names).map_err(|name| words.unknown(name))?;
            }
            "--delay" => options.delay_ms = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}

fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// Loopback, and the one with a delay: whether each is in a list; `Err`: what is neither.
fn routes(list: &str) -> Result<(bool, bool), &str> {
    let names: Vec<&str> = list.split(',').collect();
    match names.iter().find(|name| !["loopback", "delayed"].contains(name)) {
        Some(name) => Err(name),
        None => Ok((names.contains(&"loopback"), names.contains(&"delayed"))),
    }
}
