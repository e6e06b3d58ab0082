//! One attack by so many attackers: quiet and attacked windows in turn, in one run of one gateway.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Options;
use super::attack::READY;
use super::big;
use super::latency::{Sample, Summary, Window};
use super::list::Attack;
use super::neighbours::Neighbours;
use super::pin::pin;
use super::probes::Probe;
use super::process::{OTHER_CPU, Process, SERVER_CPU, eventually, in_role};
use super::site::{Bus, DOMAIN, Gateway, GatewayOptions};
use super::watch::{self, Watch};

/// How long services and attackers may take to be ready.
const START: Duration = Duration::from_mins(1);
/// The last part of an attacked window, in which the attackers are gone already: their leaving is part of the attack.
const AFTERMATH: Duration = Duration::from_millis(500);
/// The longest quiet window: after that it tells nothing new.
const QUIET_MAX: Duration = Duration::from_mins(1);
/// How long the gateway may take to serve as before.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Served as before: all answers of a second good, nine of ten within this.
const CALM: Duration = Duration::from_millis(50);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(20);

/// What a run came to. Times in milliseconds, memory in bytes.
pub struct Outcome {
    /// The attack.
    pub attack: &'static Attack,
    /// How many attacked.
    pub attackers: usize,
    /// Which gateway, as it says itself.
    pub version: String,
    /// The neighbours without attackers, and with them.
    pub neighbours: [Summary; 2],
    /// The same of calls past the gateway.
    pub bus: [Summary; 2],
    /// The same of the admin page, where that is attacked.
    pub admin: Option<[Summary; 2]>,
    /// What the attackers sent in a second, in their own unit.
    pub sent_per_second: f64,
    /// The longest turn of a core, seconds, if the gateway tells.
    pub turn_seconds: Option<f64>,
    /// The gateway's memory before, at the most, and after the last attack.
    pub rss: [u64; 3],
    /// What the cores said they held, at the most; 0 where it was not asked.
    pub held: u64,
    /// The most that Redis used.
    pub redis: u64,
    /// The longest time from an attack's end until the neighbours were served as before; none where they were not in time.
    pub recovery: Option<Duration>,
    /// The exit code of a gateway that ended under attack, and the end of its log.
    pub died: Option<(i32, String)>,
    /// The exit code of one that was stopped.
    pub stopped: Option<i32>,
}

/// Who takes part, in the order in which they end.
struct Cast {
    neighbours: Neighbours,
    bus_probe: Probe,
    admin_probe: Option<Probe>,
    watch: Watch,
    gateway: Gateway,
    bus: Bus,
    /// Who answers with much, where that is the attack.
    big: Option<Process>,
}

/// What the rounds add up to.
#[derive(Default)]
struct Rounds {
    quiet: Vec<Window>,
    attacked: Vec<Window>,
    sent: f64,
    seconds: f64,
    turn_seconds: Option<f64>,
    /// The longest recovery.
    recovery: Duration,
    never_recovered: bool,
    died: Option<i32>,
}

