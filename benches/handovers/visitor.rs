//! One visitor: it connects, upgrades, asks for a sum, takes the reply and closes. What went wrong is told with the step.

use std::fmt;
use std::io::{self, Cursor};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::messages;

/// How long a step may last. A packet that nobody takes is sent again after one second, three and seven.
pub const STEP_MAX: Duration = Duration::from_secs(10);
/// Close 1000, masked with zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
/// What is asked, but for the visitor's number.
const REQUEST: &str = concat!(
    r#"{"service":"opensrf.math","thread":"visit NUMBER","osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":1,"#,
    r#""locale":"en-US","type":"REQUEST","payload":{"__c":"osrfMethod","__p":{"method":"add","params":[NUMBER,1]}}}}]}"#
);
/// What the reply has of that, and what ends it.
const THREAD: &str = r#""thread":"visit NUMBER""#;
const COMPLETE: &str = r#""statusCode":205"#;
/// Room for what one read brings.
const READ_BYTES: usize = 2048;

/// What a visitor does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// TCP's handshake.
    Connect,
    /// That of WebSocket.
    Upgrade,
    /// From the request to the whole reply.
    Request,
    /// From its Close to the end of the connection.
    Close,
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody listens.
    Refused,
    /// The connection was reset.
    Reset,
    /// It did not end within [`STEP_MAX`].
    TimedOut,
    /// The stream ended without a Close.
    Ended,
    /// The gateway closed with this code (0: none).
    Closed(u16),
    /// It answered the upgrade with this HTTP status (0: with none).
    Status(u16),
    /// It sent what is no reply to the request.
    Wrong,
    /// Any other error of the host's.
    Host(io::ErrorKind),
}

/// What went wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Connect => "connect",
            Step::Upgrade => "upgrade",
            Step::Request => "request",
            Step::Close => "close",
        };
        match self.why {
            Why::Refused => write!(out, "{step} refused"),
            Why::Reset => write!(out, "{step} reset"),
            Why::TimedOut => write!(out, "{step} timed out"),
            Why::Ended => write!(out, "{step} ended without a Close"),
            Why::Closed(code) => write!(out, "{step} closed {code}"),
            Why::Status(status) => write!(out, "{step} answered {status}"),
            Why::Wrong => write!(out, "{step} answered wrongly"),
            Why::Host(kind) => write!(out, "{step}: {kind}"),
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Host(kind),
        }
    }
}

/// Its connection.
pub struct Visitor {
    /// The socket.
    stream: TcpStream,
    /// What has come and was not read yet.
    received: Vec<u8>,
}

impl Visitor {
    /// Connects from `source` and upgrades.
    pub async fn enter(target: SocketAddr, source: Ipv4Addr) -> Result<Self, Fault> {
        let stream = within(Step::Connect, async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source, 0)))?;
            let stream = socket.connect(target).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let mut visitor = Self { stream: stream.await?, received: Vec::with_capacity(READ_BYTES) };
        within(Step::Upgrade, visitor.upgrade(target)).await?;
        Ok(visitor)
    }

    async fn upgrade(&mut self, target: SocketAddr) -> Result<(), Why> {
        let request = format!(
            "GET /osrf-websocket-translator HTTP/1.1\r\nHost: {target}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") {
                break end + 4;
            }
            self.receive().await?;
        };
        let header: Vec<u8> = self.received.drain(..end).collect();
        let status = header.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
        if status == 101 { Ok(()) } else { Err(Why::Status(status)) }
    }

    /// Sends the request of that number and waits for its whole reply.
    pub async fn ask(&mut self, number: u64) -> Result<(), Fault> {
        let named = |text: &str| text.replace("NUMBER", &number.to_string());
        within(Step::Request, async {
            self.stream.write_all(&messages::frame(named(REQUEST).as_bytes())).await?;
            let reply = self.frame(OpCode::Data(Data::Text)).await?;
            let sum = format!("\"content\":{}}}", number + 1);
            let has = |part: &str| memchr::memmem::find(&reply, part.as_bytes()).is_some();
            let is_right = has(&named(THREAD)) && has(&sum) && has(COMPLETE);
            if is_right { Ok(()) } else { Err(Why::Wrong) }
        })
        .await
    }

    /// Closes. The gateway ends the connection first, so that the visitor's port is free again at once.
    pub async fn leave(&mut self) -> Result<(), Fault> {
        within(Step::Close, async {
            self.stream.write_all(&CLOSE).await?;
            self.frame(OpCode::Control(Control::Close)).await?;
            match self.receive().await {
                Err(Why::Ended) => Ok(()),
                Ok(()) => Err(Why::Wrong),
                Err(why) => Err(why),
            }
        })
        .await
    }

    /// The payload of the next frame with that opcode, behind pings. A Close that is not waited for is an error.
    async fn frame(&mut self, wanted: OpCode) -> Result<Vec<u8>, Why> {
        loop {
            let mut cursor = Cursor::new(&self.received);
            let header = FrameHeader::parse(&mut cursor).map_err(|_| Why::Wrong)?;
            let start = cursor.position() as usize;
            let whole = header.map(|(header, length)| (header.opcode, start + length as usize));
            match whole.filter(|(_, end)| *end <= self.received.len()) {
                None => self.receive().await?,
                Some((opcode, end)) => {
                    let payload: Vec<u8> = self.received.drain(..end).skip(start).collect();
                    match opcode {
                        _ if opcode == wanted => return Ok(payload),
                        OpCode::Control(Control::Ping | Control::Pong) => {}
                        OpCode::Control(Control::Close) => {
                            let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                            return Err(Why::Closed(code));
                        }
                        _ => return Err(Why::Wrong),
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Why> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Why::Ended),
            _ => Ok(()),
        }
    }
}

/// Gives a step its time.
async fn within<T>(step: Step, doing: impl Future<Output = Result<T, Why>>) -> Result<T, Fault> {
    let done = timeout(STEP_MAX, doing).await.unwrap_or(Err(Why::TimedOut));
    done.map_err(|why| Fault { step, why })
}
