//! The conversations of one client, in the order of their numbers.

use smallvec::SmallVec;

use super::conversation::Conversation;

/// The conversations of one client.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    /// In the order of their numbers. One that is over leaves its place empty, until more are empty than not: to close the gap
    /// each time would move all that are younger.
    places: SmallVec<[Conversation; 1]>,
    /// Empty places.
    empty: usize,
}

impl Conversations {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.empty
    }

    /// In the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conversation> {
        self.places.iter().filter(|conversation| !conversation.forgotten)
    }

    /// In the order of their numbers, for what changes no count.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conversation> {
        self.places.iter_mut().filter(|conversation| !conversation.forgotten)
    }

    /// A younger one than all others.
    pub(super) fn push(&mut self, conversation: Conversation) {
        self.places.push(conversation);
    }

    /// Conversation `n` and where it stands.
    pub(super) fn find(&self, n: u64) -> Option<(usize, &Conversation)> {
        let at = self.places.binary_search_by_key(&n, |conversation| conversation.n).ok()?;
        Some((at, &self.places[at])).filter(|(_, conversation)| !conversation.forgotten)
    }

    /// The one at `at`, where it was found.
    pub(super) fn at(&mut self, at: usize) -> &mut Conversation {
        &mut self.places[at]
    }

    /// The one at `at` is over.
    pub(super) fn forget(&mut self, at: usize) {
        if at + 1 == self.places.len() {
            self.places.pop();
        } else {
            self.places[at].forget();
            self.empty += 1;
        }
        if self.empty > self.len() {
            self.places.retain(|conversation| !conversation.forgotten);
            self.empty = 0;
        }
    }

    /// Places, used or not.
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }
}