/// Runs it.
pub fn run(attack: &'static Attack, attackers: usize, options: &Options, folder: &Path) -> io::Result<Outcome> {
    let mut cast = Cast::start(attack, options, folder)?;
    let version = watch::version(cast.gateway.admin).unwrap_or_default();
    let mut rounds = Rounds::default();
    rounds.settle(&mut cast)?;
    if rounds.never_recovered {
        return Err(cast.gateway.process.error("does not serve its neighbours, before any attack"));
    }
    // The first calls make connections and warm caches.
    rounds.recovery = Duration::ZERO;
    let pid = cast.gateway.process.pid();
    let before = watch::rss(pid).unwrap_or(0);
    for _ in 0..options.rounds {
        if rounds.died.is_none() {
            rounds.one(attack, attackers, options, &mut cast, folder)?;
        }
    }
    if attack.is_on_memory() && rounds.died.is_none() {
        rounds.pass(options.shrink, &mut cast)?;
    }
    let after = watch::rss(pid).unwrap_or(0);
    let (peak, held) = cast.watch.peaks();
    let redis = watch::redis_peak(cast.bus.address).unwrap_or(0);
    let Cast { neighbours, bus_probe, admin_probe, watch, mut gateway, bus, big } = cast;
    drop(watch);
    let both = |samples: &[Sample]| [&rounds.quiet, &rounds.attacked].map(|windows| Summary::of(samples, windows));
    let outcome = Outcome {
        attack,
        attackers,
        version,
        neighbours: both(&neighbours.finish()),
        bus: both(&bus_probe.finish()),
        admin: admin_probe.map(|probe| both(&probe.finish())),
        sent_per_second: rounds.sent / rounds.seconds,
        turn_seconds: rounds.turn_seconds,
        rss: [before, peak, after],
        held,
        redis,
        recovery: (!rounds.never_recovered).then_some(rounds.recovery),
        died: rounds.died.map(|code| (code, tail(&super::site::log(folder, gateway.admin), &gateway.process))),
        stopped: if rounds.died.is_none() { stop(&mut gateway) } else { None },
    };
    // A flood's activity log fills the memory that the folder is.
    let _ = fs::remove_file(super::site::log(folder, gateway.admin));
    drop((bus, big));
    Ok(outcome)
}

impl Cast {
    fn start(attack: &Attack, options: &Options, folder: &Path) -> io::Result<Self> {
        let router = if attack.has_large_replies() { big::INNER } else { "router" };
        let mut bus = Bus::with("demo-services", |address| services(address, router, folder), folder)?;
        if let Some(services) = &mut bus.responder {
            eventually("the services", START, || match services.exited()? {
                Some(code) => Err(services.error(&format!("ended with {code}"))),
                None => Ok(services.output().contains('\n').then_some(())),
            })?;
        }
        let big = || Process::start("big", OTHER_CPU, &in_role(&["big", &bus.address.to_string()])?, folder);
        let big = attack.has_large_replies().then(big).transpose()?;
        let flags = [attack.flags, &options.flags].map(str::split_ascii_whitespace);
        let flags: Vec<&str> = flags.into_iter().flatten().collect();
        let gateway = Gateway::start(&bus, GatewayOptions { flags: &flags, ..GatewayOptions::default() }, folder)?;
        let counters = attack.is_on_memory().then_some(gateway.admin);
        Ok(Self {
            neighbours: Neighbours::start(gateway.address)?,
            bus_probe: Probe::bus(bus.address)?,
            admin_probe: attack.is_on_admin().then(|| Probe::admin(gateway.admin)).transpose()?,
            watch: Watch::start(gateway.process.pid(), counters)?,
            gateway,
            bus,
            big,
        })
    }

    /// Whether all that was due in the last second, but for the moment just past, is answered well.
    fn is_calm(&self) -> bool {
        let window = Duration::from_millis(200)..Duration::from_millis(1_200);
        let samples = self.neighbours.samples();
        let recent: Vec<&Sample> =
            samples.iter().rev().take(2_000).filter(|it| window.contains(&it.due.elapsed())).collect();
        let quick = recent.iter().filter(|sample| sample.took < CALM).count();
        recent.len() >= 350 && recent.iter().all(|sample| sample.is_good) && quick * 10 >= recent.len() * 9
    }
}

impl Rounds {
    /// A quiet window, an attacked one, and the time until the gateway serves as before.
    fn one(
        &mut self,
        attack: &Attack,
        attackers: usize,
        options: &Options,
        cast: &mut Cast,
        folder: &Path,
    ) -> io::Result<()> {
        let window = options.window;
        let begun = Instant::now();
        self.pass(window.min(QUIET_MAX), cast)?;
        self.quiet.push((begun, Instant::now()));
        let seconds = window.saturating_sub(AFTERMATH);
        let party = Attackers { attack, count: attackers, seconds, is_shared: options.is_shared };
        let mut party = party.start(&cast.gateway, folder)?;
        let begun = eventually("the attackers", START, || match party.exited()? {
            Some(code) if !party.0.output().starts_with(READY) => Err(party.0.error(&format!("ended with {code}"))),
            _ => Ok(party.0.output().starts_with(READY).then(Instant::now)),
        })?;
        self.pass(window, cast)?;
        self.attacked.push((begun, Instant::now()));
        // Where it has not ended by itself, it had no CPU: what it has sent is not known, then.
        if party.exited()?.is_some() {
            self.sent += party.0.output().lines().nth(1).and_then(|line| line.parse::<f64>().ok()).unwrap_or(0.0);
            self.seconds += seconds.as_secs_f64();
        }
        drop(party);
        self.settle(cast)
    }

