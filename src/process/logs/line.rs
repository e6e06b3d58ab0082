//! From an event to a queued line, on the thread that logs: no lock, no wait, no system call but the clock's.
//!
//! `2026-01-31T23:59:59.999Z INFO  core: message name=value`; in a file the process stands before the target, as `[1234]`. As JSON it is
//! an object (`json`).

use std::cell::Cell;
use std::fmt::{self, Debug, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use evergate_proto::opensrf::activity::Format;
use evergate_proto::opensrf::printable::{escape, split};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};

use super::filter;
use super::json::{self, Members};
use super::queue::Queue;

/// A line's greatest length, bytes, as that of an activity line; the rest is cut.
pub(super) use evergate_proto::opensrf::activity::LINE_BYTES_MAX;

thread_local! {
    /// The line under construction, kept for its capacity. Taken while in use: a field's `Debug` may log as well.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// The layer that prints.
pub(super) struct Lines {
    /// A [`crate::config::LogLevel`], set by the main thread.
    level: Arc<AtomicU8>,
    queue: Queue,
    marks: Marks,
}

/// What stands between the time and the target of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The level is coloured.
    pub colour: bool,
    /// The process, where several may write to one file: one that drains, and its successor. journald and syslog know it.
    pub process: Option<u32>,
    /// Text, or JSON.
    pub format: Format,
}

impl Marks {
    /// Appends what stands between the beginning of a line and its message, for a line that begins with its time. As JSON it is what
    /// stands behind the time.
    pub(super) fn begin(self, line: &mut String, level: &str, colour: &str, target: &str) {
        match self.format {
            Format::Json => json::begin(line, level, self.process.unwrap_or_default(), target),
            Format::Text => {
                self.print(line, level, colour);
                let _ = write!(line, "{target}: ");
            }
        }
    }

    /// Appends the beginning of a line, up to the time of now.
    pub(super) fn begin_at(self, line: &mut String) {
        match self.format {
            Format::Text => print_time(line),
            Format::Json => {
                line.push_str("{\"time\":\"");
                print_time(line);
                line.push('"');
            }
        }
    }

    /// Bytes between the time and what is said.
    fn space(self) -> usize {
        usize::from(self.format == Format::Text)
    }

    /// Appends them: the level by its name of five characters, its colour as the terminal takes it.
    fn print(self, line: &mut String, level: &str, colour: &str) {
        let (colour, plain) = if self.colour { (colour, "\x1b[0m") } else { ("", "") };
        let _ = write!(line, " {colour}{level}{plain} ");
        if let Some(process) = self.process {
            let _ = write!(line, "[{process}] ");
        }
    }
}

impl Lines {
    pub(super) fn new(level: Arc<AtomicU8>, queue: Queue, marks: Marks) -> Self {
        Self { level, queue, marks }
    }

    fn prints(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= filter(self.level.load(Relaxed))
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Never "sometimes": tracing then asks nobody at the call site, and set_level rebuilds its answers.
        if self.prints(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.prints(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter(self.level.load(Relaxed)))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        let (severity, said) = self.print(event, &mut line);
        self.queue.line(severity, said, &line);
        let _ = LINE.try_with(|kept| kept.set(line));
    }
}

impl Lines {
    /// Prints the line; its severity's number, and from where to where it says what is the case.
    fn print(&self, event: &Event<'_>, line: &mut String) -> (u8, (usize, usize)) {
        let metadata = event.metadata();
        let (severity, name, colour) = match *metadata.level() {
            Level::ERROR => (b'3', "ERROR", "\x1b[31m"),
            Level::WARN => (b'4', "WARN ", "\x1b[33m"),
            Level::INFO => (b'6', "INFO ", "\x1b[32m"),
            Level::DEBUG => (b'7', "DEBUG", "\x1b[34m"),
            Level::TRACE => (b'7', "TRACE", "\x1b[35m"),
        };
        self.marks.begin_at(line);
        let from = line.len() + self.marks.space();
        let target = metadata.target();
        self.marks.begin(line, name, colour, target.strip_prefix("evergate::").unwrap_or(target));
        let to = match self.marks.format {
            Format::Json => {
                let mut members = Members::new(line);
                event.record(&mut members);
                members.end()
            }
            Format::Text => {
                let mut text = Text { line, cut: false, said: None };
                event.record(&mut text);
                let Text { cut, said, .. } = text;
                let to = said.unwrap_or(line.len());
                if cut {
                    line.push('…');
                }
                to
            }
        };
        line.push('\n');
        (severity, (from, to))
    }
}

/// Appends the time of now.
fn print_time(line: &mut String) {
    // It prints microseconds; milliseconds are read more easily and sort as well.
    if SystemTime.format_time(&mut Writer::new(line)).is_ok() && line.ends_with('Z') {
        line.truncate(line.len() - "456Z".len());
        line.push('Z');
    }
}

/// The part of the line that others wrote: only what shows gets through, and no more than fits.
struct Text<'a> {
    line: &'a mut String,
    /// Something did not fit.
    cut: bool,
    /// Where the first field ends, once it is printed: as a rule the message.
    said: Option<usize>,
}

impl Text<'_> {
    /// Appends what fits of `piece`, whole characters only; once something was cut, nothing more.
    fn push(&mut self, piece: &str) {
        let room = if self.cut { 0 } else { LINE_BYTES_MAX.saturating_sub(self.line.len()) };
        let fits = piece.floor_char_boundary(room);
        self.line.push_str(&piece[..fits]);
        self.cut |= fits < piece.len();
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while !self.cut {
            let (shown, hidden) = split(rest);
            self.push(shown);
            let Some((c, after)) = hidden else { break };
            let mut escaped = String::new();
            escape(&mut escaped, c)?;
            self.push(&escaped);
            rest = after;
        }
        // Never an error: some `Display` would panic on one.
        Ok(())
    }
}

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // `message` comes first, as the macros have it; its Debug is its text.
        if self.said.is_some() {
            self.push(" ");
        }
        if field.name() != "message" {
            self.push(field.name());
            self.push("=");
        }
        let _ = write!(self, "{value:?}");
        self.said.get_or_insert(self.line.len());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }
}
