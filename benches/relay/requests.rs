//! Requests of some 400 bytes, answered at once: closed loops and an open one.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Bench;
use crate::load::{Load, Round};
use crate::process::{OTHER_CPU, Process, SERVER_CPU, in_role};
use crate::results::print_table;
use crate::series::Series;
use crate::site::{Bus, Gateway, ROUTER, serve};

/// How the generator asks.
struct Shape {
    /// What it is called in `--only` and in the table.
    name: &'static str,
    /// The generator's arguments.
    arguments: &'static str,
}

/// All shapes.
const SHAPES: [Shape; 6] = [
    Shape { name: "1", arguments: "--clients 1" },
    Shape { name: "64", arguments: "--clients 64" },
    Shape { name: "1000", arguments: "--clients 1000" },
    Shape { name: "10000", arguments: "--clients 10000" },
    Shape { name: "open", arguments: "--clients 10000 --rate 2000" },
    // Not part of a whole run: an echo knows nothing but stateless calls, so that there is no floor to compare with.
    Shape { name: "mix", arguments: "--clients 64 --mix stateless=12,stateful=2,streamed=1,large=1" },
];

/// The rounds of one shape.
struct Rounds {
    /// Its name.
    name: &'static str,
    /// The gateway's.
    gateway: Vec<Round>,
    /// Those of the floors that are asked for, the floor's first.
    floors: Vec<Vec<Round>>,
    /// The bus without a gateway; at one client only.
    direct: Vec<Round>,
}

/// Measures every shape that is asked for and prints the tables.
pub fn run(bench: &Bench) -> io::Result<Vec<Value>> {
    let only = &bench.options.only;
    let mut all = Vec::new();
    for shape in SHAPES.iter().filter(|shape| only.iter().any(|name| name == shape.name)) {
        all.push(measure(bench, shape)?);
    }
    if !all.is_empty() {
        print(&all);
    }
    Ok(all.into_iter().map(|Rounds { name, gateway, floors, direct }| {
        json!({ "part": name, "gateway": gateway, "floor": floors.first(), "old_floor": floors.get(1), "direct": direct })
    }).collect())
}

fn measure(bench: &Bench, shape: &Shape) -> io::Result<Rounds> {
    let folder = bench.folder.path();
    let bus = bench.bus()?;
    let gateway = bench.gateway(&bus, &[])?;
    let echoes: Vec<_> =
        bench.floors().iter().map(|role| serve(role, SERVER_CPU, &[], folder)).collect::<io::Result<_>>()?;
    let Bench { options, .. } = bench;
    let arguments = format!("{} --warmup 1 --duration {}", shape.arguments, options.seconds);
    let mut rounds = Rounds { name: shape.name, gateway: vec![], floors: vec![vec![]; echoes.len()], direct: vec![] };
    for round in 1..=options.rounds {
        eprintln!("{}: round {round} of {}", shape.name, options.rounds);
        rounds.gateway.push(through_gateway(&gateway, &bus, &arguments, bench)?);
        for ((address, echo), floor) in echoes.iter().zip(&mut rounds.floors) {
            floor.push(Load::run(&format!("ws://{address}/"), echo, &format!("{arguments} --echo"), folder)?);
        }
        if shape.name == "1" && !options.stub {
            rounds.direct.push(direct(&bus, bench)?);
        }
    }
    Ok(rounds)
}

/// One run against the gateway, with what it cost on the bus. That is counted from before the generator's start to after its
/// end, its warm-up included.
fn through_gateway(gateway: &Gateway, bus: &Bus, arguments: &str, bench: &Bench) -> io::Result<Round> {
    let seen = || -> io::Result<[f64; 5]> {
        let responder = bus.responder.as_ref().map_or(Ok(Duration::ZERO), Process::cpu)?;
        let cpu = [bus.server.cpu()?, responder].map(|time| time.as_secs_f64() * 1e6);
        let count = |name| gateway.count(name).map(|count| count as f64);
        // A gateway of before the loop does not count them.
        let entries = count("entries").unwrap_or(f64::NAN);
        Ok([count("requests")?, count("bus_commands")?, cpu[0], cpu[1], entries])
    };
    let before = seen()?;
    let mut round = Load::run(&gateway.url(), &gateway.process, arguments, bench.folder.path())?;
    let after = seen()?;
    let requests = after[0] - before[0];
    for (index, name) in [(1, "bus_commands"), (2, "redis_us"), (3, "responder_us"), (4, "entries")] {
        round.insert(name, (after[index] - before[index]) / requests);
    }
    Ok(round)
}

