//! What a client may get wrong: a clear error in the contract's shape, nothing of it on the bus, and the connection stays.

use crate::support::bus::Responder;
use crate::support::client::{Client, Event, connect, disconnect, envelope, message, quoted, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

/// A gateway that never loses patience with garbage, a client and the bus.
fn trio(flags: &[&str]) -> (Redis, Gateway, Client, Responder) {
    let mut all = vec!["--garbage-max", "60000"];
    all.extend_from_slice(flags);
    crate::support::trio(&all)
}

/// Sends `text`, expects one error of `code` for each of `traces`, and then nothing of it on the bus: the next thing there is what is sent next.
fn refused(client: &mut Client, bus: &mut Responder, text: &str, code: u16, traces: &[&str]) {
    client.send(text);
    let mut got = vec![];
    for _ in traces {
        let envelope = client.recv();
        assert_eq!(envelope.parts().len(), 1, "one envelope each: {:.300}", envelope.text);
        let part = &envelope.parts()[0];
        assert_eq!(
            (part.code, &*part.kind, &*part.class),
            (code, "STATUS", "osrfMethodException"),
            "{text:.200} got {:.300}",
            envelope.text
        );
        assert!(part.status.starts_with("evergate: "), "{}", part.status);
        assert!(!envelope.transport_error(), "{:.300}", envelope.text);
        assert!(
            envelope.text.starts_with("{\"thread\":\"") && envelope.json["log_xid"].is_string(),
            "{:.300}",
            envelope.text
        );
        got.push(part.trace.clone());
    }
    got.sort();
    assert_eq!(got, traces, "{text:.200}");
    nothing_relayed(client, bus, text);
}

/// The bus is in order per client, so what comes next tells what did not come before.
fn nothing_relayed(client: &mut Client, bus: &mut Responder, text: &str) {
    client.request("s", "fence", 1, "fence", "[]");
    let arrived = bus.next();
    assert_eq!(arrived.method(0), "fence", "{text:.200} reached the bus as {:.300}", arrived.text);
    bus.complete(&arrived, "1");
    client.until_status(205);
}

/// An envelope whose members are given as text.
fn members(members: &str) -> String {
    format!(r#"{{{members},"osrf_msg":[{}]}}"#, request(3, "m", "[]"))
}

#[test]
fn text_that_is_no_envelope_is_answered_with_400_under_trace_0() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    for text in [
        "",
        "{",
        "[]",
        "{}",
        "5",
        "null",
        "\"x\"",
        "{\"service\":\"s\"}",
        "{} {}",
        "{\"a\":1,}",
        "\u{feff}{}",
        "not json",
        "{'a':1}",
        "{\"service\":\"s\",\"thread\":\"t\",\"osrf_msg\":[{]}",
    ] {
        refused(&mut client, &mut bus, text, 400, &["0"]);
    }
    assert_eq!(gateway.count("open"), 1);
}

#[test]
fn the_error_is_exactly_the_contracts_text_around_its_words() {
    let (_redis, _gateway, mut client, _bus) = trio(&[]);
    client.send(&envelope("a:b", "th\"1", &[request(17, "m", "[]")]).replacen('{', r#"{"log_xid":"x1","#, 1));
    let got = client.recv().text;
    let head = r#"{"thread":"th\"1","log_xid":"x1","osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":17,"locale":"en-US","type":"STATUS","payload":{"__c":"osrfMethodException","__p":{"status":"evergate: "#;
    assert!(got.starts_with(head) && got.ends_with(r#"","statusCode":400}}}}]}"#), "{got}");
}

#[test]
fn a_bad_service_is_refused() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let long = format!("\"{}\"", "x".repeat(257));
    for service in [
        "\"\"",
        "null",
        "{}",
        "[]",
        "true",
        "\"a:b\"",
        r#""a\nb""#,
        r#""a\u0001b""#,
        r#""a\u007fb""#,
        r#""a\u003ab""#,
        &long,
    ] {
        refused(&mut client, &mut bus, &members(&format!(r#""service":{service},"thread":"t""#)), 400, &["3"]);
    }
    refused(&mut client, &mut bus, &members(r#""thread":"t""#), 400, &["3"]);
    client.send(&members(&format!(r#""service":"{}","thread":"t""#, "x".repeat(256))));
    assert_eq!(bus.next().to().len(), "opensrf:service:_:_:".len() + 256);
}

#[test]
fn the_router_itself_is_no_service_unless_allowed() {
    let (redis, _gateway, mut client, mut bus) = trio(&[]);
    for service in ["router", r"\u0072outer"] {
        refused(&mut client, &mut bus, &members(&format!(r#""service":"{service}","thread":"t""#)), 403, &["3"]);
    }
    let gateway = Gateway::serve(&redis, &["--allow-router-calls"]);
    let mut allowed = Client::connect(&gateway);
    allowed.request("router", "t", 0, "opensrf.router.info.summarize", "[]");
    assert_eq!(bus.next().to(), "opensrf:service:_:_:router");
}

#[test]
fn a_thread_is_at_most_64_bytes_unescaped_and_a_string_or_a_number() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let (long, wide, escaped) = ("x".repeat(65), "é".repeat(33), "\\u00e9".repeat(33));
    for thread in [&format!("\"{long}\""), &format!("\"{wide}\""), &format!("\"{escaped}\""), "{}", "[]", "true"] {
        refused(&mut client, &mut bus, &members(&format!(r#""service":"s","thread":{thread}"#)), 400, &["3"]);
    }
    for thread in ["x".repeat(64), "é".repeat(32), "\\u00e9".repeat(32), "\\n".repeat(64)] {
        client.send(&members(&format!(r#""service":"s","thread":"{thread}""#)));
        assert_eq!(bus.next().client_thread().len(), 64);
    }
}

#[test]
fn a_log_xid_is_printable_and_at_most_64() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let long = format!("\"{}\"", "x".repeat(65));
    for xid in ["{}", "[]", "true", r#""a\nb""#, &long] {
        refused(
            &mut client,
            &mut bus,
            &members(&format!(r#""service":"s","thread":"t","log_xid":{xid}"#)),
            400,
            &["3"],
        );
    }
    for (xid, arrives) in [("\"abc-1\"", "abc-1"), ("1795334427269290", "1795334427269290")] {
        client.send(&members(&format!(r#""service":"s","thread":"t","log_xid":{xid}"#)));
        assert_eq!(bus.next().xid(), arrives);
    }
}

#[test]
fn osrf_msg_must_hold_messages_and_one_bad_message_refuses_the_whole_envelope() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let around = |messages: &str| format!(r#"{{"service":"s","thread":"t","osrf_msg":{messages}}}"#);
    for messages in [
        "null",
        "5",
        "\"x\"",
        "[]",
        "[null]",
        "[5]",
        "[[]]",
        "[{}]",
        "{}",
        r#"{"__c":"osrfMessage"}"#,
        r#"[{"__c":"osrfMessage","__p":[]}]"#,
    ] {
        refused(&mut client, &mut bus, &around(messages), 400, &["0"]);
    }
    refused(&mut client, &mut bus, r#"{"service":"s","thread":"t"}"#, 400, &["0"]);
    let good = request(5, "m", "[]");
    for bad in ["WHAT", "STATUS", "RESULT", "connect", ""] {
        client.send(&around(&format!("[{good},{},{}]", message(bad, "6", ""), connect(7))));
        let mut missing = vec!["5", "7"];
        while !missing.is_empty() {
            let told = client.recv();
            assert!(told.has_status(400) && told.parts().len() == 1, "each in an envelope of its own: {}", told.text);
            missing.retain(|trace| *trace != told.parts()[0].trace);
        }
        nothing_relayed(&mut client, &mut bus, bad);
    }
    client.send(&around(&format!("[{}]", good.replace("osrfMessage", "osrfOther"))));
    assert!(client.recv().has_status(400));
    client.send(&around(&format!("[{}]", good.replace(r#""type":"REQUEST","#, ""))));
    assert!(client.recv().has_status(400));
    nothing_relayed(&mut client, &mut bus, "a message of another class, or without a type");
}

#[test]
fn a_thread_trace_is_an_integer_however_it_is_spelled() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    for trace in ["1.5", "\"x\"", "\"\"", "{}", "[1]", "true", "\"1.5\"", "\" 1\"", "1e99"] {
        client.send(&envelope(
            "s",
            "t",
            &[message("REQUEST", trace, r#"{"__c":"osrfMethod","__p":{"method":"m","params":[]}}"#)],
        ));
        let got = client.recv();
        assert!(got.has_status(400), "{trace}: {}", got.text);
        nothing_relayed(&mut client, &mut bus, trace);
    }
    for trace in ["\"12\"", "12"] {
        client.send(&envelope(
            "s",
            "t",
            &[message("REQUEST", trace, r#"{"__c":"osrfMethod","__p":{"method":"m","params":[]}}"#)],
        ));
        let arrived = bus.next();
        assert!(arrived.text.contains(&format!(r#""threadTrace":{trace}"#)), "as spelled: {}", arrived.text);
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
}

#[test]
fn a_message_without_a_thread_trace_is_number_0_as_evergreens_documentation_has_it() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let payload = r#""payload":{"__c":"osrfMethod","__p":{"method":"m","params":[]}}"#;
    for parameters in [
        format!(r#"{{"type":"REQUEST",{payload}}}"#),
        format!(r#"{{"threadTrace":null,"type":"REQUEST",{payload}}}"#),
        format!(r#"{{"type":"REQUEST","threadTrace" : null,{payload}}}"#),
        format!(r#"{{"type":"REQUEST",{payload},"threadTrace":null}}"#),
    ] {
        client.send(&format!(
            r#"{{"service":"s","thread":"t","osrf_msg":[{{"__c":"osrfMessage","__p":{parameters}}}]}}"#
        ));
        let arrived = bus.next();
        assert_eq!((&*arrived.trace(0), arrived.method(0)), ("0", "m"), "{}", arrived.text);
        assert_eq!(arrived.text.matches("threadTrace").count(), 1, "{}", arrived.text);
        bus.complete(&arrived, "1");
        assert!(client.until_status(205).iter().all(|got| got.ends().iter().all(|(trace, _)| trace == "0")));
    }
}

#[test]
fn a_format_that_needs_the_idl_is_refused_by_name() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    for format in ["hash", "hashfull"] {
        let text = members(&format!(r#""service":"s","thread":"t","format":"{format}""#));
        client.send(&text);
        let got = client.recv();
        assert!(got.has_status(400) && got.parts()[0].status.contains("format"), "{}", got.text);
        nothing_relayed(&mut client, &mut bus, &text);
    }
}

#[test]
fn a_null_character_or_a_lone_surrogate_anywhere_is_refused() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    for escape in [r"\u0000", r"a\u0000b", r"\ud800", r"\udc00", r"\ud800\ud800", r"\uDFFF\uD800", r"\ud83dx"] {
        refused(
            &mut client,
            &mut bus,
            &envelope("s", "t", &[request(3, "m", &format!("[\"{escape}\"]"))]),
            400,
            &["3"],
        );
        refused(
            &mut client,
            &mut bus,
            &envelope("s", "t", &[request(3, "m", &format!("[{{\"{escape}\":1}}]"))]),
            400,
            &["3"],
        );
    }
    client.send(&envelope("s", "t", &[request(3, "m", r#"["\ud83d\ude00","\\u0000"]"#)]));
    assert!(
        bus.next().text.contains(r#"["\ud83d\ude00","\\u0000"]"#),
        "a pair and an escaped backslash are no offence"
    );
}

#[test]
fn a_key_repeated_in_envelope_message_or_payload_is_refused_however_it_is_spelled() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let good = envelope("s", "t", &[request(3, "m", "[]")]);
    for (once, twice) in [
        (r#""service":"s""#, r#""service":"s","service":"s""#),
        (r#""service":"s""#, r#""service":"s","x":1,"x":2"#),
        (r#""thread":"t""#, r#""thread":"t","\u0074hread":"t""#),
        (r#""__c":"osrfMessage""#, r#""__c":"osrfMessage","__c":"osrfMessage""#),
        (r#""__c":"osrfMessage""#, r#""__c":"osrfMessage","\u005f\u005fp":{}"#),
        (r#""locale":"en-US""#, r#""locale":"en-US","locale":"en-US""#),
        (r#""locale":"en-US""#, r#""locale":"en-US","typ\u0065":"REQUEST""#),
        (r#""__c":"osrfMethod""#, r#""__c":"osrfMethod","__c":"osrfMethod""#),
        (r#""params":[]"#, r#""params":[],"method":"m""#),
    ] {
        assert!(good.contains(once), "{once}");
        client.send(&good.replacen(once, twice, 1));
        let got = client.recv();
        assert!(got.has_status(400), "{twice}: {}", got.text);
        nothing_relayed(&mut client, &mut bus, twice);
    }
}

#[test]
fn depth_is_refused_before_any_parser_sees_it() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let nested = |levels: usize| format!("[{}{}]", "[".repeat(levels), "]".repeat(levels));
    client.send(&envelope("s", "t", &[request(3, "m", &nested(110_000))]));
    assert!(client.recv().has_status(400));
    client.send(&"[".repeat(110_000));
    assert!(client.recv().has_status(400));
    client.send(&"{\"a\":".repeat(110_000));
    assert!(client.recv().has_status(400));
    client.send(&envelope("s", "t", &[request(3, "m", &nested(1_001))]));
    assert!(client.recv().has_status(400));
    nothing_relayed(&mut client, &mut bus, "1,001 levels");
    client.send(&envelope("s", "t", &[request(3, "m", &format!("[{}]", quoted(&"[{".repeat(5_000))))]));
    assert!(bus.next().text.contains("[{[{"), "brackets in a string are no depth");
    assert!(gateway.limit("json_depth_max") >= 4);
}

#[test]
fn text_that_the_router_would_blow_up_beyond_the_limit_is_refused_with_413() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    for wide in ["é".repeat(1_800_000), "\u{7f}".repeat(3_600_000)] {
        client.send(&envelope("s", "t", &[request(3, "m", &format!("[\"{wide}\"]"))]));
        let got = client.recv();
        assert_eq!((got.parts()[0].code, &*got.parts()[0].trace, got.thread()), (413, "3", "t"), "{:.300}", got.text);
        nothing_relayed(&mut client, &mut bus, "too large after escaping");
    }
    assert_eq!(gateway.limit("bus_message_bytes_max"), 2);
    client.send(&envelope("s", "t", &[request(3, "m", &format!("[\"{}\"]", "x".repeat(3_600_000)))]));
    assert!(bus.next().text.len() > 3_600_000, "ASCII of the same size is fine");
}

#[test]
fn escaped_size_counts_six_for_two_and_three_bytes_and_twelve_for_four() {
    let (_redis, _gateway, mut client, mut bus) = trio(&["--bus-message-bytes-max", "60000"]);
    for (character, weight) in [("\u{7f}", 6), ("é", 6), ("€", 6), ("😀", 12), ("x", 1)] {
        let (fits, too_many) = (58_500 / weight, 60_100 / weight);
        client.send(&envelope("s", "t", &[request(3, "m", &format!("[\"{}\"]", character.repeat(fits)))]));
        let arrived = bus.next();
        assert!(arrived.text.contains(&character.repeat(fits)), "{fits} of {character:?} fit");
        bus.complete(&arrived, "1");
        client.until_status(205);
        client.send(&envelope("s", "t", &[request(3, "m", &format!("[\"{}\"]", character.repeat(too_many)))]));
        assert!(client.recv().has_status(413), "{too_many} of {character:?} do not");
    }
}

#[test]
fn more_messages_than_a_worker_reads_are_refused() {
    let (_redis, gateway, mut client, mut bus) = trio(&["--parallel-max", "1000"]);
    let many = |n: u32| envelope("s", "t", &(0..n).map(|trace| request(trace, "m", "[]")).collect::<Vec<_>>());
    client.send(&many(257));
    assert!(client.recv().has_status(400));
    until("counted", PATIENCE, || gateway.limit("messages_per_envelope_max") == 1);
    let mut second = Client::connect(&gateway);
    second.send(&many(256));
    assert_eq!(bus.next().kinds().len(), 256);
}

#[test]
fn a_disconnect_gets_no_error_reply() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("a:b", "t", &[disconnect(9)]));
    client.send(&envelope("a:b", "t", &[request(10, "m", "[]"), disconnect(11)]));
    let got = client.recv();
    assert_eq!(got.parts()[0].trace, "10", "{}", got.text);
    nothing_relayed(&mut client, &mut bus, "a bad DISCONNECT");
}

#[test]
fn garbage_in_a_row_is_closed_with_1008_and_a_good_envelope_begins_anew() {
    let redis = Redis::start();
    let gateway = Setup::serve(&redis).flags(&["--garbage-max", "3"]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    for _ in 0..3 {
        for _ in 0..2 {
            client.send("{");
            client.recv();
        }
        nothing_relayed(&mut client, &mut bus, "garbage");
    }
    for _ in 0..3 {
        // A 403 and a 429 are no garbage.
        client.request("router", "t", 0, "m", "[]");
        assert!(client.recv().has_status(403));
    }
    for _ in 0..4 {
        client.try_send("{").ok();
    }
    let (code, errors) = client.close_code(PATIENCE);
    assert_eq!(code, Some(1008));
    assert!((2..=3).contains(&errors.len()), "{} errors before the Close", errors.len());
    assert_eq!(gateway.limit("garbage_max"), 1);
}

#[test]
fn bytes_that_are_not_utf8_in_a_binary_frame_never_reach_the_bus() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send_binary(&[b"{\"service\":\"s\",\"x\":\"".as_slice(), &[0xff, 0xc0, 0xaf], b"\"}"].concat());
    // It is text that is no UTF-8: an error reply or Close 1007, never a message.
    match client.event(PATIENCE) {
        Event::Envelope(told) => assert!(told.has_status(400), "{}", told.text),
        other => assert!(matches!(other, Event::Close(Some(1007))), "{other:?}"),
    }
    nothing_relayed(&mut Client::connect(&gateway), &mut bus, "bad UTF-8");
}
