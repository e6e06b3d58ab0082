//! A host that is overloaded for long: does every reply come, and does the process stay? Busy threads keep every CPU's run
//! queue long while `evergate demo` serves a modest load, of which every reply is checked. Told at the end: the longest
//! standstill of each core and what the core was (`/metrics`), how the cores' time was spent, what was lost, the exit code.
//!
//! `cargo bench --bench starvation --features load -- [OPTIONS]`
//!
//!     --seconds S      how long (3600)
//!     --runnable N     busy threads on each CPU (20)
//!     --rate R         requests per second over all clients (20)
//!     --clients N      clients (20)
//!     --flags "…"      more flags for the gateway
//!
//! `EVERGATE_BIN` is another gateway's binary, `EVERGATE_LOAD_BIN` another generator.

#[path = "support/process.rs"]
#[expect(dead_code, reason = "the bench relay uses the rest")]
mod process;
#[path = "support/provenance.rs"]
mod provenance;
#[path = "support/results.rs"]
mod results;
#[path = "support/words.rs"]
mod words;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process::{Folder, eventually, free_port, http};
use serde_json::{Value, json};
use words::Words;

/// How long a starved process may take for what takes it no time otherwise.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is asked for on the command line.
struct Options {
    /// How long the load lasts, seconds.
    seconds: u64,
    /// Busy threads on each CPU.
    runnable: usize,
    /// Requests per second.
    rate: u64,
    /// Clients.
    clients: usize,
    /// More flags for the gateway, words between spaces.
    flags: String,
}

fn main() -> io::Result<()> {
    if !words::is_bench() {
        return Ok(());
    }
    let options = options()?;
    println!("{}", provenance::line());
    let folder = Folder::new()?;
    let part = measure(&options, &folder)?;
    let Options { seconds, runnable, rate, clients, flags } = &options;
    let told = json!({ "seconds": seconds, "runnable": runnable, "rate": rate, "clients": clients, "flags": flags });
    results::save("starvation", &told, &[part])
}

fn measure(options: &Options, folder: &Folder) -> io::Result<Value> {
    let (listen, admin) = (free_port()?, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    let log = folder.path().join("evergate.log");
    let mut command = Command::new(binary("EVERGATE_BIN", option_env!("CARGO_BIN_EXE_evergate"))?);
    command.args(["demo", "--listen", &format!("127.0.0.1:{listen}"), "--admin", &admin.to_string()]);
    command.args(["--logfile", &log.display().to_string(), "--loglevel", "info"]);
    command.args(options.flags.split_ascii_whitespace());
    let mut gateway = Guard::start(&mut command)?;
    eventually("the gateway is ready", PATIENCE, || Ok(http(admin, "/readyz")))?;

    let cpus = cpus()?;
    let hogs = Hogs::start(&cpus, options.runnable)?;
    let began = Instant::now();
    let before = core_times(gateway.pid());
    let figures = folder.path().join("load.json");
    let mut command = Command::new(binary("EVERGATE_LOAD_BIN", option_env!("CARGO_BIN_EXE_evergate-load"))?);
    command.args(["--clients", &options.clients.to_string(), "--rate", &options.rate.to_string()]);
    command.args(["--mix", "stateless=8,stateful=1,streamed=1", "--timeout", "120", "--ramp", "5"]);
    command.args(["--duration", &options.seconds.to_string(), "--json", &figures.display().to_string()]);
    let mut load = Guard::start(command.arg(format!("ws://127.0.0.1:{listen}/")))?;
    let mut longest_admin = Duration::ZERO;
    let load_code = loop {
        if let Some(code) = load.exited()? {
            break code;
        }
        if let Some(code) = gateway.exited()? {
            eprintln!("the gateway ended with {code}\n{}", tail(&log));
            break -1;
        }
        let asked = Instant::now();
        let _ = http(admin, "/healthz");
        longest_admin = longest_admin.max(asked.elapsed());
        thread::sleep(Duration::from_secs(1));
    };
    let spent =
        core_times(gateway.pid()).zip(before).map(|(after, before)| [after[0] - before[0], after[1] - before[1]]);
    let elapsed = began.elapsed();
    let metrics = http(admin, "/metrics").unwrap_or_default();
    let load_average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    drop(hogs);
    if gateway.exited()?.is_none() {
        kill(gateway.nix_pid(), Signal::SIGUSR1)?;
    }
    let code = eventually("the drain", PATIENCE, || gateway.exited())?;

    let found: Value = serde_json::from_str(&fs::read_to_string(&figures).unwrap_or_default()).unwrap_or_default();
    let standstills: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("evergate_standstill_longest_seconds{")).collect();
    let seconds = elapsed.as_secs_f64() * cpus.len() as f64;
    let share = |nanoseconds: u64| nanoseconds as f64 / 1e9 / seconds;
    let told = json!({
        "cpus": cpus.len(), "load_average": load_average.trim(), "exit_code": code, "load_exit_code": load_code,
        "standstills": standstills, "cores_ran": spent.map(|spent| share(spent[0])),
        "cores_queued": spent.map(|spent| share(spent[1])), "longest_admin_seconds": longest_admin.as_secs_f64(),
        "requests": found["requests"], "errors": found["errors"], "latency_us": found["latency_us"],
    });
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("exit codes of gateway and generator", format!("{code}, {load_code}")),
        row("requests with the right reply", found["requests"].to_string()),
        row("errors, replies lost among them", found["errors"].to_string()),
        row("latency p50, p99, max, ms", latencies(&found)),
        row(
            "cores: share of the time that they ran",
            format!("{:.3}", spent.map_or(f64::NAN, |spent| share(spent[0]))),
        ),
        row("cores: in the run queue", format!("{:.3}", spent.map_or(f64::NAN, |spent| share(spent[1])))),
        row("slowest answer of /healthz, s", format!("{:.2}", longest_admin.as_secs_f64())),
        row("load average", load_average.trim().to_owned()),
    ];
    rows.extend(standstills.iter().map(|line| row("longest standstill", (*line).to_owned())));
    let title = format!("{} s, {} busy threads on each of {} CPUs", options.seconds, options.runnable, cpus.len());
    results::print_table(&title, &["", ""], &rows);
    for line in fs::read_to_string(&log).unwrap_or_default().lines().filter(|line| line.contains("watchdog")) {
        println!("{line}");
    }
    Ok(told)
}

