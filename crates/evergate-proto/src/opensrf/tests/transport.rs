use super::super::envelope::Trace;
use super::super::error::{Exception, write_error};
use super::super::reply::*;
use super::super::transport::*;
use super::*;

const ROUTER_404: &str = r#"{"to":"opensrf:client:gateway:d:h:1:a","from":"opensrf:client:router:d:h:2:b","thread":"1.2.3:t","osrf_xid":null,"body":[{"__c":"osrfMessage","__p":{"threadTrace":"1","locale":"en-US","api_level":1,"type":"STATUS","payload":{"__c":"osrfServiceException","__p":{"status":"Service Not Found","statusCode":"404"}}}}]}"#;

fn parsed(text: &str) -> Reply<'_> {
    parse_reply(text.as_bytes(), Vec::new()).unwrap()
}

#[test]
fn a_bus_message_has_the_five_members_in_order() {
    let text = with_members("");
    let mut out = Vec::new();
    write_message(&mut out, "opensrf:service:_:_:m", "me", "1.2.3:a\"\\\n\u{1}é", b"\"x\"", &read(&text), INGRESS);
    let written = String::from_utf8(out.clone()).unwrap();
    let head = r#"{"to":"opensrf:service:_:_:m","from":"me","thread":"1.2.3:a\"\\\n\u0001é","osrf_xid":"x","body":[{"#;
    assert!(written.starts_with(head), "{written}");
    assert_eq!(json(&out)["thread"], "1.2.3:a\"\\\n\u{1}é");
}

#[test]
fn a_disconnect_is_a_whole_bus_message() {
    let mut out = Vec::new();
    write_disconnect(&mut out, "worker", "me", "0.0.0:t", b"\"x\"", INGRESS);
    let written = json(&out);
    assert_eq!(written["body"][0]["__p"]["type"], "DISCONNECT");
    assert_eq!(written["body"][0]["__p"]["ingress"], "ws-translator-v2");
    assert_eq!((&written["to"], &written["thread"]), (&json(b"\"worker\""), &json(b"\"0.0.0:t\"")));
}

#[test]
fn escaped_size_counts_six_for_del_and_short_characters_and_twelve_for_the_rest() {
    for (text, length) in [("abc\\\"", 5), ("\u{7f}", 6), ("é", 6), ("߿", 6), ("€", 6), ("\u{ffff}", 6), ("😀", 12)]
    {
        assert_eq!(escaped_len(text.as_bytes()), length, "{text:?}");
        let many = text.repeat(100);
        assert_eq!(escaped_len(many.as_bytes()), length * 100, "{text:?}");
    }
    assert_eq!(escaped_len(b""), 0);
}

#[test]
fn a_reply_is_read_in_any_order_and_either_quoting() {
    let perl = r#"{"body":[{"__p":{"payload":{"__p":{"status":"OK","content":{"__c":"x","statusCode":1},"statusCode":200},"__c":"osrfResult"},"type":"RESULT","threadTrace":4},"__c":"osrfMessage"},{"__c":"osrfMessage","__p":{"type":"STATUS","threadTrace":"-5","payload":{"__c":"osrfConnectStatus","__p":{"statusCode":"205"}}}}],"osrf_xid":7,"thread":"0.1.2:\u0074","from":"w","to":"me"}"#;
    let reply = parsed(perl);
    assert_eq!((&*reply.from, &*reply.thread, reply.xid.as_deref()), ("w", "0.1.2:t", Some(&b"\"7\""[..])));
    let [result, status] = &reply.messages[..] else { panic!("two messages") };
    assert_eq!((result.kind, result.trace, result.status_code), (ReplyKind::Result, Some(4), Some(200)));
    assert_eq!((status.kind, status.trace, status.status_code), (ReplyKind::Status, Some(-5), Some(205)));
    assert_eq!(&perl[status.trace_span.clone().unwrap()], "\"-5\"");
    assert!(perl[result.span.clone()].starts_with("{\"__p\"") && !result.service_exception);
}

