//! A bound on what waits for a stream.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use super::stream::Stream;

/// Awaits work on `stream`, so long at most: see [`until`].
pub async fn within<T>(time: Duration, stream: &Stream, work: impl Future<Output = T>) -> Option<T> {
    until(sleep(time), stream, work).await
}

/// Awaits work on `stream` to its end. At the `limit` the stream is shut down, so that every read and write of it ends, and
/// what comes of them is nobody's: `None`.
///
/// The kernel owns the buffer of an operation until its completion, whoever has lost interest. Work that is dropped half
/// done would leave that to tokio-uring, which frees such buffers too early where the runtime is dropped meanwhile.
pub async fn until<T>(limit: impl Future<Output = ()>, stream: &Stream, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        () = limit => {}
    }
    // It fails where the server has ended the connection: then nothing waits for it any more.
    let _ = stream.shutdown();
    work.await;
    None
}
