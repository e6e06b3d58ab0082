//! The end of a client: the Close, what crosses it, and giving the connection up without losing what the peer still takes.
//!
//! Every close goes one way. Our Close is queued behind what the client is owed. What it still sends is read and discarded
//! until its Close has come, or until it has acknowledged nothing more for `close_timeout_seconds`. Once everything is with
//! the kernel, our side is shut down; then its end is waited for, as long again. To close a socket any earlier, or with
//! bytes unread, would reset the connection and take from the peer what is on its way. Who takes so little that an open client
//! would count as gone is given up as well: else a byte every other second would hold a socket for ever.

use super::client::{Client, Stage};
use super::context::Context;
use super::limits::Limits;
use super::output::Severity;
use super::times::Stamp;
use crate::counters::{self, Limit};
use crate::json::judge::Judged;
use crate::opensrf::activity;
use crate::opensrf::envelope::Kind;
use crate::opensrf::printable::Name;
use crate::websocket::{CloseCode, frame};

/// How soon a closing client that has not acknowledged everything is looked at again.
const LOOK_MS: u64 = 100;

/// How far a closing client has come.
#[derive(Debug)]
pub(super) struct Closing {
    /// When the closing began, ms.
    began_ms: u64,
    /// When this step began, or the peer last acknowledged something in it, ms.
    since_ms: u64,
    /// When it was looked at last, ms.
    looked_ms: u64,
    /// When it was found last to take enough, ms, and how far it had acknowledged then.
    enough_ms: u64,
    enough_acknowledged: u64,
    /// The peer owes a Close frame. When it does not (any more), our side is shut down once all is with the kernel.
    awaits_close: bool,
    /// Our side has been shut down.
    half_closed: bool,
    /// The peer has ended its side: nothing more comes of it.
    peer_ended: bool,
    /// Requests that crossed our Close.
    crossed: usize,
}

impl Closing {
    /// Begins at `now_ms`, with so much acknowledged.
    pub(super) fn new(now_ms: u64, acknowledged: u64, awaits_close: bool) -> Self {
        Self {
            began_ms: now_ms,
            since_ms: now_ms,
            looked_ms: now_ms,
            enough_ms: now_ms,
            enough_acknowledged: acknowledged,
            awaits_close,
            half_closed: false,
            peer_ended: false,
            crossed: 0,
        }
    }

    /// Whether so little is taken that an open client would count as gone.
    fn takes_too_little(&mut self, acknowledged: u64, limits: &Limits, now_ms: u64) -> bool {
        if now_ms < self.enough_ms + limits.pong_timeout_ms {
            return false;
        }
        let taken = acknowledged - self.enough_acknowledged;
        (self.enough_ms, self.enough_acknowledged) = (now_ms, acknowledged);
        !limits.is_enough(taken)
    }

    /// Whether frames of the peer's are still read: its Close may be among them.
    pub(super) fn awaits_close(&self) -> bool {
        self.awaits_close
    }

    /// The peer owes no Close any more.
    pub(super) fn owes_no_close(&mut self, now_ms: u64) {
        self.awaits_close = false;
        self.since_ms = now_ms;
    }

    /// When the client must be looked at: soon, unless it has acknowledged all that it was sent.
    pub(super) fn due_ms(&self, close_timeout_ms: u64, is_all_acknowledged: bool) -> u64 {
        if is_all_acknowledged { self.since_ms + close_timeout_ms } else { self.looked_ms + LOOK_MS }
    }

    /// Bytes of ours on their way, of `unacknowledged` ones: to the kernel our FIN is one of them, and the last.
    pub(super) fn without_fin(&self, unacknowledged: u64) -> u64 {
        unacknowledged.saturating_sub(u64::from(self.half_closed))
    }

    /// The core stood still: the peer gets that time back.
    pub(super) fn forgive(&mut self, forgiven: impl Fn(u64) -> u64) {
        self.began_ms = forgiven(self.began_ms);
        self.since_ms = forgiven(self.since_ms);
        self.enough_ms = forgiven(self.enough_ms);
    }

