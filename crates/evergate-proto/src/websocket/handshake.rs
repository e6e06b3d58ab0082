//! The opening handshake (RFC 6455 4.2): one HTTP/1.1 request in, one response out.

use std::fmt::Write as _;
use std::mem::MaybeUninit;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use httparse::{Header, Request, Status};
use sha1::{Digest as _, Sha1};

pub use super::net::{Address, Net};
use super::net::{client_address, is_digits, is_trusted};
use super::origin::{Authority, objection};
pub use super::origin::{OriginEntry, Origins};

/// The most header lines of a request; more are answered 431. A browser behind two proxies sends about 25.
pub const HEADER_LINES_MAX: usize = 256;

/// What every server appends to the client's key (RFC 6455 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Padding is a must (a key has 24 characters); set bits past the 16th byte are not the key's and are ignored, as the
/// decoders of most languages do.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What the operator demands of a handshake.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The longest header in bytes, from the request line to the empty line (option `header_bytes_max`). A longer one is
    /// answered 431.
    pub header_bytes_max: usize,
    /// The path of which GET and HEAD ask whether the process is ready (option `health_path`), without the query.
    pub health_path: Option<String>,
    /// The only path that may be upgraded (option `path`), without the query; `None`: any.
    pub path: Option<String>,
    /// The origins that may connect (option `origins`).
    pub origins: Origins,
    /// Refuse a request without `Origin` (`--require-origin`).
    pub require_origin: bool,
    /// Allow the site's own host, and, where `origins` is [`Origins::Any`], only that (`--same-origin`).
    pub same_origin: bool,
    /// Peers whose `X-Forwarded-For`, `X-Real-IP` and `X-Forwarded-Host` are believed (option `trusted_proxies`).
    pub trusted_proxies: Vec<Net>,
}

impl Policy {
    /// Whether `address` is that of a proxy: it is believed about others, and is no client's own.
    pub fn trusts(&self, address: Address) -> bool {
        is_trusted(&self.trusted_proxies, address)
    }
}

impl Default for Policy {
    /// The defaults of the options table.
    fn default() -> Self {
        Self {
            header_bytes_max: 32 << 10,
            health_path: None,
            path: None,
            origins: Origins::default(),
            require_origin: false,
            same_origin: false,
            trusted_proxies: ["127.0.0.0/8", "::1"].iter().filter_map(|net| net.parse().ok()).collect(),
        }
    }
}

/// A handshake that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Length of the header in bytes; what follows it in the buffer are frames.
    pub consumed: usize,
    /// The 101 response, to be sent whole before any frame.
    pub response: Vec<u8>,
    /// The client's address, by the rules for `X-Forwarded-For` and `X-Real-IP`; an IPv4-mapped one is given as IPv4.
    pub client: Address,
}

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status, for the books.
    pub status: u16,
    /// The whole HTTP response; close after it.
    pub response: Vec<u8>,
}

/// How far a handshake has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header has not ended: call again with more bytes.
    Incomplete,
    /// Send the response; the connection speaks frames from here on.
    Accepted(Accepted),
    /// Send the response and close.
    Refused(Refused),
    /// A balancer asks whether the process is ready: send a [`response`] that says so, and close.
    Probe {
        /// HEAD: the answer has no body.
        head: bool,
    },
}

/// A status and the line that explains it.
type Objection = (u16, &'static str);

/// Judges the bytes received so far, from the connection's first one on.
///
/// Malformed requests are refused at the byte that makes them so, the rest once the header has ended. Of several
/// objections the first counts, in this order: method 405, target 400, repeated header or body 400, plain GET 426 or
/// 404, HTTP/1.0 400, path 404, `Host` and `Connection` 400, version 426, key 400, origin 403.
///
/// HTTP/1.0 is 400 with an `Upgrade`; without, it is a plain GET as RFC 9110 7.8 has it: some balancers probe that way.
pub fn read(header: &[u8], policy: &Policy, peer: Address) -> Progress {
    let window = &header[..header.len().min(policy.header_bytes_max)];
    let mut lines = [const { MaybeUninit::uninit() }; HEADER_LINES_MAX];
    let mut request = Request::new(&mut []);
    let consumed = match request.parse_with_uninit_headers(window, &mut lines) {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) if window.len() < policy.header_bytes_max => return Progress::Incomplete,
        Ok(Status::Partial) => return refused((431, LENGTH_REASON)),
        Err(error) => return refused(parse_objection(error, window)),
    };
    if let Some(head) = is_probe(&request, policy) {
        return Progress::Probe { head };
    }
    if request.method == Some("HEAD") {
        return Progress::Refused(Refused { status: 405, response: response(405, METHOD_REASON, true) });
    }
    match judge(&request, policy, peer) {
        Ok(Verdict { key, client }) => {
            Progress::Accepted(Accepted { consumed, response: switching_protocols(key), client })
        }
        Err(objection) => refused(objection),
    }
}

