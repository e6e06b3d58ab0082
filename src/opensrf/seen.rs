//! The keys of one object, to notice a repeated one.

use std::borrow::Cow;
use std::collections::HashSet;

use super::scan::Text;

/// So many keys are compared one by one; a message of the browser client has ten at most.
const FEW: usize = 16;

/// Keys met so far in one object, unescaped.
pub(super) struct Seen<'a> {
    few: [&'a [u8]; FEW],
    count: usize,
    /// One bit for each key by its length and ends: a clear bit spares the comparison.
    marks: u64,
    /// Keys past the first [`FEW`], and those that had to be unescaped. Hashed with a secret, since a client chooses them.
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

impl<'a> Seen<'a> {
    pub fn new() -> Self {
        Self { few: [&[]; FEW], count: 0, marks: 0, many: None }
    }

    /// Notes a key; true when it was there before.
    pub fn repeats(&mut self, key: Text<'a>) -> bool {
        let key = key.key();
        let ends =
            key.first().map_or(0, |byte| usize::from(*byte) * 5) + key.last().map_or(0, |byte| usize::from(*byte));
        let mark = 1_u64 << ((ends + key.len() * 11) & 63);
        let known = self.marks & mark != 0
            && (self.few[..self.count].contains(&&*key) || self.many.as_ref().is_some_and(|many| many.contains(&key)));
        if known {
            return true;
        }
        self.marks |= mark;
        match key {
            Cow::Borrowed(key) if self.count < FEW => {
                self.few[self.count] = key;
                self.count += 1;
            }
            key => {
                self.many.get_or_insert_default().insert(key);
            }
        }
        false
    }
}
