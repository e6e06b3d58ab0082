//! From an envelope to the bus: what waits, what is refused, what is relayed and entered in the books.

use std::borrow::Cow;
use std::rc::Rc;

use super::client::{Client, Stage};
use super::context::Context;
use super::conversation::Conversation;
use super::pendings::Pending;
use super::threads::Kept;
use super::times::Stamp;
use crate::counters::{self, Limit};
use crate::json::judge::Judged;
use crate::opensrf::activity::{self, Request, Style};
use crate::opensrf::address::{self, BusThread};
use crate::opensrf::envelope::{Envelope, Kind, Trace};
use crate::opensrf::error::Exception;
use crate::opensrf::transport::{self, ReplyTo};
use crate::redis::outbox::Ticket;
use crate::websocket::CloseCode;

/// Where an envelope goes.
struct Route {
    /// The conversation whose session it belongs to; `None` = a new one, by the router.
    session: Option<u64>,
    /// The index of the bus domain.
    domain: usize,
    /// The list.
    key: Rc<str>,
    /// The `to` of the bus message.
    to: Rc<str>,
}

/// Why an envelope was not relayed.
struct Refused {
    /// As in [`Exception`].
    status: u16,
    /// As in [`Exception`].
    transport_error: bool,
    /// What is wrong and what to do.
    text: String,
}

impl Refused {
    /// What the client is told.
    fn exception(&self) -> Exception<'_> {
        Exception { status: self.status, transport_error: self.transport_error, text: &self.text }
    }
}

/// Bytes of a method's name that the books keep for the logs.
const METHOD_KEPT_BYTES: usize = 256;

/// The beginning of a method's name: a client may make it megabytes long.
fn head(method: &str) -> &str {
    &method[..method.floor_char_boundary(METHOD_KEPT_BYTES)]
}

impl Client {
    /// One data message of the client's.
    pub(super) fn message(&mut self, cx: &mut Context, text: &[u8], judged: Option<Judged>) {
        match cx.read(text, judged.as_ref()) {
            Ok(envelope) => self.admit(cx, &envelope, text, judged),
            Err(refusal) => {
                if let Some(limit) = refusal.limit {
                    cx.hit(limit);
                }
                if !refusal.only_disconnects {
                    let xid = refusal.xid.unwrap_or_else(|| cx.make_xid());
                    let to = ReplyTo { thread: &refusal.thread_spelled, xid: &xid };
                    let (status, text) = (refusal.status, &*refusal.reason);
                    self.error(cx, to, &refusal.traces, Exception { status, transport_error: false, text });
                }
                self.count_garbage(cx);
            }
        }
    }

    fn count_garbage(&mut self, cx: &mut Context) {
        if self.sent_garbage() >= cx.limits.garbage_max {
            cx.hit(Limit::garbage_max);
            self.close(cx, CloseCode::POLICY, "too many bad messages in a row (garbage_max)");
        }
    }

    /// Relays an envelope now, or lets it wait for its turn.
    fn admit(&mut self, cx: &mut Context, envelope: &Envelope<'_>, text: &[u8], judged: Option<Judged>) {
        if self.is_too_fast(cx, envelope) {
            return;
        }
        let counted = envelope.messages.iter().filter(|message| message.kind != Kind::Disconnect).count();
        if self.must_wait(cx, &envelope.thread, counted, text.len()) {
            self.forget_garbage();
            let kept = Kept { text: text.to_vec(), judged: judged.unwrap_or_default() };
            let had_bytes = self.book.backlog_bytes();
            self.book.wait(&mut cx.reuse, &envelope.thread, kept, counted);
            if self.book.backlog() == cx.limits.backlog_max {
                cx.hit(Limit::backlog_max);
            }
            // Once each time that it fills: what has been read already comes on top of it.
            let full = cx.limits.backlog_bytes_max;
            if had_bytes < full && self.book.backlog_bytes() >= full {
                cx.hit(Limit::backlog_bytes_max);
            }
        } else {
            self.relay(cx, envelope, text.len());
        }
    }

    fn must_wait(&mut self, cx: &Context, thread: &str, counted: usize, bytes: usize) -> bool {
        if self.book.must_wait(thread) {
            return true;
        }
        if counted == 0 {
            return false;
        }
        let full = self.is_parallel_full(cx, counted);
        if full {
            cx.hit(Limit::parallel_max);
        }
        let kept = self.kept_with(cx, bytes);
        if kept == Some(Limit::router_queue_max) {
            cx.hit(Limit::router_queue_max);
        }
        self.waits_for_bus |= kept.is_some();
        full || kept.is_some() || self.book.is_request_ready()
    }

    /// Whether `counted` more would be too many in flight. A lone envelope may always go, whatever it holds.
    fn is_parallel_full(&self, cx: &Context, counted: usize) -> bool {
        self.book.pending() > 0 && self.book.pending() + counted > cx.limits.parallel_max
    }

