//! The kinds of restart: from a gateway that serves to its successor on the same port.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use super::clock::unix_ms;
use super::site::{Bus, Gateway, GatewayOptions};
use super::visits::TimedFault;

/// The longest that a gateway may take to end.
const PATIENCE: Duration = Duration::from_mins(3);

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The successor takes the listening sockets from the running gateway (`--replace`), which then drains.
    HandOver,
    /// A second one listens beside the first (`SO_REUSEPORT`), then the first is drained: it accepts what it has, and closes.
    SideBySide,
    /// The same, but the first is stopped fast.
    StopBeside,
    /// The first is stopped, then the second binds the port anew.
    Naive,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HandOver, Self::SideBySide, Self::StopBeside, Self::Naive];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HandOver => "hand-over",
            Self::SideBySide => "side-by-side",
            Self::StopBeside => "stop-beside",
            Self::Naive => "naive",
        }
    }

    /// Whether it promises that no visitor notices.
    pub fn is_gapless(self) -> bool {
        self == Self::HandOver
    }
}

/// How one restart went.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// When it began, ms since 1970.
    pub began_ms: u64,
    /// Until the successor was ready, s.
    pub ready_seconds: f64,
    /// Until the old one had ended, s.
    pub ended_seconds: f64,
    /// The old one's exit code.
    pub exit_code: i32,
    /// What went wrong from its beginning to the next one's, by kind.
    pub faults: BTreeMap<String, Times>,
}

/// When a kind of fault came, ms from the beginning of the restart.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// First.
    pub first_ms: u64,
    /// Last.
    pub last_ms: u64,
}

/// Says of each fault in which restart it came.
pub fn assign(faults: &[TimedFault], restarts: &mut [Restart]) {
    for (at_ms, kind) in faults {
        let Some(restart) = restarts.iter_mut().rev().find(|restart| restart.began_ms <= *at_ms) else { continue };
        let ms = at_ms - restart.began_ms;
        let times = restart.faults.entry(kind.clone()).or_insert(Times { count: 0, first_ms: ms, last_ms: ms });
        times.count += 1;
        times.last_ms = ms;
    }
}

/// Where gateways follow each other.
pub struct Line<'a> {
    /// How they do.
    pub kind: Kind,
    /// Their bus.
    pub bus: &'a Bus,
    /// Where all of them listen.
    pub listen: SocketAddr,
    /// More flags for each, words between spaces.
    pub flags: &'a str,
    /// For what they write.
    pub folder: &'a Path,
}

impl Line<'_> {
    /// The first gateway, ready.
    pub fn begin(&self) -> io::Result<Gateway> {
        self.gateway(&[])
    }

    /// Its successor in the place of `old`.
    pub fn restart(&self, mut old: Gateway) -> io::Result<(Gateway, Restart)> {
        let (began_ms, began) = (unix_ms(), Instant::now());
        let ready = |gateway| (gateway, began.elapsed().as_secs_f64());
        let end = |old: &mut Gateway| -> io::Result<(i32, f64)> {
            Ok((old.process.wait(PATIENCE)?, began.elapsed().as_secs_f64()))
        };
        let ((next, ready_seconds), (exit_code, ended_seconds)) = match self.kind {
            // The old one drains by itself when the successor serves.
            Kind::HandOver => (ready(self.gateway(&["--replace"])?), end(&mut old)?),
            Kind::SideBySide | Kind::StopBeside => {
                let next = ready(self.gateway(&[])?);
                let signal = if self.kind == Kind::SideBySide { Signal::SIGUSR1 } else { Signal::SIGTERM };
                old.process.signal(signal)?;
                (next, end(&mut old)?)
            }
            Kind::Naive => {
                old.process.signal(Signal::SIGTERM)?;
                let ended = end(&mut old)?;
                (ready(self.gateway(&[])?), ended)
            }
        };
        let faults = BTreeMap::new();
        Ok((next, Restart { began_ms, ready_seconds, ended_seconds, exit_code, faults }))
    }

    fn gateway(&self, own_flags: &[&str]) -> io::Result<Gateway> {
        let control = self.folder.join("control").to_string_lossy().into_owned();
        let mut flags = own_flags.to_vec();
        if self.kind == Kind::HandOver {
            flags.extend(["--control", &control]);
        }
        flags.extend(self.flags.split_ascii_whitespace());
        let shares_port = matches!(self.kind, Kind::SideBySide | Kind::StopBeside);
        let options =
            GatewayOptions { listen: Some(self.listen), shares_port, flags: &flags, ..GatewayOptions::default() };
        Gateway::start(self.bus, options, self.folder)
    }
}
