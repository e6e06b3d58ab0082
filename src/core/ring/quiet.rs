//! Sends of which the kernel tells only where they did not go whole.
//!
//! With `MSG_WAITALL` what is short has failed, with `MSG_DONTWAIT` nothing waits, and with `IOSQE_CQE_SKIP_SUCCESS` only
//! a failure completes: so the kernel has told of all that has not gone whole when it returns from the entry that
//! submitted it, and what it has not told of has gone.

use std::collections::{HashSet, VecDeque};

use evergate_proto::ring::{Kind, Op};
use io_uring::{cqueue, squeue};
use rustc_hash::FxBuildHasher;

/// The flags of such a send, and of its entry.
pub(super) const MESSAGE_FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;
pub(super) const ENTRY_FLAGS: squeue::Flags = squeue::Flags::SKIP_SUCCESS;

/// Those that are under way, or have gone and nobody has asked yet.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Queued, and not told of; with their bytes.
    sends: Vec<(Op, u32)>,
    /// Gone.
    gone: VecDeque<(Op, u32)>,
    /// How many of these may be asked for.
    due: usize,
    /// Memory for those of which the kernel has told.
    told: HashSet<u64, FxBuildHasher>,
}

impl Quiet {
    /// One is queued.
    pub fn push(&mut self, op: Op, bytes: u32) {
        self.sends.push((op, bytes));
    }

    /// The kernel has told of these: what is a send among them has failed, or is none of ours.
    pub fn told(&mut self, entries: &[cqueue::Entry]) {
        if self.sends.is_empty() {
            return;
        }
        let is_send =
            |bits: &u64| Op::from_bits(*bits).is_some_and(|op| matches!(op.kind, Kind::Send | Kind::LinkSend));
        self.told.extend(entries.iter().map(cqueue::Entry::user_data).filter(is_send));
        if !self.told.is_empty() {
            self.sends.retain(|(op, _)| !self.told.contains(&op.to_bits()));
            // Their names may be those of others by the next time.
            self.told.clear();
        }
    }

    /// All are submitted, and the kernel has told all that it will.
    pub fn submitted(&mut self) {
        self.gone.extend(self.sends.drain(..));
    }

    /// Whether some have gone of which nobody has asked.
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// From now on those may be asked for that have gone.
    pub fn begin(&mut self) {
        self.due = self.gone.len();
    }

    /// One that has gone and may be asked for.
    pub fn next(&mut self) -> Option<(Op, u32)> {
        self.due = self.due.checked_sub(1)?;
        self.gone.pop_front()
    }

    /// One that has gone, whether it may be asked for or not.
    pub fn take(&mut self) -> Option<(Op, u32)> {
        self.gone.pop_front()
    }
}
