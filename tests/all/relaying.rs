//! Stateless requests, whole: two domains, each with a Redis of its own under the stock ACL, and the demo's router and services.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::bus::{Responder, result, status};
use crate::support::client::{Client, Envelope, contents, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::site::Site;

/// `3`, `3.0` and `"3"` are the same answer.
fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn add_of_one_and_two_is_three_and_so_on_for_every_method_of_math() {
    let site = Site::start(&[]);
    let mut client = site.client();
    for (trace, (method, params, expected)) in
        (0..).zip([("add", "[1,2]", 3.0), ("sub", "[7,2]", 5.0), ("mult", "[3,4]", 12.0), ("div", "[9,2]", 4.5)])
    {
        let got = client.call("opensrf.math", "t", trace, method, params);
        assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [expected], "{method}");
    }
}

#[test]
fn a_streamed_reply_arrives_result_by_result_as_it_is_made() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.request("opensrf.demo", "t", 1, "opensrf.demo.count", "[4, 0.2]");
    let first = client.recv();
    let begun = Instant::now();
    let mut all = vec![first];
    all.extend(client.until_status(205));
    assert_eq!(contents(&all).iter().map(number).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
    assert!(begun.elapsed() > Duration::from_millis(300), "the first result was held back until the last");
}

#[test]
fn a_bundled_reply_arrives_in_one_envelope() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.request("opensrf.demo", "t", 1, "opensrf.demo.bundled", "[5]");
    let got = client.until_status(205);
    assert_eq!(
        got.iter().map(|envelope| envelope.parts().len()).max(),
        Some(6),
        "five results and the end travel together"
    );
    assert_eq!(contents(&got).len(), 5);
}

#[test]
fn a_chunked_reply_arrives_as_206s_and_a_204_in_order() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.request("opensrf.demo", "t", 1, "opensrf.demo.chunked", "[300000]");
    let got = client.until_status(205);
    let codes: Vec<u16> =
        got.iter().flat_map(Envelope::parts).filter(|part| part.kind == "RESULT").map(|part| part.code).collect();
    let chunks: Vec<u16> = codes.into_iter().filter(|code| *code != 200).collect();
    assert!(chunks.len() > 1 && chunks[..chunks.len() - 1].iter().all(|code| *code == 206), "{chunks:?}");
    assert_eq!(chunks.last(), Some(&204));
    let bytes: usize = contents(&got).iter().filter_map(Value::as_str).map(str::len).sum();
    assert!(bytes >= 300_000, "{bytes} bytes of 300,000");
}

#[test]
fn replies_of_one_and_of_five_megabytes_arrive_whole() {
    let site = Site::start(&[]);
    let mut client = site.client();
    for (trace, bytes) in [(0, 1_000_000), (1, 5_000_000)] {
        let got = client.call("opensrf.demo", "t", trace, "opensrf.demo.big", &format!("[{bytes}]"));
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].as_str().map(str::len), Some(bytes));
    }
}

#[test]
fn two_requests_in_one_envelope_are_both_answered() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.send(&envelope("opensrf.math", "t-two", &[request(0, "add", "[1,2]"), request(1, "mult", "[3,4]")]));
    let mut ended = client.until_ended(2);
    ended.sort();
    assert_eq!(ended, [("t-two".into(), "0".into(), 205), ("t-two".into(), "1".into(), 205)]);
}

#[test]
fn parallel_requests_of_one_client_take_as_long_as_the_slowest() {
    let site = Site::start(&[]);
    let mut client = site.client();
    let begun = Instant::now();
    for i in 0..3 {
        client.request("opensrf.demo", "same", i, "opensrf.demo.sleep", "[1]");
        client.request("opensrf.demo", &format!("own-{i}"), 0, "opensrf.demo.sleep", "[1]");
    }
    let mut ended = client.until_ended(6);
    assert!(begun.elapsed() < Duration::from_secs(5), "six seconds' worth of sleeps in {:?}", begun.elapsed());
    ended.sort();
    let expected = [("own-0", "0"), ("own-1", "0"), ("own-2", "0"), ("same", "0"), ("same", "1"), ("same", "2")];
    assert_eq!(ended, expected.map(|(thread, trace)| (thread.to_owned(), trace.to_owned(), 205)));
}

