//! One WebSocket client: its stage, what it sent and has not finished, what it has not been sent, and its book.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::addresses::Place;
use super::book::Book;
use super::closing::Closing;
use super::context::Context;
use super::outbound::Outbound;
use super::output::{Severity, SlotIndex};
use super::rate::Bucket;
use crate::counters::{self, Limit};
use crate::json::judge::Judge;
use crate::opensrf::envelope::Trace;
use crate::opensrf::error::{self, Exception};
use crate::opensrf::transport::ReplyTo;
use crate::websocket::CloseCode;
use crate::websocket::decoder::{Decoder, Event, Violation};
use crate::websocket::frame::{self, OpCode};
use crate::websocket::handshake::{self, Progress};
use crate::websocket::header::{self, Header};

/// Bytes of an unfinished message from which on it is judged while it comes in.
const JUDGED_FROM: usize = if cfg!(feature = "simulator") { 48 } else { 16 * 1024 };

/// When a handshake that is too fast may be repeated, s: no rate is slower than one a second.
const RATE_RETRY_SECONDS: u64 = 1;
/// When there may be a bus, s: as a rule an attempt to reach it begins that often (`bus_backoff_max_ms`).
const BUS_RETRY_SECONDS: u64 = 2;

/// Why a handshake is refused with 429.
const TOO_MANY_CONNECTS: &str =
    "This address opens more connections a second than it may (address_connects_per_second_max); try again shortly.";

/// A time as `Retry-After` has it: a whole number of seconds, and one at least.
pub(super) fn in_seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000).max(1)
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// The HTTP request is not all here; what has come of it. In a box, as below.
    Handshake(Option<Box<Header>>),
    /// WebSocket messages flow.
    Open,
    /// Our last frame (or HTTP refusal) is queued; what still comes is read and discarded.
    /// In a box: an idle client should not pay for it.
    Closing(Box<Closing>),
    /// The socket is to be given back.
    Gone,
}

/// What an open client is counted as; exclusive, the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Reply bytes that are not delivered: the peer's TCP has not acknowledged them.
    Sending,
    /// Something pending.
    Waiting,
    /// Nothing pending, and what it sent cannot go on: it is not read from, or its backlog is kept back, until the bus or the
    /// core has room.
    WaitingForRoom,
    /// A session between two requests.
    Session,
    /// None of these.
    Idle,
}

/// The times that the timers go by, ms since the process began.
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "a number carries its unit")]
pub(super) struct Times {
    /// The connection was accepted.
    pub(super) accepted_ms: u64,
    /// Any byte came; also the start of a read pause.
    pub(super) received_ms: u64,
    /// The upgrade, the last byte of a data message, the last byte of a reply taken by the kernel, then delivered.
    pub(super) activity_ms: u64,
    /// The first byte of a message that is not complete came; 0 = none.
    pub(super) message_since_ms: u64,
    /// The last byte of it came.
    pub(super) message_heard_ms: u64,
    /// A ping was sent and nothing has come since, or a slow reader was found alive; 0 = no pong is owed.
    pub(super) ping_since_ms: u64,
    /// It was last seen to acknowledge more while something was on its way to it; 0 = nothing is.
    pub(super) acknowledged_ms: u64,
    /// Its replies have been on their way since then; 0 = they are not.
    pub(super) sending_since_ms: u64,
    /// When the first pending request may have to be given up; `u64::MAX` = none.
    pub(super) requests_due_ms: u64,
}

/// One connection, from accept to the end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they cost a byte each")]
pub struct Client {
    /// Where it stands in the core's table.
    pub(super) slot: SlotIndex,
    /// Which of the slot's clients it is.
    pub(super) generation: u32,
    /// Whence the connection came, then the address that a trusted proxy named.
    pub(super) address: IpAddr,
    pub(super) stage: Stage,
    pub(super) decoder: Decoder,
    /// Judges the long message that is coming in.
    pub(super) judge: Option<Box<Judge>>,
    pub(super) book: Book,
    pub(super) outbound: Outbound,
    pub(super) times: Times,
    /// How far the peer had acknowledged what it was sent when it began to owe a pong.
    pub(super) acknowledged_at_ping: u64,
    /// Where its address stands, while it is open.
    pub(super) place: Place,
    /// What it may send.
    pub(super) messages: Bucket,
    /// Something of its backlog was kept back because the bus has too much: each tick looks whether it has room again.
    pub(super) waits_for_bus: bool,
    /// The shell was asked to look at it.
    pub(super) asked: bool,
    /// It has its turn in the pace of the drain, if it is at a gap when it has been looked at.
    pub(super) has_turn: bool,
    /// It stands in line for its turn.
    pub(super) in_line: bool,
    /// Bad messages in a row.
    pub(super) garbage: u32,
    /// REQUESTs relayed.
    pub(super) requests: u32,
    /// It came when the process had as many clients as it may: its handshake is refused.
    pub(super) surplus: bool,
    /// What the shell was told: do not read.
    pub(super) paused: bool,
    /// What the client is counted as in the gauges.
    pub(super) class: Option<Class>,
    /// It is counted among the handshakes.
    pub(super) counted_handshaking: bool,
    /// What is counted for it in the core's bytes.
    pub(super) counted_bytes: usize,
    /// Bytes of its that have come while it may not be read from. Set by the shell, which has them.
    pub(super) unheard_bytes: u32,
    /// What is counted for it in the core's pending requests and sessions.
    pub(super) counted_books: (u32, u32),
}

