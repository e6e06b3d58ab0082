//! The errors that the gateway itself makes, in a class that the browser client knows (quirk 10 of docs/wire.md).

use super::envelope::Trace;
use super::transport::{ReplyTo, write_opening};
use crate::json::escape::push_inside;

/// What an error tells the client.
#[derive(Clone, Copy, Debug)]
pub struct Exception<'a> {
    /// `statusCode`, after HTTP's.
    pub status: u16,
    /// The service was not reached.
    pub transport_error: bool,
    /// What is wrong and what to do; `evergate: ` is put before it.
    pub text: &'a str,
}

/// Appends an error for the client about one request; the browser client reads only the first message of an envelope.
pub fn write_error(out: &mut Vec<u8>, to: ReplyTo<'_>, trace: &Trace, exception: Exception<'_>) {
    let Exception { status, transport_error, text } = exception;
    write_opening(out, to);
    out.extend_from_slice(b"[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":");
    out.extend_from_slice(trace.spelled());
    out.extend_from_slice(
        b",\"locale\":\"en-US\",\"type\":\"STATUS\",\"payload\":{\"__c\":\"osrfMethodException\",\"__p\":{\"status\":\"evergate: ",
    );
    push_inside(out, text.strip_prefix("evergate: ").unwrap_or(text));
    out.extend_from_slice(b"\",\"statusCode\":");
    out.extend_from_slice(status.to_string().as_bytes());
    out.extend_from_slice(b"}}}}]");
    if transport_error {
        out.extend_from_slice(b",\"transport_error\":true");
    }
    out.push(b'}');
}
