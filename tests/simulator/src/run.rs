//! The command line: many seeds, one seed again, the shrinking of one that fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crate::core::{self, CoreWorld};
use crate::enumerate;
use crate::planted::{PLANTED, plant};
use crate::tally::{NAMES, Tally};
use crate::world::{Violation, World, actions};

/// What the command line says.
struct Options {
    seeds: u64,
    steps: usize,
    seconds: Option<u64>,
    seed: Option<u64>,
    first: u64,
    without: u32,
    threads: usize,
    replay: Option<String>,
    enumerate: bool,
    brief: bool,
    worlds: Vec<Which>,
}

/// A world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The pure half with a shell of the simulator's own, held against the oracle step by step.
    Links,
    /// The event loop on a simulated kernel, judged at its sockets.
    Core,
}

impl Which {
    const ALL: [Self; 2] = [Self::Links, Self::Core];

    fn name(self) -> &'static str {
        ["links", "core"][self as usize]
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }

    /// What can be left out, in the order of the mask's bits.
    fn actions(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Links => actions::ACTIONS,
            Self::Core => core::ACTIONS,
        }
    }
}

/// A run that can be done again.
#[derive(Clone, Copy)]
struct Run {
    which: Which,
    seed: u64,
    steps: usize,
    without: u32,
}

const USAGE: &str = "simulator [--seeds N] [--steps M] [--seconds S] [--first SEED | --fresh] [--threads T]
simulator --seed X [--steps M] [--without MASK]   replays one, and tells what happened
                                                  with --world links or --world core: only that one
simulator --replay FILE                           replays each `seed steps mask [world]` of a file
simulator --enumerate                             all small histories
simulator --planted [ROOT] | --plant NAME ROOT    the bugs that can be planted in this source; plants one in a copy of it";

fn options(args: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: 1_000,
        steps: 1_000,
        seconds: None,
        seed: None,
        first: 1,
        without: 0,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        replay: None,
        enumerate: false,
        brief: false,
        worlds: Which::ALL.to_vec(),
    };
    if args.first().is_some_and(|arg| arg == "--planted") {
        for bug in PLANTED {
            if let Some(root) = args.get(1) {
                bug.planted(root)?;
            }
            println!("{}\t{}\t{}", bug.name, bug.file, bug.what);
        }
        std::process::exit(0);
    }
    if let [command, name, root] = &args[..]
        && command == "--plant"
    {
        plant(name, root)?;
        std::process::exit(0);
    }
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--enumerate" {
            options.enumerate = true;
            continue;
        }
        if arg == "--brief" {
            options.brief = true;
            continue;
        }
        if arg == "--fresh" {
            let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            options.first = clock.as_millis() as u64;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|_| format!("{arg} {value}: not a number\n{USAGE}"));
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--steps" => options.steps = number()? as usize,
            "--seconds" => options.seconds = Some(number()?),
            "--seed" => options.seed = Some(number()?),
            "--first" => options.first = number()?,
            "--without" => options.without = number()? as u32,
            "--threads" => options.threads = number()?.max(1) as usize,
            "--replay" => options.replay = Some(value),
            "--world" => options.worlds = vec![Which::named(&value).ok_or(USAGE)?],
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// One run: what happened, and the step and text of a violation.
struct Ran {
    steps: usize,
    tally: Tally,
    limits: Vec<(&'static str, u64)>,
    violation: Option<String>,
    trace: Vec<String>,
}

fn once(run: Run, verbose: bool) -> Ran {
    let Run { which, seed, steps, without } = run;
    match which {
        Which::Links => {
            let mut world = World::new(seed, without, verbose);
            let violation = violation_of(|| world.run(steps));
            let (tally, limits) = (world.happened(), world.limits());
            Ran { steps: world.step, tally, limits, violation, trace: world.trace.take().unwrap_or_default().into() }
        }
        Which::Core => {
            let mut world = CoreWorld::new(seed, without, verbose);
            let violation = violation_of(|| world.run(steps));
            let (tally, limits) = (world.happened(), world.limits());
            Ran { steps: world.step, tally, limits, violation, trace: world.take_trace() }
        }
    }
}

/// What goes wrong in a run.
fn violation_of(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    Some(match panic.downcast::<Violation>() {
        Ok(violation) => violation.0,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            format!("panic: {}", text.unwrap_or_default())
        }
    })
}

/// The smallest run that still fails: fewest steps, then without whatever is not needed.
fn shrink(mut run: Run) -> Run {
    // The same kind of violation, by its first words: else another one is shrunk.
    let kind = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).take(24).collect::<String>();
    let wanted = once(run, false).violation.map(|text| kind(&text));
    let fails = |run: Run| {
        let ran = once(run, false);
        ran.violation.filter(|text| Some(kind(text)) == wanted).map(|_| ran.steps.min(run.steps))
    };
    run.steps = fails(run).unwrap_or(run.steps);
    for _ in 0..3 {
        let before = (run.steps, run.without);
        for at in 0..run.which.actions().len() {
            let without = run.without | 1 << at;
            // Without an action everything comes at other steps: more are allowed, the fewest of all is kept.
            if without != run.without
                && let Some(fewer) = fails(Run { without, ..run })
            {
                (run.steps, run.without) = (fewer, without);
            }
        }
        let mut cut = run.steps / 2;
        while cut > 0 {
            while run.steps > cut
                && let Some(fewer) = fails(Run { steps: run.steps - cut, ..run })
            {
                run.steps = fewer.min(run.steps - cut);
            }
            cut /= 2;
        }
        if before == (run.steps, run.without) {
            break;
        }
    }
    run
}

