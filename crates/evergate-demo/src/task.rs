//! A task that ends with whoever holds it. monoio's own go on when their handle is dropped, and what they have in
//! flight on the ring keeps them alive even when the runtime is gone.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{AbortHandle, Aborted, abortable};
use monoio::task::JoinHandle;

/// Runs beside the task that spawned it. Dropping this ends it, at its next turn.
pub(super) struct Task {
    abort: AbortHandle,
    joined: JoinHandle<Result<(), Aborted>>,
}

impl Task {
    /// Starts a task on the runtime of this thread.
    pub(super) fn spawn(future: impl Future<Output = ()> + 'static) -> Self {
        let (future, abort) = abortable(future);
        Self { abort, joined: monoio::spawn(future) }
    }

    /// Ends it and returns when all that it held has been dropped.
    pub(super) async fn end(mut self) {
        self.abort.abort();
        (&mut self).await;
    }
}

/// Waits until the task ends by itself.
impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.joined).poll(cx).map(|_ended| ())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Task").field("abort", &self.abort).finish_non_exhaustive()
    }
}
