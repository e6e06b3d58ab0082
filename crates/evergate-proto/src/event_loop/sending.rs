//! Bytes for clients: one send at a time for each, all of a turn submitted together.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use rustc_hash::FxHashMap;

use super::{EventLoop, Host};
use crate::clients::output::SlotIndex;
use crate::ring::{Completion, Kind, Ring};

/// Bytes of a chunk that are sent at once: between these, so that all long chunks of a turn are together [`SENT_TURN_BYTES`].
const SLICE_BYTES: RangeInclusive<usize> = if cfg!(feature = "simulator") { 64..=300 } else { 4 * 1024..=1024 * 1024 };
/// Bytes that clients are sent in one turn, but for what is no more than a [`SHORT_BYTES`].
const SENT_TURN_BYTES: usize = if cfg!(feature = "simulator") { 320 } else { 2 * 1024 * 1024 };
/// What is no longer than this is sent whole, whoever else sends.
const SHORT_BYTES: usize = if cfg!(feature = "simulator") { 150 } else { 16 * 1024 };

/// What is being sent.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Where the send of a long chunk that is under way, or comes next, begins in it.
    from: FxHashMap<SlotIndex, usize>,
    /// Who has more of a chunk to send, in the next turn or later in this.
    queue: VecDeque<(SlotIndex, Vec<u8>)>,
    /// Bytes that may yet be sent in this turn.
    left: usize,
}

impl Sending {
    pub fn begin_turn(&mut self) {
        self.left = SENT_TURN_BYTES;
    }

    /// Whether a long chunk is under way: its client takes what it takes when it does.
    pub fn is_under_way(&self) -> bool {
        !self.from.is_empty()
    }

    /// Whether somebody can be served without waiting.
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The slice that begins at `from` of a chunk of `len` bytes; empty where it must wait for the next turn.
    fn slice(&mut self, from: usize, len: usize) -> usize {
        let left = len - from;
        if left <= SHORT_BYTES {
            return left;
        }
        let share = SENT_TURN_BYTES / self.from.len().max(1);
        let slice = left.min(share.clamp(*SLICE_BYTES.start(), *SLICE_BYTES.end())).min(self.left);
        self.left -= slice;
        slice
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Sends what waits for a client.
    pub(super) fn send_to(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.under_way.contains(Kind::Send) || connection.is_over {
            return;
        }
        if let Some(chunk) = self.clients.take_outbound(slot) {
            connection.under_way.insert(Kind::Send);
            self.send_from(slot, chunk.buffer, chunk.from as usize, self.clients.is_last_chunk(slot));
        }
    }

    /// Sends a slice of `chunk`. `quiet`: nothing waits for it, so that it need not end the wait.
    fn send_from(&mut self, slot: SlotIndex, chunk: Vec<u8>, from: usize, quiet: bool) {
        let Some(connection) = self.connections.get(slot) else { return };
        let bytes = self.sending.slice(from, chunk.len());
        if from > 0 || bytes < chunk.len() {
            self.sending.from.insert(slot, from);
        }
        if bytes == 0 {
            return self.sending.queue.push_back((slot, chunk));
        }
        let quiet = quiet && from + bytes == chunk.len();
        self.ring.send(connection.op(Kind::Send, slot), connection.socket, chunk, from..from + bytes, quiet);
    }

    /// The kernel has taken what it was given, or the first part of it.
    pub(super) fn sent(&mut self, completion: Completion) {
        let slot = completion.op.place;
        let (Some(connection), Some(chunk)) = (self.connections.of(completion.op), completion.buffer) else { return };
        let from = self.sending.from.remove(&slot).unwrap_or(0);
        if connection.is_over {
            return self.give_up_sending(slot, chunk);
        }
        match completion.result {
            Ok(bytes) if from + bytes as usize == chunk.len() => {
                connection.under_way.remove(Kind::Send);
                self.clients.recycle(chunk);
                self.clients.sent(slot);
            }
            Ok(bytes) => {
                if bytes > 0 {
                    self.clients.progressed(slot, bytes as usize);
                }
                // Behind the others: a client that takes much at once is one of many.
                self.sending.from.insert(slot, from + bytes as usize);
                self.sending.queue.push_back((slot, chunk));
            }
            Err(_) => {
                connection.under_way.remove(Kind::Send);
                connection.has_ended = true;
                self.leaving.drop_later(chunk);
                self.clients.broke(slot, "the connection broke");
            }
        }
    }

    /// Sends more of long chunks, as far as this turn may.
    pub(super) fn send_more(&mut self) {
        for _ in 0..self.sending.queue.len() {
            let Some((slot, chunk)) = self.sending.queue.pop_front() else { break };
            let from = self.sending.from.remove(&slot).unwrap_or(0);
            let is_over = self.connections.get(slot).is_none_or(|connection| connection.is_over);
            if is_over {
                self.give_up_sending(slot, chunk);
            } else {
                self.send_from(slot, chunk, from, false);
            }
        }
    }

    /// A client is given up, and the rest of its chunk with it.
    fn give_up_sending(&mut self, slot: SlotIndex, chunk: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.under_way.remove(Kind::Send);
        }
        self.leave_if_idle(slot, Some(chunk));
    }
}
