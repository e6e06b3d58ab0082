//! The activity log's line for a REQUEST: `[address] [] service method params`
//! (docs/wire.md, "The activity log").

use std::fmt::Write as _;
use std::net::IpAddr;

use super::printable::{Name, escape, is_of_names, shows};
use crate::json::simd::shown_run;

/// Stands for the params of a method that `log_protect` names.
const REDACTED: &str = " **PARAMS REDACTED**";

/// What ends a line that was cut.
const CUT: char = '…';

/// Appends the line of one REQUEST, at most `bytes_max` bytes, the `…` of a cut included.
///
/// `params` is JSON text: white space outside strings is left out, and the elements of an array are joined by `, `.
/// Service and method are quoted unless they are plain ([`Name`]), and what does not show is escaped ([`shows`]): what a
/// client wrote never starts a line, nor looks like another call.
/// A method that begins with an entry of `protect` (empty entries aside) is logged without its params.
pub fn line(
    out: &mut String,
    client: IpAddr,
    service: &str,
    method: &str,
    params: Option<&[u8]>,
    protect: &[String],
    bytes_max: usize,
) {
    let start = out.len();
    let end = start.saturating_add(bytes_max);
    out.push('[');
    push_address(out, client);
    out.push_str("] [] ");
    push_name(out, service, end);
    out.push(' ');
    push_name(out, method, end);
    if protect.iter().any(|prefix| !prefix.is_empty() && method.starts_with(prefix.as_str())) {
        out.push_str(REDACTED);
    } else if let Some(params) = params {
        push_params(out, params, end);
    }
    cut(out, start, end);
}

/// Appends an address. Nearly all are IPv4, whose `Display` costs more than the rest of the line.
fn push_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let mut digits = itoa::Buffer::new();
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                out.push_str(digits.format(octet));
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
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

/// Cuts the line at a character's boundary.
fn cut(out: &mut String, start: usize, end: usize) {
    if out.len() <= end {
        return;
    }
    let room = end - start;
    let (keep, ellipsis) = if room < CUT.len_utf8() { (end, false) } else { (end - CUT.len_utf8(), true) };
    out.truncate(out.floor_char_boundary(keep));
    if ellipsis {
        out.push(CUT);
    }
}
