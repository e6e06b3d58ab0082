//! One WebSocket client: its stage, what it sent and has not finished, what it has not been sent, and its book.
//!
//! `entering` is its handshake, `reading` its frames, `gap` when a close takes nothing from it, `gauges` what it is counted as:
//! they may touch all of it. The rest of the folder has verbs, and the few fields that are `pub(super)`.

mod entering;
mod gap;
mod gauges;
mod reading;

use super::addresses::Place;
use super::book::Book;
use super::closing::Closing;
use super::context::Context;
use super::number::ConnectionNumber;
use super::outbound::Outbound;
use super::output::SlotIndex;
use super::rate::{Bucket, Rate};
use super::times::{Stamp, Times};
use crate::counters::{self, Limit};
use crate::json::judge::Judge;
use crate::opensrf::activity::Whose;
use crate::opensrf::envelope::Trace;
use crate::opensrf::error::{self, Exception};
use crate::opensrf::transport::ReplyTo;
use crate::websocket::CloseCode;
use crate::websocket::decoder::Decoder;
use crate::websocket::header::Header;
use crate::websocket::net::Address;
use crate::websocket::proxy_header::Opening;

/// A time as `Retry-After` has it: a whole number of seconds, and one at least.
pub(super) fn in_seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000).max(1)
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// The PROXY header is not all here; what has come of it. In a box, as below.
    #[expect(clippy::box_collection, reason = "an open client should not pay for it")]
    ProxyHeader(Option<Box<Vec<u8>>>),
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

/// Whether somebody wants a client gone who has not had it closed yet. One byte, for an idle client has to pay for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwanted {
    /// Nobody does.
    No,
    /// It came when the process had as many clients as it may: its handshake is refused.
    Surplus,
    /// It is open, and an operator has asked for its end, which comes at its gap.
    Dismissed,
}

/// What an open client is counted as; exclusive, the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Reply bytes that are not delivered: the peer's TCP has not acknowledged them.
    Sending,
    /// Something pending.
    Waiting,
    /// Nothing pending, and what it sent cannot go on: it is not read from, or its backlog is kept back, until the bus or the
    /// core has room, or a drain closes it.
    WaitingForRoom,
    /// A session between two requests.
    Session,
    /// None of these.
    Idle,
}

/// One connection, from accept to the end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they cost a byte each")]
pub struct Client {
    /// Where it stands in the core's table.
    slot: SlotIndex,
    /// Which of the slot's clients it is.
    generation: u32,
    /// Whence the connection came, then the address that a trusted proxy named: in a PROXY header, then in those of the request.
    address: Address,
    pub(super) stage: Stage,
    decoder: Decoder,
    /// Judges the long message that is coming in.
    judge: Option<Box<Judge>>,
    pub(super) book: Book,
    pub(super) outbound: Outbound,
    pub(super) times: Times,
    /// Bytes that the peer has acknowledged since it began to owe a pong.
    acknowledged_since_ping: u32,
    /// Where its address stands, while it is open.
    place: Place,
    /// What it may send.
    messages: Bucket,
    /// Something of its backlog was kept back because the bus has too much: each tick looks whether it has room again.
    pub(super) waits_for_bus: bool,
    /// The shell was asked to look at it.
    pub(super) asked: bool,
    /// It has its turn in the pace of the drain, if it is at a gap when it has been looked at.
    pub(super) has_turn: bool,
    /// It stands in line for its turn.
    pub(super) in_line: bool,
    /// Bad messages in a row.
    garbage: u16,
    /// REQUESTs relayed.
    requests: u32,
    /// Whether somebody wants it gone.
    unwanted: Unwanted,
    /// What the shell was told: do not read.
    paused: bool,
    /// What the client is counted as in the gauges.
    class: Option<Class>,
    /// It is counted among the handshakes.
    counted_handshaking: bool,
    /// What is counted for it in the core's bytes.
    counted_bytes: usize,
    /// Bytes of its that have come while it may not be read from. Set by the shell, which has them.
    unheard_bytes: u32,
    /// What is counted for it in the core's pending requests and sessions.
    counted_books: (u32, u32),
}

