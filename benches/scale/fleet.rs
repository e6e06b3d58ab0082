//! Gateways that share a port, and the generators that hold their clients.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::load::{Load, Round};
use crate::process::{Folder, Memory, Process, eventually};
use crate::site::{Bus, Gateway, GatewayOptions, free_address, log};

/// Clients that a gateway takes: with its links and logs it stays below 20,000 descriptors, and the kernel does not spread
/// connections evenly over the processes.
const CLIENTS_MAX: &str = "19200";
/// The longest that all clients may take to connect.
const CONNECT: Duration = Duration::from_mins(3);
/// The longest that a drain may take: `drain_max_seconds` and a margin.
const DRAIN: Duration = Duration::from_secs(150);
/// Local addresses of the clients: one has 28,000 ports.
const SOURCES: &str = "--sources 16";
/// How long the idle clients' CPU is watched: `ping_seconds`, so that each is pinged once.
const WATCH: Duration = Duration::from_secs(30);

/// Gateways on one port with all that they need.
pub struct Fleet {
    /// Redis and the responder.
    bus: Bus,
    /// The gateways.
    gateways: Vec<Gateway>,
    /// The generators of the idle clients.
    holders: Vec<Load>,
    /// The idle clients.
    idle: usize,
}

/// What a drain came to.
pub struct Drained {
    /// From SIGUSR1 to the last process's end.
    pub seconds: f64,
    /// The same to the first one's.
    pub first_seconds: f64,
    /// Exit codes.
    pub codes: Vec<i32>,
    /// Clients that saw a Close with 1012.
    pub closed: u64,
    /// Requests that met the gateway's Close on their way: those are lost for their clients, who know it.
    pub crossed: u64,
    /// What else went wrong for clients, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Why clients were gone, in the gateways' own words.
    pub reasons: BTreeMap<String, u64>,
}

impl Drained {
    /// For the raw results.
    pub fn json(&self) -> Value {
        let Self { seconds, first_seconds, codes, closed, crossed, errors, reasons } = self;
        json!({
            "seconds": seconds, "first_seconds": first_seconds, "codes": codes, "closed": closed, "crossed": crossed,
            "errors": errors, "reasons": reasons,
        })
    }
}

impl Fleet {
    /// Starts that many gateways on one port, which in a drain close that many clients per second all together.
    pub fn start(processes: usize, closes: usize, flags: &str, folder: &Folder) -> io::Result<Self> {
        let bus = Bus::start(false, folder.path())?;
        let listen = Some(free_address()?);
        // Clients are idle for longer than three minutes here.
        let own = ["--clients-max", CLIENTS_MAX, "--idle-timeout-seconds", "0"];
        let pace = ["--drain-closes-per-second".to_owned(), (closes / processes).max(1).to_string()];
        let flags: Vec<&str> =
            own.into_iter().chain(pace.iter().map(String::as_str)).chain(flags.split_ascii_whitespace()).collect();
        let options = GatewayOptions { listen, shares_port: true, flags: &flags, ..GatewayOptions::default() };
        let gateways = (0..processes).map(|_| Gateway::start(&bus, options, folder.path()));
        Ok(Self { gateways: gateways.collect::<io::Result<_>>()?, bus, holders: Vec::new(), idle: 0 })
    }

    /// Memory of all gateways.
    pub fn memory(&self) -> io::Result<Memory> {
        let all = self.gateways.iter().map(|gateway| gateway.process.memory());
        all.reduce(|sum, one| {
            let (sum, one) = (sum?, one?);
            Ok(Memory { rss: sum.rss + one.rss, pss: sum.pss + one.pss })
        })
        .unwrap_or(Ok(Memory { rss: 0, pss: 0 }))
    }