    /// The bus may have room for what waited for it.
    pub(super) fn bus_has_room(&mut self, cx: &mut Context) {
        if self.waits_for_bus {
            self.relay_backlog(cx);
        }
    }

    /// Relays what waited and need not wait any longer, in order.
    pub(super) fn relay_backlog(&mut self, cx: &mut Context) {
        self.waits_for_bus = false;
        let mut full = false;
        while matches!(self.stage, Stage::Open)
            && let Some(turn) = self.book.next_turn(full)
        {
            // What is not counted, a DISCONNECT, passes what waits for others to end, though never its own thread.
            let may_give = turn.counted == 0 || self.kept_with(cx, turn.bytes).is_none();
            self.waits_for_bus |= !may_give;
            if !may_give || (turn.counted > 0 && self.is_parallel_full(cx, turn.counted)) {
                full = true;
                continue;
            }
            let Some(kept) = self.book.take_turn(turn) else { return };
            if let Ok(envelope) = cx.read(&kept.text, Some(&kept.judged)) {
                self.relay(cx, &envelope, turn.bytes);
            }
            self.book.turn_over(turn);
        }
    }

    /// `bytes` are those of its text.
    fn relay(&mut self, cx: &mut Context, envelope: &Envelope<'_>, bytes: usize) {
        // Without a session of ours a DISCONNECT means nothing to anybody (quirk 17).
        let only_disconnects = envelope.messages.iter().all(|message| message.kind == Kind::Disconnect);
        if only_disconnects && self.book.session_of(&envelope.thread).is_none() {
            counters::add(&cx.counts().disconnects_ignored, envelope.messages.len() as u64);
            self.forget_garbage();
            return;
        }
        let xid = envelope.xid.as_deref().map_or_else(|| Cow::Owned(cx.make_xid()), Cow::Borrowed);
        let relayed = self.route(cx, envelope).and_then(|route| self.dispatch(cx, envelope, route, (&xid, bytes)));
        if let Err(refused) = relayed {
            let traces: Vec<Trace> =
                envelope.messages.iter().filter(|m| m.kind != Kind::Disconnect).map(|m| m.trace).collect();
            if !traces.is_empty() {
                let to = ReplyTo { thread: &envelope.thread_spelled, xid: &xid };
                self.error(cx, to, &traces, refused.exception());
            }
            if matches!(refused.status, 400 | 413) {
                self.count_garbage(cx);
            }
            // A DISCONNECT is not answered, so that the client takes its session for ended, and so must the books.
            if refused.transport_error
                && envelope.messages.iter().any(|message| message.kind == Kind::Disconnect)
                && let Some(n) = self.book.session_of(&envelope.thread)
            {
                self.book.disconnect(n);
                self.book.forget_if_over(n);
            }
        }
    }

    /// Refuses for a limit, which the client's address is named with in the log.
    fn throttle(&self, cx: &mut Context, limit: Limit, text: &str) -> Refused {
        cx.hit(limit);
        cx.say_throttled(self.address(), limit);
        Refused { status: 429, transport_error: false, text: text.to_owned() }
    }

    fn route(&self, cx: &mut Context, envelope: &Envelope<'_>) -> Result<Route, Refused> {
        let refuse = |status, text: &str| Err(Refused { status, transport_error: false, text: text.to_owned() });
        let session = self.book.session_of(&envelope.thread);
        if self.has_too_many_orphans(cx) && envelope.messages.iter().any(|message| message.kind != Kind::Disconnect) {
            let text = "clients of this address have left too many requests behind that no service has answered \
                        (address_orphans_max); try again when they are answered, at the latest after request_max_seconds";
            return Err(self.throttle(cx, Limit::address_orphans_max, text));
        }
        let connects = envelope.messages.iter().filter(|message| message.kind == Kind::Connect).count();
        if connects > 0
            && session.is_none()
            && self.book.sessions() + self.book.connecting() + connects > cx.limits.sessions_max
        {
            let text = "too many sessions of this client; disconnect one first (sessions_max)";
            return Err(self.throttle(cx, Limit::sessions_max, text));
        }
        let route = if let Some(conversation) = session.and_then(|n| self.book.get(n)) {
            let worker = conversation.worker.clone().unwrap_or_else(|| Rc::clone(&cx.names.router));
            Route { session, domain: conversation.worker_domain, key: Rc::clone(&worker), to: worker }
        } else {
            let Some(service) = envelope.service.as_deref() else {
                return refuse(400, "the message names no `service`, and its `thread` has no connected session");
            };
            if service == "router" && !cx.limits.allow_router_calls {
                return refuse(403, "the service `router` is not open to clients (allow_router_calls)");
            }
            let to = cx.reuse.services.get(service, |service| address::service_address(service).into());
            Route { session: None, domain: 0, key: Rc::clone(&cx.names.router), to }
        };
        if !cx.takes_messages(route.domain) {
            return Err(Refused { status: 503, transport_error: true, text: cx.names.away(route.domain) });
        }
        Ok(route)
    }

