//! The simulator: the pure half of evergate driven through histories, held against an oracle. See README.md here.

#![allow(clippy::collapsible_match)]

mod browser;
mod core;
mod enumerate;
mod kernel;
mod mixture;
mod oracle;
mod planted;
mod random;
mod redis;
mod run;
mod tally;
mod workers;
mod world;

fn main() -> std::process::ExitCode {
    run::run(std::env::args().skip(1).collect())
}
