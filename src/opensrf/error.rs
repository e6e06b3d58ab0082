//! The errors that the gateway itself makes, in a class that the browser client knows (quirk 10 of ARCHITECTURE.md).

use super::envelope::Trace;
use super::escape::push_inside;
use super::transport::write_opening;

/// Appends an error for the client: one message for each trace, or one with 0 where there is none. The browser client
/// reads the first message only.
///
/// `text` says what is wrong and what to do; `evergate: ` is put before it. `transport_error` tells the client that the
/// service was not reached.
pub fn write_error(
    out: &mut Vec<u8>,
    thread_spelled: &[u8],
    xid: &[u8],
    traces: &[Trace],
    status: u16,
    text: &str,
    transport_error: bool,
) {
    let traces = if traces.is_empty() { &[Trace::UNREADABLE] } else { traces };
    write_opening(out, thread_spelled, xid);
    for (index, trace) in traces.iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        out.extend_from_slice(b"{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":");
        out.extend_from_slice(trace.spelled());
        out.extend_from_slice(
            b",\"locale\":\"en-US\",\"type\":\"STATUS\",\"payload\":{\"__c\":\"osrfMethodException\",\"__p\":{\"status\":\"evergate: ",
        );
        push_inside(out, text.strip_prefix("evergate: ").unwrap_or(text));
        out.extend_from_slice(b"\",\"statusCode\":");
        out.extend_from_slice(status.to_string().as_bytes());
        out.extend_from_slice(b"}}}}");
    }
    out.push(b']');
    if transport_error {
        out.extend_from_slice(b",\"transport_error\":true");
    }
    out.push(b'}');
}
