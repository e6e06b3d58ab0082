//! From a bus message to the client: what it means for the books, and what the client is sent.

use std::borrow::Cow;
use std::ops::Range;

use super::client::Client;
use super::context::Context;
use super::conversation::Conversation;
use super::outbound::Around;
use super::output::Severity;
use super::pendings::Pending;
use crate::counters;
use crate::opensrf::address;
use crate::opensrf::envelope::{Kind, Trace};
use crate::opensrf::error::Exception;
use crate::opensrf::printable::Name;
use crate::opensrf::reply::{Reply, ReplyKind, ReplyMessage, ReplyText};
use crate::opensrf::transport::{self, ReplyTo};
use crate::services::Outcome;

/// What one reply did besides changing counts.
#[derive(Default)]
struct Consequences {
    /// The router knows no such service: what was pending, and which message said so.
    no_service: Option<(usize, Vec<Pending>)>,
    /// The worker ended the session: what was pending there and will not be answered.
    unanswered: Vec<Pending>,
    /// CONNECTs whose worker lives in a domain that may not be dialled.
    foreign: Vec<Pending>,
    /// A CONNECT was accepted that nobody waits for.
    unwanted: bool,
    /// What it means for the figures of its service.
    outcome: Outcome,
}

impl Client {
    /// A bus message for conversation `n`; says false when that conversation is forgotten.
    pub(super) fn reply(&mut self, cx: &mut Context, n: u64, text: &mut ReplyText<'_>, reply: &Reply<'_>) -> bool {
        let is_first = self.answered(cx, n);
        let Some(conversation) = self.book.get_mut(n) else { return false };
        conversation.heard(cx.now_ms);
        for trace in reply.messages.iter().filter_map(|message| message.trace) {
            conversation.pending.heard_of(trace);
        }
        // Lent by the conversation while its book changes.
        let spelled = std::mem::take(&mut conversation.thread_spelled);
        // The bad byte of a reply that is not UTF-8 may be in its osrf_xid.
        let xid = match reply.xid.as_deref() {
            Some(xid) if reply.utf8 => Cow::Borrowed(xid),
            _ => Cow::Owned(conversation.xid.to_vec()),
        };
        let to = ReplyTo { thread: &spelled, xid: &xid };
        let named = if reply.utf8 { Vec::new() } else { named(conversation, reply) };
        let before = (self.book.pending(), self.book.sessions());
        let mut done = Consequences::default();
        done.outcome.is_first = is_first;
        for (at, message) in reply.messages.iter().enumerate() {
            if message.kind == ReplyKind::Status {
                self.status(cx, n, at, message, reply, &mut done);
            }
        }
        self.forward(cx, to, text, reply, &named, &done);
        self.tell_consequences(cx, to, reply, &done);
        if let Some(conversation) = self.book.get_mut(n) {
            conversation.thread_spelled = spelled;
            // Where the router answers there is no service that could have figures.
            if done.no_service.is_none() {
                conversation.count(cx, done.outcome);
            }
        }
        self.book.forget_if_over(n);
        // What waited for room, or for the session, has its turn.
        let is_room = is_first || self.waits_for_bus;
        if is_room || self.book.pending() < before.0 || self.book.sessions() < before.1 {
            self.relay_backlog(cx);
        }
        true
    }

    /// Sends a reply on: as it came, or what stands in for it.
    fn forward(
        &mut self,
        cx: &mut Context,
        to: ReplyTo<'_>,
        text: &mut ReplyText<'_>,
        reply: &Reply<'_>,
        named: &[Trace],
        done: &Consequences,
    ) {
        if !reply.utf8 {
            counters::add(&cx.counts().bus_garbage, 1);
            let text = "the service's reply is not UTF-8 and cannot be delivered as text; the service is at fault";
            self.error(cx, to, named, Exception { status: 500, transport_error: false, text });
        } else if let Some((at, ended)) = &done.no_service {
            // An envelope for each, since the browser client reads only the first message of one.
            for pending in ended {
                self.send_text(cx, 512, |out| {
                    transport::write_router_404(out, to, text.bytes(), &reply.messages[*at], &pending.trace);
                });
            }
        } else if done.foreign.is_empty() || reply.messages.len() > 1 {
            if let ReplyText::Given { buffer, at } = text {
                return self.send_around(cx, to, std::mem::take(buffer), at.clone(), reply);
            }
            self.send_text(cx, reply.body.len() + to.thread.len() + to.xid.len() + 64, |out| {
                transport::write_envelope(out, to, text.bytes(), reply);
            });
        }
    }

