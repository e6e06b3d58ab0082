//! What a client still sends when it has been told to go: all of it is taken, so that no reset eats the reason.

use crate::support::gateway::Gateway;
use crate::support::raw::{BINARY, CLOSE, HANDSHAKE, PING, Raw, TEXT, frame};

/// What an upload is: more than the largest message, and than the kernel's buffers of both ends together.
const UPLOAD_BYTES: usize = 12_000_000;

/// A gateway whose patience no busy machine exhausts.
fn gateway() -> Gateway {
    Gateway::demo(&["--close-timeout-seconds", "20", "--garbage-max", "1"])
}

/// Sends all of `bytes` before it reads anything; every write must be taken.
fn send_all(raw: &mut Raw, bytes: &[u8], what: &str) {
    for piece in bytes.chunks(100_000) {
        assert!(raw.try_send(piece), "{what}: what it sends is not taken any more");
    }
}

#[test]
fn a_client_that_keeps_sending_after_our_close_hears_why_and_gets_no_reset() {
    let gateway = gateway();
    let half = UPLOAD_BYTES / 2;
    let messages =
        [frame(true, TEXT, &vec![b'x'; half]), frame(true, PING, b"?"), frame(true, BINARY, &vec![b'y'; half])]
            .concat();
    let large = frame(true, TEXT, &vec![b'x'; UPLOAD_BYTES]);
    let after = |cause: Vec<u8>| [cause, messages.clone()].concat();
    for (what, bytes, code) in [
        ("an unmasked frame", after(vec![0x81, 5, 0, 0, 0, 0, 0]), 1002),
        ("a reserved bit", after(vec![0xf1]), 1002),
        ("no UTF-8", after(frame(true, TEXT, b"\xff")), 1007),
        ("no UTF-8 in a fragment", after(frame(false, TEXT, b"\xff")), 1007),
        ("garbage", after(frame(true, TEXT, b"garbage")), 1008),
        ("garbage, then too large a message", [frame(true, TEXT, b"garbage"), large.clone()].concat(), 1008),
        ("too large a message", large, 1009),
    ] {
        let mut raw = Raw::upgrade(gateway.address());
        send_all(&mut raw, &bytes, what);
        assert_eq!(raw.close_code(), Some(code), "{what}");
        // It goes on, and only then ends.
        send_all(&mut raw, &messages, what);
        raw.send(&frame(true, CLOSE, &code.to_be_bytes()));
        raw.finish();
        assert_eq!(raw.read_to_end(), b"", "{what}: nothing follows our Close, and then the end");
    }
}

#[test]
fn a_client_whose_handshake_is_refused_may_send_all_of_its_body_and_reads_the_refusal() {
    let gateway = gateway();
    let body = vec![b'x'; UPLOAD_BYTES];
    let with_body = |request: &str| {
        let length = format!("Content-Length: {UPLOAD_BYTES}\r\nHost: ");
        [request.replacen("Host: ", &length, 1).as_bytes(), &body].concat()
    };
    for (what, bytes, status) in [
        ("a POST", with_body(&HANDSHAKE.replace("GET ", "POST ")), "405"),
        ("a handshake with a body", with_body(HANDSHAKE), "400"),
        ("a plain GET with a body", with_body("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "400"),
        ("HTTP/2", with_body(&HANDSHAKE.replace("HTTP/1.1", "HTTP/2.0")), "505"),
        (
            "a header without an end",
            HANDSHAKE.replace("\r\n\r\n", "\r\nX: ").into_bytes().into_iter().chain(body.clone()).collect(),
            "431",
        ),
        ("TLS", [&[0x16, 3, 1, 2, 0][..], &body].concat(), "400"),
    ] {
        let mut raw = Raw::connect(gateway.address());
        send_all(&mut raw, &bytes, what);
        let answer = raw.read_header();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{what}: {answer}");
        send_all(&mut raw, &body, what);
        raw.finish();
        let rest = raw.read_to_end();
        assert!(rest.ends_with(b"\n") && rest.len() < 300, "{what}: one line, then the end");
    }
}