    /// Connects idle clients, as many generators as gateways, waits until each has had its round trip, and says how many
    /// seconds that took.
    pub fn hold(&mut self, idle: usize, folder: &Folder) -> io::Result<f64> {
        self.idle = idle;
        let (begin, generators) = (Instant::now(), self.gateways.len());
        for index in 0..generators {
            // One of them asks once a second, so that the generator has something to wait for.
            let clients = idle / generators + usize::from(index < idle % generators) - 1;
            let arguments = format!("--clients 1 --rate 1 --idle {clients} --duration 3600 {SOURCES}");
            let first = &self.gateways[0];
            self.holders.push(Load::start(&first.url(), &first.process, &arguments, folder.path())?);
        }
        eventually("all clients, connected and answered", CONNECT, || {
            std::thread::sleep(Duration::from_millis(200));
            Ok((self.sum("open")? >= idle as u64 && self.sum("requests")? >= idle as u64).then_some(()))
        })?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// CPU of the gateways while their clients are idle, in cores: the pings.
    pub fn idle_cpu_share(&self) -> io::Result<f64> {
        let cpu = || self.gateways.iter().map(|gateway| gateway.process.cpu()).sum::<io::Result<Duration>>();
        std::thread::sleep(Duration::from_secs(1));
        let (begin, before) = (Instant::now(), cpu()?);
        std::thread::sleep(WATCH);
        Ok((cpu()?.saturating_sub(before)).as_secs_f64() / begin.elapsed().as_secs_f64())
    }

    /// Requests by `active` clients beside the idle ones.
    pub fn requests(&self, active: usize, seconds: f64, folder: &Folder) -> io::Result<Round> {
        let first = &self.gateways[0];
        let seen = || -> io::Result<[f64; 2]> {
            let responder = self.bus.responder.as_ref().map_or(Ok(Duration::ZERO), Process::cpu)?;
            Ok([self.bus.server.cpu()?, responder].map(|time| time.as_secs_f64() * 1e6))
        };
        let arguments = format!("--clients {active} --rate {active} --warmup 1 --duration {seconds} {SOURCES}");
        let (before, asked) = (seen()?, self.sum("requests")?);
        let mut round = Load::run(&first.url(), &first.process, &arguments, folder.path())?;
        let (after, asked) = (seen()?, (self.sum("requests")? - asked) as f64);
        round.insert("redis_us", (after[0] - before[0]) / asked);
        round.insert("responder_us", (after[1] - before[1]) / asked);
        // The generator watched one gateway of several.
        round.remove("cpu_us");
        Ok(round)
    }

    /// Drains all gateways at once while `active` clients ask, and waits for the last to end.
    pub fn drain(&mut self, active: usize, folder: &Folder) -> io::Result<Drained> {
        let first = &self.gateways[0];
        // Those that have asked before must be gone, or they would be counted.
        let idle = self.idle as u64;
        eventually("idle clients alone", CONNECT, || Ok((self.sum("open")? <= idle).then_some(())))?;
        // Each a second after its last reply: an open loop would have the last clients do the work of all, and who never pauses
        // for `drain_quiet_ms` is not closed before the drain's deadline.
        let arguments = format!("--clients {active} --think 1000 --warmup 1 --duration 3600 {SOURCES}");
        let asking = Load::start(&first.url(), &first.process, &arguments, folder.path())?;
        eventually("the clients that ask", CONNECT, || Ok((self.sum("open")? >= idle + active as u64).then_some(())))?;
        // Into the measured part: only there errors are counted.
        std::thread::sleep(Duration::from_secs(3));
        for gateway in &self.gateways {
            gateway.process.signal(Signal::SIGUSR1)?;
        }
        let begin = Instant::now();
        let mut ends: Vec<Option<(f64, i32)>> = vec![None; self.gateways.len()];
        eventually("the last gateway's end", DRAIN, || {
            for (gateway, end) in self.gateways.iter_mut().zip(&mut ends).filter(|(_, end)| end.is_none()) {
                *end = gateway.process.exited()?.map(|code| (begin.elapsed().as_secs_f64(), code));
            }
            Ok(ends.iter().all(Option::is_some).then_some(()))
        })?;
        let (seconds, codes): (Vec<f64>, Vec<i32>) = ends.into_iter().flatten().unzip();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        let loads: Vec<Load> = self.holders.drain(..).chain([asking]).collect();
        for load in &loads {
            // One whose connections have all ended ends by itself.
            let _ = load.interrupt();
        }
        for load in loads {
            for (kind, count) in load.finish(Duration::from_mins(1))?.errors {
                *errors.entry(kind).or_default() += count;
            }
        }
        let closed = errors.remove("closed_1012").unwrap_or(0);
        let (mut reasons, mut crossed) = (BTreeMap::new(), 0);
        for gateway in &self.gateways {
            crossed += add_reasons(gateway, folder, &mut reasons)?;
        }
        Ok(Drained {
            seconds: seconds.iter().copied().fold(0.0, f64::max),
            first_seconds: seconds.iter().copied().fold(f64::INFINITY, f64::min),
            codes,
            closed,
            crossed,
            errors,
            reasons,
        })
    }

    /// A counter, over all gateways.
    fn sum(&self, name: &str) -> io::Result<u64> {
        self.gateways.iter().map(|gateway| gateway.count(name)).sum()
    }
}

/// Adds up why clients of a gateway were gone after its drain had begun, in its own words; how many requests it says to have
/// crossed its Close.
fn add_reasons(gateway: &Gateway, folder: &Folder, reasons: &mut BTreeMap<String, u64>) -> io::Result<u64> {
    let log = std::fs::read_to_string(log(folder.path(), gateway.admin))?;
    let mut crossed = 0;
    for line in log.lines().skip_while(|line| !line.contains("drain: SIGUSR1")) {
        if line.contains("disconnect after") {
            let reason = line.split_once(" requests: ").map_or("?", |(_, reason)| reason);
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
        crossed += u64::from(line.contains("a request crossed our Close frame"));
    }
    Ok(crossed)
}
