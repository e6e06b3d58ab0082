//! Proxies that say first for whom they speak (the PROXY protocol).

use std::net::{IpAddr, Ipv4Addr};

use evergate_proto::event_loop::ListeningSocket;
use evergate_proto::websocket::proxy_header::Opening;

use crate::kernel::Kernel;
use crate::random::Random;

/// What every header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

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
        match random.below(12) {
            // Somebody who would be believed if he were a proxy.
            0 => Self {
                peer: Ipv4Addr::new(198, 51, 100, 7).into(),
                header: header(address, random),
                is_unwelcome: true,
            },
            1 => Self { peer: trusted, header: Vec::new(), is_unwelcome: true },
            2 => Self { peer: trusted, header: b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n".to_vec(), is_unwelcome: true },
            3 => Self { peer: trusted, header: b"PROXY UNKNOWN\r\n".to_vec(), is_unwelcome: false },
            4 => Self { peer: trusted, header: version_2(0x20, 0, &[], random), is_unwelcome: false },
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
    let (code, mut addresses) = match address {
        IpAddr::V4(v4) => (0x11, [v4.octets(), [192, 0, 2, 9]].concat()),
        IpAddr::V6(v6) => (0x21, [v6.octets(), [0x20; 16]].concat()),
    };
    addresses.extend([0x9c, 0x40, 0, 80]);
    version_2(0x21, code, &addresses, random)
}

/// With something behind the addresses, as proxies have it.
fn version_2(command: u8, family: u8, addresses: &[u8], random: &mut Random) -> Vec<u8> {
    let more = random.below(40);
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(((addresses.len() + more) as u16).to_be_bytes());
    header.extend(addresses);
    header.extend(vec![b'\n'; more]);
    header
}
