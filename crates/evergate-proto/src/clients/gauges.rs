//! The gauges of a core, brought up to date with one client at a time.

use super::client::{Class, Client, Stage};
use super::context::Context;
use super::holders::Holding;
use crate::counters;

/// Moves the gauges from what was counted for the client to what it is now.
pub(super) fn count(client: &mut Client, cx: &mut Context) {
    let bytes = client.bytes();
    cx.count_bytes(client.counted_bytes, bytes);
    let class = client.class();
    let was = Holding { open: client.class.is_some(), bytes: client.counted_bytes };
    cx.holders.changed(client.slot, was, Holding { open: class.is_some(), bytes });
    client.counted_bytes = bytes;
    let handshaking = matches!(client.stage, Stage::Handshake(_));
    let books = (client.book.pending() as u32, client.book.sessions() as u32);
    let counts = cx.counts();
    counters::set(&counts.core_bytes, cx.core_bytes());
    cx.publish_outstanding();
    if class != client.class {
        client.times.sending_since_ms = match class {
            Some(Class::Sending) => cx.now_ms,
            // One that closes meanwhile is still waited for.
            None => client.times.sending_since_ms,
            Some(_) => 0,
        };
        for (class, step) in [(client.class, u64::MAX), (class, 1)] {
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
        client.class = class;
    }
    if handshaking != client.counted_handshaking {
        counters::add(&counts.handshaking, if handshaking { 1 } else { u64::MAX });
        client.counted_handshaking = handshaking;
    }
    if books != client.counted_books {
        counters::add(&counts.pending, u64::from(books.0).wrapping_sub(client.counted_books.0.into()));
        counters::add(&counts.sessions, u64::from(books.1).wrapping_sub(client.counted_books.1.into()));
        client.counted_books = books;
    }
}