    /// Everything is with the kernel: says whether our side is to be shut down now.
    pub(super) fn shut_down(&mut self, now_ms: u64) -> bool {
        let now = !self.awaits_close && !self.half_closed;
        if now {
            self.half_closed = true;
            self.since_ms = now_ms;
        }
        now
    }
}

impl Client {
    /// The client's Close frame.
    pub(super) fn peer_closed(&mut self, cx: &mut Context, code: Option<u16>) {
        match &mut self.stage {
            Stage::Open => {
                let reason = match code {
                    Some(code) => format!("closed by the client with {code}"),
                    None => "closed by the client".to_owned(),
                };
                cx.core().codes.left.count(code.unwrap_or(CloseCode::NONE_GIVEN));
                self.begin_closing(cx, &reason, false);
                self.outbound.frame(&mut cx.reuse, 8, |out| frame::close_echo(out, code));
            }
            Stage::Closing(closing) => closing.owes_no_close(cx.now_ms),
            Stage::ProxyHeader(_) | Stage::Handshake(_) | Stage::Gone => {}
        }
    }

    /// A message that arrived after our Close: discarded, counted, named in the log. No client has more than `parallel_max`
    /// requests under way; who sends more does so on purpose, and gets no line for each.
    pub(super) fn crossed(&mut self, cx: &mut Context, text: &[u8], judged: Option<&Judged>) {
        let address = self.address();
        let Stage::Closing(closing) = &mut self.stage else { return };
        if let Ok(envelope) = cx.read(text, judged) {
            let named_max = cx.limits.parallel_max;
            for message in envelope.messages.iter().filter(|m| m.kind == Kind::Request) {
                counters::add(&cx.counts().crossed_close, 1);
                closing.crossed += 1;
                if closing.crossed > named_max {
                    if closing.crossed == named_max + 1 {
                        let line = format!(
                            "client {address}: more than {named_max} requests crossed our Close frame (parallel_max); the \
                             others are only counted"
                        );
                        cx.output.log(Severity::Warn, line);
                    }
                    continue;
                }
                let line = format!(
                    "client {address}: a request crossed our Close frame and was not relayed: {} {}",
                    Name(envelope.service.as_deref().unwrap_or("-")),
                    Name(message.method.as_deref().unwrap_or("-")),
                );
                cx.output.log(Severity::Warn, line);
            }
        }
    }

    /// Sends a Close frame and ends the client's conversations; what the client still sends is discarded.
    pub(super) fn close(&mut self, cx: &mut Context, code: u16, reason: &str) {
        if matches!(self.stage, Stage::Open) {
            cx.core().codes.closed.count(code);
            self.outbound.frame(&mut cx.reuse, reason.len() + 8, |out| frame::close(out, code, reason));
            self.begin_closing(cx, &format!("closed with {code}: {reason}"), true);
        }
    }

    fn begin_closing(&mut self, cx: &mut Context, reason: &str, awaits_close: bool) {
        self.stage = Stage::Closing(Box::new(Closing::new(cx.now_ms, self.outbound.acknowledged(), awaits_close)));
        self.leave(cx, reason);
    }

    /// The peer has ended its side. A client that did so without a Close is gone, but what it is owed by then is still
    /// sent: it may have ended no more than its own sending.
    pub(super) fn ended(&mut self, cx: &mut Context, reason: &str) {
        match &mut self.stage {
            Stage::ProxyHeader(_) | Stage::Handshake(_) => self.stage = Stage::Gone,
            Stage::Open => {
                cx.core().codes.left.count(CloseCode::NO_CLOSE);
                self.begin_closing(cx, reason, false);
            }
            Stage::Closing(closing) if !closing.peer_ended => closing.owes_no_close(cx.now_ms),
            Stage::Closing(_) | Stage::Gone => return,
        }
        if let Stage::Closing(closing) = &mut self.stage {
            closing.peer_ended = true;
            self.forget_unfinished();
            self.ask(cx);
        }
    }

