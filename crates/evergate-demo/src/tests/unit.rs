use crate::keyspace::Keyspace;
use crate::messages::{Dialect, Envelope, Kind, Repeated, Reply, wrap, write_message};
use crate::resp::{ProtocolError, Request, request};

#[test]
fn a_request_is_read_the_same_however_it_is_cut() {
    let whole = b"*3\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$4\r\na\r\nb\r\nPING\r\n";
    let first = whole.len() - b"PING\r\n".len();
    for end in 0..first {
        let Ok(Request::Incomplete { bytes_min }) = request(&whole[..end], true) else { panic!("cut at {end}") };
        assert!(bytes_min > end && bytes_min <= first, "cut at {end}: {bytes_min}");
    }
    let arguments = vec![b"RPUSH".to_vec(), b"k".to_vec(), b"a\r\nb".to_vec()];
    assert_eq!(request(whole, true), Ok(Request::Complete { arguments, bytes: first }));
    let inline = Request::Complete { arguments: vec![b"PING".to_vec()], bytes: 6 };
    assert_eq!(request(&whole[first..], true), Ok(inline));
}

#[test]
fn a_line_without_end_is_refused_at_its_limit() {
    for head in [&b"*"[..], b"P", b"*1\r\n$"] {
        let endless = [head, &vec![b'1'; 70_000]].concat();
        assert!(matches!(request(&endless, true), Err(ProtocolError(_))));
    }
}

#[test]
fn an_element_given_and_never_fetched_goes_back_to_the_head() {
    let mut keyspace = Keyspace::default();
    let (key, text) = (b"k".to_vec(), |text: &str| text.as_bytes().to_vec());
    let (first, _) = keyspace.block(vec![b"other".to_vec(), key.clone()]);
    assert_eq!(keyspace.push(&key, [text("1"), text("2")]), 2);
    assert_eq!(keyspace.length(&key), 1);
    let (second, _) = keyspace.block(vec![b"other".to_vec()]);
    keyspace.unblock(first);
    assert_eq!(keyspace.pop(&key, 9), Some(vec![text("1"), text("2")]));
    let (third, _) = keyspace.block(vec![key.clone()]);
    let (fourth, _) = keyspace.block(vec![key.clone()]);
    keyspace.push(&key, [text("3")]);
    keyspace.unblock(third);
    assert_eq!(keyspace.take(fourth), Some((key.clone(), text("3"))), "the next reader gets it");
    keyspace.push(b"other", [text("4")]);
    assert_eq!(keyspace.take(second), Some((text("other"), text("4"))));
    keyspace.unblock(second);
    keyspace.unblock(fourth);
    assert_eq!(keyspace.length(b"other") + keyspace.length(&key), 0);
}

#[test]
fn messages_of_every_spelling_are_read() {
    let text = br#"{"osrf_xid":null,"body":{"__p":{"payload":{"__p":{"params":[1e400,"\u00e9"],"method":"m"},"__c":"osrfMethod"},
        "type":"REQUEST","threadTrace":"007"},"__c":"osrfMessage"},"thread":"a\"b","from":"f\u0041","to":"t"}"#;
    let envelope = Envelope::parse(text).unwrap();
    assert_eq!((envelope.from.as_ref(), envelope.thread_name().as_str()), ("fA", "a\"b"));
    let messages = envelope.messages();
    assert_eq!((messages.len(), messages[0].trace.as_str()), (1, "7"));
    let Kind::Request(call) = &messages[0].kind else { panic!("{messages:?}") };
    assert_eq!((call.method.as_ref(), call.text), ("m", r#"[1e400,"\u00e9"]"#));
}

#[test]
fn what_is_no_message_is_passed_over_and_never_fatal() {
    for body in
        ["null", "5", "[null,5,[],{},\"x\"]", r#"[{"__c":"osrfMessage","__p":null}]"#, r#"{"__c":"other","__p":{}}"#]
    {
        let text = format!(r#"{{"from":"f","thread":5,"body":{body}}}"#);
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!((envelope.messages().len(), envelope.thread_name()), (0, String::new()), "{body}");
    }
    let request = r#"{"__c":"osrfMessage","__p":{"type":"REQUEST","threadTrace":[],"payload":"null"}}"#;
    let text = format!(r#"{{"from":"f","thread":"t","body":[{}]}}"#, vec![request; 300].join(","));
    let messages = Envelope::parse(text.as_bytes()).unwrap().messages();
    assert_eq!((messages.len(), messages[0].trace.as_str()), (256, "0"));
    assert!(messages.iter().all(|message| matches!(message.kind, Kind::Other)));
    let deep = format!(r#"{{"from":"f","thread":"t","body":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert!(Envelope::parse(deep.as_bytes()).unwrap().messages().is_empty());
    for broken in ["", "[]", "{}", r#"{"from":"a","from":"b","thread":"t"}"#, "{\"from\":\"\u{1}\"}"] {
        assert!(Envelope::parse(broken.as_bytes()).is_err());
    }
}

#[test]
fn every_reply_in_every_spelling_is_json_with_the_same_meaning() {
    let replies = [
        (Reply::Content("[1e400]".into()), 200),
        (Reply::Partial("\"\\"), 206),
        (Reply::PartialComplete, 204),
        (Reply::Complete, 205),
        (Reply::Failed(417, "\"\n".into()), 417),
    ];
    for (reply, code) in &replies {
        for (dialect, turn) in [(Dialect::C, 0), (Dialect::Perl, 0), (Dialect::Perl, 1), (Dialect::Perl, 2)] {
            let mut message = String::new();
            let repeated = Repeated { trace: "12", tz: None, ingress: None };
            write_message(&mut message, dialect, turn, &repeated, reply);
            let text = wrap(dialect, turn, ("to", "from"), ("\"t\"", Some("5")), &message);
            let text = text.replace("1e400", "1");
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let inner = &value["body"][0]["__p"];
            let number = |value: &serde_json::Value| value.to_string().trim_matches('"').to_owned();
            assert_eq!(number(&inner["threadTrace"]), "12");
            assert_eq!(number(&inner["payload"]["__p"]["statusCode"]), code.to_string());
            assert_eq!((&value["thread"], &value["osrf_xid"]), (&"t".into(), &5.into()));
        }
    }
}
