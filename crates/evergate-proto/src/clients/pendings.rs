//! What is pending in one conversation, oldest first.

use std::collections::BTreeSet;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::opensrf::envelope::{Kind, Trace};

/// How many are compared one by one before they are looked up: replies come in the order of the requests, as a rule.
/// The simulator's envelopes are small.
const COMPARED_MAX: usize = if cfg!(feature = "simulator") { 1 } else { 16 };

/// One REQUEST or CONNECT whose end has not come.
#[derive(Debug)]
pub struct Pending {
    /// The client's threadTrace. Clients do reuse them: the oldest of equal ones ends first.
    pub trace: Trace,
    /// REQUEST or CONNECT.
    pub kind: Kind,
    /// When it was relayed, ms.
    pub since_ms: u64,
    /// Which envelope of the conversation carried it.
    pub push: u32,
    /// The method, for the drain log; empty for a CONNECT.
    pub method: Rc<str>,
    /// The link that pops broke while this was pending, and nothing has come since: when it is given up, ms;
    /// `u64::MAX` until the link is back. 0 = no such doubt.
    pub lost_at_ms: u64,
}

/// A threadTrace, whether it is a CONNECT's, and where it stands.
type Key = (i64, bool, usize);

/// What is pending in one conversation.
#[derive(Debug, Default)]
pub struct Pendings {
    /// In the order in which they were relayed; `None` where one has ended.
    places: SmallVec<[Option<Pending>; 1]>,
    /// Before this one all have ended.
    first: u32,
    /// How many are pending.
    len: u32,
    /// CONNECTs among them.
    connects: u32,
    /// Those in doubt among them, at most.
    doubtful: u32,
    /// All of them by threadTrace, once one was not found among the first.
    index: Option<BTreeSet<Key>>,
}

fn key(at: usize, pending: &Pending) -> Key {
    (pending.trace.value, pending.kind == Kind::Connect, at)
}

impl Pendings {
    /// How many are pending.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True when nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// CONNECTs among them.
    pub fn connects(&self) -> usize {
        self.connects as usize
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.places[self.first as usize..].iter().flatten()
    }

    /// Enters one that was relayed now.
    pub fn push(&mut self, pending: Pending) {
        if let Some(index) = &mut self.index {
            index.insert(key(self.places.len(), &pending));
        }
        self.len += 1;
        self.connects += u32::from(pending.kind == Kind::Connect);
        self.doubtful += u32::from(pending.lost_at_ms > 0);
        self.places.push(Some(pending));
    }

    /// Takes out the oldest of `trace`; with `connect`, the oldest CONNECT.
    pub fn take(&mut self, trace: i64, connect: bool) -> Option<Pending> {
        let at = self.find(trace, connect)?;
        self.remove(at)
    }

    fn find(&mut self, trace: i64, connect: bool) -> Option<usize> {
        let is = |pending: &Pending| pending.trace.value == trace && (!connect || pending.kind == Kind::Connect);
        let first = self.first as usize;
        let compared = &self.places[first..self.places.len().min(first + COMPARED_MAX)];
        let near = compared.iter().position(|place| place.as_ref().is_some_and(is)).map(|at| first + at);
        if near.is_some() || first + compared.len() == self.places.len() {
            return near;
        }
        let index = self.index();
        let oldest = |connect| {
            let of_trace = index.range((trace, connect, 0)..=(trace, connect, usize::MAX));
            of_trace.map(|(.., at)| *at).next()
        };
        let connects = oldest(true);
        if connect { connects } else { oldest(false).into_iter().chain(connects).min() }
    }

    fn index(&mut self) -> &BTreeSet<Key> {
        let places = &self.places;
        self.index.get_or_insert_with(|| {
            let pending = places.iter().enumerate();
            pending.filter_map(|(at, place)| place.as_ref().map(|pending| key(at, pending))).collect()
        })
    }

    fn remove(&mut self, at: usize) -> Option<Pending> {
        let ended = self.places[at].take()?;
        if let Some(index) = &mut self.index {
            index.remove(&key(at, &ended));
        }
        self.len -= 1;
        self.connects -= u32::from(ended.kind == Kind::Connect);
        self.doubtful -= u32::from(ended.lost_at_ms > 0);
        if self.len == 0 {
            self.places.clear();
            self.first = 0;
            self.index = None;
        } else {
            let ended = self.places[self.first as usize..].iter().take_while(|place| place.is_none()).count();
            self.first += ended as u32;
        }
        Some(ended)
    }

    /// Takes out all that `ends` picks, oldest first.
    pub fn take_where(&mut self, mut ends: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let mut ended = Vec::new();
        for at in self.first as usize..self.places.len() {
            if self.places.get(at).is_some_and(|place| place.as_ref().is_some_and(&mut ends)) {
                ended.extend(self.remove(at));
            }
        }
        ended
    }

    /// Something has come of `trace`: what is pending of it is in no doubt.
    pub fn heard_of(&mut self, trace: i64) {
        if self.doubtful == 0 {
            return;
        }
        if self.places.len() - (self.first as usize) <= COMPARED_MAX {
            for pending in self.places.iter_mut().flatten().filter(|pending| pending.trace.value == trace) {
                self.doubtful -= u32::from(std::mem::take(&mut pending.lost_at_ms) > 0);
            }
            return;
        }
        let of_trace = self.index().range((trace, false, 0)..=(trace, true, usize::MAX));
        let places: SmallVec<[usize; 4]> = of_trace.map(|(.., at)| *at).collect();
        for at in places {
            if let Some(pending) = &mut self.places[at] {
                self.doubtful -= u32::from(std::mem::take(&mut pending.lost_at_ms) > 0);
            }
        }
    }

    /// What had been popped for a link that broke is lost, perhaps a reply to one of these.
    pub fn doubt(&mut self) {
        self.places.iter_mut().flatten().for_each(|pending| pending.lost_at_ms = u64::MAX);
        self.doubtful = self.len;
    }

    /// The link is back: what is in doubt since it broke is given up at `give_up_ms`. Says whether anything is.
    pub fn doubt_until(&mut self, give_up_ms: u64) -> bool {
        let since_it_broke = self.places.iter_mut().flatten().filter(|pending| pending.lost_at_ms == u64::MAX);
        since_it_broke.map(|pending| pending.lost_at_ms = give_up_ms).count() > 0
    }
}