    /// It holds most of a core that is out of buffers. What it had of half a message is given back at once, at the price of
    /// not recognising its Close; one that closes already has had its chance, however short it was.
    pub(super) fn cut(&mut self, cx: &mut Context) {
        if matches!(self.stage, Stage::Open) {
            self.outbound.drop_queued();
            self.close(
                cx,
                CloseCode::POLICY,
                "the gateway is out of buffers (core_bytes_max): reconnect, and ask for less at once",
            );
            self.forget_unfinished();
            // Of one that closes the shell has what waits heard at once.
            self.keep_unheard(0);
        } else {
            self.give_up_closing(cx, "the gateway is out of buffers (core_bytes_max)");
        }
    }

    /// The connection broke, or is given up: nothing more can be sent or received.
    pub(super) fn broke(&mut self, cx: &mut Context, reason: &str) {
        if matches!(self.stage, Stage::Open) {
            cx.core().codes.left.count(CloseCode::NO_CLOSE);
            self.leave(cx, reason);
        }
        self.stage = Stage::Gone;
        // At once, where the time that it takes is seen: at the end of the turn it would be that of all who broke in it. Half a message
        // may have come after our Close, too.
        self.forget_unfinished();
    }

    /// A closing client has been looked at; `progressed`: it has acknowledged more than before.
    pub(super) fn judge_closing(&mut self, cx: &mut Context, progressed: bool) {
        let is_done = self.outbound.is_all_acknowledged();
        // A proxy with a large window acknowledges what a slow client takes in leaps: who was seen to do so is given the time for
        // the next one.
        let leap_ms = if is_done { 0 } else { 2 * u64::from(self.outbound.acknowledged_every_ms) };
        let silence_ms = cx.limits.close_timeout_ms.max(leap_ms.min(cx.limits.pong_timeout_ms));
        let Stage::Closing(closing) = &mut self.stage else { return };
        closing.looked_ms = cx.now_ms;
        if closing.peer_ended && is_done {
            self.stage = Stage::Gone;
        } else if progressed {
            closing.since_ms = cx.now_ms;
            if closing.takes_too_little(self.outbound.acknowledged(), &cx.limits, cx.now_ms) {
                cx.hit(Limit::slow_bytes_per_second_min);
                self.give_up_closing(cx, "it takes no more, or too little");
            }
        } else if cx.now_ms >= closing.since_ms + silence_ms {
            if std::mem::take(&mut closing.awaits_close) {
                cx.hit(Limit::close_timeout_seconds);
                closing.since_ms = cx.now_ms;
                self.forget_unfinished();
                return;
            }
            self.give_up_closing(cx, "it takes no more, or too little");
        }
    }

    fn give_up_closing(&mut self, cx: &mut Context, why: &str) {
        self.stage = Stage::Gone;
        let undelivered = self.outbound.undelivered_bytes();
        if undelivered > 0 {
            counters::add(&cx.counts().given_up_undelivered, 1);
            let line = format!(
                "client {}: given up while closing: {why}; {undelivered} bytes were not delivered",
                self.address()
            );
            cx.output.log(Severity::Info, line);
        }
    }

    /// Ends the client's conversations: its workers are freed, replies that still come find nobody.
    fn leave(&mut self, cx: &mut Context, reason: &str) {
        let book = std::mem::take(&mut self.book);
        self.orphan_all(cx, &book);
        cx.outstanding.addresses.leave(self.place(), cx.now_ms);
        for conversation in book.conversations().filter(|c| c.connected) {
            self.disconnect_worker(cx, conversation);
        }
        // While the peer owes us its Close, what it sends must still be told apart: it may be half a message now.
        if !self.reads_frames() {
            self.forget_unfinished();
        }
        self.times.message_since = Stamp::NONE;
        let lasted = (cx.now_ms - self.times.accepted.ms(), self.requests());
        let (whose, format) = (self.whose(cx), cx.limits.activity_format);
        activity::disconnect(&mut cx.output.activity, whose, lasted, reason, format);
    }
}
