//! Calls that may never return, and are waited for no longer than a limit: a FIFO that nobody opens, a disk that hangs.
//!
//! May use: threads. May never: run on a core, which waits for nobody. The thread that hears signals uses it wherever a
//! file, a name or a stream of others is in question.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{fmt, io, thread};

use crate::process::signals;

/// How long a file may take to be opened, read or made.
pub const FILE_MAX: Duration = Duration::from_secs(5);

/// Calls under way at a time. What hangs, hangs for ever: who asks again and again (SIGHUP) is refused from here on.
const CALLS_MAX: usize = 16;

/// How many are under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Why there is no result.
#[derive(Debug)]
pub enum Failed {
    /// The limit has passed. The call goes on, for nobody.
    Late(Duration),
    /// So many calls of before have not returned yet.
    TooMany(usize),
    /// The host gives no thread.
    NoThread(io::Error),
    /// It panicked.
    Panicked,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(limit) => write!(
                f,
                "nothing came of it within {} s, as with a FIFO that has no other end, or a disk that hangs",
                limit.as_secs()
            ),
            Self::TooMany(calls) => write!(f, "not tried, for {calls} calls of before hang still"),
            Self::NoThread(error) => write!(f, "no thread can be started: {error}"),
            Self::Panicked => f.write_str("the thread that tried it panicked"),
        }
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        let kind = if matches!(failed, Failed::Late(_)) { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        Self::new(kind, failed.to_string())
    }
}

/// Counts a call, from before its thread is started until it has returned.
struct Place;

impl Place {
    fn take() -> Result<Self, Failed> {
        if UNDER_WAY.fetch_add(1, SeqCst) >= CALLS_MAX {
            UNDER_WAY.fetch_sub(1, SeqCst);
            return Err(Failed::TooMany(CALLS_MAX));
        }
        Ok(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, SeqCst);
    }
}

/// What `call` returns, if it does so within `limit`.
pub fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    within_or(limit, call, drop)
}

/// The same; what comes later is given to `undo`, on the call's own thread.
pub fn within_or<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
    undo: impl FnOnce(T) + Send + 'static,
) -> Result<T, Failed> {
    let place = Place::take()?;
    let (sender, receiver) = channel();
    spawn("bounded", move || {
        let _place = place;
        if let Err(unwanted) = sender.send(call()) {
            undo(unwanted.0);
        }
    })
    .map_err(Failed::NoThread)?;
    wait(&receiver, limit)
}

/// What a thread sends, if it does so within `limit`.
pub fn wait<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, Failed> {
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => Failed::Late(limit),
        RecvTimeoutError::Disconnected => Failed::Panicked,
    })
}

/// A thread that receives none of the signals: those are the main thread's alone.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    signals::blocked(|| thread::Builder::new().name(name.to_owned()).spawn(run)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_returns_in_time_is_heard_and_one_that_does_not_is_undone() {
        assert_eq!(within(FILE_MAX, || 7).expect("it returns at once"), 7);
        let ((open, gate), (undone, was_undone)) = (channel::<()>(), channel());
        let late = within_or(
            Duration::from_millis(1),
            move || gate.recv().is_ok(),
            move |_| undone.send(()).expect("somebody waits"),
        );
        assert!(matches!(late, Err(Failed::Late(_))), "{late:?}");
        open.send(()).expect("it still waits");
        was_undone.recv_timeout(FILE_MAX).expect("what comes too late is undone");
        assert!(matches!(within(FILE_MAX, || panic!("on purpose")), Err(Failed::Panicked)));
    }
}
