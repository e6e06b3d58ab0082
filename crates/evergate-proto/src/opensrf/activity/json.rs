//! The same lines as JSON: the members of an object and its end.
//!
//! `params` is the JSON text of the array, as a string, so that nothing in it can be taken for a member of ours; where it was cut,
//! `cut` is there and true. What does not show is escaped, and means the same.

use std::fmt::Write as _;

use super::super::printable::{escape, split};
use super::{REDACTED, Request, Style, Whose, cut, push_address, push_params};
use crate::json::scan::said;

pub(super) fn request(out: &mut String, whose: Whose, request: &Request<'_>, style: Style<'_>) {
    let Request { service, method, params, xid } = request;
    begin(out, "request", whose);
    out.push_str(",\"log_xid\":");
    push_string(out, &said(xid).unwrap_or_default());
    let bytes_max = style.bytes_max();
    let (service, is_service_cut) = beginning(service, bytes_max);
    let (shown, is_method_cut) = beginning(method, bytes_max - service.len());
    out.push_str(",\"service\":");
    push_string(out, service);
    out.push_str(",\"method\":");
    push_string(out, shown);
    let mut text = String::new();
    let room = bytes_max - service.len() - shown.len();
    let is_params_cut = if style.redacts(method) {
        text.push_str(REDACTED);
        false
    } else {
        push_array(&mut text, params.unwrap_or(b"[]"), room)
    };
    out.push_str(",\"params\":");
    push_string(out, &text);
    if is_service_cut || is_method_cut || is_params_cut {
        out.push_str(",\"cut\":true");
    }
    out.push_str("}\n");
}

pub(super) fn connect(out: &mut String, whose: Whose) {
    begin(out, "connect", whose);
    out.push_str("}\n");
}

pub(super) fn disconnect(out: &mut String, whose: Whose, (lasted_ms, requests): (u64, u32), reason: &str) {
    begin(out, "disconnect", whose);
    // Writing to a String cannot fail.
    let _ = write!(out, ",\"lasted_ms\":{lasted_ms},\"requests\":{requests},\"reason\":");
    push_string(out, reason);
    out.push_str("}\n");
}

fn begin(out: &mut String, message: &str, whose: Whose) {
    out.push_str("\"message\":\"");
    out.push_str(message);
    out.push_str("\",\"address\":\"");
    push_address(out, whose.address);
    out.push_str("\",\"connection\":\"");
    whose.connection.push(out);
    out.push('"');
}

/// As much of a text as there is room for, and whether that is less than all.
fn beginning(text: &str, bytes_max: usize) -> (&str, bool) {
    let fits = text.floor_char_boundary(bytes_max);
    (&text[..fits], fits < text.len())
}

/// Appends the params with their brackets, where they are an array, in so many bytes; whether they were cut.
fn push_array(text: &mut String, params: &[u8], room: usize) -> bool {
    let is_array = params.trim_ascii().starts_with(b"[");
    text.push_str(if is_array { "[" } else { "" });
    // The elements stand behind a space, as in a line of text, which has to go.
    let start = text.len();
    push_params(text, params, room + 1);
    if text.len() > start {
        text.remove(start);
    }
    let is_cut = cut(text, 0, room);
    text.push_str(if is_array && !is_cut { "]" } else { "" });
    is_cut
}

/// Appends a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (shown, hidden) = split(rest);
        let mut done = 0;
        for at in memchr::memchr2_iter(b'"', b'\\', shown.as_bytes()) {
            out.push_str(&shown[done..at]);
            out.push('\\');
            done = at;
        }
        out.push_str(&shown[done..]);
        let Some((c, after)) = hidden else { break };
        // Writing to a String cannot fail.
        let _ = escape(out, c);
        rest = after;
    }
    out.push('"');
}
