//! The core's way in: what it asks is held against what it was promised.

use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::ops::Range;
use std::time::Duration;

use evergate_proto::redis::dial::Place;
use evergate_proto::ring::{Completion, Emptied, Errno, Kind, Lent, Op, Pool, Ring, Socket, Wait};
use evergate_proto::websocket::net::Address;

use super::connection::{Connection, Far};
use super::flight::{Doing, Flight, Stage};
use super::submitting::Entry;
use super::{Door, Kernel, Owner, tell};
use crate::core::seal;
use crate::tally::What;
use crate::world::violated;

/// Where the Redis of a domain is: its port tells the domain.
pub const REDIS_PORT: u16 = 6_379;
/// A pause for sure, ns: the core counts whole milliseconds.
const PAUSE_NS: u64 = 5_000_000;
/// As many turns as the core may take to hear what it was told.
const PAUSE_TURNS: u64 = 4;
/// Nobody is connected.
const NOT_CONNECTED: Errno = Errno(107);

/// Whose Redis it is.
fn domain_of(place: &Place) -> usize {
    usize::from(place.port().expect("a port") - REDIS_PORT)
}

impl Kernel {
    /// Sleeps, with nothing to show; false where something has completed in that time.
    fn sleep(&mut self, most_ns: u64) {
        if let Some(undone) = &self.undone {
            violated!("the core sleeps, but {undone}");
        }
        if self.buffers_out() > 0 {
            violated!("the core sleeps with {} buffers of the ring's", self.buffers_out());
        }
        self.has_progressed = true;
        let now_ns = self.scene.now_ns.get();
        let end_ns = now_ns + most_ns;
        if self.wake_at_ns < end_ns {
            // As by a signal.
            self.one(What::sleep_cut);
            self.scene.now_ns.set(self.wake_at_ns.max(now_ns));
        } else {
            self.one(What::slept);
            self.scene.now_ns.set(end_ns);
        }
    }
}

impl Kernel {
    /// Who is asked how much it has yet to acknowledge is judged: all that has come of it must have been heard, if it is to be.
    fn check_judgement(&self, socket: Socket, at: usize) {
        let Some(flight) =
            self.flights.iter().find(|flight| flight.socket == socket && flight.op.kind == Kind::Receive)
        else {
            return;
        };
        let told = |completion: &Completion| completion.op == flight.op && completion.lent.is_some();
        if !flight.is_unwanted && self.completed.iter().any(told) {
            violated!("{:?} is judged while bytes of its are on their way through the ring", flight.op);
        }
        if !flight.is_unwanted && !self.connections[at].inbound.is_empty() && flight.stage != Stage::Over {
            violated!("{:?} is judged while bytes of its wait in the kernel", flight.op);
        }
    }
}

impl Kernel {
    /// What comes of links on which something is being received is heard.
    fn hear_links(&mut self) {
        let Self { flights, descriptors, connections, turns, .. } = self;
        for flight in flights.iter().filter(|flight| flight.op.kind == Kind::LinkReceive) {
            if let Some(Some(Owner::Connection(at))) = descriptors.get(flight.socket.0 as usize) {
                connections[*at].heard_in = *turns;
            }
        }
    }

    /// Behind a pause, what has come of a link that pushes is heard before more is written: Redis may have closed it.
    fn check_batch(&mut self, op: Op, at: usize) {
        let now_ns = self.scene.now_ns.get();
        let connection = &mut self.connections[at];
        let is_told = self.turns > connection.sent_in + PAUSE_TURNS;
        let is_paused = is_told && self.entered_ns >= connection.sent_at_ns + PAUSE_NS && connection.sends > 1;
        (connection.sent_at_ns, connection.sent_in, connection.sends) = (now_ns, self.turns, connection.sends + 1);
        if is_paused && op.place.is_multiple_of(2) && connection.heard_in + PAUSE_TURNS < self.turns {
            violated!("{op:?} behind a pause, and what has come meanwhile was not heard");
        }
    }
}

