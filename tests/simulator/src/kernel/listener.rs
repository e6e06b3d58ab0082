//! The listening socket's share of the port.

use std::collections::VecDeque;

/// Connections that are established and not accepted.
#[derive(Default)]
pub struct Listener {
    /// The first is accepted first.
    pub queue: VecDeque<usize>,
    /// It does not listen any more.
    pub is_over: bool,
    /// Its descriptor was given back.
    pub is_closed: bool,
    /// Handshakes that begin now are dropped.
    pub refuses_new: bool,
    /// Connections that were reset instead of accepted.
    pub reset: Vec<usize>,
    /// How many of them were queued when it ended.
    pub dropped: usize,
    /// Who was queued when it was left to a successor.
    pub left: Vec<usize>,
}

impl Listener {
    /// Whether a client that connects is established.
    pub fn takes(&self) -> bool {
        !self.is_over && !self.refuses_new
    }

    /// It is another's alone: whoever is queued is, too.
    pub fn leave(&mut self) {
        self.is_over = true;
        self.left.extend(self.queue.drain(..));
    }

    /// It listens no more: whoever is queued is reset.
    pub fn end(&mut self) {
        self.is_over = true;
        self.reset.extend(self.queue.drain(..));
    }
}
