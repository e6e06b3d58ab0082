//! The way from the threads that log to the one that writes, bounded by bytes: what does not fit is dropped and counted.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What an entry of the queue takes besides its text, bytes.
const ENTRY_BYTES: usize = 64;

/// What is queued.
#[derive(Debug)]
pub(super) enum Entry {
    /// One line with its end.
    Line {
        /// Its severity's number, as a character.
        severity: u8,
        /// Where its time ends and what was said begins, and where that ends and its fields begin.
        said: (usize, usize),
        /// All of it.
        text: String,
    },
    /// Lines of activity, each with its end.
    Activity(String),
    /// A file to write to from here on; who sent it hears when no other is written to any more.
    File(File, Sender<()>),
    /// All is to be written now; who sent it hears when it is.
    Flush(Sender<()>),
}

/// What the writer, the threads that log and the metrics know of each other.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Bytes that wait for the writer.
    bytes: AtomicUsize,
    /// Times that something did not fit.
    full: AtomicU64,
    /// Lines lost: they did not fit, or could not be written.
    lines_lost: AtomicU64,
    /// Their bytes.
    bytes_lost: AtomicU64,
}

impl Account {
    /// Counts lines that are lost.
    pub(super) fn lose(&self, lines: u64, bytes: u64) {
        self.lines_lost.fetch_add(lines, Relaxed);
        self.bytes_lost.fetch_add(bytes, Relaxed);
    }

    /// As they are now.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            queued_bytes: self.bytes.load(Relaxed) as u64,
            full: self.full.load(Relaxed),
            lines_lost: self.lines_lost.load(Relaxed),
            bytes_lost: self.bytes_lost.load(Relaxed),
        }
    }
}

/// How the log fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Times that `log_queue_bytes_max` was hit.
    pub full: u64,
    /// Lines lost so far: the queue was full, or they could not be written.
    pub lines_lost: u64,
    /// Their bytes.
    pub bytes_lost: u64,
}

/// The way to the writer thread.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: Sender<Entry>,
    account: Arc<Account>,
    /// What may wait, bytes.
    bytes_max: usize,
}

impl Queue {
    /// The two ends.
    pub(super) fn new(bytes_max: usize) -> (Self, Queued) {
        let (sender, receiver) = channel();
        let account = Arc::<Account>::default();
        (Self { sender, account: Arc::clone(&account), bytes_max }, Queued { receiver, account })
    }

    /// Queues one line.
    pub(super) fn line(&self, severity: u8, said: (usize, usize), text: &str) {
        self.send(text, 1, |text| Entry::Line { severity, said, text });
    }

    /// Queues so many lines of activity.
    pub(super) fn activity(&self, text: &str, lines: u64) {
        self.send(text, lines, Entry::Activity);
    }

    fn send(&self, text: &str, lines: u64, entry: impl FnOnce(String) -> Entry) {
        let bytes = text.len() + ENTRY_BYTES;
        if self.account.bytes.fetch_add(bytes, Relaxed) + bytes > self.bytes_max {
            self.account.bytes.fetch_sub(bytes, Relaxed);
            self.account.full.fetch_add(1, Relaxed);
            self.account.lose(lines, text.len() as u64);
            return;
        }
        // Without a writer there is nobody to tell.
        let _ = self.sender.send(entry(text.to_owned()));
    }

    /// Queues what is no line. It takes no room.
    pub(super) fn order(&self, entry: Entry) {
        let _ = self.sender.send(entry);
    }

    /// How the log fares.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Queued {
    /// In the order in which they came.
    pub(super) receiver: Receiver<Entry>,
    pub(super) account: Arc<Account>,
}

impl Queued {
    /// An entry has been dealt with: its room is free.
    pub(super) fn free(&self, text: &str) {
        self.account.bytes.fetch_sub(text.len() + ENTRY_BYTES, Relaxed);
    }
}
