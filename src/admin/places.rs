//! How many connections there are at a time, and who makes room.
//!
//! A newcomer always gets a place, since it may be the probe by which a balancer judges the node. Where there is none, whoever
//! has come least far for longest loses its own: first who has sent nothing, then who has not sent a whole request, at last
//! who takes its answer slowly. So nobody who keeps places can lock a probe out, or have it wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;

use super::status::held;

/// How far a connection has come. The order is that in which they lose their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has sent nothing.
    Silent,
    /// Its request has begun.
    Asking,
    /// Its request is here whole.
    Answering,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

/// Who holds a place. The keys count up, so that a lower one has come earlier.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, (Stage, AbortHandle)>,
}

/// One place; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    key: u64,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), taken: Mutex::default() }
    }

    /// Gives a place to the task that `start` starts with it.
    pub(super) fn give(self: &Arc<Self>, start: impl FnOnce(Place) -> AbortHandle) {
        let key = {
            let mut taken = held(&self.taken);
            while taken.by.len() >= self.most {
                let last = taken.by.iter().min_by_key(|(key, (stage, _))| (*stage, **key)).map(|(key, _)| *key);
                // Its socket is closed when the task is dropped, which is before the next is accepted.
                if let Some((_, task)) = last.and_then(|key| taken.by.remove(&key)) {
                    task.abort();
                }
            }
            taken.next += 1;
            taken.next
        };
        let task = start(Place { key, places: Arc::clone(self) });
        // On the one thread of the page the task has not run yet.
        held(&self.taken).by.insert(key, (Stage::Silent, task));
    }
}

impl Place {
    /// Its connection has come further.
    pub(super) fn reached(&self, stage: Stage) {
        if let Some((reached, _)) = held(&self.places.taken).by.get_mut(&self.key) {
            *reached = stage;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        held(&self.places.taken).by.remove(&self.key);
    }
}
