//! What comes of operations: which complete now, and with what.

use evergate_proto::ring::{Completion, Errno, Kind, Lent, Pool};

use super::connection::Far;
use super::flight::{Doing, Stage};
use super::{Door, Kernel, tell};
use crate::tally::What;

/// Completions that an operation which goes on makes at a time.
const IN_A_ROW: usize = 4;

impl Kernel {
    /// Whether an operation could complete now.
    fn is_ready(&self, at: usize) -> bool {
        let flight = &self.flights[at];
        match flight.stage {
            Stage::Queued | Stage::Over => return false,
            Stage::Cancelled => return true,
            Stage::UnderWay => {}
        }
        if let Doing::Accept { .. } = flight.doing {
            let listener = &self.listeners[self.listener_of(flight.socket, "an accept")];
            return !listener.queue.is_empty() || listener.is_over;
        }
        let connection = &self.connections[self.connection_of(flight.socket, "an operation")];
        match &flight.doing {
            Doing::Receive { .. } | Doing::ReceiveInto { .. } => connection.is_readable(),
            Doing::Send { .. } => connection.room() > 0 || connection.is_broken || connection.is_shut.0,
            Doing::WatchEnd => connection.has_fin || connection.is_broken || connection.is_shut == (true, true),
            Doing::Connect { domain } => self.doors[*domain] != Door::Hangs || connection.is_shut.0,
            Doing::Accept { .. } => false,
        }
    }

    /// Completes what completes now. `must`: at least something, if anything can.
    pub(super) fn complete(&mut self, must: bool) {
        let count = self.flights.len();
        if count == 0 {
            return;
        }
        // Those of different operations come in any order.
        let from = self.random.below(count);
        let is_backward = self.random.percent(50);
        let mut held_back = None;
        for step in 0..count {
            let at = if is_backward { (from + count - step) % count } else { (from + step) % count };
            if !self.is_ready(at) {
                continue;
            }
            let is_cancelled = self.flights[at].stage == Stage::Cancelled;
            if self.oddly(self.habits.delays) || is_cancelled && self.oddly(self.habits.cancels_linger) {
                held_back = held_back.or(Some(at));
                continue;
            }
            self.complete_one(at);
        }
        if let Some(at) = held_back
            && must
            && self.completed.is_empty()
        {
            self.complete_one(at);
        }
    }

    fn complete_one(&mut self, at: usize) {
        let is_cancelled = self.flights[at].stage == Stage::Cancelled;
        if is_cancelled && !self.completes_before_cancel(at) {
            return self.finish(at, Err(Errno::CANCELED));
        }
        match &self.flights[at].doing {
            Doing::Accept { goes_on } => self.complete_accept(at, *goes_on, is_cancelled),
            Doing::Receive { pool, goes_on } => self.complete_receive(at, *pool, *goes_on, is_cancelled),
            Doing::ReceiveInto { .. } => self.complete_receive_into(at),
            Doing::Send { .. } => {
                let less = self.oddly(self.habits.sends_less);
                let result = self.send_some(at, false, less);
                self.one(if result.is_ok() { What::send_completed } else { What::send_failed });
                self.finish(at, result);
            }
            Doing::WatchEnd => {
                self.one(What::end_seen);
                self.finish(at, Ok(0));
            }
            Doing::Connect { domain } => self.complete_connect(at, *domain),
        }
    }

    /// Whether what is cancelled completes otherwise first.
    fn completes_before_cancel(&mut self, at: usize) -> bool {
        let percent = self.habits.cancels_late;
        if !self.oddly(percent) {
            return false;
        }
        self.flights[at].stage = Stage::UnderWay;
        let is_ready = self.is_ready(at);
        self.flights[at].stage = Stage::Cancelled;
        self.tally.add(What::cancelled_with_bytes, usize::from(is_ready));
        is_ready
    }

    /// The last completion of an operation.
    fn finish(&mut self, at: usize, result: Result<u32, Errno>) {
        let buffer = match &mut self.flights[at].doing {
            Doing::ReceiveInto { buffer } | Doing::Send { buffer, .. } => Some(std::mem::take(buffer)),
            _ => None,
        };
        self.put(at, Completion { op: self.flights[at].op, result, more: false, lent: None, buffer });
    }

    fn put(&mut self, at: usize, completion: Completion) {
        if !completion.more {
            self.flights[at].stage = Stage::Over;
        }
        self.completed.push_back(completion);
    }

    fn complete_accept(&mut self, at: usize, goes_on: bool, is_cancelled: bool) {
        let op = self.flights[at].op;
        let listener = self.listener_of(self.flights[at].socket, "an accept");
        for _ in 0..IN_A_ROW {
            if self.listeners[listener].queue.is_empty() {
                if is_cancelled {
                    self.finish(at, Err(Errno::CANCELED));
                }
                return;
            }
            if self.oddly(self.habits.accept_fails) {
                let errno = [Errno::MFILE, Errno::NFILE, Errno::CONNABORTED, Errno::NOMEM][self.random.below(4)];
                if errno == Errno::CONNABORTED {
                    let gone = self.listeners[listener].queue.pop_front();
                    self.listeners[listener].reset.extend(gone);
                    self.one(What::accept_aborted);
                } else {
                    self.one(What::accept_exhausted);
                }
                return self.finish(at, Err(errno));
            }
            let Some(connection) = self.listeners[listener].queue.pop_front() else { return };
            let socket = self.descriptor_for(connection);
            tell!(self.scene, "connection {connection}: accepted, descriptor {}", socket.0);
            let more = goes_on && !self.oddly(self.habits.ends);
            self.tally.add(What::accept_ended, usize::from(goes_on && !more));
            let result = Ok(socket.0.cast_unsigned());
            self.put(at, Completion { op, result, more, lent: None, buffer: None });
            if !more {
                return;
            }
        }
        if is_cancelled {
            self.finish(at, Err(Errno::CANCELED));
        }
    }

