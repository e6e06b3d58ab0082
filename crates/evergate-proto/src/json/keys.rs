//! The keys of one object, to notice a repeated one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::scan::Key;

/// So many keys are compared one by one; a message of the browser client has ten at most.
pub(crate) const FEW: usize = 16;

/// Keys met so far in one object, unescaped.
pub(crate) struct Keys<'a> {
    few: SmallVec<[&'a [u8]; FEW]>,
    /// One bit for each key by its length and ends: a clear bit spares the comparison.
    marks: u64,
    /// Keys past the first [`FEW`], and those that had to be unescaped.
    many: Option<Box<Many>>,
}

/// Many keys, in two pieces of memory however many they are. Hashed with a secret, since a client chooses them.
#[derive(Default)]
struct Many {
    /// All of them, one behind the other.
    names: Vec<u8>,
    /// Where each begins and ends.
    places: HashTable<(usize, usize)>,
    secret: RandomState,
}

impl Many {
    fn contains(&self, name: &[u8]) -> bool {
        let is = |&(start, end): &(usize, usize)| self.names.get(start..end) == Some(name);
        self.places.find(self.secret.hash_one(name), is).is_some()
    }

    fn insert(&mut self, name: &[u8]) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        let hash = |&(start, end): &(usize, usize)| self.secret.hash_one(&self.names[start..end]);
        self.places.insert_unique(self.secret.hash_one(name), (start, self.names.len()), hash);
    }
}

/// What a key is to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Noted {
    /// It is the first of its name.
    New,
    /// It was there before.
    Repeated,
    /// The object has had as many keys as are looked at: nothing is known of this one.
    TooMany,
}

impl<'a> Keys<'a> {
    pub fn new() -> Self {
        Self { few: SmallVec::new(), marks: 0, many: None }
    }

    /// Keys past the first [`FEW`].
    #[inline]
    pub fn beyond_few(&self) -> usize {
        self.many.as_ref().map_or(0, |many| many.places.len())
    }

    /// Notes a key, if that is so easily seen to be new as nearly always.
    #[inline]
    pub fn is_clearly_new(&mut self, key: Key<'a>, name: &[u8]) -> bool {
        let ends = match name {
            [first, .., last] => usize::from(*first) * 5 + usize::from(*last),
            _ => 0,
        };
        let mark = 1_u64 << ((ends + name.len() * 11) & 63);
        if self.marks & mark == 0 && !key.escaped && self.few.len() < FEW {
            self.few.push(key.raw);
            self.marks |= mark;
            return true;
        }
        self.marks |= mark;
        false
    }

    /// Notes any other key and its unescaped name; past the first [`FEW`] no more than `most`.
    pub fn note(&mut self, key: Key<'a>, name: &[u8], most: usize) -> Noted {
        if self.few.contains(&name) || self.many.as_ref().is_some_and(|many| many.contains(name)) {
            return Noted::Repeated;
        }
        if !key.escaped && self.few.len() < FEW {
            self.few.push(key.raw);
        } else if self.beyond_few() < most {
            self.many.get_or_insert_default().insert(name);
        } else {
            return Noted::TooMany;
        }
        Noted::New
    }
}