#[test]
fn an_unknown_service_ends_each_request_under_its_own_trace_so_that_its_callback_is_found() {
    let site = Site::start(&[]);
    let mut client = site.client();
    for traces in [vec![0], vec![7], vec![3, 4]] {
        let requests: Vec<String> = traces.iter().map(|trace| request(*trace, "x", "[]")).collect();
        client.send(&envelope("opensrf.nosuch", "t", &requests));
        let mut got: Vec<String> = vec![];
        while got.len() < traces.len() {
            let envelope = client.recv();
            assert!(envelope.transport_error(), "the browser client needs it: {}", envelope.text);
            assert!(envelope.json["log_xid"].as_str().is_some_and(|xid| !xid.is_empty()), "{}", envelope.text);
            assert_eq!(envelope.parts().len(), 1, "the browser client reads only the first message");
            assert_eq!((envelope.parts()[0].code, &*envelope.parts()[0].class), (404, "osrfServiceException"));
            got.push(envelope.parts()[0].trace.clone());
        }
        got.sort();
        assert_eq!(got, traces.iter().map(u32::to_string).collect::<Vec<_>>());
    }
    site.gateway.until_count("idle", 1);
}

#[test]
fn parallel_requests_to_an_unknown_service_on_one_thread_each_get_their_own_404() {
    let site = Site::start(&[]);
    let mut client = site.client();
    for trace in 0..5 {
        client.request("opensrf.nosuch", "t", trace, "x", "[]");
    }
    let mut ended: Vec<_> = client.until_ended(5).into_iter().map(|(_, trace, code)| (trace, code)).collect();
    ended.sort();
    assert_eq!(ended, ["0", "1", "2", "3", "4"].map(|trace| (trace.to_owned(), 404)));
}

#[test]
fn a_methods_own_error_is_passed_through_and_is_no_transport_error() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.request("opensrf.math", "t", 2, "nosuch", "[1,2]");
    let unknown = client.until_status(404).pop().expect("an envelope");
    assert!(!unknown.transport_error(), "{}", unknown.text);
    client.request("opensrf.demo", "t", 3, "opensrf.demo.fail", "[500, \"no luck\"]");
    let failed = client.until_status(500).pop().expect("an envelope");
    assert!(!failed.transport_error() && failed.text.contains("no luck"), "{}", failed.text);
    site.gateway.until_count("idle", 1);
}