fn report(run: Run, ran: &Ran) {
    let name = run.which.name();
    let text = ran.violation.as_deref().unwrap_or_default();
    println!("VIOLATION world {name} seed {} step {}: {text}", run.seed, ran.steps);
    let run = shrink(run);
    let again = once(run, true);
    println!("shrunk to step {}: {}", again.steps, again.violation.as_deref().unwrap_or("(gone)"));
    let actions = run.which.actions().iter().enumerate();
    let skipped: Vec<&str> =
        actions.filter(|(at, _)| run.without & (1 << at) != 0).map(|(_, (name, _))| *name).collect();
    println!("without: {}", skipped.join(" "));
    println!("the last events:");
    for line in again.trace.iter().rev().take(30).rev() {
        println!("  {line}");
    }
    let Run { seed, steps, without, .. } = run;
    println!("replay: simulator --world {name} --seed {seed} --steps {steps} --without {without}");
}

/// Tells all that happens in one run of each world.
fn tell(options: &Options, seed: u64) -> ExitCode {
    for &which in &options.worlds {
        let ran = once(Run { which, seed, steps: options.steps, without: options.without }, true);
        for line in &ran.trace {
            println!("{line}");
        }
        let name = which.name();
        match ran.violation {
            Some(text) => {
                println!("VIOLATION world {name} seed {seed} step {}: {text}", ran.steps);
                return ExitCode::FAILURE;
            }
            None => println!("world {name} seed {seed}: {} steps, no violation", ran.steps),
        }
    }
    ExitCode::SUCCESS
}

/// Runs again what failed once.
fn replay(file: &str) -> ExitCode {
    let Ok(text) = std::fs::read_to_string(file) else {
        eprintln!("{file} cannot be read");
        return ExitCode::from(2);
    };
    let mut replayed = 0;
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [seed, steps, without] = numbers[..] else { continue };
        let which = line.split_whitespace().find_map(Which::named).unwrap_or(Which::Links);
        let run = Run { which, seed, steps: steps as usize, without: without as u32 };
        let ran = once(run, false);
        if ran.violation.is_some() {
            report(run, &ran);
            return ExitCode::FAILURE;
        }
        replayed += 1;
    }
    println!("{replayed} past failures replayed: silence");
    ExitCode::SUCCESS
}

pub fn run(args: Vec<String>) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if options.seed.is_some() && info.payload().downcast_ref::<Violation>().is_none() {
            hook(info);
        }
    }));
    if let Some(seed) = options.seed {
        return tell(&options, seed);
    }
    if let Some(file) = &options.replay {
        return replay(file);
    }
    if options.enumerate {
        return enumerate::run();
    }
    many(&options)
}

/// What all runs together came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    steps: u64,
    tally: Tally,
    limits: BTreeMap<&'static str, u64>,
    /// The first seed that failed.
    failure: Option<(Run, Ran)>,
}

impl Totals {
    fn add(&mut self, run: Run, ran: Ran) {
        self.steps += ran.steps as u64;
        self.tally.merge(&ran.tally);
        for (name, hits) in &ran.limits {
            *self.limits.entry(*name).or_default() += hits;
        }
        if ran.violation.is_some() {
            self.fail(run, ran);
        }
    }

    fn fail(&mut self, run: Run, ran: Ran) {
        if self.failure.as_ref().is_none_or(|(earlier, _)| run.seed < earlier.seed) {
            self.failure = Some((run, ran));
        }
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.tally.merge(&other.tally);
        for (name, hits) in other.limits {
            *self.limits.entry(name).or_default() += hits;
        }
        if let Some((run, ran)) = other.failure {
            self.fail(run, ran);
        }
    }

    fn print(&self) {
        println!("what happened:");
        for (name, n) in NAMES.iter().zip(&self.tally.0) {
            println!("  {n:>12}  {name}");
        }
        println!("limits hit:");
        for (name, n) in &self.limits {
            println!("  {n:>12}  {name}");
        }
    }
}

/// Runs seed after seed in each world until one fails, or there are enough.
fn drive(options: &Options, began: Instant) -> Totals {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let all = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                let mut own = Totals::default();
                while !failed.load(Relaxed) {
                    let at = next.fetch_add(1, Relaxed);
                    let over = match options.seconds {
                        Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
                        None => at >= options.seeds,
                    };
                    if over {
                        break;
                    }
                    own.seeds += 1;
                    for &which in &options.worlds {
                        let (seed, steps, without) = (options.first + at, options.steps, options.without);
                        let run = Run { which, seed, steps, without };
                        own.add(run, once(run, false));
                    }
                    failed.fetch_or(own.failure.is_some(), Relaxed);
                }
                all.lock().expect("no panic under the lock").merge(own);
            });
        }
    });
    all.into_inner().expect("no panic under the lock")
}

fn many(options: &Options) -> ExitCode {
    println!("seeds from {}, {} steps each, {} threads", options.first, options.steps, options.threads);
    let began = Instant::now();
    let totals = drive(options, began);
    let seconds = began.elapsed().as_secs_f64();
    if options.brief
        && let Some((run, ran)) = &totals.failure
    {
        let text = ran.violation.as_deref().unwrap_or_default().replace('\n', " ");
        println!("CAUGHT {} {} {}: {text}", run.seed, ran.steps, run.which.name());
        return ExitCode::FAILURE;
    }
    let (seeds, steps) = (totals.seeds, totals.steps);
    let (a_second, steps_a_second) = (seeds as f64 / seconds, steps as f64 / seconds);
    println!("{seeds} seeds ({a_second:.0}/s), {steps} steps ({steps_a_second:.0}/s), {seconds:.1} s");
    match &totals.failure {
        Some((run, ran)) => {
            report(*run, ran);
            ExitCode::FAILURE
        }
        None => {
            if !options.brief {
                totals.print();
            }
            println!("no violation");
            ExitCode::SUCCESS
        }
    }
}
