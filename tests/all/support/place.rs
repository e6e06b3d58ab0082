//! Where a gateway listens, of whatever kind, and a client that comes by it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use tungstenite::{Message, WebSocket};

use super::PATIENCE;
use super::client::{envelope, request};

/// What a client's way in is.
pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Where a client connects.
#[derive(Clone, Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    pub fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }

    /// Says `before` as it is, then shakes hands with the header `lines`.
    pub fn upgrade(&self, before: &[u8], lines: &str) -> WebSocket<Box<dyn Stream>> {
        let mut stream = self.connect().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let handshake = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        stream.write_all(&[before, handshake.as_bytes()].concat()).expect("it is taken");
        let answer = header(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{self:?}: {answer}");
        WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None)
    }
}

/// One HTTP header.
pub fn header(stream: &mut dyn Stream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks for 1 + 2; false where a 1012 came instead, after which it may be asked again.
pub fn adds(client: &mut WebSocket<Box<dyn Stream>>) -> bool {
    let asked = envelope("opensrf.math", "t", &[request(1, "add", "[1,2]")]);
    if client.send(Message::text(asked)).is_err() {
        return false;
    }
    loop {
        match client.read().expect("an answer, or a Close") {
            Message::Text(text) if text.contains("\"content\":3") => return true,
            Message::Close(close) => {
                assert_eq!(close.map(|close| close.code.into()), Some(1_012_u16));
                return false;
            }
            _ => {}
        }
    }
}

/// Of the loopback.
pub fn loopback(port: u16) -> Place {
    Place::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}
