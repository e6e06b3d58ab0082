//! How many connections there are at a time, and who makes room.
//!
//! A newcomer always gets a place, since it may be the probe by which a balancer judges the node. Where there is none, somebody
//! loses its own: of the address that holds most places, the newcomer's counted, and of its connections the one that has come least
//! far for longest. So an address that holds as much as any other makes room for itself, and none that comes again and again, as a
//! page does that has lost its place, takes turns with another.
//!
//! First who has sent nothing, then who has not sent a whole request, at last who takes its answer slowly; but of a kind that is
//! few nobody goes, for they may have come this instant. So nobody who keeps places can lock a probe out, or have it wait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use evergate_proto::websocket::net::site;
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

impl Stage {
    const ALL: [Self; 3] = [Self::Silent, Self::Asking, Self::Answering];
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
    /// Connections that had to make room.
    dropped: AtomicU64,
}

/// Who holds a place. The keys count up, so that a lower one has come earlier.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Holder>,
}

/// Who holds one place.
#[derive(Debug)]
struct Holder {
    stage: Stage,
    /// The peer's address, or its network.
    from: IpAddr,
    task: AbortHandle,
}

/// One place; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    key: u64,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), taken: Mutex::default(), dropped: AtomicU64::new(0) }
    }

    /// Connections that had to make room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Places that one address may hold: a quarter is always for the others.
    fn most_of_one(&self) -> usize {
        self.most - self.most / 4
    }

    /// Gives a place to the task that `start` starts with it, for a connection from `peer`.
    pub(super) fn give(self: &Arc<Self>, peer: IpAddr, start: impl FnOnce(Place) -> AbortHandle) {
        let from = site(peer);
        let key = self.make_room(from);
        let task = start(Place { key, places: Arc::clone(self) });
        // On the one thread of the page the task has not run yet.
        held(&self.taken).by.insert(key, Holder { stage: Stage::Silent, from, task });
    }

    /// Whoever must goes, so that there is a place for one from `from`: its key.
    fn make_room(&self, from: IpAddr) -> u64 {
        let mut taken = held(&self.taken);
        while let Some(key) = self.must_go(&taken, from) {
            // Its socket is closed when the task is dropped, which is before the next is accepted.
            if let Some(holder) = taken.by.remove(&key) {
                holder.task.abort();
            }
            self.dropped.fetch_add(1, Relaxed);
        }
        taken.next += 1;
        taken.next
    }

    /// Whether nobody holds one.
    pub(super) fn is_empty(&self) -> bool {
        held(&self.taken).by.is_empty()
    }

    /// Who must go before one more from `from` can come.
    fn must_go(&self, taken: &Taken, from: IpAddr) -> Option<u64> {
        let of = |addresses: &dyn Fn(IpAddr) -> bool| {
            let holders = taken.by.iter().filter(|(_, holder)| addresses(holder.from));
            least_far(&holders.map(|(key, holder)| (*key, holder.stage)).collect::<Vec<_>>())
        };
        let own = taken.by.values().filter(|holder| holder.from == from).count();
        if own >= self.most_of_one() {
            return of(&|address| address == from);
        }
        if taken.by.len() < self.most {
            return None;
        }
        let mut held_by: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for holder in taken.by.values() {
            *held_by.entry(holder.from).or_default() += 1;
        }
        let most = held_by.values().max().copied().unwrap_or_default();
        if own > 0 && own + 1 >= most {
            return of(&|address| address == from);
        }
        of(&|address| held_by.get(&address) == Some(&most))
    }
}

/// Of these, in the order in which they came: the first of the first stage that more than a quarter of them are at.
fn least_far(holders: &[(u64, Stage)]) -> Option<u64> {
    Stage::ALL.into_iter().find_map(|stage| {
        let mut at = holders.iter().filter(|(_, reached)| *reached == stage);
        let first = at.next()?.0;
        ((1 + at.count()) * 4 > holders.len()).then_some(first)
    })
}

impl Place {
    /// Its connection has come further.
    pub(super) fn reached(&self, stage: Stage) {
        if let Some(holder) = held(&self.places.taken).by.get_mut(&self.key) {
            holder.stage = stage;
        }
    }

    /// Whether it is one of these.
    pub(super) fn is_of(&self, places: &Arc<Places>) -> bool {
        Arc::ptr_eq(&self.places, places)
    }

    /// Its connection holds one of `others` instead, which are for those that last. The task of the connection, or none where it has lost
    /// its place already.
    pub(super) fn change_to(&mut self, others: &Arc<Places>) -> Option<AbortHandle> {
        let holder = held(&self.places.taken).by.remove(&self.key)?;
        let task = holder.task.clone();
        self.key = others.make_room(holder.from);
        held(&others.taken).by.insert(self.key, holder);
        self.places = Arc::clone(others);
        Some(task)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        held(&self.places.taken).by.remove(&self.key);
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