impl Client {
    /// A connection that was just accepted from `peer`, and what it is to begin with.
    pub(super) fn new(slot: SlotIndex, generation: u32, peer: Address, opening: Opening, now_ms: u64) -> Self {
        Self {
            slot,
            generation,
            address: peer,
            stage: match opening {
                Opening::Request => Stage::Handshake(None),
                Opening::ProxyHeader => Stage::ProxyHeader(None),
            },
            decoder: Decoder::new(),
            judge: None,
            book: Book::default(),
            outbound: Outbound::default(),
            times: Times::accepted_at(now_ms),
            acknowledged_since_ping: 0,
            place: Place::NONE,
            messages: Bucket::default(),
            waits_for_bus: false,
            asked: false,
            has_turn: false,
            in_line: false,
            garbage: 0,
            requests: 0,
            unwanted: Unwanted::No,
            paused: false,
            class: None,
            counted_handshaking: false,
            counted_bytes: 0,
            unheard_bytes: 0,
            counted_books: (0, 0),
        }
    }

    /// Where it stands in the core's table.
    pub(super) fn slot(&self) -> SlotIndex {
        self.slot
    }

    /// Which of the slot's clients it is.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whom its lines in the activity log are about.
    pub(super) fn whose(&self, cx: &Context) -> Whose {
        let cpu = cx.core().cpu as u32;
        let connection = ConnectionNumber { cpu, slot: self.slot, generation: self.generation };
        Whose { address: self.address, connection }
    }

    /// Whether an operator has asked for its end, which comes at its gap.
    pub(super) fn is_dismissed(&self) -> bool {
        self.unwanted == Unwanted::Dismissed
    }

    /// An operator asks for that.
    pub(super) fn set_dismissed(&mut self) {
        self.unwanted = Unwanted::Dismissed;
    }

    /// Whence it comes, as far as is known.
    pub(super) fn address(&self) -> Address {
        self.address
    }

    /// Where its address stands, while it is open.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes a message off what it may send; whether there was one.
    pub(super) fn take_message(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.messages.take(rate, now_ms)
    }

    /// It sent a bad message; how many that makes in a row.
    pub(super) fn sent_garbage(&mut self) -> u32 {
        self.garbage = self.garbage.saturating_add(1);
        self.garbage.into()
    }

    /// Bad messages in a row.
    #[cfg(test)]
    pub(super) fn garbage(&self) -> u32 {
        self.garbage.into()
    }

    /// It sent a good one: the row is at its end.
    pub(super) fn forget_garbage(&mut self) {
        self.garbage = 0;
    }

    /// A REQUEST is relayed.
    pub(super) fn count_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// REQUESTs relayed.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// It owes a sign of life from now on: a ping is about to be queued, or what it has taken has earned it as long again.
    pub(super) fn owes_pong(&mut self, now_ms: u64) {
        self.times.ping_since = Stamp::at(now_ms);
        self.acknowledged_since_ping = 0;
    }

    /// Bytes that it has acknowledged since it began to owe one.
    pub(super) fn acknowledged_since_ping(&self) -> u64 {
        self.acknowledged_since_ping.into()
    }

    /// It has acknowledged so many bytes more.
    pub(super) fn acknowledged_more(&mut self, bytes: u64) {
        self.acknowledged_since_ping =
            self.acknowledged_since_ping.saturating_add(bytes.try_into().unwrap_or(u32::MAX));
    }

    /// Whether the shell was told not to read from it.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// It is not read from.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// It is read from again: what it sent meanwhile comes from now on.
    pub(super) fn resume(&mut self, now_ms: u64) {
        self.paused = false;
        self.times.activity = Stamp::at(now_ms);
        self.times.received = Stamp::at(now_ms);
        self.times.ping_since = Stamp::NONE;
        if matches!(self.stage, Stage::Open) && !self.decoder.is_clean() {
            self.times.message_since = Stamp::at(now_ms);
            self.times.message_heard = Stamp::at(now_ms);
        }
    }

    /// Bytes of its that have come while it may not be read from.
    pub(super) fn unheard_bytes(&self) -> u32 {
        self.unheard_bytes
    }

    /// The shell has so many of them.
    pub(super) fn keep_unheard(&mut self, bytes: u32) {
        self.unheard_bytes = bytes;
    }

