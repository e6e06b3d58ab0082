//! Where the Redis of a domain is, as an operator writes it.

use std::fmt;
use std::path::PathBuf;

use super::kind::text::{is_host, socket_path, split_port};

/// Where a Redis is, and how its bytes go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisPlace {
    /// `host:port` or `redis://host:port`.
    Tcp {
        /// A name or an address; that of IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `rediss://host:port`: TLS over TCP.
    Tls {
        /// A name or an address, which its certificate must name; that of IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `unix:/path`: a socket on this host.
    Unix(PathBuf),
}

impl RedisPlace {
    /// What `text` names, if it names one.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).ok().map(Self::Unix);
        }
        let (is_sealed, rest) = match text.strip_prefix("rediss://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("redis://").unwrap_or(text)),
        };
        let (host, port) = split_port(rest);
        let port = port?.parse().ok().filter(|&port: &u16| port > 0)?;
        let host = is_host(host).then(|| host.trim_start_matches('[').trim_end_matches(']').to_owned())?;
        Some(if is_sealed { Self::Tls { host, port } } else { Self::Tcp { host, port } })
    }

    /// Host and port, where it is on the network.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } => Some((host, *port)),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for RedisPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Self::Tls { .. }) {
            formatter.write_str("rediss://")?;
        }
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } if host.contains(':') => {
                write!(formatter, "[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Tls { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_as_it_is_written() {
        for text in [
            "redis.example.org:6379",
            "[::1]:6380",
            "rediss://10.0.0.5:6380",
            "rediss://[fd00::1]:1",
            "unix:/run/redis.sock",
        ] {
            let place = RedisPlace::parse(text).unwrap_or_else(|| panic!("{text} names one"));
            assert_eq!(place.to_string(), text);
        }
        assert_eq!(RedisPlace::parse("redis://a:1").map(|place| place.to_string()), Some("a:1".to_owned()));
    }

    #[test]
    fn what_names_no_place_is_none() {
        for text in [
            "",
            "a",
            "a:0",
            "a:65536",
            "::1:6379",
            "rediss://a",
            "redis:/a:1",
            "unix:run",
            "unix:",
            "unix:/run/../redis.sock",
            "unix://run/redis.sock",
            "unix:/run/./redis.sock",
            "http://a:1",
            "a b:1",
        ] {
            assert_eq!(RedisPlace::parse(text), None, "{text}");
        }
        assert_eq!(RedisPlace::parse(&format!("unix:/{}", "x".repeat(107))), None, "it fits no address");
    }
}
