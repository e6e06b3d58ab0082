//! Payload bytes are sacred: what one side wrote is compared as text with what the other side got, both ways.

use crate::support::bus::status;
use crate::support::client::{Client, connect, envelope, request};
use crate::support::site::Site;
use crate::support::trio;

/// JSON texts that a rebuilt message would change.
const TEXTS: &[&str] = &[
    "100000000000000000000001",
    "-123456789012345678901234567890",
    "18446744073709551616",
    "0.1000000000000000055511151231257827",
    "1.0",
    "-0",
    "-0.0",
    "1E5",
    "1e-7",
    "12345678901234567.890",
    r#""\u00e9\/\"\\\b\f\n\r\t""#,
    r#""é € 😀 \ud83d\ude00 \u2028""#,
    "\"\u{2028}\u{7f}\u{feff}\"",
    r#"{"b":1,"a":2,"a":3,"":4}"#,
    r#"{"__c":"aou","__p":["1",null,true]}"#,
    r#"{"ingress":"a client's own data","thread":"x","service":"y","\u0069ngress":1}"#,
    r#"[[],{},[{}],"",null,false]"#,
    r#""{\"to\":\"x\"}""#,
];

#[test]
fn params_arrive_on_the_bus_as_the_text_that_the_client_wrote() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    for text in TEXTS {
        client.request("s", "t", 0, "m", &format!("[{text},{text}]"));
        let arrived = bus.next();
        assert!(arrived.text.contains(&format!(r#""params":[{text},{text}]"#)), "{text} arrived as {}", arrived.text);
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
}

#[test]
fn content_arrives_at_the_client_as_the_text_that_the_service_wrote() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let texts = TEXTS.iter().chain(&[r#""\u0000""#, r#" [ 1 , {"a" : 2} ] "#, r#"{"a":1,"a":2}"#]);
    for text in texts {
        let body = format!(
            r#"[{{"__c":"osrfMessage","__p":{{"threadTrace":"0","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"statusCode":"200","content":{text}}}}}}}}}]"#
        );
        bus.answer(&arrived, &body);
        let got = client.recv();
        assert!(got.text.contains(&format!(r#""osrf_msg":{body}"#)), "{text} arrived as {}", got.text);
    }
}

#[test]
fn big_numbers_escapes_and_non_ascii_survive_the_whole_way_and_back() {
    let site = Site::start(&[]);
    let mut client = site.client();
    for text in ["100000000000000000000001", r#""é€😀""#, r#"{"__c":"aou","__p":[1,null]}"#] {
        client.request("opensrf.demo", "t", 0, "opensrf.demo.echo", &format!("[{text}]"));
        let got: String = client.until_status(205).into_iter().map(|envelope| envelope.text).collect();
        assert!(got.contains(text), "{text} came back as {got}");
    }
}

#[test]
fn nesting_900_deep_goes_through_both_ways() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
    client.request("s", "t", 0, "m", &deep);
    client.send(&envelope("s", "t", &[request(1, "m", &format!("[{}1{}]", "{\"a\":".repeat(900), "}".repeat(900)))]));
    // The exact text, unparsed: serde_json stops at 128 levels.
    let texts = [bus.next_text(), bus.next_text()];
    assert!(texts[0].contains(&format!(r#""params":{deep}"#)) && texts[1].contains(&"{\"a\":".repeat(900)));
}

#[test]
fn of_a_message_only_the_ingress_is_set_whatever_the_client_wrote_there() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let good = request(0, "m", "[]");
    for member in [
        "",
        r#""ingress":"evil","#,
        r#""\u0069ngress":"evil","#,
        r#""ingress":"evil","ingress":"worse","#,
        r#""ingress":"evil","ingres\u0073":{"a":["evil"]},"#,
        r#""ingress":null,"#,
    ] {
        client.send(&envelope("s", "t", &[good.replacen(r#""type""#, &format!(r#"{member}"type""#), 1)]));
        let arrived = bus.next();
        assert_eq!(arrived.json["body"][0]["__p"]["ingress"], "ws-translator-v2", "{member}");
        assert!(!arrived.text.contains("evil") && !arrived.text.contains("worse"), "{member}: {}", arrived.text);
        assert_eq!(arrived.text.matches("ngres").count(), 1, "once and no more: {}", arrived.text);
        bus.complete(&arrived, "1");
        client.until_status(205);
    }
}

#[test]
fn every_message_of_an_envelope_gets_the_configured_ingress() {
    let (_redis, _gateway, mut client, mut bus) = trio(&["--ingress", "ws-translator-v1"]);
    client.send(&envelope("s", "t", &[request(0, "a", "[]"), request(1, "b", "[]")]));
    let arrived = bus.next();
    assert_eq!(arrived.text.matches(r#""ingress":"ws-translator-v1""#).count(), 2, "{}", arrived.text);
}

#[test]
fn one_clients_ingress_and_tz_never_show_in_anothers_reply() {
    let (_redis, gateway, mut first, mut bus) = trio(&[]);
    let mut second = Client::connect(&gateway);
    first.send(&envelope("s", "t", &[request(0, "m", "[]").replace("America/New_York", "Mars/Olympus")]));
    second.request("s", "t", 0, "m", "[]");
    let (one, two) = (bus.next(), bus.next());
    bus.complete(&one, "1");
    bus.complete(&two, "2");
    assert!(!second.until_status(205).iter().any(|got| got.text.contains("ngress") || got.text.contains("Mars")));
    first.until_status(205);
}

#[test]
fn all_other_members_of_a_message_keep_their_values() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let text = r#"{"service":"s","thread":"t","osrf_msg":[{"__p":{"\u0074ype":"REQUEST","x":{"y":[1e3,"\u00e9"]},"threadTrace":"07","tz":"Europe/Z\u00fcrich","api_level":1.0,"locale":"fr-CA","payload":{"__p":{"params":[],"method":"m","extra":1.50},"__c":"osrfMethod"}},"__c":"osrfMessage"}]}"#;
    client.send(text);
    let arrived = bus.next();
    for member in [
        r#""x":{"y":[1e3,"\u00e9"]}"#,
        r#""threadTrace":"07""#,
        r#""tz":"Europe/Z\u00fcrich""#,
        r#""api_level":1.0"#,
        r#""locale":"fr-CA""#,
        r#""extra":1.50"#,
        r#""\u0074ype":"REQUEST""#,
    ] {
        assert!(arrived.text.contains(member), "{member} is not in {}", arrived.text);
    }
    bus.answer(&arrived, &format!("[{}]", status("7", 205)));
    client.until_status(205);
    client.send(&envelope("s", "t", &[connect(8)]));
    assert!(bus.next().text.contains(r#""payload":"null""#), "the browser client's own payload");
}

#[test]
fn keys_are_compared_unescaped() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let escaped = envelope("s", "t", &[request(4, "m", r#"["x"]"#)])
        .replace(r#""__p""#, r#""\u005f\u005fp""#)
        .replace(r#""service""#, r#""s\u0065rvice""#)
        .replace(r#""osrf_msg""#, r#""osrf\u005Fmsg""#)
        .replace(r#""thread""#, r#""\u0074hread""#)
        .replace(r#""method""#, r#""metho\u0064""#);
    client.send(&escaped);
    let arrived = bus.next();
    assert_eq!((arrived.to(), arrived.client_thread(), arrived.trace(0).as_str()), ("opensrf:service:_:_:s", "t", "4"));
    assert_eq!(arrived.json["body"][0]["__p"]["ingress"], "ws-translator-v2");
}

#[test]
fn whitespace_inside_strings_is_kept_whatever_happens_outside() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    let text = envelope("s", "t", &[request(0, "m", r#"["  a  :  b ,  [ ]  "]"#)]).replace(',', " ,\n\t").replacen(
        "  a  :  b  ,\n\t  [ ]  ",
        "  a  :  b ,  [ ]  ",
        1,
    );
    client.send(&text);
    let arrived = bus.next();
    assert_eq!(arrived.json["body"][0]["__p"]["payload"]["__p"]["params"][0], "  a  :  b ,  [ ]  ");
}

#[test]
fn a_byte_that_is_no_utf8_in_a_reply_becomes_an_error_of_500() {
    let (_redis, _gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let text = format!(
        r#"{{"to":"{}","from":"{}","thread":"{}","osrf_xid":"x","body":[{{"__c":"osrfMessage","__p":{{"threadTrace":"0","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"statusCode":"200","content":"BAD"}}}}}}}}]}}"#,
        arrived.from(),
        bus.address,
        arrived.thread()
    );
    let at = text.find("BAD").expect("the place");
    let mut bytes = text.into_bytes();
    bytes[at] = 0xff;
    bus.push(arrived.from(), &bytes);
    let got = client.recv();
    assert!(got.has_status(500) && got.thread() == "t", "{}", got.text);
    client.must_be_connected();
}

#[test]
fn the_order_of_a_replys_keys_does_not_matter() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    let (thread, from, body) = (arrived.thread().to_owned(), bus.address.clone(), format!("[{}]", status("0", 205)));
    let text = format!(
        "{{ \"body\" : {body} , \"extra\":[{{\"thread\":\"x\"}}], \"osrf_xid\":\"x\", \"thr\\u0065ad\":\"{thread}\",\"from\":\"{from}\"}}"
    );
    bus.push(arrived.from(), text.as_bytes());
    assert!(client.recv().text.contains(&body));
    gateway.until_count("idle", 1);
}
