//! Bytes of clients: a receive for each that goes on by itself, into buffers that the ring lends when bytes have come.
//!
//! A client that sends much is heavy: its receives are single ones, into large buffers, and it takes turns with the others of its
//! kind, behind those that are light. Of one that may not be read from the receive is cancelled; what comes all the same is held.

use super::held::{HEAVY_TURN, HEAVY_TURN_BYTES, Part, RUN_BYTES};
use super::{EventLoop, Host};
use crate::clients::output::SlotIndex;
use crate::ring::{Completion, Errno, Kind, Lent, Op, Pool, Ring};

/// A heavy client of which a receive brings no more than this is light again.
const LIGHT_BYTES: u32 = if cfg!(feature = "simulator") { 100 } else { 4 * 1024 };

/// Clients that are given another chance to receive in one turn, of those that found no buffer.
const FED: usize = if cfg!(feature = "simulator") { 2 } else { 64 };

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// A receive has brought something.
    pub(super) fn received(&mut self, completion: Completion) {
        let Completion { op, result, more, lent, .. } = completion;
        let slot = op.place;
        let Some(connection) = self.connections.of(op) else {
            // Whoever it was meant for has gone.
            return self.give_back(lent);
        };
        if !more {
            connection.under_way.remove(Kind::Receive);
            connection.is_cancelled = false;
        }
        if connection.has_ended {
            self.give_back(lent);
            return self.leave_if_idle(slot, None);
        }
        match (result, lent) {
            (Ok(_), Some(lent)) => self.take(slot, lent),
            (Ok(_), None) => self.hear_end(slot, Part::Ended),
            (Err(Errno::NOBUFS), _) => {
                connection.is_starved = true;
                let pool = if connection.is_heavy { Pool::Heavy } else { Pool::Light };
                self.held.starve(slot, pool);
            }
            (Err(Errno::CANCELED), _) => {}
            (Err(_), _) => self.hear_end(slot, Part::Broke),
        }
        if !more {
            self.held.listen(slot);
        }
    }

    /// Bytes of a client have come.
    fn take(&mut self, slot: SlotIndex, lent: Lent) {
        let run = self.held.run(slot, lent.len as usize);
        let may_read = self.clients.may_take(slot, self.ring.bytes(&lent));
        let Some(connection) = self.connections.get_mut(slot) else { return self.give_back(Some(lent)) };
        connection.is_heavy |= run > RUN_BYTES;
        if connection.is_held || connection.is_heavy || !may_read {
            self.hold(slot, lent, may_read);
        } else {
            self.clients.input(slot, self.ring.bytes(&lent));
            self.ring.give_back(lent);
            // Asked at once: who is not read from owes no pong, and perhaps nothing more comes that would have it asked.
            self.clients.look_to_pause(slot);
            connection.is_heavy = self.clients.is_amid_long_message(slot);
        }
        self.cancel_receiving(slot);
    }

    /// Keeps what has come for later.
    fn hold(&mut self, slot: SlotIndex, lent: Lent, may_read: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.is_held = true;
        if may_read && !std::mem::replace(&mut connection.is_queued, true) {
            self.held.queue(slot);
        }
        if may_read && lent.pool == Pool::Heavy {
            self.held.keep(slot, Part::Lent(lent));
        } else {
            self.held.keep_bytes(slot, self.ring.bytes(&lent));
            self.ring.give_back(lent);
            self.clients.keep_unheard(slot, self.held.bytes_of(slot));
        }
    }

    /// Nothing more comes of a client: it hears of that behind what has come.
    fn hear_end(&mut self, slot: SlotIndex, end: Part) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_held {
            return self.held.keep(slot, end);
        }
        connection.has_ended = true;
        // What was decided before is on its way to whoever has shut only its own side.
        self.carry_out();
        match end {
            Part::Ended => self.clients.ended(slot, "the client ended the connection without a Close frame"),
            _ => self.clients.broke(slot, "the connection broke"),
        }
    }

    /// Has a receive that goes on by itself end, where its client is heavy or may not be read from.
    fn cancel_receiving(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let goes_on = connection.under_way.contains(Kind::Receive) && !connection.is_cancelled;
        if goes_on && (connection.is_heavy || self.clients.is_paused(slot)) {
            connection.is_cancelled = true;
            self.ring.cancel(connection.op(Kind::Receive, slot));
        }
    }

    /// Handles what has come of the heavy ones, each in its turn: those that were there before this turn of the core, for what others
    /// have just sent is decided and answered first. Who has more goes to the end.
    pub(super) fn take_turns(&mut self, completions: usize) {
        if self.held.leaves(completions) {
            return;
        }
        let (mut bytes, mut began) = (0, None);
        while let Some(slot) = self.held.next() {
            bytes += self.take_turn(slot);
            let now = self.host.now();
            if bytes >= HEAVY_TURN_BYTES || now.saturating_sub(*began.get_or_insert(now)) >= HEAVY_TURN {
                break;
            }
        }
        if bytes > 0 {
            self.carry_out();
        }
    }

    /// Handles the oldest that has come of a client; how many bytes that was.
    fn take_turn(&mut self, slot: SlotIndex) -> usize {
        let Some(connection) = self.connections.get_mut(slot) else { return 0 };
        // Its predecessor in the slot may have been meant.
        if !std::mem::replace(&mut connection.is_queued, false) {
            return 0;
        }
        if !self.clients.may_read(slot) {
            self.hold_on(slot);
            return 0;
        }
        let Some((part, has_more)) = self.held.take(slot) else { return 0 };
        let (bytes, is_light) = match part {
            Part::Lent(lent) => {
                let bytes = lent.len;
                self.clients.input(slot, self.ring.bytes(&lent));
                self.ring.give_back(lent);
                (bytes as usize, bytes <= LIGHT_BYTES)
            }
            Part::Bytes(mut bytes) => {
                self.clients.input(slot, &mut bytes);
                (bytes.len(), false)
            }
            end @ (Part::Ended | Part::Broke) => {
                connection.is_held = false;
                self.hear_end(slot, end);
                return 0;
            }
        };
        self.clients.keep_unheard(slot, self.held.bytes_of(slot));
        self.clients.look_to_pause(slot);
        let Some(connection) = self.connections.get_mut(slot) else { return bytes };
        connection.is_held = has_more;
        connection.is_queued = has_more;
        if has_more {
            self.held.queue(slot);
        } else {
            connection.is_heavy = !is_light || self.clients.is_amid_long_message(slot);
            self.held.listen(slot);
        }
        bytes
    }

    /// A client may not be read from: what has come of it is kept for longer, and the ring has its buffers back.
    fn hold_on(&mut self, slot: SlotIndex) {
        for part in self.held.take_all(slot) {
            match part {
                Part::Lent(lent) => {
                    self.held.keep_bytes(slot, self.ring.bytes(&lent));
                    self.ring.give_back(lent);
                }
                Part::Bytes(bytes) => self.held.keep_bytes(slot, &bytes),
                end => self.held.keep(slot, end),
            }
        }
        self.clients.keep_unheard(slot, self.held.bytes_of(slot));
    }

    /// A client may be read from again.
    pub(super) fn resume_receiving(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.under_way.contains(Kind::WatchEnd) {
            self.ring.cancel(connection.op(Kind::WatchEnd, slot));
        }
        if !connection.is_held {
            self.held.listen(slot);
        } else if !std::mem::replace(&mut connection.is_queued, true) {
            self.held.queue(slot);
        }
    }

    /// Starts the receives that are not under way and may be.
    pub(super) fn receive_again(&mut self) {
        let listens = self.held.take_listens();
        for &slot in &listens {
            self.receive(slot);
        }
        self.held.give_listens(listens);
        self.feed();
    }

    /// Those that found no buffer try again: those of a few at most, or most would find none again.
    fn feed(&mut self) {
        let large = self.options.heavy_buffers.saturating_sub(self.held.lent()) as usize;
        for (pool, most) in [(Pool::Light, FED), (Pool::Heavy, large)] {
            for _ in 0..most.min(self.held.starved(pool)) {
                let Some(slot) = self.held.feed(pool) else { break };
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.is_starved = false;
                    self.receive(slot);
                }
            }
        }
    }

    /// Receives from a client, where it may be read from and nothing stands before that.
    pub(super) fn receive(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let is_free = !connection.under_way.contains(Kind::Receive) && !connection.is_held && !connection.is_starved;
        if !is_free || connection.has_ended || !self.clients.may_listen(slot) {
            return;
        }
        connection.under_way.insert(Kind::Receive);
        connection.is_cancelled = connection.is_heavy;
        let op = connection.op(Kind::Receive, slot);
        let pool = if connection.is_heavy { Pool::Heavy } else { Pool::Light };
        self.ring.receive(op, connection.socket, pool, !connection.is_heavy);
    }

    /// A client that is not read from is watched, to hear of its end.
    pub(super) fn watch(&mut self, slot: SlotIndex) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.under_way.contains(Kind::WatchEnd) && !connection.has_ended {
            connection.under_way.insert(Kind::WatchEnd);
            self.ring.watch_end(connection.op(Kind::WatchEnd, slot), connection.socket);
        }
    }

    /// A client that is, or was, not read from has ended the connection, or is watched no more.
    pub(super) fn watched(&mut self, op: Op, completion: &Completion) {
        let slot = op.place;
        let Some(connection) = self.connections.of(op) else { return };
        if completion.more {
            return;
        }
        connection.under_way.remove(Kind::WatchEnd);
        if connection.has_ended {
            self.leave_if_idle(slot, None);
        } else if completion.result.is_ok() && self.clients.is_paused(slot) {
            self.clients.ended(slot, "the connection ended while it was not read from");
        }
    }

    fn give_back(&mut self, lent: Option<Lent>) {
        if let Some(lent) = lent {
            self.ring.give_back(lent);
        }
    }

    /// Drops what has come of a client that is given up.
    pub(super) fn drop_held(&mut self, slot: SlotIndex) {
        for part in self.held.take_all(slot) {
            if let Part::Lent(lent) = part {
                self.ring.give_back(lent);
            }
        }
    }
}
