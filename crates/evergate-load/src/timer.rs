//! A timer of microseconds: the runtime's own has steps of one millisecond, which is longer than many a latency.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio_uring::fs::File;

/// Bytes that the kernel gives at the end: how often the time has passed.
const EXPIRATIONS_BYTES: usize = 8;

/// A timer that one task waits for.
pub struct Timer {
    /// Where it is set.
    descriptor: TimerFd,
    /// The same, where the ring waits for it.
    file: File,
    /// What the ring reads into.
    buffer: Vec<u8>,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        let descriptor = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let file = File::from_std(fs::File::from(descriptor.as_fd().try_clone_to_owned()?));
        Ok(Self { descriptor, file, buffer: Vec::with_capacity(EXPIRATIONS_BYTES) })
    }

    /// Waits for so long.
    pub async fn wait(&mut self, time: Duration) -> io::Result<()> {
        // Zero would unset it, and the wait would have no end.
        let time = TimeSpec::from_duration(time.max(Duration::from_nanos(1)));
        self.descriptor.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
        let buffer = std::mem::take(&mut self.buffer);
        let (result, buffer) = self.file.read_at(buffer, 0).await;
        self.buffer = buffer;
        result.map(|_| ())
    }
}
