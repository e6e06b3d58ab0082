//! Where lines end: the part that blocks. It runs on the writer thread, and never fails: what cannot be written is
//! counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use syslog::{Facility, Formatter3164, LogFormat, Logger, LoggerBackend, Severity};

use super::queue::Account;
use crate::stdio;

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
    /// A file that another may take the place of.
    File(BufWriter<File>),
    /// The host's syslog.
    Syslog(Syslog),
}

impl Output {
    /// Buffers `stream`.
    pub(super) fn stream(stream: Box<dyn Write + Send>) -> Self {
        Self::Stream(BufWriter::with_capacity(BUFFER_BYTES, stream))
    }

    /// Stderr, by a descriptor of its own: while a write to it hangs, the lock of the standard library's would be held, and
    /// whoever panics wants that.
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::stream(Box::new(File::from(io::stderr().as_fd().try_clone_to_owned()?))))
    }

    /// Buffers `file`.
    pub(super) fn file(file: File) -> Self {
        Self::File(BufWriter::with_capacity(BUFFER_BYTES, file))
    }

    /// Writes whole lines; the error, and how many lines and bytes it cost.
    fn write(&mut self, severity: u8, lines: &str) -> Result<(), (io::Error, u64, u64)> {
        let cost = |error| (error, lines.lines().count() as u64, lines.len() as u64);
        match self {
            Self::Stream(stream) => stream.write_all(lines.as_bytes()).map_err(cost),
            Self::File(file) => file.write_all(lines.as_bytes()).map_err(cost),
            Self::Syslog(syslog) => {
                let lost = lines.lines().filter_map(|line| {
                    syslog.send(severity, line).err().map(|error| (error, 1, line.len() as u64 + 1))
                });
                lost.reduce(|(_, lines, bytes), (error, line, more)| (error, lines + line, bytes + more))
                    .map_or(Ok(()), Err)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File(file) => file.flush(),
            Self::Syslog(_) => Ok(()),
        }
    }
}

/// Opens the log file at `path` for appending. That may hang.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

/// What the writer thread writes to. Nothing fails: what cannot be written is counted.
pub(super) struct Sink {
    main: Output,
    /// Where it is not `main`.
    activity: Option<Output>,
    /// Where losses are counted.
    account: Arc<Account>,
    /// When stderr may hear of it again.
    complain_at: Option<Instant>,
}

impl Sink {
    pub(super) fn new(main: Output, activity: Option<Output>, account: Arc<Account>) -> Self {
        Self { main, activity, account, complain_at: None }
    }

    /// Writes a line.
    pub(super) fn message(&mut self, severity: u8, line: &str) {
        let written = self.main.write(severity, line);
        self.count(written);
    }

    /// Writes lines of activity.
    pub(super) fn activity(&mut self, lines: &str) {
        let written = self.activity.as_mut().unwrap_or(&mut self.main).write(b'6', lines);
        self.count(written);
    }

    /// Writes what is buffered; whether that went well. What could not be written stays, and is tried again.
    pub(super) fn flush(&mut self) -> bool {
        let outcome = self.main.flush().and(self.activity.as_mut().map_or(Ok(()), Output::flush));
        outcome.map_err(|error| self.complain(&error)).is_ok()
    }

    /// Writes to `fresh` from now on.
    pub(super) fn take_file(&mut self, fresh: File) {
        let Output::File(old) = &mut self.main else { return };
        let flushed = old.flush();
        let Output::File(old) = mem::replace(&mut self.main, Output::file(fresh)) else { return };
        if flushed.is_err() {
            // A full disk, say: its lines go where there may be room. into_parts, because a drop would try the old.
            let (_, Ok(unwritten)) = old.into_parts() else { return };
            let written = self.main.write(b'6', &String::from_utf8_lossy(&unwritten));
            self.count(written);
        }
    }

    fn count(&mut self, written: Result<(), (io::Error, u64, u64)>) {
        if let Err((error, lines, bytes)) = written {
            self.account.lose(lines, bytes);
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complain_at.is_none_or(|at| at <= now) {
            self.complain_at = Some(now + COMPLAINT_EVERY);
            stdio::say(&format!("log lines cannot be written: {error}"));
        }
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
                    stdio::say(&format!(
                        "syslog cannot be reached ({error}); logging to stderr until it can. Is a syslog daemon \
                         listening on /dev/log? Else set `logfile` to a path or to stderr"
                    ));
                }
            }
        }
    }

    /// Sends `line` without its time, which syslog adds, an object as it is; to stderr, whole, where that is not possible.
    fn send(&mut self, severity: u8, line: &str) -> io::Result<()> {
        let text = line.split_once(' ').filter(|_| !line.starts_with('{')).map_or(line, |(_, text)| text);
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
