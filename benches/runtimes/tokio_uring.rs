//! The echo on tokio-uring. It has no readiness for sockets, so that a connection that waits owns its buffer; and its
//! ring is woken through epoll, which rules `DEFER_TASKRUN` out.

use std::io;
use std::net::TcpListener;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::echo::{echo_frames, shake_hands};

/// Entries of the submission queue, as on the gateway's ring.
const ENTRIES: u32 = 4096;
/// Bytes of a connection's buffer; it grows with the longest frame.
const BUFFER_BYTES: usize = 2048;

/// Serves `listener` on the calling thread, for ever.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun();
    tokio_uring::builder().entries(ENTRIES).uring_builder(&ring).start(async {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(async move {
                let _ = echo(stream).await;
            });
        }
    })
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut open = false;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let filled = buffer.len();
        let (result, slice) = stream.read(buffer.slice(filled..)).await;
        buffer = slice.into_inner();
        if result? == 0 {
            return Ok(());
        }
        let turn = if open { echo_frames(&mut buffer) } else { shake_hands(&mut buffer)? };
        // Rarely more than nothing: a generator sends whole frames.
        let rest = buffer[turn.consumed..].to_vec();
        if turn.answer > 0 {
            open = true;
            let (result, slice) = stream.write_all(buffer.slice(..turn.answer)).await;
            result?;
            buffer = slice.into_inner();
        }
        if turn.ended {
            return Ok(());
        }
        buffer.clear();
        buffer.extend_from_slice(&rest);
        buffer.reserve(turn.wanted.max(BUFFER_BYTES - buffer.len().min(BUFFER_BYTES)));
    }
}
