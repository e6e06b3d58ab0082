//! What a core keeps for reuse, so that a request in a steady flow allocates nothing: buffers, books, and the strings that
//! recur. Every kind is bounded; what is beyond its bound goes back to the allocator.

use std::hash::BuildHasher as _;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use super::book::Open;

/// Buffers kept.
const BUFFERS_MAX: usize = 128;
/// The largest buffer kept, bytes: a chunk of frames, with some room.
const BUFFER_BYTES_MAX: usize = 20 * 1024;
/// The smallest buffer made, bytes: most messages fit.
const BUFFER_BYTES_MIN: usize = 1024;
/// Books kept.
const BOOKS_MAX: usize = 128;
/// Names known of one kind.
const NAMES_MAX: usize = 1024;

/// One per core.
#[derive(Debug, Default)]
pub struct Reuse {
    buffers: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "a client holds the box: taking one must not copy the book")]
    books: Vec<Box<Open>>,
    /// Methods, as the books name them.
    pub methods: Interned,
    /// Services and the `to` of messages for them.
    pub services: Interned,
    /// For the name of a conversation on the bus.
    pub bus_thread: String,
}

impl Reuse {
    /// An empty buffer with room for `bytes`.
    pub fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        if bytes > BUFFER_BYTES_MAX {
            return Vec::with_capacity(bytes);
        }
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.reserve(bytes.max(BUFFER_BYTES_MIN));
        buffer
    }

    /// Takes a buffer back.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        if (BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) && self.buffers.len() < BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// An empty book.
    pub(super) fn book(&mut self) -> Box<Open> {
        self.books.pop().unwrap_or_default()
    }

    /// How many books are kept, for the tests.
    #[cfg(test)]
    pub(super) fn books(&self) -> usize {
        self.books.len()
    }

    /// Takes a book back in which nothing is left.
    pub(super) fn give_book(&mut self, book: Box<Open>) {
        if self.books.len() < BOOKS_MAX && book.is_small() {
            self.books.push(book);
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