impl Client {
    /// A connection that was just accepted from `peer`.
    pub(super) fn new(slot: SlotIndex, generation: u32, peer: IpAddr, now_ms: u64) -> Self {
        Self {
            slot,
            generation,
            address: peer,
            stage: Stage::Handshake(None),
            decoder: Decoder::new(),
            judge: None,
            book: Book::default(),
            outbound: Outbound::default(),
            times: Times {
                accepted_ms: now_ms,
                received_ms: now_ms,
                activity_ms: now_ms,
                requests_due_ms: u64::MAX,
                ..Times::default()
            },
            acknowledged_at_ping: 0,
            place: Place::NONE,
            messages: Bucket::default(),
            waits_for_bus: false,
            asked: false,
            has_turn: false,
            in_line: false,
            garbage: 0,
            requests: 0,
            surplus: false,
            paused: false,
            class: None,
            counted_handshaking: false,
            counted_bytes: 0,
            unheard_bytes: 0,
            counted_books: (0, 0),
        }
    }

    /// Bytes came.
    pub(super) fn input(&mut self, cx: &mut Context, bytes: &mut [u8]) {
        self.times.received_ms = cx.now_ms;
        self.times.ping_since_ms = 0;
        match &mut self.stage {
            Stage::Handshake(header) => {
                let header = header.take();
                // A header is bounded; what a client sends behind an unfinished one is not kept.
                let held = header.as_ref().map_or(0, |header| header.len());
                let taken = bytes.len().min((cx.limits.policy.header_bytes_max + 1).saturating_sub(held));
                let (taken, after) = bytes.split_at_mut(taken);
                self.header(cx, header, taken);
                if !after.is_empty() {
                    self.frames(cx, after);
                }
            }
            Stage::Open | Stage::Closing(_) => {
                if self.reads_frames() {
                    self.frames(cx, bytes);
                }
            }
            Stage::Gone => {}
        }
    }

    /// Whether what comes is read as frames; else it is discarded.
    pub(super) fn reads_frames(&self) -> bool {
        match &self.stage {
            Stage::Open => true,
            Stage::Closing(closing) => closing.awaits_close(),
            Stage::Handshake(_) | Stage::Gone => false,
        }
    }

    /// More of the header came.
    fn header(&mut self, cx: &mut Context, header: Option<Box<Header>>, taken: &mut [u8]) {
        let policy = &cx.limits.policy;
        if let Some(mut header) = header {
            match header.take(taken, policy, self.address) {
                Progress::Incomplete => self.stage = Stage::Handshake(Some(header)),
                progress => self.handshake(cx, progress, header.bytes_mut()),
            }
        } else {
            match header::begin(taken, policy, self.address) {
                Progress::Incomplete => self.stage = Stage::Handshake(Some(Box::new(Header::new(taken)))),
                progress => self.handshake(cx, progress, taken),
            }
        }
    }

    /// The header has ended, or something is wrong with it: `bytes` begin with it.
    fn handshake(&mut self, cx: &mut Context, progress: Progress, bytes: &mut [u8]) {
        match progress {
            Progress::Incomplete => {}
            Progress::Refused(refused) => {
                if refused.status == 431 {
                    cx.hit(Limit::header_bytes_max);
                }
                self.refuse(cx, refused.status, &refused.response);
            }
            // Whether the process is ready, the shell knows.
            Progress::Probe { head } => {
                self.stage = Stage::Handshake(None);
                cx.output.probes.push((self.slot, head));
            }
            Progress::Accepted(_) if self.surplus => self.refuse_surplus(cx),
            Progress::Accepted(_) if !cx.bus_ever_up => {
                let response = handshake::refuse_for(
                    503,
                    "the OpenSRF bus has not been reached yet; try again shortly",
                    BUS_RETRY_SECONDS,
                );
                self.refuse(cx, 503, &response);
            }
            Progress::Accepted(accepted) => {
                self.address = accepted.client;
                let is_proxy = cx.limits.policy.trusts(self.address);
                let (connects, now_ms) = (cx.limits.address_connects, cx.now_ms);
                let Some(place) = cx.outstanding.addresses.enter(self.address, is_proxy, connects, now_ms) else {
                    cx.hit(Limit::address_connects_per_second_max);
                    cx.say_throttled(self.address, Limit::address_connects_per_second_max);
                    let response = handshake::refuse_for(429, TOO_MANY_CONNECTS, RATE_RETRY_SECONDS);
                    return self.refuse(cx, 429, &response);
                };
                self.place = place;
                self.outbound.answer(&mut cx.reuse, &accepted.response);
                self.stage = Stage::Open;
                self.times.activity_ms = cx.now_ms;
                // Writing to a String cannot fail.
                let _ = writeln!(cx.output.activity, "[{}] [] connect", self.address);
                if accepted.consumed < bytes.len() {
                    self.frames(cx, &mut bytes[accepted.consumed..]);
                }
            }
        }
    }

