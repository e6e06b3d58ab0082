//! What a core has given to the bus and nobody has answered: Redis holds it, and Redis is the site's. All of it is counted
//! here, against the core and against the address that it came from. Answered is a message about which anything has come.

use std::ops::{AddAssign, SubAssign};

use super::addresses::{Addresses, Place};
use super::limits::Limits;
use super::orphans::{Orphan, Orphans};
use crate::counters::Limit;
use crate::opensrf::address::BusThread;

/// Messages without an answer, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// Messages: each an envelope of a client's.
    pub messages: u32,
    /// Bytes of them on the bus.
    pub bytes: u64,
}

impl AddAssign for Unanswered {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Unanswered {
    fn sub_assign(&mut self, less: Self) {
        self.messages -= less.messages;
        self.bytes -= less.bytes;
    }
}

/// Who may give more to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Everybody.
    All,
    /// Who has nothing unanswered: whoever fills the bus does not silence the others.
    Newcomers,
    /// Nobody.
    Nobody,
}

/// That of a core.
#[derive(Debug, Default)]
pub struct Outstanding {
    /// All of it, orphans included.
    total: Unanswered,
    orphans: Orphans,
    /// Something was answered since this was asked last.
    freed: bool,
    /// Where clients come from.
    pub addresses: Addresses,
}

impl Outstanding {
    /// All that nobody has answered.
    pub fn total(&self) -> Unanswered {
        self.total
    }

    /// Whether something was answered since this was asked last.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// There may be room again.
    pub(super) fn set_freed(&mut self) {
        self.freed = true;
    }

    /// Whether the next tick looks who may give more.
    #[cfg(feature = "simulator")]
    pub(super) fn is_freed(&self) -> bool {
        self.freed
    }

    /// Messages of it that no client waits for.
    pub fn orphans(&self) -> u64 {
        self.orphans.messages()
    }

    /// Who may give more.
    pub(super) fn room(&self, limits: &Limits) -> Room {
        let of = |is: u64, max: u64| match is {
            _ if is < max => Room::All,
            _ if is < max.saturating_mul(2) => Room::Newcomers,
            _ => Room::Nobody,
        };
        let messages = of(self.total.messages.into(), limits.bus_unanswered_max as u64);
        messages.max(of(self.total.bytes, limits.bus_unanswered_bytes_max))
    }

    /// Which limit is the reason that there is no room for all.
    pub(super) fn limit(&self, limits: &Limits) -> Limit {
        if self.total.messages as usize >= limits.bus_unanswered_max {
            Limit::bus_unanswered_max
        } else {
            Limit::bus_unanswered_bytes_max
        }
    }

    /// The bus was given something of this address.
    pub(super) fn gave(&mut self, place: Place, given: Unanswered) {
        self.total += given;
        self.addresses.gave(place, given);
    }

    /// Something has come about it, or the bus has it no more.
    pub(super) fn answered(&mut self, place: Place, answered: Unanswered) {
        self.total -= answered;
        self.freed = true;
        self.addresses.answered(place, answered);
    }

    /// Nobody waits for it any more; the bus has it still, as far as is known, until `until_ms`.
    pub(super) fn orphaned(&mut self, thread: BusThread, place: Place, unanswered: Unanswered, until_ms: u64) {
        self.addresses.orphaned(place, unanswered);
        self.orphans.insert(thread, Orphan { place, unanswered, until_ms });
    }

    /// Something has come about a conversation: its orphans have ended, if it has any, as this says.
    pub(super) fn end_orphan(&mut self, thread: BusThread, now_ms: u64) -> bool {
        let orphan = self.orphans.remove(thread);
        orphan.inspect(|orphan| self.ended(*orphan, now_ms)).is_some()
    }

    /// Redis came back empty.
    pub(super) fn end_all_orphans(&mut self, now_ms: u64) {
        while let Some(orphan) = self.orphans.take_any() {
            self.ended(orphan, now_ms);
        }
    }

    /// Forgets what is too old.
    pub(super) fn tick(&mut self, now_ms: u64) {
        while let Some(orphan) = self.orphans.take_old(now_ms) {
            self.ended(orphan, now_ms);
        }
    }

    fn ended(&mut self, orphan: Orphan, now_ms: u64) {
        self.total -= orphan.unanswered;
        self.freed = true;
        self.addresses.orphans_ended(orphan.place, orphan.unanswered, now_ms);
    }
}
