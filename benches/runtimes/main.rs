//! The same bare WebSocket echo on three runtimes, and on rings without one, the gateway's and the floor of other benches
//! (`raw ring, multishot`) among them: `cargo bench --bench runtimes` (`-- --rounds 5`, `-- --seconds 2`, `-- --only ring`
//! for those with that in their names; the first is always among them).
//!
//! Messages of 400 bytes, one in flight per client. Each server is a process of its own on core 0, the driver has core 1.
//! The runtimes take turns within a round, so that a slow minute hits all of them; medians over the rounds, with the least
//! and the largest. All rounds are printed: the output is what `benches/results/runtimes.txt` keeps.

use std::time::Duration;
use std::{env, io};

mod driver;
#[path = "../support/echo.rs"]
mod echo;
mod gateway_ring;
mod monoio_set;
#[path = "../support/pin.rs"]
mod pin;
#[path = "../support/provenance.rs"]
mod provenance;
#[path = "../support/raw.rs"]
mod raw;
mod readiness;
mod server;
mod stream;
mod tokio_fastwebsockets;
mod tokio_uring;

use pin::pin;
use server::{DRIVER_CPU, Serve, Server};

/// What takes turns.
const SERVERS: [(&str, Serve); 7] = [
    (RAW, raw::serve_single),
    ("raw ring, multishot", raw::serve_multishot),
    ("the gateway's ring", gateway_ring::serve),
    ("monoio", echo::serve),
    ("monoio, one set", monoio_set::serve),
    ("tokio-uring", tokio_uring::serve),
    ("tokio+fastwebsockets", tokio_fastwebsockets::serve),
];
/// What the others are compared with: monoio's own operations without monoio.
const RAW: &str = "raw ring";
/// Clients of the two loads.
const CLIENTS: [usize; 2] = [64, 1_000];
/// Idle clients; a process may hold 20,000 descriptors on the machines where this was written.
const IDLE_CLIENTS: usize = 15_000;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (mut rounds, mut seconds, mut only) = (5_u32, 2.0, String::new());
    for pair in arguments.chunks(2) {
        let bad = || io::Error::other(format!("not an option: {}", pair.join(" ")));
        match pair {
            [option, name] if option == "--serve" => {
                let (_, serve) = SERVERS.iter().find(|(known, _)| known == name).ok_or_else(bad)?;
                return server::serve(*serve);
            }
            [option, value] if option == "--rounds" => rounds = value.parse().map_err(|_| bad())?,
            [option, value] if option == "--seconds" => seconds = value.parse().map_err(|_| bad())?,
            [option, value] if option == "--only" => only.clone_from(value),
            _ => return Err(bad()),
        }
    }
    pin(DRIVER_CPU)?;
    let descriptors = usize::try_from(rlimit::increase_nofile_limit(u64::MAX)?).unwrap_or(usize::MAX);
    println!("{}", provenance::line());
    println!(
        "{} bytes a message, {rounds} rounds of {seconds} s; CPU of server and driver as shares of a core",
        driver::MESSAGE_BYTES
    );
    let names = SERVERS.iter().map(|(name, _)| *name);
    let servers: Vec<&str> = names.filter(|name| *name == RAW || name.contains(&only)).collect();
    measure_cpu(&servers, rounds, Duration::from_secs_f64(seconds))?;
    measure_memory(&servers, IDLE_CLIENTS.min(descriptors.saturating_sub(500)))
}

fn measure_cpu(servers: &[&str], rounds: u32, duration: Duration) -> io::Result<()> {
    for clients in CLIENTS {
        let mut loads = vec![Vec::new(); servers.len()];
        println!("\n{clients} clients, CPU µs/message, by round:");
        for round in 1..=rounds {
            print!("{round:3}");
            for (name, loads) in servers.iter().zip(&mut loads) {
                let load = driver::load(&Server::start(name)?, clients, duration)?;
                print!("  {name} {:.2}", load.cpu_us);
                loads.push(load);
            }
            println!();
        }
        println!(
            "{clients:6} clients          {:>10} {:>15} {:>6} {:>15} {:>11} {:>8} {:>8}",
            "CPU µs/msg", "least–largest", "x raw", "least–largest", "messages/s", "server", "driver"
        );
        let raw = loads[0].clone();
        for (name, loads) in servers.iter().zip(&loads) {
            let cpu = Spread::of(loads.iter().map(|load| load.cpu_us));
            // Of the same round: what else the machine did hit both.
            let ratio = Spread::of(loads.iter().zip(&raw).map(|(load, raw)| load.cpu_us / raw.cpu_us));
            println!(
                "{name:24} {:10.2} {:>15} {:6.2} {:>15} {:11.0} {:8.2} {:8.2}",
                cpu.median,
                cpu.range(),
                ratio.median,
                ratio.range(),
                Spread::of(loads.iter().map(|load| load.per_second)).median,
                Spread::of(loads.iter().map(|load| load.server_share)).median,
                Spread::of(loads.iter().map(|load| load.driver_share)).median
            );
        }
    }
    Ok(())
}

fn measure_memory(servers: &[&str], clients: usize) -> io::Result<()> {
    println!("\nuser memory per idle connection, after one message each, {clients} connections:");
    for name in servers {
        println!("{name:24} {:10.0} bytes", driver::idle_bytes(&Server::start(name)?, clients)?);
    }
    Ok(())
}

/// A figure over the rounds.
struct Spread {
    median: f64,
    least: f64,
    largest: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Self { median, least: at(0), largest: at(figures.len().saturating_sub(1)) }
    }

    fn range(&self) -> String {
        format!("{:.2}–{:.2}", self.least, self.largest)
    }
}
