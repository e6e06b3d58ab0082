//! Where lines end: the part that blocks. It runs on the writer thread, and never fails: what cannot be written is
//! counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use syslog::{Facility, Formatter3164, LogFormat, Logger, LoggerBackend, Severity};

use super::line::ACTIVITY_LINES;

/// Bytes gathered before they are written; a batch of the queue ends with a write in any case.
const BUFFER_BYTES: usize = 64 * 1024;

/// Between two attempts to reach a syslog that is away.
const SYSLOG_RETRY: Duration = Duration::from_secs(5);

/// Between two complaints on stderr about lines that cannot be written.
const COMPLAINT_EVERY: Duration = Duration::from_mins(1);

/// Readable by the group, not by all: activity lines hold what patrons typed.
const FILE_MODE: u32 = 0o640;

/// One place for lines.
pub(super) enum Output {
    /// Stderr, or a test's.
    Stream(BufWriter<Box<dyn Write + Send>>),
    /// A file that can be reopened.
    File(LogFile),
    /// The host's syslog.
    Syslog(Syslog),
}

impl Output {
    /// Buffers `stream`.
    pub(super) fn stream(stream: Box<dyn Write + Send>) -> Self {
        Self::Stream(BufWriter::with_capacity(BUFFER_BYTES, stream))
    }

    /// Writes whole lines; the error, and how many lines it cost.
    fn write(&mut self, severity: u8, lines: &str) -> Result<(), (io::Error, u64)> {
        let cost = |error| (error, lines.lines().count() as u64);
        match self {
            Self::Stream(stream) => stream.write_all(lines.as_bytes()).map_err(cost),
            Self::File(file) => file.held().write_all(lines.as_bytes()).map_err(cost),
            Self::Syslog(syslog) => {
                let failed = lines.lines().filter_map(|line| syslog.send(severity, line).err()).map(|error| (error, 1));
                failed.reduce(|(_, lost), (error, more)| (error, lost + more)).map_or(Ok(()), Err)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File(file) => file.held().flush(),
            Self::Syslog(_) => Ok(()),
        }
    }
}

/// What the writer thread writes to: a message or some lines of activity a call, as [`super::line`] made them.
pub(super) struct Sink {
    main: Output,
    /// Where it is not `main`.
    activity: Option<Output>,
    /// Lines that could not be written.
    lost: Arc<AtomicU64>,
    /// When stderr may hear of it again.
    complain_at: Option<Instant>,
}

impl Sink {
    pub(super) fn new(main: Output, activity: Option<Output>, lost: Arc<AtomicU64>) -> Self {
        Self { main, activity, lost, complain_at: None }
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complain_at.is_none_or(|at| at <= now) {
            self.complain_at = Some(now + COMPLAINT_EVERY);
            complain(&format!("log lines cannot be written: {error}"));
        }
    }
}

impl Write for Sink {
    fn write(&mut self, queued: &[u8]) -> io::Result<usize> {
        if let [kind, severity, lines @ ..] = queued
            && let Ok(lines) = str::from_utf8(lines)
        {
            let output = match &mut self.activity {
                Some(activity) if *kind == ACTIVITY_LINES => activity,
                _ => &mut self.main,
            };
            if let Err((error, lost)) = output.write(*severity, lines) {
                self.lost.fetch_add(lost, Relaxed);
                self.complain(&error);
            }
        }
        Ok(queued.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.main.flush().and(self.activity.as_mut().map_or(Ok(()), Output::flush));
        // What a buffer could not write stays in it and is tried again with the next batch.
        if let Err(error) = outcome {
            self.complain(&error);
        }
        Ok(())
    }
}

/// The log file, shared by the writer thread and the main thread, which reopens it.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    writer: Arc<Mutex<BufWriter<File>>>,
}

impl LogFile {
    /// Opens `path` for appending.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let writer = BufWriter::with_capacity(BUFFER_BYTES, Self::append_to(&path)?);
        Ok(Self { path, writer: Arc::new(Mutex::new(writer)) })
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a newly opened file in the place of the present one.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let fresh = BufWriter::with_capacity(BUFFER_BYTES, Self::append_to(&self.path)?);
        let mut writer = self.held();
        let flushed = writer.flush();
        let old = mem::replace(&mut *writer, fresh);
        if flushed.is_err() {
            // A full disk, say: its lines go where there may be room. into_parts, because a drop would try the old.
            let (_, Ok(unwritten)) = old.into_parts() else { return Ok(()) };
            writer.write_all(&unwritten)?;
        }
        Ok(())
    }

    fn append_to(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
    }

    fn held(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's syslog under one facility, RFC 3164 as local sockets take it; stderr while it does not answer.
pub(super) struct Syslog {
    formatter: Formatter3164,
    /// Its socket; the usual places where there is none.
    path: Option<PathBuf>,
    logger: Option<Logger<LoggerBackend, Formatter3164>>,
    /// When to try again.
    retry_at: Instant,
    /// Stderr has been told that it is away, by this or by the other of the two logs: it is one daemon.
    told: Arc<AtomicBool>,
}

impl Syslog {
    /// Connects; where that fails, says so on stderr, unless it was `told`.
    pub(super) fn new(facility: Facility, tag: &str, path: Option<PathBuf>, told: &Arc<AtomicBool>) -> Self {
        // RFC 3164, 4.1.3: the tag ends at the first character that is not alphanumeric; dashes are common use.
        let mut process: String = tag.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        process.truncate(32);
        if process.is_empty() {
            process.push_str("evergate");
        }
        let formatter = Formatter3164 { facility, hostname: None, process, pid: std::process::id() };
        let told = Arc::clone(told);
        let mut syslog = Self { formatter, path, logger: None, retry_at: Instant::now(), told };
        syslog.connect();
        syslog
    }

    fn connect(&mut self) {
        let formatter = self.formatter.clone();
        let connected = match &self.path {
            Some(path) => syslog::unix_custom(formatter, path),
            None => syslog::unix(formatter),
        };
        match connected {
            Ok(logger) => {
                self.logger = Some(logger);
                self.told.store(false, Relaxed);
            }
            Err(error) => {
                self.retry_at = Instant::now() + SYSLOG_RETRY;
                if !self.told.swap(true, Relaxed) {
                    complain(&format!(
                        "syslog cannot be reached ({error}); logging to stderr until it can. Is a syslog daemon \
                         listening on /dev/log? Else set `logfile` to a path or to stderr"
                    ));
                }
            }
        }
    }

    /// Sends `line` without its time, which syslog adds; to stderr, whole, where that is not possible.
    fn send(&mut self, severity: u8, line: &str) -> io::Result<()> {
        let text = line.split_once(' ').map_or(line, |(_, text)| text);
        // A daemon that was restarted has another socket: the first failure only shows that.
        for _ in 0..2 {
            if self.logger.is_none() && Instant::now() >= self.retry_at {
                self.connect();
            }
            let Some(logger) = &mut self.logger else { break };
            if logger.formatter.format(&mut logger.backend, rfc3164(severity), text).is_ok() {
                return Ok(());
            }
            self.logger = None;
        }
        writeln!(io::stderr(), "{line}")
    }
}

fn rfc3164(severity: u8) -> Severity {
    match severity {
        b'3' => Severity::LOG_ERR,
        b'4' => Severity::LOG_WARNING,
        b'6' => Severity::LOG_INFO,
        _ => Severity::LOG_DEBUG,
    }
}

/// What the log cannot say of itself. Not `eprintln!`, which panics where stderr is closed.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "evergate: {what}");
}
