//! One connection, as the two kernels have it.

use std::collections::VecDeque;
use std::net::IpAddr;

use evergate_proto::ring::{Errno, Socket};

/// What is at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Far {
    Client,
    /// The Redis of a domain.
    Redis(usize),
}

/// A connection. `in`: towards the core.
pub struct Connection {
    pub far: Far,
    pub address: IpAddr,
    /// The core's descriptor, while it has one.
    pub socket: Option<Socket>,
    /// The core has had a descriptor and closed it.
    pub is_closed: bool,
    /// Both ends know of it.
    pub is_connected: bool,
    /// Come, and not received.
    pub inbound: VecDeque<u8>,
    /// Bytes that may wait there.
    pub inbound_max: usize,
    /// The peer has ended its side, behind what has come.
    pub has_fin: bool,
    /// The core was told so.
    pub is_fin_told: bool,
    /// It broke, and the core has not been told.
    pub error: Option<Errno>,
    /// It broke.
    pub is_broken: bool,
    /// Taken from the core, and not acknowledged.
    pub outbound: VecDeque<u8>,
    /// Bytes that may wait there.
    pub outbound_max: usize,
    /// Of `outbound`, those that the actors have seen.
    pub seen: usize,
    /// The core has shut its side for writing, for reading.
    pub is_shut: (bool, bool),
    /// The core has asked to have both shut: it has given the connection up.
    pub is_given_up: bool,
    /// The peer has acknowledged our FIN.
    pub is_fin_acknowledged: bool,
    /// The peer was sent a reset: what it had not read is lost.
    pub is_reset: bool,
    /// Bytes that the core has received.
    pub received: u64,
    /// When the core sent something last, ns, in which turn, and how often it has.
    pub sent_at_ns: u64,
    pub sent_in: u64,
    pub sends: u32,
    /// The last turn in which something was being received on it.
    pub heard_in: u64,
    /// The client's slot, once the core has received for it.
    pub slot: Option<u32>,
}

impl Connection {
    pub fn new(far: Far, address: IpAddr, inbound_max: usize, outbound_max: usize) -> Self {
        Self {
            far,
            address,
            socket: None,
            is_closed: false,
            is_connected: far == Far::Client,
            inbound: VecDeque::new(),
            inbound_max,
            has_fin: false,
            is_fin_told: false,
            error: None,
            is_broken: false,
            outbound: VecDeque::new(),
            outbound_max,
            seen: 0,
            is_shut: (false, false),
            is_given_up: false,
            is_fin_acknowledged: false,
            is_reset: false,
            received: 0,
            sent_at_ns: 0,
            sent_in: 0,
            sends: 0,
            heard_in: 0,
            slot: None,
        }
    }

    /// It breaks: what was on its way to the peer is lost.
    pub fn break_off(&mut self, errno: Errno) {
        if !std::mem::replace(&mut self.is_broken, true) {
            self.error = Some(errno);
            self.outbound.clear();
            self.seen = 0;
        }
    }

    /// Whether a receive has something to say.
    pub fn is_readable(&self) -> bool {
        !self.inbound.is_empty() || self.error.is_some() || self.has_fin || self.is_broken || self.is_shut.1
    }

    /// Whether something has come of which the core has not been told.
    pub fn is_unheard(&self) -> bool {
        !self.inbound.is_empty() || self.error.is_some() || self.has_fin && !self.is_fin_told
    }

    /// Bytes that a send may take now.
    pub fn room(&self) -> usize {
        self.outbound_max.saturating_sub(self.outbound.len())
    }

    /// What a send meets besides room: an error, once; then it is known to be broken.
    pub fn send_error(&mut self) -> Option<Errno> {
        if let Some(errno) = self.error.take() {
            return Some(errno);
        }
        (self.is_broken || self.is_shut.0).then_some(Errno::PIPE)
    }

    /// The bytes that the core has sent since this was asked, for whoever looks over its shoulder.
    pub fn unseen(&mut self) -> Option<&[u8]> {
        if self.seen == self.outbound.len() {
            return None;
        }
        let from = std::mem::replace(&mut self.seen, self.outbound.len());
        Some(&self.outbound.make_contiguous()[from..])
    }

    /// The peer takes `n` bytes.
    pub fn acknowledge(&mut self, n: usize) {
        self.outbound.drain(..n);
        self.seen = self.seen.saturating_sub(n);
    }

    /// The core gives its descriptor back.
    pub fn close(&mut self) {
        self.socket = None;
        self.is_closed = true;
        if !self.inbound.is_empty() && !self.is_broken {
            // As TCP does where something was not read.
            self.reset();
        }
        self.is_shut = (true, true);
    }

    /// The peer is sent a reset.
    pub fn reset(&mut self) {
        self.is_reset = true;
        self.outbound.clear();
        self.seen = 0;
    }
}
