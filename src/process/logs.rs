//! The log: one bounded queue, one writer thread, and what the main thread may do to them (reopen, set the level).
//!
//! May use: tracing's macros from any thread; a core's part is to format a line into a buffer of its own and to try
//! to queue it. May never: block the thread that logs, or let what a client wrote begin a line or steer a terminal.

#![forbid(unsafe_code)]

mod activity;
mod line;
mod sink;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use nix::sys::signal::{SigSet, SigmaskHow};
pub use syslog::Facility;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

pub use activity::ActivityLog;
use line::{Lines, Queue};
use sink::{LogFile, Output, Sink, Syslog};

/// What waits for the writer at most: messages, and lines of activity gathered to 32 KiB, which are 270 MB or 40 s of 50,000
/// requests a second. What comes next is dropped and counted.
const QUEUE_MAX: usize = 8_192;

/// Which messages are printed; activity lines are, whatever the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// None.
    Off = 0,
    /// What stopped working.
    Error = 1,
    /// And what works, but not as it should.
    Warn = 2,
    /// And what an operator wants to see of a normal day.
    Info = 3,
    /// And what helps to find a fault.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    /// Every level; the index is its number in `opensrf_core.xml` (`loglevel`).
    pub const ALL: [Level; 6] = [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        ["off", "error", "warn", "info", "debug", "trace"][self as usize]
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The standard error stream, with colour where that is a terminal.
    Stderr,
    /// A file, appended to; made where it is absent.
    File(PathBuf),
    /// The host's syslog.
    Syslog {
        /// `syslog` in `opensrf_core.xml`.
        facility: Facility,
    },
}

/// Where activity lines go.
#[derive(Clone, Debug)]
pub enum Activity {
    /// To the place of the messages; with syslog, to their facility too.
    SameAsDestination,
    /// To the host's syslog.
    Syslog {
        /// `actlog` in `opensrf_core.xml`.
        facility: Facility,
    },
}

/// How to log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// What is printed at first; [`Logs::set_level`] changes it.
    pub level: Level,
    /// Where messages go.
    pub destination: Destination,
    /// Where activity lines go.
    pub activity: Activity,
    /// Names the program in syslog (`logtag`); empty means `evergate`.
    pub tag: String,
}

/// The running log. Its drop writes what is queued, for a second at most: keep it until the process ends.
#[derive(Debug)]
pub struct Logs {
    /// A [`Level`]; shared with [`Lines`].
    level: Arc<AtomicU8>,
    /// The file, where there is one; shared with [`Sink`].
    file: Option<LogFile>,
    /// Lines that found the queue full.
    refused: ErrorCounter,
    /// Lines that could not be written.
    lost: Arc<AtomicU64>,
    queue: Queue,
    colour: bool,
    _guard: WorkerGuard,
}

/// Starts the writer and makes it the process's log. Fails where the file cannot be opened, or a log was started
/// already; a syslog that is absent is a warning on stderr, and stderr takes its place until it answers.
pub fn start(options: &LogOptions) -> Result<Logs, String> {
    let (logs, dispatch) = build(options)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| "the log was started twice".to_owned())?;
    Ok(logs)
}

/// The log and the subscriber that feeds it, not yet the process's own.
fn build(options: &LogOptions) -> Result<(Logs, Dispatch), String> {
    let told = Arc::default();
    let syslog = |facility| Output::Syslog(Syslog::new(facility, &options.tag, None, &told));
    let mut colour = false;
    let mut file = None;
    let main = match &options.destination {
        Destination::Stderr => {
            colour = io::stderr().is_terminal();
            Output::stream(Box::new(io::stderr()))
        }
        Destination::File(path) => {
            let opened = LogFile::open(path.clone()).map_err(|error| cannot_open(path, &error))?;
            file = Some(opened.clone());
            Output::File(opened)
        }
        Destination::Syslog { facility } => syslog(*facility),
    };
    let activity = match &options.activity {
        Activity::SameAsDestination => None,
        Activity::Syslog { facility } => Some(syslog(*facility)),
    };
    assemble(options.level, main, activity, file, colour, QUEUE_MAX)
}

/// Why a log file cannot be written to, and what to do; `check` says the same.
pub fn cannot_open(path: &Path, why: &io::Error) -> String {
    format!("logfile {} cannot be opened: {why}; {FILE_REMEDY}", path.display())
}

/// What to do about a log file that cannot be opened.
pub const FILE_REMEDY: &str =
    "make its directory, and let this account write there; or set logfile to stderr or syslog";

/// Puts the parts together; tests bring their own outputs.
fn assemble(
    level: Level,
    main: Output,
    activity: Option<Output>,
    file: Option<LogFile>,
    colour: bool,
    queue_max: usize,
) -> Result<(Logs, Dispatch), String> {
    let lost = Arc::new(AtomicU64::new(0));
    let sink = Sink::new(main, activity, Arc::clone(&lost));
    // Signals are the main thread's alone, and a thread inherits its creator's mask.
    let masked = |error| format!("signals cannot be masked for the log thread: {error}");
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(masked)?;
    let (queue, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(queue_max).thread_name("log").finish(sink);
    mask.thread_set_mask().map_err(masked)?;
    let level = Arc::new(AtomicU8::new(level as u8));
    let refused = queue.error_counter();
    let queue = Queue::new(queue, Arc::clone(&lost));
    let lines = Lines::new(Arc::clone(&level), queue.clone(), colour);
    let logs = Logs { level, file, refused, lost, queue, colour, _guard: guard };
    Ok((logs, Dispatch::new(Registry::default().with(lines))))
}

impl Logs {
    /// The activity log, for one thread.
    pub fn activity(&self) -> ActivityLog {
        ActivityLog::new(self.queue.clone(), self.colour)
    }

    /// Lines lost so far: the queue was full, or they could not be written.
    pub fn dropped(&self) -> u64 {
        self.drops()()
    }

    /// Reads [`Logs::dropped`] from another thread, for the metrics.
    pub fn drops(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let (refused, lost) = (self.refused.clone(), Arc::clone(&self.lost));
        move || lost.load(Relaxed).saturating_add(refused.dropped_lines() as u64)
    }

    /// Opens the log file anew under its name, so that logrotate may have moved the old one away. When it returns,
    /// nothing is written to the old one any more; what was queued or buffered is in one of the two. On failure the
    /// old one stays in use. Nothing to do for stderr and syslog.
    pub fn reopen(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        file.reopen()
            .map_err(|error| format!("{}; until then the old one is written to", cannot_open(file.path(), &error)))
    }

    /// Prints messages up to `level` from now on. A message of a level that is off costs a load and a branch.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// As tracing spells it.
fn filter(level: u8) -> LevelFilter {
    match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
