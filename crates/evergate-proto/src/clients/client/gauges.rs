//! The gauges of a core, brought up to date with one client at a time.

use super::super::context::Context;
use super::super::holders::Holding;
use super::super::times::Stamp;
use super::{Class, Client, Stage};
use crate::counters;

impl Client {
    /// Moves the gauges from what was counted for the client to what it is now.
    pub(in crate::clients) fn update_gauges(&mut self, cx: &mut Context) {
        let bytes = self.bytes();
        cx.count_bytes(self.counted_bytes, bytes);
        let class = self.class();
        let was = Holding { open: self.class.is_some(), bytes: self.counted_bytes };
        cx.holders.changed(self.slot, was, Holding { open: class.is_some(), bytes });
        self.counted_bytes = bytes;
        let handshaking = matches!(self.stage, Stage::ProxyHeader(_) | Stage::Handshake(_));
        let books = (self.book.pending() as u32, self.book.sessions() as u32);
        let counts = cx.counts();
        counters::set(&counts.core_bytes, cx.core_bytes());
        cx.publish_outstanding();
        if class != self.class {
            self.times.sending_since = match class {
                Some(Class::Sending) => Stamp::at(cx.now_ms),
                // One that closes meanwhile is still waited for.
                None => self.times.sending_since,
                Some(_) => Stamp::NONE,
            };
            for (class, step) in [(self.class, u64::MAX), (class, 1)] {
                let Some(class) = class else { continue };
                counters::add(&counts.open, step);
                counters::add(
                    match class {
                        Class::Sending => &counts.sending,
                        Class::Waiting => &counts.waiting_for_replies,
                        Class::WaitingForRoom => &counts.waiting_for_room,
                        Class::Session => &counts.in_stateful_session,
                        Class::Idle => &counts.idle,
                    },
                    step,
                );
            }
            self.class = class;
        }
        if handshaking != self.counted_handshaking {
            counters::add(&counts.handshaking, if handshaking { 1 } else { u64::MAX });
            self.counted_handshaking = handshaking;
        }
        if books != self.counted_books {
            counters::add(&counts.pending, u64::from(books.0).wrapping_sub(self.counted_books.0.into()));
            counters::add(&counts.sessions, u64::from(books.1).wrapping_sub(self.counted_books.1.into()));
            self.counted_books = books;
        }
    }
}
