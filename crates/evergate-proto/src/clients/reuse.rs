//! What a core keeps for reuse, so that a request in a steady flow allocates nothing: buffers, books, and the strings that
//! recur. Every kind is bounded; what is beyond its bound goes back to the allocator, and what a tick had no use for, bit by bit.

use std::hash::BuildHasher as _;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use super::book::Open;

/// Buffers, or books, that are kept at most: what a turn of a busy core takes and gives back.
const KEPT_MAX: usize = 1024;
/// So many are kept by a core that is at rest, too.
const KEPT_AT_REST: usize = 16;
/// The largest buffer kept, bytes: a chunk of frames, with some room.
const BUFFER_BYTES_MAX: usize = 20 * 1024;
/// The smallest buffer made, bytes: most messages fit.
const BUFFER_BYTES_MIN: usize = 1024;
/// Names known of one kind.
const NAMES_MAX: usize = 1024;

/// One per core.
#[derive(Debug, Default)]
pub struct Reuse {
    buffers: Kept<Vec<u8>>,
    books: Kept<Box<Open>>,
    /// Methods, as the books name them.
    pub methods: Interned,
    /// Services and the `to` of messages for them.
    pub services: Interned,
    /// For the name of a conversation on the bus.
    pub bus_thread: String,
}

/// Things of one kind that are kept.
#[derive(Debug)]
struct Kept<T> {
    all: Vec<T>,
    /// The fewest that there were since the last tick: nobody had use for these.
    unused: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { all: Vec::new(), unused: 0 }
    }
}

impl<T> Kept<T> {
    fn take(&mut self) -> Option<T> {
        let taken = self.all.pop();
        self.unused = self.unused.min(self.all.len());
        taken
    }

    fn give(&mut self, kept: T) {
        if self.all.len() < KEPT_MAX {
            self.all.push(kept);
        }
    }

    /// Half of those that were not used since the last call go.
    fn tick(&mut self) {
        let spare = self.unused.min(self.all.len().saturating_sub(KEPT_AT_REST));
        self.all.truncate(self.all.len() - spare.div_ceil(2));
        self.unused = self.all.len();
    }
}

impl Reuse {
    /// A tick has passed.
    pub(super) fn tick(&mut self) {
        self.buffers.tick();
        self.books.tick();
    }

    /// An empty buffer with room for `bytes`.
    pub fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        if bytes > BUFFER_BYTES_MAX {
            return Vec::with_capacity(bytes);
        }
        let mut buffer = self.buffers.take().unwrap_or_default();
        buffer.reserve(bytes.max(BUFFER_BYTES_MIN));
        buffer
    }

    /// Takes a buffer back.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        if (BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.buffers.give(buffer);
        }
    }

    /// An empty book.
    pub(super) fn book(&mut self) -> Box<Open> {
        self.books.take().unwrap_or_default()
    }

    /// How many books are kept, for the tests.
    #[cfg(test)]
    pub(super) fn books(&self) -> usize {
        self.books.all.len()
    }

    /// Takes a book back in which nothing is left.
    pub(super) fn give_book(&mut self, book: Box<Open>) {
        if book.is_small() {
            self.books.give(book);
        }
    }
}

/// Strings that recur, each held once. Each has one place, which the last that fell there has: clients choose the names, and
/// could make all of them fall together in a table that keeps them all.
#[derive(Debug, Default)]
pub struct Interned(Vec<Option<(Box<str>, Rc<str>)>>);

impl Interned {
    /// What `make` makes of `name`, or once made.
    pub fn get(&mut self, name: &str, make: impl FnOnce(&str) -> Rc<str>) -> Rc<str> {
        if self.0.is_empty() {
            self.0.resize(NAMES_MAX, None);
        }
        let place = &mut self.0[FxBuildHasher.hash_one(name) as usize % NAMES_MAX];
        if let Some((known, made)) = place
            && **known == *name
        {
            return Rc::clone(made);
        }
        let new = make(name);
        *place = Some((name.into(), Rc::clone(&new)));
        new
    }
}
