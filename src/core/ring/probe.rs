//! What this kernel's io_uring has beyond Linux 6.1, and why there may be no ring.

use std::{fmt, io};

use io_uring::Parameters;

/// What newer kernels do better. Without any of it the ring works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    /// One wait gathers completions for a while, then takes what has come (Linux 6.12).
    pub min_wait: bool,
    /// A wait does not count as I/O wait: load average and pressure stay true (Linux 6.15).
    pub no_iowait: bool,
}

impl Features {
    /// Of the ring that was set up with `parameters`.
    pub fn of(parameters: &Parameters) -> Self {
        Self { min_wait: parameters.is_feature_min_timeout(), no_iowait: parameters.is_feature_no_iowait() }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min_wait = if self.min_wait { "gathers in one wait" } else { "gathers in two waits (Linux 6.12: one)" };
        let iowait = if self.no_iowait { "waits as idle" } else { "waits as I/O wait (Linux 6.15: as idle)" };
        write!(formatter, "{min_wait}, {iowait}")
    }
}

/// Why a core has no ring.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    step: &'static str,
    /// What the kernel said.
    why: io::Error,
}

impl Refused {
    pub(super) fn at(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |why| Self { step, why }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match self.why.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "io_uring is disabled (kernel.io_uring_disabled) or a filter refuses it (seccomp, SELinux)"
            }
            Some(libc::ENOSYS) => "this kernel has no io_uring, or a seccomp filter hides it",
            Some(libc::EINVAL) => "Linux 6.1 or later is needed, and no sandbox that stands in for it",
            Some(libc::ENOMEM) => "raise the limit of locked memory (LimitMEMLOCK= in the unit, ulimit -l)",
            Some(libc::EMFILE | libc::ENFILE) => "raise the limit of descriptors (LimitNOFILE= in the unit, ulimit -n)",
            _ => "see the manual page of the call",
        };
        write!(formatter, "{}: {}; {remedy}; `evergate check` tells more", self.step, self.why)
    }
}

impl std::error::Error for Refused {}