#[test]
fn an_envelope_wraps_the_body_as_it_came_with_the_thread_first() {
    let body = r#"[ {"__c":"x","n":100000000000000000000001,"\u00e9":1.0} ]"#;
    let text = format!(r#"{{"thread":"1.1.1:t","osrf_xid":null,"body":{body}}}"#);
    let reply = parsed(&text);
    assert_eq!((reply.xid.as_deref(), &*reply.from), (None, ""));
    let mut out = Vec::new();
    write_envelope(&mut out, TO, text.as_bytes(), &reply);
    assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{{"thread":"t","log_xid":"x","osrf_msg":{body}}}"#));
}

#[test]
fn a_body_that_is_one_message_is_wrapped() {
    let text = r#"{"thread":"t","body":{"__c":"osrfMessage","__p":{"type":"STATUS","threadTrace":1}}}"#;
    let reply = parsed(text);
    assert_eq!((reply.body_is_array, reply.messages[0].kind), (false, ReplyKind::Status));
    let mut out = Vec::new();
    write_envelope(&mut out, TO, text.as_bytes(), &reply);
    assert!(json(&out)["osrf_msg"].is_array());
}

#[test]
fn elements_that_are_no_messages_pass_through_as_other() {
    let reply = parsed(r#"{"thread":"t","body":[null,{"a":1},{"__p":3},{"__c":"x","__p":{"type":5,"payload":"p"}}]}"#);
    assert!(reply.messages.iter().all(|message| message.kind == ReplyKind::Other && message.trace.is_none()));
    assert_eq!(reply.messages.len(), 4);
}

#[test]
fn the_routers_404_is_recognised_and_told_to_each_pending_request_in_its_own_spelling() {
    let reply = parsed(ROUTER_404);
    assert!(reply.messages[0].service_exception && reply.messages[0].status_code == Some(404));
    let text =
        envelope_of(&format!("[{},{}]", request("0", r#"{"method":"m"}"#), request("\"7\"", r#"{"method":"m"}"#)));
    let traces: Vec<Trace> = read(&text).messages.iter().map(|message| message.trace).collect();
    for (trace, spelled) in traces.iter().zip(["0", "\"7\""]) {
        let mut out = Vec::new();
        write_router_404(&mut out, TO, ROUTER_404.as_bytes(), &reply.messages[0], trace);
        let expected = format!(
            r#"{{"thread":"t","log_xid":"x","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":{spelled},"locale":"en-US","api_level":1,"type":"STATUS","payload":{{"__c":"osrfServiceException","__p":{{"status":"Service Not Found","statusCode":"404"}}}}}}}}],"transport_error":true}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn a_404_without_a_thread_trace_gets_one() {
    for (parameters, expected) in [("{}", r#"{"threadTrace":0}"#), (r#"{ "a":1}"#, r#"{"threadTrace":0, "a":1}"#)] {
        let text = format!(r#"{{"thread":"t","body":[{{"__c":"c","__p":{parameters}}}]}}"#);
        let reply = parsed(&text);
        let mut out = Vec::new();
        write_router_404(&mut out, TO, text.as_bytes(), &reply.messages[0], &Trace::UNREADABLE);
        assert!(String::from_utf8(out).unwrap().contains(expected));
    }
}

#[test]
fn a_reply_with_a_bad_byte_is_marked() {
    let text = b"{\"thread\":\"t\",\"from\":\"w\",\"body\":[{\"content\":\"\xFF\"}]}";
    let reply = parse_reply(text, Vec::new()).unwrap();
    assert!(!reply.utf8 && &*reply.thread == "t");
}

#[test]
fn a_damaged_reply_is_an_error() {
    for text in ["", "[]", "{}", "null", r#"{"thread":"t"}"#, r#"{"thread":"t","body":null}"#, r#"{"body":[]}"#] {
        assert!(parse_reply(text.as_bytes(), Vec::new()).is_err(), "{text}");
    }
    for end in 0..ROUTER_404.len() {
        assert!(parse_reply(&ROUTER_404.as_bytes()[..end], Vec::new()).is_err());
    }
    let deep = format!(r#"{{"thread":"t","body":{}"#, "[".repeat(1 << 20));
    assert!(parse_reply(deep.as_bytes(), Vec::new()).is_err());
}

#[test]
fn a_used_vector_of_messages_is_filled_anew() {
    let used = parsed(r#"{"thread":"t","body":[1,2,3]}"#).messages;
    assert_eq!(parse_reply(br#"{"thread":"t","body":[1]}"#, used).unwrap().messages.len(), 1);
}

#[test]
fn an_error_has_the_exact_shape() {
    let mut out = Vec::new();
    write_error(
        &mut out,
        TO,
        &Trace::UNREADABLE,
        Exception { status: 400, transport_error: false, text: "say \"hello\";\n\\" },
    );
    let expected = r#"{"thread":"t","log_xid":"x","osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":0,"locale":"en-US","type":"STATUS","payload":{"__c":"osrfMethodException","__p":{"status":"evergate: say \"hello\";\n\\","statusCode":400}}}}]}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_error_has_the_trace_as_its_client_spelled_it() {
    let text = envelope_of(&request("\"2\"", r#"{"method":"m"}"#));
    let trace = read(&text).messages[0].trace;
    let mut out = Vec::new();
    write_error(
        &mut out,
        TO,
        &trace,
        Exception { status: 503, transport_error: true, text: "the bus is away; try again" },
    );
    let written = json(&out);
    assert_eq!(written["osrf_msg"][0]["__p"]["threadTrace"], "2");
    assert_eq!(written["transport_error"], true);
    assert!(String::from_utf8(out).unwrap().starts_with("{\"thread\""));
}
