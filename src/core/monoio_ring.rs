//! monoio's ring: io_uring for one issuer, with completions reaped when the core asks for them.

use std::io;

use monoio::{IoUringDriver, Runtime, RuntimeBuilder, time::TimeDriver};

/// Entries of the submission queue; a full one is submitted early, nothing is lost.
const ENTRIES: u32 = 4096;

/// Builds the runtime of the calling thread. `SINGLE_ISSUER` and `DEFER_TASKRUN` need Linux 6.1.
pub fn build() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut ring = io_uring_monoio::IoUring::<io_uring_monoio::squeue::Entry>::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
    RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring).enable_timer().build()
}
