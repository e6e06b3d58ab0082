//! The exact edges of limits, escapes and words, each of which a mutant once moved unnoticed.

use super::super::reply::*;
use super::super::transport::*;
use super::*;
use crate::clients::number::ConnectionNumber;
use crate::opensrf::activity::{self, Format, Request, Style, Whose};
use crate::websocket::net::Address;

#[test]
fn a_method_that_overruns_the_line_by_one_byte_is_marked_as_cut() {
    let logged = |method: &str, bytes_max: usize| {
        let whose = Whose {
            address: Address::Ip("::1".parse().unwrap()),
            connection: ConnectionNumber { cpu: 0, slot: 0, generation: 0 },
        };
        let request = Request { service: "s", method, params: None, xid: b"\"x\"" };
        let mut out = String::new();
        activity::request(&mut out, whose, &request, Style { format: Format::Text, protect: &[], bytes_max });
        out.strip_suffix(" [#0.0.0 x]\n").expect("an end").to_owned()
    };
    assert_eq!(logged("methods", "[::1] [] s methods".len()), "[::1] [] s methods");
    assert_eq!(logged("methods", "[::1] [] s methods".len() - 1), "[::1] [] s met…");
    assert_eq!(logged("m", 3), "…", "a line that holds the mark alone");
    assert_eq!(logged("m", 2), "[:");
}

#[test]
fn every_short_escape_is_understood_and_control_characters_are_written_short() {
    let text = with_members(r#""thread":"\b\f\n\r\t\"\\\/\u0001\u00fF","#);
    let envelope = read(&text);
    assert_eq!(envelope.thread, "\u{8}\u{c}\n\r\t\"\\/\u{1}ÿ");
    let mut out = Vec::new();
    write_message(&mut out, "to", "from", &envelope.thread, b"\"x\"", &envelope, INGRESS);
    let written = String::from_utf8(out).unwrap();
    assert!(written.contains(r#""thread":"\u0008\u000c\n\r\t\"\\/\u0001ÿ","#), "{written}");
}

#[test]
fn depth_is_counted_not_brackets() {
    // A thousand levels are allowed; that there are more brackets than levels must not matter.
    let params =
        |depth: usize| format!(r#"{{"method":"m","params":{}[],[],[]{}}}"#, "[".repeat(depth), "]".repeat(depth));
    read(&envelope_of(&format!("[{}]", request("0", &params(993)))));
    refused(&envelope_of(&format!("[{}]", request("0", &params(994)))));
    // Too deep without a single backslash, and deep in a string only.
    refused(&"[".repeat(1001));
}

#[test]
fn a_lone_surrogate_is_found_behind_a_pair() {
    let refusal = refused(&with_members(r#""other":"\ud83d\ude00 and \ud800 then some more text and more of it","#));
    assert!(refusal.reason.contains("surrogate"), "{}", refusal.reason);
}

#[test]
fn only_a_format_that_needs_the_idl_is_told_so() {
    assert!(!refused(&with_members(r#""format":"xml","#)).reason.contains("IDL"));
}

#[test]
fn a_log_xid_may_hold_what_shows_in_a_log_and_nothing_else() {
    for xid in ["é", "中", "a'b", "~ "] {
        read(&with_members(&format!(r#""log_xid":"{xid}","#)));
    }
    for xid in ["\u{85}", "\u{2028}", "\u{200b}", "\u{7f}"] {
        assert!(refused(&with_members(&format!(r#""log_xid":"{xid}","#))).reason.contains("log_xid"));
    }
}

#[test]
fn only_the_payloads_own_class_holds_its_method() {
    let payload = r#"{"other":{"method":"inner"},"__p":5,"method":"outer"}"#;
    let text = with_parameters(&format!(r#"{{"threadTrace":0,"type":"REQUEST","payload":{payload}}}"#));
    assert_eq!(read(&text).messages[0].method.as_deref(), Some("outer"));
}

#[test]
fn the_size_on_the_bus_may_be_what_the_limit_says_and_not_a_byte_more() {
    let text = envelope_of(&format!("[{}]", request("3", r#"{"method":"m","params":["éé\u007f"]}"#)));
    let size = read(&text).body_escaped_len(b"");
    let take = |bytes_max: usize| {
        let limits = EnvelopeLimits { bus_message_bytes_max: bytes_max, ..LIMITS };
        parse(text.as_bytes(), &limits).is_ok()
    };
    assert!(take(size) && !take(size - 1));
    let mut out = Vec::new();
    read(&text).write_body(&mut out, "\"é\"".as_bytes());
    assert_eq!(
        read(&text).body_escaped_len("\"é\"".as_bytes()),
        escaped_len(&out),
        "an ingress outside ASCII counts too"
    );
}

#[test]
fn a_reply_of_another_type_and_a_payload_without_an_object_are_read_as_they_are() {
    let text = r#"{"thread":"t","body":[{"__p":{"type":"FOO"}},{"__p":{"type":"RESULT","payload":{"__p":5}}}]}"#;
    let reply = parse_reply(text.as_bytes(), Vec::new()).unwrap();
    assert_eq!((reply.messages[0].kind, reply.messages[1].kind), (ReplyKind::Other, ReplyKind::Result));
}
