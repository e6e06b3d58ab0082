//! Who holds most of a core's bytes, so that a core which is out of them need not ask everybody.

use std::collections::BTreeSet;

use super::output::SlotIndex;

/// Who holds less is not listed, bytes: what comes and goes with each request must not be sorted.
const LISTED_BYTES_MIN: usize = if cfg!(feature = "simulator") { 1024 } else { 64 * 1024 };

/// What one client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    /// It is open: neither shaking hands nor closing.
    pub(super) open: bool,
    /// Its bytes.
    pub(super) bytes: usize,
}

/// The clients that hold much.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Open ones, by their bytes.
    open: BTreeSet<(usize, SlotIndex)>,
    /// The others.
    others: BTreeSet<(usize, SlotIndex)>,
    /// Bytes of all clients that are not open, listed or not.
    others_bytes: u64,
}

impl Holders {
    /// The client in `slot` held `was`, and holds `is` now.
    pub(super) fn changed(&mut self, slot: SlotIndex, was: Holding, is: Holding) {
        if was == is {
            return;
        }
        for (holding, here) in [(was, false), (is, true)] {
            let Holding { open, bytes } = holding;
            if !open {
                let others_bytes = self.others_bytes;
                self.others_bytes = if here { others_bytes + bytes as u64 } else { others_bytes - bytes as u64 };
            }
            let list = if open { &mut self.open } else { &mut self.others };
            if bytes < LISTED_BYTES_MIN {
                continue;
            }
            if here {
                list.insert((bytes, slot));
            } else {
                list.remove(&(bytes, slot));
            }
        }
    }

    /// Bytes of all clients that are not open.
    pub(super) fn others_bytes(&self) -> u64 {
        self.others_bytes
    }

    /// The open client that holds most, if one holds much.
    pub(super) fn largest_open(&self) -> Option<SlotIndex> {
        self.open.last().map(|(_, slot)| *slot)
    }

    /// Those that are not open and hold much, the largest first.
    pub(super) fn others(&self) -> impl Iterator<Item = SlotIndex> {
        self.others.iter().rev().map(|(_, slot)| *slot)
    }
}
