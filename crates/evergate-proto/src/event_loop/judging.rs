//! Clients that are to be looked at before they are judged: whether all that they sent was heard, and how much they have yet to
//! acknowledge.

use super::{EventLoop, Host};
use crate::clients::output::SlotIndex;
use crate::ring::{Kind, Ring};

/// Who is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Judging {
    asked: Vec<SlotIndex>,
}

impl Judging {
    /// A client is to be looked at.
    pub fn ask(&mut self, slot: SlotIndex) {
        self.asked.push(slot);
    }

    /// Whether somebody is to be looked at.
    pub fn has_more(&self) -> bool {
        !self.asked.is_empty()
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Looks at those of whom all is heard that has come; at the others when the next turn has brought that.
    pub(super) fn judge(&mut self) {
        // What a look leads to may have others looked at.
        let mut left = Vec::new();
        while !self.judging.asked.is_empty() {
            for slot in std::mem::take(&mut self.judging.asked) {
                if self.is_heard(slot) {
                    self.look_at(slot);
                } else {
                    left.push(slot);
                }
            }
            self.carry_out();
        }
        self.judging.asked = left;
    }

    fn is_heard(&mut self, slot: SlotIndex) -> bool {
        let Some(connection) = self.connections.get(slot) else { return true };
        if connection.has_ended || self.clients.is_paused(slot) {
            return true;
        }
        // What was received may be on its way through the ring.
        let is_told = self.ring.is_told(connection.op(Kind::Receive, slot));
        !connection.is_held && self.batch.is_empty() && is_told && self.ring.unread(connection.socket) == 0
    }

    fn look_at(&mut self, slot: SlotIndex) {
        if let Some(connection) = self.connections.get(slot) {
            let unacknowledged = self.ring.unacknowledged(connection.socket);
            self.clients.looked(slot, unacknowledged);
        }
    }
}
