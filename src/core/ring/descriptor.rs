//! The way into the kernel: the ring's descriptor, registered with itself, so that no call has to look it up.
#![expect(unsafe_code, reason = "the crate's `Submitter` forgets the registration when it is dropped")]

use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use evergate_proto::ring::Errno;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring};

/// `IORING_REGISTER_RING_FDS`.
const REGISTER: libc::c_uint = 20;
/// `IORING_UNREGISTER_RING_FDS`.
const UNREGISTER: libc::c_uint = 21;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Update {
    /// The place; `u32::MAX` for any, which the kernel then writes here.
    offset: u32,
    reserved: u32,
    /// The descriptor.
    data: u64,
}

/// How an entry into the kernel waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Until {
    /// Completions that end the wait; with 0 there is none.
    pub completions: u32,
    /// From then on any completion ends it, µs; 0: never.
    pub least_us: u32,
    /// The longest wait.
    pub most: Duration,
}

/// The descriptor, as a call names it.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// The descriptor itself.
    fd: RawFd,
    /// Its place among those that this thread has registered.
    registered: Option<RawFd>,
    /// What every entry is flagged with.
    flags: EnterFlags,
}

impl Descriptor {
    /// Of `ring`, registered if this thread has room for it (it has 16). Waits count as I/O wait or (`no_iowait`) do
    /// not.
    pub fn new(ring: &IoUring, no_iowait: bool) -> Self {
        let fd = ring.as_raw_fd();
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        flags.set(EnterFlags::NO_IOWAIT, no_iowait);
        let mut update = Update { offset: u32::MAX, reserved: 0, data: u64::from(fd.cast_unsigned()) };
        let registered = (register(fd, REGISTER, &mut update) == 1).then_some(update.offset.cast_signed());
        flags.set(EnterFlags::REGISTERED_RING, registered.is_some());
        Self { fd, registered, flags }
    }

    /// Whether calls name the registered place.
    pub fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// Submits `queued` entries, runs what the kernel has put off until now, and waits.
    ///
    /// # Safety
    ///
    /// What the queued entries point at lives and stays where it is until their completions.
    pub unsafe fn enter(&self, queued: u32, until: Until) -> Result<u32, Errno> {
        let most = Timespec::from(until.most);
        let mut arguments = SubmitArgs::new();
        if until.completions > 0 {
            arguments = arguments.timespec(&most).min_wait_usec(until.least_us);
        }
        let fd = self.registered.unwrap_or(self.fd);
        // SAFETY: the arguments, and the time in them, outlive the call; of the entries the caller says so.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                queued,
                until.completions,
                self.flags.bits(),
                &raw const arguments,
                size_of::<SubmitArgs>(),
            )
        };
        u32::try_from(submitted).map_err(|_| Errno(nix::errno::Errno::last_raw()))
    }

    /// Lets go of the registration, which would keep the ring alive as long as the thread.
    pub fn unregister(&mut self) {
        let Some(place) = self.registered.take() else { return };
        self.flags.remove(EnterFlags::REGISTERED_RING);
        register(self.fd, UNREGISTER, &mut Update { offset: place.cast_unsigned(), reserved: 0, data: 0 });
    }
}

fn register(fd: RawFd, what: libc::c_uint, update: &mut Update) -> libc::c_long {
    // SAFETY: one update of the layout that both calls want, which outlives them.
    unsafe { libc::syscall(libc::SYS_io_uring_register, fd, what, update, 1) }
}