    fn complete_receive(&mut self, at: usize, pool: Pool, goes_on: bool, is_cancelled: bool) {
        let (op, socket) = (self.flights[at].op, self.flights[at].socket);
        let connection = self.connection_of(socket, "a receive");
        for _ in 0..IN_A_ROW {
            let has_bytes = !self.connections[connection].inbound.is_empty();
            if !has_bytes {
                if self.connections[connection].is_readable() {
                    let result = self.end_of(connection);
                    return self.finish(at, result);
                }
                if is_cancelled {
                    self.finish(at, Err(Errno::CANCELED));
                }
                return;
            }
            let Some(lent) = self.fill(pool, connection) else {
                self.one(if pool == Pool::Light { What::no_light_buffer } else { What::no_heavy_buffer });
                return self.finish(at, Err(Errno::NOBUFS));
            };
            let more = goes_on && !self.oddly(self.habits.ends);
            self.tally.add(What::receive_ended, usize::from(goes_on && !more));
            let result = Ok(lent.len);
            self.put(at, Completion { op, result, more, lent: Some(lent), buffer: None });
            if !more {
                return;
            }
        }
        if is_cancelled {
            self.finish(at, Err(Errno::CANCELED));
        }
    }

    /// What a receive says where no bytes are left.
    fn end_of(&mut self, at: usize) -> Result<u32, Errno> {
        let connection = &mut self.connections[at];
        if let Some(errno) = connection.error.take() {
            self.tally.one(What::receive_failed);
            return Err(errno);
        }
        connection.is_fin_told = true;
        self.tally.one(What::receive_end);
        Ok(0)
    }

    /// Moves bytes into a buffer of a pool, if there is one.
    fn fill(&mut self, pool: Pool, at: usize) -> Option<Lent> {
        let less = self.oddly(self.habits.brings_less);
        let inbound = &mut self.connections[at].inbound;
        let (id, buffer) = self.pools[usize::from(pool == Pool::Heavy)].fill()?;
        let mut len = inbound.len().min(buffer.len());
        if less {
            len = 1 + self.random.below(len);
        }
        for (to, byte) in buffer.iter_mut().zip(inbound.drain(..len)) {
            *to = byte;
        }
        self.connections[at].received += len as u64;
        Some(Lent { pool, id, len: len as u32 })
    }

    fn complete_receive_into(&mut self, at: usize) {
        let connection = self.connection_of(self.flights[at].socket, "a receive");
        if self.connections[connection].inbound.is_empty() {
            let result = self.end_of(connection);
            return self.finish(at, result);
        }
        let less = self.oddly(self.habits.brings_less);
        let Doing::ReceiveInto { buffer } = &mut self.flights[at].doing else { return };
        let inbound = &mut self.connections[connection].inbound;
        let mut len = inbound.len().min(buffer.capacity() - buffer.len());
        if less {
            len = 1 + self.random.below(len);
        }
        buffer.extend(inbound.drain(..len));
        self.connections[connection].received += len as u64;
        self.finish(at, Ok(len as u32));
    }

    fn complete_connect(&mut self, at: usize, domain: usize) {
        let connection = self.connection_of(self.flights[at].socket, "a connect");
        if self.connections[connection].is_shut.0 {
            return self.finish(at, Err(Errno::CONNREFUSED));
        }
        if self.doors[domain] == Door::Refuses {
            self.one(What::connect_refused);
            let errno = [Errno::CONNREFUSED, Errno::TIMEDOUT][self.random.below(2)];
            return self.finish(at, Err(errno));
        }
        debug_assert!(matches!(self.connections[connection].far, Far::Redis(_)));
        self.connections[connection].is_connected = true;
        self.opened.push(connection);
        self.finish(at, Ok(0));
    }

    /// The next that is told.
    pub(super) fn tell(&mut self) -> Option<Completion> {
        self.due = self.due.checked_sub(1)?;
        let completion = self.completed.pop_front()?;
        self.has_progressed = true;
        if let Some(lent) = &completion.lent {
            let id = lent.id;
            self.pool(lent.pool).lend(id);
        }
        if !completion.more && completion.op.kind != Kind::Wake {
            let at = self.flights.iter().position(|flight| flight.op == completion.op && flight.stage == Stage::Over);
            if let Some(at) = at {
                let flight = self.flights.remove(at);
                if completion.op.kind == Kind::LinkSend {
                    let at = self.connection_of(flight.socket, "a send");
                    (self.connections[at].sent_at_ns, self.connections[at].sent_in) =
                        (self.scene.now_ns.get(), self.turns);
                }
            }
        }
        tell!(
            self.scene,
            "  {:?}: {:?}, more {}, {:?}",
            completion.op,
            completion.result,
            completion.more,
            completion.lent
        );
        Some(completion)
    }
}
