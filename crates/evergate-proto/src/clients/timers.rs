//! The timers of one client: when it must be looked at, and what is done then.

use std::borrow::Cow;

use super::client::{Class, Client, Stage, in_seconds};
use super::context::Context;
use super::output::Severity;
use super::pendings::Pending;
use super::times::Stamp;
use crate::counters::{self, Limit};
use crate::opensrf::envelope::Kind;
use crate::opensrf::printable::Name;
use crate::websocket::{CloseCode, frame, handshake};

/// How soon a client is looked at again whose last reply was found to be on its way, ms.
const LATE_DELIVERY_LOOK_MS: u64 = 1_000;
/// How soon one is looked at whose last reply may not have arrived, where a drain or an operator waits for that, ms.
const DRAIN_DELIVERY_LOOK_MS: u64 = 20;

/// What a handshake is told that is not over at a drain's deadline.
const REFUSED_AT_DEADLINE: &str = "this gateway is being drained; reconnect";

/// The refusal where the process ends: who comes again when it has closed its clients finds its successor.
fn ending(cx: &Context, reason: &str) -> Vec<u8> {
    handshake::refuse_for(503, reason, in_seconds(cx.limits.close_timeout_ms))
}

impl Client {
    /// When something may have to be done if nothing happens before; `u64::MAX` = never.
    pub(super) fn due_ms(&self, cx: &Context) -> u64 {
        let limits = &cx.limits;
        let times = &self.times;
        match &self.stage {
            Stage::ProxyHeader(_) | Stage::Handshake(_) => times.accepted.ms() + limits.handshake_timeout_ms,
            Stage::Closing(closing) => closing.due_ms(limits.close_timeout_ms, self.outbound.is_all_acknowledged()),
            Stage::Gone => u64::MAX,
            Stage::Open => {
                let mut due = times.requests_due.ms().min(self.delivery_due_ms(cx));
                // Whoever makes room on the bus does not know who waits for it.
                if self.waits_for_bus {
                    due = cx.now_ms;
                }
                if !self.is_paused() {
                    due = due.min(self.pong_due_ms(cx).unwrap_or(times.received.ms() + limits.ping_ms));
                }
                if let Some(message_due_ms) = self.message_due_ms(cx) {
                    due = due.min(message_due_ms);
                }
                // In line, or with its turn, it is not forgotten.
                if let Some(from_ms) = self.closable_from_ms(cx).filter(|_| !self.in_line && !self.has_turn) {
                    due = due.min(from_ms);
                }
                if let Some(from_ms) = self.dismissible_from_ms(cx) {
                    due = due.min(from_ms);
                }
                if cx.drain.is_none()
                    && limits.idle_timeout_ms > 0
                    && let Some(since_ms) = self.gap_since_ms()
                {
                    due = due.min(since_ms + limits.idle_timeout_ms);
                }
                due
            }
        }
    }

    /// Whether its gap is waited for.
    fn is_leaving(&self, cx: &Context) -> bool {
        cx.drain.is_some() || self.is_dismissed()
    }

    /// When it must be asked whether the last reply has arrived.
    fn delivery_due_ms(&self, cx: &Context) -> u64 {
        // What the kernel has not taken cannot have arrived.
        if self.outbound.is_delivered() || self.outbound.is_unsent() {
            return u64::MAX;
        }
        let look_ms = if self.is_leaving(cx) {
            DRAIN_DELIVERY_LOOK_MS
        } else if self.outbound.is_late() {
            LATE_DELIVERY_LOOK_MS
        } else {
            // A look costs two system calls. Until it has been idle for a while nobody needs to know; a busy one is never asked.
            match cx.limits.idle_timeout_ms {
                0 => cx.limits.ping_ms,
                idle_ms => cx.limits.ping_ms.min(idle_ms),
            }
        };
        self.times.activity.ms() + look_ms
    }

    /// When a pong is too late; `None` where none is owed, or the client cannot be heard because nothing is read from it.
    fn pong_due_ms(&self, cx: &Context) -> Option<u64> {
        let since = self.times.ping_since;
        (since.is_some() && !self.is_paused()).then(|| since.ms() + cx.limits.pong_timeout_ms)
    }

    /// When an unfinished message has been silent for too long, or takes too long.
    fn message_due_ms(&self, cx: &Context) -> Option<u64> {
        let (since, heard) = (self.times.message_since, self.times.message_heard);
        (since.is_some() && !self.is_paused())
            .then(|| (heard.ms() + cx.limits.message_timeout_ms).min(since.ms() + cx.limits.message_max_ms))
    }