/// Whether a balancer asks for `health_path`, and if so, by HEAD. Whatever else the request says does not count: probes
/// are copied from everywhere, HTTP/1.0 and half an upgrade among them.
fn is_probe(request: &Request<'_, '_>, policy: &Policy) -> Option<bool> {
    let wanted = policy.health_path.as_deref()?;
    let head = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    split_target(request.path?).is_some_and(|(_, path)| path == wanted).then_some(head)
}

/// The whole HTTP response that refuses a connection with `status`; `reason` is one line that says what is wrong and
/// what to do. The shell uses it for 408 and 503 too.
pub fn refuse(status: u16, reason: &str) -> Vec<u8> {
    response(status, reason, false)
}

/// The same, where it is known in how many seconds it may be worth while to ask again (RFC 9110 10.2.3).
pub fn refuse_for(status: u16, reason: &str, retry_after_seconds: u64) -> Vec<u8> {
    write_response(status, reason, false, &format!("Retry-After: {retry_after_seconds}\r\n"))
}

/// The whole HTTP response of `status` after which the connection is closed, with one line of text; after HEAD without it,
/// for a client reads no body there (RFC 9110 9.3.2).
///
/// 426 names the protocol and version that we speak, but `Upgrade` stays out of `Connection`: the one thing that
/// a refused client must hear there is `close`.
pub fn response(status: u16, line: &str, head: bool) -> Vec<u8> {
    write_response(status, line, head, "")
}

/// `more`: header lines, each with its end.
fn write_response(status: u16, line: &str, head: bool, more: &str) -> Vec<u8> {
    let (phrase, extra) = match status {
        200 => ("OK", "Cache-Control: no-store\r\n"),
        400 => ("Bad Request", ""),
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", "Allow: GET\r\n"),
        408 => ("Request Timeout", ""),
        429 => ("Too Many Requests", ""),
        426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        431 => ("Request Header Fields Too Large", ""),
        503 => ("Service Unavailable", ""),
        505 => ("HTTP Version Not Supported", ""),
        _ => ("Refused", ""),
    };
    let body_bytes = line.len() + 1;
    let mut response = String::with_capacity(192 + line.len());
    // Writing to a String cannot fail.
    let _ = write!(
        response,
        "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\n{extra}{more}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {body_bytes}\r\n\r\n"
    );
    if !head {
        let _ = writeln!(response, "{line}");
    }
    response.into_bytes()
}

/// Why 405.
const METHOD_REASON: &str = "Only GET opens a WebSocket (RFC 6455 4.1); a balancer's probe is answered at the option \
                             health_path, GET or HEAD.";

/// Why a key is 400.
const KEY_REASON: &str = "The header Sec-WebSocket-Key is not 16 bytes in base64 (24 characters), once; correct it; for a \
                          balancer's probe, set the option health_path and ask for that path.";

/// Why 431.
const LENGTH_REASON: &str =
    "The request header is longer than the option header_bytes_max; send fewer cookies, or raise it.";

fn refused((status, reason): Objection) -> Progress {
    Progress::Refused(Refused { status, response: refuse(status, reason) })
}

/// What the parser's complaint means to a client. It looks at no byte behind the one that the parser stumbled over: how much
/// of the rest is here depends on where TCP cut it.
fn parse_objection(error: httparse::Error, window: &[u8]) -> Objection {
    match error {
        httparse::Error::TooManyHeaders => (431, "The request has more than 256 header lines; send fewer."),
        // Another version of HTTP; any other protocol is malformed. A parser that stumbles behind the slash has read the slash.
        httparse::Error::Version if protocol(window).starts_with(b"HTTP/") => {
            (505, "Only HTTP/1.1 is spoken here; set proxy_http_version 1.1 in the proxy.")
        }
        _ if window.first() == Some(&0x16) => {
            (400, "This looks like TLS, but the port speaks plain HTTP; use ws://, or end TLS at a proxy.")
        }
        _ => (400, "The request is not well-formed HTTP; send an HTTP/1.1 GET with Upgrade: websocket."),
    }
}

/// What follows method and target in the request line, as far as it is here.
fn protocol(window: &[u8]) -> &[u8] {
    window.trim_ascii_start().splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default()
}

/// What is left of a request once it is found good.
struct Verdict<'a> {
    key: &'a [u8],
    client: Address,
}

/// The header fields that count, each value without surrounding whitespace.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    /// `Connection` holds the token `upgrade`.
    connection_upgrade: bool,
    /// `Upgrade` holds the token `websocket`.
    upgrade_websocket: bool,
    /// A header repeated that may not be, or a body announced.
    objection: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn collect(headers: &[Header<'a>]) -> Self {
        let mut fields = Fields::default();
        for header in headers {
            let value = header.value.trim_ascii();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("Host") {
                fields.once(|f| &mut f.host, value, "The header Host is repeated; send it once.");
            } else if is("Connection") {
                fields.connection_upgrade |= has_token(value, b"upgrade");
            } else if is("Upgrade") {
                fields.upgrade_websocket |= has_token(value, b"websocket");
            } else if is("Sec-WebSocket-Key") {
                fields.once(|f| &mut f.key, value, "The header Sec-WebSocket-Key is repeated; send it once.");
            } else if is("Sec-WebSocket-Version") {
                fields.once(|f| &mut f.version, value, "The header Sec-WebSocket-Version is repeated; send it once.");
            } else if is("Transfer-Encoding")
                || is("Content-Length") && !(is_digits(value) && value.iter().all(|&digit| digit == b'0'))
            {
                fields.objection.get_or_insert("A WebSocket handshake has no body; send none.");
            }
        }
        fields
    }

    fn once(&mut self, slot: impl FnOnce(&mut Self) -> &mut Option<&'a [u8]>, value: &'a [u8], repeated: &'static str) {
        if slot(self).replace(value).is_some() {
            self.objection.get_or_insert(repeated);
        }
    }
}

