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

/// One with a checksum between two other things.
fn summed(addresses: &[u8]) -> Vec<u8> {
    let more = b"\x05\0\x02id\x03\0\x04\0\0\0\0\x04\0\x01\0";
    let mut header = binary(0x21, 0x11, &[addresses, more].concat());
    let at = 16 + addresses.len() + 8;
    let sum = crc32c(&header).to_be_bytes();
    header[at..at + 4].copy_from_slice(&sum);
    header
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Headers that are whole, and whom each names.
fn good() -> Vec<(Vec<u8>, Option<Address>)> {
    let v4 = [198, 51, 100, 1, 192, 0, 2, 1, 0x9c, 0x40, 0, 80];
    let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]; 2].concat();
    let v6 = [&v6[..], &[0x9c, 0x40, 0, 80]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 9], &[0; 20]].concat();
    let with_more = [&v4[..], b"\x01\x00\x02h2\x02\x00\x0bexample.org"].concat();
    let summed = summed(&v4);
    // By HAProxy 2.6: `send-proxy-v2 proxy-v2-options crc32c,unique-id`.
    let haproxys = binary(0x21, 0x11, b"\x7f\0\0\x01\x7f\0\0\x01\x9d\x0e\x45\x1b\x03\0\x04\x7b\x0a\xb0\x7d\x05\0\0");
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
        (summed, Some(address("198.51.100.1"))),
        (haproxys, Some(address("127.0.0.1"))),
        // LOCAL: the proxy's own, whatever it says besides; of no known kind; of a Unix socket; of a datagram.
        (binary(0x20, 0x00, b""), None),
        (binary(0x20, 0x11, &v4), None),
        (binary(0x20, 0x11, &[&v4[..], b"\x03\0\x04junk and more"].concat()), None),
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
        (binary(0x21, 0x11, &[&v4[..], b"\x04\0"].concat()), Wrong::Malformed),
        (binary(0x21, 0x11, &[&v4[..], b"\x04\0\x02\0"].concat()), Wrong::Malformed),
        (binary(0x21, 0x11, &[&v4[..], b"\x03\0\x03\0\0\0"].concat()), Wrong::Malformed),
        (binary(0x21, 0x11, &[&v4[..], b"\x03\0\x04\0\0\0\0"].concat()), Wrong::Checksum),
    ] {
        assert_eq!(read(&bytes, MAX), Progress::Refused(wrong), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_header_whose_checksum_is_wrong_is_refused_whichever_byte_was_altered() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "as RFC 3720 has it");
    let header = summed(&[198, 51, 100, 1, 192, 0, 2, 1, 0x9c, 0x40, 0, 80]);
    // The byte that says that it is one: altered, there is none.
    let kind = 33;
    assert_eq!(header[kind], 3);
    for (at, bit) in (16..header.len()).filter(|at| *at != kind).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut altered = header.clone();
        altered[at] ^= 1 << bit;
        let read = read(&altered, MAX);
        let is_length = (29..31).contains(&at) || (34..36).contains(&at);
        assert!(
            read == Progress::Refused(Wrong::Checksum) || (is_length && read == Progress::Refused(Wrong::Malformed)),
            "byte {at}, bit {bit}: {read:?}"
        );
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
    fn whatever_comes_is_judged_alike_at_every_cut(at in 0..17_usize, spoilt in any::<Option<(u8, u8)>>(), more in any::<Vec<u8>>()) {
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
