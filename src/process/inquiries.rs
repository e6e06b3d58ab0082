//! What is asked of a core's clients, on its way to the core: a short queue for each, which the core looks into once a tick.
//!
//! An answer takes a core one look at a bounded number of slots. It waits for nobody: whoever asks has gone, or hears it later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use evergate_proto::event_loop::{Answer, Inquiry};

/// Inquiries that wait for one core: as many as the admin page and the control socket have clients that ask at once, and some.
const WAITING_MAX: usize = 64;

/// One that waits, and the way back.
pub type Asked = (Inquiry, SyncSender<Answer>);

/// The queue of one core.
#[derive(Debug, Default)]
pub struct Inquiries {
    /// Something is queued: what a core looks at, so that it takes no lock where nothing is.
    has_some: AtomicBool,
    queue: Mutex<VecDeque<Asked>>,
}

impl Inquiries {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an inquiry; where its answer will come, or none where too many wait. Without the core it never comes.
    pub fn ask(&self, inquiry: Inquiry) -> Option<Receiver<Answer>> {
        let (sender, answer) = sync_channel(1);
        let mut queue = self.queue();
        if queue.len() >= WAITING_MAX {
            return None;
        }
        queue.push_back((inquiry, sender));
        self.has_some.store(true, SeqCst);
        Some(answer)
    }

    /// The one that has waited longest. The lock is held by others for as long as it takes to queue one.
    pub fn take(&self) -> Option<Asked> {
        if !self.has_some.load(SeqCst) {
            return None;
        }
        let mut queue = self.queue();
        let first = queue.pop_front();
        self.has_some.store(!queue.is_empty(), SeqCst);
        first
    }
}

#[cfg(test)]
mod tests {
    use evergate_proto::clients::dismissing::Dismissal;

    use super::*;

    fn dismiss(slot: u32) -> Inquiry {
        Inquiry::Dismiss { slot, generation: 0, now: false }
    }

    #[test]
    fn what_was_asked_first_is_answered_first_and_who_has_gone_hears_nothing() {
        let inquiries = Inquiries::default();
        assert!(inquiries.take().is_none());
        let (first, second) = (inquiries.ask(dismiss(1)).unwrap(), inquiries.ask(dismiss(2)).unwrap());
        drop(second);
        for slot in [1, 2] {
            let (inquiry, sender) = inquiries.take().unwrap();
            assert!(matches!(inquiry, Inquiry::Dismiss { slot: asked, .. } if asked == slot), "{inquiry:?}");
            let _ = sender.try_send(Answer::Dismissed(Dismissal::AtGap));
        }
        assert_eq!(first.recv(), Ok(Answer::Dismissed(Dismissal::AtGap)));
        assert!(inquiries.take().is_none());
    }

    #[test]
    fn a_core_that_answers_nobody_is_asked_no_more_than_so_often() {
        let inquiries = Inquiries::default();
        assert!((0..WAITING_MAX as u32).all(|slot| inquiries.ask(dismiss(slot)).is_some()));
        assert!(inquiries.ask(dismiss(0)).is_none());
        inquiries.take();
        assert!(inquiries.ask(dismiss(0)).is_some());
    }
}
