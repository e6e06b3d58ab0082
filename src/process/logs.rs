//! The log: one bounded queue, one writer thread, and what SIGHUP does to them (reopen, set the level).
//!
//! May use: tracing's macros from any thread; a core's part is to format a line into a buffer of its own and to try
//! to queue it. Whatever opens, writes or closes does so on the writer thread, or on one that may hang. May never: block
//! the thread that logs, or let what a client wrote begin a line or steer a terminal.

#![forbid(unsafe_code)]

mod activity;
mod json;
mod line;
mod queue;
mod repeats;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, panic, thread};

use evergate_proto::opensrf::activity::Format;
pub use syslog::Facility;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::bounded::{self, FILE_MAX, Failed};
use crate::config::LogLevel;
use crate::stdio;
pub use activity::ActivityLog;
use line::{Lines, Marks};
pub use queue::Figures;
use queue::{Entry, Queue};
use sink::{Output, Sink, Syslog};
use writer::Writer;

/// How long the end of the process waits for what is queued to be written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// `log_queue_bytes_max` where there is no configuration.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;

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
    /// What is printed at first; [`LogControl::set_level`] changes it.
    pub level: LogLevel,
    /// Where messages go.
    pub destination: Destination,
    /// Where activity lines go.
    pub activity: Activity,
    /// Names the program in syslog (`logtag`); empty means `evergate`.
    pub tag: String,
    /// What may wait to be written, bytes; what comes beyond is dropped and counted.
    pub queue_bytes_max: usize,
    /// Text, or JSON.
    pub format: Format,
}

/// Why there is no log.
#[derive(Debug)]
pub enum StartError {
    /// It could not be opened.
    Failed(String),
    /// Nobody knows yet whether it can be opened: the time limit has passed.
    Late(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(why) | Self::Late(why)) = self;
        f.write_str(why)
    }
}

/// The running log. Its drop writes what is queued, for a second at most: keep it until the process ends.
#[derive(Debug)]
pub struct Logs {
    control: LogControl,
    marks: Marks,
}

/// What may be done to a running log, from any thread.
#[derive(Clone, Debug)]
pub struct LogControl {
    /// A [`LogLevel`]; shared with the layer that prints.
    level: Arc<AtomicU8>,
    /// The file, where there is one.
    file: Option<PathBuf>,
    /// A file that the writer was given, until it says that it has taken it.
    given: Arc<Mutex<Option<Receiver<()>>>>,
    queue: Queue,
}

/// Starts the writer and makes it the process's log, of panics too. Fails where the file cannot be opened, or a log was
/// started already; a syslog that is absent is a warning on stderr, and stderr takes its place until it answers.
pub fn start(options: &LogOptions) -> Result<Logs, StartError> {
    let (logs, dispatch) = build(options)?;
    tracing::dispatcher::set_global_default(dispatch)
        .map_err(|_| StartError::Failed("the log was started twice".to_owned()))?;
    // The standard library's would write to stderr, and hang there before anybody hears that a core has failed.
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        tracing::error!(
            "thread {} {info}; {}",
            thread.name().unwrap_or("?"),
            std::backtrace::Backtrace::capture().to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
        );
    }));
    Ok(logs)
}

/// The log and the subscriber that feeds it, not yet the process's own.
fn build(options: &LogOptions) -> Result<(Logs, Dispatch), StartError> {
    let is_json = options.format == Format::Json;
    let marks = Marks {
        colour: !is_json && matches!(options.destination, Destination::Stderr) && io::stderr().is_terminal(),
        process: (is_json || matches!(options.destination, Destination::File(_))).then(std::process::id),
        format: options.format,
    };
    let file = if let Destination::File(path) = &options.destination { Some(path.clone()) } else { None };
    let opened = options.clone();
    assemble(options.level, move || open(&opened), file, marks, options.queue_bytes_max)
}