impl Ring for Kernel {
    fn accept(&mut self, op: Op, listener: Socket, multishot: bool) {
        let at = self.listener_of(listener, "an accept");
        if self.listeners[at].is_over || op.kind != Kind::Accept {
            violated!("{op:?} on a listener that does not listen");
        }
        self.one(if multishot { What::accept_many } else { What::accept_one });
        self.start(op, listener, Doing::Accept { goes_on: multishot });
    }

    fn receive(&mut self, op: Op, socket: Socket, pool: Pool, multishot: bool) {
        self.connection_of(socket, "a receive");
        self.start(op, socket, Doing::Receive { pool, goes_on: multishot });
    }

    fn receive_into(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, _whole: usize) {
        if buffer.len() == buffer.capacity() {
            violated!("{op:?} without room");
        }
        let at = self.connection_of(socket, "a receive");
        if !self.connections[at].is_connected {
            violated!("{op:?} on a socket that is not connected");
        }
        self.start(op, socket, Doing::ReceiveInto { buffer });
    }

    fn send(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, range: Range<usize>, quiet: bool) {
        if range.start >= range.end || range.end > buffer.len() {
            violated!("{op:?} of {range:?} of {} bytes", buffer.len());
        }
        let at = self.connection_of(socket, "a send");
        if !self.connections[at].is_connected {
            violated!("{op:?} on a socket that is not connected");
        }
        if op.kind == Kind::LinkSend && quiet && !seal::is_own(&buffer) {
            self.check_batch(op, at);
        }
        tell!(self.scene, "  {op:?} of {range:?} of {}, quiet {quiet}", buffer.len());
        self.start(op, socket, Doing::Send { buffer, range, is_quiet: quiet });
    }

    fn watch_end(&mut self, op: Op, socket: Socket) {
        self.connection_of(socket, "a watch");
        self.one(What::end_watched);
        self.start(op, socket, Doing::WatchEnd);
    }

    fn connect(&mut self, op: Op, socket: Socket, place: &Place) {
        self.connection_of(socket, "a connect");
        let domain = domain_of(place);
        self.tally.add(What::connect_hangs, usize::from(self.doors[domain] == Door::Hangs));
        self.start(op, socket, Doing::Connect { domain });
    }

    fn cancel(&mut self, op: Op) {
        let target = self.flights.iter_mut().find(|flight| flight.op == op);
        target.into_iter().for_each(|flight| flight.is_unwanted = true);
        self.ask(Entry::Cancel(op));
    }

    fn shutdown(&mut self, socket: Socket, how: Shutdown) {
        let at = self.connection_of(socket, "a shutdown");
        let waits = |it: &&Flight| it.socket == socket && it.stage == Stage::Queued && it.op.kind == Kind::Send;
        if let Some(unsent) = self.flights.iter().find(waits) {
            violated!("{:?} is shut down before what was decided for it is on its way", unsent.op);
        }
        self.connections[at].is_given_up |= how == Shutdown::Both;
        self.has_progressed = true;
        self.shut(at, how);
    }

    fn close(&mut self, socket: Socket) {
        self.check_close(socket);
        self.ask(Entry::Close(socket));
    }

    fn enter(&mut self, wait: Wait) -> Result<(), Errno> {
        let jitter_ns = self.random.below(self.habits.entry_ns as usize) as u64;
        self.pass_ns(500 + jitter_ns);
        self.tally.add(What::entered_with_untaken, usize::from(self.due > 0));
        self.submit();
        let least_ns = if let Wait::Gather { least, .. } = wait { least.as_nanos() as u64 } else { 0 };
        if self.completed.is_empty() && least_ns > 0 {
            self.one(What::gathered);
            self.pass_ns(least_ns);
        }
        self.hear_links();
        self.complete(wait != Wait::No);
        if std::mem::take(&mut self.is_woken) {
            let op = Op { kind: Kind::Wake, place: 0, generation: 0 };
            self.completed.push_back(Completion { op, result: Ok(0), more: true, lent: None, buffer: None });
            self.one(What::woken);
        }
        if let Wait::Something(most) | Wait::Gather { most, .. } = wait
            && self.completed.is_empty()
            && !most.is_zero()
        {
            if self.oddly(self.habits.returns_early) {
                self.one(What::returned_early);
            } else {
                let late_ns = self.random.below(self.habits.late_ns as usize) as u64;
                self.sleep(most.as_nanos() as u64 + late_ns);
            }
        }
        self.entered_ns = self.scene.now_ns.get();
        let told_max = if self.is_calm { 1_000 } else { self.habits.told_max };
        self.due = self.completed.len().min(told_max.max(self.due + std::mem::take(&mut self.quiet)));
        self.tally.add(What::left_for_the_next, usize::from(self.due < self.completed.len()));
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        self.tell()
    }

