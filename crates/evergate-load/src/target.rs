//! Where a server is: `ws://host:port/path`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// A server's URL, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was given.
    pub url: String,
    /// `host:port`, for the `Host` header.
    pub host: String,
    /// Path with its query.
    pub path: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl Target {
    /// Parses and resolves. The error names the remedy.
    pub fn new(url: &str) -> Result<Self, String> {
        if url.starts_with("wss://") {
            return Err(format!("{url}: no TLS here; name the gateway's own port with ws://, behind the proxy"));
        }
        let rest = url.strip_prefix("ws://").ok_or_else(|| format!("{url}: a URL begins with ws://"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let address = address(host).map_err(|error| format!("{url}: {error}"))?;
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(format!("{url}: the path holds a character that no URL may hold"));
        }
        let resolved =
            address.to_socket_addrs().map_err(|error| format!("{url}: {address} does not resolve: {error}"))?;
        // As most servers listen: IPv4 first.
        let mut all: Vec<SocketAddr> = resolved.collect();
        all.sort_by_key(|address| !address.is_ipv4());
        let address = *all.first().ok_or_else(|| format!("{url}: {address} has no address"))?;
        Ok(Self { url: url.to_owned(), host: host.to_owned(), path: path.to_owned(), address })
    }

    /// The request that opens a connection.
    pub fn handshake(&self, key: &str) -> Vec<u8> {
        let Self { host, path, .. } = self;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .into_bytes()
    }
}

/// Host and port, 80 unless there is one.
fn address(host: &str) -> Result<String, String> {
    let end = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match host[end..].rfind(':') {
        Some(colon) => (&host[..end + colon], &host[end + colon + 1..]),
        None => (host, "80"),
    };
    if name.is_empty() {
        return Err("no host: ws://HOST:PORT/PATH".to_owned());
    }
    if name.contains(':') && !name.starts_with('[') {
        return Err("an IPv6 address stands in brackets: ws://[::1]:7682/".to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(format!("{name}:{port}")),
        _ => Err(format!("{port:?} is no port: 1 to 65535")),
    }
}

/// Whether [`source`] has addresses from which this one can be reached.
pub fn has_sources(address: SocketAddr) -> bool {
    address.is_ipv4() && address.ip().is_loopback()
}

/// The local address of the `n`th connection: 127.0.0.1, 127.0.0.2 and so on, in turns.
pub fn source(n: usize, sources: u32) -> Option<IpAddr> {
    (sources > 1).then(|| {
        let turn = u32::try_from(n % sources as usize).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + turn))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_host_and_path() {
        let target = Target::new("ws://127.0.0.1:7682/a/b?c=1").expect("a URL");
        assert_eq!(target.address, "127.0.0.1:7682".parse().expect("an address"));
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:7682", "/a/b?c=1"));
        let bare = Target::new("ws://127.0.0.1").expect("a URL");
        assert_eq!((bare.address.port(), bare.path.as_str()), (80, "/"));
        for (url, port) in [("ws://[::1]:9", 9), ("ws://[::1]", 80)] {
            assert_eq!(Target::new(url).expect("a URL").address.port(), port);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        for (url, why) in [
            ("wss://a/", "no TLS"),
            ("http://a/", "begins with ws://"),
            ("ws://127.0.0.1:1/ a", "path"),
            ("ws://", "no host"),
            ("ws://:80/", "no host"),
            ("ws://127.0.0.1:99999/", "\"99999\" is no port: 1 to 65535"),
            ("ws://127.0.0.1:0/", "no port"),
            ("ws://127.0.0.1:/", "no port"),
            ("ws://::1/", "brackets"),
        ] {
            let error = Target::new(url).expect_err(url);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn sources_take_turns() {
        let all: Vec<_> = (0..4).map(|n| source(n, 3).map(|address| address.to_string())).collect();
        assert_eq!(all, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|a| Some(a.to_owned())));
        assert_eq!(source(5, 1), None);
    }
}
