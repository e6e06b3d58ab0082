//! The echo as most would write it: tokio on one thread, fastwebsockets on its streams.

use std::io;
use std::net::TcpListener;

use fastwebsockets::{Frame, OpCode, Role, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::echo::shake_hands;

/// Serves `listener` on the calling thread, for ever.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let _ = echo(stream).await;
            });
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut header = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut header).await? == 0 {
            return Ok(());
        }
        let turn = shake_hands(&mut header)?;
        if turn.answer > 0 {
            stream.write_all(&header[..turn.answer]).await?;
            break;
        }
    }
    drop(header);
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    loop {
        let frame = socket.read_frame().await.map_err(io::Error::other)?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                // The frame as it came still has its mask, which a server must not send.
                let answer = Frame::new(frame.fin, frame.opcode, None, frame.payload);
                socket.write_frame(answer).await.map_err(io::Error::other)?;
            }
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}