    /// Sends a reply whose text stands `at` in `buffer`: that is sent as it is, with the wrapper written around the body.
    fn send_around(&mut self, cx: &mut Context, to: ReplyTo<'_>, buffer: Vec<u8>, at: Range<usize>, reply: &Reply<'_>) {
        let (mut head, (before, tail)) = (cx.reuse.buffer(256), transport::brackets(reply.body_is_array));
        transport::write_opening(&mut head, to);
        head.extend_from_slice(before);
        let body = at.start + reply.body.start..at.start + reply.body.end;
        let placed = Around { buffer, body, head: &head, tail };
        if !placed.fits() {
            let (text, hint) = (&placed.buffer[at], placed.bytes());
            self.send_text(cx, hint, |out| transport::write_envelope(out, to, text, reply));
        } else if self.takes_more(cx) {
            cx.sends_message(placed.bytes());
            self.outbound.around(placed);
        }
        cx.reuse.give_buffer(head);
    }

    /// Tells the client, the worker and the log what a reply has led to.
    fn tell_consequences(&mut self, cx: &mut Context, to: ReplyTo<'_>, reply: &Reply<'_>, done: &Consequences) {
        if !done.foreign.is_empty() {
            counters::add(&cx.counts().foreign_sessions_refused, 1);
            let domain = Name(address::domain_of(&reply.from).unwrap_or("?")).to_string();
            cx.output.log(
                Severity::Warn,
                format!(
                    "bus: a worker of the domain {domain} accepted a session, but that domain may not be dialled; \
                     add it to bus_domains or to the routers of opensrf_core.xml"
                ),
            );
            let text = format!("the worker's domain {domain} may not be dialled by this gateway (bus_domains)");
            self.error(cx, to, &traces(&done.foreign), Exception { status: 503, transport_error: true, text: &text });
        }
        if !done.unanswered.is_empty() {
            let text = "the session ended (the worker's keep-alive ran out) before this was answered; \
                        it may or may not have been carried out";
            self.error(cx, to, &traces(&done.unanswered), Exception { status: 503, transport_error: true, text });
        }
        if done.unwanted {
            let domain = address::domain_of(&reply.from).and_then(|name| cx.domain(name));
            if let Some(domain) = domain {
                cx.push_disconnect(domain, &reply.from, &reply.thread, to.xid);
            }
        }
    }

    /// One STATUS, by its code (docs/wire.md, "What a STATUS means").
    fn status(
        &mut self,
        cx: &mut Context,
        n: u64,
        at: usize,
        message: &ReplyMessage,
        reply: &Reply<'_>,
        done: &mut Consequences,
    ) {
        let Some(code) = message.status_code else { return };
        let of_session = |client: &Self| {
            client.book.get(n).is_some_and(|conversation| conversation.worker.as_deref() == Some(&*reply.from))
        };
        match code {
            200 => self.accepted(cx, n, message, reply, done),
            404 if message.service_exception && address::is_router(&reply.from) => {
                let ended = self.book.end_where(n, |_| true);
                if !ended.is_empty() {
                    done.no_service = Some((at, ended));
                }
            }
            // Never matched by threadTrace: C services send 0, Perl ones that of the last request.
            408 if of_session(self) => {
                self.book.disconnect(n);
                done.unanswered.extend(self.book.end_where(n, |_| true));
            }
            205 | 307 | 400..=407 | 409.. => {
                let ended = message.trace.and_then(|trace| self.book.end(n, trace));
                if ended.is_some_and(|ended| ended.kind == Kind::Request) {
                    done.outcome.completed += 1;
                    done.outcome.failed += u32::from(code != 205);
                }
                if matches!(code, 307 | 417) && of_session(self) {
                    self.book.disconnect(n);
                }
            }
            _ => {}
        }
    }

    /// A STATUS of 200: a worker accepted a CONNECT.
    fn accepted(
        &mut self,
        cx: &mut Context,
        n: u64,
        message: &ReplyMessage,
        reply: &Reply<'_>,
        done: &mut Consequences,
    ) {
        let ended = message.trace.and_then(|trace| self.book.end_connect(n, trace));
        let Some(conversation) = self.book.get(n) else { return };
        match ended {
            Some(_) if conversation.leaving => {}
            Some(pending) => match address::domain_of(&reply.from).and_then(|name| cx.domain(name)) {
                Some(domain) => self.book.connect(n, &reply.from, domain, cx.now_ms),
                None => done.foreign.push(pending),
            },
            None if conversation.connected && conversation.worker.as_deref() == Some(&*reply.from) => {}
            None => done.unwanted = true,
        }
    }
}

/// What is pending of what a reply names: what a bad byte in it stands in for, since it cannot be forwarded as it is.
fn named(conversation: &Conversation, reply: &Reply<'_>) -> Vec<Trace> {
    let mut traces: Vec<i64> = reply.messages.iter().filter_map(|message| message.trace).collect();
    traces.sort_unstable();
    let is_named = |pending: &&Pending| traces.binary_search(&pending.trace.value).is_ok();
    conversation.pending.iter().filter(is_named).map(|pending| pending.trace).collect()
}

/// What requests are called that have ended.
fn traces(ended: &[Pending]) -> Vec<Trace> {
    ended.iter().map(|pending| pending.trace).collect()
}
