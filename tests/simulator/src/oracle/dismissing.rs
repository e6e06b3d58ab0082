//! Connections that an operator ends: at their gap or at once.

use evergate_proto::clients::dismissing::Dismissal;

use super::Oracle;
use super::client::{Client, Stage};
use crate::tally::What;

impl Oracle {
    /// Which of those that have had it has the slot, or is the next to have it.
    pub fn generation(&self, slot: u32) -> u32 {
        self.generations.get(slot as usize).copied().unwrap_or(0)
    }

    /// An operator asks for the end of a connection; what he must be told.
    pub fn dismiss(&mut self, slot: u32, generation: u32, now: bool) -> Dismissal {
        self.tally.one(What::dismissed);
        self.tally.add(What::dismissed_in_drain, usize::from(self.drain.is_some()));
        if generation < self.generation(slot) {
            self.tally.one(What::dismissed_stale);
            return Dismissal::Ended;
        }
        if generation > self.generation(slot) {
            return Dismissal::Unknown;
        }
        let dismissed = self.with(slot, |o, c| match c.stage {
            Stage::Open if now => {
                o.tally.one(What::closed_by_operator);
                o.close(c, 1001);
                Dismissal::Closing
            }
            Stage::Open => {
                c.is_dismissed = true;
                Dismissal::AtGap
            }
            Stage::Handshake => {
                o.refuse(c, 503);
                Dismissal::Closing
            }
            Stage::Closing { .. } | Stage::Gone => Dismissal::Closing,
        });
        dismissed.unwrap_or(Dismissal::Unknown)
    }

    /// From when on a client may be closed because an operator asked for it.
    pub(super) fn dismissible_from(&self, c: &Client) -> Option<u64> {
        c.gap_since().filter(|_| c.is_dismissed).map(|since| since + self.rules.quiet_ms)
    }

    /// An open client has been looked at: whether it is closed for that reason.
    pub(super) fn close_dismissed(&mut self, c: &mut Client) -> bool {
        let now = self.now;
        let closes = self.dismissible_from(c).is_some_and(|from| now >= from);
        if closes {
            self.tally.one(What::closed_by_operator);
            self.close(c, 1012);
        }
        closes
    }
}
