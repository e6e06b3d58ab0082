//! The runtime of the calling thread: monoio on an `io_uring` of its own.

use std::io;

use monoio::{IoUringDriver, Runtime, RuntimeBuilder, time::TimeDriver};

/// Entries of the submission queue; a full one is submitted early, nothing is lost.
const ENTRIES: u32 = 1024;

/// Builds it, with the flags of the gateway's own cores: a host that can run one can run the other.
pub fn build() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut ring = io_uring_monoio::IoUring::<io_uring_monoio::squeue::Entry>::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
    RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring).enable_timer().build()
}
