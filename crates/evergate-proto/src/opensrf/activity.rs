//! The activity log's lines: `[address] [] service method params [#number log_xid]` (docs/wire.md, "The activity log").
//!
//! A line begins as OpenSRF's gateways write it, and what ours adds stands at the end: the number of the connection, and the
//! `log_xid` by which the request is found in the logs of the services. Neither is ever cut off, and nothing that a client
//! wrote stands behind them: the last bracket of a line is ours.

mod json;

use std::fmt::Write as _;
use std::net::IpAddr;

use super::printable::{Name, escape, is_of_names, shows};
use crate::clients::number::{ConnectionNumber, NUMBER_BYTES_MAX};
use crate::json::scan::said;
use crate::json::simd::shown_run;
use crate::websocket::net::Address;

/// Stands for the params of a method that `log_protect` names.
const REDACTED: &str = "**PARAMS REDACTED**";

/// What ends a text that was cut.
const CUT: char = '…';

/// Bytes of a line of text at most, whatever `activity_bytes_max` says: a syslog datagram should hold it.
pub const LINE_BYTES_MAX: usize = 4_096;

/// Bytes of a `log_xid` as it is shown, at most: of 64 each may need an escape.
const XID_BYTES_MAX: usize = 64 * 3 + 2;

/// Bytes of what stands behind the part that may be cut.
pub(super) const TAIL_BYTES_MAX: usize = " [# ]".len() + NUMBER_BYTES_MAX + XID_BYTES_MAX;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As OpenSRF's gateways do.
    #[default]
    Text,
    /// The members of a JSON object and its end: whoever knows the time writes its beginning.
    Json,
}

impl Format {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// What a word stands for.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Text, Self::Json].into_iter().find(|format| format.name() == text)
    }
}

/// Whom a line is about.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The client.
    pub address: Address,
    /// Its connection.
    pub connection: ConnectionNumber,
}

/// A REQUEST.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The service that answers it.
    pub service: &'a str,
    /// Its method, unescaped.
    pub method: &'a str,
    /// Its params, JSON text.
    pub params: Option<&'a [u8]>,
    /// `osrf_xid` as the bus has it: a JSON string with its quotes.
    pub xid: &'a [u8],
}

/// How a site wants its lines.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// Text, or JSON.
    pub format: Format,
    /// Beginnings of methods whose params are not logged; empty entries say nothing.
    pub protect: &'a [String],
    /// Bytes at which a line is cut, the `…` of the cut included; number and `log_xid` come on top of it.
    pub bytes_max: usize,
}

impl Style<'_> {
    fn redacts(&self, method: &str) -> bool {
        self.protect.iter().any(|prefix| !prefix.is_empty() && method.starts_with(prefix.as_str()))
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max.min(LINE_BYTES_MAX - TAIL_BYTES_MAX)
    }
}

/// Appends the line of one REQUEST, and its end.
///
/// In the params white space outside strings is left out, and the elements of the array are joined by `, `.
/// Service and method are quoted unless they are plain ([`Name`]), and what does not show is escaped ([`shows`]): what a
/// client wrote never starts a line, nor looks like another call.
pub fn request(out: &mut String, whose: Whose, request: &Request<'_>, style: Style<'_>) {
    if style.format == Format::Json {
        return json::request(out, whose, request, style);
    }
    let Request { service, method, params, xid } = request;
    let start = out.len();
    let end = start.saturating_add(style.bytes_max());
    begin(out, whose);
    push_name(out, service, end);
    out.push(' ');
    push_name(out, method, end);
    if style.redacts(method) {
        out.push(' ');
        out.push_str(REDACTED);
    } else if let Some(params) = params {
        push_params(out, params, end);
    }
    cut(out, start, end);
    finish(out, whose, Some(xid));
}

/// Appends the line of a handshake that succeeded.
pub fn connect(out: &mut String, whose: Whose, format: Format) {
    match format {
        Format::Json => json::connect(out, whose),
        Format::Text => {
            begin(out, whose);
            out.push_str("connect");
            finish(out, whose, None);
        }
    }
}

