//! The simulator: the pure half of evergate driven through histories, held against an oracle. See README.md here.

#![allow(clippy::collapsible_match)]

macro_rules! product {
    ($($path:literal $name:ident;)+) => { $(
        #[allow(dead_code, unfulfilled_lint_expectations)]
        #[path = $path]
        pub mod $name;
    )+ };
}
mod browser;
#[allow(dead_code)]
pub mod bus;
mod enumerate;
mod oracle;
mod planted;
mod random;
mod redis;
mod run;
mod tally;
mod workers;
mod world;
product! {
    "../../../src/counters.rs" counters;
    "../../../src/drain.rs" drain;
    "../../../src/near.rs" near;
    "../../../src/opensrf/mod.rs" opensrf;
    "../../../src/session/mod.rs" session;
    "../../../src/websocket/mod.rs" websocket;
}

fn main() -> std::process::ExitCode {
    run::run(std::env::args().skip(1).collect())
}
