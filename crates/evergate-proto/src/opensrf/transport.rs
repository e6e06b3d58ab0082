//! Writing: messages for the bus, and the wrapper in which a reply travels to the client.

use super::envelope::{Envelope, Trace};
use super::reply::{Reply, ReplyMessage};
use crate::json::escape::{self, push_string};

/// What leads an answer to its place at the client: JSON text of strings, quotes included.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo<'a> {
    /// The client's thread, as it spelled it.
    pub thread: &'a [u8],
    /// The `log_xid` of the request.
    pub xid: &'a [u8],
}

/// Appends the bus message of an envelope. `thread` is the whole bus thread; `xid` and `ingress` are JSON text of
/// strings, quotes included.
pub fn write_message(
    out: &mut Vec<u8>,
    to: &str,
    from: &str,
    thread: &str,
    xid: &[u8],
    envelope: &Envelope<'_>,
    ingress: &[u8],
) {
    out.reserve(128 + to.len() + from.len() + thread.len() + xid.len() + envelope.body_len(ingress));
    write_header(out, to, from, thread, xid);
    envelope.write_body(out, ingress);
    out.push(b'}');
}

/// Appends the bus message that ends a session whose client can no longer do so. `xid` and `ingress` as above.
pub fn write_disconnect(out: &mut Vec<u8>, to: &str, from: &str, bus_thread: &str, xid: &[u8], ingress: &[u8]) {
    write_header(out, to, from, bus_thread, xid);
    out.extend_from_slice(
        b"[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":\"0\",\"locale\":\"en-US\",\"ingress\":",
    );
    out.extend_from_slice(ingress);
    out.extend_from_slice(b",\"api_level\":1,\"type\":\"DISCONNECT\"}}]}");
}

fn write_header(out: &mut Vec<u8>, to: &str, from: &str, thread: &str, xid: &[u8]) {
    out.extend_from_slice(b"{\"to\":");
    push_string(out, to);
    out.extend_from_slice(b",\"from\":");
    push_string(out, from);
    out.extend_from_slice(b",\"thread\":");
    push_string(out, thread);
    out.extend_from_slice(b",\"osrf_xid\":");
    out.extend_from_slice(xid);
    out.extend_from_slice(b",\"body\":");
}

/// Length in bytes of a whole bus message after the router's escaping: what `bus_message_bytes_max` limits.
pub fn escaped_len(message: &[u8]) -> usize {
    escape::escaped_len(message)
}

/// Appends the client's message for a reply, which was read in `text`: the wrapper is ours, the body's bytes are the service's.
/// `thread` comes first: a deployed client finds it with a regular expression (docs/wire.md, "What a client gets").
pub fn write_envelope(out: &mut Vec<u8>, to: ReplyTo<'_>, text: &[u8], reply: &Reply<'_>) {
    let body = &text[reply.body.clone()];
    out.reserve(64 + to.thread.len() + to.xid.len() + body.len());
    write_opening(out, to);
    let (before, behind) = brackets(reply.body_is_array);
    out.extend_from_slice(before);
    out.extend_from_slice(body);
    out.extend_from_slice(behind);
}

/// What stands around the body of a reply, its opening apart.
pub(crate) fn brackets(is_array: bool) -> (&'static [u8], &'static [u8]) {
    if is_array { (b"", b"}") } else { (b"[", b"]}") }
}

/// `{"thread":T,"log_xid":X,"osrf_msg":`
pub(crate) fn write_opening(out: &mut Vec<u8>, to: ReplyTo<'_>) {
    out.extend_from_slice(b"{\"thread\":");
    out.extend_from_slice(to.thread);
    out.extend_from_slice(b",\"log_xid\":");
    out.extend_from_slice(to.xid);
    out.extend_from_slice(b",\"osrf_msg\":");
}

/// Appends the client's message for the router's "Service Not Found": the router's own message with the `threadTrace` of
/// the request that it ends, and `transport_error` (quirk 1).
pub fn write_router_404(out: &mut Vec<u8>, to: ReplyTo<'_>, reply_text: &[u8], message: &ReplyMessage, trace: &Trace) {
    let part = |start: usize, end: usize| reply_text.get(start..end).unwrap_or_default();
    let (start, end) = (message.span.start, message.span.end);
    write_opening(out, to);
    out.push(b'[');
    if let Some(span) = &message.trace_span {
        out.extend_from_slice(part(start, span.start));
        out.extend_from_slice(trace.spelled());
        out.extend_from_slice(part(span.end, end));
    } else if let Some(at) = message.parameters_at {
        let rest = part(at, end);
        out.extend_from_slice(part(start, at));
        out.extend_from_slice(b"\"threadTrace\":");
        out.extend_from_slice(trace.spelled());
        if rest.trim_ascii_start().first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(rest);
    } else {
        out.extend_from_slice(part(start, end));
    }
    out.extend_from_slice(b"],\"transport_error\":true}");
}
