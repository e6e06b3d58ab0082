//! One gateway: `evergate demo`, with a log and an admin page of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::case::Way;
use crate::process::{Process, SERVER_CPU, eventually, free_port, http};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(20);
/// A fast stop's time: some of the replies take less, some more.
pub const STOP_MAX: Duration = Duration::from_secs(25);

/// A gateway with a bus and services of its own.
pub struct Demo {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Its process.
    pub process: Process,
    admin: SocketAddr,
    log: PathBuf,
}

/// What a gateway counted, over its cores, the last time that it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Clients that are open.
    pub open: u64,
    /// Closed at a gap in a drain.
    pub closed_at_gap: u64,
    /// Cut at a drain's deadline.
    pub closed_at_deadline: u64,
    /// Requests that came behind the gateway's Close.
    pub crossed_close: u64,
    /// Closed as idle.
    pub idle_timeout: u64,
    /// Dropped as dead.
    pub pong_timeout: u64,
}

impl Demo {
    /// Starts it with what the way of closing needs, and waits until it is ready.
    pub fn start(way: Way, flags: &str, folder: &Path) -> io::Result<Self> {
        let [address, admin] = [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let binary = std::env::var_os("EVERGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_evergate").into());
        let log = folder.join(format!("evergate.{}.log", way.name()));
        let mut command = Command::new(binary);
        command.args(["demo", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.args(["--cores", &SERVER_CPU.to_string()]).arg("--logfile").arg(&log);
        let stop_seconds = STOP_MAX.as_secs().to_string();
        command.args(match way {
            // A multiple of what the slowest takes.
            Way::Drain => ["--drain-max-seconds", "600"],
            Way::Idle => ["--idle-timeout-seconds", "2"],
            Way::Stop => ["--stop-max-seconds", &stop_seconds],
            Way::Alive => ["--idle-timeout-seconds", "0"],
        });
        if way == Way::Alive {
            command.args(["--ping-seconds", "10", "--pong-timeout-seconds", "10"]);
        }
        command.args(flags.split_ascii_whitespace());
        let mut process = Process::start(&format!("evergate-{}", way.name()), SERVER_CPU, &command, folder)?;
        eventually("the gateway's readiness", START, || match process.exited()? {
            Some(code) => Err(process.error(&format!("ended with {code} instead of serving"))),
            None => Ok(http(admin, "/readyz").map(drop)),
        })?;
        Ok(Self { address, process, admin, log })
    }

    /// What it has counted; none where it is gone.
    pub fn counts(&self) -> Option<Counts> {
        let status: Value = serde_json::from_str(&http(self.admin, "/status")?).ok()?;
        let sum =
            |name: &str| status["cores"].as_array().into_iter().flatten().filter_map(|core| core[name].as_u64()).sum();
        let limit = |name: &str| status["limits"][name].as_u64().unwrap_or(0);
        Some(Counts {
            open: sum("open"),
            closed_at_gap: sum("closed_at_gap"),
            closed_at_deadline: sum("closed_at_deadline"),
            crossed_close: sum("crossed_close"),
            idle_timeout: limit("idle_timeout_seconds"),
            pong_timeout: limit("pong_timeout_seconds"),
        })
    }

    /// The lines of its log that hold a text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}