    /// Bytes held of an unfinished message.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.decoder.bytes_held() + self.judge.as_ref().map_or(0, |judge| judge.bytes_held())
    }

    /// Bytes that have come of it.
    #[cfg(feature = "simulator")]
    pub(super) fn gathered(&self) -> usize {
        self.decoder.gathered()
    }

    /// Whether the message is so long that it is judged while it comes in.
    pub(super) fn is_judging(&self) -> bool {
        self.judge.is_some()
    }

    /// Gives back what has come of an unfinished message.
    pub(super) fn forget_unfinished(&mut self) {
        self.judge = None;
        self.decoder = Decoder::new();
    }

    /// Bytes came.
    pub(super) fn input(&mut self, cx: &mut Context, bytes: &mut [u8]) {
        counters::add(&cx.counts().received_bytes, bytes.len() as u64);
        self.times.received = Stamp::at(cx.now_ms);
        self.times.ping_since = Stamp::NONE;
        match &mut self.stage {
            Stage::ProxyHeader(held) => {
                let held = held.take().map_or_else(Vec::new, |held| *held);
                let taken = self.proxy_header(cx, held, bytes);
                if matches!(self.stage, Stage::Handshake(_)) && taken < bytes.len() {
                    self.request(cx, &mut bytes[taken..]);
                }
            }
            Stage::Handshake(_) => self.request(cx, bytes),
            Stage::Open | Stage::Closing(_) => {
                if self.reads_frames() {
                    self.frames(cx, bytes);
                }
            }
            Stage::Gone => {}
        }
    }

    /// Bytes held of an unfinished header.
    pub(super) fn header_bytes(&self) -> usize {
        match &self.stage {
            Stage::ProxyHeader(Some(held)) => held.len(),
            Stage::Handshake(Some(header)) => header.len(),
            _ => 0,
        }
    }

    /// Whether what comes is read as frames; else it is discarded.
    pub(super) fn reads_frames(&self) -> bool {
        match &self.stage {
            Stage::Open => true,
            Stage::Closing(closing) => closing.awaits_close(),
            Stage::ProxyHeader(_) | Stage::Handshake(_) | Stage::Gone => false,
        }
    }

    /// Sends our own error replies: one envelope for each of `traces`, since the browser client reads only the first
    /// message of one; one with 0 where no trace could be read.
    pub(super) fn error(&mut self, cx: &mut Context, to: ReplyTo<'_>, traces: &[Trace], exception: Exception<'_>) {
        let traces = if traces.is_empty() { &[Trace::UNREADABLE] } else { traces };
        for trace in traces {
            counters::add(&cx.counts().errors_made, 1);
            cx.core().codes.errors.count(exception.status);
            self.send_text(cx, 256 + exception.text.len(), |out| error::write_error(out, to, trace, exception));
        }
    }

    /// Queues a text frame; a client that does not read its replies is closed.
    pub(super) fn send_text(&mut self, cx: &mut Context, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.takes_more(cx) {
            let bytes = self.outbound.text(&mut cx.reuse, bytes_hint, write);
            cx.sends_message(bytes);
        }
    }

    /// Whether a message may be queued for it; one that does not read its replies is closed.
    pub(super) fn takes_more(&mut self, cx: &mut Context) -> bool {
        matches!(self.stage, Stage::Open) && !self.check_slow(cx)
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
        let bytes = self.outbound.sent();
        counters::add(&cx.counts().sent_bytes, bytes);
        if was_unsent && !self.outbound.is_unsent() {
            self.times.activity = Stamp::at(cx.now_ms);
        }
    }

    /// Bytes held for this client; what one holds that is over is given back as soon as its socket is.
    pub(super) fn bytes(&self) -> usize {
        if matches!(self.stage, Stage::Gone) {
            return 0;
        }
        let held = self.unfinished_bytes() + self.header_bytes() + self.unheard_bytes as usize;
        self.outbound.bytes() + self.book.backlog_bytes() + held
    }

    /// Whether more may be read: there is room for it, and no drain has it fall silent.
    pub(super) fn may_read(&self, cx: &Context) -> bool {
        self.has_room(cx) && !self.is_silenced(cx)
    }

    /// Whether the backlog has room for more, and so has the core.
    pub(super) fn has_room(&self, cx: &Context) -> bool {
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
}