#[test]
fn the_wrapper_is_compact_begins_with_the_thread_and_carries_the_log_xid() {
    let site = Site::start(&[]);
    let mut client = site.client();
    let text = envelope("opensrf.math", "t9", &[request(0, "add", "[1,2]")]);
    client.send(&text.replacen('{', r#"{"log_xid":"my-xid","#, 1));
    for got in client.until_status(205) {
        assert!(got.text.starts_with(r#"{"thread":"t9","log_xid":"my-xid","osrf_msg":[{"#), "{}", got.text);
        assert!(!got.text.contains("transport_error") && !got.text.contains("oxrf_xid"), "{}", got.text);
    }
    client.send(&text);
    let made_up = client.recv();
    assert!(made_up.json["log_xid"].as_str().is_some_and(|xid| (1..=64).contains(&xid.len())), "{}", made_up.text);
}

#[test]
fn the_log_xid_of_a_reply_is_the_bus_own_or_the_requests_where_that_is_null() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.send(&envelope("s", "t", &[request(5, "m", "[]")]).replacen('{', r#"{"log_xid":"mine","#, 1));
    let arrived = bus.next();
    assert_eq!(arrived.xid(), "mine");
    let address = bus.address.clone();
    for (xid, expected) in [("null", "mine"), ("\"theirs\"", "theirs")] {
        bus.answer_from(&address, &arrived, xid, &format!("[{}]", result("5", "1")));
        assert_eq!(client.recv().json["log_xid"], expected);
    }
    bus.status(&arrived, 205);
    client.until_status(205);
}

#[test]
fn a_message_goes_to_the_router_as_to_from_thread_osrf_xid_and_body() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("opensrf.math", "my:thread", 0, "add", "[1,2]");
    let arrived = bus.next();
    assert_eq!(arrived.to(), "opensrf:service:_:_:opensrf.math");
    assert!(arrived.from().starts_with("opensrf:client:gateway:public.localhost:"), "{}", arrived.from());
    let (numbers, thread) = arrived.thread().split_once(':').expect("a colon");
    assert_eq!(thread, "my:thread");
    assert_eq!(
        numbers.split('.').filter(|number| number.parse::<u64>().is_ok()).count(),
        3,
        "slot, generation, conversation"
    );
    let keys: Vec<&String> = arrived.json.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["body", "from", "osrf_xid", "thread", "to"]);
    let random = arrived.from().rsplit(':').next().expect("a last part");
    assert!(random.len() >= 11, "64 random bits do not fit into {random:?}");
    assert!(arrived.from().contains(&format!(":{}:", gateway.pid())), "{}", arrived.from());
}

#[test]
fn every_conversation_has_a_number_of_its_own_and_clients_never_share_a_bus_thread() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let mut bus = Responder::new(&redis);
    let mut threads = std::collections::HashSet::new();
    for _ in 0..20 {
        let mut client = Client::connect(&gateway);
        for _ in 0..3 {
            client.request("s", "same", 0, "m", "[]");
            let arrived = bus.next();
            assert!(
                threads.insert((arrived.from().to_owned(), arrived.thread().to_owned())),
                "{} twice",
                arrived.thread()
            );
        }
        client.close();
    }
}

#[test]
fn the_client_gets_its_thread_back_in_its_own_spelling() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    let tail = format!(r#""service":"s","osrf_msg":[{}]}}"#, request(0, "m", "[]"));
    for (given, thread, back) in [
        (r#""thread":"a:b.c:d","#, "a:b.c:d", r#""a:b.c:d""#),
        (r#""thread":"\u0061\/\"\\é😀","#, "a/\"\\é😀", r#""\u0061\/\"\\é😀""#),
        (r#""thread":0.4711,"#, "0.4711", "\"0.4711\""),
        (r#""thread":12,"#, "12", "\"12\""),
        (r#""thread":null,"#, "", "\"\""),
        ("", "", "\"\""),
    ] {
        client.send(&format!("{{{given}{tail}"));
        let arrived = bus.next();
        assert_eq!(arrived.client_thread(), thread);
        bus.complete(&arrived, "1");
        let got = client.recv();
        // A number may come back as it was spelled or as a string of the same spelling.
        let bare = back.trim_matches('"');
        let spelled = got.text.starts_with(&format!(r#"{{"thread":{back},"#))
            || (given.contains(&format!(":{bare},")) && got.text.starts_with(&format!(r#"{{"thread":{bare},"#)));
        assert!(spelled, "{given} came back as {:.80}", got.text);
    }
}

#[test]
fn a_number_for_a_service_is_stringified_and_other_keys_are_ignored() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.send(&format!(
        r#"{{"api_ver":1,"format":null,"what":[{{}}],"service":5,"thread":"t","osrf_msg":[{}]}}"#,
        request(0, "m", "[]")
    ));
    let arrived = bus.next();
    assert_eq!(arrived.to(), "opensrf:service:_:_:5");
    assert!(!arrived.text.contains("api_ver") && !arrived.text.contains("what"), "{}", arrived.text);
    client.send(&envelope("s", "t", &[request(1, "m", "[]")]).replacen('{', r#"{"format":"raw","#, 1));
    assert_eq!(bus.next().trace(0), "1");
}

#[test]
fn a_bare_message_many_lines_and_a_binary_frame_are_all_understood() {
    let site = Site::start(&[]);
    let mut client = site.client();
    let bare = format!(
        "{{\n \"service\": \"opensrf.math\",\r\n\t\"thread\": \"t7\",\n \"osrf_msg\": {}\n}}\n",
        request(0, "add", "[2, 2]")
    );
    client.send(&bare);
    assert_eq!(contents(&client.until_status(205)).iter().map(number).collect::<Vec<_>>(), [4.0]);
    client.send_binary(bare.as_bytes());
    assert_eq!(contents(&client.until_status(205)).iter().map(number).collect::<Vec<_>>(), [4.0]);
}

#[test]
fn a_body_that_is_one_object_is_wrapped_and_codes_and_traces_may_be_numbers_or_strings() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.send(&envelope("s", "t", &[request(7, "m", "[]")]).replace(r#""threadTrace":7"#, r#""threadTrace":"7""#));
    let arrived = bus.next();
    let numbers = status("7", 205).replace("\"7\"", "7").replace("\"205\"", "205");
    bus.answer(&arrived, &numbers);
    let got = client.recv();
    assert!(got.text.contains(&format!(r#""osrf_msg":[{numbers}]"#)), "{}", got.text);
    gateway.until_count("idle", 1);
}

#[test]
fn replies_keep_the_order_of_the_bus() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &[]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    for i in 0..600 {
        bus.answer(&arrived, &format!("[{}]", result("0", &i.to_string())));
    }
    bus.status(&arrived, 205);
    let got = contents(&client.until_status(205));
    assert_eq!(got, (0..600).map(|i| json!(i)).collect::<Vec<_>>());
}

#[test]
fn a_service_reply_for_nobody_and_garbage_on_the_bus_harm_nobody() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let address = arrived.from().to_owned();
    let foreign = [
        "",
        "{",
        "[]",
        "5",
        "{}",
        "{\"thread\":5}",
        "{\"thread\":\"0.0.0:t\",\"from\":\"x\",\"body\":[]}",
        "{\"thread\":\"99999999.9.9:t\",\"body\":{}}",
    ];
    for text in foreign {
        bus.push(&address, text.as_bytes());
    }
    bus.push(&address, "[".repeat(200_000).as_bytes());
    bus.push(&address, &[0xff, 0xfe, 0]);
    bus.complete(&arrived, "\"still here\"");
    assert_eq!(contents(&client.until_status(205)), [json!("still here")]);
}
