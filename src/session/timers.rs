//! The timers of one client: when it must be looked at, and what is done then.

use super::client::{Class, Client, Stage};
use super::context::Context;
use super::output::Level;
use crate::counters::{self, Limit};
use crate::drain::Verdict;
use crate::websocket::{CloseCode, frame, handshake};

impl Client {
    /// When something may have to be done if nothing happens before; `u64::MAX` = never.
    pub(super) fn due_ms(&self, cx: &Context) -> u64 {
        let limits = &cx.limits;
        let times = &self.times;
        match &self.stage {
            Stage::Handshake(_) => times.accepted_ms + limits.handshake_timeout_ms,
            Stage::Closing { since_ms, .. } => since_ms + limits.close_timeout_ms,
            Stage::Gone => u64::MAX,
            Stage::Open => {
                let mut due = times.requests_due_ms;
                if self.paused {
                    // The peer cannot be heard while nothing is read from it.
                } else if times.ping_since_ms > 0 {
                    due = due.min(times.ping_since_ms + limits.pong_timeout_ms);
                } else {
                    due = due.min(times.received_ms + limits.ping_ms);
                }
                if times.message_since_ms > 0 && !self.paused {
                    due = due.min(times.message_since_ms + limits.message_timeout_ms);
                }
                if let Some(since_ms) = self.gap_since_ms() {
                    if let Some(drain) = &cx.drain {
                        due = due.min(drain.next_look_ms(since_ms, cx.now_ms));
                    } else if limits.idle_timeout_ms > 0 {
                        due = due.min(since_ms + limits.idle_timeout_ms);
                    }
                }
                due
            }
        }
    }

    /// The core stood still for `stalled_ms`: what the peer sent meanwhile has not been read, so it gets that time back.
    pub(super) fn forgive(&mut self, stalled_ms: u64, now_ms: u64) {
        // What began after the stall, before this tick, has nothing to be forgiven: no time may lie ahead.
        let forgive = |since_ms: &mut u64| *since_ms = (*since_ms + stalled_ms).min(now_ms);
        let times = &mut self.times;
        if matches!(self.stage, Stage::Handshake(_)) {
            forgive(&mut times.accepted_ms);
        }
        for since_ms in [&mut times.ping_since_ms, &mut times.message_since_ms] {
            if *since_ms > 0 {
                forgive(since_ms);
            }
        }
        if let Stage::Closing { since_ms, .. } = &mut self.stage {
            forgive(since_ms);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        match &self.stage {
            Stage::Handshake(_) => {
                if now_ms >= self.times.accepted_ms + cx.limits.handshake_timeout_ms {
                    cx.hit(Limit::handshake_timeout_seconds);
                    let response = handshake::refuse(408, "the handshake took too long (handshake_timeout_seconds)");
                    self.refuse(cx, 408, &response);
                }
            }
            Stage::Closing { since_ms, awaits_close, .. } => {
                if now_ms >= since_ms + cx.limits.close_timeout_ms {
                    if *awaits_close {
                        cx.hit(Limit::close_timeout_seconds);
                    }
                    self.stage = Stage::Gone;
                }
            }
            Stage::Open => self.tick_open(cx),
            Stage::Gone => {}
        }
    }

    fn tick_open(&mut self, cx: &mut Context) {
        let now_ms = cx.now_ms;
        if now_ms >= self.times.requests_due_ms {
            self.give_up(cx);
            // Telling a slow consumer closes it: nothing may follow the Close, no ping and no second reason.
            if !matches!(self.stage, Stage::Open) {
                return;
            }
        }
        if let Some(since_ms) = self.gap_since_ms() {
            match cx.drain.as_mut().map(|drain| drain.judge(since_ms, now_ms)) {
                Some(Verdict::Close) => {
                    counters::add(&cx.counts().closed_at_gap, 1);
                    self.close(cx, CloseCode::RESTART, "this gateway is being drained; reconnect");
                    return;
                }
                None if cx.limits.idle_timeout_ms > 0 && now_ms >= since_ms + cx.limits.idle_timeout_ms => {
                    cx.hit(Limit::idle_timeout_seconds);
                    self.close(cx, CloseCode::IDLE, "idle for too long (idle_timeout_seconds)");
                    return;
                }
                Some(Verdict::Wait) | None => {}
            }
        }
        if self.paused {
            return;
        }
        if self.times.message_since_ms > 0 && now_ms >= self.times.message_since_ms + cx.limits.message_timeout_ms {
            cx.hit(Limit::message_timeout_seconds);
            self.close(cx, CloseCode::POLICY, "a message took too long to arrive (message_timeout_seconds)");
        } else if self.times.ping_since_ms > 0 {
            if now_ms >= self.times.ping_since_ms + cx.limits.pong_timeout_ms {
                cx.hit(Limit::pong_timeout_seconds);
                self.gone(cx, "no sign of life after a ping (pong_timeout_seconds)");
            }
        } else if now_ms >= self.times.received_ms + cx.limits.ping_ms {
            self.times.ping_since_ms = now_ms;
            self.outbound.frame(&mut cx.spare, 2, |out| frame::ping(out, b""));
        }
    }

    /// The drain's deadline: whoever is still here is closed.
    pub(super) fn drain_deadline(&mut self, cx: &mut Context) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        if self.gap_since_ms().is_some() {
            counters::add(&cx.counts().closed_at_gap, 1);
        } else {
            self.count_cut(cx, "at the deadline");
        }
        self.close(cx, CloseCode::RESTART, "this gateway is being drained; reconnect");
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
            Stage::Handshake(_) => {
                let response = handshake::refuse(503, "the gateway is stopping; reconnect");
                self.refuse(cx, 503, &response);
            }
            Stage::Closing { .. } | Stage::Gone => {}
        }
    }

    /// The client is closed during a drain, and not at a gap.
    fn count_cut(&self, cx: &mut Context, when: &str) {
        counters::add(&cx.counts().closed_at_deadline, 1);
        counters::add(&cx.counts().cut, u64::from(self.is_busy()));
        let line = format!("drain: client {} was cut off {when}: {}", self.address, self.holds(cx.now_ms));
        cx.output.log(Level::Warn, line);
    }

    /// What the client still holds, for the log: its oldest request or session, unsent bytes.
    fn holds(&self, now_ms: u64) -> String {
        match self.oldest(now_ms) {
            Some((service, method, age_ms)) => {
                format!("{} {} for {age_ms} ms", service.escape_debug(), method.escape_debug())
            }
            None if self.is_busy() => format!("{} bytes not sent", self.outbound.bytes()),
            None => "half a message".to_owned(),
        }
    }

    /// The service, method and age of what the client has waited for longest; a session's method is empty.
    pub(super) fn oldest(&self, now_ms: u64) -> Option<(&str, &str, u64)> {
        let conversations = self.book.conversations();
        let pending = conversations
            .iter()
            .flat_map(|c| c.pending.iter().map(move |p| (c.service(), &*p.method, now_ms - p.since_ms)))
            .max_by_key(|(.., age_ms)| *age_ms);
        let session = || {
            conversations
                .iter()
                .filter(|c| c.connected)
                .map(|c| (c.service(), "", now_ms - c.connected_since_ms))
                .max_by_key(|(.., age_ms)| *age_ms)
        };
        pending.or_else(session)
    }

    /// Whether the drain still waits for this client for a reason other than its turn.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.class(), Some(Class::Sending | Class::Waiting | Class::Session))
    }
}