    /// Answers a handshake with an HTTP error and ends the connection.
    pub(super) fn refuse(&mut self, cx: &mut Context, status: u16, response: &[u8]) {
        counters::add(&cx.counts().handshakes_refused, 1);
        cx.output.log(Severity::Debug, format!("client {}: handshake refused with {status}", self.address));
        self.answer(cx, response);
    }

    /// Answers the HTTP request and ends the connection.
    pub(super) fn answer(&mut self, cx: &mut Context, response: &[u8]) {
        self.outbound.answer(&mut cx.reuse, response);
        self.stage = Stage::Closing(Box::new(Closing::new(cx.now_ms, self.outbound.acknowledged(), false)));
    }

    /// The process has as many clients as it may. Where balancers probe this port, that shows only when the request is
    /// here: a full node is no dead one.
    pub(super) fn no_place(&mut self, cx: &mut Context) {
        if cx.limits.policy.health_path.is_some() {
            self.surplus = true;
        } else {
            self.refuse_surplus(cx);
        }
    }

    /// When a client leaves, nobody knows; whoever has a place and shakes no hands has lost it by then.
    fn refuse_surplus(&mut self, cx: &mut Context) {
        let retry_after = in_seconds(cx.limits.handshake_timeout_ms);
        let reason = "too many clients (clients_max); try again later or another node";
        self.refuse(cx, 503, &handshake::refuse_for(503, reason, retry_after));
    }

