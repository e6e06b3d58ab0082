//! The JSON crates that were weighed, made to find what our reader finds.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// What an envelope is about: bytes of service, thread and method; bytes of the params.
pub type Found = (usize, usize);

/// An envelope and a reply for serde, level by level: what is not looked into stays text of type `$raw`.
macro_rules! levels {
    ($module:ident, $raw:ty, $text:ident, $from:path) => {
        /// One crate's way.
        pub mod $module {
            use super::{Cow, Deserialize, Found, IgnoredAny, wrap};

            #[derive(Deserialize)]
            struct Envelope<'a> {
                #[serde(borrow)]
                service: Cow<'a, str>,
                #[serde(borrow)]
                thread: Cow<'a, str>,
                #[serde(borrow)]
                log_xid: $raw,
                #[serde(borrow)]
                osrf_msg: Vec<$raw>,
            }

            #[derive(Deserialize)]
            struct Message<'a> {
                #[serde(borrow, rename = "__p")]
                parameters: Parameters<'a>,
            }

            #[derive(Deserialize)]
            struct Parameters<'a> {
                #[serde(borrow, rename = "threadTrace")]
                trace: $raw,
                #[serde(borrow, rename = "type")]
                kind: Cow<'a, str>,
                #[serde(borrow)]
                payload: $raw,
            }

            #[derive(Deserialize)]
            struct Payload<'a> {
                #[serde(borrow, rename = "__p")]
                call: Call<'a>,
            }

            #[derive(Deserialize)]
            struct Call<'a> {
                #[serde(borrow)]
                method: Cow<'a, str>,
                #[serde(borrow)]
                params: $raw,
            }

            /// An envelope of one REQUEST.
            pub fn envelope(text: &str) -> Option<Found> {
                let envelope: Envelope<'_> = $from(text).ok()?;
                let mut found = (envelope.service.len() + envelope.thread.len(), 0);
                if envelope.log_xid.$text().len() < 2 {
                    return None;
                }
                for message in envelope.osrf_msg {
                    let message: Message<'_> = $from(message.$text()).ok()?;
                    if message.parameters.kind != "REQUEST" || message.parameters.trace.$text() != "0" {
                        return None;
                    }
                    let payload: Payload<'_> = $from(message.parameters.payload.$text()).ok()?;
                    found.0 += payload.call.method.len();
                    found.1 += payload.call.params.$text().len();
                }
                Some(found)
            }

            #[derive(Deserialize)]
            struct Reply<'a> {
                #[serde(borrow)]
                from: Cow<'a, str>,
                #[serde(borrow)]
                thread: Cow<'a, str>,
                #[serde(borrow)]
                body: $raw,
            }

            #[derive(Deserialize)]
            struct Result<'a> {
                #[serde(borrow, rename = "__p")]
                parameters: ResultParameters<'a>,
            }

            #[derive(Deserialize)]
            struct ResultParameters<'a> {
                #[serde(borrow, rename = "threadTrace")]
                trace: $raw,
                #[serde(borrow, rename = "type")]
                kind: Cow<'a, str>,
                payload: Status,
            }

            #[derive(Deserialize)]
            struct Status {
                #[serde(rename = "__p")]
                status: Code,
            }

            #[derive(Deserialize)]
            struct Code {
                #[serde(rename = "statusCode")]
                code: u16,
                #[serde(default, rename = "content")]
                _content: IgnoredAny,
            }

            /// A reply's fields; the wrapper for its client is appended to `out`. The codes of its messages, summed.
            pub fn reply(text: &str, out: &mut Vec<u8>) -> Option<usize> {
                let reply: Reply<'_> = $from(text).ok()?;
                let messages: Vec<Result<'_>> = $from(reply.body.$text()).ok()?;
                wrap(out, reply.body.$text());
                let known = |m: &Result<'_>| m.parameters.kind != "" && m.parameters.trace.$text() == "0";
                (!reply.from.is_empty() && !reply.thread.is_empty() && messages.iter().all(known))
                    .then(|| messages.iter().map(|m| usize::from(m.parameters.payload.status.code)).sum())
            }
        }
    };
}

levels!(serde_json_raw, &'a serde_json::value::RawValue, get, serde_json::from_str);
levels!(sonic_rs_lazy, sonic_rs::LazyValue<'a>, as_raw_str, sonic_rs::from_str);

/// Appends what a client is sent.
fn wrap(out: &mut Vec<u8>, body: &str) {
    out.extend_from_slice(b"{\"thread\":\"t\",\"log_xid\":\"x\",\"osrf_msg\":");
    out.extend_from_slice(body.as_bytes());
    out.push(b'}');
}

/// `serde_json`, looking at everything and keeping nothing: what its scanning alone costs.
pub fn serde_json_ignored(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// simd-json with buffers that are reused; it unescapes in place, so it needs a copy.
#[derive(Default)]
pub struct SimdJson {
    copy: Vec<u8>,
    buffers: simd_json::Buffers,
    tape: Option<simd_json::Tape<'static>>,
}

impl SimdJson {
    /// Judges the text and makes the tape; finds nothing in it.
    pub fn tape(&mut self, text: &[u8]) -> usize {
        self.copy.clear();
        self.copy.extend_from_slice(text);
        let mut tape = self.tape.take().unwrap_or_else(simd_json::Tape::null).reset();
        let valid = simd_json::fill_tape(&mut self.copy, &mut self.buffers, &mut tape).is_ok();
        let nodes = tape.0.len();
        self.tape = Some(tape.reset());
        if valid { nodes } else { 0 }
    }
}
