//! Whether what a client sends may go to the bus, by what it, its address and the core have sent already; and the counting
//! of that.

use super::book::Book;
use super::client::Client;
use super::context::Context;
use super::outstanding::{Room, Unanswered};
use super::router_list::LARGE_BYTES;
use crate::counters::Limit;
use crate::opensrf::envelope::{Envelope, Kind, Trace};
use crate::opensrf::error::Exception;
use crate::opensrf::transport::ReplyTo;

impl Client {
    /// Whether an envelope comes faster than the client, or its address, may send; the client is told.
    ///
    /// One of DISCONNECTs alone is counted and goes on: it means nothing without a session, and ends one that has passed here.
    pub(super) fn is_too_fast(&mut self, cx: &mut Context, envelope: &Envelope<'_>) -> bool {
        let now_ms = cx.now_ms;
        let limits = &cx.limits;
        let (limit, text) = if !self.take_message(limits.client_messages, now_ms) {
            let text = "this client sends more messages a second than it may; this one was not relayed: send it again later, and \
                 fewer a second (client_messages_per_second_max)";
            (Limit::client_messages_per_second_max, text)
        } else if !cx.outstanding.addresses.take_message(self.place(), limits.address_messages, now_ms) {
            let text = "the clients of this address send more messages a second than they may; this one was not relayed: send it \
                        again later, and fewer a second (address_messages_per_second_max)";
            (Limit::address_messages_per_second_max, text)
        } else {
            return false;
        };
        cx.hit(limit);
        let asks = envelope.messages.iter().filter(|message| message.kind != Kind::Disconnect);
        let traces: Vec<Trace> = asks.map(|message| message.trace).collect();
        if traces.is_empty() {
            return false;
        }
        cx.say_throttled(self.address(), limit);
        let xid = envelope.xid.as_deref().map_or_else(|| cx.make_xid(), <[u8]>::to_vec);
        let to = ReplyTo { thread: &envelope.thread_spelled, xid: &xid };
        self.error(cx, to, &traces, Exception { status: 429, transport_error: false, text });
        true
    }

    /// Whether more of this client's may go to the bus.
    pub(super) fn may_give(&self, cx: &Context) -> bool {
        self.kept_by(cx).is_none()
    }

    /// Which limit keeps it from giving more to the bus. As long as that has room, none does, and beyond that none while nothing of
    /// its address waits there for an answer. While the router's list is long, one that has something there waits. Behind a proxy
    /// that names nobody each client counts for itself.
    pub(super) fn kept_by(&self, cx: &Context) -> Option<Limit> {
        let (outstanding, max) = (&cx.outstanding, cx.limits.router_queue_max);
        let room = outstanding.room(&cx.limits);
        let is_long = cx.router.is_long(max);
        if room == Room::All && !is_long {
            return None;
        }
        let addresses = &outstanding.addresses;
        let (unanswered, number) = if addresses.is_proxy(self.place()) {
            (self.book.unanswered(), self.book.router_number())
        } else {
            (addresses.unanswered(self.place()), addresses.router_number(self.place()))
        };
        if room == Room::Nobody || (room == Room::Newcomers && unanswered > 0) {
            return Some(outstanding.limit(&cx.limits));
        }
        // What was answered has left the list, and all before it.
        (is_long && unanswered > 0 && cx.router.has(number)).then_some(Limit::router_queue_max)
    }

    /// Which limit keeps it from giving a message of so many bytes to the bus.
    pub(super) fn kept_with(&self, cx: &Context, bytes: usize) -> Option<Limit> {
        let waits_behind_large = || cx.limits.router_queue_max > 0 && bytes >= LARGE_BYTES && cx.router.has_large();
        self.kept_by(cx).or_else(|| waits_behind_large().then_some(Limit::router_queue_max))
    }

    /// A message of so many bytes was put into the router's list.
    pub(super) fn gave_to_router(&mut self, cx: &mut Context, bytes: usize) {
        let number = cx.router.gave(bytes);
        if bytes >= LARGE_BYTES {
            // Behind it more may wait than without it: who is not read from is looked at by the next tick.
            cx.outstanding.set_freed();
        }
        self.book.set_router_number(number);
        cx.outstanding.addresses.set_router_number(self.place(), number);
    }

    /// Whether the bus holds too much of its address that no client waits for.
    pub(super) fn has_too_many_orphans(&self, cx: &Context) -> bool {
        cx.outstanding.addresses.orphans(self.place()) as usize >= cx.limits.address_orphans_max
    }

    /// An envelope of conversation `n` was given to the bus, in so many bytes.
    pub(super) fn gave(&mut self, cx: &mut Context, n: u64, bytes: usize) {
        let given = Unanswered { messages: 1, bytes: bytes as u64 };
        self.book.gave(n, given, cx.now_us);
        cx.outstanding.gave(self.place(), given);
    }

    /// Something has come about conversation `n`; says whether that makes room.
    pub(super) fn answered(&mut self, cx: &mut Context, n: u64) -> bool {
        // Of a session's requests one may have been given up, and be answered now.
        let was_orphan = cx.outstanding.end_orphan(self.bus_thread(n), cx.now_ms);
        self.bus_lost(cx, n) || was_orphan
    }

    /// The bus has nothing any more of what was unanswered in conversation `n`; says whether there was anything.
    pub(super) fn bus_lost(&mut self, cx: &mut Context, n: u64) -> bool {
        let unanswered = self.book.answered(n);
        let any = unanswered.messages > 0;
        if any {
            cx.outstanding.answered(self.place(), unanswered);
        }
        any
    }

    /// Something of conversation `n` was given up. If nothing is pending there, what the bus has of it is an orphan.
    pub(super) fn gave_up(&mut self, cx: &mut Context, n: u64) {
        if self.book.get(n).is_some_and(|conversation| conversation.pending.is_empty()) {
            let unanswered = self.book.answered(n);
            self.orphan(cx, n, unanswered);
        }
    }

    /// The client leaves: what the bus has of its is orphans.
    pub(super) fn orphan_all(&self, cx: &mut Context, book: &Book) {
        for conversation in book.conversations() {
            self.orphan(cx, conversation.n, conversation.unanswered);
        }
    }

    fn orphan(&self, cx: &mut Context, n: u64, unanswered: Unanswered) {
        if unanswered.messages > 0 {
            let until_ms = cx.now_ms + cx.limits.request_max_ms;
            cx.outstanding.orphaned(self.bus_thread(n), self.place(), unanswered, until_ms);
        }
    }
}
