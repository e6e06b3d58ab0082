//! What an attacker costs the others: eight neighbours ask for 50 sums a second each, in windows that are quiet and attacked in turn, and their
//! latency is compared. For each attack a fresh Redis under the stock ACL, `evergate demo-services` and a fresh gateway.
//!
//! `cargo bench --bench attacks -- [OPTIONS]`
//!
//!     --only NAMES       some of the attacks, between commas; `--list` names them all
//!     --attackers LIST   how many attackers, each list entry a run of its own (1,40)
//!     --rounds N         quiet and attacked windows (3)
//!     --seconds S        the length of a window (5)
//!     --quick            one round of 3 s, and no minute's wait
//!     --shared           the machine has other work, beside which `SCHED_IDLE` leaves nothing: the attackers are 10 nicer than the rest instead
//!                        (`nice -n -10 cargo bench …` as root keeps the others out of the measurement)
//!     --flags "…"        more flags for the gateway
//!
//! `EVERGATE_BIN` is another gateway's binary; Redis' services are always this commit's. The gateway runs on CPU 0; Redis, services and
//! neighbours on CPU 1, and there the attackers, too, under `SCHED_IDLE`: they have what the others leave. The column `bus` is the latency of a
//! call that goes past the gateway, straight over Redis: what it rises to is the bus' own share, or, where the attack gives the bus
//! nothing, the test bed's (verdict `bed`). Exit code 1 where a gateway died.

#[path = "attacks/attack.rs"]
mod attack;
#[path = "attacks/background.rs"]
mod background;
#[path = "attacks/big.rs"]
mod big;
#[path = "attacks/calls.rs"]
mod calls;
#[path = "attacks/connections.rs"]
mod connections;
#[path = "attacks/large.rs"]
mod large;
#[path = "attacks/latency.rs"]
mod latency;
#[path = "attacks/list.rs"]
mod list;
#[expect(dead_code, reason = "the bench codec uses the rest")]
#[path = "support/messages.rs"]
mod messages;
#[path = "attacks/neighbours.rs"]
mod neighbours;
#[path = "support/pin.rs"]
mod pin;
#[path = "attacks/probes.rs"]
mod probes;
#[expect(dead_code, reason = "shared with benchmarks that measure CPU and memory")]
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "attacks/role.rs"]
mod role;
#[path = "attacks/scenario.rs"]
mod scenario;
#[expect(dead_code, reason = "shared with benchmarks that need an echo or a stub")]
#[path = "support/site.rs"]
mod site;
#[path = "attacks/table.rs"]
mod table;
#[path = "attacks/watch.rs"]
mod watch;
#[path = "support/words.rs"]
mod words;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use list::{ATTACKS, Attack};
use pin::pin;
use process::{Folder, OTHER_CPU};
use serde_json::{Value, json};
use words::Words;

/// What is asked for on the command line.
struct Options {
    /// The attacks to run.
    attacks: Vec<&'static Attack>,
    /// How many attackers at a time.
    attackers: Vec<usize>,
    /// Quiet and attacked windows of each run.
    rounds: usize,
    /// The length of a window.
    window: Duration,
    /// Whether the attackers would get no CPU under `SCHED_IDLE`.
    is_shared: bool,
    /// How long the memory of what was attacked by slow readers is given to shrink.
    shrink: Duration,
    /// More flags for the gateway, words between spaces.
    flags: String,
}

fn main() -> io::Result<ExitCode> {
    if role::play()? || !words::is_bench() {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(options) = options()? else { return Ok(ExitCode::SUCCESS) };
    // Threads take it over: neighbours and probes leave the gateway its CPU.
    pin(OTHER_CPU)?;
    println!("{}", provenance::line());
    let folder = Folder::new()?;
    let (mut rows, mut parts) = (Vec::new(), Vec::new());
    for attack in &options.attacks {
        for &attackers in &options.attackers {
            let begun = std::time::Instant::now();
            match scenario::run(attack, attackers, &options, folder.path()) {
                Ok(outcome) => {
                    eprintln!("{} x {attackers}: {} ({:.0?})", attack.name, table::in_short(&outcome), begun.elapsed());
                    parts.push(table::part(&outcome));
                    rows.push(outcome);
                }
                // The others are worth their run.
                Err(error) => eprintln!("{} x {attackers}: not measured: {error}", attack.name),
            }
        }
    }
    table::print(&rows);
    results::save("attacks", &told(&options), &parts)?;
    Ok(if rows.iter().any(|outcome| outcome.died.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn told(options: &Options) -> Value {
    let Options { attackers, rounds, window, is_shared, flags, .. } = options;
    let other = std::env::var_os("EVERGATE_BIN").is_some();
    json!({ "attackers": attackers, "rounds": rounds, "window_seconds": window.as_secs_f64(), "shared": is_shared, "flags": flags,
        "other_gateway": other })
}

/// Reads the command line. None where it only asked for the list.
fn options() -> io::Result<Option<Options>> {
    let mut options = Options {
        attacks: ATTACKS.iter().collect(),
        attackers: vec![1, 40],
        rounds: 3,
        window: Duration::from_secs(5),
        is_shared: false,
        shrink: Duration::from_mins(1),
        flags: String::new(),
    };
    let mut words = Words::of("attacks");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--list" => {
                for Attack { name, line, about, .. } in &ATTACKS {
                    println!("{name:<18} line {line}: {about}");
                }
                return Ok(None);
            }
            "--only" => options.attacks = words.text()?.split(',').map(find).collect::<io::Result<_>>()?,
            "--attackers" => {
                let numbers: Result<_, _> = words.text()?.split(',').map(str::parse).collect();
                options.attackers = numbers.map_err(io::Error::other)?;
            }
            "--rounds" => options.rounds = words.parsed()?,
            "--seconds" => options.window = Duration::from_secs_f64(words.parsed()?),
            "--quick" => {
                (options.rounds, options.window) = (1, Duration::from_secs(3));
                options.shrink = Duration::from_secs(10);
            }
            "--shared" => options.is_shared = true,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(Some(options))
}

fn find(name: &str) -> io::Result<&'static Attack> {
    let found = ATTACKS.iter().find(|attack| attack.name == name);
    found.ok_or_else(|| io::Error::other(format!("no attack {name}; --list names them")))
}
