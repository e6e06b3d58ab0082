//! Who has the page open: the streams of `/events`, each with one event at most that waits to be taken.
//!
//! An event that is not taken in time is left out for that page, and who takes none for so many in a row is cut off. So a page that
//! is not read costs the buffers of its connection, for some seconds.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;

use super::status::held;

/// Events in a row that may be left out, one a second.
const MISSED_MAX: u32 = 10;

/// Events that wait for a connection. What it was told first is one.
const WAITING_MAX: usize = 2;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Viewers(Mutex<Vec<Viewer>>);

/// One of them.
#[derive(Debug)]
struct Viewer {
    events: mpsc::Sender<Bytes>,
    /// Its connection.
    task: AbortHandle,
    missed: u32,
}

impl Viewers {
    /// Whether nobody looks.
    pub(super) fn is_empty(&self) -> bool {
        held(&self.0).is_empty()
    }

    /// One more, that is told `first`: its events. Its connection is attended to by `task`.
    pub(super) fn admit(&self, first: Bytes, task: AbortHandle) -> mpsc::Receiver<Bytes> {
        let (events, receiver) = mpsc::channel(WAITING_MAX);
        // There is room for it.
        let _ = events.try_send(first);
        held(&self.0).push(Viewer { events, task, missed: 0 });
        receiver
    }

    /// Tells everybody.
    pub(super) fn tell(&self, event: &Bytes) {
        held(&self.0).retain_mut(|viewer| match viewer.events.try_send(event.clone()) {
            Ok(()) => {
                viewer.missed = 0;
                true
            }
            Err(TrySendError::Full(_)) if viewer.missed < MISSED_MAX => {
                viewer.missed += 1;
                true
            }
            Err(TrySendError::Full(_)) => {
                viewer.task.abort();
                false
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    /// There are no more events: who has taken all sees the end.
    pub(super) fn end(&self) {
        held(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_take_what_it_is_told_is_cut_off_and_the_others_get_all() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let viewers = Viewers::default();
        let connection = || runtime.spawn(std::future::pending::<()>());
        let (lazy, keen) = (connection(), connection());
        let unread = viewers.admit(Bytes::from_static(b"first"), lazy.abort_handle());
        let mut read = viewers.admit(Bytes::from_static(b"first"), keen.abort_handle());
        assert_eq!(read.try_recv().expect("the first"), "first");
        for n in 0..=(MISSED_MAX as usize + WAITING_MAX) {
            assert!(!lazy.is_finished());
            viewers.tell(&Bytes::from(n.to_string()));
            assert_eq!(read.try_recv().expect("each"), n.to_string());
        }
        assert!(runtime.block_on(lazy).expect_err("it was ended").is_cancelled());
        assert!(!keen.is_finished() && unread.len() == WAITING_MAX);
        viewers.end();
        assert!(viewers.is_empty() && read.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn who_has_closed_the_page_is_forgotten_with_the_next_event() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let viewers = Viewers::default();
        let task = runtime.spawn(std::future::pending::<()>());
        drop(viewers.admit(Bytes::new(), task.abort_handle()));
        assert!(!viewers.is_empty());
        viewers.tell(&Bytes::new());
        assert!(viewers.is_empty());
    }
}
