//! A WebSocket client that takes its bytes at a rate of its own, with a small receive buffer, so that almost all of a reply waits in the kernel of
//! the sender. What is measured is what came off the socket: whole messages, frames that broke off, the Close, and how the stream ended.
//! It needs nothing but the standard library and socket2: the benchmark `delivery` uses it, too.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What is asked of the kernel as the receive buffer; it doubles it.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// How long one look at the socket takes at most.
const LOOK: Duration = Duration::from_millis(20);
/// The longest wait for the answer to the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a FIN: nothing of what was sent is missing.
    Fin,
    /// With a reset: whatever was on its way is lost.
    Reset,
}

/// What has come off the socket.
#[derive(Debug, Default)]
pub struct Seen {
    /// Bytes behind the handshake.
    pub bytes: u64,
    /// Text messages that came whole.
    pub texts: Vec<String>,
    /// Pings of the gateway.
    pub pings: usize,
    /// The Close: its code, 1005 where it has none, and when it came.
    pub close: Option<(u16, Instant)>,
    /// When the last whole text message came.
    pub last_text: Option<Instant>,
    /// How the stream ended.
    pub end: Option<End>,
    /// Bytes of a frame that has begun and is not whole.
    pub unfinished: usize,
}

impl Seen {
    /// Whether a reply has begun: something larger than a ping is on its way, or has come.
    pub fn has_begun(&self) -> bool {
        self.unfinished > 200 || !self.texts.is_empty()
    }

    /// The code of the Close.
    pub fn code(&self) -> Option<u16> {
        self.close.map(|(code, _)| code)
    }
}

/// A client that reads slowly.
pub struct Slow {
    stream: TcpStream,
    bytes_per_second: u32,
    /// Bytes that may be taken now.
    allowance: usize,
    /// When the allowance was last added to.
    counted: Instant,
    /// The frame that has begun.
    frame: Vec<u8>,
    /// Whether the gateway's pings are answered once they are seen.
    pub answers_pings: bool,
    /// Whether its own end is sent behind its answer to a Close.
    has_closed: bool,
    /// What has come so far.
    pub seen: Seen,
}

impl Slow {
    /// Connects with a small receive buffer and shakes hands.
    pub fn connect(address: SocketAddr, bytes_per_second: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&address.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
        let request = format!(
            "GET /osrf-websocket-translator HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut header = vec![];
        while !header.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            header.push(byte[0]);
        }
        if !header.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&header).into_owned()));
        }
        stream.set_read_timeout(Some(LOOK))?;
        Ok(Self {
            stream,
            bytes_per_second,
            allowance: 0,
            counted: Instant::now(),
            frame: vec![],
            answers_pings: true,
            has_closed: false,
            seen: Seen::default(),
        })
    }

    /// Sends a text message.
    pub fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends a Ping.
    pub fn ping(&mut self) {
        self.send(PING, b"slow");
    }

    /// Sends a Close and leaves its side of the connection open, as browsers do.
    pub fn close(&mut self, code: u16) {
        self.has_closed = true;
        self.send(CLOSE, &code.to_be_bytes());
    }

    /// Sends FIN and goes on reading.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Sends one frame.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let bytes = frame(true, opcode, payload);
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are. A gateway that is gone shows itself when it is read from.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes)
            && error.kind() == ErrorKind::ConnectionReset
        {
            self.seen.end.get_or_insert(End::Reset);
        }
    }

    /// Takes what its rate allows until something holds of what it has seen, the stream has ended or the time is over; gives whether it holds.
    pub fn read_until(&mut self, bound: Duration, holds: impl Fn(&Seen) -> bool) -> bool {
        let end = Instant::now() + bound;
        while !holds(&self.seen) {
            if self.seen.end.is_some() || Instant::now() >= end {
                return false;
            }
            self.look();
        }
        true
    }

    /// The same for a while.
    pub fn read_for(&mut self, time: Duration) {
        self.read_until(time, |_| false);
    }

    /// One look at the socket: what has come, as far as the rate allows.
    fn look(&mut self) {
        // What was not taken in time is not made up for: the rate is never exceeded by more than a tenth of a second's bytes.
        let most = (self.bytes_per_second / 10).max(256) as usize;
        let micros = self.counted.elapsed().as_micros().min(1_000_000) as u64;
        let more = micros * u64::from(self.bytes_per_second) / 1_000_000;
        if more == 0 || self.allowance + (more as usize) < most / 4 {
            std::thread::sleep(LOOK);
            return;
        }
        self.allowance = (self.allowance + more as usize).min(most);
        self.counted = Instant::now();
        let mut buffer = vec![0; self.allowance];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.seen.end = Some(End::Fin),
            Ok(count) => {
                self.allowance -= count;
                self.seen.bytes += count as u64;
                self.frame.extend_from_slice(&buffer[..count]);
                self.take_frames();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.seen.end = Some(End::Reset),
        }
    }

    /// Takes whole frames apart.
    fn take_frames(&mut self) {
        while let Some((opcode, from, to)) = first_frame(&self.frame) {
            let payload = self.frame[from..to].to_vec();
            self.frame.drain(..to);
            match opcode {
                TEXT => {
                    self.seen.texts.push(String::from_utf8_lossy(&payload).into_owned());
                    self.seen.last_text = Some(Instant::now());
                }
                PING => {
                    self.seen.pings += 1;
                    if self.answers_pings {
                        self.send(PONG, &payload);
                    }
                }
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    self.seen.close.get_or_insert((code, Instant::now()));
                    if !self.has_closed {
                        self.close(code);
                    }
                    self.finish();
                }
                _ => {}
            }
        }
        self.seen.unfinished = self.frame.len();
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // Gone at once, whatever has not been read: no port of this host waits for it.
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).ok();
    }
}

