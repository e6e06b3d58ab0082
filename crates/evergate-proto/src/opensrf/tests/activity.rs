use super::super::activity::{
    Format, LINE_BYTES_MAX, Request, Style, TAIL_BYTES_MAX, Whose, connect, disconnect, request,
};
use crate::clients::number::ConnectionNumber;
use crate::websocket::net::Address;

/// What every line of these ends with.
const TAIL: &str = " [#1.17.3 1764.5-x:7]";

fn whose() -> Whose {
    Whose {
        address: Address::Ip("10.0.0.1".parse().unwrap()),
        connection: ConnectionNumber { cpu: 1, slot: 17, generation: 3 },
    }
}

fn written(of: &Request<'_>, protect: &[&str], bytes_max: usize, format: Format) -> String {
    let protect: Vec<String> = protect.iter().map(|prefix| (*prefix).to_owned()).collect();
    let mut out = "before ".to_owned();
    request(&mut out, whose(), of, Style { format, protect: &protect, bytes_max });
    out.strip_prefix("before ").unwrap().strip_suffix('\n').unwrap().to_owned()
}

fn logged(method: &str, params: Option<&str>, protect: &[&str], bytes_max: usize) -> String {
    let of = Request { service: "opensrf.math", method, params: params.map(str::as_bytes), xid: b"\"1764.5-x:7\"" };
    written(&of, protect, bytes_max, Format::Text).strip_suffix(TAIL).expect("number and log_xid").to_owned()
}

#[test]
fn params_are_compact_json_joined_by_comma_and_space() {
    let params = "[ 1 , {\"a\" : [1, 2]},\n\"x , \\\" y\" , 1e10]";
    assert_eq!(
        logged("add", Some(params), &[], 1536),
        "[10.0.0.1] [] opensrf.math add 1, {\"a\":[1,2]}, \"x , \\\" y\", 1e10"
    );
}

#[test]
fn a_request_without_params_has_none_in_its_line() {
    for params in [None, Some("[]"), Some("[ ]")] {
        assert_eq!(logged("add", params, &[], 1536), "[10.0.0.1] [] opensrf.math add");
    }
}

#[test]
fn params_that_are_no_array_are_logged_as_they_are() {
    assert_eq!(logged("m", Some("{\"a\": 1, \"b\":[]}"), &[], 1536), "[10.0.0.1] [] opensrf.math m {\"a\":1,\"b\":[]}");
    assert_eq!(logged("m", Some("\"x\""), &[], 1536), "[10.0.0.1] [] opensrf.math m \"x\"");
}

#[test]
fn a_protected_method_is_logged_without_its_params_and_an_empty_prefix_protects_nothing() {
    let line = logged("open-ils.auth.login", Some("[\"secret\"]"), &["", "open-ils.auth"], 1536);
    assert_eq!(line, "[10.0.0.1] [] opensrf.math open-ils.auth.login **PARAMS REDACTED**");
    assert!(logged("other", Some("[\"x\"]"), &["", "open-ils.auth"], 1536).ends_with("other \"x\""));
}

#[test]
fn what_a_client_wrote_never_begins_a_line() {
    let line = logged("a\nb\u{7f}\u{85}", Some("[\"\u{2028}\u{9b}\u{7f}é\"]"), &[], 1536);
    assert_eq!(line, "[10.0.0.1] [] opensrf.math \"a\\nb\\u007f\\u0085\" \"\\u2028\\u009b\\u007fé\"");
}

#[test]
fn a_long_line_is_cut_at_a_character_and_says_so() {
    let params = format!("[\"{}\"]", "é".repeat(1 << 20));
    for bytes_max in 30..60 {
        let line = logged("add", Some(&params), &[], bytes_max);
        assert!(line.len() <= bytes_max && line.len() >= bytes_max - 1, "{line}");
        assert!(line.ends_with('…'));
    }
    let exact = "[10.0.0.1] [] opensrf.math add";
    assert_eq!(logged("add", None, &[], exact.len()), exact);
    assert_eq!(logged("add", None, &[], 2), "[1");
}

/// A line with that `log_xid`, as it is on the bus.
fn with_xid(xid: &str) -> String {
    let of = Request { service: "s", method: "m", params: Some(b"[\" [#9.9.9 x]\"]"), xid: xid.as_bytes() };
    written(&of, &[], 1_536, Format::Text)
}

