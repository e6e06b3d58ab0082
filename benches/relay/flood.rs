//! Fairness: what one client with 100 requests in flight does to 63 others, whose latency is what counts.
//!
//! Three runs take turns within a round: the others alone; beside them one client that floods; beside them the same flood
//! from 100 clients with one in flight each. The last has the same work in the same queues, so that "x quiet" is what the
//! load costs and "x spread" is what it costs the others that it comes from one client: 1 is fair.
//!
//! Below saturation the others come at fixed times of their own, and the flood rests between its bursts of 100: a turn of
//! the gateway that lasts a whole burst would show in the others' p99. Saturated, nobody rests: the generators, the responder
//! and Redis share a core, and what is seen is whether the one client gets more than its share of turns.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Bench;
use crate::load::{Load, Round};
use crate::results::print_table;
use crate::series::Series;
use crate::site::Gateway;

/// How the two sides ask.
struct Setting {
    /// What it is called.
    name: &'static str,
    /// The others.
    others: &'static str,
    /// Added to the flood.
    pause: &'static str,
}

/// Both settings.
const SETTINGS: [Setting; 2] = [
    Setting { name: "below saturation", others: "--clients 63 --rate 1000", pause: "--think 20" },
    Setting { name: "saturated", others: "--clients 63", pause: "" },
];

/// What is beside the others.
const BESIDE: [(&str, Option<&str>); 3] = [
    ("quiet", None),
    ("1 client, 100 in flight", Some("--clients 1 --in-flight 100")),
    ("spread: 100 clients, 1 in flight", Some("--clients 100 --in-flight 1")),
];

/// The rounds of what [`BESIDE`] says.
type Rounds = [Vec<Round>; BESIDE.len()];

/// Measures both settings and prints their tables.
pub fn run(bench: &Bench) -> io::Result<Value> {
    let bus = bench.bus()?;
    // One client that asks as fast as it can is what is measured here.
    let gateway = bench.gateway(&bus, &["--client-messages-per-second-max", "0"])?;
    let mut part = Map::from_iter([("part".to_owned(), json!("flood"))]);
    for setting in &SETTINGS {
        let mut all = Rounds::default();
        for round in 1..=bench.options.rounds {
            eprintln!("flood, {}: round {round} of {}", setting.name, bench.options.rounds);
            for ((_, beside), rounds) in BESIDE.iter().zip(&mut all) {
                rounds.push(measure(bench, &gateway, setting, *beside)?);
            }
        }
        print(setting, &all);
        let [quiet, flood, spread] = all;
        part.insert(setting.name.to_owned(), json!({ "quiet": quiet, "flood": flood, "spread": spread }));
    }
    Ok(Value::Object(part))
}

/// The others' figures, and the rate and p99 of what is beside them.
fn measure(bench: &Bench, gateway: &Gateway, setting: &Setting, beside: Option<&str>) -> io::Result<Round> {
    let (url, server, folder) = (gateway.url(), &gateway.process, bench.folder.path());
    let start = |beside| {
        let arguments = format!("{beside} {} --warmup 0.5 --duration 3600", setting.pause);
        Load::start(&url, server, &arguments, folder)
    };
    let beside = beside.map(start).transpose()?;
    let others = format!("{} --warmup 1 --duration {}", setting.others, bench.options.seconds);
    let mut others = Load::run(&url, server, &others, folder)?;
    if let Some(beside) = beside {
        beside.interrupt()?;
        let outcome = beside.finish(Duration::from_secs(30))?;
        if !outcome.errors.is_empty() {
            return Err(io::Error::other(format!("beside the others: {:?}", outcome.errors)));
        }
        for (name, figure) in [("beside_per_second", "requests_per_second"), ("beside_p99_us", "p99_us")] {
            others.insert(name, outcome.round.get(figure).copied().unwrap_or(f64::NAN));
        }
    }
    Ok(others)
}

fn print(setting: &Setting, all: &Rounds) {
    let p99 = |rounds: &[Round]| Series::of(rounds, "p99_us");
    let rows: Vec<Vec<String>> = BESIDE
        .iter()
        .zip(all)
        .map(|((name, _), rounds)| {
            let ms = |name| Series::of(rounds, name).times(1e-3).to_string();
            vec![
                (*name).to_owned(),
                Series::of(rounds, "requests_per_second").to_string(),
                ms("p50_us"),
                ms("p99_us"),
                p99(rounds).against(&p99(&all[0])),
                p99(rounds).against(&p99(&all[2])),
                Series::of(rounds, "beside_per_second").to_string(),
                ms("beside_p99_us"),
            ]
        })
        .collect();
    print_table(
        &format!("63 clients ({}) beside a flood, {}", setting.others, setting.name),
        &["beside them", "theirs/s", "p50 ms", "p99 ms", "x quiet", "x spread", "beside/s", "its p99 ms"],
        &rows,
    );
}
