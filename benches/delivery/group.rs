//! All cases of one way of closing, side by side on one gateway.

use std::collections::BTreeMap;
use std::io;
use std::path::Path as FilePath;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::case::{Case, Path, Way};
use crate::demo::{Counts, Demo};
use crate::nginx::Nginx;
use crate::player::{Outcome, play};
use crate::results::print_table;
use crate::slow::End;
use crate::verdict::{GIVEN_UP, Verdict};

/// From the moment at which all replies have begun to the signal.
const BEFORE_SIGNAL: Duration = Duration::from_secs(1);
/// How long a gateway may go on after its last client has gone.
const EXIT_MAX: Duration = Duration::from_secs(30);
/// Stack of a client's thread.
const STACK_BYTES: usize = 256 * 1024;

/// What came of it.
pub struct Group {
    way: Way,
    outcomes: Vec<(Outcome, Verdict)>,
    /// What the gateway counted, as far as it could be asked.
    counts: Counts,
    /// Its exit code; none where nothing ended it.
    exit: Option<i32>,
    /// What its log says of clients that were cut, at the end of a drain, and of anything that went wrong.
    log: Vec<String>,
    /// What is wrong with the gateway's own account.
    faults: Vec<String>,
}

impl Group {
    /// Plays all cases of a way.
    pub fn run(way: Way, cases: &[Case], flags: &str, folder: &FilePath) -> io::Result<Self> {
        eprintln!("{}: {} cases, {:.0} s or more", way.name(), cases.len(), longest(cases).as_secs_f64());
        let mut demo = Demo::start(way, flags, folder)?;
        let has_proxy = cases.iter().any(|case| case.path != Path::Direct);
        let nginx = has_proxy.then(|| Nginx::start(demo.address, way.name(), folder)).transpose()?;
        let address = |path: Path| match (path, &nginx) {
            (Path::Nginx, Some(nginx)) => nginx.plain,
            (Path::Buffered, Some(nginx)) => nginx.buffered,
            _ => demo.address,
        };
        let begun = Barrier::new(cases.len() + 1);
        let last = Mutex::new(Counts::default());
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let players: Vec<_> = cases
                .iter()
                .map(|&case| {
                    let (address, begun) = (address(case.path), &begun);
                    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                    thread.spawn_scoped(scope, move || play(case, address, begun))
                })
                .collect::<io::Result<_>>()?;
            begun.wait();
            std::thread::sleep(BEFORE_SIGNAL);
            match way {
                Way::Drain => demo.process.signal(Signal::SIGUSR1)?,
                Way::Stop => demo.process.signal(Signal::SIGTERM)?,
                Way::Idle | Way::Alive => {}
            }
            while !players.iter().all(|player| player.is_finished()) {
                if let (Some(counts), Ok(mut last)) = (demo.counts(), last.lock()) {
                    *last = counts;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            let join = |player: std::thread::ScopedJoinHandle<'_, Outcome>| {
                player.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok::<_, io::Error>(players.into_iter().map(join).collect())
        })?;
        let ends_itself = matches!(way, Way::Drain | Way::Stop);
        let exit = if ends_itself { demo.process.wait(EXIT_MAX).ok() } else { demo.process.exited()? };
        let mut counts = last.into_inner().unwrap_or_default();
        if let Some(now) = demo.counts() {
            counts = now;
        }
        let log = ["cut off", "given up while closing", " WARN ", " ERROR "]
            .iter()
            .flat_map(|text| demo.logged(text))
            .collect();
        let judge = |outcome: Outcome| {
            let verdict = Verdict::of(&outcome);
            (outcome, verdict)
        };
        let outcomes = outcomes.into_iter().map(judge).collect();
        let mut group = Self { way, outcomes, counts, exit, log, faults: vec![] };
        group.audit();
        Ok(group)
    }

