//! Instructions per message on the pure half, held against committed figures: `cargo bench -p evergate-instructions`.
//!
//! Unlike a time, a count repeats exactly on a noisy machine, so that CI can judge it: growth of more than
//! [`GROWTH_MAX_PERCENT`] fails. valgrind counts, on the CPU that it emulates: simdutf8, memchr and libc choose their
//! code for that one. Each case runs twice, with [`WARMUP`] operations and with some more; what happens
//! once, from the loader to the growth of buffers, is in both counts and not in their difference.
//!
//! `cargo bench -p evergate-instructions -- --update` writes the figures anew.
//!
//! Besides, each dimension of the bench `doubling` is run with so many, twice and four times as many units: where the third
//! step costs more than [`STEEPNESS_MAX`] times as much for each unit as the second, something walks over all that there is. No
//! figure is kept of that.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::{env, fs};

use serde::{Deserialize, Serialize};

#[path = "../support/cases.rs"]
mod cases;
#[path = "../support/core.rs"]
mod core;
#[path = "../support/messages.rs"]
#[expect(dead_code, reason = "the bench codec uses the rest")]
mod messages;
#[path = "../doubling"]
mod doubling {
    //! What the bench `doubling` does.
    mod core;
    pub mod dimensions;
}
#[path = "../support/provenance.rs"]
mod provenance;

use cases::{CASES, Case};
use doubling::dimensions::{DIMENSIONS, Dimension};

/// Where the committed figures are.
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/instructions.json");
/// What makes them anew.
const UPDATE: &str = "cargo bench -p evergate-instructions -- --update";
/// By how much a count may grow.
const GROWTH_MAX_PERCENT: f64 = 5.0;
/// By how much a unit may cost more where there are twice as many. A square: 2.
const STEEPNESS_MAX: f64 = 1.25;
/// Operations before those that are counted.
const WARMUP: u64 = 64;
/// Operations that are counted.
const COUNTED: u64 = 64;

