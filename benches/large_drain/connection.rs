//! One client's WebSocket connection: what it sends is short, what it receives may be long, and may be taken slowly.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Local addresses of all clients: one has 28,000 ports.
const SOURCES: u32 = 4;
/// A slow reader's receive buffer; the kernel doubles it. In a larger one the reply would have arrived long before it is read.
const SLOW_BUFFER_BYTES: u32 = 16 * 1024;
/// How often a slow reader reads, in a second.
const SLOW_READS: u32 = 20;
/// Time between two of its reads.
const SLOW_PAUSE: Duration = Duration::from_millis(1_000 / SLOW_READS as u64);
/// The most that another reader takes at a time.
const READ_BYTES: usize = 4_096;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What the gateway has sent.
#[derive(Debug)]
pub enum Frame {
    /// A message.
    Text(Vec<u8>),
    /// Its Close with this code, which has been answered.
    Close(u16),
}

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    /// What has come and is no whole frame yet; no memory where that is nothing.
    input: Vec<u8>,
    /// Bytes a second that it takes; none: all there are.
    slow_rate: Option<u32>,
    /// When a slow reader takes more.
    takes_at: Instant,
}

impl Connection {
    /// Connects and shakes hands, as a proxy does for a client with an address of its own.
    pub async fn open(client: u32, gateway: SocketAddr, slow_rate: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if slow_rate.is_some() {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        }
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + client % SOURCES);
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(gateway).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, input: Vec::new(), slow_rate: None, takes_at: Instant::now() };
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + client);
        let request = format!(
            "GET /osrf-websocket-translator HTTP/1.1\r\nHost: {gateway}\r\nX-Forwarded-For: {address}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        connection.stream.write_all(request.as_bytes()).await?;
        while !connection.input.ends_with(b"\r\n\r\n") {
            connection.receive().await?;
        }
        if !connection.input.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&connection.input).into_owned()));
        }
        connection.input = Vec::new();
        connection.slow_rate = slow_rate;
        Ok(connection)
    }

    /// Sends a message.
    pub fn send(&self, text: &str) -> io::Result<()> {
        self.send_frame(TEXT, text.as_bytes())
    }

    /// The next message, which is awaited: a Close is an error.
    pub async fn message(&mut self) -> io::Result<Vec<u8>> {
        match self.next().await? {
            Frame::Text(text) => Ok(text),
            Frame::Close(code) => Err(io::Error::other(format!("closed with {code} before its reply"))),
        }
    }

    /// Waits for a moment before which nothing may come.
    pub async fn quiet_until<T>(&mut self, moment: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            reached = moment => Ok(reached),
            frame = self.next() => Err(match frame? {
                Frame::Text(_) => io::Error::other("a message that was not asked for"),
                Frame::Close(code) => io::Error::other(format!("closed with {code} before it had done")),
            }),
        }
    }

    /// The next frame that is for the client. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            while let Some((opcode, payload)) = self.take_frame()? {
                match opcode {
                    TEXT => return Ok(Frame::Text(payload)),
                    PING => self.send_frame(PONG, &payload)?,
                    CLOSE => {
                        self.send_frame(CLOSE, &payload)?;
                        return Ok(Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))));
                    }
                    other => return Err(io::Error::other(format!("a frame with opcode {other}"))),
                }
            }
            self.receive().await?;
        }
    }

    /// Waits for the end of the stream, behind the Close: anything but a FIN is an error.
    pub async fn end(&mut self) -> io::Result<()> {
        match self.receive().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(()) => Err(io::Error::other("bytes behind the Close")),
            Err(error) => Err(error),
        }
    }

    /// Takes what has come, as much as the rate allows.
    async fn receive(&mut self) -> io::Result<()> {
        let most = self.slow_rate.map_or(READ_BYTES, |rate| (rate / SLOW_READS) as usize);
        if self.slow_rate.is_some() {
            sleep_until(self.takes_at).await;
            // What was not taken in time is not made up for.
            self.takes_at = self.takes_at.max(Instant::now() - SLOW_PAUSE) + SLOW_PAUSE;
        }
        loop {
            self.stream.readable().await?;
            self.input.reserve(most);
            match self.stream.try_read_buf(&mut (&mut self.input).limit(most)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.release(),
                other => return other.map(drop),
            }
        }
    }

    /// Takes the first frame where it is whole: its opcode and payload.
    fn take_frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let input = &self.input;
        let [first, second, ..] = input[..] else { return Ok(None) };
        // RFC 6455 section 5.2: what does not fit into seven bits follows in two bytes, or in eight.
        let (from, length) = match second {
            126 => (4, input.get(2..4)),
            127 => (10, input.get(2..10)),
            _ => (2, input.get(1..2)),
        };
        let length = length.map(|bytes| bytes.iter().fold(0, |all, &byte| all << 8 | usize::from(byte)));
        let Some(length) = length.filter(|length| input.len() >= from + length) else { return Ok(None) };
        if first & 0xf0 != 0x80 {
            return Err(io::Error::other(format!("a frame that begins with {first:#x}")));
        }
        let payload = input[from..from + length].to_vec();
        self.input.drain(..from + length);
        self.release();
        Ok(Some((first & 0xf, payload)))
    }

    /// Gives back the memory where nothing is in it.
    fn release(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Sends a frame, masked with zeros (RFC 6455 section 5.3 leaves the key to the client). The kernel has room for it: little
    /// is sent before an answer comes.
    fn send_frame(&self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | opcode];
        if let Ok(length @ ..=125) = u8::try_from(payload.len()) {
            frame.push(0x80 | length);
        } else {
            frame.push(0xfe);
            frame.extend_from_slice(&u16::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        let sent = self.stream.try_write(&frame)?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}
