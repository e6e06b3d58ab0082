//! How another thread ends the wait of a core.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Bytes that a read of an eventfd takes.
pub(super) const COUNT_BYTES: usize = 8;

/// Wakes one core, from any thread, also when the core is no more.
#[derive(Clone, Debug)]
pub struct Waker {
    /// Counts wakes; the ring has a read of it in flight, which takes all that have come as one.
    event: Arc<EventFd>,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // It blocks, for then a read through the ring waits on every kernel; a write would after 2^64 unread wakes.
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event: Arc::new(event) })
    }

    /// The core's wait ends, this one or the next. Never blocks; wakes that the core has not seen yet are one to it.
    pub fn wake(&self) {
        // It cannot fail: the descriptor is ours, and the count is far from its end.
        let _ = self.event.write(1);
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
