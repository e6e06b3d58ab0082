//! A client that writes RFC 6455 byte by byte, for everything that a decent client library refuses to send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::client::Envelope;

/// The handshake that the RFC itself prints (section 1.3); its answer must hold `ACCEPT`.
pub const HANDSHAKE: &str = "GET /osrf-websocket-translator HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The RFC's own answer to its own key.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcodes of RFC 6455, section 5.2.
pub const CONTINUATION: u8 = 0;
/// A text frame.
pub const TEXT: u8 = 1;
/// A binary frame.
pub const BINARY: u8 = 2;
/// A Close frame.
pub const CLOSE: u8 = 8;
/// A Ping.
pub const PING: u8 = 9;
/// A Pong.
pub const PONG: u8 = 10;

/// One frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The final bit.
    pub fin: bool,
    /// The opcode.
    pub opcode: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A TCP connection to the gateway.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects without a handshake.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream }
    }

    /// Connects and shakes hands.
    pub fn upgrade(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        let answer = raw.exchange(HANDSHAKE);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        raw
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// The same where the gateway may have gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a header and reads the answer's header.
    pub fn exchange(&mut self, header: &str) -> String {
        self.send(header.as_bytes());
        self.read_header()
    }

    /// Reads one HTTP header, and not a byte more.
    pub fn read_header(&mut self) -> String {
        let mut text = vec![];
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                Ok(_) => break,
                Err(error) => panic!("no answer: {error}; so far {:?}", String::from_utf8_lossy(&text)),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Everything up to the end of the stream, which must come without a reset.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        self.stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("no clean end of the stream: {error}"));
        bytes
    }

    /// Sends one masked frame.
    pub fn frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send(&frame(fin, opcode, payload));
    }

    /// Sends a whole text message.
    pub fn text(&mut self, text: &str) {
        self.frame(true, TEXT, text.as_bytes());
    }

    /// The next frame; None at the end of the stream.
    pub fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing (RFC 6455, section 5.1)");
        assert_eq!(head[0] & 0x70, 0, "no extension was agreed");
        let mut length = usize::from(head[1]);
        if length >= 126 {
            let mut more = [0; 8];
            let from = if length == 126 { 6 } else { 0 };
            self.stream.read_exact(&mut more[from..]).expect("the length");
            length = usize::try_from(u64::from_be_bytes(more)).expect("a length");
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("the payload");
        Some(Frame { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0F, payload })
    }

    /// The next frame with this opcode; others are passed over.
    pub fn next(&mut self, opcode: u8) -> Frame {
        loop {
            let frame = self.read_frame().unwrap_or_else(|| panic!("the stream ended before opcode {opcode}"));
            if frame.opcode == opcode {
                return frame;
            }
            assert_ne!(frame.opcode, CLOSE, "closed: {:?}", frame.payload);
        }
    }

    /// Reads texts up to and including the one that holds a STATUS of `code`.
    pub fn until_status(&mut self, code: u16) {
        while !Envelope::new(str::from_utf8(&self.next(TEXT).payload).expect("UTF-8")).has_status(code) {}
    }

    /// Reads to the Close frame and gives its code; None for one without a payload, or the end of the stream.
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            let frame = self.read_frame()?;
            if frame.opcode == CLOSE {
                return frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
    }

    /// Sends a Close with a code, and FIN after it.
    pub fn close(&mut self, code: u16) {
        self.frame(true, CLOSE, &code.to_be_bytes());
        self.finish();
    }

    /// Sends FIN and leaves the other direction open.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Sends one byte as urgent data, which is no part of the stream.
    pub fn urgent(&mut self, byte: u8) {
        socket2::SockRef::from(&self.stream).send_out_of_band(&[byte]).expect("send");
    }

    /// Ends with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// A bound for writes.
    pub fn patience_to_send(&mut self, bound: Duration) {
        self.stream.set_write_timeout(Some(bound)).expect("a write time-out");
    }

    /// Another bound for reads.
    pub fn patience(&mut self, bound: Duration) {
        self.stream.set_read_timeout(Some(bound)).expect("a read time-out");
    }
}

/// The bytes of one masked frame.
pub fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 0x7E);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 0x7F);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The support code alone: what the other tests take for granted.
mod promises {
    use super::*;

    #[test]
    fn the_raw_client_and_a_server_that_is_not_ours_understand_each_other() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().expect("a client").0).expect("a handshake");
            let message = socket.read().expect("a message");
            socket.send(message).expect("an echo");
            while socket.read().is_ok() {}
        });
        let mut raw = Raw::upgrade(address);
        raw.text(&"x".repeat(70_000));
        assert_eq!(raw.next(TEXT).payload.len(), 70_000);
        raw.frame(true, CLOSE, &3000_u16.to_be_bytes());
        assert_eq!(raw.close_code(), Some(3000));
        server.join().expect("the server");
    }
}
