//! Whether anything costs more the more there is of it: `cargo bench --bench doubling`.
//!
//! Each dimension is doubled six times, on the pure half alone, and the CPU time for one unit of it must stay the same. What grows
//! by a factor of two with each doubling is a square, and 64 in the last column. A little growth is the caches': 8,000 clients do
//! not fit where 125 do; and what is kept in order costs the logarithm. It ends with 1 where the last size costs more than
//! [`GROWTH_MAX`] times the first for each unit.
//!
//! Arguments: words; only dimensions whose name has one of them.

use std::process::ExitCode;

use nix::time::{ClockId, clock_gettime};

#[path = "doubling/core.rs"]
mod core;
#[path = "doubling/dimensions.rs"]
mod dimensions;
#[path = "support/provenance.rs"]
mod provenance;

use dimensions::{DIMENSIONS, Dimension};

/// How often each dimension is doubled.
const DOUBLINGS: u32 = 6;
/// Medians are of so many.
const SAMPLES: usize = 5;
/// A square would be 64.
const GROWTH_MAX: f64 = 4.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("{}", provenance::line());
    println!("ns per unit, median of {SAMPLES}; each column has twice as many as the one before it\n");
    let mut grown = Vec::new();
    for dimension in &DIMENSIONS {
        if !words.is_empty() && !words.iter().any(|word| dimension.name.contains(word.as_str())) {
            continue;
        }
        let times: Vec<f64> = (0..=DOUBLINGS).map(|doubling| ns_per_unit(dimension, doubling)).collect();
        let growth = times[times.len() - 1] / times[0];
        let columns: Vec<String> = times.iter().map(|ns| format!("{ns:8.0}")).collect();
        let Dimension { name, unit, first, .. } = dimension;
        println!("{name:56} {unit:8} {first:4} x {}   x {growth:.2}", columns.join(" "));
        if growth > GROWTH_MAX {
            grown.push(*name);
        }
    }
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("doubling: a unit costs more than {GROWTH_MAX} times as much where there are many: {}", grown.join("; "));
    ExitCode::FAILURE
}

/// What this thread has had of its CPU: others may be busy, too.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has such a clock");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// The time for one unit; of a small size as many units are timed as of the largest.
fn ns_per_unit(dimension: &Dimension, doubling: u32) -> f64 {
    let size = dimension.first << doubling;
    let rounds = 1 << (DOUBLINGS - doubling);
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let mut ns = 0;
            for _ in 0..rounds {
                let run = (dimension.make)(size);
                let began = cpu_ns();
                let core = run();
                ns += cpu_ns() - began;
                drop(core);
            }
            ns as f64 / (size * rounds) as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}