/// Opens where messages and activity go, on the writer thread.
fn open(options: &LogOptions) -> Result<(Output, Option<Output>), String> {
    let told = Arc::default();
    let syslog = |facility| Output::Syslog(Syslog::new(facility, &options.tag, None, &told));
    let main = match &options.destination {
        Destination::Stderr => Output::stderr().map_err(|error| format!("stderr cannot be written to: {error}"))?,
        Destination::File(path) => Output::file(sink::append_to(path).map_err(|error| cannot_open(path, &error))?),
        Destination::Syslog { facility } => syslog(*facility),
    };
    let activity = match &options.activity {
        Activity::SameAsDestination => None,
        Activity::Syslog { facility } => Some(syslog(*facility)),
    };
    Ok((main, activity))
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
    level: LogLevel,
    open: impl FnOnce() -> Result<(Output, Option<Output>), String> + Send + 'static,
    file: Option<PathBuf>,
    marks: Marks,
    queue_bytes_max: usize,
) -> Result<(Logs, Dispatch), StartError> {
    let (queue, queued) = Queue::new(queue_bytes_max);
    let (opening, opened) = channel();
    let run = move || match open() {
        Ok((main, activity)) => {
            let sink = Sink::new(main, activity, Arc::clone(&queued.account));
            // Who has given up waiting has no use for a writer.
            if opening.send(Ok(())).is_ok() {
                Writer::new(queued, sink, marks).run();
            }
        }
        Err(error) => drop(opening.send(Err(error))),
    };
    bounded::spawn("log", run).map_err(|error| StartError::Failed(format!("no thread can be started: {error}")))?;
    match bounded::wait(&opened, FILE_MAX) {
        Ok(opened) => opened.map_err(StartError::Failed)?,
        Err(failed @ Failed::Late(_)) => return Err(StartError::Late(late(file.as_deref(), &failed))),
        Err(failed) => return Err(StartError::Failed(failed.to_string())),
    }
    let level = Arc::new(AtomicU8::new(level as u8));
    let lines = Lines::new(Arc::clone(&level), queue.clone(), marks);
    let logs = Logs { control: LogControl { level, file, given: Arc::default(), queue }, marks };
    Ok((logs, Dispatch::new(Registry::default().with(lines))))
}

/// Says that the log could not be opened in time.
fn late(file: Option<&Path>, failed: &Failed) -> String {
    match file {
        Some(path) => format!(
            "logfile {} cannot be opened: {failed}; let somebody read the FIFO, or mend the disk; or set logfile to another \
             file, to stderr or to syslog",
            path.display()
        ),
        None => format!(
            "the log cannot be opened: {failed}; is the syslog daemon alive? Else set logfile to a path or stderr"
        ),
    }
}

impl Logs {
    /// The activity log, for one thread.
    pub fn activity(&self) -> ActivityLog {
        ActivityLog::new(self.control.queue.clone(), self.marks)
    }

    /// Reads how the log fares, from any thread.
    pub fn figures(&self) -> impl Fn() -> Figures + Send + Sync + 'static {
        let account = Arc::clone(self.control.queue.account());
        move || account.figures()
    }

    /// Has the repetitions that were counted so far said before whatever is logged from now on, without waiting for it.
    pub fn say_gathered(&self) {
        self.control.queue.order(Entry::Flush(channel().0));
    }

    /// What another thread may do to the log.
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let (done, written) = channel();
        self.control.queue.order(Entry::Flush(done));
        // A writer that hangs holds up nobody: what it has is lost with the process, and there is no log to say so.
        let _ = written.recv_timeout(FLUSH_MAX);
    }
}

impl LogControl {
    /// Opens the log file anew under its name, so that logrotate may have moved the old one away. When it returns without
    /// error, nothing is written to the old one any more; what was queued or buffered is in one of the two. On failure the
    /// old one stays in use. Nothing to do for stderr and syslog. It takes two time limits at most: not for the thread
    /// that hears signals.
    pub fn reopen(&self) -> Result<(), String> {
        let Some(path) = &self.file else { return Ok(()) };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = |why: &str| {
            let why = format!(
                "logfile {} is open anew, but the writer hangs in the old one: {why}; it goes on when that takes what is \
                 written, or is closed",
                path.display()
            );
            // The log cannot say it.
            stdio::say(&why);
            why
        };
        if given.as_ref().is_some_and(|taken| matches!(taken.try_recv(), Err(TryRecvError::Empty))) {
            return Err(hangs("it has not taken the one of before"));
        }
        let opened = path.clone();
        let file = match bounded::within(FILE_MAX, move || sink::append_to(&opened)) {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => {
                return Err(format!("{}; until then the old one is written to", cannot_open(path, &error)));
            }
            Err(failed) => return Err(format!("{}; until then the old one is written to", late(Some(path), &failed))),
        };
        let (done, taken) = channel();
        self.queue.order(Entry::File(file, done));
        let outcome = bounded::wait(&taken, FILE_MAX);
        if let Err(Failed::Late(_)) = outcome {
            *given = Some(taken);
        }
        outcome.map_err(|failed| hangs(&failed.to_string()))
    }

    /// Prints messages up to `level` from now on. A message of a level that is off costs a load and a branch.
    pub fn set_level(&self, level: LogLevel) {
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
