//! `X-Forwarded-For` and `X-Real-IP`, against a model that reads them the long way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evergate_proto::websocket::handshake::{Policy, Progress, read};

const TRUSTED: [&str; 4] = ["127.0.0.0/8", "::1", "10.0.0.0/8", "fd00::/8"];

/// The first byte chooses the peer; then a line of the input is a header line, `X-Real-IP` where it begins with `=`.
pub fn run(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    // What may not stand in a header is another target's business.
    if text.iter().any(|&byte| byte == 0x7f || byte < 0x20 && byte != b'\n' && byte != b'\t') {
        return;
    }
    let peer: IpAddr = ["127.0.0.1", "::1", "10.9.9.9", "::ffff:127.0.0.1", "192.0.2.1", "2001:db8::1"]
        [usize::from(kind % 6)]
    .parse()
    .expect("an address");
    let (mut forwarded, mut real) = (Vec::new(), Vec::new());
    let mut header =
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_vec();
    for line in text.split(|&byte| byte == b'\n').take(100) {
        let (name, value, list) = match line.strip_prefix(b"=") {
            Some(value) => ("x-real-ip", value, &mut real),
            None if line.is_empty() && text.is_empty() => continue,
            None => ("X-Forwarded-For", line, &mut forwarded),
        };
        list.push(value.to_vec());
        header.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    header.extend_from_slice(b"\r\n");
    let trusted_proxies = TRUSTED.iter().map(|net| net.parse().expect("a network")).collect();
    let policy = Policy { trusted_proxies, header_bytes_max: usize::MAX, ..Policy::default() };
    let Progress::Accepted(accepted) = read(&header, &policy, peer.into()) else { panic!("it is a good handshake") };
    assert_eq!(accepted.client, model(peer, &forwarded, &real).into(), "{:?}", String::from_utf8_lossy(&header));
}

fn model(peer: IpAddr, forwarded: &[Vec<u8>], real: &[Vec<u8>]) -> IpAddr {
    let peer = plain(peer);
    if !is_trusted(peer) {
        return peer;
    }
    if forwarded.is_empty() {
        return match real {
            [one] => address(one).unwrap_or(peer),
            _ => peer,
        };
    }
    let joined = forwarded.join(&b","[..]);
    let mut entries: Vec<Option<IpAddr>> = joined.split(|&byte| byte == b',').map(address).collect();
    while let Some(entry) = entries.pop() {
        match entry {
            None => return peer,
            Some(address) if !is_trusted(address) => return address,
            Some(_) => {}
        }
    }
    peer
}

/// IPv4 where it is IPv4 in an IPv6 coat.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 10 | 127),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || v6.octets()[0] == 0xfd,
    }
}

fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let read = if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        match behind.strip_prefix(':') {
            // Only with a port may a zone follow, as a number.
            Some(port) if is_port(port) => {
                let (inside, zone) = inside.split_once('%').unwrap_or((inside, "0"));
                if !is_number(zone, u64::from(u32::MAX)) {
                    return None;
                }
                IpAddr::V6(inside.parse().ok()?)
            }
            None if behind.is_empty() => IpAddr::V6(inside.parse().ok()?),
            _ => return None,
        }
    } else if text.matches(':').count() == 1 {
        let (address, port) = text.split_once(':')?;
        if !is_port(port) {
            return None;
        }
        IpAddr::V4(address.parse().ok()?)
    } else if text.contains(':') {
        IpAddr::V6(text.parse().ok()?)
    } else {
        IpAddr::V4(text.parse().ok()?)
    };
    Some(plain(read))
}

fn is_port(text: &str) -> bool {
    is_number(text, 65_535)
}

fn is_number(text: &str, most: u64) -> bool {
    let digits = text.trim_start_matches('0');
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && digits.len() <= 15
        && digits.parse::<u64>().unwrap_or(0) <= most
}
