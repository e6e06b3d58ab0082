//! A listener as one string: where, and how.
//!
//! `127.0.0.1:7682`, `[::]:7682` or `unix:/run/evergate/ws.sock`, and behind semicolons `mode=0660` and `group=www-data` (of the file of
//! a Unix socket) and `proxy` (a PROXY header comes first).

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use evergate_proto::websocket::proxy_header::Opening;
use serde::{Deserialize, Serialize};

use super::kind::text;

/// The most listeners: a core knows each by a bit.
pub const LISTENERS_MAX: usize = 64;

/// What `listen` accepts.
pub(super) const FORM: &str = "addresses such as 127.0.0.1:7682, [::]:7682 or \
                               unix:/run/evergate/ws.sock;mode=0660;group=www-data, separated by commas, with ;proxy behind each to \
                               which proxies send PROXY headers";

/// The mode of a Unix socket's file where none is said: whoever may write to it may connect.
const MODE: u32 = 0o660;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ListenAt {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAt {
    /// The address, where it has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path, where it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAt {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<ListenAt> for String {
    fn from(at: ListenAt) -> Self {
        at.to_string()
    }
}

impl TryFrom<String> for ListenAt {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            let address: Result<SocketAddr, _> = text.parse();
            return address.map(Self::Tcp).map_err(|_| {
                let hint = meant(text).map(|meant| format!(": {meant}")).unwrap_or_default();
                format!("{text:?} is neither an IP address with a port nor unix:/path{hint}")
            });
        };
        if path.contains([',', ';']) {
            return Err(format!("{path:?} has a comma or a semicolon in it"));
        }
        text::socket_path(path).map(Self::Unix)
    }
}

/// What to write in place of what is no listener, where it can be told.
fn meant(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some(format!("write unix:{text}"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok()?;
    if matches!(host, "" | "*") {
        return Some(format!("for all addresses write [\"0.0.0.0:{port}\", \"[::]:{port}\"]"));
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("write [{host}]:{port}"));
    }
    text::host(host).is_ok().then(|| format!("write an address in place of the name, such as 127.0.0.1:{port}"))
}

/// Places, or listeners, in one line.
pub fn in_a_line(places: impl IntoIterator<Item: fmt::Display>) -> String {
    let places: Vec<String> = places.into_iter().map(|place| place.to_string()).collect();
    places.join(", ")
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub at: ListenAt,
    /// Of the file of a Unix socket: its mode.
    pub mode: u32,
    /// Of the same: its group; none: that of the process.
    pub group: Option<String>,
    /// What its connections begin with.
    pub opening: Opening,
}

impl Listen {
    /// One of which no more is said than where it is.
    pub fn plain(at: impl Into<ListenAt>) -> Self {
        Self { at: at.into(), mode: MODE, group: None, opening: Opening::Request }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)?;
        if self.mode != MODE {
            write!(f, ";mode={:04o}", self.mode)?;
        }
        if let Some(group) = &self.group {
            write!(f, ";group={group}")?;
        }
        if self.opening == Opening::ProxyHeader {
            f.write_str(";proxy")?;
        }
        Ok(())
    }
}

impl FromStr for Listen {
    type Err = String;

    /// The error says what is wrong with it, without a remedy.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let mut listen = Self::plain(parts.next().unwrap_or_default().parse::<ListenAt>()?);
        let is_unix = listen.at.path().is_some();
        let mut said = Vec::new();
        for part in parts {
            let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
            if said.contains(&name) {
                return Err(format!("{text:?} says {name} twice"));
            }
            said.push(name);
            match (name, value) {
                ("proxy", None) => listen.opening = Opening::ProxyHeader,
                ("mode" | "group", _) if !is_unix => {
                    return Err(format!("{text:?} has a {name}, which only a Unix socket has"));
                }
                ("mode", Some(value)) => {
                    let octal = "three or four octal digits, such as 0660 or 0666";
                    listen.mode = mode(value).ok_or_else(|| format!("{text:?} has no mode of {octal}"))?;
                }
                ("group", Some(group)) if is_group(group) => listen.group = Some(group.to_owned()),
                ("group", _) => return Err(format!("{text:?} names no group")),
                _ => return Err(format!("{text:?} has {part:?}, which is neither mode=, group= nor proxy")),
            }
        }
        Ok(listen)
    }
}

/// Who may read does not matter at a socket; nothing is set but permissions.
fn mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..b'8').contains(&digit));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}

fn is_group(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | ','))
}

