//! What a client sends, frame by frame.

use super::super::context::Context;
use super::super::times::Stamp;
use super::{Client, Stage};
use crate::counters::{self, Limit};
use crate::json::judge::Judge;
use crate::websocket::CloseCode;
use crate::websocket::decoder::{Event, Violation};
use crate::websocket::frame::{self, OpCode};

/// Bytes of an unfinished message from which on it is judged while it comes in.
const JUDGED_FROM: usize = if cfg!(feature = "simulator") { 48 } else { 16 * 1024 };

impl Client {
    /// Reads what has come of frames, for as long as they are read.
    pub(super) fn frames(&mut self, cx: &mut Context, input: &mut [u8]) {
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
                self.times.message_since = Stamp::NONE;
                self.times.activity = Stamp::at(cx.now_ms);
                counters::add(&cx.counts().messages_in, 1);
                cx.core().histograms.message_in.count(text.len() as u64);
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

    /// Notes since when a message has been unfinished, and when more of it came; `gathered`: what there was before. One that begins
    /// when its client may not speak any more is not waited for.
    fn time_unfinished(&mut self, cx: &Context, gathered: usize) {
        if self.decoder.is_clean() {
            self.times.message_since = Stamp::NONE;
        } else {
            if self.times.message_since.is_none() && !self.is_silenced(cx) {
                self.times.message_since = Stamp::at(cx.now_ms);
                self.times.message_heard = Stamp::at(cx.now_ms);
            }
            // A ping between its fragments is no byte of the message.
            if self.decoder.gathered() != gathered {
                self.times.message_heard = Stamp::at(cx.now_ms);
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
}