    /// Holds what the gateway says of itself against what its clients saw.
    fn audit(&mut self) {
        let wanted = matches!(self.way, Way::Drain | Way::Stop).then_some(0);
        if self.exit != wanted {
            self.faults.push(format!("exit code {:?}, not {wanted:?}", self.exit));
        }
        if self.way == Way::Drain && !self.log.iter().any(|line| line.contains(", 0 cut off")) {
            self.faults.push("its log does not say that it cut nobody off".to_owned());
        }
        let given_up = self.outcomes.iter().filter(|(_, verdict)| *verdict == Verdict::CutByRule(GIVEN_UP)).count();
        let named = self.log.iter().filter(|line| line.contains("given up while closing")).count();
        if given_up > named {
            self.faults.push(format!("{given_up} clients were given up while closing, and {named} are named"));
        }
        let behind = |(outcome, verdict): &&(Outcome, Verdict)| {
            self.way == Way::Alive && outcome.case.path != Path::Direct && matches!(verdict, Verdict::CutByRule(_))
        };
        let dead = self.counts.pong_timeout.saturating_sub(self.outcomes.iter().filter(behind).count() as u64);
        if dead > 0 {
            self.faults.push(format!("{dead} clients that read were taken for dead"));
        }
        // What crossed a Close is counted, as far as the gateway can see it: behind nginx the connection may be gone before.
        let direct = self.outcomes.iter().filter(|(outcome, _)| outcome.case.path == Path::Direct);
        let unanswered: u32 = direct.map(|(outcome, _)| outcome.asked.saturating_sub(outcome.answered)).sum();
        let crossed = self.counts.crossed_close;
        if matches!(self.way, Way::Drain | Way::Idle) && u64::from(unanswered) > crossed {
            self.faults.push(format!("{unanswered} direct requests without an answer, crossed_close says {crossed}"));
        }
    }

    /// Cases that are as they should be.
    pub fn good(&self) -> usize {
        self.outcomes.iter().filter(|(_, verdict)| verdict.is_good()).count()
    }

    /// Cases that are not, and faults of the gateway's own account.
    pub fn bad(&self) -> usize {
        self.outcomes.len() - self.good() + self.faults.len()
    }

    /// Prints all cases, the bad ones again below, and what the gateway said.
    pub fn print(&self) {
        let rows: Vec<Vec<String>> = self
            .outcomes
            .iter()
            .map(|(outcome, verdict)| {
                let percent = outcome.bytes as f64 * 100.0 / outcome.case.bytes as f64;
                vec![
                    outcome.case.name(),
                    format!("{}", outcome.bytes),
                    format!("{:.0} %", percent.min(100.0)),
                    if outcome.asked > 0 { format!("{}/{}", outcome.answered, outcome.asked) } else { String::new() },
                    outcome.code.map_or_else(|| "none".to_owned(), |code| code.to_string()),
                    end(outcome.end).to_owned(),
                    format!("{:.1}", outcome.seconds),
                    verdict.to_string(),
                ]
            })
            .collect();
        print_table(
            &format!(
                "{}: exit code {}",
                self.way.name(),
                self.exit.map_or_else(|| "-".to_owned(), |code| code.to_string())
            ),
            &["case", "bytes", "of reply", "answers", "Close", "end", "s", "verdict"],
            &rows,
        );
        let Counts { open, closed_at_gap, closed_at_deadline, crossed_close, idle_timeout, pong_timeout } = self.counts;
        println!(
            "\ncounted: open {open}, closed_at_gap {closed_at_gap}, closed_at_deadline {closed_at_deadline}, crossed_close \
             {crossed_close}, idle_timeout_seconds {idle_timeout}, pong_timeout_seconds {pong_timeout}"
        );
        for line in self.log.iter().take(10) {
            println!("log: {line}");
        }
        let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
        for (_, verdict) in &self.outcomes {
            *verdicts.entry(verdict.to_string()).or_default() += 1;
        }
        println!("verdicts: {verdicts:?}");
        for fault in &self.faults {
            println!("FAULT of the gateway's account: {fault}");
        }
    }

    /// For the raw results.
    pub fn json(&self) -> Value {
        let cases: Vec<Value> = self
            .outcomes
            .iter()
            .map(|(outcome, verdict)| {
                let Outcome { case, is_whole, bytes, asked, answered, code, end: how, seconds } = outcome;
                json!({
                    "case": case.name(), "whole": is_whole, "bytes": bytes, "asked": asked, "answered": answered,
                    "code": code, "end": end(*how), "seconds": seconds, "verdict": verdict.to_string(),
                })
            })
            .collect();
        json!({
            "way": self.way.name(), "exit": self.exit, "closed_at_gap": self.counts.closed_at_gap,
            "closed_at_deadline": self.counts.closed_at_deadline, "crossed_close": self.counts.crossed_close,
            "faults": self.faults, "good": self.good(), "bad": self.bad(), "cases": cases,
        })
    }
}

/// How long the longest case takes.
fn longest(cases: &[Case]) -> Duration {
    cases.iter().map(Case::time).max().unwrap_or_default()
}

fn end(end: Option<End>) -> &'static str {
    match end {
        Some(End::Fin) => "FIN",
        Some(End::Reset) => "RESET",
        None => "none",
    }
}
