//! One WebSocket client on a synchronous socket, for replies so large that a generator would measure itself.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Room for what one read brings.
const READ_BYTES: usize = 1024 * 1024;

/// The longest wait for the next bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open connection.
pub struct Client {
    /// The connection.
    stream: TcpStream,
    /// Room for what one read brings.
    buffer: Vec<u8>,
}

impl Client {
    /// Shakes hands.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // In one piece: `write!` on a socket sends one packet for each part of its text.
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"\r\n\r\n") {
            filled += read(&mut stream, &mut buffer[filled..])?;
        }
        if !buffer.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer[..filled]).into_owned()));
        }
        Ok(Self { stream, buffer })
    }

    /// Sends a message of 126 to 65,535 bytes, masked with zeros (RFC 6455 section 5.3 leaves the key to the client).
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        let length = u16::try_from(text.len()).map_err(io::Error::other)?;
        let mut frame = vec![0x81, 0xfe];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame)
    }

    /// Receives one frame of 65,536 bytes or more and gives the size of its payload; nothing may follow it.
    pub fn receive(&mut self) -> io::Result<u64> {
        let mut filled = 0;
        while filled < 10 {
            filled += read(&mut self.stream, &mut self.buffer[filled..])?;
        }
        let [0x81, 127, length @ ..] = &self.buffer[..10] else {
            let text = String::from_utf8_lossy(&self.buffer[..filled.min(500)]);
            return Err(io::Error::other(format!("not the large reply: {text}")));
        };
        let length = length.try_into().map(u64::from_be_bytes).map_err(io::Error::other)?;
        let mut left = (length + 10).saturating_sub(filled as u64);
        while left > 0 {
            left = left.saturating_sub(read(&mut self.stream, &mut self.buffer)? as u64);
        }
        Ok(length)
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        // What the kernel calls EAGAIN is the end of our patience.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let what = format!("{:?} sends nothing for {PATIENCE:?}", stream.peer_addr());
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        }
        other => other,
    }
}