/// Appends the line of a client that leaves after `lasted_ms` and so many requests. `reason` is ours, and may hold what the
/// host said.
pub fn disconnect(out: &mut String, whose: Whose, (lasted_ms, requests): (u64, u32), reason: &str, format: Format) {
    if format == Format::Json {
        return json::disconnect(out, whose, (lasted_ms, requests), reason);
    }
    begin(out, whose);
    let (seconds, ms) = (lasted_ms / 1_000, lasted_ms % 1_000);
    // Writing to a String cannot fail.
    let _ = write!(out, "disconnect after {seconds}.{ms:03} s, {requests} requests: {}", reason.escape_debug());
    finish(out, whose, None);
}

fn begin(out: &mut String, whose: Whose) {
    out.push('[');
    push_address(out, whose.address);
    out.push_str("] [] ");
}

/// Appends what is ours, and the line's end.
fn finish(out: &mut String, whose: Whose, xid: Option<&[u8]>) {
    out.push_str(" [#");
    whose.connection.push(out);
    if let Some(xid) = xid {
        out.push(' ');
        push_xid(out, xid);
    }
    out.push_str("]\n");
}

/// Appends what a `log_xid` says, quoted JSON: as it stands in the logs of the services, where it is plain.
fn push_xid(out: &mut String, quoted: &[u8]) {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let plain = !inside.is_empty() && inside.iter().fold(true, |plain, byte| plain & is_of_names(*byte));
    match str::from_utf8(inside) {
        Ok(inside) if plain => out.push_str(inside),
        // Writing to a String cannot fail.
        _ => drop(write!(out, "{}", Name(&said(quoted).unwrap_or_default()))),
    }
}

/// Appends an address. Nearly all are IPv4, whose `Display` costs more than the rest of the line.
fn push_address(out: &mut String, address: Address) {
    match address {
        Address::Ip(IpAddr::V4(v4)) => {
            let mut digits = itoa::Buffer::new();
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                out.push_str(digits.format(octet));
            }
        }
        // Writing to a String cannot fail.
        other => drop(write!(out, "{other}")),
    }
}

/// Appends as much of a name as the line has room for, and a little more: that is cut anyway.
fn push_name(out: &mut String, name: &str, end: usize) {
    let room = (end + 1).saturating_sub(out.len());
    let name = &name[..name.floor_char_boundary(room)];
    if !name.is_empty() && name.bytes().fold(true, |plain, byte| plain & is_of_names(byte)) {
        out.push_str(name);
    } else {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}", Name(name));
    }
}

/// Appends what is shown as it is at the beginning of `text`, as far as the line has room; the rest of the text. What is shown so
/// inside a string differs from what is outside.
fn push_run<'a>(out: &mut String, text: &'a str, end: usize, in_string: bool) -> &'a str {
    let room = (end + 1).saturating_sub(out.len());
    let run = shown_run(&text.as_bytes()[..room.min(text.len())], in_string);
    let (run, rest) = text.split_at(run);
    out.push_str(run);
    rest
}

fn push_char(out: &mut String, c: char) {
    if shows(c) {
        out.push(c);
    } else {
        // Writing to a String cannot fail.
        let _ = escape(out, c);
    }
}

fn push_params(out: &mut String, params: &[u8], end: usize) {
    let text = match simdutf8::compat::from_utf8(params) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&params[..error.valid_up_to()]).unwrap_or_default(),
    };
    let text = text.trim_ascii();
    let (text, separator) = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(elements) => (elements.trim_ascii(), ", "),
        None => (text, ","),
    };
    if text.is_empty() {
        return;
    }
    out.push(' ');
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut rest = text;
    while out.len() <= end {
        rest = push_run(out, rest, end, in_string);
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { return };
        match c {
            '\\' if in_string => {
                push_char(out, c);
                if let Some(escaped) = chars.next() {
                    push_char(out, escaped);
                }
            }
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            _ if in_string => push_char(out, c),
            ' ' | '\t' | '\n' | '\r' => {}
            ',' if depth == 0 => out.push_str(separator),
            '[' | '{' => {
                depth += 1;
                out.push(c);
            }
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                out.push(c);
            }
            _ => push_char(out, c),
        }
        rest = chars.as_str();
    }
}

/// Cuts what begins at `start` at a character's boundary; whether it had to.
fn cut(out: &mut String, start: usize, end: usize) -> bool {
    if out.len() <= end {
        return false;
    }
    let room = end - start;
    let (keep, ellipsis) = if room < CUT.len_utf8() { (end, false) } else { (end - CUT.len_utf8(), true) };
    out.truncate(out.floor_char_boundary(keep));
    if ellipsis {
        out.push(CUT);
    }
    true
}
