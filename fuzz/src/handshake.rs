//! The request header: the answer is the same wherever TCP cuts it, and always well-formed HTTP.

use std::net::IpAddr;

use evergate_proto::websocket::handshake::{Address, Origins, Policy, Progress, read};
use evergate_proto::websocket::header::{Header, begin};

use crate::cuts;

fn policy(kind: u8) -> Policy {
    Policy {
        header_bytes_max: if kind & 1 == 0 { 32 << 10 } else { 200 },
        health_path: (kind & 2 != 0).then(|| "/health".to_owned()),
        path: (kind & 4 != 0).then(|| "/osrf-websocket-translator".to_owned()),
        origins: if kind & 8 == 0 { Origins::Any } else { Origins::parse(["a.example"]).expect("a host") },
        require_origin: kind & 16 != 0,
        same_origin: kind & 32 != 0,
        ..Policy::default()
    }
}

/// The first byte chooses a policy, two the cuts.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let Some((header, ends)) = cuts::of(rest) else { return };
    let (policy, peer) = (policy(kind), Address::Ip(IpAddr::from([127, 0, 0, 1])));
    let whole = read(header, &policy, peer);
    let mut cut = ends.iter().map(|&end| read(&header[..end], &policy, peer));
    let cut = cut.find(|answer| *answer != Progress::Incomplete).unwrap_or(Progress::Incomplete);
    assert_eq!(cut, whole, "cut at {ends:?}");
    let line_by_line = in_pieces(&cuts::pieces(header, &ends), &policy, peer);
    // Where no line has ended, it may say so later.
    if line_by_line != Progress::Incomplete || header.ends_with(b"\n") {
        assert_eq!(line_by_line, whole, "cut at {ends:?}");
    }
    match whole {
        Progress::Accepted(accepted) => {
            assert!(accepted.consumed <= header.len() && accepted.consumed <= policy.header_bytes_max);
            assert!(header[..accepted.consumed].ends_with(b"\n"));
            assert_eq!(status(&accepted.response), 101);
        }
        Progress::Refused(refused) => {
            assert_eq!(status(&refused.response), refused.status);
            let text = String::from_utf8(refused.response).expect("text");
            assert!(text.contains("\r\nConnection: close\r\n"));
        }
        Progress::Incomplete => assert!(header.len() < policy.header_bytes_max),
        Progress::Probe { .. } => assert!(policy.health_path.is_some()),
    }
}

/// The answer when each line is judged once.
fn in_pieces(pieces: &[&[u8]], policy: &Policy, peer: Address) -> Progress {
    let Some((first, rest)) = pieces.split_first() else { return Progress::Incomplete };
    let (mut answer, mut begun) = (begin(first, policy, peer), Header::new(first));
    for piece in rest {
        if answer != Progress::Incomplete {
            break;
        }
        answer = begun.take(piece, policy, peer);
    }
    answer
}

fn status(response: &[u8]) -> u16 {
    let line = response.strip_prefix(b"HTTP/1.1 ").expect("a status line");
    std::str::from_utf8(&line[..3]).expect("digits").parse().expect("digits")
}
