//! A table by name, of what one client names: its places stay where they are until it is packed.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use smallvec::SmallVec;

use super::conversation::Text;

/// Names up to here are compared one by one: most clients have one or two. The simulator's never have many.
const COMPARED_MAX: usize = if cfg!(feature = "simulator") { 2 } else { 8 };
/// A table of more places is packed, when it may be, if most of them are empty.
const UNPACKED_MAX: usize = if cfg!(feature = "simulator") { 2 } else { 64 };

/// Where something stands in the table.
pub(super) type At = u32;

/// What is kept, by name.
#[derive(Debug)]
pub(super) struct ByName<T> {
    places: SmallVec<[Option<(Text, T)>; 1]>,
    /// Empty places.
    free: Vec<At>,
    /// Where each name stands; `None` while there are few. Its hash is keyed at random: a client chooses the names, and could
    /// make all of them fall together.
    index: Option<HashMap<Text, At>>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { places: SmallVec::new(), free: Vec::new(), index: None }
    }
}

impl<T: Default> ByName<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Where `name` stands.
    pub(super) fn find(&self, name: &[u8]) -> Option<At> {
        if let Some(index) = &self.index {
            return index.get(name).copied();
        }
        let is = |place: &Option<(Text, T)>| place.as_ref().is_some_and(|(of, _)| **of == *name);
        self.places.iter().position(is).map(|at| at as At)
    }

    /// Where `name` stands, from now on if it did not.
    pub(super) fn find_or_add(&mut self, name: &[u8]) -> At {
        if let Some(at) = self.find(name) {
            return at;
        }
        let entry = Some((Text::from_slice(name), T::default()));
        let at = if let Some(at) = self.free.pop() {
            self.places[at as usize] = entry;
            at
        } else {
            self.places.push(entry);
            (self.places.len() - 1) as At
        };
        if let Some(index) = &mut self.index {
            index.insert(Text::from_slice(name), at);
        } else if self.len() > COMPARED_MAX {
            let named = self.places.iter().enumerate();
            let index = named.filter_map(|(at, place)| place.as_ref().map(|(name, _)| (name.clone(), at as At)));
            self.index = Some(index.collect());
        }
        at
    }

    /// Takes out what stands at `at`.
    pub(super) fn remove(&mut self, at: At) {
        let Some((name, _)) = self.places[at as usize].take() else { return };
        self.free.push(at);
        if let Some(index) = &mut self.index {
            index.remove(&name);
        }
        if self.is_empty() {
            self.pack();
        }
    }

    /// Gives memory back that only a crowd needs. What is in the table may stand elsewhere then.
    pub(super) fn pack(&mut self) {
        // Not before as many were removed as are left: each removal pays for a constant part of it.
        if self.is_empty() || (self.places.len() > UNPACKED_MAX && self.free.len() > self.len()) {
            let places = std::mem::take(&mut self.places);
            *self = Self::default();
            for (name, what) in places.into_iter().flatten() {
                let at = self.find_or_add(&name);
                self[at] = what;
            }
        }
    }

    /// Places, used or not.
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// Everything, in no order.
    #[cfg(any(test, feature = "simulator"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, what)| what)
    }
}

impl<T> Index<At> for ByName<T> {
    type Output = T;

    fn index(&self, at: At) -> &T {
        &self.places[at as usize].as_ref().expect("a place that was found").1
    }
}

impl<T> IndexMut<At> for ByName<T> {
    fn index_mut(&mut self, at: At) -> &mut T {
        &mut self.places[at as usize].as_mut().expect("a place that was found").1
    }
}
