//! The generator, `evergate-load`, as a child process, and what it found.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::process::{OTHER_CPU, Process};

/// Figures by name; the name ends in the unit. A run of the generator adds its own, whoever watches the server more.
pub type Round = BTreeMap<&'static str, f64>;

/// Members of the generator's JSON, under the names that a [`Round`] has for them.
const FIGURES: [(&str, &str); 12] = [
    ("requests", "/requests"),
    ("requests_per_second", "/throughput"),
    ("p50_us", "/latency_us/p50"),
    ("p99_us", "/latency_us/p99"),
    ("p999_us", "/latency_us/p999"),
    ("max_us", "/latency_us/max"),
    ("cpu_us", "/server/cpu_us_per_request"),
    ("generator_share", "/generator/cpu_share"),
    ("seconds", "/seconds"),
    ("answered", "/latency_requests"),
    ("reconnects", "/reconnects"),
    ("retried", "/retried"),
];

/// One run of the generator.
pub struct Load {
    /// The generator.
    process: Process,
    /// Where it writes its figures.
    json: PathBuf,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its figures.
    pub round: Round,
    /// Errors by kind; none where all replies were right.
    pub errors: BTreeMap<String, u64>,
}

impl Load {
    /// Starts one against `url` with the arguments of ARGUMENTS, words between spaces.
    pub fn start(url: &str, server: &Process, arguments: &str, folder: &Path) -> io::Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let json = folder.join(format!("load.{number}.json"));
        let mut command = Command::new(program()?);
        command.args(arguments.split_ascii_whitespace()).args(["--server-pid", &server.pid().to_string()]);
        command.arg("--json").arg(&json).arg(url);
        Ok(Self { process: Process::start("evergate-load", OTHER_CPU, &command, folder)?, json })
    }

    /// Ends it as Ctrl-C does: it reports what there is.
    pub fn interrupt(&self) -> io::Result<()> {
        self.process.signal(Signal::SIGINT)
    }

    /// Waits for its end and takes its figures.
    pub fn finish(mut self, bound: Duration) -> io::Result<Outcome> {
        let code = self.process.wait(bound)?;
        let text = fs::read_to_string(&self.json).unwrap_or_default();
        // The folder is shared memory, and a run with many rounds leaves many of them.
        let _ = fs::remove_file(&self.json);
        let json: Value = match serde_json::from_str(&text) {
            Ok(json) => json,
            Err(_) => return Err(self.process.error(&format!("ended with {code} and without figures"))),
        };
        // 1: some error; 4: drained, which some are for.
        if !matches!(code, 0 | 1 | 4) {
            eprintln!("{}", self.process.error(&format!("ended with {code}, its figures written")));
        }
        let figure = |path| json.pointer(path).and_then(Value::as_f64);
        let mut round: Round = FIGURES.iter().filter_map(|&(name, path)| Some((name, figure(path)?))).collect();
        if let (Some(cpu_us), Some(rate)) = (round.get("cpu_us"), round.get("requests_per_second")) {
            round.insert("server_share", cpu_us * rate / 1e6);
        }
        let errors = json["errors"].as_object().into_iter().flatten();
        let errors = errors.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64().filter(|&n| n > 0)?)));
        Ok(Outcome { round, errors: errors.collect() })
    }

    /// Runs one to its end, and fails where a reply was wrong or missing.
    pub fn run(url: &str, server: &Process, arguments: &str, folder: &Path) -> io::Result<Round> {
        let outcome = Self::start(url, server, arguments, folder)?.finish(Duration::from_mins(10))?;
        if outcome.errors.is_empty() {
            Ok(outcome.round)
        } else {
            Err(io::Error::other(format!("evergate-load {arguments} {url}: {:?}", outcome.errors)))
        }
    }
}

/// `EVERGATE_LOAD_BIN`, else the generator that cargo built with this benchmark.
fn program() -> io::Result<PathBuf> {
    std::env::var_os("EVERGATE_LOAD_BIN")
        .map(PathBuf::from)
        .or(option_env!("CARGO_BIN_EXE_evergate-load").map(PathBuf::from))
        .ok_or_else(|| io::Error::other("no evergate-load: build with --features load, or set EVERGATE_LOAD_BIN"))
}
