use std::borrow::Cow;

use super::super::envelope::Kind;
use super::*;

#[test]
fn a_request_is_read_with_all_its_fields() {
    let text = with_members(r#""service":"opensrf.math","thread":"0.47","log_xid":"xid-1","#);
    let envelope = read(&text);
    assert_eq!(envelope.service.as_deref(), Some("opensrf.math"));
    assert_eq!(envelope.thread, "0.47");
    assert_eq!(&*envelope.thread_spelled, b"\"0.47\"");
    assert_eq!(envelope.xid.as_deref(), Some(&b"\"xid-1\""[..]));
    let message = &envelope.messages[0];
    assert_eq!(message.kind, Kind::Request);
    assert_eq!(message.trace.value, 0);
    assert_eq!(message.method.as_deref(), Some("add"));
    assert_eq!(message.params, Some(&b"[1,2]"[..]));
}

#[test]
fn a_service_may_be_absent_or_null_and_a_number_is_its_spelling() {
    assert_eq!(read(&with_members("")).service, None);
    assert_eq!(read(&with_members(r#""service":null,"#)).service, None);
    assert_eq!(read(&with_members(r#""service":5,"#)).service.as_deref(), Some("5"));
    assert_eq!(read(&with_members("\"service\":\"\\u00e9\",")).service.as_deref(), Some("é"));
    let longest = format!(r#""service":"{}","#, "x".repeat(256));
    assert_eq!(read(&with_members(&longest)).service.map(|name| name.len()), Some(256));
}

#[test]
fn a_thread_is_a_string_or_a_number_as_spelled_or_empty() {
    let thread = |value: &str| {
        let text = with_members(&format!(r#""thread":{value},"#));
        let envelope = read(&text);
        (envelope.thread.to_string(), String::from_utf8(envelope.thread_spelled.to_vec()).unwrap())
    };
    let pair = |thread: &str, spelled: &str| (thread.to_owned(), spelled.to_owned());
    assert_eq!(thread("5"), pair("5", r#""5""#));
    assert_eq!(thread("1.50"), pair("1.50", r#""1.50""#));
    assert_eq!(thread("-0e+1"), pair("-0e+1", r#""-0e+1""#));
    assert_eq!(thread("null"), pair("", r#""""#));
    assert_eq!(thread(r#""""#), pair("", r#""""#));
    assert_eq!(thread(r#""\u0074\/\"é\ud83d\ude00""#), pair("t/\"é😀", r#""\u0074\/\"é\ud83d\ude00""#));
    assert_eq!(read(&with_members("")).thread, "");
    let longest = format!(r#""{}""#, "\\u0041".repeat(64));
    assert_eq!(thread(&longest).0.len(), 64);
}

#[test]
fn a_log_xid_is_a_string_or_a_number_and_empty_means_none() {
    let xid = |value: &str| {
        let text = with_members(&format!(r#""log_xid":{value},"#));
        read(&text).xid.map(Cow::into_owned)
    };
    assert_eq!(xid("7"), Some(b"\"7\"".to_vec()));
    assert_eq!(xid("\"a b\\\"\\\\\""), Some(b"\"a b\\\"\\\\\"".to_vec()));
    assert_eq!(xid("null"), None);
    assert_eq!(xid(r#""""#), None);
    assert!(xid(&format!(r#""{}""#, "x".repeat(64))).is_some());
}

#[test]
fn a_thread_trace_is_compared_as_a_number_and_kept_as_spelled() {
    let trace = |value: &str| {
        let text = envelope_of(&format!("[{}]", request(value, r#"{"method":"m"}"#)));
        let trace = read(&text).messages[0].trace;
        (trace.value, String::from_utf8(trace.spelled().to_vec()).unwrap())
    };
    assert_eq!(trace("7"), (7, "7".to_owned()));
    assert_eq!(trace(r#""7""#), (7, r#""7""#.to_owned()));
    assert_eq!(trace(r#""\u0037""#), (7, r#""7""#.to_owned()));
    assert_eq!(trace(r#""007""#), (7, r#""007""#.to_owned()));
    assert_eq!(trace("-9223372036854775808"), (i64::MIN, "-9223372036854775808".to_owned()));
    assert_eq!(trace(r#""-9223372036854775808""#), (i64::MIN, r#""-9223372036854775808""#.to_owned()));
}

#[test]
fn a_bare_message_object_is_accepted_and_becomes_an_array() {
    let text = envelope_of(&request("1", r#"{"method":"m"}"#));
    let envelope = read(&text);
    assert_eq!(envelope.messages.len(), 1);
    assert!(json(body(&envelope).as_bytes()).is_array());
}

#[test]
fn the_payload_of_a_connect_may_be_anything() {
    for payload in [r#""null""#, "null", "{}", "[1]", r#"{"method":"m"}"#, "1e3"] {
        let text = with_parameters(&format!(r#"{{"threadTrace":0,"type":"CONNECT","payload":{payload}}}"#));
        let envelope = read(&text);
        assert_eq!((envelope.messages[0].kind, &envelope.messages[0].method), (Kind::Connect, &None));
    }
    let text = with_parameters(r#"{"threadTrace":0,"type":"DISCONNECT"}"#);
    assert_eq!(read(&text).messages[0].kind, Kind::Disconnect);
}

#[test]
fn keys_and_words_are_compared_unescaped() {
    let text = concat!(
        r#"{"\u0073ervice":"s","\u0074hread":"t","osrf\u005fmsg":[{"\u005f\u005fc":"osrf\u004dessage","\u005f\u005fp":"#,
        r#"{"thread\u0054race":3,"\u0074ype":"\u0052EQUEST","ingr\u0065ss":"evil","payload":"#,
        r#"{"__c":"osrfMethod","\u005f_p":{"m\u0065thod":"\u0061dd"}}}}]}"#
    );
    let envelope = read(text);
    assert_eq!(envelope.service.as_deref(), Some("s"));
    assert_eq!(envelope.messages[0].trace.value, 3);
    assert_eq!(envelope.messages[0].method.as_deref(), Some("add"));
    assert!(!body(&envelope).contains("evil"));
}

#[test]
fn multi_line_json_is_fine() {
    let text = with_members("\n\t\"service\" : \"s\" ,\r\n \"thread\" : \"t\" ,\n");
    assert_eq!(read(&text).service.as_deref(), Some("s"));
}

#[test]
fn a_format_that_is_absent_null_or_raw_passes() {
    for format in ["", r#""format":null,"#, r#""format":"raw","#] {
        read(&with_members(format));
    }
}

#[test]
fn other_keys_of_the_envelope_are_ignored_and_not_forwarded() {
    let text = with_members(r#""api_ver":1,"to":"evil","from":"evil","osrf_xid":"evil","body":["evil"],"#);
    assert!(!body(&read(&text)).contains("evil"));
}

#[test]
fn a_thread_trace_that_is_absent_or_null_is_0_and_set_beside_ingress() {
    let own = r#""ingress":"ws-translator-v2","threadTrace":0"#;
    for (given, expected) in [
        ("{}", format!("{{{own}}}")),
        (r#"{"type":"CONNECT"}"#, format!(r#"{{{own},"type":"CONNECT"}}"#)),
        (r#"{"threadTrace":null,"type":"CONNECT"}"#, format!(r#"{{{own},"type":"CONNECT"}}"#)),
        (r#"{"type":"CONNECT", "threadTrace" : null }"#, format!(r#"{{{own},"type":"CONNECT" }}"#)),
        (
            r#"{"ingress":1,"threadTrace":null,"type":"CONNECT","ingress":2,"tz":null}"#,
            format!(r#"{{{own},"type":"CONNECT","tz":null}}"#),
        ),
    ] {
        let text = with_parameters(given);
        if given == "{}" {
            assert!(refused(&text).reason.contains("type"));
            continue;
        }
        let envelope = read(&text);
        assert_eq!((envelope.messages[0].trace.value, envelope.messages[0].trace.spelled()), (0, &b"0"[..]));
        let expected = format!(r#"[{{"__c":"osrfMessage","__p":{expected}}}]"#);
        assert_eq!(body(&envelope), expected, "{given}");
        assert_eq!(envelope.body_len(INGRESS), expected.len(), "{given}");
    }
    let twice = with_parameters(r#"{"threadTrace":null,"type":"CONNECT","threadTrace":null}"#);
    assert!(refused(&twice).reason.contains("repeated"));
}

#[test]
fn ingress_is_set_once_whatever_the_client_wrote() {
    let own = r#""ingress":"ws-translator-v2""#;
    let rest = r#""threadTrace":0,"type":"CONNECT""#;
    for (given, expected) in [
        (format!("{{{rest}}}"), format!("{{{own},{rest}}}")),
        (format!(r#"{{"ingress":"a",{rest}}}"#), format!("{{{own},{rest}}}")),
        (format!(r#"{{{rest},"ingress":{{"a":[1,"}}"]}}}}"#), format!("{{{own},{rest}}}")),
        (
            format!(r#"{{"ingress":1,"ingress":2,{rest},"\u0069ngress":3,"tz":"x"}}"#),
            format!("{{{own},{rest},\"tz\":\"x\"}}"),
        ),
    ] {
        let text = with_parameters(&given);
        assert_eq!(body(&read(&text)), format!(r#"[{{"__c":"osrfMessage","__p":{expected}}}]"#), "{given}");
    }
    let spaced = with_parameters(&format!("{{ {rest} , \"ingress\" : null , \"tz\" : 1 }}"));
    assert_eq!(json(body(&read(&spaced)).as_bytes())[0]["__p"]["ingress"], "ws-translator-v2");
}

#[test]
fn an_ingress_elsewhere_is_the_clients_own_business() {
    let text = envelope_of(&format!(
        "[{}]",
        request("0", r#"{"method":"m","params":[{"ingress":1,"ingress":2}],"ingress":3}"#)
    ));
    assert!(body(&read(&text)).contains(r#"[{"ingress":1,"ingress":2}],"ingress":3"#));
}

#[test]
fn deeper_repeats_big_numbers_and_escapes_are_forwarded_as_they_came() {
    let params = r#"[{"a":1,"a":2},100000000000000000000001,1.0e-5,"\u00e9\/é","\\u0000",[{}]]"#;
    let text = envelope_of(&format!("[{}]", request("0", &format!(r#"{{"method":"m","params":{params}}}"#))));
    let envelope = read(&text);
    assert_eq!(envelope.messages[0].params, Some(params.as_bytes()));
    assert!(body(&envelope).contains(params));
}

#[test]
fn a_method_without_its_class_is_read_as_c_services_read_it() {
    let text = with_parameters(r#"{"threadTrace":0,"type":"REQUEST","payload":{"method":"m","params":[3]}}"#);
    let envelope = read(&text);
    assert_eq!(envelope.messages[0].method.as_deref(), Some("m"));
    assert_eq!(envelope.messages[0].params, Some(&b"[3]"[..]));
}

#[test]
fn as_many_messages_as_allowed_keep_their_order() {
    let messages: Vec<String> = (0..256).map(|n| request(&n.to_string(), r#"{"method":"m"}"#)).collect();
    let text = envelope_of(&format!("[{}]", messages.join(" , ")));
    let envelope = read(&text);
    assert!(envelope.messages.iter().map(|message| message.trace.value).eq(0..256));
    let written = json(body(&envelope).as_bytes());
    assert_eq!(written[255]["__p"]["threadTrace"], 255);
}

#[test]
fn depth_up_to_the_limit_passes() {
    // The envelope, osrf_msg, message, __p, payload and its __p are six levels.
    let deep = format!(r#"{{"method":"m","params":{}{}}}"#, "[".repeat(994), "]".repeat(994));
    read(&envelope_of(&format!("[{}]", request("0", &deep))));
    let deeper = format!(r#"{{"method":"m","params":{}{}}}"#, "[".repeat(995), "]".repeat(995));
    refused(&envelope_of(&format!("[{}]", request("0", &deeper))));
}
