//! The end of a client's socket: given back when nothing is under way on it, and its memory when there is time.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::Duration;

use super::{EventLoop, Host};
use crate::clients::output::SlotIndex;
use crate::ring::{Kind, Ring};

/// What a client was owed that is gone is freed where the turn has not lasted this long: many may leave together, and to
/// unmap megabytes takes time (docs/performance.md, "Work in a turn").
const FREE_TURN: Duration = Duration::from_millis(1);
/// As many bytes take as long to be freed as a client to be released.
const CLIENT_BYTES: usize = SMALL_BYTES / 64;
/// Bytes that take no time to be freed.
const SMALL_BYTES: usize = if cfg!(feature = "simulator") { 640 } else { 256 * 1024 };

#[derive(Debug)]
enum Left {
    /// Nothing is under way for a client; what it was owed counts so many bytes.
    Client(SlotIndex, usize),
    /// What was being sent.
    Chunk(Vec<u8>),
}

/// What waits to be given back.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Who is given up, and shut down when the ring has been entered; which of their slot's.
    unshut: Vec<(SlotIndex, u32)>,
    queue: VecDeque<Left>,
    bytes: usize,
}

impl Leaving {
    /// Bytes that wait to be freed.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether something can be done without waiting.
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty() || !self.unshut.is_empty()
    }

    /// Frees what was being sent when there is time.
    pub fn drop_later(&mut self, chunk: Vec<u8>) {
        if chunk.capacity() > SMALL_BYTES {
            self.bytes += chunk.capacity();
            self.queue.push_back(Left::Chunk(chunk));
        }
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Gives a client up: its socket is given back when nothing is under way on it.
    pub(super) fn begin_leaving(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if std::mem::replace(&mut connection.is_over, true) {
            return;
        }
        connection.has_ended = true;
        let (is_held, under_way) = (connection.is_held, connection.under_way);
        if under_way.contains(Kind::Send) {
            // What was decided in this turn, a Close perhaps, is not on its way before the ring is entered.
            self.leaving.unshut.push((slot, connection.generation));
        } else {
            self.ring.shutdown(connection.socket, Shutdown::Both);
        }
        for kind in under_way.iter().filter(|kind| *kind != Kind::Send) {
            self.ring.cancel(connection.op(kind, slot));
        }
        if is_held {
            self.drop_held(slot);
        }
        self.leave_if_idle(slot, None);
    }

    /// Shuts down those of whom what was decided is submitted by now: a peer that still sends sees an end, not a reset, as far as
    /// it can be had, and what waits for room fails.
    pub(super) fn shut_down(&mut self) {
        for (slot, generation) in std::mem::take(&mut self.leaving.unshut) {
            if let Some(connection) = self.connections.get(slot).filter(|it| it.generation == generation) {
                self.ring.shutdown(connection.socket, Shutdown::Both);
            }
        }
    }

    /// An operation of a client is over, which may have been the last of one that is given up.
    pub(super) fn leave_if_idle(&mut self, slot: SlotIndex, chunk: Option<Vec<u8>>) {
        if !self.connections.get(slot).is_some_and(|it| it.is_over && it.under_way.is_empty()) {
            return;
        }
        let owed = self.clients.owed(slot);
        self.leaving.bytes += owed;
        self.leaving.queue.push_back(Left::Client(slot, owed));
        if let Some(chunk) = chunk {
            self.leaving.drop_later(chunk);
        }
    }

    /// Gives sockets and memory back, as far as there is time in this turn.
    pub(super) fn leave(&mut self) {
        let mut freed = 0;
        while let Some(left) = self.leaving.queue.pop_front() {
            let bytes = match &left {
                Left::Client(_, owed) => *owed,
                Left::Chunk(chunk) => chunk.capacity(),
            };
            self.leaving.bytes -= bytes;
            if let Left::Client(slot, _) = left {
                self.release(slot);
            }
            // The clock is asked where it matters.
            freed += bytes + CLIENT_BYTES;
            if freed >= SMALL_BYTES {
                freed = 0;
                if self.host.now().saturating_sub(self.began) >= FREE_TURN {
                    break;
                }
            }
        }
        self.carry_out();
    }

    fn release(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get(slot) else { return };
        self.ring.close(connection.socket);
        self.connections.close(slot);
        self.clients.release(slot);
        self.accepting.somebody_left();
    }
}
