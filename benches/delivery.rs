//! Whether a slow reader gets what it is owed, whatever closes it: replies of 0.3 to 12 MB, clients that take 5 KB to 1 MB a
//! second with a receive buffer of 16 KB and are silent, send pings or requests, half-close or close meanwhile, directly and
//! through nginx (`tuning/nginx-location.conf`, as it stands and with `proxy_buffering` on), while the gateway drains, closes
//! the idle, stops fast, or does nothing of the kind.
//!
//! `cargo bench --bench delivery -- [OPTIONS]`
//!
//!     --only WORDS    the cases whose names hold all of some words: `drain+direct+pinging,idle+3000000@150000`
//!     --quick         three short pairs of size and rate, all gateways at a time; under a minute
//!     --no-nginx      directly only
//!     --flags "…"     more flags for the gateways
//!
//! Each way of closing has a gateway (`evergate demo`) of its own, with all of its cases side by side: slow readers cost no
//! CPU. A case is good if the reply came whole and nothing was reset, or if the rule lets it be cut and it was named. `EVERGATE_BIN`
//! is another gateway's binary. Exit code 1 if any case is bad.

#[path = "delivery/case.rs"]
mod case;
#[path = "delivery/demo.rs"]
mod demo;
#[path = "delivery/group.rs"]
mod group;
#[path = "delivery/nginx.rs"]
mod nginx;
#[path = "delivery/player.rs"]
mod player;
#[expect(dead_code, reason = "shared with benchmarks that measure CPU and memory")]
#[path = "support/process.rs"]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[expect(dead_code, reason = "the tests' own client: they ask more of it")]
#[path = "../tests/all/support/slow.rs"]
mod slow;
#[path = "delivery/verdict.rs"]
mod verdict;
#[expect(dead_code, reason = "no option of its is a number")]
#[path = "support/words.rs"]
mod words;

use std::io;
use std::process::ExitCode;

use case::{Case, Way};
use group::Group;
use process::Folder;
use serde_json::{Value, json};
use words::Words;

/// What is asked for on the command line.
struct Options {
    /// Words that a case's name must hold; any of the lists. None: all cases.
    only: Vec<Vec<String>>,
    /// Few, short cases, all gateways at a time.
    is_quick: bool,
    /// Through nginx, too.
    has_nginx: bool,
    /// More flags for the gateways, words between spaces.
    flags: String,
}

fn main() -> io::Result<ExitCode> {
    if !words::is_bench() {
        return Ok(ExitCode::SUCCESS);
    }
    let options = options()?;
    if options.has_nginx {
        nginx::install()?;
    }
    println!("{}", provenance::line());
    let folder = Folder::new()?;
    let cases = |way: Way| -> Vec<Case> {
        Case::all(way, options.is_quick, options.has_nginx)
            .into_iter()
            .filter(|case| {
                let name = case.name();
                options.only.is_empty() || options.only.iter().any(|words| words.iter().all(|word| name.contains(word)))
            })
            .collect()
    };
    let ways: Vec<(Way, Vec<Case>)> =
        Way::ALL.into_iter().map(|way| (way, cases(way))).filter(|(_, cases)| !cases.is_empty()).collect();
    let run = |way: Way, cases: Vec<Case>| Group::run(way, &cases, &options.flags, folder.path());
    let groups: Vec<Group> = if options.is_quick {
        std::thread::scope(|scope| {
            let running: Vec<_> = ways.into_iter().map(|(way, cases)| scope.spawn(move || run(way, cases))).collect();
            running
                .into_iter()
                .map(|group| group.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<io::Result<_>>()
        })?
    } else {
        ways.into_iter().map(|(way, cases)| run(way, cases)).collect::<io::Result<_>>()?
    };
    for group in &groups {
        group.print();
    }
    let (good, bad) = groups.iter().fold((0, 0), |(good, bad), group| (good + group.good(), bad + group.bad()));
    println!("\n{good} cases good, {bad} bad");
    let told =
        json!({ "only": options.only, "quick": options.is_quick, "nginx": options.has_nginx, "flags": options.flags });
    let parts: Vec<Value> = groups.iter().map(Group::json).collect();
    results::save("delivery", &told, &parts)?;
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options { only: vec![], is_quick: false, has_nginx: true, flags: String::new() };
    let mut words = Words::of("delivery");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--quick" => options.is_quick = true,
            "--no-nginx" => options.has_nginx = false,
            "--only" => {
                let lists = words.text()?;
                options.only = lists.split(',').map(|list| list.split('+').map(str::to_owned).collect()).collect();
            }
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
