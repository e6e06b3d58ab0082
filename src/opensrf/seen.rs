//! The keys of one object, to notice a repeated one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::scan::Key;

/// So many keys are compared one by one; a message of the browser client has ten at most.
const FEW: usize = 16;

/// Keys met so far in one object, unescaped.
pub(super) struct Seen<'a> {
    few: SmallVec<[&'a [u8]; FEW]>,
    /// One bit for each key by its length and ends: a clear bit spares the comparison.
    marks: u64,
    /// Keys past the first [`FEW`], and those that had to be unescaped.
    many: Option<Box<Many>>,
    count: usize,
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

impl<'a> Seen<'a> {
    pub fn new() -> Self {
        Self { few: SmallVec::new(), marks: 0, many: None, count: 0 }
    }

    /// Keys noted, the repeated ones among them.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Notes a key and its unescaped name; true when it was there before.
    #[inline]
    pub fn repeats(&mut self, key: Key<'a>, name: &[u8]) -> bool {
        self.count += 1;
        let ends = match name {
            [first, .., last] => usize::from(*first) * 5 + usize::from(*last),
            _ => 0,
        };
        let mark = 1_u64 << ((ends + name.len() * 11) & 63);
        if self.marks & mark == 0 && !key.escaped && self.few.len() < FEW {
            self.few.push(key.raw);
            self.marks |= mark;
            return false;
        }
        self.marks |= mark;
        self.compare(key, name)
    }

    #[inline(never)]
    fn compare(&mut self, key: Key<'a>, name: &[u8]) -> bool {
        if self.few.contains(&name) || self.many.as_ref().is_some_and(|many| many.contains(name)) {
            return true;
        }
        if !key.escaped && self.few.len() < FEW {
            self.few.push(key.raw);
        } else {
            self.many.get_or_insert_default().insert(name);
        }
        false
    }
}
