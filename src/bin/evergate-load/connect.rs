//! From an address to a connection that speaks WebSocket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use super::deadline::within;
use super::fault::Fault;
use super::target::Target;

/// Time for a connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer to a handshake, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The key of every handshake (RFC 6455 1.3's own example): it guards against caches, of which there are none here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A connection, and what came behind the handshake's answer.
pub struct Connected {
    /// The connection.
    pub stream: TcpStream,
    /// The first bytes of frames, usually none.
    pub rest: Vec<u8>,
}

/// Connects and shakes hands.
pub async fn connect(target: &Target, source: Option<IpAddr>) -> Result<Connected, Fault> {
    let stream = match timeout(CONNECT_TIMEOUT, tcp(target.address, source)).await {
        Ok(connected) => connected.map_err(|error| Fault::Connect(error.kind()))?,
        Err(_late) => return Err(Fault::ConnectTimeout),
    };
    match within(CONNECT_TIMEOUT, &stream, handshake(&stream, target)).await {
        Some(shaken) => shaken.map(|rest| Connected { stream, rest }),
        None => Err(Fault::ConnectTimeout),
    }
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

async fn handshake(stream: &TcpStream, target: &Target) -> Result<Vec<u8>, Fault> {
    let io = |error: io::Error| Fault::Io(error.kind());
    stream.write_all(target.handshake(KEY)).await.0.map_err(io)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let filled = buffer.len();
        let (read, slice) = stream.read(buffer.slice(filled..)).await;
        buffer = slice.into_inner();
        if read.map_err(io)? == 0 {
            return Err(Fault::Eof);
        }
        if let Some(header) = judge(&buffer)? {
            buffer.drain(..header);
            return Ok(buffer);
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
    let accept = STANDARD.encode(Sha1::digest(format!("{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let is_accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-accept") && header.value.trim_ascii() == accept.as_bytes()
    });
    if is_accepted { Ok(Some(length)) } else { Err(Fault::BadHandshake) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_refused_or_none() {
        let good =
            b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        assert_eq!(judge(good), Ok(Some(good.len() - 4)));
        for end in 0..good.len() - 4 {
            assert_eq!(judge(&good[..end]), Ok(None), "{end}");
        }
        assert_eq!(judge(b"HTTP/1.1 503 Busy\r\n\r\n"), Err(Fault::Refused(503)));
        assert_eq!(judge(b"HTTP/1.1 101 Yes\r\n\r\n"), Err(Fault::BadHandshake));
        assert_eq!(judge(b"+PONG\r\n"), Err(Fault::BadHandshake));
    }
}
