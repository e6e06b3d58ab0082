//! Requests whose reply cannot come, or comes too late: the client is told.

use super::client::Client;
use super::context::Context;
use super::conversation::Conversation;
use super::pendings::Pending;
use super::times::Stamp;
use crate::counters::{self, Limit};
use crate::opensrf::envelope::{Kind, Trace};
use crate::opensrf::error::Exception;
use crate::opensrf::transport::ReplyTo;

impl Client {
    /// Ends what `ends` picks in every conversation and tells the client.
    fn fail(
        &mut self,
        cx: &mut Context,
        (status, text): (u16, &str),
        ends: impl Fn(&Conversation, &Pending) -> bool,
    ) -> usize {
        let numbers: Vec<u64> = self.book.conversations().map(|conversation| conversation.n).collect();
        let failed = numbers.into_iter().map(|n| self.fail_in(cx, n, (status, text), &ends)).sum();
        if failed > 0 {
            self.relay_backlog(cx);
        }
        failed
    }

    /// Ends what `ends` picks in conversation `n` and tells the client.
    fn fail_in(
        &mut self,
        cx: &mut Context,
        n: u64,
        (status, text): (u16, &str),
        ends: impl Fn(&Conversation, &Pending) -> bool,
    ) -> usize {
        let ended = self.book.end_some(n, ends);
        if ended.is_empty() {
            return 0;
        }
        // Of what is given up the bus may have it all still; of the rest it has nothing any more, as far as is known.
        if status == 504 {
            self.gave_up(cx, n);
        } else {
            self.bus_lost(cx, n);
        }
        let traces: Vec<Trace> = ended.iter().map(|pending| pending.trace).collect();
        if let Some(conversation) = self.book.get(n) {
            let (spelled, xid) = (conversation.thread_spelled.clone(), conversation.xid.clone());
            let to = ReplyTo { thread: &spelled, xid: &xid };
            self.error(cx, to, &traces, Exception { status, transport_error: true, text });
        }
        self.book.forget_if_over(n);
        ended.len()
    }

    /// The push of one envelope was not confirmed, or was refused.
    pub(super) fn push_failed(&mut self, cx: &mut Context, n: u64, push: u32, text: &str) {
        self.bus_lost(cx, n);
        if self.fail_in(cx, n, (503, text), |_, pending| pending.push == push) > 0 {
            self.relay_backlog(cx);
        }
    }

    /// Redis came back empty: nothing that is pending will be answered.
    pub(super) fn bus_emptied(&mut self, cx: &mut Context, domain: usize) {
        let is_there = |conversation: &Conversation| domain == 0 || conversation.worker_domain == domain;
        let there: Vec<u64> = self.book.conversations().filter(|c| is_there(c)).map(|c| c.n).collect();
        for n in there {
            self.bus_lost(cx, n);
        }
        let text = "the bus (Redis) was restarted and came back empty; this may or may not have been carried out";
        self.fail(cx, (503, text), |conversation, _| is_there(conversation));
    }

    /// The link that pops broke: what Redis had popped for it is lost.
    pub(super) fn doubt(&mut self) {
        self.book.conversations_mut().for_each(|conversation| conversation.pending.doubt());
    }

    /// The link that pops is back: what is in doubt is given up at `give_up_ms`.
    pub(super) fn doubt_until(&mut self, give_up_ms: u64) {
        let mut due_ms = self.times.requests_due.ms();
        for conversation in self.book.conversations_mut() {
            if conversation.pending.doubt_until(give_up_ms) {
                due_ms = due_ms.min(give_up_ms);
            }
        }
        self.times.requests_due = Stamp::at(due_ms);
    }

    /// Gives up what is too old, or in doubt for too long; sets when to look again.
    pub(super) fn give_up(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        let (request_max_ms, connect_max_ms) = (cx.limits.request_max_ms, cx.limits.connect_max_ms);
        let due = |conversation: &Conversation, pending: &Pending| {
            let max_ms = if pending.kind == Kind::Connect { connect_max_ms } else { request_max_ms };
            conversation.alive_ms(pending) + max_ms
        };
        let lost = "a link to the bus broke while this was under way, and its reply may be lost; \
                    it may or may not have been carried out";
        let lost = self.fail(cx, (503, lost), |_, p| p.lost_at_ms > 0 && p.lost_at_ms <= now_ms);
        if lost > 0 {
            cx.hit(Limit::bus_lost_reply_seconds);
            counters::add(&cx.counts().maybe_lost, lost as u64);
        }
        let text = "no answer to the CONNECT came in time (connect_max_seconds)";
        if self.fail(cx, (504, text), |c, p| p.kind == Kind::Connect && due(c, p) <= now_ms) > 0 {
            cx.hit(Limit::connect_max_seconds);
        }
        let text = "no reply came in time (request_max_seconds); it may or may not have been carried out";
        if self.fail(cx, (504, text), |c, p| due(c, p) <= now_ms) > 0 {
            cx.hit(Limit::request_max_seconds);
        }
        let due_ms = self
            .book
            .conversations()
            .flat_map(|c| c.pending.iter().map(move |p| (c, p)))
            .map(|(c, p)| if p.lost_at_ms > 0 { due(c, p).min(p.lost_at_ms) } else { due(c, p) })
            .min()
            .unwrap_or(u64::MAX);
        self.times.requests_due = Stamp::at(due_ms);
    }
}
