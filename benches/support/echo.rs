//! A bare WebSocket echo: what it does with bytes, and a server that does it on monoio, with a task for each client. No
//! limits, no timers, no books; a text frame is not even looked at for UTF-8.
//!
//! That server is the old floor: results up to 2026-11-29 say "x floor" of it, for the gateway ran on monoio, too, with the
//! same flags of the ring. The floor is in `raw.rs`. The old one waits for readiness, then reads and sends with one buffer
//! of a pool, so that an idle connection owns none.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use evergate_demo::ring as monoio_ring;
use evergate_proto::websocket::frame::{self, OpCode};
use evergate_proto::websocket::handshake::{self, Origins, Policy, Progress};
use fastwebsockets::unmask;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use socket2::SockRef;

/// Bytes of a receive buffer.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers kept for the next turn; more are given back to the allocator.
const KEPT_MAX: usize = 64;

/// Serves `listener` on the calling thread, for ever.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    // Every stream that is accepted inherits it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    monoio_ring::build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let pool = Rc::new(Pool::default());
        loop {
            let (stream, _) = listener.accept().await?;
            let pool = Rc::clone(&pool);
            monoio::spawn(async move {
                // A client that breaks off is its own affair.
                let _ = echo(stream, &pool).await;
            });
        }
    })
}

/// Shakes hands, then sends every message back as it came.
async fn echo(mut stream: TcpStream, pool: &Pool) -> io::Result<()> {
    let mut open = false;
    // The bytes of a frame (or of the handshake) that is not all here yet.
    let mut rest = Vec::new();
    loop {
        stream.readable(false).await?;
        let buffer = if rest.is_empty() { pool.take() } else { std::mem::take(&mut rest) };
        let filled = buffer.len();
        let (result, buffer) = stream.read(buffer.slice_mut(filled..)).await;
        let mut buffer = buffer.into_inner();
        if result? == 0 {
            return Ok(());
        }
        let turn = if open { echo_frames(&mut buffer) } else { shake_hands(&mut buffer)? };
        if turn.consumed < buffer.len() {
            let tail = &buffer[turn.consumed..];
            rest.reserve_exact(tail.len() + turn.wanted.max(1024));
            rest.extend_from_slice(tail);
        }
        if turn.answer > 0 {
            open = true;
            let (result, sent) = stream.write_all(buffer.slice(..turn.answer)).await;
            result?;
            buffer = sent.into_inner();
        }
        // What held an unfinished frame has another size.
        if buffer.capacity() == BUFFER_BYTES {
            pool.give(buffer);
        }
        if turn.ended {
            return Ok(());
        }
    }
}

/// What became of the bytes in a buffer.
#[derive(Default)]
pub struct Turn {
    /// Bytes that need not be kept.
    pub consumed: usize,
    /// Bytes at the front of the buffer that are to be sent.
    pub answer: usize,
    /// Bytes that the unfinished frame still lacks, as far as that is known.
    pub wanted: usize,
    /// The client has said goodbye.
    pub ended: bool,
}

/// Replaces the client's handshake, once it is all here, by the answer to it.
pub fn shake_hands(buffer: &mut Vec<u8>) -> io::Result<Turn> {
    let policy = Policy {
        header_bytes_max: 32 << 10,
        health_path: None,
        path: None,
        origins: Origins::Any,
        require_origin: false,
        same_origin: false,
        trusted_proxies: vec![],
    };
    match handshake::read(buffer, &policy, IpAddr::V4(Ipv4Addr::LOCALHOST).into()) {
        Progress::Incomplete => Ok(Turn::default()),
        // A client that sends frames before it has the answer is none of ours.
        Progress::Accepted(accepted) if accepted.consumed == buffer.len() => {
            buffer.clear();
            buffer.extend_from_slice(&accepted.response);
            Ok(Turn { consumed: buffer.len(), answer: buffer.len(), ..Turn::default() })
        }
        Progress::Accepted(_) | Progress::Refused(_) | Progress::Probe { .. } => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Replaces the client's whole frames, from the front of `buffer` on, by those that answer them: a server's header is
/// shorter by the mask, so that they always fit.
pub fn echo_frames(buffer: &mut [u8]) -> Turn {
    let mut turn = Turn::default();
    while let Some(Frame { first, mask, header, payload }) = Frame::parse(&buffer[turn.consumed..]) {
        let (start, end) = (turn.consumed + header, turn.consumed + header + payload);
        if end > buffer.len() {
            turn.wanted = end - buffer.len();
            break;
        }
        unmask(&mut buffer[start..end], mask);
        let (mut header, used) = frame::header(OpCode::Text, payload);
        header[0] = match first & 0x0f {
            0x09 => first + 1,
            opcode => {
                turn.ended |= opcode == OpCode::Close as u8;
                first
            }
        };
        buffer[turn.answer..turn.answer + used].copy_from_slice(&header[..used]);
        buffer.copy_within(start..end, turn.answer + used);
        turn.answer += used + payload;
        turn.consumed = end;
    }
    turn
}

/// A client's frame, by its header.
struct Frame {
    /// FIN and opcode.
    first: u8,
    mask: [u8; 4],
    /// Bytes of the header.
    header: usize,
    /// Bytes of the payload.
    payload: usize,
}

impl Frame {
    /// `None`: the header is not all here. Nothing is checked: the generator is trusted.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (payload, header) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 8),
            127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 14),
            short => (usize::from(short), 6),
        };
        Some(Self { first, mask: *bytes.get(header - 4..)?.first_chunk()?, header, payload })
    }
}

/// Buffers of [`BUFFER_BYTES`] that clients borrow for a turn.
#[derive(Default)]
struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer.
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives a buffer back.
    fn give(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
