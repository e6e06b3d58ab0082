use super::super::envelope::Trace;
use super::*;
use crate::counters::Limit;

fn traces(refusal: &Refusal) -> Vec<String> {
    let spelled = |trace: &Trace| String::from_utf8(trace.spelled().to_vec()).unwrap();
    refusal.traces.iter().map(spelled).collect()
}

/// Refused with 400, and the reason names what is wrong.
fn refused_for(text: &str, word: &str) -> Refusal {
    let refusal = refused(text);
    assert_eq!(refusal.status, 400, "{text}");
    assert!(refusal.reason.contains(word), "{} does not name {word}", refusal.reason);
    refusal
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let refusal = parse(b"{\"thread\":\"\xFF\"}", &LIMITS).unwrap_err();
    assert_eq!((refusal.status, &refusal.thread_spelled[..]), (400, &b"\"\""[..]));
}

#[test]
fn text_that_is_not_json_is_refused_without_a_guess_at_its_thread() {
    for text in ["", " ", "{", "this is not json", r#"{"thread":"t"} x"#, r#"{"thread":"t",}"#, "{\"thread\":\"\n\"}"] {
        let refusal = refused_for(text, "JSON");
        assert_eq!((&refusal.thread_spelled[..], refusal.traces.len()), (&b"\"\""[..], 0));
        assert!(!refusal.only_disconnects);
    }
}

#[test]
fn a_number_is_what_rfc_8259_says_of_any_length_and_size() {
    for number in [
        "1000000000000000000abc",
        "-1000000000000000000-1",
        "1.00000000000000000000x",
        "1000000000000000000000\\0",
        "1000000000000000000000\u{c}",
        "01",
        "-",
        "-x",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "1.e5",
        "0x1",
        "Infinity",
    ] {
        refused_for(&with_members(&format!("\"other\":[{number} ],")), "JSON");
    }
    for number in [
        "-1000000000000000000000",
        "0.00000000000000000000",
        "1.5000000000000000000e+10",
        "1000000000000000000000E5",
        "1e999",
        "-0",
        "0e-0",
    ] {
        read(&with_members(&format!("\"other\":[{number} , {number}],")));
    }
}

#[test]
fn json_that_is_no_object_is_refused() {
    for text in ["[]", "1", "\"x\"", "null", "true"] {
        refused_for(text, "object");
    }
}

