//! What answers and is no Redis: which is it, and how did the gateway come to ask it?

use crate::opensrf::printable::shows;

/// Bytes of an answer that are shown.
const SHOWN_BYTES: usize = 60;
/// ejabberd's port, which Evergreen's files named before Redis came.
const EJABBERD_PORT: u16 = 5222;

/// What to do about what answers, where nothing else is known of it.
const ELSEWHERE: &str = "correct port or bus_domain_address; Redis' port is 6379 as a rule";

/// What to do about a port that gives no sense to who greets it by TLS.
pub const SPEAKS_NO_TLS: &str =
    "what listens there may speak no TLS: name Redis' tls-port, or write bus_domain_address without rediss://";
/// What to do about a port that hangs up on who greets it without TLS.
pub const WANTS_TLS: &str =
    "a port that speaks TLS does that: write bus_domain_address as rediss://HOST:PORT, or name Redis' plain port";

/// The first byte of what a TLS server says to who does not speak TLS; the version follows.
const TLS_ALERT: u8 = 0x15;

/// Whether a Redis may have begun an answer so.
pub fn may_be_redis(received: &[u8]) -> bool {
    // RESP 2 and 3; the letters are all that a Redis of today answers a greeting with, in whatever version.
    received.first().is_none_or(|first| b"+-:$*%~|_#,(!=>".contains(first))
}

/// Says what answered with `received` on `port` (none: a Unix socket), and what is likely to mend it.
pub fn describe(received: &[u8], port: Option<u16>) -> String {
    let line = received.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let shown: String = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)])
        .chars()
        .map(|c| if shows(c) { c } else { '·' })
        .collect();
    let shown = shown.trim_end_matches('·');
    let is_xmpp = received.starts_with(b"<?xml") || received.starts_with(b"<stream") || port == Some(EJABBERD_PORT);
    let what = if is_xmpp {
        "it looks like ejabberd, whose port 5222 an old opensrf_core.xml names: set port to that of Redis, as a rule 6379"
    } else if received.starts_with(b"HTTP/") {
        "it is an HTTP server: correct port or bus_domain_address"
    } else if received.starts_with(&[TLS_ALERT, 3]) {
        "it speaks TLS: write bus_domain_address as rediss://HOST:PORT, or name Redis' plain port"
    } else {
        ELSEWHERE
    };
    format!("what answers there is no Redis, it says \"{shown}\"; {what}")
}

/// Says that what answers begins to say more than `bytes_max`, which no answer that we ask for takes.
pub fn describe_talker(bytes_max: usize) -> String {
    format!(
        "what answers there is no Redis, or not the right one: it begins an answer of more than {} KiB where a short one is due; \
         {ELSEWHERE}",
        bytes_max / 1024
    )
}