    /// Reads what has come of frames, for as long as they are read.
    fn frames(&mut self, cx: &mut Context, input: &mut [u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let gathered = decoder.gathered();
        let mut at = 0;
        while self.reads_frames() {
            match decoder.next(input, &mut at, cx.limits.message_bytes_max) {
                Ok(None) => break,
                Ok(Some(event)) => self.event(cx, event),
                Err(violation) => self.violated(cx, violation),
            }
        }
        decoder.release();
        if self.reads_frames() {
            self.judge_so_far(cx, decoder.message());
            self.decoder = decoder;
            self.time_unfinished(cx, gathered);
        } else {
            self.judge = None;
        }
    }

    /// One message or control frame.
    fn event(&mut self, cx: &mut Context, event: Event<'_>) {
        match event {
            Event::Message(opcode, payload) if cx.limits.echo => {
                self.outbound.message(&mut cx.reuse, opcode, payload.len(), |out| out.extend_from_slice(payload));
                self.check_slow(cx);
            }
            // What is binary is taken as text, and text must be UTF-8.
            Event::Message(OpCode::Binary, bytes) if simdutf8::basic::from_utf8(bytes).is_err() => {
                self.close(cx, CloseCode::NOT_UTF8, "a binary message is taken as text, and this one is not UTF-8");
            }
            Event::Message(_, text) => {
                self.times.message_since_ms = 0;
                self.times.activity_ms = cx.now_ms;
                counters::add(&cx.counts().messages_in, 1);
                let judged = self.judge.take().map(|judge| judge.finish(text));
                if matches!(self.stage, Stage::Open) {
                    self.message(cx, text, judged);
                } else {
                    self.crossed(cx, text, judged.as_ref());
                }
            }
            Event::Ping(payload) => {
                if matches!(self.stage, Stage::Open) {
                    self.outbound.frame(&mut cx.reuse, payload.len() + 4, |out| frame::pong(out, payload));
                    self.check_slow(cx);
                }
            }
            Event::Pong => {}
            Event::Close { code, .. } => self.peer_closed(cx, code),
        }
    }

    /// What came breaks the protocol.
    fn violated(&mut self, cx: &mut Context, violation: Violation) {
        if violation.code == CloseCode::TOO_LARGE {
            cx.hit(Limit::message_bytes_max);
        }
        if matches!(self.stage, Stage::Open) {
            self.close(cx, violation.code, violation.reason);
        }
        // No frame can be found any more: the peer's Close will not be recognised.
        if let Stage::Closing(closing) = &mut self.stage {
            closing.owes_no_close(cx.now_ms);
        }
    }

    /// Notes since when a message has been unfinished, and when more of it came; `gathered`: what there was before.
    fn time_unfinished(&mut self, cx: &Context, gathered: usize) {
        if self.decoder.is_clean() {
            self.times.message_since_ms = 0;
        } else {
            if self.times.message_since_ms == 0 {
                self.times.message_since_ms = cx.now_ms;
                self.times.message_heard_ms = cx.now_ms;
            }
            // A ping between its fragments is no byte of the message.
            if self.decoder.gathered() != gathered {
                self.times.message_heard_ms = cx.now_ms;
            }
        }
    }

    /// Judges what has come of a long message: when its last byte is here, little is left to be done.
    fn judge_so_far(&mut self, cx: &Context, message: &[u8]) {
        if message.len() >= JUDGED_FROM {
            let depth_max = cx.limits.envelope.json_depth_max;
            self.judge.get_or_insert_with(|| Box::new(Judge::new(depth_max))).see(message);
        }
    }

    /// Sends our own error replies: one envelope for each of `traces`, since the browser client reads only the first
    /// message of one; one with 0 where no trace could be read.
    pub(super) fn error(&mut self, cx: &mut Context, to: ReplyTo<'_>, traces: &[Trace], exception: Exception<'_>) {
        let traces = if traces.is_empty() { &[Trace::UNREADABLE] } else { traces };
        for trace in traces {
            counters::add(&cx.counts().errors_made, 1);
            self.send_text(cx, 256 + exception.text.len(), |out| error::write_error(out, to, trace, exception));
        }
    }

    /// Queues a text frame; a client that does not read its replies is closed.
    pub(super) fn send_text(&mut self, cx: &mut Context, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        if self.check_slow(cx) {
            return;
        }
        counters::add(&cx.counts().messages_out, 1);
        self.outbound.text(&mut cx.reuse, bytes_hint, write);
    }

    /// Closes the client with 1008 if more is unsent than may be. What is queued now may always be as large as it is.
    fn check_slow(&mut self, cx: &mut Context) -> bool {
        let slow = self.outbound.bytes() > cx.limits.outbound_bytes_max;
        if slow {
            cx.hit(Limit::outbound_bytes_max);
            self.outbound.drop_queued();
            self.close(cx, CloseCode::POLICY, "slow consumer: replies were not read (outbound_bytes_max)");
        }
        slow
    }

    /// The kernel has taken the chunk that was handed out.
    pub(super) fn sent(&mut self, cx: &mut Context) {
        let was_unsent = self.outbound.is_unsent();
        self.outbound.sent();
        if was_unsent && !self.outbound.is_unsent() {
            self.times.activity_ms = cx.now_ms;
        }
    }

    /// Bytes held for this client; what one holds that is over is given back as soon as its socket is.
    pub(super) fn bytes(&self) -> usize {
        if matches!(self.stage, Stage::Gone) {
            return 0;
        }
        let header = if let Stage::Handshake(Some(header)) = &self.stage { header.len() } else { 0 };
        let judge = self.judge.as_ref().map_or(0, |judge| judge.bytes_held());
        let held = self.decoder.bytes_held() + judge + header + self.unheard_bytes as usize;
        self.outbound.bytes() + self.book.backlog_bytes() + held
    }

    /// Whether more may be read: the backlog has room, and so has the core.
    pub(super) fn may_read(&self, cx: &Context) -> bool {
        !matches!(self.stage, Stage::Open)
            || (self.book.backlog() < cx.limits.backlog_max
                && self.book.backlog_bytes() < cx.limits.backlog_bytes_max
                && self.may_give(cx)
                && !cx.is_core_full())
    }

    pub(super) fn class(&self) -> Option<Class> {
        if !matches!(self.stage, Stage::Open) {
            None
        } else if self.outbound.is_sending() {
            Some(Class::Sending)
        } else if self.book.pending() > 0 {
            Some(Class::Waiting)
        } else if self.paused || self.book.backlog() > 0 {
            Some(Class::WaitingForRoom)
        } else if self.book.sessions() > 0 {
            Some(Class::Session)
        } else {
            Some(Class::Idle)
        }
    }

    /// Since when the client has been at an idle gap; `None` while it is not, or may not be: of one that is not read from, a
    /// request may have come, and what was not looked at since it was sent may not have arrived.
    pub(super) fn gap_since_ms(&self) -> Option<u64> {
        (self.class() == Some(Class::Idle) && self.decoder.is_clean() && self.outbound.is_delivered())
            .then_some(self.times.activity_ms)
    }
}
