//! Requests whose reply cannot come, or comes too late: the client is told.

use super::book::Pending;
use super::client::Client;
use super::context::Context;
use crate::counters::{self, Limit};
use crate::opensrf::envelope::{Kind, Trace};

impl Client {
    /// Ends what `ends` picks in every conversation and tells the client.
    fn fail(
        &mut self,
        cx: &mut Context,
        status: u16,
        text: &str,
        mut ends: impl FnMut(u64, &Pending) -> bool,
    ) -> usize {
        let numbers: Vec<u64> = self.book.conversations().iter().map(|conversation| conversation.n).collect();
        let mut failed = 0;
        for n in numbers {
            let ended = self.book.end_where(n, |pending| ends(n, pending));
            if ended.is_empty() {
                continue;
            }
            failed += ended.len();
            let traces: Vec<Trace> = ended.iter().map(|pending| pending.trace).collect();
            if let Some(conversation) = self.book.get(n) {
                let (spelled, xid) = (conversation.thread_spelled.clone(), conversation.xid.clone());
                self.error(cx, (&spelled, &xid), &traces, (status, true), text);
            }
            self.book.forget_if_over(n);
        }
        if failed > 0 {
            self.relay_backlog(cx);
        }
        failed
    }

    /// The push of one envelope was not confirmed, or was refused.
    pub(super) fn push_failed(&mut self, cx: &mut Context, n: u64, push: u32, text: &str) {
        self.fail(cx, 503, text, |conversation, pending| conversation == n && pending.push == push);
    }

    /// Redis came back empty: nothing that is pending will be answered.
    pub(super) fn bus_emptied(&mut self, cx: &mut Context, domain: usize) {
        let elsewhere: Vec<u64> = self
            .book
            .conversations()
            .iter()
            .filter(|conversation| domain != 0 && conversation.worker_domain != domain)
            .map(|conversation| conversation.n)
            .collect();
        let text = "the bus (Redis) was restarted and came back empty; this may or may not have been carried out";
        self.fail(cx, 503, text, |n, _| elsewhere.binary_search(&n).is_err());
    }

    /// The link that pops broke: what Redis had popped for it is lost.
    pub(super) fn doubt(&mut self) {
        self.each_pending(|pending| pending.lost_at_ms = u64::MAX);
    }

    /// The link that pops is back: what is in doubt is given up at `give_up_ms`.
    pub(super) fn doubt_until(&mut self, give_up_ms: u64) {
        let mut due_ms = self.times.requests_due_ms;
        self.each_pending(|pending| {
            if pending.lost_at_ms == u64::MAX {
                pending.lost_at_ms = give_up_ms;
                due_ms = due_ms.min(give_up_ms);
            }
        });
        self.times.requests_due_ms = due_ms;
    }

    fn each_pending(&mut self, mut change: impl FnMut(&mut Pending)) {
        let numbers: Vec<u64> = self.book.conversations().iter().map(|conversation| conversation.n).collect();
        for n in numbers {
            if let Some(conversation) = self.book.get_mut(n) {
                conversation.pending.iter_mut().for_each(&mut change);
            }
        }
    }

    /// Gives up what is too old, or in doubt for too long; sets when to look again.
    pub(super) fn give_up(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        let (request_max_ms, connect_max_ms) = (cx.limits.request_max_ms, cx.limits.connect_max_ms);
        let due = |pending: &Pending| {
            pending.heard_ms + if pending.kind == Kind::Connect { connect_max_ms } else { request_max_ms }
        };
        let lost = "a link to the bus broke while this was under way, and its reply may be lost; \
                    it may or may not have been carried out";
        let lost = self.fail(cx, 503, lost, |_, p| p.lost_at_ms > 0 && p.lost_at_ms <= now_ms);
        if lost > 0 {
            cx.hit(Limit::bus_lost_reply_seconds);
            counters::add(&cx.counts().maybe_lost, lost as u64);
        }
        let text = "no answer to the CONNECT came in time (connect_max_seconds)";
        if self.fail(cx, 504, text, |_, p| p.kind == Kind::Connect && due(p) <= now_ms) > 0 {
            cx.hit(Limit::connect_max_seconds);
        }
        let text = "no reply came in time (request_max_seconds); it may or may not have been carried out";
        if self.fail(cx, 504, text, |_, p| due(p) <= now_ms) > 0 {
            cx.hit(Limit::request_max_seconds);
        }
        self.times.requests_due_ms = self
            .book
            .conversations()
            .iter()
            .flat_map(|conversation| &conversation.pending)
            .map(|pending| if pending.lost_at_ms > 0 { due(pending).min(pending.lost_at_ms) } else { due(pending) })
            .min()
            .unwrap_or(u64::MAX);
    }
}