#[test]
fn nesting_beyond_the_limit_is_refused_before_any_parser_sees_it() {
    let deep = format!(r#"{{"method":"m","params":{}"#, "[".repeat(110_000));
    let refusal = refused_for(&envelope_of(&format!("[{}", request("4", &deep))), "json_depth_max");
    assert_eq!(refusal.limit, Some(Limit::json_depth_max));
    assert_eq!(refusal.thread_spelled, b"\"t\"");
}

#[test]
fn nesting_that_is_closed_again_still_names_its_request() {
    let deep = format!(r#"{{"method":"m","params":{}{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let refusal = refused_for(&envelope_of(&format!("[{}]", request("4", &deep))), "json_depth_max");
    assert_eq!(traces(&refusal), ["4"]);
}

#[test]
fn brackets_inside_strings_are_no_depth() {
    let params = format!(r#"{{"method":"m","params":["{}"]}}"#, "[{".repeat(2000));
    read(&envelope_of(&format!("[{}]", request("0", &params))));
}

#[test]
fn a_nul_escape_anywhere_is_refused() {
    for text in [
        with_members(r#""thread":"a\u0000b","#),
        with_members(r#""other":{"deep":["\\\u0000"]},"#),
        with_members(r#""k\u0000":1,"#),
        envelope_of(&format!("[{}]", request("9", r#"{"method":"m","params":["\u0000"]}"#))),
    ] {
        refused_for(&text, "\\u0000");
    }
    read(&with_members(r#""other":"\\u0000","#));
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for half in [r"\ud800", r"\udc00", r"\ud800x", r"\uD83D\n", r"\ud800\ud800\udc00", r"\udbff\u0041"] {
        let text = envelope_of(&format!("[{}]", request("9", &format!(r#"{{"method":"m","params":["{half}"]}}"#))));
        let refusal = refused_for(&text, "surrogate");
        assert_eq!(traces(&refusal), ["9"]);
    }
    read(&with_members(r#""other":"\ud83d\ude00\\ud800","#));
}

#[test]
fn a_thread_with_half_a_surrogate_pair_is_unreadable() {
    assert_eq!(refused(&with_members(r#""thread":"\ud800","#)).thread_spelled, b"\"\"");
}

#[test]
fn a_repeated_key_is_refused_in_the_envelope_a_message_its_parameters_and_its_payload() {
    let p = r#""threadTrace":5,"type":"REQUEST","payload":{"__c":"osrfMethod","__p":{"method":"m"}}"#;
    for text in [
        with_members(r#""service":"a","service":"a","#),
        with_members(r#""x":1,"y":2,"\u0078":3,"#),
        envelope_of(&format!(r#"[{{"__c":"osrfMessage","__c":"osrfMessage","__p":{{{p}}}}}]"#)),
        envelope_of(&format!(r#"[{{"__c":"osrfMessage","__p":{{{p}}},"__p":{{{p}}}}}]"#)),
        with_parameters(&format!(r#"{{{p},"locale":1,"locale":1}}"#)),
        with_parameters(&format!(r#"{{{p},"type":"REQUEST"}}"#)),
        with_parameters(r#"{"threadTrace":5,"type":"REQUEST","payload":{"__p":{"method":"m"},"a":1,"a":2}}"#),
        with_parameters(r#"{"threadTrace":5,"type":"REQUEST","payload":{"__p":{"method":"m","m\u0065thod":"n"}}}"#),
        with_parameters(r#"{"threadTrace":5,"type":"CONNECT","payload":{"a":1,"a":2}}"#),
    ] {
        refused_for(&text, "repeated");
    }
}

#[test]
fn a_repeated_key_is_found_among_many() {
    let many = (0..5000).map(|n| format!("\"k{n}\":0,")).collect::<Vec<_>>().concat();
    read(&with_members(&many));
    refused_for(&with_members(&format!("{many}\"k17\":0,")), "k17");
    refused_for(&with_members(&format!("{many}\"\\u006b4999\":0,")), "k4999");
}

#[test]
fn a_service_that_is_no_name_is_refused() {
    let long = format!(r#""{}""#, "x".repeat(257));
    for service in
        [r#""""#, r#""a:b""#, r#""a\u003ab""#, r#""a\nb""#, "\"a\u{7f}\"", r#""\u0085""#, "true", "[]", "{}", &long]
    {
        refused_for(&with_members(&format!(r#""service":{service},"#)), "service");
    }
}

#[test]
fn a_thread_that_is_too_long_or_no_string_is_refused() {
    for thread in ["true", "false", r#"["a"]"#, r#"{"a":1}"#] {
        assert_eq!(refused_for(&with_members(&format!(r#""thread":{thread},"#)), "thread").thread_spelled, b"\"\"");
    }
    let long = format!(r#""{}""#, "é".repeat(33));
    let refusal = refused_for(&with_members(&format!(r#""thread":{long},"#)), "64");
    assert_eq!(refusal.thread_spelled, long.as_bytes());
    refused_for(&with_members(&format!(r#""thread":1{},"#, "0".repeat(64))), "64");
}

#[test]
fn a_log_xid_that_is_too_long_or_cannot_be_printed_is_refused() {
    let long = format!(r#""{}""#, "x".repeat(65));
    for xid in [r#""a\nb""#, r#""\u0080""#, r#""\u2028""#, r#""\u202e""#, "\"\u{7f}\"", "true", "[]", "{}", &long] {
        assert_eq!(refused_for(&with_members(&format!(r#""log_xid":{xid},"#)), "log_xid").xid, None);
    }
}

#[test]
fn messages_that_are_missing_empty_or_no_messages_are_refused() {
    let refusal = refused_for(r#"{"service":"s","thread":"t","log_xid":"x"}"#, "osrf_msg");
    assert_eq!((&refusal.thread_spelled[..], refusal.xid.as_deref()), (&b"\"t\""[..], Some(&b"\"x\""[..])));
    let p = r#"{"threadTrace":1,"type":"CONNECT"}"#;
    for messages in [
        "[]".to_owned(),
        "null".to_owned(),
        "\"x\"".to_owned(),
        "5".to_owned(),
        "[null]".to_owned(),
        "[[]]".to_owned(),
        "[{}]".to_owned(),
        "{}".to_owned(),
        format!(r#"[{{"__c":"osrfMethod","__p":{p}}}]"#),
        format!(r#"[{{"__p":{p}}}]"#),
        format!(r#"[{{"__c":5,"__p":{p}}}]"#),
        r#"[{"__c":"osrfMessage"}]"#.to_owned(),
        r#"[{"__c":"osrfMessage","__p":[]}]"#.to_owned(),
        r#"[{"__c":"osrfMessage","__p":null}]"#.to_owned(),
    ] {
        let refusal = refused_for(&envelope_of(&messages), "osrf_msg");
        assert!(!refusal.only_disconnects, "{messages}");
    }
}

#[test]
fn one_bad_element_refuses_the_whole_envelope_and_every_request_is_named() {
    let good = request("\"1\"", r#"{"method":"m"}"#);
    let also = request("2", r#"{"method":"m"}"#);
    let refusal = refused_for(&envelope_of(&format!("[{good},null,{also}]")), "osrf_msg");
    assert_eq!(traces(&refusal), ["\"1\"", "2"]);
}

#[test]
fn a_type_that_is_unknown_or_missing_is_refused_and_its_number_answered() {
    for kind in [r#","type":"STATUS""#, r#","type":"RESULT""#, r#","type":"connect""#, r#","type":1"#, ""] {
        let refusal = refused_for(&with_parameters(&format!(r#"{{"threadTrace":6{kind}}}"#)), "type");
        assert_eq!(traces(&refusal), ["6"]);
    }
}

#[test]
fn a_thread_trace_that_is_no_integer_is_refused() {
    for trace in
        ["1.0", "1e2", "true", "[]", r#""""#, r#""x""#, r#"" 1""#, r#""+1""#, r#""1.0""#, "9223372036854775808"]
    {
        let refusal = refused_for(&envelope_of(&format!("[{}]", request(trace, r#"{"method":"m"}"#))), "threadTrace");
        assert_eq!(traces(&refusal), ["0"]);
    }
    refused_for(
        &envelope_of(&format!("[{}]", request(r#""000000000000000000001""#, r#"{"method":"m"}"#))),
        "threadTrace",
    );
}

#[test]
fn a_request_without_a_method_is_refused() {
    for payload in [r#""null""#, "null", "{}", r#"{"__p":{"params":[]}}"#, r#"{"__p":{"method":5}}"#, "[]"] {
        let text = with_parameters(&format!(r#"{{"threadTrace":8,"type":"REQUEST","payload":{payload}}}"#));
        assert_eq!(traces(&refused_for(&text, "method")), ["8"]);
    }
    refused_for(
        &with_parameters(r#"{"threadTrace":8,"type":"REQUEST","payload":{"__p":{"method":"a"},"method":"b"}}"#),
        "two methods",
    );
}

#[test]
fn a_format_that_needs_the_idl_is_refused_by_name() {
    for format in ["hash", "hashfull"] {
        refused_for(&with_members(&format!(r#""format":"{format}","#)), "IDL");
    }
    for format in [r#""xml""#, "5", "{}"] {
        refused_for(&with_members(&format!(r#""format":{format},"#)), "format");
    }
}

#[test]
fn more_messages_than_allowed_are_refused_by_the_limits_name() {
    let messages: Vec<String> = (0..300).map(|n| request(&n.to_string(), r#"{"method":"m"}"#)).collect();
    let refusal = refused_for(&envelope_of(&format!("[{}]", messages.join(","))), "messages_per_envelope_max");
    assert_eq!((refusal.limit, refusal.traces.len()), (Some(Limit::messages_per_envelope_max), 256));
}

#[test]
fn what_grows_beyond_the_limit_under_the_routers_escaping_is_refused_with_413() {
    let params = |count: usize| format!(r#"{{"method":"m","params":["{}"]}}"#, "é".repeat(count));
    let text = |count: usize| envelope_of(&format!("[{}]", request("3", &params(count))));
    let limits = EnvelopeLimits { bus_message_bytes_max: 60_000, ..LIMITS };
    assert!(parse(text(9_900).as_bytes(), &limits).is_ok());
    let large = text(10_000);
    let refusal = parse(large.as_bytes(), &limits).unwrap_err();
    assert_eq!((refusal.status, refusal.limit), (413, Some(Limit::bus_message_bytes_max)));
    assert_eq!(traces(&refusal), ["3"]);
    assert_eq!((&refusal.thread_spelled[..], refusal.xid.as_deref()), (&b"\"t\""[..], Some(&b"\"x\""[..])));
}

#[test]
fn a_disconnect_is_never_answered() {
    let disconnect = r#"{"__c":"osrfMessage","__p":{"threadTrace":2,"type":"DISCONNECT"}}"#;
    let refusal = refused(&envelope_of(&format!("[{disconnect}],\"format\":\"hash\"")));
    assert!(refusal.only_disconnects && refusal.traces.is_empty());
    let refusal = refused(&envelope_of(&format!("[{disconnect},null]")));
    assert!(!refusal.only_disconnects && refusal.traces.is_empty());
}