    /// The core stood still for `stalled_ms`: what the peer sent meanwhile has not been read, so it gets that time back.
    pub(super) fn forgive(&mut self, stalled_ms: u64, now_ms: u64) {
        // What began after the stall, before this tick, has nothing to be forgiven: no time may lie ahead.
        let forgiven = |since_ms: u64| (since_ms + stalled_ms).min(now_ms);
        let times = &mut self.times;
        if matches!(self.stage, Stage::ProxyHeader(_) | Stage::Handshake(_)) {
            times.accepted.change(forgiven);
        }
        if times.ping_since.is_some() {
            times.ping_since.change(forgiven);
        }
        if times.message_since.is_some() {
            times.message_since.change(forgiven);
            times.message_heard.change(forgiven);
        }
        if let Stage::Closing(closing) = &mut self.stage {
            closing.forgive(forgiven);
        }
    }

    /// Does what is due. Nobody is judged for a silence before it has been looked at: what a client sent may lie unread
    /// because the core was busy, and only the kernel knows what it has acknowledged.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        let is_due = match &self.stage {
            Stage::Gone => return,
            Stage::ProxyHeader(_) | Stage::Handshake(_) | Stage::Closing(_) => now_ms >= self.due_ms(cx),
            Stage::Open => {
                if now_ms >= self.times.requests_due.ms() {
                    self.give_up(cx);
                    // Telling a slow consumer closes it: nothing may follow the Close, no ping and no second reason.
                    if !matches!(self.stage, Stage::Open) {
                        return;
                    }
                }
                if self.waits_for_bus {
                    self.relay_backlog(cx);
                }
                self.is_judgement_due(cx)
            }
        };
        if is_due {
            self.ask(cx);
        } else {
            self.ping_if_due(cx);
        }
    }

    /// Sends a ping to an open client that has been silent for long enough.
    fn ping_if_due(&mut self, cx: &mut Context) {
        if matches!(self.stage, Stage::Open)
            && !self.is_paused()
            && self.times.ping_since.is_none()
            && cx.now_ms >= self.times.received.ms() + cx.limits.ping_ms
        {
            self.owes_pong(cx.now_ms);
            self.outbound.frame(&mut cx.reuse, 2, |out| frame::ping(out, b""));
        }
    }

    /// Whether an open client is to be judged. During a drain it takes its turn for that.
    fn is_judgement_due(&mut self, cx: &mut Context) -> bool {
        let now_ms = cx.now_ms;
        if !self.in_line
            && !self.has_turn
            && self.is_closable(cx)
            && let Some(drain) = &mut cx.drain
        {
            self.has_turn = !drain.has_line() && drain.take_turn(now_ms);
            if !self.has_turn {
                self.in_line = true;
                drain.line_up(self.slot());
            }
        }
        self.has_turn
            || self.is_dismissible(cx)
            || self.is_idle_for_too_long(cx)
            || now_ms >= self.delivery_due_ms(cx)
            || self.pong_due_ms(cx).is_some_and(|due_ms| now_ms >= due_ms)
            || self.message_due_ms(cx).is_some_and(|due_ms| now_ms >= due_ms)
    }

    /// It is first in line: takes its turn, if it is still at a gap. False where the pace does not allow it yet.
    pub(super) fn take_turn(&mut self, cx: &mut Context) -> bool {
        let was_in_line = std::mem::take(&mut self.in_line);
        if was_in_line
            && self.is_closable(cx)
            && let Some(drain) = &mut cx.drain
        {
            if !drain.take_turn(cx.now_ms) {
                self.in_line = true;
                return false;
            }
            self.has_turn = true;
            self.ask(cx);
        }
        true
    }

    /// The drain is no more, nor is its line.
    pub(super) fn leave_line(&mut self) {
        (self.in_line, self.has_turn) = (false, false);
    }

    fn is_idle_for_too_long(&self, cx: &Context) -> bool {
        let idle_ms = cx.limits.idle_timeout_ms;
        idle_ms > 0 && cx.drain.is_none() && self.gap_since_ms().is_some_and(|since_ms| cx.now_ms >= since_ms + idle_ms)
    }

    /// Has the shell look at this client.
    pub(super) fn ask(&mut self, cx: &mut Context) {
        if !std::mem::replace(&mut self.asked, true) {
            cx.output.look.push(self.slot());
        }
    }

    /// The client has been looked at: what had come was read before this call, and its TCP has yet to acknowledge
    /// `unacknowledged` bytes of what the kernel has taken. It is judged.
    pub(super) fn looked(&mut self, cx: &mut Context, unacknowledged: u64) {
        self.asked = false;
        let (was_delivered, was_late) = (self.outbound.is_delivered(), self.outbound.is_late());
        let more = self.outbound.looked(match &self.stage {
            Stage::Closing(closing) => closing.without_fin(unacknowledged),
            _ => unacknowledged,
        });
        if more > 0 {
            self.acknowledged_more(more);
            if self.times.acknowledged.is_some() {
                let since_ms = cx.now_ms - self.times.acknowledged.ms();
                self.outbound.acknowledged_every_ms =
                    self.outbound.acknowledged_every_ms.max(since_ms.try_into().unwrap_or(u32::MAX));
            }
            self.times.acknowledged =
                if self.outbound.is_all_acknowledged() { Stamp::NONE } else { Stamp::at(cx.now_ms) };
        }
        // When it was delivered is known to the last look. The quiet time before a close counts from when it surely was; the idle
        // time-out is not as fine.
        if !was_delivered && (was_late || !self.outbound.is_delivered() || self.is_leaving(cx)) {
            self.times.activity = Stamp::at(cx.now_ms);
        }
        if !matches!(self.stage, Stage::Open)
            && std::mem::take(&mut self.has_turn)
            && let Some(drain) = &mut cx.drain
        {
            // What the look has read was its Close.
            drain.give_turn_back();
        }
        match &self.stage {
            Stage::ProxyHeader(_) | Stage::Handshake(_) => {
                if cx.now_ms >= self.due_ms(cx) {
                    self.came_too_slowly(cx);
                }
            }
            Stage::Closing(_) => self.judge_closing(cx, more > 0),
            Stage::Open => {
                self.judge(cx);
                self.ping_if_due(cx);
            }
            Stage::Gone => {}
        }
    }

    fn judge(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        if std::mem::take(&mut self.has_turn) {
            // What the look has read may have been a message: then the gap begins anew.
            if self.is_closable(cx) {
                counters::add(&cx.counts().closed_at_gap, 1);
                return self.close(cx, CloseCode::RESTART, "this gateway is being drained; reconnect");
            }
            if let Some(drain) = &mut cx.drain {
                drain.give_turn_back();
            }
        }
        if self.leave_at_gap(cx) {
            return;
        }
        if self.is_idle_for_too_long(cx) {
            cx.hit(Limit::idle_timeout_seconds);
            return self.close(cx, CloseCode::IDLE, "idle for too long (idle_timeout_seconds)");
        }
        if self.message_due_ms(cx).is_some_and(|due_ms| now_ms >= due_ms) {
            if now_ms >= self.times.message_since.ms() + cx.limits.message_max_ms {
                cx.hit(Limit::message_max_seconds);
                self.close(cx, CloseCode::POLICY, "a message took too long to arrive (message_max_seconds)");
            } else {
                cx.hit(Limit::message_timeout_seconds);
                self.close(cx, CloseCode::POLICY, "silence in the middle of a message (message_timeout_seconds)");
            }
        } else if self.pong_due_ms(cx).is_some_and(|due_ms| now_ms >= due_ms) {
            self.judge_pong(cx);
        }
    }

    /// A pong is late: who takes what it is sent, and not too slowly, is alive, however far its pong is behind.
    fn judge_pong(&mut self, cx: &mut Context) {
        let taken = self.acknowledged_since_ping();
        if cx.limits.is_enough(taken) {
            self.owes_pong(cx.now_ms);
        } else if self.outbound.is_all_acknowledged() || taken == 0 {
            cx.hit(Limit::pong_timeout_seconds);
            self.broke(cx, "no sign of life after a ping (pong_timeout_seconds)");
        } else {
            cx.hit(Limit::slow_bytes_per_second_min);
            self.broke(cx, "it owes a pong and takes its replies too slowly (slow_bytes_per_second_min)");
        }
    }

    /// The drain's deadline has passed: whoever is still here is closed. Nothing more is read of anybody first: what is
    /// not relayed now may be sent again elsewhere.
    pub(super) fn drain_deadline(&mut self, cx: &mut Context) {
        match &self.stage {
            Stage::Open if self.is_at_gap(cx) => {
                counters::add(&cx.counts().closed_at_gap, 1);
                self.close(cx, CloseCode::RESTART, "this gateway is being drained; reconnect");
            }
            Stage::Open => {
                self.count_cut(cx, "at the deadline");
                // Not 1012: what it asked for may have been carried out, and must not be sent again unseen.
                self.close(cx, CloseCode::GOING_AWAY, "this gateway is being drained, and its time is over; reconnect");
            }
            Stage::Closing(_) if !self.outbound.is_delivered() => self.count_cut(cx, "at the deadline"),
            // Whoever shook hands from now on would be served, and cut in silence at the end.
            Stage::ProxyHeader(_) | Stage::Handshake(_) => self.refuse(cx, 503, &ending(cx, REFUSED_AT_DEADLINE)),
            Stage::Closing(_) | Stage::Gone => {}
        }
    }

    /// The process is told to stop.
    pub(super) fn stop(&mut self, cx: &mut Context, code: u16, draining: bool) {
        match &self.stage {
            Stage::Open => {
                if draining && self.gap_since_ms().is_none() {
                    self.count_cut(cx, "by a stop");
                }
                let reason = if code == CloseCode::INTERNAL { "the gateway failed" } else { "the gateway is stopping" };
                self.close(cx, code, reason);
            }
            Stage::ProxyHeader(_) | Stage::Handshake(_) => {
                self.refuse(cx, 503, &ending(cx, "the gateway is stopping; reconnect"));
            }
            Stage::Closing(_) if draining && !self.outbound.is_delivered() => self.count_cut(cx, "by a stop"),
            Stage::Closing(_) | Stage::Gone => {}
        }
    }

    /// The client is closed during a drain, and not at a gap.
    fn count_cut(&self, cx: &mut Context, when: &str) {
        counters::add(&cx.counts().closed_at_deadline, 1);
        let is_busy = self.is_busy();
        counters::add(&cx.counts().cut, u64::from(is_busy));
        // Half a message was never a request: its client loses nothing by being closed.
        let word = if is_busy { "cut off" } else { "closed" };
        let line = format!("drain: client {} was {word} {when}: {}", self.address(), self.holds(cx));
        cx.output.log(Severity::Warn, line);
    }

    /// What the client still holds, for the log: its oldest request or session, replies on their way, what there was no room for.
    pub(super) fn holds(&self, cx: &Context) -> String {
        match self.oldest(cx.now_ms) {
            Some((service, _, age_ms)) if self.book.pending() == 0 && self.book.sessions() == 0 => {
                format!("{service} {} for {age_ms} ms", self.undelivered())
            }
            Some((service, method, age_ms)) => {
                format!("{} {} for {age_ms} ms", Name(&service), Name(&method))
            }
            None if self.is_silenced(cx) && self.outbound.is_delivered() && self.book.backlog() == 0 => {
                "what it sent in the second half of the drain".to_owned()
            }
            None if self.class() == Some(Class::WaitingForRoom) => {
                let limit = if cx.is_core_full() { Limit::core_bytes_max } else { cx.outstanding.limit(&cx.limits) };
                format!("what it sent waited for room ({})", Limit::ALL[limit as usize].1)
            }
            None if self.is_busy() => self.undelivered(),
            None => "half a message".to_owned(),
        }
    }

    fn undelivered(&self) -> String {
        format!("{} bytes not delivered", self.outbound.undelivered_bytes())
    }

    /// The service, method and age of what the client has waited for longest; `CONNECT` and `session` stand for the method
    /// of what has none. Of one that waits for nothing but the rest of its replies: `reply`, how much, and since when.
    pub(super) fn oldest(&self, now_ms: u64) -> Option<(Cow<'_, str>, Cow<'_, str>, u64)> {
        let method = |pending: &'_ Pending| if pending.kind == Kind::Connect { "CONNECT" } else { "" };
        let pending = self
            .book
            .conversations()
            .flat_map(|c| c.pending.iter().map(move |p| (c, p)))
            .min_by_key(|(_, p)| p.since_ms)
            .map(|(c, p)| (c.service(), if p.method.is_empty() { method(p) } else { &*p.method }, now_ms - p.since_ms));
        let session = || {
            self.book
                .conversations()
                .filter(|c| c.connected)
                .map(|c| (c.service(), "session", now_ms - c.connected_since_ms))
                .max_by_key(|(.., age_ms)| *age_ms)
        };
        let since = Some(self.times.sending_since).filter(|since| since.is_some() && !self.outbound.is_delivered());
        pending
            .or_else(session)
            .map(|(service, method, age_ms)| (Cow::Borrowed(service), Cow::Borrowed(method), age_ms))
            .or_else(|| since.map(|since| ("reply".into(), self.undelivered().into(), now_ms - since.ms())))
    }

    /// Whether a close would take something from this client: something pending, a session, a reply on its way, what it sent
    /// and there was no room for.
    pub(super) fn is_busy(&self) -> bool {
        self.class().is_some_and(|class| class != Class::Idle) || !self.outbound.is_delivered()
    }
}