fn latencies(found: &Value) -> String {
    let ms = |name: &str| found["latency_us"][name].as_f64().unwrap_or(f64::NAN) / 1e3;
    format!("{:.1}, {:.1}, {:.1}", ms("p50"), ms("p99"), ms("max"))
}

/// The end of a log.
fn tail(path: &std::path::Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let from = text.ceil_char_boundary(text.len().saturating_sub(4_000));
    text[from..].to_owned()
}

/// The CPUs that this process may use.
fn cpus() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect())
}

/// What all threads of the cores ran and waited for a CPU so far, nanoseconds; none where the kernel does not tell.
fn core_times(pid: u32) -> Option<[u64; 2]> {
    let mut sum = [0, 0];
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
        if read("comm")?.starts_with("core-") {
            let schedstat = read("schedstat")?;
            let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
            sum[0] += fields.next().unwrap_or(0);
            sum[1] += fields.next().unwrap_or(0);
        }
    }
    Some(sum)
}

/// Threads that only run.
struct Hogs {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Hogs {
    fn start(cpus: &[usize], each: usize) -> io::Result<Self> {
        let mut hogs = Self { over: Arc::default(), threads: Vec::new() };
        for &cpu in cpus.iter().flat_map(|cpu| std::iter::repeat_n(cpu, each)) {
            let over = Arc::clone(&hogs.over);
            hogs.threads.push(thread::Builder::new().name("busy".to_owned()).spawn(move || {
                let mut set = CpuSet::new();
                let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
                pinned.expect("a CPU of this process's own");
                while !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            })?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A child that ends with this process.
struct Guard(Child);

impl Guard {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"EVERGATE_")) {
            guarded.env_remove(key);
        }
        guarded.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(Self)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    fn exited(&mut self) -> io::Result<Option<i32>> {
        Ok(self.0.try_wait()?.map(|status| status.code().unwrap_or(-1)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program that a variable names, else the one that cargo built with this benchmark.
fn binary(variable: &str, built: Option<&str>) -> io::Result<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.or(built.map(PathBuf::from)).ok_or_else(|| io::Error::other(format!("set {variable}, or --features load")))
}

/// Reads the command line.
fn options() -> io::Result<Options> {
    let mut options = Options { seconds: 3_600, runnable: 20, rate: 20, clients: 20, flags: String::new() };
    let mut words = Words::of("starvation");
    while let Some(option) = words.next() {
        match option.as_str() {
            "--seconds" => options.seconds = words.parsed()?,
            "--runnable" => options.runnable = words.parsed()?,
            "--rate" => options.rate = words.parsed()?,
            "--clients" => options.clients = words.parsed()?,
            "--flags" => options.flags = words.text()?,
            other => return Err(words.unknown(other)),
        }
    }
    Ok(options)
}
