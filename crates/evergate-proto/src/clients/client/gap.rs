//! When a client is at a gap: a close takes nothing from it.
//!
//! As a rule it pauses by itself: nothing of its is under way, and nothing has been for a while. One that never pauses is made to
//! by a drain: from half of the time on nothing more is read of it. What it was relayed is answered and delivered; then what it has
//! said since was not relayed, and is discarded behind the Close as what crosses it is.

use super::super::context::Context;
use super::{Class, Client, Stage};
use crate::drain::Drain;

impl Client {
    /// Since when the client has been at an idle gap; `None` while it is not, or may not be: of one that is not read from, a
    /// request may have come, and what was not looked at since it was sent may not have arrived.
    pub(in crate::clients) fn gap_since_ms(&self) -> Option<u64> {
        (self.class() == Some(Class::Idle) && self.decoder.is_clean() && self.outbound.is_delivered())
            .then_some(self.times.activity.ms())
    }

    /// When it will have been quiet for long enough to be closed, ms; `None` while it is at no gap of its own.
    pub(in crate::clients) fn quiet_from_ms(&self, cx: &Context) -> Option<u64> {
        self.gap_since_ms().map(|since_ms| cx.limits.quiet_at_ms(since_ms))
    }

    /// Whether nothing more is read of it because a drain is half over. One that has a session, or asks for one, is read from: only
    /// it can end that. So is one amid a message that it began before, until that is whole.
    pub(in crate::clients) fn is_silenced(&self, cx: &Context) -> bool {
        cx.drain.as_ref().is_some_and(Drain::is_half_over)
            && matches!(self.stage, Stage::Open)
            && self.book.sessions() == 0
            && self.book.connecting() == 0
            && self.times.message_since.is_none()
    }

    /// Whether nothing but its silence keeps it from being read from, and it has said nothing since: what is no message is heard. Who
    /// waits for a long reply shows with pings that it is there, and goes where they are not answered.
    pub(in crate::clients) fn is_only_silenced(&self, cx: &Context) -> bool {
        self.is_silenced(cx) && !self.is_paused() && self.has_room(cx) && self.decoder.is_clean()
    }

    /// Whether it is at a gap, of its own or forced.
    pub(in crate::clients) fn is_at_gap(&self, cx: &Context) -> bool {
        self.is_at_forced_gap(cx) || self.gap_since_ms().is_some()
    }

    /// Nothing more is read of it, and all that was relayed is answered and delivered.
    fn is_at_forced_gap(&self, cx: &Context) -> bool {
        self.is_silenced(cx) && self.book.pending() == 0 && self.book.backlog() == 0 && self.outbound.is_delivered()
    }

    /// From when on a drain may close it, ms; `None` while it may not. Who may not speak is quiet.
    pub(in crate::clients) fn closable_from_ms(&self, cx: &Context) -> Option<u64> {
        cx.drain.as_ref()?;
        if self.is_at_forced_gap(cx) {
            return Some(cx.now_ms);
        }
        self.quiet_from_ms(cx)
    }

    /// Whether a drain may close it now.
    pub(in crate::clients) fn is_closable(&self, cx: &Context) -> bool {
        self.closable_from_ms(cx).is_some_and(|from_ms| cx.now_ms >= from_ms)
    }
}
