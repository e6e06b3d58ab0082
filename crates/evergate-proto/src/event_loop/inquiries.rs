//! What other threads ask of a core's clients: who is there, and that one of them goes.

use super::{EventLoop, Host};
use crate::clients::census::{Filter, Found};
use crate::clients::dismissing::Dismissal;
use crate::clients::output::SlotIndex;
use crate::ring::Ring;

/// A question, or a wish.
#[derive(Clone, Debug)]
pub enum Inquiry {
    /// Who is there.
    Find {
        /// Who is meant.
        filter: Filter,
        /// The first slot.
        from: SlotIndex,
        /// So many are enough.
        most: usize,
    },
    /// That a connection ends.
    Dismiss {
        /// Its slot.
        slot: SlotIndex,
        /// Which of those that have had the slot.
        generation: u32,
        /// At once, whatever is under way; else at its gap.
        now: bool,
    },
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Inquiry::Find`].
    Found(Found),
    /// To [`Inquiry::Dismiss`].
    Dismissed(Dismissal),
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Answers one inquiry, if there is any: a tick has time for so much, and whoever asks wakes the core.
    pub(super) fn answer(&mut self) {
        let answer = match self.host.inquiry() {
            None => return,
            Some(Inquiry::Find { filter, from, most }) => Answer::Found(self.clients.find(&filter, from, most)),
            Some(Inquiry::Dismiss { slot, generation, now }) => {
                let dismissal = self.clients.dismiss(slot, generation, now);
                self.carry_out();
                Answer::Dismissed(dismissal)
            }
        };
        self.host.answer(answer);
    }
}
