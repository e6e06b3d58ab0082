//! A connection that an operator ends: at its gap, as a drain would, or at once.
//!
//! At the gap nothing is lost, however long that takes to come: who never pauses stays until the operator has it closed at once.

use super::client::{Client, Stage};
use super::context::Context;
use super::output::{Severity, SlotIndex};
use super::table::Clients;
use crate::counters;
use crate::websocket::{CloseCode, handshake};

/// What a client is told whose connection an operator ends.
const TOLD: &str = "the operator of this gateway ends this connection; reconnect";

/// What became of the wish to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissal {
    /// It is closed at its next gap.
    AtGap,
    /// It is being closed, by this or for another reason.
    Closing,
    /// It has ended before.
    Ended,
    /// There has been no such connection.
    Unknown,
}

impl Clients {
    /// Ends the connection that is the `generation`th of `slot`: at its gap, or `now`.
    pub fn dismiss(&mut self, slot: SlotIndex, generation: u32, now: bool) -> Dismissal {
        let Some(place) = self.slots.get(slot as usize) else { return Dismissal::Unknown };
        // Generations wrap, but not within the lives of two connections.
        if place.generation != generation {
            let was = place.generation.wrapping_sub(generation) < u32::MAX / 2;
            return if was { Dismissal::Ended } else { Dismissal::Unknown };
        }
        // The next one of a slot that nobody has yet.
        self.with(slot, |client, cx| client.dismiss(cx, now)).unwrap_or(Dismissal::Unknown)
    }
}

impl Client {
    fn dismiss(&mut self, cx: &mut Context, now: bool) -> Dismissal {
        match &self.stage {
            Stage::Open if now => {
                self.close_now(cx);
                Dismissal::Closing
            }
            Stage::Open => {
                self.set_dismissed();
                Dismissal::AtGap
            }
            // These have nothing to lose. The first speaks no HTTP yet.
            Stage::ProxyHeader(_) => {
                self.stage = Stage::Gone;
                Dismissal::Closing
            }
            Stage::Handshake(_) => {
                self.refuse(cx, 503, &handshake::refuse(503, TOLD));
                Dismissal::Closing
            }
            Stage::Closing(_) | Stage::Gone => Dismissal::Closing,
        }
    }

    /// Closes it whatever is under way: not with 1012, for what it asked for may have been carried out, and must not be sent again
    /// unseen.
    fn close_now(&mut self, cx: &mut Context) {
        counters::add(&cx.counts().closed_by_operator, 1);
        if self.is_busy() {
            let line = format!("client {} was cut off by the operator: {}", self.address(), self.holds(cx));
            cx.output.log(Severity::Warn, line);
        }
        self.close(cx, CloseCode::GOING_AWAY, TOLD);
    }

    /// From when on it may be closed because an operator has asked for that, ms; `None` while it may not.
    pub(super) fn dismissible_from_ms(&self, cx: &Context) -> Option<u64> {
        if self.is_dismissed() { self.quiet_from_ms(cx) } else { None }
    }

    /// Whether it may be closed now for that reason.
    pub(super) fn is_dismissible(&self, cx: &Context) -> bool {
        self.dismissible_from_ms(cx).is_some_and(|from_ms| cx.now_ms >= from_ms)
    }

    /// It is at a gap, what had come was read: closes it if an operator has asked for that. Says whether it did.
    pub(super) fn leave_at_gap(&mut self, cx: &mut Context) -> bool {
        let leaves = self.is_dismissible(cx);
        if leaves {
            counters::add(&cx.counts().closed_by_operator, 1);
            self.close(cx, CloseCode::RESTART, TOLD);
        }
        leaves
    }
}