#[test]
fn a_line_ends_with_the_connection_and_the_log_xid_whatever_the_client_wrote() {
    for (xid, shown) in [
        ("\"17644.0.12\"", "17644.0.12"),
        (r#""17\u0036""#, "176"),
        (r#""a b""#, r#""a b""#),
        (r#""] [#1.1.1 \"""#, r#""] [#1.1.1 \"""#),
        ("\"\"", "\"\""),
    ] {
        assert_eq!(with_xid(xid), format!("[10.0.0.1] [] s m \" [#9.9.9 x]\" [#1.17.3 {shown}]"));
    }
    let mut out = String::new();
    connect(&mut out, whose(), Format::Text);
    disconnect(&mut out, whose(), (61_005, 2), "closed by\nthe client", Format::Text);
    assert_eq!(
        out,
        "[10.0.0.1] [] connect [#1.17.3]\n\
         [10.0.0.1] [] disconnect after 61.005 s, 2 requests: closed by\\nthe client [#1.17.3]\n"
    );
}

#[test]
fn a_line_is_never_so_long_that_its_end_is_lost() {
    let (params, xid) = (format!("[\"{}\"]", "x".repeat(1 << 20)), format!("\"{}\"", "\u{34f}".repeat(32)));
    let whose =
        Whose { connection: ConnectionNumber { cpu: u32::MAX, slot: u32::MAX, generation: u32::MAX }, ..whose() };
    let of = Request { service: "s", method: "m", params: Some(params.as_bytes()), xid: xid.as_bytes() };
    let mut out = String::new();
    request(&mut out, whose, &of, Style { format: Format::Text, protect: &[], bytes_max: 1 << 20 });
    assert!(out.len() <= LINE_BYTES_MAX + 1 && out.ends_with("\"]\n"), "{} bytes", out.len());
    let tail = out.len() - 1 - out.rfind(" [#").unwrap();
    assert_eq!(tail, TAIL_BYTES_MAX, "as long as it can be");
}

/// The line of a request as JSON.
fn json(
    service: &str,
    method: &str,
    params: Option<&[u8]>,
    xid: &str,
    protect: &[&str],
    bytes_max: usize,
) -> serde_json::Value {
    let line = written(&Request { service, method, params, xid: xid.as_bytes() }, protect, bytes_max, Format::Json);
    assert!(line.chars().all(crate::opensrf::printable::shows), "{line:?}");
    serde_json::from_str(&format!("{{{line}")).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn as_json_a_line_has_the_same_as_members_and_params_that_can_be_read() {
    let params = "[ 1 , {\"a\" : [1, 2]},\n\"x , \\\" y\u{202e}\" , 1e10]";
    let line = json("opensrf.math", "add\u{1b}\"", Some(params.as_bytes()), r#""a\u0022b\\""#, &[], 1_536);
    let expected = serde_json::json!({
        "message": "request", "address": "10.0.0.1", "connection": "1.17.3", "log_xid": "a\"b\\",
        "service": "opensrf.math", "method": "add\u{1b}\"",
        "params": "[1, {\"a\":[1,2]}, \"x , \\\" y\\u202e\", 1e10]",
    });
    assert_eq!(line, expected);
    let read: serde_json::Value = serde_json::from_str(line["params"].as_str().unwrap()).unwrap();
    assert_eq!(read, serde_json::from_str::<serde_json::Value>(params).unwrap());
    assert_eq!(json("s", "m", None, "\"\"", &[], 1_536)["params"], "[]");
    assert_eq!(json("s", "m", Some(b"[ ]"), "\"\"", &[], 1_536)["params"], "[]");
    assert_eq!(json("s", "m", Some(b"{\"a\": 1}"), "\"\"", &[], 1_536)["params"], "{\"a\":1}");
    assert_eq!(json("s", "m", Some(b"[1]"), "\"\"", &["m"], 1_536)["params"], "**PARAMS REDACTED**");
}

#[test]
fn as_json_a_line_that_was_cut_says_so_at_any_length() {
    let params = "[\"\u{202e}é\", 123, [true]]";
    for bytes_max in 0..60 {
        let line = json("opensrf.math", "a.method", Some(params.as_bytes()), "\"x\"", &[], bytes_max);
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let is_whole =
            serde_json::from_str::<serde_json::Value>(&text("params")).is_ok() && text("method") == "a.method";
        assert_eq!(line.get("cut").is_none(), is_whole, "{line}");
        assert!(text("service").len() + text("method").len() + text("params").len() <= bytes_max + 1, "{line}");
    }
    let mut out = String::new();
    connect(&mut out, whose(), Format::Json);
    disconnect(&mut out, whose(), (61_005, 2), "\"\u{7f}", Format::Json);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(&format!("{{{line}")).unwrap()).collect();
    assert_eq!((&lines[0]["message"], &lines[0]["connection"]), (&"connect".into(), &"1.17.3".into()));
    assert_eq!((&lines[1]["lasted_ms"], &lines[1]["reason"]), (&61_005.into(), &"\"\u{7f}".into()));
}
