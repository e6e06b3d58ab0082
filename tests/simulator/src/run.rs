//! The command line: many seeds, one seed again, the shrinking of one that fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crate::enumerate;
use crate::planted::{PLANTED, plant};
use crate::tally::{NAMES, Tally};
use crate::world::actions::ACTIONS;
use crate::world::{Violation, World};

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
}

const USAGE: &str = "simulator [--seeds N] [--steps M] [--seconds S] [--first SEED | --fresh] [--threads T]
simulator --seed X [--steps M] [--without MASK]   replays one, and tells what happened
simulator --replay FILE                           replays each `seed steps mask` of a file
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

fn once(seed: u64, steps: usize, without: u32, verbose: bool) -> Ran {
    let mut world = World::new(seed, without, verbose);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    let violation = result.err().map(|panic| match panic.downcast::<Violation>() {
        Ok(violation) => violation.0,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            format!(
                "panic: {}",
                text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
            )
        }
    });
    Ran {
        steps: world.step,
        tally: world.happened(),
        limits: world.limits(),
        violation,
        trace: world.trace.take().unwrap_or_default().into(),
    }
}

/// The smallest run that still fails: fewest steps, then without whatever is not needed.
fn shrink(seed: u64, steps: usize, without: u32) -> (usize, u32) {
    // The same kind of violation, by its first words: else another one is shrunk.
    let kind = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).take(24).collect::<String>();
    let wanted = once(seed, steps, without, false).violation.map(|text| kind(&text));
    let fails = |steps: usize, without: u32| {
        let ran = once(seed, steps, without, false);
        ran.violation.filter(|text| Some(kind(text)) == wanted).map(|_| ran.steps.min(steps))
    };
    let (mut steps, mut without) = (fails(steps, without).unwrap_or(steps), without);
    for _ in 0..3 {
        let before = (steps, without);
        for at in 0..ACTIONS.len() {
            let tried = without | 1 << at;
            // Without an action everything comes at other steps: more are allowed, the fewest of all is kept.
            if tried != without
                && let Some(fewer) = fails(steps, tried)
            {
                (steps, without) = (fewer, tried);
            }
        }
        let mut cut = steps / 2;
        while cut > 0 {
            while steps > cut
                && let Some(fewer) = fails(steps - cut, without)
            {
                steps = fewer.min(steps - cut);
            }
            cut /= 2;
        }
        if before == (steps, without) {
            break;
        }
    }
    (steps, without)
}

fn report(seed: u64, steps: usize, without: u32, ran: &Ran) {
    println!("VIOLATION seed {seed} step {}: {}", ran.steps, ran.violation.as_deref().unwrap_or_default());
    let (steps, without) = shrink(seed, steps, without);
    let again = once(seed, steps, without, true);
    println!("shrunk to step {}: {}", again.steps, again.violation.as_deref().unwrap_or("(gone)"));
    let skipped: Vec<&str> =
        ACTIONS.iter().enumerate().filter(|(at, _)| without & (1 << at) != 0).map(|(_, (name, _))| *name).collect();
    println!("without: {}", skipped.join(" "));
    println!("the last events:");
    for line in again.trace.iter().rev().take(30).rev() {
        println!("  {line}");
    }
    println!("replay: simulator --seed {seed} --steps {steps} --without {without}");
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
        let ran = once(seed, options.steps, options.without, true);
        for line in &ran.trace {
            println!("{line}");
        }
        return match ran.violation {
            Some(text) => {
                println!("VIOLATION seed {seed} step {}: {text}", ran.steps);
                ExitCode::FAILURE
            }
            None => {
                println!("seed {seed}: {} steps, no violation", ran.steps);
                ExitCode::SUCCESS
            }
        };
    }
    if let Some(file) = &options.replay {
        let Ok(text) = std::fs::read_to_string(file) else {
            eprintln!("{file} cannot be read");
            return ExitCode::from(2);
        };
        let mut replayed = 0;
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let [seed, steps, without] = numbers[..] else { continue };
            let ran = once(seed, steps as usize, without as u32, false);
            if ran.violation.is_some() {
                report(seed, steps as usize, without as u32, &ran);
                return ExitCode::FAILURE;
            }
            replayed += 1;
        }
        println!("{replayed} past failures replayed: silence");
        return ExitCode::SUCCESS;
    }
    if options.enumerate {
        return enumerate::run();
    }
    many(&options)
}

fn many(options: &Options) -> ExitCode {
    println!("seeds from {}, {} steps each, {} threads", options.first, options.steps, options.threads);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let all = Mutex::new((0_u64, 0_u64, Tally::default(), BTreeMap::<&str, u64>::new()));
    let first_failure = Mutex::new(None::<(u64, Ran)>);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                let (mut seeds, mut steps, mut tally) = (0, 0, Tally::default());
                let mut limits = BTreeMap::<&str, u64>::new();
                while !failed.load(Relaxed) {
                    let at = next.fetch_add(1, Relaxed);
                    let over = match options.seconds {
                        Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
                        None => at >= options.seeds,
                    };
                    if over {
                        break;
                    }
                    let seed = options.first + at;
                    let ran = once(seed, options.steps, options.without, false);
                    seeds += 1;
                    steps += ran.steps as u64;
                    tally.merge(&ran.tally);
                    for (name, hits) in &ran.limits {
                        *limits.entry(*name).or_default() += hits;
                    }
                    if ran.violation.is_some() {
                        failed.store(true, Relaxed);
                        let mut first = first_failure.lock().expect("no panic under the lock");
                        if first.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                            *first = Some((seed, ran));
                        }
                    }
                }
                let mut all = all.lock().expect("no panic under the lock");
                all.0 += seeds;
                all.1 += steps;
                all.2.merge(&tally);
                for (name, hits) in limits {
                    *all.3.entry(name).or_default() += hits;
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (seeds, steps, tally, limits) = all.into_inner().expect("no panic under the lock");
    let failure = first_failure.into_inner().expect("no panic under the lock");
    if options.brief
        && let Some((seed, ran)) = &failure
    {
        println!("CAUGHT {seed} {} {}", ran.steps, ran.violation.as_deref().unwrap_or_default().replace('\n', " "));
        return ExitCode::FAILURE;
    }
    println!(
        "{seeds} seeds ({:.0}/s), {steps} steps ({:.0}/s), {seconds:.1} s",
        seeds as f64 / seconds,
        steps as f64 / seconds
    );
    if !options.brief && failure.is_none() {
        println!("what happened:");
        for (name, n) in NAMES.iter().zip(&tally.0) {
            println!("  {n:>12}  {name}");
        }
        println!("limits hit:");
        for (name, n) in limits {
            println!("  {n:>12}  {name}");
        }
    }
    match failure {
        Some((seed, ran)) => {
            report(seed, options.steps, options.without, &ran);
            ExitCode::FAILURE
        }
        None => {
            println!("no violation");
            ExitCode::SUCCESS
        }
    }
}