/// Reads a list, each element as it shows itself. The error names all that is wrong, and not what is accepted: [`FORM`].
pub(super) fn parse_list<'a>(elements: impl Iterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let (mut list, mut wrong) = (Vec::<Listen>::new(), Vec::new());
    for element in elements {
        match element.parse::<Listen>() {
            Err(why) => wrong.push(why),
            Ok(listen) => {
                let is_fixed = listen.at.tcp().is_none_or(|address| address.port() > 0);
                if is_fixed && list.iter().any(|other| other.at == listen.at) {
                    wrong.push(format!("{} is named twice", listen.at));
                } else {
                    list.push(listen);
                }
            }
        }
    }
    if list.len() > LISTENERS_MAX {
        wrong.push(format!("there are more than {LISTENERS_MAX}"));
    }
    if list.is_empty() && wrong.is_empty() {
        wrong.push("there is none".to_owned());
    }
    if wrong.is_empty() { Ok(list.iter().map(Listen::to_string).collect()) } else { Err(wrong.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        parse_list(text.split(',').map(str::trim))
    }

    #[test]
    fn a_listener_is_one_string_and_shows_itself_as_it_is_read() {
        for (text, shown) in [
            ("127.0.0.1:7682", "127.0.0.1:7682"),
            ("[::0]:7682; proxy", "[::]:7682;proxy"),
            ("unix:/run/ws", "unix:/run/ws"),
            ("unix:/run/ws;mode=660", "unix:/run/ws"),
            ("unix:/run/.e/..ws.", "unix:/run/.e/..ws."),
            ("unix:/run/ws;proxy;group=www-data;mode=0666", "unix:/run/ws;mode=0666;group=www-data;proxy"),
        ] {
            let listen: Listen = text.parse().expect("a listener");
            assert_eq!(listen.to_string(), shown);
            assert_eq!(shown.parse(), Ok(listen), "{text}");
        }
        let all = "127.0.0.1:0, 127.0.0.1:0, unix:/a;proxy";
        assert_eq!(read(all).expect("ports of any number").len(), 3);
    }

    #[test]
    fn all_that_is_wrong_in_a_list_is_named_at_once() {
        let long = format!("unix:/{}", "x".repeat(107));
        let wrong = [
            ("nowhere", "neither an IP address"),
            ("10.0.0.5", "neither an IP address"),
            ("unix:ws.sock", "no absolute path"),
            ("unix:/run/", "no absolute path"),
            ("unix:/a/../b.sock", "\"..\", \".\" or \"//\" in it"),
            ("unix:/a/./b.sock", "\"..\", \".\" or \"//\" in it"),
            ("unix://a/b.sock", "\"..\", \".\" or \"//\" in it"),
            ("unix:/a//b.sock", "\"..\", \".\" or \"//\" in it"),
            ("unix:/a/..", "\"..\", \".\" or \"//\" in it"),
            (&long, "longer than 107"),
            ("10.0.0.5:1;mode=0660", "only a Unix socket"),
            ("unix:/a;mode=0888", "octal"),
            ("unix:/b;mode=2660", "octal"),
            ("unix:/c;group=", "names no group"),
            ("unix:/d;proxies", "neither mode="),
            ("unix:/e;proxy=v2", "neither mode="),
            ("[::1]:5;proxy;proxy", "says proxy twice"),
            ("unix:/f;mode=0600;mode=0660", "says mode twice"),
            ("7700", "for all addresses write [\"0.0.0.0:7700\", \"[::]:7700\"]"),
            (":7701", "for all addresses write [\"0.0.0.0:7701\", \"[::]:7701\"]"),
            ("*:7702", "for all addresses write [\"0.0.0.0:7702\", \"[::]:7702\"]"),
            ("localhost:7703", "write an address in place of the name, such as 127.0.0.1:7703"),
            ("/run/ws.sock", "write unix:/run/ws.sock"),
            ("::1:7704", "write [::1]:7704"),
        ];
        let error = read(&wrong.map(|(text, _)| text).join(",")).expect_err("nothing of it is right");
        for (text, why) in wrong {
            assert!(
                error.contains(why)
                    && error.contains(text.split(';').next().expect("a part").trim_start_matches("unix:")),
                "{text}: {error}"
            );
        }
        let error = read("[::1]:1, unix:/a, unix:/a;mode=0600, [0::1]:1;proxy").expect_err("twice");
        assert!(error.ends_with("unix:/a is named twice; [::1]:1 is named twice"), "{error}");
        assert!(parse_list(std::iter::empty()).expect_err("no listener").ends_with("there is none"));
        let many: Vec<String> = (1..=65).map(|port| format!("127.0.0.1:{port}")).collect();
        assert!(read(&many.join(",")).expect_err("too many").ends_with("more than 64"));
    }
}
