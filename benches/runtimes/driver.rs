//! The generator: clients with one message in flight each, every answer compared with what was sent.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evergate_demo::ring as monoio_ring;
use evergate_proto::websocket::frame::{self, OpCode};
use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRentExt};

use crate::server::{Server, cpu_ns};

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = 400;
const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Before the measured part.
const WARMUP: Duration = Duration::from_millis(500);

/// A message and its echo, as frames.
struct Exchange {
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Echoes per second.
    pub per_second: f64,
    /// The server's CPU for each, µs.
    pub cpu_us: f64,
    /// The share of its core that the server used.
    pub server_share: f64,
    /// The share of its core that this generator used.
    pub driver_share: f64,
}

impl Exchange {
    fn new() -> Self {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(MESSAGE_BYTES).collect();
        let (header, used) = frame::header(OpCode::Text, text.len());
        let answer = [&header[..used], &text].concat();
        let mut request = header[..used].to_vec();
        request[1] |= 0x80;
        request.extend_from_slice(&MASK);
        request.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Self { request, answer }
    }
}

/// Connects a client, shakes hands, and has one message echoed.
fn connect(server: &Server, exchange: &Exchange) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_nodelay(true)?;
    stream.write_all(HANDSHAKE)?;
    let mut answer = [0; 512];
    let mut filled = 0;
    while !answer[..filled].ends_with(b"\r\n\r\n") {
        match stream.read(&mut answer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => filled += bytes,
        }
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other("the server refused the handshake"));
    }
    stream.write_all(&exchange.request)?;
    let mut echo = vec![0; exchange.answer.len()];
    stream.read_exact(&mut echo)?;
    if echo == exchange.answer { Ok(stream) } else { Err(wrong()) }
}

fn wrong() -> io::Error {
    io::Error::other("an echo is not what was sent")
}

/// Keeps `clients` clients busy for `duration`.
pub fn load(server: &Server, clients: usize, duration: Duration) -> io::Result<Load> {
    let exchange = Rc::new(Exchange::new());
    let streams: Vec<_> = (0..clients).map(|_| connect(server, &exchange)).collect::<io::Result<_>>()?;
    let now = |echoes: &Cell<u64>| {
        Ok::<_, io::Error>((Instant::now(), echoes.get(), server.cpu_ns()?, cpu_ns(std::process::id())?))
    };
    monoio_ring::build()?.block_on(async {
        let echoes = Rc::new(Cell::new(0));
        let stop = Rc::new(Cell::new(false));
        let mut tasks = Vec::with_capacity(clients);
        for stream in streams {
            let stream = monoio::net::TcpStream::from_std(stream)?;
            tasks.push(monoio::spawn(client(stream, Rc::clone(&exchange), Rc::clone(&echoes), Rc::clone(&stop))));
        }
        monoio::time::sleep(WARMUP).await;
        let before = now(&echoes)?;
        monoio::time::sleep(duration).await;
        let after = now(&echoes)?;
        stop.set(true);
        for task in tasks {
            task.await?;
        }
        let ns = (after.0 - before.0).as_nanos() as f64;
        let (count, server_ns, driver_ns) = (after.1 - before.1, after.2 - before.2, after.3 - before.3);
        Ok(Load {
            per_second: count as f64 / ns * 1e9,
            cpu_us: server_ns as f64 / count as f64 / 1e3,
            server_share: server_ns as f64 / ns,
            driver_share: driver_ns as f64 / ns,
        })
    })
}

async fn client(
    mut stream: monoio::net::TcpStream,
    exchange: Rc<Exchange>,
    echoes: Rc<Cell<u64>>,
    stop: Rc<Cell<bool>>,
) -> io::Result<()> {
    let mut request = exchange.request.clone();
    let mut echo = Vec::with_capacity(2 * exchange.answer.len());
    while !stop.get() {
        let (sent, buffer) = stream.write_all(request).await;
        sent?;
        request = buffer;
        echo.clear();
        let (received, buffer) = stream.read(echo).await;
        echo = buffer;
        if received? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // An echo in pieces.
        if echo.len() < exchange.answer.len() {
            let (received, tail) = stream.read_exact(vec![0; exchange.answer.len() - echo.len()]).await;
            received?;
            echo.extend_from_slice(&tail);
        }
        if echo != exchange.answer {
            return Err(wrong());
        }
        echoes.set(echoes.get() + 1);
    }
    Ok(())
}

/// Bytes of user memory that the server needs for each of `clients` clients that are idle after one message.
pub fn idle_bytes(server: &Server, clients: usize) -> io::Result<f64> {
    let exchange = Exchange::new();
    // What the first connection makes once is not the connections'.
    drop(connect(server, &exchange)?);
    let before = server.rss_bytes()?;
    let streams: Vec<_> = (0..clients).map(|_| connect(server, &exchange)).collect::<io::Result<_>>()?;
    // The last echo was sent before it was received: nothing is under way.
    let after = server.rss_bytes()?;
    drop(streams);
    Ok(after.saturating_sub(before) as f64 / clients as f64)
}