    fn dispatch(
        &mut self,
        cx: &mut Context,
        envelope: &Envelope<'_>,
        route: Route,
        (xid, bytes): (&[u8], usize),
    ) -> Result<(), Refused> {
        let n = route.session.unwrap_or_else(|| {
            self.book.open(&mut cx.reuse, &envelope.thread, &envelope.thread_spelled, Rc::clone(&route.to))
        });
        let mut bus_thread = std::mem::take(&mut cx.reuse.bus_thread);
        bus_thread.clear();
        self.bus_thread(n).write(&envelope.thread, &mut bus_thread);
        let limits = Rc::clone(&cx.limits);
        let mut message = cx.reuse.buffer(envelope.body_len(&limits.ingress) + 384);
        let to_whom = (&*route.to, &*cx.names.address);
        transport::write_message(&mut message, to_whom.0, to_whom.1, &bus_thread, xid, envelope, &limits.ingress);
        cx.reuse.bus_thread = bus_thread;
        let bytes_max = limits.envelope.bus_message_bytes_max;
        let beside =
            message.len() - envelope.body_len(&limits.ingress) + limits.ingress.len() * envelope.messages.len();
        if envelope.escaped_at_most(beside) > bytes_max && transport::escaped_len(&message) > bytes_max {
            self.book.forget_if_over(n);
            cx.hit(Limit::bus_message_bytes_max);
            let text = format!(
                "the message is larger than {bytes_max} bytes once the router has escaped what is not ASCII; \
                 send less at a time (bus_message_bytes_max)"
            );
            return Err(Refused { status: 413, transport_error: false, text });
        }
        let push = self.enter(cx, envelope, n, xid);
        // Nothing ever comes about a DISCONNECT, and its worker takes it all the same.
        if envelope.messages.iter().any(|message| message.kind != Kind::Disconnect) {
            self.gave(cx, n, message.len());
        }
        if Rc::ptr_eq(&route.key, &cx.names.router) {
            self.gave_to_router(cx, bytes);
        }
        let ticket = Ticket { slot: self.slot(), generation: self.generation(), n, push };
        cx.push(route.domain, route.key, message, Some(ticket));
        self.forget_garbage();
        self.log_activity(cx, envelope, n, xid);
        self.book.forget_if_over(n);
        Ok(())
    }

    /// Enters a relayed envelope in conversation `n`; says which of its envelopes it is.
    fn enter(&mut self, cx: &mut Context, envelope: &Envelope<'_>, n: u64, xid: &[u8]) -> u32 {
        let Some(conversation) = self.book.get_mut(n) else { return 0 };
        let push = conversation.pushes;
        conversation.pushes += 1;
        conversation.xid.clear();
        conversation.xid.extend_from_slice(xid);
        for message in &envelope.messages {
            if message.kind == Kind::Disconnect {
                self.book.disconnect(n);
                continue;
            }
            let max_ms = if message.kind == Kind::Connect {
                cx.limits.connect_max_ms
            } else {
                self.count_request();
                counters::add(&cx.counts().requests, 1);
                cx.limits.request_max_ms
            };
            self.times.requests_due = Stamp::at(self.times.requests_due.ms().min(cx.now_ms + max_ms));
            let pending = Pending {
                trace: message.trace,
                kind: message.kind,
                since_ms: cx.now_ms,
                push,
                method: cx.reuse.methods.get(head(message.method.as_deref().unwrap_or_default()), |name| name.into()),
                lost_at_ms: 0,
            };
            self.book.add(n, pending);
        }
        push
    }

    fn log_activity(&self, cx: &mut Context, envelope: &Envelope<'_>, n: u64, xid: &[u8]) {
        let limits = Rc::clone(&cx.limits);
        if limits.activity_bytes_max == 0 {
            return;
        }
        // A session's envelope need not name its service: the one that the CONNECT named is the one that answers.
        let named = envelope.service.as_deref().unwrap_or_default();
        let service = self.book.get(n).map_or(named, |conversation| conversation.service());
        let whose = self.whose(cx);
        let style = Style {
            format: limits.activity_format,
            protect: &limits.log_protect,
            bytes_max: limits.activity_bytes_max,
        };
        for message in envelope.messages.iter().filter(|message| message.kind == Kind::Request) {
            let method = message.method.as_deref().unwrap_or_default();
            let request = Request { service, method, params: message.params, xid };
            activity::request(&mut cx.output.activity, whose, &request, style);
        }
    }

    /// The name of conversation `n` on the bus.
    pub(super) fn bus_thread(&self, n: u64) -> BusThread {
        BusThread { slot: self.slot(), generation: self.generation(), n }
    }

    /// Tells the worker of a session that its client is not coming back.
    pub(super) fn disconnect_worker(&self, cx: &mut Context, conversation: &Conversation) {
        if let Some(worker) = &conversation.worker {
            let mut bus_thread = String::new();
            self.bus_thread(conversation.n).write(conversation.thread(), &mut bus_thread);
            cx.push_disconnect(conversation.worker_domain, worker, &bus_thread, &conversation.xid);
        }
    }
}
