//! The PROXY protocol's headers.

use proptest::prelude::*;

use super::super::net::Address;
use super::super::proxy_header::{Progress, Wrong, read};

const MAX: usize = 1_024;

/// A header of version 2.
fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend(payload);
    header
}

fn address(text: &str) -> Address {
    Address::Ip(text.parse().expect("an address"))
}

/// Headers that are whole, and whom each names.
fn good() -> Vec<(Vec<u8>, Option<Address>)> {
    let v4 = [198, 51, 100, 1, 192, 0, 2, 1, 0x9c, 0x40, 0, 80];
    let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]; 2].concat();
    let v6 = [&v6[..], &[0x9c, 0x40, 0, 80]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 9], &[0; 20]].concat();
    let with_more = [&v4[..], b"\x01\x00\x02h2\x02\x00\x0bexample.org"].concat();
    let longest =
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), 107);
    vec![
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 40000 80\r\n".to_vec(), Some(address("198.51.100.1"))),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\n".to_vec(), Some(address("2001:db8::7"))),
        (b"PROXY TCP6 ::ffff:192.0.2.9 2001:db8::1 40000 80\r\n".to_vec(), Some(address("192.0.2.9"))),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (longest.as_bytes().to_vec(), None),
        (binary(0x21, 0x11, &v4), Some(address("198.51.100.1"))),
        (binary(0x21, 0x21, &v6), Some(address("2001:db8::7"))),
        (binary(0x21, 0x21, &mapped), Some(address("192.0.2.9"))),
        (binary(0x21, 0x11, &with_more), Some(address("198.51.100.1"))),
        // LOCAL: the proxy's own, whatever it says besides; of no known kind; of a Unix socket; of a datagram.
        (binary(0x20, 0x00, b""), None),
        (binary(0x20, 0x11, &v4), None),
        (binary(0x21, 0x00, b"anything"), None),
        (binary(0x21, 0x31, &[b'x'; 216]), None),
        (binary(0x21, 0x12, &v4), None),
    ]
}

#[test]
fn a_header_of_either_version_names_the_client_wherever_it_is_cut_and_whatever_follows() {
    for (header, named) in good() {
        for end in 0..header.len() {
            assert_eq!(read(&header[..end], MAX), Progress::Incomplete, "{end} of {}", header.escape_ascii());
        }
        for more in ["", "GET / HTTP/1.1\r\n\r\n", "\r\n"] {
            let bytes = [&header[..], more.as_bytes()].concat();
            assert_eq!(read(&bytes, MAX), Progress::Whole(header.len(), named), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_that_shows() {
    let v4 = [198, 51, 100, 1, 192, 0, 2, 1, 0x9c, 0x40, 0, 80];
    for (bytes, wrong) in [
        (b"G".to_vec(), Wrong::Missing),
        (b"PROXX".to_vec(), Wrong::Missing),
        (b"PROXYTCP4".to_vec(), Wrong::Missing),
        (b"\x16\x03\x01".to_vec(), Wrong::Missing),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Wrong::Missing),
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 40000\r\n".to_vec(), Wrong::Malformed),
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 40000 80\n".to_vec(), Wrong::Malformed),
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 40000 80\r \r\n".to_vec(), Wrong::Malformed),
        (b"PROXY TCP4 2001:db8::7 192.0.2.1 40000 80\r\n".to_vec(), Wrong::Malformed),
        (b"PROXY TCP4 198.51.100.1 192.0.2.1 70000 80\r\n".to_vec(), Wrong::Malformed),
        (b"PROXY tcp4 198.51.100.1 192.0.2.1 40000 80\r\n".to_vec(), Wrong::Malformed),
        ([b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat(), Wrong::TooLong),
        (binary(0x31, 0x11, &v4), Wrong::Malformed),
        (binary(0x22, 0x11, &v4), Wrong::Malformed),
        (binary(0x21, 0x11, &v4[..11]), Wrong::Malformed),
        (binary(0x21, 0x41, &v4), Wrong::Malformed),
    ] {
        assert_eq!(read(&bytes, MAX), Progress::Refused(wrong), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_header_is_refused_as_too_long_when_it_says_how_long_it_is_and_not_when_all_of_it_is_here() {
    let longest = binary(0x21, 0x00, &vec![0; MAX - 16]);
    assert_eq!(read(&longest, MAX), Progress::Whole(MAX, None));
    let beyond = binary(0x21, 0x00, &vec![0; MAX - 15]);
    assert_eq!(read(&beyond[..15], MAX), Progress::Incomplete);
    assert_eq!(read(&beyond[..16], MAX), Progress::Refused(Wrong::TooLong));
}

proptest! {
    #[test]
    fn whatever_comes_is_judged_alike_at_every_cut(at in 0..14_usize, spoilt in any::<Option<(u8, u8)>>(), more in any::<Vec<u8>>()) {
        let (mut bytes, _) = good().swap_remove(at);
        if let Some((place, byte)) = spoilt {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        bytes.extend(more);
        let whole = read(&bytes, MAX);
        for end in 0..bytes.len() {
            let cut = read(&bytes[..end], MAX);
            prop_assert!(cut == Progress::Incomplete || cut == whole, "{cut:?} of {end}, {whole:?}");
        }
    }
}
