//! The thread that writes: the only one that may wait for a disk, a pipe or a syslog daemon.

use std::fmt::Write as _;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use evergate_proto::opensrf::activity::Format;

use super::line::Marks;
use super::queue::{Entry, Figures, Queued};
use super::repeats::Repeats;
use super::sink::Sink;

/// Between two lines about lines that were lost, where the writer does not catch up.
const LOSS_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Writer {
    queued: Queued,
    sink: Sink,
    repeats: Repeats,
    /// The losses that the log has been told of, and when.
    told: (Figures, Option<Instant>),
    marks: Marks,
}

impl Writer {
    pub(super) fn new(queued: Queued, sink: Sink, marks: Marks) -> Self {
        Self { queued, sink, repeats: Repeats::new(marks.format), told: (Figures::default(), None), marks }
    }

    /// Writes until nobody can log any more.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.due() {
                None => self.queued.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => self.queued.receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(entry) => self.write(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.catch_up(true),
            }
            while let Ok(entry) = self.queued.receiver.try_recv() {
                self.write(entry);
            }
            self.catch_up(false);
        }
    }

    fn write(&mut self, entry: Entry) {
        match entry {
            Entry::Line { severity, said: (from, to), text } => {
                let now = Instant::now();
                if self.repeats.admits(now, severity, text.get(from..to).unwrap_or(&text)) {
                    self.sink.message(severity, &text);
                }
                self.queued.free(&text);
                self.tell_of_losses(now);
            }
            Entry::Activity(lines) => {
                self.sink.activity(&lines);
                self.queued.free(&lines);
            }
            Entry::File(file, taken) => {
                self.sink.take_file(file);
                let _ = taken.send(());
            }
            Entry::Flush(done) => {
                self.catch_up(true);
                let _ = done.send(());
            }
        }
    }

    /// All that was queued is written. Says what is due, at the `end` all.
    fn catch_up(&mut self, end: bool) {
        let now = Instant::now();
        for (severity, said) in self.repeats.take(now, end) {
            self.say(severity, &said);
        }
        if self.sink.flush() {
            self.tell_of_losses(now);
            self.sink.flush();
        } else {
            self.told.1 = Some(now);
        }
    }

    /// When there is something to say though nothing comes.
    fn due(&self) -> Option<Instant> {
        let (told, at) = self.told;
        let untold = self.queued.account.figures().lines_lost > told.lines_lost;
        let loss = untold.then(|| at.map_or_else(Instant::now, |at| at + LOSS_EVERY));
        self.repeats.due().into_iter().chain(loss).min()
    }

    /// Says what was lost since it was last said: here the log takes lines again.
    fn tell_of_losses(&mut self, now: Instant) {
        let (told, at) = self.told;
        let lost = self.queued.account.figures();
        if lost.lines_lost == told.lines_lost || at.is_some_and(|at| now < at + LOSS_EVERY) {
            return;
        }
        self.told = (lost, Some(now));
        let mut line = String::new();
        self.marks.begin(&mut line, "WARN ", "\x1b[33m", "log");
        let (lines, bytes) = (lost.lines_lost - told.lines_lost, lost.bytes_lost - told.bytes_lost);
        let message = format!(
            "{lines} lines, {bytes} bytes, are missing here: the log took them too slowly (log_queue_bytes_max), or not at all; {} \
             lines in all",
            lost.lines_lost
        );
        let _ = match self.marks.format {
            Format::Text => line.write_str(&message),
            Format::Json => write!(line, ",\"message\":\"{message}\",\"lines_lost\":{lines},\"bytes_lost\":{bytes}"),
        };
        self.say(b'4', line.trim_start());
    }

    fn say(&mut self, severity: u8, said: &str) {
        let mut line = String::new();
        self.marks.begin_at(&mut line);
        // Writing to a String cannot fail.
        let _ = match self.marks.format {
            Format::Text => writeln!(line, " {said}"),
            Format::Json => writeln!(line, "{said}}}"),
        };
        self.sink.message(severity, &line);
    }
}
