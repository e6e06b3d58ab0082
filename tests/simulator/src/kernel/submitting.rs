//! What the core asks, in its order: nothing is done before it is submitted.

use std::net::Shutdown;

use evergate_proto::ring::{Completion, Errno, Kind, Op, Socket};

use super::flight::{Doing, Flight, Stage};
use super::{Kernel, Owner, tell};
use crate::tally::What;
use crate::world::violated;

/// Something that was asked.
#[derive(Debug)]
pub enum Entry {
    Start(Op),
    Cancel(Op),
    Close(Socket),
}

impl Kernel {
    pub(super) fn ask(&mut self, entry: Entry) {
        self.has_progressed = true;
        if self.queue.len() >= self.habits.queue_max {
            self.one(What::ring_submitted_early);
            self.submit();
        }
        self.queue.push_back(entry);
    }

    /// An operation begins, under a name that no other has.
    pub(super) fn start(&mut self, op: Op, socket: Socket, doing: Doing) {
        let owner = self.owner(socket, "an operation");
        let is_closing = |entry: &Entry| matches!(entry, Entry::Close(closing) if *closing == socket);
        if self.queue.iter().any(is_closing) {
            violated!("{op:?} on descriptor {}, which is being closed", socket.0);
        }
        if self.flights.iter().any(|flight| flight.op == op) {
            violated!("two operations of one name: {op:?}");
        }
        // A descriptor serves whom it was accepted for.
        if let (Owner::Connection(at), Kind::Receive | Kind::Send) = (owner, op.kind) {
            let slot = *self.connections[at].slot.get_or_insert(op.place);
            if slot != op.place {
                violated!("{op:?} on the descriptor {} of slot {slot}", socket.0);
            }
            if self.flights.iter().any(|flight| flight.socket == socket && flight.op.kind == op.kind) {
                violated!("{op:?}: two of one kind on one descriptor");
            }
        }
        self.flights.push(Flight { op, socket, doing, stage: Stage::Queued, is_unwanted: false });
        self.ask(Entry::Start(op));
    }

    pub(super) fn submit(&mut self) {
        while let Some(entry) = self.queue.pop_front() {
            match entry {
                Entry::Start(op) => self.begin(op),
                Entry::Cancel(op) => self.begin_cancel(op),
                Entry::Close(socket) => self.close_now(socket),
            }
        }
    }

    fn begin(&mut self, op: Op) {
        let Some(at) = self.flights.iter().position(|flight| flight.op == op) else { return };
        self.flights[at].stage = Stage::UnderWay;
        if let Doing::Send { is_quiet: true, .. } = self.flights[at].doing {
            self.send_quietly(at);
        }
    }

    /// A quiet send: done at once, as far as it goes.
    fn send_quietly(&mut self, at: usize) {
        let nothing = self.oddly(self.habits.takes_nothing);
        let less = self.oddly(self.habits.sends_less);
        let result = self.send_some(at, nothing, less);
        let flight = &mut self.flights[at];
        let Doing::Send { buffer, range, .. } = &mut flight.doing else { return };
        let is_whole = result == Ok(range.len() as u32);
        flight.stage = Stage::Over;
        let buffer = Some(std::mem::take(buffer));
        let completion = Completion { op: flight.op, result, more: false, lent: None, buffer };
        self.tally.one(match result {
            Ok(0) => What::quiet_send_took_nothing,
            Ok(_) if is_whole => What::quiet_send_whole,
            Ok(_) => What::quiet_send_short,
            Err(_) => What::quiet_send_failed,
        });
        if is_whole {
            // Nothing is told of it, so it is known before the rest.
            self.completed.insert(self.due, completion);
            self.quiet += 1;
        } else {
            self.completed.push_back(completion);
            self.quiet = self.completed.len() - self.due;
        }
    }

    /// Has the connection take what it takes of a send.
    pub(super) fn send_some(&mut self, at: usize, nothing: bool, less: bool) -> Result<u32, Errno> {
        let connection = self.connection_of(self.flights[at].socket, "a send");
        let Doing::Send { buffer, range, .. } = &self.flights[at].doing else { return Ok(0) };
        let connection = &mut self.connections[connection];
        if let Some(errno) = connection.send_error() {
            return Err(errno);
        }
        let mut bytes = if nothing { 0 } else { range.len().min(connection.room()) };
        if less && bytes > 1 {
            bytes = 1 + self.random.below(bytes - 1);
        }
        connection.outbound.extend(&buffer[range.start..range.start + bytes]);
        Ok(bytes as u32)
    }

    /// A cancel reaches its target, or comes too late.
    fn begin_cancel(&mut self, op: Op) {
        let target = self.flights.iter_mut().find(|flight| flight.op == op);
        match target {
            Some(flight) if flight.stage == Stage::UnderWay => {
                flight.stage = Stage::Cancelled;
                self.one(What::cancelled);
            }
            Some(flight) if flight.stage == Stage::Over => self.one(What::cancel_crossed),
            _ => self.one(What::cancel_found_nothing),
        }
    }

    /// At once, before what was queued.
    pub(super) fn shut(&mut self, at: usize, how: Shutdown) {
        let connection = &mut self.connections[at];
        connection.is_shut.0 |= how != Shutdown::Read;
        connection.is_shut.1 |= how != Shutdown::Write;
        tell!(self.scene, "connection {at}: the core shuts {how:?}");
    }

    fn close_now(&mut self, socket: Socket) {
        let owner = self.owner(socket, "a close");
        self.descriptors[socket.0 as usize] = None;
        match owner {
            Owner::Listener(at) => {
                let listener = &mut self.listeners[at];
                listener.is_closed = true;
                if !listener.is_over {
                    listener.leave();
                }
            }
            Owner::Connection(at) => {
                tell!(self.scene, "connection {at}: closed, descriptor {}", socket.0);
                self.connections[at].close();
                let is_reset = self.connections[at].is_reset;
                self.tally.add(What::closed_with_unread, usize::from(is_reset));
            }
        }
    }

    /// A descriptor is given back: nothing may be under way on it.
    pub(super) fn check_close(&self, socket: Socket) {
        if let Owner::Listener(at) = self.owner(socket, "a close")
            && !self.listeners[at].is_over
            && !self.listeners[at].is_left
        {
            violated!("a listener is closed while it listens");
        }
        if let Some(flight) = self.flights.iter().find(|flight| flight.socket == socket) {
            violated!("descriptor {} is closed while {:?} is under way", socket.0, flight.op);
        }
        if self.queue.iter().any(|entry| matches!(entry, Entry::Close(closing) if *closing == socket)) {
            violated!("descriptor {} is closed twice", socket.0);
        }
    }
}
