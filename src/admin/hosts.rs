//! Whom a request is meant for.
//!
//! The page has no password: it trusts whoever reaches its address, and a browser on this host does. A site of somebody else's
//! whose name is made to resolve to 127.0.0.1 (DNS rebinding) would have its script read the page as its own; but the browser
//! says that site's name in `Host`. So the name must be one that is ours.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::http::uri::{Authority, Uri};
use hyper::{StatusCode, Version};

/// Characters of a name that are shown to whoever sent it.
const SHOWN_CHARS: usize = 100;

/// The names that are ours.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The option `admin_hosts`: in lower case, without port or brackets.
    listed: Vec<String>,
    /// The address that is listened on, where it is one.
    own: IpAddr,
    /// Requests for others.
    refused: AtomicU64,
}

/// Why a request is not answered.
pub(super) type Refusal = (StatusCode, String);

impl Hosts {
    pub(super) fn new(listed: Vec<String>, own: IpAddr) -> Self {
        Self { listed, own, refused: AtomicU64::new(0) }
    }

    /// Requests that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Judges a request that came to `local`, the address of our side of its connection.
    pub(super) fn judge(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
        local: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let judged = self.named(version, uri, headers, local);
        judged.inspect_err(|_| {
            self.refused.fetch_add(1, Relaxed);
        })
    }

    fn named(&self, version: Version, uri: &Uri, headers: &HeaderMap, local: Option<IpAddr>) -> Result<(), Refusal> {
        let mut fields = headers.get_all(HOST).iter();
        match (fields.next(), fields.next()) {
            (Some(host), None) => self.field(host, local)?,
            // HTTP/1.0 knows no Host, HAProxy's checks are in it, and no browser speaks it.
            (None, None) if version < Version::HTTP_11 => {}
            // RFC 9112, section 3.2.
            _ => return Err((StatusCode::BAD_REQUEST, "one Host header is needed".to_owned())),
        }
        // A target that names a host is what counts (RFC 9112, section 3.2.2).
        match uri.authority() {
            Some(authority) if !self.is_own(authority, local) => Err(foreign(authority.as_str())),
            _ => Ok(()),
        }
    }

    fn field(&self, host: &HeaderValue, local: Option<IpAddr>) -> Result<(), Refusal> {
        match Authority::try_from(host.as_bytes()) {
            Ok(authority) if self.is_own(&authority, local) => Ok(()),
            _ => Err(foreign(&String::from_utf8_lossy(host.as_bytes()))),
        }
    }

    fn is_own(&self, authority: &Authority, local: Option<IpAddr>) -> bool {
        // A user name before the host is no part of Host, and a trick elsewhere.
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if self.listed.iter().any(|listed| listed == host) {
            return true;
        }
        match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) => {
                address.is_loopback()
                    || local.is_some_and(|local| local.to_canonical() == address)
                    || self.own == address
            }
            // RFC 6761: no name server has a word in what is below it.
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }
}

fn foreign(name: &str) -> Refusal {
    let shown: String = name.escape_debug().take(SHOWN_CHARS).collect();
    let why = format!(
        "this request is for \"{shown}\", which is no name of this page: ask for localhost or the address that it listens on, or list \
         the name in the gateway's option admin_hosts"
    );
    (StatusCode::MISDIRECTED_REQUEST, why)
}
