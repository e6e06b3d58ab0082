//! Operations under way.

use std::ops::Range;

use evergate_proto::ring::{Op, Pool, Socket};

/// What one does.
#[derive(Debug)]
pub enum Doing {
    Accept { goes_on: bool },
    Receive { pool: Pool, goes_on: bool },
    ReceiveInto { buffer: Vec<u8> },
    Send { buffer: Vec<u8>, range: Range<usize>, is_quiet: bool },
    WatchEnd,
    Connect { domain: usize },
}

/// Where one stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Asked, not submitted.
    Queued,
    UnderWay,
    /// It is to end.
    Cancelled,
    /// Its last completion waits to be told.
    Over,
}

/// An operation, until the core has been told that it is over.
#[derive(Debug)]
pub struct Flight {
    pub op: Op,
    pub socket: Socket,
    pub doing: Doing,
    pub stage: Stage,
    /// Its cancel was asked.
    pub is_unwanted: bool,
}
