//! However TCP cuts a header, the answer is the same.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::handshake::{Address, Policy, Progress, read};
use super::super::header::{Header, begin};
use super::handshake::{PEER, policy, request};

/// The answer once `header` has come up to one of `ends` after the other, as many as it takes: when all of it is judged anew
/// each time, which is never later than when each line is judged once, and says the same.
fn answer(header: &[u8], policy: &Policy, ends: impl IntoIterator<Item = usize>) -> Progress {
    let peer = Address::Ip(PEER.parse().unwrap());
    let (mut begun, mut came): (Option<Header>, usize) = (None, 0);
    let (mut anew, mut answer) = (Progress::Incomplete, Progress::Incomplete);
    for end in ends {
        if anew == Progress::Incomplete {
            anew = read(&header[..end], policy, peer);
        }
        let piece = &header[came..end];
        answer = match &mut begun {
            Some(begun) => begun.take(piece, policy, peer),
            None => begin(piece, policy, peer),
        };
        if answer != Progress::Incomplete {
            break;
        }
        begun.get_or_insert_with(|| Header::new(piece));
        came = end;
    }
    let line_ended = header[..came].ends_with(b"\n");
    if answer == Progress::Incomplete && line_ended || answer != Progress::Incomplete {
        assert_eq!(answer, anew, "{:?}", String::from_utf8_lossy(header));
    }
    anew
}

/// Cut anywhere once, byte by byte, and line by line: as when it comes whole.
fn check_every_cut(header: &[u8], policy: &Policy) {
    let whole = read(header, policy, Address::Ip(PEER.parse().unwrap()));
    let shown = String::from_utf8_lossy(header);
    for cut in 0..header.len() {
        assert_eq!(answer(header, policy, [cut, header.len()]), whole, "cut at {cut}: {shown:?}");
    }
    assert_eq!(answer(header, policy, 0..=header.len()), whole, "byte by byte: {shown:?}");
    let lines = (0..=header.len()).filter(|&end| end == header.len() || end > 0 && header[end - 1] == b'\n');
    assert_eq!(answer(header, policy, lines), whole, "line by line: {shown:?}");
}

#[test]
fn a_header_gets_the_same_answer_wherever_it_is_cut() {
    let good = request(&[]);
    let with_line = |line: &str| good.replacen("\r\n", &format!(" {line}\r\n"), 1);
    let request_line = |line: &str| good.replacen("GET /osrf-websocket-translator HTTP/1.1", line, 1);
    let headers = [
        good.clone(),
        format!("\r\n\r\n{good}"),
        format!("{good}\u{1}\u{2}"),
        good.replace("\r\n", "\n"),
        good.replace("\r\n", "\r"),
        request(&["Connection"]),
        request(&["Host"]),
        request(&["Sec-WebSocket-Key: short"]),
        request(&["Bad Name: x"]),
        request(&["X: \u{1}"]),
        request(&[": x"]),
        with_line("HTTP/1.1"),
        with_line("x"),
        request_line("GET / HTTP/1.0"),
        request_line("GET / HTTP/2.0"),
        request_line("GET / HTTP/2"),
        request_line("PRI * HTTP/2.0"),
        request_line("GET / HTTP/1.2"),
        request_line("GET / HTTP/11"),
        request_line("GET / HTTPS/1.1"),
        request_line("GET / http/1.1"),
        request_line("GET / XTTP/1.1"),
        request_line("GET / RTSP/1.0 HTTP/1.1"),
        request_line("GET / x HTTP/1.1"),
        request_line("GET /a HTTP/1.1 HTTP/1.1"),
        request_line("GET  / HTTP/1.1"),
        request_line("GET /  HTTP/1.1"),
        request_line("GET /"),
        request_line("GET"),
        request_line(""),
        request_line("OPTIONS * HTTP/1.0"),
        request_line("G\u{1}T / HTTP/1.1"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2} HTTP/1.1\r\n".to_owned(),
        "\r\n\u{16}\u{3}\u{1}".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(257)),
        format!("GET / HTTP/1.1\r\n{}\u{1}\r\n", "X: y\r\n".repeat(256)),
        format!("GET /{} HTTP/1.1\r\n", "x".repeat(2_000)),
        format!("GET /{} HTTX", "x".repeat(1_000)),
    ];
    let small = Policy { header_bytes_max: 1_010, ..policy() };
    let probed = Policy { health_path: Some("/".into()), ..policy() };
    for header in &headers {
        for policy in [&policy(), &small, &probed] {
            check_every_cut(header.as_bytes(), policy);
        }
    }
}

/// What a request line is made of, and what breaks it.
fn request_line() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PRI", "", "G T", "\r\nGET"]);
    let target = prop::sample::select(vec!["/", "*", "", "/ HTTP/1.1", "http://a/b", "/\u{e9}", "/x HTTP/"]);
    let version = "HTTP/1\\.[01]|HTTP/[0-9.]{0,4}|H?T?T?P?[/ ]?[0-9]?|[A-Z/ .0-9]{0,12}";
    (method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_line_gets_the_same_answer_wherever_it_is_cut(line in request_line(), end in "\r\n|\n|\r|") {
        let header = request(&[]).replacen("GET /osrf-websocket-translator HTTP/1.1\r\n", &format!("{line}{end}"), 1);
        check_every_cut(header.as_bytes(), &policy());
    }

    #[test]
    fn any_damaged_header_gets_the_same_answer_wherever_it_is_cut(
        edits in vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 0..4),
        header_bytes_max in prop::sample::select(vec![100_usize, 8 << 10]),
    ) {
        let mut header = request(&["X-Forwarded-For: 192.0.2.1, 10.0.0.1"]).into_bytes();
        for (index, edit, byte) in edits {
            let at = index.index(header.len());
            match edit {
                0 => header[at] = byte,
                1 => header.insert(at, byte),
                _ => { header.remove(at); }
            }
        }
        check_every_cut(&header, &Policy { header_bytes_max, ..policy() });
    }
}
