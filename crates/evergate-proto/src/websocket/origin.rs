//! Who may connect: the `Origin` header (RFC 6454 7, RFC 6455 10.2) against the operator's list or the site's own host.

use std::fmt;
use std::str::FromStr;

use super::net::is_digits;

/// The origins that may connect (option `origins`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Every origin, `null` included.
    #[default]
    Any,
    /// Every origin that names a host: a list with `*`.
    AnyHost,
    /// Only these. Empty: no origin but, with `same_origin`, the site's own.
    List(Vec<OriginEntry>),
}

impl Origins {
    /// The entries of the option `origins`, each as [`OriginEntry`] has it; a `*` among them stands for all but
    /// `null`.
    ///
    /// # Errors
    /// A sentence that names the bad entry and says how to write it.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut list = Vec::new();
        let mut all = false;
        for entry in entries {
            if entry.trim() == "*" {
                all = true;
            } else {
                list.push(entry.parse()?);
            }
        }
        Ok(if all { Origins::AnyHost } else { Origins::List(list) })
    }
}

/// One allowed origin: `host`, `host:port`, `https://host` or `https://host:port`. The host is compared
/// case-insensitively; port and scheme only where the entry names them. Shown as it is compared, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginEntry {
    /// `https` of `https://host`, in lower case.
    scheme: Option<String>,
    /// Name or address in lower case, IPv6 in brackets.
    host: String,
    /// `8443` of `host:8443`.
    port: Option<u16>,
}

impl FromStr for OriginEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("\"{text}\" is not an origin; write host or https://host, with or without :port, or * for all");
        let trimmed = text.trim();
        let (scheme, rest) = match trimmed.split_once("://") {
            Some((scheme, _)) if !is_scheme(scheme) => return Err(bad()),
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest.strip_suffix('/').unwrap_or(rest)),
            None => (None, trimmed),
        };
        let Authority { host, port } = Authority::parse(rest.as_bytes()).ok_or_else(bad)?;
        // Narrower than a header's: what no browser says would never match, and `null` is the origin without a host.
        let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let fits = (is_name || host.starts_with('[')) && !host.eq_ignore_ascii_case("null") && port != Some(0);
        fits.then(|| OriginEntry { scheme, host: host.to_ascii_lowercase(), port }).ok_or_else(bad)
    }
}

impl fmt::Display for OriginEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl OriginEntry {
    /// Whether `origin` is the one that this entry means.
    fn allows(&self, origin: &Origin<'_>) -> bool {
        self.scheme.as_ref().is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme))
            && origin.is_at(&Authority { host: &self.host, port: self.port })
    }
}

/// The value of an `Origin` header, other than `null`.
struct Origin<'a> {
    /// `https`.
    scheme: &'a str,
    /// `example.org:8443`.
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    /// `None` for `null` and for whatever else is not `scheme://host[:port]`.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let (scheme, authority) = std::str::from_utf8(value).ok()?.trim_ascii().split_once("://")?;
        let authority = Authority::parse(authority.as_bytes())?;
        is_scheme(scheme).then_some(Origin { scheme, authority })
    }

    /// Whether this origin is served at `place`; the port counts only where `place` names one.
    fn is_at(&self, place: &Authority<'_>) -> bool {
        let port = || self.authority.port.or_else(|| default_port(self.scheme));
        self.authority.host.eq_ignore_ascii_case(place.host) && (place.port.is_none() || place.port == port())
    }
}

/// `host[:port]` (RFC 3986 3.2 without user information).
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    /// Name or address, IPv6 in brackets; never empty.
    pub(super) host: &'a str,
    /// The port where one is named.
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `None` if `text` is empty, holds what no host can, or names an impossible port. Underscores pass: nginx sends
    /// the name of its upstream block as `Host`.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let host_end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_end);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(digits) if is_digits(digits.as_bytes()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let fits = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\,[]<>\"".contains(&byte)),
        };
        (fits && !host.is_empty()).then_some(Authority { host, port })
    }
}

/// Why a handshake is refused for its `Origin`: a line for the client, naming what is wrong and what to do.
///
/// `host` is where the client believes the site to be. With `same_origin` an origin at that host is allowed besides
/// those of the list; where the list is [`Origins::Any`], `same_origin` narrows it to that host. `Host` often comes
/// without the port that the browser sees (nginx's `$host` drops it), so that here too a port counts only where it is
/// named.
pub(super) fn objection<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
    origins: &Origins,
    same_origin: bool,
    require_origin: bool,
    host: Option<&Authority<'_>>,
) -> Option<&'static str> {
    let value = values.next();
    let repeated = values.next().is_some();
    if require_origin && value.is_none_or(<[u8]>::is_empty) {
        return Some("The Origin header is missing; connect from a browser, or unset require_origin.");
    }
    let list: &[OriginEntry] = match origins {
        Origins::Any if !same_origin => return None,
        Origins::Any | Origins::AnyHost => &[],
        Origins::List(list) => list,
    };
    let value = value?;
    let Some(origin) = Origin::parse(value).filter(|_| !repeated) else {
        return Some("The Origin header names no single host (\"null\" is refused while origins are restricted).");
    };
    if *origins == Origins::AnyHost && !same_origin {
        return None;
    }
    let own = same_origin && host.is_some_and(|host| origin.is_at(host));
    (!own && !list.iter().any(|entry| entry.allows(&origin)))
        .then_some("This Origin is not allowed; add it to the option origins if it should be.")
}

/// Whether `text` can be a URI scheme (RFC 3986 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The port that `scheme` implies.
fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(443)
    } else if is("http") || is("ws") {
        Some(80)
    } else {
        None
    }
}
