//! The listening socket's share of the port.

use std::collections::VecDeque;

use evergate_proto::websocket::proxy_header::Opening;

/// Connections that are established and not accepted.
pub struct Listener {
    /// What its connections begin with.
    pub opening: Opening,
    /// Another process has it, too, and goes on with it.
    pub is_left: bool,
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
    /// One at which nobody has come.
    pub fn new(opening: Opening) -> Self {
        Self {
            opening,
            is_left: false,
            queue: VecDeque::new(),
            is_over: false,
            is_closed: false,
            refuses_new: false,
            reset: Vec::new(),
            dropped: 0,
            left: Vec::new(),
        }
    }

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
