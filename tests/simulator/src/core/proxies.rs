//! Proxies that say first for whom they speak (the PROXY protocol).

use std::net::{IpAddr, Ipv4Addr};

use evergate_proto::event_loop::ListeningSocket;
use evergate_proto::websocket::proxy_header::Opening;

use crate::kernel::Kernel;
use crate::random::Random;

/// What every header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses: that, the command, the family and the length.
const BEFORE_ADDRESSES: usize = 16;

/// A listener of the process: in some runs one to which proxies connect.
pub fn listen(kernel: &mut Kernel, random: &mut Random) -> ListeningSocket {
    let opening = if random.percent(25) { Opening::ProxyHeader } else { Opening::Request };
    kernel.listen(opening, random.percent(20))
}

/// How a connection to such a listener begins.
pub struct Beginning {
    /// Who connects.
    pub peer: IpAddr,
    /// What is said before the request.
    pub header: Vec<u8>,
    /// It must not be let in.
    pub is_unwelcome: bool,
}

impl Beginning {
    /// That of a client at `address`.
    pub fn new(address: IpAddr, random: &mut Random) -> Self {
        // No client is known by such an address.
        let trusted = IpAddr::V4(Ipv4Addr::new(127, 255, 255, random.between(1, 250) as u8));
        match random.below(13) {
            // Somebody who would be believed if he were a proxy.
            0 => Self {
                peer: Ipv4Addr::new(198, 51, 100, 7).into(),
                header: header(address, random),
                is_unwelcome: true,
            },
            1 => Self { peer: trusted, header: Vec::new(), is_unwelcome: true },
            2 => Self { peer: trusted, header: b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n".to_vec(), is_unwelcome: true },
            3 => Self { peer: trusted, header: altered(address, random), is_unwelcome: true },
            4 => Self { peer: trusted, header: b"PROXY UNKNOWN\r\n".to_vec(), is_unwelcome: false },
            5 => Self { peer: trusted, header: version_2(0x20, 0, &[], random), is_unwelcome: false },
            _ => Self { peer: trusted, header: header(address, random), is_unwelcome: false },
        }
    }
}

/// Names a client, in either version.
fn header(address: IpAddr, random: &mut Random) -> Vec<u8> {
    let family = if address.is_ipv4() { 4 } else { 6 };
    if random.percent(50) {
        let own = if address.is_ipv4() { "192.0.2.9" } else { "2001:db8::9" };
        return format!("PROXY TCP{family} {address} {own} 40000 80\r\n").into_bytes();
    }
    let (code, addresses) = binary(address);
    version_2(0x21, code, &addresses, random)
}

/// Names a client, with a checksum that is not that of its bytes.
fn altered(address: IpAddr, random: &mut Random) -> Vec<u8> {
    let (code, addresses) = binary(address);
    let mut header = summed(0x21, code, &addresses, random.below(40));
    // An address is one, whatever it says.
    header[BEFORE_ADDRESSES + random.below(addresses.len())] ^= 1 << random.below(8);
    header
}

/// The family, the addresses and the ports, as version 2 has them.
fn binary(address: IpAddr) -> (u8, Vec<u8>) {
    let (code, mut addresses) = match address {
        IpAddr::V4(v4) => (0x11, [v4.octets(), [192, 0, 2, 9]].concat()),
        IpAddr::V6(v6) => (0x21, [v6.octets(), [0x20; 16]].concat()),
    };
    addresses.extend([0x9c, 0x40, 0, 80]);
    (code, addresses)
}

/// With something behind the addresses, as proxies have it.
fn version_2(command: u8, family: u8, addresses: &[u8], random: &mut Random) -> Vec<u8> {
    let more = random.below(40);
    if random.percent(30) {
        summed(command, family, addresses, more)
    } else {
        whole(command, family, addresses, &tlv(4, &vec![b'\n'; more]))
    }
}

/// With a checksum behind that.
fn summed(command: u8, family: u8, addresses: &[u8], more: usize) -> Vec<u8> {
    let behind = [tlv(4, &vec![b'\n'; more]), tlv(3, &[0; 4])].concat();
    let mut header = whole(command, family, addresses, &behind);
    let sum = crc32c(&header);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

fn whole(command: u8, family: u8, addresses: &[u8], behind: &[u8]) -> Vec<u8> {
    let len = ((addresses.len() + behind.len()) as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &len, addresses, behind].concat()
}

/// One of the things behind the addresses.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// Bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
