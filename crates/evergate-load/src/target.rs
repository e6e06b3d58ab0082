//! Where a server is: `ws://host:port/path`, or `wss://` behind TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::tls::{Secure, Trust};

/// A server's URL, resolved.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was given.
    pub url: String,
    /// `host:port`, for the `Host` header, as the URL has it.
    pub host: String,
    /// Path with its query.
    pub path: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Of `wss`.
    pub tls: Option<Secure>,
}

impl Target {
    /// Parses and resolves. The error names the remedy.
    pub fn new(url: &str, trust: &Trust) -> Result<Self, String> {
        Self::parse(url, trust).map_err(|error| format!("{url}: {error}"))
    }

    fn parse(url: &str, trust: &Trust) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        // As everywhere, a scheme may be spelled in capitals.
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            "http" | "https" => return Err("a WebSocket's URL begins with ws:// or wss://".to_owned()),
            _ => return Err("a URL begins with ws:// or wss://".to_owned()),
        };
        let (host, path) = rest.find(['/', '?']).map_or((rest, "/"), |end| rest.split_at(end));
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        if host.contains('@') {
            return Err("no user and password: a gateway asks for none".to_owned());
        }
        if path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
            return Err("the path holds a character that no URL of a WebSocket may hold".to_owned());
        }
        let (name, port) = name_and_port(host)?;
        let resolved = (name, port.unwrap_or(if is_secure { 443 } else { 80 })).to_socket_addrs();
        // As most servers listen: IPv4 first.
        let mut all: Vec<SocketAddr> = resolved.map_err(|error| format!("{name} does not resolve: {error}"))?.collect();
        all.sort_by_key(|address| !address.is_ipv4());
        let address = *all.first().ok_or_else(|| format!("{name} has no address"))?;
        let secure = || trust.secure(trust.server_name.as_deref().unwrap_or(name));
        let host = match (trust.server_name.as_ref().filter(|_| is_secure), port) {
            (None, _) => host.to_owned(),
            (Some(name), None) => name.clone(),
            (Some(name), Some(port)) => format!("{name}:{port}"),
        };
        Ok(Self { url: url.to_owned(), host, path, address, tls: is_secure.then(secure).transpose()? })
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

/// Name, an IPv6 address without its brackets, and port.
fn name_and_port(host: &str) -> Result<(&str, Option<u16>), String> {
    let end = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match host[end..].rfind(':') {
        Some(colon) => (&host[..end + colon], Some(&host[end + colon + 1..])),
        None => (host, None),
    };
    if name.is_empty() {
        return Err("no host: ws://HOST:PORT/PATH".to_owned());
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if bare.unwrap_or(name).contains(['[', ']']) || bare.is_none() && name.contains(':') {
        return Err("an IPv6 address stands in brackets: ws://[::1]:7682/".to_owned());
    }
    let number = |port: &str| match port.parse::<u16>() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{port:?} is no port: 1 to 65535")),
    };
    Ok((bare.unwrap_or(name), port.map(number).transpose()?))
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

    fn parsed(url: &str) -> Result<Target, String> {
        Target::new(url, &Trust::default())
    }

    #[test]
    fn a_url_gives_address_host_and_path() {
        let target = parsed("ws://127.0.0.1:7682/a/b?c=1").expect("a URL");
        assert_eq!(target.address, "127.0.0.1:7682".parse().expect("an address"));
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:7682", "/a/b?c=1"));
        for (url, port, path) in [
            ("ws://127.0.0.1", 80, "/"),
            ("WS://[::1]:9", 9, "/"),
            ("ws://[::1]", 80, "/"),
            ("ws://[::1]?a", 80, "/?a"),
        ] {
            let target = parsed(url).expect("a URL");
            assert_eq!((target.address.port(), target.path.as_str()), (port, path), "{url}");
            assert!(target.tls.is_none());
        }
    }

    #[test]
    fn behind_tls_the_port_is_443_and_the_server_may_have_another_name() {
        let trust = |name: Option<&str>| Trust { insecure: true, server_name: name.map(str::to_owned), ca: None };
        for (url, name, port, host) in [
            ("wss://127.0.0.1/x", None, 443, "127.0.0.1"),
            ("wss://[::1]/x", None, 443, "[::1]"),
            ("wss://127.0.0.1:8443/x", Some("eg.example"), 8443, "eg.example:8443"),
            ("wss://[::1]", Some("eg.example"), 443, "eg.example"),
        ] {
            let target = Target::new(url, &trust(name)).expect(url);
            assert_eq!((target.address.port(), target.host.as_str()), (port, host), "{url}");
            assert!(target.tls.is_some(), "{url}");
        }
        let error = Target::new("wss://127.0.0.1/", &trust(Some("a b"))).expect_err("that is no name");
        assert!(error.contains("\"a b\" is no name"), "{error}");
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        for (url, why) in [
            ("http://a/", "begins with ws:// or wss://"),
            ("127.0.0.1:7682", "begins with ws:// or wss://"),
            ("ws://127.0.0.1:1/ a", "path"),
            ("ws://127.0.0.1:1/#a", "path"),
            ("ws://", "no host"),
            ("ws://:80/", "no host"),
            ("ws://127.0.0.1:99999/", "\"99999\" is no port: 1 to 65535"),
            ("ws://127.0.0.1:0/", "no port"),
            ("ws://127.0.0.1:/", "no port"),
            ("ws://::1/", "brackets"),
            ("ws://[::1/", "brackets"),
            ("ws://a:b@127.0.0.1/", "password"),
        ] {
            let error = parsed(url).expect_err(url);
            assert!(error.starts_with(url) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn sources_take_turns() {
        let all: Vec<_> = (0..4).map(|n| source(n, 3).map(|address| address.to_string())).collect();
        assert_eq!(all, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|a| Some(a.to_owned())));
        assert_eq!(source(5, 1), None);
    }
}