/// The round trip over the bus alone, from the CPU where the gateway would be.
fn direct(bus: &Bus, bench: &Bench) -> io::Result<Round> {
    let seconds = bench.options.seconds.to_string();
    let command = in_role(&["direct", &bus.address.to_string(), ROUTER, &seconds])?;
    let mut process = Process::start("direct", SERVER_CPU, &command, bench.folder.path())?;
    process.wait(Duration::from_secs_f64(bench.options.seconds + 20.0))?;
    let figures: Value = serde_json::from_str(&process.output()).map_err(|_| process.error("no figures"))?;
    let figure = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    Ok(Round::from([("p50_us", figure("p50")), ("p99_us", figure("p99")), ("requests", figure("requests"))]))
}

fn print(all: &[Rounds]) {
    let has_old = all.iter().any(|rounds| rounds.floors.len() > 1);
    // What is only there where the old floor is.
    let old = |words: &[&'static str]| words.iter().copied().filter(|_| has_old).collect::<Vec<_>>();
    let mut head = vec!["clients", "gateway, CPU µs", "floor, CPU µs", "x floor"];
    head.extend(old(&["old floor, CPU µs", "x old floor"]));
    head.extend(["requests/s", "floor/s"]);
    head.extend(old(&["old floor/s"]));
    head.extend(["entries", "commands", "Redis, CPU µs", "responder, CPU µs", "gateway, cores", "generator, cores"]);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|rounds| {
            let gateway = Series::of(&rounds.gateway, "cpu_us");
            let of = |name| Series::of(&rounds.gateway, name).to_string();
            let mut row = vec![rounds.name.to_owned(), gateway.to_string()];
            for floor in rounds.floors.iter().map(|rounds| Series::of(rounds, "cpu_us")) {
                row.extend([floor.to_string(), gateway.against(&floor)]);
            }
            row.push(of("requests_per_second"));
            row.extend(rounds.floors.iter().map(|rounds| Series::of(rounds, "requests_per_second").to_string()));
            let names = ["entries", "bus_commands", "redis_us", "responder_us", "server_share", "generator_share"];
            row.extend(names.map(of));
            row
        })
        .collect();
    print_table("Cost of a request (per request; open: 10,000 clients at 2,000/s)", &head, &rows);
    let mut head = vec!["clients", "gateway p50 ms", "p99 ms", "floor p50 ms", "p99 ms"];
    head.extend(old(&["old floor p50 ms", "p99 ms"]));
    head.extend(["direct p50 ms", "x direct"]);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|rounds| {
            let ms = |of: &[Round], name| Series::of(of, name).times(1e-3);
            let mut row = vec![rounds.name.to_owned()];
            for rounds in [&rounds.gateway].into_iter().chain(&rounds.floors) {
                row.extend(["p50_us", "p99_us"].map(|name| ms(rounds, name).to_string()));
            }
            let direct = ms(&rounds.direct, "p50_us");
            row.extend([direct.to_string(), ms(&rounds.gateway, "p50_us").against(&direct)]);
            row
        })
        .collect();
    print_table("Latency (direct: RPUSH and BLPOP with the same responder, no gateway)", &head, &rows);
    let busy = |rounds: &Rounds| Series::of(&rounds.gateway, "generator_share").median() > 0.9;
    for rounds in all.iter().filter(|rounds| busy(rounds)) {
        println!("{}: the generator used more than 90 % of a core", rounds.name);
    }
    println!("Generator, responder and Redis share CPU {OTHER_CPU}; the gateway has CPU {SERVER_CPU} to itself.");
}
