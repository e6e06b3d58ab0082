//! The PROXY protocol (`proxy-protocol.txt` of `HAProxy`, versions 1 and 2): a proxy that passes bytes on says first for whom.
//!
//! The crate `ppp` reads a header that is whole. Whether it is whole is found out here, since of a text that ends in the middle of
//! a field the crate says that it is wrong; and how long it may be, and whether its checksum is right where it has one.

use std::fmt;
use std::net::IpAddr;

use crc::{CRC_32_ISCSI, Crc};
use memchr::memchr;
use ppp::{v1, v2};

use super::net::Address;

/// What a connection begins with, by what its listener was told to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The client's request.
    Request,
    /// A PROXY header of either version, then the request.
    ProxyHeader,
}

/// The longest header of version 1, its end of line included: what the protocol says is enough for every address.
const TEXT_BYTES_MAX: usize = 107;
/// What every header of version 1 begins with.
const TEXT_PREFIX: &[u8] = b"PROXY ";
/// Bytes of a header of version 2 before what it announces the length of.
const BINARY_BYTES: usize = 16;
/// Bytes of the kind and the length of what may follow the addresses (a TLV).
const TLV_BYTES: usize = 3;
/// The checksum, of which the protocol says CRC32C.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has not ended: call again with more bytes, from the first one on.
    Incomplete,
    /// It is whole, so many bytes long; for whom the proxy speaks, `None` where it does so for itself (LOCAL, as for its own health
    /// checks) or does not know (UNKNOWN), or names what is no IP address of a stream.
    Whole(usize, Option<Address>),
    /// There is none, or none that can be believed.
    Refused(Wrong),
}

/// Why a connection is closed whose listener takes PROXY headers. Shown, it says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The peer is in no network of `trusted_proxies`.
    Untrusted,
    /// What has come is no PROXY header.
    Missing,
    /// It begins as one, and is none.
    Malformed,
    /// Its checksum is not that of its bytes.
    Checksum,
    /// It is longer than it may be.
    TooLong,
    /// It was not here in time.
    TooSlow,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => {
                "it connects to a listener with `proxy` and is not in trusted_proxies, so its PROXY header is not believed; add \
                 it there if it is a proxy of yours, else keep it from this listener (firewall)"
            }
            Self::Missing => {
                "the proxy sends no PROXY header; have it send one (HAProxy: send-proxy-v2; nginx, stream: proxy_protocol on), or \
                 take `proxy` from this listener"
            }
            Self::Malformed => "the proxy sends a PROXY header that is malformed; correct the proxy",
            Self::Checksum => {
                "the proxy sends a PROXY header whose CRC32C is wrong: it was altered on the way, or the proxy does not compute it \
                 right; look at what is between them, or have the proxy send none (HAProxy: proxy-v2-options)"
            }
            Self::TooLong => {
                "the proxy sends a PROXY header longer than header_bytes_max; have it send less in there, or raise that"
            }
            Self::TooSlow => {
                "the proxy's PROXY header was not whole within handshake_timeout_seconds; look for the proxy's load, or for packets \
                 that are lost on the way"
            }
        })
    }
}

/// Reads what has come of a connection, from its first byte on. A header is at most `bytes_max` long.
pub fn read(bytes: &[u8], bytes_max: usize) -> Progress {
    if begins(bytes, v2::PROTOCOL_PREFIX) {
        read_binary(bytes, bytes_max)
    } else if begins(bytes, TEXT_PREFIX) {
        read_text(bytes)
    } else {
        Progress::Refused(Wrong::Missing)
    }
}

/// Whether `bytes` begin with `prefix`, as far as they are here.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    let len = bytes.len().min(prefix.len());
    bytes[..len] == prefix[..len]
}

fn read_text(bytes: &[u8]) -> Progress {
    let window = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = memchr(b'\n', window) else {
        let is_over = bytes.len() >= TEXT_BYTES_MAX;
        return if is_over { Progress::Refused(Wrong::TooLong) } else { Progress::Incomplete };
    };
    match v1::Header::try_from(&window[..=end]) {
        // A carriage return elsewhere would end it sooner for the crate.
        Ok(header) if header.header.len() == end + 1 => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(IpAddr::V4(addresses.source_address)),
                v1::Addresses::Tcp6(addresses) => Some(IpAddr::V6(addresses.source_address)),
                v1::Addresses::Unknown => None,
            };
            Progress::Whole(end + 1, source.map(named))
        }
        _ => Progress::Refused(Wrong::Malformed),
    }
}

fn read_binary(bytes: &[u8], bytes_max: usize) -> Progress {
    if let Some([high, low]) = bytes.get(BINARY_BYTES - 2..BINARY_BYTES)
        && BINARY_BYTES + usize::from(u16::from_be_bytes([*high, *low])) > bytes_max
    {
        return Progress::Refused(Wrong::TooLong);
    }
    match v2::Header::try_from(bytes) {
        Ok(header) => {
            if let Err(wrong) = check(&header) {
                return Progress::Refused(wrong);
            }
            let is_named = header.command == v2::Command::Proxy && header.protocol == v2::Protocol::Stream;
            let source = match header.addresses {
                v2::Addresses::IPv4(addresses) => Some(IpAddr::V4(addresses.source_address)),
                v2::Addresses::IPv6(addresses) => Some(IpAddr::V6(addresses.source_address)),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Progress::Whole(header.len(), source.filter(|_| is_named).map(named))
        }
        Err(v2::ParseError::Incomplete(_) | v2::ParseError::Partial(..)) => Progress::Incomplete,
        Err(_) => Progress::Refused(Wrong::Malformed),
    }
}

/// Whether what follows the addresses adds up, and the checksum is right if there is one. Without the first a byte that was altered
/// could hide the checksum. What a proxy says for itself (LOCAL) is skipped, as the protocol has it.
fn check(header: &v2::Header<'_>) -> Result<(), Wrong> {
    if header.command == v2::Command::Local {
        return Ok(());
    }
    let bytes = header.as_bytes();
    let mut at = bytes.len() - header.tlv_bytes().len();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|_| Wrong::Malformed)?;
        at += TLV_BYTES;
        if tlv.kind == u8::from(v2::Type::CRC32C) {
            let said: [u8; 4] = tlv.value.as_ref().try_into().map_err(|_| Wrong::Malformed)?;
            // It is computed with zeros in its own place.
            let mut checksum = CHECKSUM.digest();
            checksum.update(&bytes[..at]);
            checksum.update(&[0; 4]);
            checksum.update(&bytes[at + 4..]);
            return if checksum.finalize() == u32::from_be_bytes(said) { Ok(()) } else { Err(Wrong::Checksum) };
        }
        at += tlv.value.len();
    }
    Ok(())
}

fn named(source: IpAddr) -> Address {
    Address::Ip(source.to_canonical())
}
