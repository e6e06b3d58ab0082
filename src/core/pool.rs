//! Receive buffers that the clients of a core borrow for a turn: an idle connection owns none.

use std::cell::RefCell;

/// Bytes of a receive buffer: what one client may have handled in one turn.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers kept for the next turn; more are given back to the allocator.
const KEPT_MAX: usize = 64;

/// Buffers of [`BUFFER_BYTES`].
#[derive(Debug, Default)]
pub struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