/// The committed figures and what they hold for.
#[derive(Serialize, Deserialize)]
struct Figures {
    /// What they are and how they are made anew.
    about: String,
    /// When, UTC.
    date: String,
    /// Of what; `+` = not quite.
    commit: String,
    /// On which CPU.
    cpu: String,
    /// By which compiler.
    compiler: String,
    /// By which valgrind.
    valgrind: String,
    /// What the emulated CPU can do, as far as code is chosen by it.
    features: String,
    /// Instructions per message.
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["--features"] => {
            println!("{}", features());
            return ExitCode::SUCCESS;
        }
        ["--run", name, times] => return run(name, times),
        ["--double", number, size] => return double(number, size),
        ["--update"] => measure().and_then(|figures| update(&figures)),
        [] => measure().and_then(|figures| judge(&figures)).and_then(|()| judge_doubling()),
        _ => Err(format!("usage: {UPDATE}, or without --update")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("instructions: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What valgrind looks at: a case, so many times.
fn run(name: &str, times: &str) -> ExitCode {
    let (Some(case), Ok(times)) = (CASES.iter().find(|case| case.name == name), times.parse::<u64>()) else {
        return ExitCode::FAILURE;
    };
    let mut run = (case.make)();
    (0..times).for_each(|_| run());
    ExitCode::SUCCESS
}

/// What valgrind looks at: a dimension at a size.
fn double(number: &str, size: &str) -> ExitCode {
    let (Some(dimension), Ok(size)) =
        (number.parse().ok().and_then(|number: usize| DIMENSIONS.get(number)), size.parse())
    else {
        return ExitCode::FAILURE;
    };
    (dimension.make)(size)();
    ExitCode::SUCCESS
}

/// Whether a unit of any dimension costs more where there are more.
fn judge_doubling() -> Result<(), String> {
    println!("\n{:65} {:>9} {:>9}", "instructions per unit, what led to it included", "doubled", "again");
    let mut steep = Vec::new();
    for (number, Dimension { name, unit, first, .. }) in DIMENSIONS.iter().enumerate() {
        let total = |size: usize| collected(&["--double", &number.to_string(), &size.to_string()]);
        let totals = [total(*first)?, total(2 * first)?, total(4 * first)?];
        let [once, again] = [(totals[1] - totals[0]) / *first as u64, (totals[2] - totals[1]) / (2 * first) as u64];
        let steepness = again as f64 / once as f64;
        println!("{name:56} {unit:8} {once:9} {again:9}  x {steepness:.2}");
        if steepness > STEEPNESS_MAX {
            steep.push(*name);
        }
    }
    if steep.is_empty() {
        return Ok(());
    }
    Err(format!("a unit costs more where there are more, as the square does: {}", steep.join("; ")))
}

fn measure() -> Result<Figures, String> {
    let instructions =
        CASES.iter().map(|case| Ok((case.name.to_owned(), count(case)?))).collect::<Result<_, String>>()?;
    Ok(Figures {
        about: format!("instructions per message; made by `{UPDATE}`, judged by the same without --update"),
        date: provenance::date(),
        commit: provenance::commit(),
        cpu: provenance::cpu(),
        compiler: provenance::compiler(),
        valgrind: String::from_utf8_lossy(&valgrind(&["--version"])?.0).trim().to_owned(),
        features: String::from_utf8_lossy(&under_valgrind(&["--features"])?.0).trim().to_owned(),
        instructions,
    })
}

/// Instructions per message of a case.
fn count(case: &Case) -> Result<u64, String> {
    let total = |times: u64| collected(&["--run", case.name, &times.to_string()]);
    Ok((total(WARMUP + COUNTED)? - total(WARMUP)?) / COUNTED / case.messages as u64)
}

/// All instructions of this program with these arguments.
fn collected(arguments: &[&str]) -> Result<u64, String> {
    let (_, said) = under_valgrind(arguments)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let collected = collected.and_then(|(_, count)| count.trim().parse::<u64>().ok());
    collected.ok_or(format!("valgrind's total is missing: {said}"))
}

/// Runs this program under valgrind. The environment would move its stack about.
fn under_valgrind(arguments: &[&str]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let own = own.to_str().ok_or("the path of this program is not UTF-8")?;
    valgrind(&[&["--tool=callgrind", "--callgrind-out-file=/dev/null", own], arguments].concat())
}

/// What valgrind prints and says.
fn valgrind(arguments: &[&str]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let output = Command::new("valgrind").args(arguments).env_clear().env("PATH", path).output();
    let output = output.map_err(|error| format!("valgrind cannot be run ({error}): install it"))?;
    if output.status.success() {
        Ok((output.stdout, output.stderr))
    } else {
        Err(format!("valgrind {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let found = [
        ("avx512", is_x86_feature_detected!("avx512bw")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
    ];
    let names: Vec<_> = found.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    format!("x86_64 {}", names.join(" "))
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    env::consts::ARCH.to_owned()
}

fn update(figures: &Figures) -> Result<(), String> {
    let text = serde_json::to_string_pretty(figures).map_err(|error| error.to_string())?;
    fs::write(FIGURES, text + "\n").map_err(|error| format!("{FIGURES}: {error}"))?;
    for (name, count) in &figures.instructions {
        println!("{name:45} {count:9}");
    }
    println!("written to {FIGURES}");
    Ok(())
}

fn judge(now: &Figures) -> Result<(), String> {
    let text = fs::read_to_string(FIGURES).map_err(|error| format!("{FIGURES}: {error}; make it: {UPDATE}"))?;
    let committed: Figures = serde_json::from_str(&text).map_err(|error| format!("{FIGURES}: {error}"))?;
    println!("{}", provenance::line());
    println!("{:45} {:>9} {:>9} {:>7}", "instructions per message", "committed", "now", "");
    let mut grown = Vec::new();
    for case in &CASES {
        let count = now.instructions[case.name];
        let Some(&before) = committed.instructions.get(case.name) else {
            return Err(format!("\"{}\" has no committed figure; run: {UPDATE}", case.name));
        };
        let growth_percent = (count as f64 / before as f64 - 1.0) * 100.0;
        println!("{:45} {before:9} {count:9} {growth_percent:+6.1}%", case.name);
        if growth_percent > GROWTH_MAX_PERCENT {
            grown.push(format!("{} by {growth_percent:.1} %", case.name));
        } else if growth_percent < -GROWTH_MAX_PERCENT {
            println!("    better than committed: keep it so with {UPDATE}");
        }
    }
    if committed.features != now.features {
        println!(
            "Not judged: the figures are for {}, valgrind emulates {} here, and code is chosen by that.",
            committed.features, now.features
        );
        return Ok(());
    }
    if grown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more instructions than {GROWTH_MAX_PERCENT} % above the committed figures: {}.\n\
         Take out what costs them. If they are worth it, or the compiler or a crate has changed (committed: {}, {}; now: {}, {}), \
         run\n    {UPDATE}\nand commit benches/results/instructions.json with the reason.",
        grown.join(", "),
        committed.compiler,
        committed.valgrind,
        now.compiler,
        now.valgrind
    ))
}
