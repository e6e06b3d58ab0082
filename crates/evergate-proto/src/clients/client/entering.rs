//! A client's way in: a proxy may say first for whom it speaks; then the handshake is answered, and it is open or refused.

use super::super::closing::Closing;
use super::super::context::Context;
use super::super::output::Severity;
use super::super::times::Stamp;
use super::{Client, Stage, Unwanted, in_seconds};
use crate::counters::{self, Limit};
use crate::opensrf::activity;
use crate::websocket::handshake::{self, Progress};
use crate::websocket::header::{self, Header};
use crate::websocket::proxy_header::{self, Wrong};

/// When a handshake that is too fast may be repeated, s: no rate is slower than one a second.
const RATE_RETRY_SECONDS: u64 = 1;
/// When there may be a bus, s: as a rule an attempt to reach it begins that often (`bus_backoff_max_ms`).
const BUS_RETRY_SECONDS: u64 = 2;

/// Why a handshake is refused with 429.
const TOO_MANY_CONNECTS: &str =
    "This address opens more connections a second than it may (address_connects_per_second_max); try again shortly.";

impl Client {
    /// Bytes came of what must begin with a PROXY header, of which this much is held. Says how many of them were its.
    pub(super) fn proxy_header(&mut self, cx: &mut Context, mut held: Vec<u8>, bytes: &[u8]) -> usize {
        let bytes_max = cx.limits.policy.header_bytes_max;
        let before = held.len();
        let read = if before == 0 {
            proxy_header::read(bytes, bytes_max)
        } else {
            held.extend_from_slice(bytes);
            proxy_header::read(&held, bytes_max)
        };
        match read {
            proxy_header::Progress::Incomplete => {
                if before == 0 {
                    held.extend_from_slice(bytes);
                }
                self.stage = Stage::ProxyHeader(Some(Box::new(held)));
                bytes.len()
            }
            proxy_header::Progress::Whole(len, source) => {
                self.address = source.unwrap_or(self.address);
                self.stage = Stage::Handshake(None);
                // Its last byte is among those that came: before, it was not whole.
                len - before
            }
            proxy_header::Progress::Refused(wrong) => {
                if wrong == Wrong::TooLong {
                    cx.hit(Limit::header_bytes_max);
                }
                self.refuse_proxy(cx, wrong);
                bytes.len()
            }
        }
    }

    /// Ends a connection that does not begin as its listener demands. It gets no answer: whether it would understand one is not known.
    fn refuse_proxy(&mut self, cx: &mut Context, wrong: Wrong) {
        cx.proxy_refused(self.address, wrong);
        self.stage = Stage::Gone;
    }

    /// What it must begin with was not whole in time.
    pub(in crate::clients) fn came_too_slowly(&mut self, cx: &mut Context) {
        cx.hit(Limit::handshake_timeout_seconds);
        if matches!(self.stage, Stage::ProxyHeader(_)) {
            return self.refuse_proxy(cx, Wrong::TooSlow);
        }
        let response = handshake::refuse(408, "the handshake took too long (handshake_timeout_seconds)");
        self.refuse(cx, 408, &response);
    }

    /// Bytes came of the request, or behind it.
    pub(super) fn request(&mut self, cx: &mut Context, bytes: &mut [u8]) {
        let Stage::Handshake(header) = &mut self.stage else { return };
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
            Progress::Accepted(_) if self.unwanted == Unwanted::Surplus => self.refuse_surplus(cx),
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
                self.times.activity = Stamp::at(cx.now_ms);
                let (whose, format) = (self.whose(cx), cx.limits.activity_format);
                activity::connect(&mut cx.output.activity, whose, format);
                if accepted.consumed < bytes.len() {
                    self.frames(cx, &mut bytes[accepted.consumed..]);
                }
            }
        }
    }

    /// Answers a handshake with an HTTP error and ends the connection.
    pub(in crate::clients) fn refuse(&mut self, cx: &mut Context, status: u16, response: &[u8]) {
        counters::add(&cx.counts().handshakes_refused, 1);
        cx.core().codes.refusals.count(status);
        cx.output.log(Severity::Debug, format!("client {}: handshake refused with {status}", self.address));
        self.answer(cx, response);
    }

    /// Answers the HTTP request and ends the connection.
    pub(in crate::clients) fn answer(&mut self, cx: &mut Context, response: &[u8]) {
        self.outbound.answer(&mut cx.reuse, response);
        self.stage = Stage::Closing(Box::new(Closing::new(cx.now_ms, self.outbound.acknowledged(), false)));
    }

    /// The process has as many clients as it may. Where balancers probe this port, that shows only when the request is
    /// here: a full node is no dead one.
    pub(in crate::clients) fn no_place(&mut self, cx: &mut Context) {
        if cx.limits.policy.health_path.is_some() {
            self.unwanted = Unwanted::Surplus;
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
}
