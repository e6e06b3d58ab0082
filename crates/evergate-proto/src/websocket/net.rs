//! Networks that are trusted to speak for a client, the client's address as they tell it, and whom an address stands for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Whom a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address; one that is mapped stands for the IPv4 address in it.
    Ip(IpAddr),
    /// A process of this host, at a Unix socket: that has no address. Shown as `unix:`, as nginx does.
    Unix,
}

impl Address {
    /// The same, an IPv4-mapped address as IPv4.
    #[must_use]
    pub fn to_canonical(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(address.to_canonical()),
            Self::Unix => Self::Unix,
        }
    }

    /// Whom it stands for: see [`site`].
    #[must_use]
    pub fn site(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(site(address)),
            Self::Unix => Self::Unix,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

/// A network in CIDR notation, `127.0.0.0/8`, or a single address, `::1`. IPv4-mapped IPv6 (`::ffff:a.b.c.d`) counts as
/// IPv4 on both sides: a dual-stack listener reports its IPv4 peers that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// An address of the network; the bits past `prefix_bits` are not looked at.
    address: IpAddr,
    /// How many leading bits belong to the network: 0–32 or 0–128.
    prefix_bits: u32,
}

impl Net {
    /// Whether `address` lies in this network. An IPv4 network holds no IPv6 address and the reverse.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => (net.to_bits() ^ a.to_bits()).leading_zeros() >= self.prefix_bits,
            (IpAddr::V6(net), IpAddr::V6(a)) => (net.to_bits() ^ a.to_bits()).leading_zeros() >= self.prefix_bits,
            _ => false,
        }
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a network; write an address or CIDR, such as 10.0.0.0/8 or ::1");
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let written: IpAddr = address.parse().map_err(|_| bad())?;
        let bits = |a: IpAddr| if a.is_ipv4() { 32 } else { 128 };
        let mut prefix_bits: u32 = match prefix {
            None => bits(written),
            Some(digits) if is_digits(digits.as_bytes()) => digits.parse().map_err(|_| bad())?,
            Some(_) => return Err(bad()),
        };
        if prefix_bits > bits(written) {
            return Err(bad());
        }
        let mut address = written.to_canonical();
        if address.is_ipv4() && written.is_ipv6() {
            // ::ffff:0:0/96 is all of IPv4. A shorter prefix also covers addresses that are no mapped ones: kept as
            // IPv6.
            match prefix_bits.checked_sub(96) {
                Some(shorter) => prefix_bits = shorter,
                None => address = written,
            }
        }
        Ok(Net { address, prefix_bits })
    }
}

/// The bits of an IPv6 address that name its network: one host may have all of the others.
const NETWORK_BITS: u128 = !0 << 64;

/// Whom an address stands for, where something is counted against it: an IPv4 address for itself, also one that is mapped,
/// an IPv6 address for its /64.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Whether `address` lies in one of `nets`, or is a process of this host: who may connect to a Unix socket is decided by the mode
/// of its file.
pub(super) fn is_trusted(nets: &[Net], address: Address) -> bool {
    match address {
        Address::Ip(address) => nets.iter().any(|net| net.contains(address)),
        Address::Unix => true,
    }
}

/// The client's address: `peer`, unless that is trusted to name another.
///
/// Then it is the rightmost entry of `forwarded_for` (the lines of `X-Forwarded-For` in order) that is not itself
/// trusted. What stands left of it was written by that untrusted client and is not even parsed: junk there must not
/// hide the address. `real_ip` (`X-Real-IP`) counts only where `X-Forwarded-For` is absent. Anything malformed, and a
/// list of trusted addresses only: the peer.
pub(super) fn client_address<'a>(
    peer: Address,
    trusted: &[Net],
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    mut real_ip: impl Iterator<Item = &'a [u8]>,
) -> Address {
    let peer = peer.to_canonical();
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let mut entries = forwarded_for.rev().flat_map(|line| line.rsplit(|&byte| byte == b',')).peekable();
    if entries.peek().is_some() {
        for entry in entries {
            match address(entry) {
                Some(address) if is_trusted(trusted, address) => {}
                Some(address) => return address,
                None => return peer,
            }
        }
        return peer;
    }
    match (real_ip.next(), real_ip.next()) {
        (Some(value), None) => address(value).unwrap_or(peer),
        _ => peer,
    }
}

/// One address as proxies write it: bare, with brackets, or with a port (some balancers append the client's).
fn address(entry: &[u8]) -> Option<Address> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(bracketed).or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(Address::Ip(address.to_canonical()))
}

/// Whether `text` is a number and nothing else: Rust's own parsers also take a leading `+`.
pub(super) fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