fn judge<'a>(request: &Request<'_, 'a>, policy: &Policy, peer: Address) -> Result<Verdict<'a>, Objection> {
    if request.method != Some("GET") {
        return Err((405, METHOD_REASON));
    }
    let (authority, path) = split_target(request.path.unwrap_or_default())
        .ok_or((400, "The request target is neither a path nor an http URL; send a path such as /."))?;
    let fields = Fields::collect(request.headers);
    if let Some(reason) = fields.objection {
        return Err((400, reason));
    }
    let path_fits = policy.path.as_deref().is_none_or(|wanted| wanted == path);
    if !fields.upgrade_websocket && (path_fits || path == "/") {
        return Err((426, "This is a WebSocket gateway; connect with a WebSocket client (Upgrade: websocket)."));
    }
    if !path_fits {
        return Err((404, "No WebSocket at this path; use the one of the option path."));
    }
    if request.version != Some(1) {
        return Err((400, "A WebSocket needs HTTP/1.1; set proxy_http_version 1.1 in the proxy."));
    }
    let host = fields.host.ok_or((400, "The header Host is missing; send it (RFC 9112 3.2)."))?;
    // An absolute target outranks Host (RFC 9112 3.2.2); an empty Host is valid, and names nothing.
    let host = authority.map_or(host, str::as_bytes);
    let own = Authority::parse(host);
    if own.is_none() && !host.is_empty() {
        return Err((400, "The header Host is not a host name with an optional port; correct it."));
    }
    if !fields.connection_upgrade {
        let reason = "The header Connection lacks the token upgrade; in nginx: proxy_set_header Connection \"upgrade\"; for a \
             balancer's probe, set the option health_path and ask for that path.";
        return Err((400, reason));
    }
    if fields.version != Some(b"13") {
        return Err((426, "Only version 13 of WebSocket is spoken here; send Sec-WebSocket-Version: 13 (RFC 6455)."));
    }
    let key = fields.key.filter(|key| is_key(key)).ok_or((400, KEY_REASON))?;
    let site = forwarded_host(request.headers, policy, peer).or(own);
    let origin = values(request.headers, "Origin");
    if let Some(reason) = objection(origin, &policy.origins, policy.same_origin, policy.require_origin, site.as_ref()) {
        return Err((403, reason));
    }
    let client = client_address(
        peer,
        &policy.trusted_proxies,
        values(request.headers, "X-Forwarded-For"),
        values(request.headers, "X-Real-IP"),
    );
    Ok(Verdict { key, client })
}

/// The values of every line named `name`, in order, without surrounding whitespace.
fn values<'a>(headers: &[Header<'a>], name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

/// `X-Forwarded-Host` as a trusted peer gives it. Where proxies in a row have each appended their own, the first is
/// what the browser asked for. A page cannot forge it: scripts cannot set headers of a WebSocket, and whoever can, can
/// forge `Origin` too.
fn forwarded_host<'a>(headers: &[Header<'a>], policy: &Policy, peer: Address) -> Option<Authority<'a>> {
    let value = values(headers, "X-Forwarded-Host").next()?;
    let first = value.split(|&byte| byte == b',').next()?.trim_ascii();
    Authority::parse(first).filter(|_| is_trusted(&policy.trusted_proxies, peer))
}

/// Authority (of an absolute target only) and path of a request target, the query dropped (RFC 9112 3.2.1, 3.2.2).
fn split_target(target: &str) -> Option<(Option<&str>, &str)> {
    let path_of = |text: &'_ str| text.find(['?', '#']).unwrap_or(text.len());
    if target.starts_with('/') {
        return Some((None, &target[..path_of(target)]));
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = &tail[..path_of(tail)];
    Some((Some(authority), if path.is_empty() { "/" } else { path }))
}

/// Whether a comma-separated list holds `token`, in any case (RFC 9110 5.6.1).
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether `key` is 24 characters of base64 that stand for 16 bytes (RFC 6455 4.2.1).
fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; 18];
    key.len() == 24 && KEY_BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// The 101 response for `key` (RFC 6455 4.2.2). No subprotocol and no extension is ever chosen.
fn switching_protocols(key: &[u8]) -> Vec<u8> {
    const HEAD: &str =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut response = String::with_capacity(HEAD.len() + 28 + 4);
    response.push_str(HEAD);
    STANDARD.encode_string(digest, &mut response);
    response.push_str("\r\n\r\n");
    response.into_bytes()
}
