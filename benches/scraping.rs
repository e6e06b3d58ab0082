//! What scraping costs: CPU per request of a loaded gateway that is scraped, against the same gateway left alone, by turns.
//!
//! `cargo bench --bench scraping --features load -- [OPTIONS]`
//!
//!     --rounds N       pairs of rounds (10)
//!     --seconds S      the measured part of each round (4)
//!     --clients N      clients in a closed loop (64)
//!     --scrapes R      scrapes a second (10)
//!     --flags "…"      more flags for the gateway
//!
//! `EVERGATE_BIN` is another gateway's binary, `EVERGATE_LOAD_BIN` another generator. The gateway runs on CPU 0, all its threads together,
//! generator, responder, Redis and who scrapes on CPU 1. Of each pair the scraped round comes first every other time, so that neither is
//! favoured where the machine gets slower or faster.

#[path = "support/load.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod load;
#[path = "support/pin.rs"]
mod pin;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "support/role.rs"]
mod role;
#[path = "support/series.rs"]
#[expect(dead_code, reason = "other benches use the rest")]
mod series;
#[path = "support/site.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod site;
#[path = "support/words.rs"]
mod words;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use load::{Load, Round};
use pin::pin;
use process::{Folder, OTHER_CPU, http};
use results::print_table;
use serde_json::json;
use series::Series;
use site::{Bus, Gateway, GatewayOptions};
use words::Words;

/// How long a gateway is left alone before it is measured.
const REST: Duration = Duration::from_millis(500);

/// What is asked for on the command line.
struct Options {
    rounds: usize,
    seconds: f64,
    clients: u64,
    scrapes: f64,
    flags: String,
}

fn main() -> io::Result<()> {
    if role::play()? || !words::is_bench() {
        return Ok(());
    }
    let options = options()?;
    pin(OTHER_CPU)?;
    let folder = Folder::new()?;
    let bus = Bus::start(false, folder.path())?;
    let flags: Vec<&str> = options.flags.split_ascii_whitespace().collect();
    let gateway = Gateway::start(&bus, GatewayOptions { flags: &flags, ..GatewayOptions::default() }, folder.path())?;
    thread::sleep(REST);
    let Options { rounds, seconds, clients, scrapes, flags } = &options;
    println!("{}", provenance::line());
    println!(
        "{rounds} pairs of rounds of {seconds} s, {clients} clients, {scrapes} scrapes a second; medians [lowest–highest]"
    );
    let arguments = format!("--clients {clients} --warmup 1 --duration {seconds}");
    let (mut alone, mut scraped) = (Vec::new(), Vec::new());
    for round in 1..=*rounds {
        eprintln!("round {round} of {rounds}");
        for is_scraped in if round % 2 == 0 { [true, false] } else { [false, true] } {
            let run = || Load::run(&gateway.url(), &gateway.process, &arguments, folder.path());
            if is_scraped {
                scraped.push(while_scraping(&gateway, *scrapes, run)?);
            } else {
                alone.push(run()?);
            }
        }
    }
    print(&alone, &scraped);
    let told = json!({ "rounds": rounds, "seconds": seconds, "clients": clients, "scrapes": scrapes, "flags": flags });
    results::save("scraping", &told, &[json!({ "part": "scraping", "alone": alone, "scraped": scraped })])
}

/// A run during which the gateway is scraped; with how often, how long an answer took, and how long it was.
fn while_scraping(gateway: &Gateway, rate: f64, run: impl FnOnce() -> io::Result<Round>) -> io::Result<Round> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let (mut times, mut bytes) = (Vec::new(), 0);
            let mut next = Instant::now();
            while !is_over.load(Relaxed) {
                let began = Instant::now();
                if let Some(text) = http(gateway.admin, "/metrics") {
                    times.push(began.elapsed());
                    bytes = text.len();
                }
                next += Duration::from_secs_f64(1.0 / rate);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            times.sort_unstable();
            (times, bytes)
        });
        let round = run();
        is_over.store(true, Relaxed);
        let (times, bytes) = scraper.join().map_err(|_| io::Error::other("who scrapes has failed"))?;
        let mut round = round?;
        let middle = times.get(times.len() / 2).ok_or_else(|| io::Error::other("not one scrape was answered"))?;
        round.insert("scrapes", times.len() as f64);
        round.insert("scrape_ms", middle.as_secs_f64() * 1e3);
        round.insert("scrape_bytes", bytes as f64);
        Ok(round)
    })
}

fn print(alone: &[Round], scraped: &[Round]) {
    let (lone, other) = (Series::of(alone, "cpu_us"), Series::of(scraped, "cpu_us"));
    let row = |name: &str, rounds: &[Round], ratio: String| {
        let of = |name| Series::of(rounds, name).to_string();
        vec![
            name.to_owned(),
            of("cpu_us"),
            ratio,
            of("requests_per_second"),
            of("p50_us"),
            of("p99_us"),
            of("scrape_ms"),
            of("scrape_bytes"),
        ]
    };
    let head = ["gateway", "CPU µs a request", "x alone", "requests/s", "p50 µs", "p99 µs", "a scrape, ms", "bytes"];
    let rows = [row("alone", alone, "1".to_owned()), row("scraped", scraped, other.against(&lone))];
    print_table("Cost of being scraped", &head, &rows);
    // Of each pair the two rounds are neighbours: the median of their ratios is steadier than the ratio of the medians.
    println!("\nmedian of the ratios pair by pair: {:.3}", other.over(&lone).median());
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options { rounds: 10, seconds: 4.0, clients: 64, scrapes: 10.0, flags: String::new() };
    let mut words = Words::of("scraping");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--rounds" => options.rounds = words.parsed()?,
            "--seconds" => options.seconds = words.parsed()?,
            "--clients" => options.clients = words.parsed()?,
            "--scrapes" => options.scrapes = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
