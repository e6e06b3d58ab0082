//! The life of the process: its phases, its cores, its signals, systemd, the logs.
//!
//! May use: threads, files, the environment, blocking calls. Never: the message path. The main thread, which hears the
//! signals, waits for nothing that may hang but through [`bounded`](crate::bounded).
//!
//! - [`shared`]: where the process stands, and what else all threads can see
//! - [`serve`]: from the options to the exit code
//! - [`demo`]: the same with a bus of its own
//! - [`signals`]: what was asked for from outside
//! - [`settings`]: the options as the cores need them; what SIGHUP changes
//! - [`reload`]: the thread that SIGHUP asks
//! - [`resolver`]: the names of the bus domains; [`bus_said`]: what the log was told of their links
//! - [`listeners`]: what is listened on, with a share for each core
//! - [`addresses`]: the bus addresses of this process, and of those that left theirs behind
//! - [`control`]: what operators and a successor may ask over a Unix socket
//! - [`roster`]: who is connected, and the end of one connection; [`inquiries`]: how the cores are asked
//! - [`drain_log`]: what is left, once a second
//! - [`watchdog`]: whether the cores turn
//! - [`logs`]: the log and the activity log
//! - [`systemd`]: what the service manager is told

pub mod address_file;
pub mod addresses;
pub mod bus_said;
pub mod control;
pub mod demo;
pub mod drain_log;
pub mod inquiries;
pub mod listeners;
pub mod logs;
pub mod memory;
mod ownership;
pub mod reload;
pub mod resolver;
pub mod roster;
pub mod running;
pub mod serve;
pub mod settings;
pub mod shared;
pub mod signals;
pub mod systemd;
pub mod takeover;
pub mod watchdog;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Drained with nobody cut, or a fast stop.
    Done = 0,
    /// The host is unusable (io_uring, the port), or `check` failed.
    Host = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The drain deadline cut somebody who had something pending, a session or unsent bytes.
    Cut = 3,
    /// A core failed.
    CoreFailed = 70,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