    fn is_told(&self, op: Op) -> bool {
        self.completed.iter().all(|completion| completion.op != op)
    }

    fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        let (id, len) = (lent.id, lent.len);
        self.pool(lent.pool).lent(id, len)
    }

    fn give_back(&mut self, lent: Lent) {
        self.pool(lent.pool).give_back(lent.id);
    }

    fn open(&mut self, place: &Place, _dead: Duration) -> Result<Socket, Errno> {
        if self.oddly(self.habits.calls_fail) {
            self.one(What::open_failed);
            return Err(Errno::MFILE);
        }
        let domain = domain_of(place);
        let outbound_max = [100, 900, 5_000, 1 << 20][self.random.below(4)];
        let at = self.connections.len();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.connections.push(Connection::new(Far::Redis(domain), loopback, 1 << 20, outbound_max));
        Ok(self.descriptor_for(at))
    }

    fn peer(&mut self, socket: Socket) -> Result<Address, Errno> {
        let at = self.connection_of(socket, "a question for its peer");
        if self.connections[at].is_broken && self.random.percent(50) {
            self.one(What::peer_gone);
            return Err(NOT_CONNECTED);
        }
        Ok(self.connections[at].address.into())
    }

    fn unacknowledged(&mut self, socket: Socket) -> u64 {
        let at = self.connection_of(socket, "a question");
        self.check_judgement(socket, at);
        let connection = &self.connections[at];
        connection.outbound.len() as u64 + u64::from(connection.is_shut.0 && !connection.is_fin_acknowledged)
    }

    fn unread(&mut self, socket: Socket) -> u64 {
        let at = self.connection_of(socket, "a question");
        self.connections[at].inbound.len() as u64
    }

    fn empty(&mut self, listener: Socket, most: u64, anyway: bool) -> Emptied {
        let at = self.listener_of(listener, "a question");
        if self.listeners[at].is_over || self.listeners[at].is_left {
            violated!("a listener is emptied that does not listen, or that is another's");
        }
        if self.flights.iter().any(|flight| flight.socket == listener) {
            violated!("a listener is emptied while an accept is under way");
        }
        let mut emptied = Emptied::default();
        emptied.is_over = loop {
            if emptied.taken.len() as u64 >= most {
                break anyway || self.listeners[at].queue.is_empty();
            }
            if self.listeners[at].queue.is_empty() {
                break true;
            }
            if self.oddly(self.habits.accept_fails) {
                if self.random.percent(50) {
                    self.one(What::emptying_exhausted);
                    break anyway;
                }
                let gone = self.listeners[at].queue.pop_front();
                self.listeners[at].reset.extend(gone);
                continue;
            }
            if let Some(taken) = self.listeners[at].queue.pop_front() {
                emptied.taken.push(self.descriptor_for(taken));
            }
        };
        self.tally.add(What::emptied_some, usize::from(!emptied.taken.is_empty()));
        if emptied.is_over {
            if !anyway && !self.listeners[at].queue.is_empty() {
                violated!("the simulated listener ends with connections queued");
            }
            self.tally.add(What::queue_reset_by_stop, self.listeners[at].queue.len());
            self.listeners[at].dropped += self.listeners[at].queue.len();
            self.listeners[at].end();
        } else {
            self.one(What::crowded);
        }
        emptied
    }

    fn overflows(&self) -> u64 {
        0
    }

    /// Such a close is a violation here.
    fn unclosed(&self) -> u64 {
        0
    }

    fn refuse_new(&mut self, listener: Socket) -> Result<(), Errno> {
        let at = self.listener_of(listener, "a filter");
        if self.oddly(self.habits.calls_fail) {
            return Err(Errno::NOMEM);
        }
        self.listeners[at].refuses_new = true;
        Ok(())
    }
}
