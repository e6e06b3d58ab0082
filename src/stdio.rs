//! What commands print: never a panic where a stream is full or closed, as `println!` and `eprintln!` have it.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use evergate_proto::opensrf::printable::Shown;

use crate::bounded::{self, Failed};

/// How long stderr may take a line.
const SAY_MAX: Duration = Duration::from_secs(1);

/// Somebody writes to stderr, and may never return.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Prints to stdout. Nothing is wrong when the reader has seen enough (`| head`); a full disk is an error that says so.
pub fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    judge(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// What an attempt to write to stdout means.
pub fn judge(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("stdout cannot be written to: {error}; give it a place that takes what is printed"))
        }
        _ => Ok(()),
    }
}

/// Says lines on stderr, each behind the program's name, in characters that show. Where nobody takes them, they are lost:
/// the exit code says the rest.
pub fn say(text: &str) {
    let lines: Vec<String> = text.lines().map(|line| format!("evergate: {}\n", Shown(line))).collect();
    on_stderr(move || {
        let _ = io::stderr().write_all(lines.concat().as_bytes());
    });
}

/// Writes to stderr by `write`, which is not waited for any longer when stderr is a pipe that nobody reads. While it hangs
/// there, nothing more is tried.
pub fn on_stderr(write: impl FnOnce() + Send + 'static) {
    if HANGS.swap(true, SeqCst) {
        return;
    }
    let outcome = bounded::within(SAY_MAX, move || {
        write();
        HANGS.store(false, SeqCst);
    });
    if matches!(outcome, Err(Failed::TooMany(_) | Failed::NoThread(_))) {
        HANGS.store(false, SeqCst);
    }
}
