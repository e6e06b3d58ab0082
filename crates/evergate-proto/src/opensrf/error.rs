//! The errors that the gateway itself makes, in a class that the browser client knows (quirk 10 of docs/wire.md).

use super::envelope::Trace;
use super::transport::write_opening;
use crate::json::escape::push_inside;

/// Appends an error for the client about one request; the browser client reads only the first message of an envelope.
///
/// `text` says what is wrong and what to do; `evergate: ` is put before it. `transport_error` tells the client that the
/// service was not reached.
pub fn write_error(
    out: &mut Vec<u8>,
    (thread_spelled, xid): (&[u8], &[u8]),
    trace: &Trace,
    (status, transport_error): (u16, bool),
    text: &str,
) {
    write_opening(out, thread_spelled, xid);
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
