//! A bare server that answers every message with a frame of a given size: what a large reply costs where nothing is relayed.

use std::io;

use evergate_demo::ring as monoio_ring;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};

/// What every handshake is answered with: the benchmark's own client does not look at it.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Room for a message: it arrives in one read.
const READ_BYTES: usize = 4096;

/// Sends `bytes` for every message on any connection, for ever.
pub fn serve(listener: std::net::TcpListener, bytes: usize) -> io::Result<()> {
    monoio_ring::build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A client that breaks off is its own affair.
            monoio::spawn(async move { answer(stream, bytes).await.ok() });
        }
    })
}

async fn answer(mut stream: TcpStream, bytes: usize) -> io::Result<()> {
    let mut request = Vec::with_capacity(READ_BYTES);
    let mut handshake = Vec::new();
    // What is left of a handshake that came in pieces would pass for a message, and its answer for part of the handshake's.
    while !handshake.ends_with(b"\r\n\r\n") {
        request = receive(&mut stream, request).await?;
        handshake.extend_from_slice(&request);
    }
    stream.write_all(ANSWER).await.0?;
    let mut frame = vec![0x81, 127];
    frame.extend_from_slice(&(bytes as u64).to_be_bytes());
    frame.resize(frame.len() + bytes, b'x');
    loop {
        request = receive(&mut stream, request).await?;
        let (result, sent) = stream.write_all(frame).await;
        result?;
        frame = sent;
    }
}

/// Waits for a message.
async fn receive(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let (result, buffer) = stream.read(buffer).await;
    match result? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(buffer),
    }
}
