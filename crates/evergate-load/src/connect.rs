//! From an address to a connection that speaks WebSocket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::sleep;
use tokio_uring::net::TcpStream;

use super::deadline::until;
use super::fault::Fault;
use super::round::{Phase, Round};
use super::stream::Stream;
use super::target::Target;

/// Time for a connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer to a handshake, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The key of every handshake (RFC 6455 1.3's own example): it guards against caches, of which there are none here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// How a TLS server begins its answer to what is none (RFC 8446 section 5.1).
const TLS_ALERT: [u8; 2] = [21, 3];

/// What nginx and Apache say to whoever speaks plain HTTP to their TLS.
const TLS_REFUSALS: [&str; 2] = ["sent to HTTPS port", "SSL-enabled server port"];

/// What it must be answered with.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection, and what came behind the handshake's answer.
pub struct Connected {
    /// The connection.
    pub stream: Stream,
    /// The first bytes of frames, usually none.
    pub rest: Vec<u8>,
}

/// Connects and shakes hands. `None`: there is no connection, which is counted, or the round closes and nobody misses it.
pub async fn connect(round: &Round, target: &Target, source: Option<IpAddr>) -> Option<Connected> {
    let connected = shaken(round, target, source).await;
    if round.phase.get() == Phase::Closing {
        return None;
    }
    connected.map_err(|fault| round.fault(fault)).ok()
}

async fn shaken(round: &Round, target: &Target, source: Option<IpAddr>) -> Result<Connected, Fault> {
    let mut limit = pin!(async {
        tokio::select! { () = sleep(CONNECT_TIMEOUT) => {}, () = round.closing() => {} }
    });
    let tcp = tokio::select! {
        connected = tcp(target.address, source) => connected.map_err(|error| Fault::Connect(error.kind()))?,
        () = &mut limit => return Err(Fault::ConnectTimeout),
    };
    let stream = match &target.tls {
        None => Stream::plain(tcp),
        Some(tls) => Stream::secure(tcp, tls).map_err(|error| round.broken(&error))?,
    };
    let rest = until(limit, &stream, handshake(round, &stream, target)).await.unwrap_or(Err(Fault::ConnectTimeout))?;
    Ok(Connected { stream, rest })
}

/// Through tokio's poller, for the ring's own connect cannot bind an address.
async fn tcp(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?.into_std()?;
    stream.set_nodelay(true)?;
    // The ring waits for readiness itself only where the socket may block.
    stream.set_nonblocking(false)?;
    Ok(TcpStream::from_std(stream))
}

async fn handshake(round: &Round, stream: &Stream, target: &Target) -> Result<Vec<u8>, Fault> {
    stream.shake().await.map_err(|error| round.broken(&error))?;
    stream.write_all(target.handshake(KEY)).await?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let (read, filled) = stream.read(buffer).await;
        buffer = filled;
        if read.map_err(|error| round.broken(&error))? == 0 {
            return Err(Fault::Eof);
        }
        match judge(&buffer) {
            Ok(Some(header)) => {
                buffer.drain(..header);
                return Ok(buffer);
            }
            Ok(None) => {}
            Err(fault) => {
                round.said(fault, &explanation(&buffer));
                return Err(fault);
            }
        }
        if buffer.len() > HEADER_BYTES_MAX {
            return Err(Fault::BadHandshake);
        }
        buffer.reserve(1024);
    }
}

/// The bytes of the header once it is whole and good.
fn judge(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_bad| Fault::BadHandshake)? else {
        return Ok(None);
    };
    match response.code {
        Some(101) => {}
        Some(code) => return Err(Fault::Refused(code)),
        None => return Err(Fault::BadHandshake),
    }
    let has = |name: &str, is_right: &dyn Fn(&[u8]) -> bool| {
        response
            .headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(name) && is_right(header.value.trim_ascii()))
    };
    let is_upgrade = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"upgrade");
    let is_good = has("sec-websocket-accept", &|value| value == ACCEPT.as_bytes())
        && has("upgrade", &|value| value.eq_ignore_ascii_case(b"websocket"))
        && has("connection", &|value| value.split(|byte| *byte == b',').any(is_upgrade))
        // Nobody asked for one (RFC 6455 section 4.1).
        && !has("sec-websocket-extensions", &|_| true)
        && !has("sec-websocket-protocol", &|_| true);
    if is_good { Ok(Some(length)) } else { Err(Fault::BadHandshake) }
}

/// What a refusal says of itself: plain text, as far as it came with the header. A page is for browsers.
fn explanation(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if bytes.starts_with(&TLS_ALERT) || TLS_REFUSALS.iter().any(|said| text.contains(said)) {
        return "it speaks TLS: try wss://".to_owned();
    }
    let Some((header, body)) = text.split_once("\r\n\r\n") else { return String::new() };
    let is_plain = header.to_ascii_lowercase().contains("\r\ncontent-type: text/plain");
    if is_plain { body.trim().to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_refused_or_none() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        assert_eq!(judge(good.as_bytes()), Ok(Some(good.len() - 4)));
        for end in 0..good.len() - 4 {
            assert_eq!(judge(&good.as_bytes()[..end]), Ok(None), "{end}");
        }
        for (right, wrong) in [
            ("Upgrade: WebSocket", "X: y"),
            ("Upgrade: WebSocket", "Upgrade: h2c"),
            ("keep-alive, upgrade", "keep-alive"),
            ("s3pP", "AAAA"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        ] {
            assert_eq!(judge(good.replacen(right, wrong, 1).as_bytes()), Err(Fault::BadHandshake), "{wrong}");
        }
        assert_eq!(judge(b"HTTP/1.1 503 Busy\r\n\r\n"), Err(Fault::Refused(503)));
        assert_eq!(judge(b"HTTP/1.1 101 Yes\r\n\r\n"), Err(Fault::BadHandshake));
        assert_eq!(judge(b"+PONG\r\n"), Err(Fault::BadHandshake));
    }

    #[test]
    fn a_refusal_explains_itself_in_plain_text_alone() {
        let refusal = |kind: &str| format!("HTTP/1.1 503 Busy\r\nContent-Type: text/{kind}\r\n\r\ntoo many\n");
        assert_eq!(explanation(refusal("plain; charset=utf-8").as_bytes()), "too many");
        assert_eq!(explanation(refusal("html").as_bytes()), "");
        assert_eq!(explanation(b"HTTP/1.1 503 Busy\r\nContent-"), "");
        let by_nginx =
            b"HTTP/1.1 400 Bad Request\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port</title>";
        assert!(explanation(by_nginx).contains("wss://"));
        assert!(explanation(b"\x15\x03\x03\0\x02\x02\x0a").contains("wss://"));
    }
}