    /// Lets some time pass; sees whether the gateway is there.
    fn pass(&mut self, time: Duration, cast: &mut Cast) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.died = self.died.or(cast.gateway.process.exited()?);
            thread::sleep(Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits until the neighbours are served as before.
    fn settle(&mut self, cast: &mut Cast) -> io::Result<()> {
        let begun = Instant::now();
        while self.died.is_none() && !cast.is_calm() {
            self.pass(Duration::from_millis(50), cast)?;
            if begun.elapsed() > RECOVERY_MAX {
                self.never_recovered = true;
                break;
            }
        }
        self.recovery = self.recovery.max(begun.elapsed());
        let turn = watch::gauge(cast.gateway.admin, "evergate_turn_longest_seconds");
        self.turn_seconds = turn.or(self.turn_seconds);
        Ok(())
    }
}

fn services(redis: std::net::SocketAddr, router: &str, folder: &Path) -> io::Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evergate"));
    command.args(["demo-services", "--redis", &redis.to_string(), "--domain", DOMAIN]);
    command.args([
        "--router-name",
        router,
        "--router-user",
        "router",
        "--service-user",
        "opensrf",
        "--keepalive-seconds",
        "60",
    ]);
    for (flag, account) in [("--router-password-file", "router"), ("--service-password-file", "opensrf")] {
        let file = folder.join(format!("{account}.password"));
        fs::write(&file, format!("{account}-test\n"))?;
        command.arg(flag).arg(file);
    }
    Ok(command)
}

/// The attackers' process.
struct Attackers<'a> {
    attack: &'a Attack,
    count: usize,
    seconds: Duration,
    is_shared: bool,
}

impl Attackers<'_> {
    /// Lets it begin, with what CPU the others leave.
    fn start(&self, gateway: &Gateway, folder: &Path) -> io::Result<Party> {
        let (address, admin) = (gateway.address.to_string(), gateway.admin.to_string());
        let (count, seconds) = (self.count.to_string(), self.seconds.as_secs_f64().to_string());
        let role = in_role(&["attack", self.attack.name, &count, &address, &admin, &seconds])?;
        let (program, how) = if self.is_shared { ("nice", ["-n", "10"]) } else { ("chrt", ["--idle", "0"]) };
        let mut command = Command::new(program);
        command.args(how).arg(role.get_program()).args(role.get_args());
        Process::start("attackers", OTHER_CPU, &command, folder).map(Party)
    }
}

/// The attackers' process at work. Only from here may it be waited for: see `aside`.
struct Party(Process);

impl Party {
    /// Its exit code where it has ended.
    fn exited(&mut self) -> io::Result<Option<i32>> {
        aside(|| self.0.exited())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        aside(|| self.0.end());
    }
}

/// Does it on the gateway's CPU. On the attackers' own, one `wait4` in eight never came back: it spun in the kernel (6.18), it seems for threads
/// that are not through their end, and under `SCHED_IDLE` a spinning waiter leaves these nothing.
fn aside<T>(wait: impl FnOnce() -> T) -> T {
    pin(SERVER_CPU).expect("a CPU that the benchmark uses");
    let waited = wait();
    pin(OTHER_CPU).expect("a CPU that the benchmark uses");
    waited
}

/// Stops it as an operator does; its exit code, none where it does not end.
fn stop(gateway: &mut Gateway) -> Option<i32> {
    gateway.process.signal(Signal::SIGTERM).ok()?;
    gateway.process.wait(STOP).ok()
}

/// What it wrote last, activity left out.
fn tail(log: &Path, process: &Process) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned() + &process.output();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}