/// The bytes of a client's frame, masked with zeros (RFC 6455 section 5.3 leaves the key to the client).
pub fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(u8::from(fin) << 7) | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0xFE);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xFF);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Opcode and payload (from, to) of the frame at the beginning, where it is whole.
fn first_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, from): (usize, usize) = match second & 0x7F {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        length => (usize::from(length), 2),
    };
    let to = from.checked_add(length)?;
    (bytes.len() >= to).then_some((first & 0x0F, from, to))
}

/// Whether one of the messages is the whole reply to `opensrf.demo.big [bytes]`: the content that it makes, and its 205.
pub fn has_big(texts: &[String], bytes: usize) -> bool {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let whole = |text: &String| {
        let Some((_, content)) = text.split_once(r#""content":""#) else { return false };
        let Some((content, rest)) = content.split_once('"') else { return false };
        let letters = content.bytes().zip(ALPHABET.iter().cycle());
        content.len() == bytes && letters.into_iter().all(|(is, &must)| is == must) && rest.contains("205")
    };
    texts.iter().any(whole)
}

/// The support code alone: what the other tests take for granted.
#[cfg(test)]
mod promises {
    use super::*;

    /// A server that is not ours: it sends a text and a Close to its first client, and a text and a reset to its second.
    fn serve(text: String) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let accept = || tungstenite::accept(listener.accept().expect("a client").0).expect("a handshake");
            let (mut closing, mut resetting) = (accept(), accept());
            closing.send(tungstenite::Message::text(text.clone())).expect("a text");
            closing.close(None).expect("a Close");
            resetting.send(tungstenite::Message::text(text)).expect("a text");
            SockRef::from(resetting.get_ref()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            drop(resetting);
            while closing.read().is_ok() {}
        });
        address
    }

    #[test]
    fn the_slow_client_takes_no_more_than_its_rate_and_tells_an_end_from_a_reset() {
        let address = serve(format!("{{\"content\":\"{}\"}}205", "abcdefghijklmnopqrstuvwxyz".repeat(20_000)));
        let [mut closed, mut reset] = [0; 2].map(|_| Slow::connect(address, 520_000).expect("connect"));
        let begun = Instant::now();
        assert!(closed.read_until(Duration::from_secs(20), |seen| seen.end.is_some()));
        assert!(begun.elapsed() > Duration::from_millis(900), "a second's bytes came in {:?}", begun.elapsed());
        assert_eq!((closed.seen.code(), closed.seen.end, closed.seen.unfinished), (Some(1005), Some(End::Fin), 0));
        let texts = &closed.seen.texts;
        assert!(has_big(texts, 520_000) && !has_big(texts, 519_999));
        assert!(reset.read_until(Duration::from_secs(20), |seen| seen.end.is_some()));
        assert!(reset.seen.end == Some(End::Reset) && reset.seen.texts.is_empty(), "{:?}", reset.seen.end);
    }
}
