//! Fairness: what one client with 100 requests in flight does to the others.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Bench;
use crate::load::{Load, Round};
use crate::results::print_table;
use crate::series::Series;

/// The others: their latency is what counts.
const OTHERS: &str = "--clients 100 --rate 2000 --warmup 1";
/// What goes on beside them: nothing; one client that floods; the same number in flight, over 100 clients.
const BESIDE: [(&str, Option<&str>); 3] = [
    ("quiet", None),
    ("1 client, 100 in flight", Some("--clients 1 --in-flight 100")),
    ("100 clients, 1 in flight", Some("--clients 100 --in-flight 1")),
];

/// Measures the three in turn and prints the table.
pub fn run(bench: &Bench) -> io::Result<Value> {
    let bus = bench.bus()?;
    let gateway = bench.gateway(&bus, &[])?;
    let folder = bench.folder.path();
    let mut rounds: [Vec<Round>; 3] = [vec![], vec![], vec![]];
    for round in 1..=bench.options.rounds {
        eprintln!("flood: round {round} of {}", bench.options.rounds);
        for ((_, beside), rounds) in BESIDE.iter().zip(&mut rounds) {
            let arguments = |beside| format!("{beside} --warmup 0.5 --duration 3600");
            let start = |beside| Load::start(&gateway.url(), &gateway.process, &arguments(beside), folder);
            let beside = beside.map(start).transpose()?;
            let others = format!("{OTHERS} --duration {}", bench.options.seconds);
            let mut others = Load::run(&gateway.url(), &gateway.process, &others, folder)?;
            if let Some(beside) = beside {
                beside.interrupt()?;
                let outcome = beside.finish(Duration::from_secs(30))?;
                for (name, figure) in [("beside_per_second", "requests_per_second"), ("beside_p99_us", "p99_us")] {
                    others.insert(name, outcome.round.get(figure).copied().unwrap_or(f64::NAN));
                }
            }
            rounds.push(others);
        }
    }
    let quiet = Series::of(&rounds[0], "p99_us");
    let rows: Vec<Vec<String>> = BESIDE
        .iter()
        .zip(&rounds)
        .map(|((name, _), rounds)| {
            let ms = |name| Series::of(rounds, name).times(1e-3).to_string();
            let (p99, beside) = (Series::of(rounds, "p99_us"), Series::of(rounds, "beside_per_second"));
            let row = [ms("p50_us"), ms("p99_us"), p99.against(&quiet), beside.to_string(), ms("beside_p99_us")];
            std::iter::once((*name).to_owned()).chain(row).collect()
        })
        .collect();
    print_table(
        "100 clients at 2,000/s beside a flood",
        &["beside them", "p50 ms", "p99 ms", "p99 x quiet", "beside: requests/s", "beside: p99 ms"],
        &rows,
    );
    let [quiet, flood, spread] = rounds;
    Ok(json!({ "part": "flood", "quiet": quiet, "flood": flood, "spread": spread }))
}
