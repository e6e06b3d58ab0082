//! What comes from the bus, and what befalls it: the way in for replies, and for the links' troubles.

use std::ops::Range;

use memchr::memmem;
use smallvec::SmallVec;

use super::client::Stage;
use super::output::{Severity, SlotIndex};
use super::router_list::RouterNews;
use super::table::Clients;
use crate::counters;
use crate::opensrf::address::{self, BusThread};
use crate::opensrf::reply::{Reply, ReplyKind, ReplyText, parse_reply};
use crate::redis::outbox::Ticket;

/// Popped messages that are best handed on together: their memory is fetched side by side, and their replies are sent
/// before the next.
pub const TOGETHER: usize = 32;
/// Where the thread of a bus message is looked for in a hurry: its addresses and identifiers come before the body.
const HEAD_BYTES: usize = 512;

impl Clients {
    /// Messages were popped from the core's list. What they need is asked for together. How many were taken: fewer where the
    /// core holds more than it may; then what can be sent is to be sent, and [`Self::cut_holders`] to be called, before the rest.
    pub fn from_bus(&mut self, texts: &[&[u8]]) -> usize {
        if texts.len() > 1 {
            let mut near = self.thread_at;
            let slots: SmallVec<[SlotIndex; TOGETHER]> = texts
                .iter()
                .filter_map(|text| slot_of(&self.thread_key, text, &mut near))
                .inspect(|slot| self.prefetch(*slot))
                .collect();
            self.thread_at = near;
            for slot in slots {
                if let Some(client) = self.client(slot) {
                    client.book.prefetch();
                }
            }
        }
        for (at, text) in texts.iter().enumerate() {
            self.deliver(&mut ReplyText::Lent(text));
            if self.context.is_core_full() {
                return at + 1;
            }
        }
        texts.len()
    }

    /// A large message was popped, in a buffer that nobody needs any more.
    pub fn large_from_bus(&mut self, buffer: Vec<u8>, at: Range<usize>) {
        self.deliver(&mut ReplyText::Given { buffer, at });
    }

    fn deliver(&mut self, text: &mut ReplyText<'_>) {
        counters::add(&self.context.counts().bus_pops, 1);
        let messages = std::mem::take(&mut self.reply_messages);
        let read = match &*text {
            ReplyText::Lent(text) => parse_reply(text, messages),
            ReplyText::Given { .. } => parse_reply(text.bytes(), messages).map(Reply::detached),
        };
        let reply = match read {
            Ok(reply) => reply,
            Err(bad) => {
                counters::add(&self.context.counts().bus_garbage, 1);
                // The same words each time: the log gathers what is repeated.
                let line = format!("bus: a message could not be read: {}", bad.reason);
                self.context.output.log(Severity::Warn, line);
                return;
            }
        };
        let to = BusThread::parse(&reply.thread).map(|(to, _)| to);
        let delivered = to.is_some_and(|to| {
            let current = self.slots.get(to.slot as usize).is_some_and(|slot| {
                slot.generation == to.generation
                    && slot.client.as_ref().is_some_and(|client| matches!(client.stage, Stage::Open))
            });
            current && self.with(to.slot, |client, cx| client.reply(cx, to.n, text, &reply)) == Some(true)
        });
        if !delivered {
            counters::add(&self.context.counts().undeliverable, 1);
            if let Some(to) = to {
                self.end_orphan(to);
            }
            // A worker that waits for a client that is gone would wait until its keep-alive runs out.
            let accepted = reply.messages.iter().any(|m| m.kind == ReplyKind::Status && m.status_code == Some(200));
            if accepted && let Some(domain) = address::domain_of(&reply.from).and_then(|name| self.context.domain(name))
            {
                let xid = reply.xid.as_deref().unwrap_or(b"null");
                self.context.push_disconnect(domain, &reply.from, &reply.thread, xid);
            }
        }
        self.reply_messages = reply.messages;
    }

    /// A push was not confirmed, or was refused: its client is told.
    pub fn push_failed(&mut self, ticket: Ticket, text: &str) {
        let Ticket { slot, generation, n, .. } = ticket;
        self.end_orphan(BusThread { slot, generation, n });
        if self.slots.get(ticket.slot as usize).is_some_and(|slot| slot.generation == ticket.generation) {
            self.with(ticket.slot, |client, cx| client.push_failed(cx, ticket.n, ticket.push, text));
        }
    }

    /// The link that pops broke: replies to what is pending now may be lost with it.
    pub fn pops_lost(&mut self) {
        self.for_each(|client, _| client.doubt());
    }

    /// The link that pops is back: what was pending at its loss and stays without a reply is given up in a while.
    pub fn pops_back(&mut self) {
        let give_up_ms = self.context.now_ms + self.context.limits.bus_lost_reply_ms;
        self.for_each(|client, _| client.doubt_until(give_up_ms));
    }

    /// Redis came back empty.
    pub fn bus_emptied(&mut self, domain: usize) {
        self.for_each(|client, cx| client.bus_emptied(cx, domain));
        if domain == 0 {
            self.context.router.heard(RouterNews::Lost);
            self.context.outstanding.end_all_orphans(self.context.now_ms);
            self.context.publish_outstanding();
        }
    }
}

/// The slot that a bus message is probably for, at a glance: good enough to have memory ready, not to deliver by. `near` is where
/// the thread stood in the message before: services write their addresses alike.
pub(super) fn slot_of(thread: &memmem::Finder<'_>, text: &[u8], near: &mut usize) -> Option<SlotIndex> {
    let key = thread.needle();
    if !text.get(*near..).is_some_and(|text| text.starts_with(key)) {
        *near = thread.find(&text[..text.len().min(HEAD_BYTES)])?;
    }
    let digits = text[*near + key.len()..].iter().map_while(|byte| Some(byte.wrapping_sub(b'0')).filter(|it| *it <= 9));
    Some(digits.fold(0, |slot: SlotIndex, digit| slot.wrapping_mul(10).wrapping_add(digit.into())))
}
