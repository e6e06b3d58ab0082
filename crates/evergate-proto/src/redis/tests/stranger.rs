//! What answers and is no Redis.

use super::super::stranger::{describe, may_be_redis};

#[test]
fn an_answer_that_begins_as_no_redis_does_is_a_strangers() {
    for redis in [&b""[..], b"-NOAUTH HELLO", b"*14\r\n", b"%7\r\n", b"+OK\r\n", b"-ERR unknown command"] {
        assert!(may_be_redis(redis), "{redis:?}");
    }
    for stranger in [&b"<?xml version='1.0'?>"[..], b"HTTP/1.1 400", b"220 mail", b"SSH-2.0-x", b"\x15\x03\x01"] {
        assert!(!may_be_redis(stranger), "{stranger:?}");
    }
}

#[test]
fn a_stranger_is_shown_in_one_printable_line_with_the_likely_cause() {
    let xmpp =
        describe(b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'", Some(5333));
    assert!(xmpp.contains("no Redis") && xmpp.contains("ejabberd") && xmpp.contains("6379"), "{xmpp}");
    assert!(describe(b"anything", Some(5222)).contains("ejabberd"));
    let http = describe(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n", Some(80));
    assert!(http.contains("\"HTTP/1.1 400 Bad Request\"") && http.contains("HTTP server"), "{http}");
    let smtp = describe(b"220 mail\x07 ESMTP\r\n", Some(25));
    assert!(smtp.contains("\"220 mail\u{b7} ESMTP\"") && !smtp.contains("ejabberd"), "{smtp}");
    assert!(describe(b"\x15\x03\x01\x00\x02\x02\x28", Some(6380)).contains("TLS"));
    assert!(describe(&[0xff; 1000], Some(1)).len() < 500);
}
