//! The sockets of the links to Redis. Does what [`Links`] asks, and decides nothing.
//!
//! [`Links`]: crate::redis::links::Links

mod sealed;

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use self::sealed::Sealed;
use super::{EventLoop, Host, in_us};
use crate::clients::from_bus::TOGETHER;
use crate::counters;
use crate::redis::connection::Half;
use crate::redis::links::{LinkId, Want};
use crate::redis::trouble::Trouble;
use crate::ring::{Completion, Errno, Kind, Kinds, Op, Ring, Socket};

/// How long nothing is popped by a core that is out of buffers, at a time: Redis has the room that this core has not. Those who hold
/// too much are cut at once: it is not for long.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(1);
/// A batch's buffer that has grown larger is given back.
const BATCH_BYTES_KEPT: usize = 64 * 1024;

/// The connection of one attempt, until nothing is under way on it any more.
#[derive(Debug)]
struct Wire {
    link: LinkId,
    generation: u32,
    /// Where it leads to; none: a Unix socket.
    port: Option<u16>,
    socket: Socket,
    under_way: Kinds,
    /// What its bytes go through, if they do.
    sealed: Option<Sealed>,
    /// Bytes of the batch under way that the kernel has taken.
    sent: usize,
    /// The link has given it up.
    is_over: bool,
    /// What has come was waited for since the last batch; then the next may be written.
    is_caught_up: bool,
    /// The receive under way was started in this turn: nothing is known of it.
    is_fresh: bool,
}

impl Wire {
    fn new(link: LinkId, generation: u32, port: Option<u16>, socket: Socket) -> Self {
        Self {
            link,
            generation,
            port,
            socket,
            under_way: Kinds::NONE,
            sealed: None,
            sent: 0,
            is_over: false,
            is_caught_up: false,
            is_fresh: false,
        }
    }

    fn op(&self, kind: Kind) -> Op {
        Op::new(kind, place(self.link), self.generation)
    }
}

/// The number of a link.
fn place(link: LinkId) -> u32 {
    (link.domain * 2 + usize::from(link.half == Half::Pop)) as u32
}

/// Buffers that no batch is in.
#[derive(Debug, Default)]
struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Takes one back, unless it is large.
    fn give_back(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= BATCH_BYTES_KEPT {
            self.0.push(cleared(buffer));
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Wires {
    all: Vec<Wire>,
    /// Memory for the next batch of each.
    spare: Spare,
    /// What was opened of what has come last on a link whose bytes are sealed; empty between.
    opened: Vec<u8>,
    /// Somebody waits for what has come already.
    has_more: bool,
    /// Replies are left in Redis.
    waits_for_room: bool,
}

impl Wires {
    pub fn begin_turn(&mut self) {
        self.all.iter_mut().for_each(|wire| wire.is_fresh = false);
    }

    /// Whether something can be done without waiting.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether replies are left in Redis until the core has room.
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room
    }

    fn index(&self, op: Op) -> Option<usize> {
        self.all.iter().position(|wire| place(wire.link) == op.place && wire.op(op.kind) == op)
    }

    /// The connection that a link has.
    fn current(&self, link: LinkId) -> Option<usize> {
        self.all.iter().position(|wire| wire.link == link && !wire.is_over)
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Does what the links ask for: connects, gives up, writes, receives.
    pub(super) fn settle_links(&mut self) {
        let Self { clients, links, .. } = self;
        if clients.asks_about_router() {
            links.ask_about_router(clients.context.now_ms());
        }
        self.wires.has_more = false;
        loop {
            while let Some(want) = self.links.next_want() {
                match want {
                    Want::Connect { link, generation, attempt } => self.connect_link(link, generation, attempt),
                    Want::Close { link, .. } => self.give_link_up(link),
                }
            }
            self.wires.waits_for_room = false;
            for link in self.links.all() {
                self.write_link(link);
                self.receive_link(link);
            }
            if self.clients.context.output().is_empty() && !self.links.has_wants() {
                break;
            }
            self.carry_out();
        }
        self.links.publish(self.clients.context.core());
    }

    fn connect_link(&mut self, link: LinkId, generation: u32, attempt: u32) {
        let opened = match self.host.dial(link.domain, attempt) {
            Some(dial) => {
                let opened = self.ring.open(&dial.place, self.options.bus_dead);
                opened.map(|socket| (dial, socket)).map_err(host_trouble)
            }
            None => Err(Trouble::Unresolved),
        };
        match opened {
            Ok((dial, socket)) => {
                let mut wire = Wire::new(link, generation, dial.place.port(), socket);
                wire.sealed = dial.cipher.map(Sealed::new);
                wire.under_way.insert(Kind::LinkConnect);
                self.ring.connect(wire.op(Kind::LinkConnect), socket, &dial.place);
                self.wires.all.push(wire);
            }
            Err(trouble) => self.links.connected(&mut self.clients, link, generation, Err(trouble)),
        }
    }

    /// A link is open, or cannot be.
    pub(super) fn link_connected(&mut self, completion: &Completion) {
        let Some(at) = self.wires.index(completion.op) else { return };
        let wire = &mut self.wires.all[at];
        wire.under_way.remove(Kind::LinkConnect);
        if !wire.is_over {
            match completion.result {
                Ok(_) if wire.sealed.is_some() => {
                    self.links.reached(wire.link, wire.generation);
                    self.agree(at);
                }
                result => self.tell_connected(at, result.map(|_| ()).map_err(host_trouble)),
            }
        }
        self.drop_over(at);
    }

    /// The link may be used, or cannot be.
    fn tell_connected(&mut self, at: usize, result: Result<(), Trouble>) {
        let Wire { link, generation, port, .. } = self.wires.all[at];
        self.links.connected(&mut self.clients, link, generation, result.map(|()| port));
        self.carry_out();
    }

    /// The link's connection is given up; it is closed when nothing is under way on it.
    fn give_link_up(&mut self, link: LinkId) {
        let Some(at) = self.wires.current(link) else { return };
        let wire = &mut self.wires.all[at];
        wire.is_over = true;
        self.ring.shutdown(wire.socket, Shutdown::Both);
        for kind in wire.under_way.iter() {
            self.ring.cancel(wire.op(kind));
        }
        self.drop_over(at);
    }

    fn drop_over(&mut self, at: usize) {
        let wire = &self.wires.all[at];
        if wire.is_over && wire.under_way.is_empty() {
            self.ring.close(wire.socket);
            self.wires.all.swap_remove(at);
        }
    }

    /// Writes what the link has, unless a batch is under way.
    fn write_link(&mut self, link: LinkId) {
        let Some(at) = self.wires.current(link) else { return };
        let wire = &mut self.wires.all[at];
        let is_taken = [Kind::LinkConnect, Kind::LinkSend].into_iter().any(|kind| wire.under_way.contains(kind));
        if is_taken || !self.links.writes(link) {
            return;
        }
        match self.links.catches_up(link, self.clients.context.now_ms()) {
            // Behind a pause all that has come is heard first, so that nothing is written to a link that Redis has closed. What a
            // receive waits for that was under way before this turn has not come.
            Some(true) if !wire.is_caught_up || wire.under_way.contains(Kind::LinkReceive) && wire.is_fresh => {
                let is_heard = wire.under_way.contains(Kind::LinkReceive) && !wire.is_fresh;
                wire.is_caught_up = true;
                if !is_heard {
                    self.start_receiving(at);
                    self.wires.has_more = true;
                    return;
                }
            }
            Some(_) => self.start_receiving(at),
            None => {}
        }
        let mut batch = self.wires.spare.take();
        if !self.links.write(&mut self.clients, link, &mut batch) {
            return self.wires.spare.give_back(batch);
        }
        if self.links.wants_time(link) {
            self.links.timed_from(link, in_us(self.host.now()));
        }
        if self.wires.all[at].sealed.is_some() {
            return self.write_sealed(at, batch);
        }
        self.send_batch(at, batch);
    }

    fn send_batch(&mut self, at: usize, batch: Vec<u8>) {
        let wire = &mut self.wires.all[at];
        wire.under_way.insert(Kind::LinkSend);
        (wire.sent, wire.is_caught_up) = (0, false);
        let bytes = batch.len();
        self.ring.send(wire.op(Kind::LinkSend), wire.socket, batch, 0..bytes, true);
    }

    /// The kernel has taken a batch, or the first part of it.
    pub(super) fn link_sent(&mut self, completion: Completion) {
        let Some(at) = self.wires.index(completion.op) else { return };
        let wire = &mut self.wires.all[at];
        let batch = completion.buffer.unwrap_or_default();
        let taken = completion.result.map_or(0, u64::from);
        counters::add(&self.clients.context.counts().bus_sent_bytes, taken);
        let result = match completion.result {
            Ok(bytes) if !wire.is_over && wire.sent + (bytes as usize) < batch.len() => {
                wire.sent += bytes as usize;
                let rest = wire.sent..batch.len();
                return self.ring.send(wire.op(Kind::LinkSend), wire.socket, batch, rest, false);
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(host_trouble(errno)),
        };
        wire.under_way.remove(Kind::LinkSend);
        let (link, generation) = (wire.link, wire.generation);
        self.wires.spare.give_back(batch);
        if wire.sealed.as_ref().is_some_and(Sealed::agrees) {
            self.has_agreed_so_far(at, result);
        } else {
            self.links.written(&mut self.clients, link, generation, result);
            self.carry_out();
        }
        self.drop_over(at);
    }

    /// Receives what the link wants to know.
    fn receive_link(&mut self, link: LinkId) {
        let Some(at) = self.wires.current(link) else { return };
        let under_way = self.wires.all[at].under_way;
        if [Kind::LinkConnect, Kind::LinkReceive].into_iter().any(|kind| under_way.contains(kind)) {
            return;
        }
        if link.half == Half::Push {
            if self.links.receives(link, false) {
                self.start_receiving(at);
            }
            return;
        }
        self.count_bytes();
        let is_full = self.clients.context.is_core_full();
        if self.links.receives(link, is_full) {
            self.start_receiving(at);
        } else {
            self.wires.waits_for_room |= is_full;
        }
    }

    fn start_receiving(&mut self, at: usize) {
        let wire = &mut self.wires.all[at];
        if wire.under_way.contains(Kind::LinkReceive) {
            return;
        }
        if let Some(sealed) = &mut wire.sealed {
            let (room, op, socket) = (sealed.take_room(), wire.op(Kind::LinkReceive), wire.socket);
            wire.under_way.insert(Kind::LinkReceive);
            wire.is_fresh = true;
            return self.ring.receive_into(op, socket, room, 0);
        }
        let whole = self.links.missing(wire.link);
        if let Some(room) = self.links.room(wire.link) {
            wire.under_way.insert(Kind::LinkReceive);
            wire.is_fresh = true;
            self.ring.receive_into(wire.op(Kind::LinkReceive), wire.socket, room, whole);
        }
    }

    /// Redis has said something: how many messages that were.
    pub(super) fn link_received(&mut self, completion: Completion) -> usize {
        let Some(at) = self.wires.index(completion.op) else { return 0 };
        let wire = &mut self.wires.all[at];
        wire.under_way.remove(Kind::LinkReceive);
        let (link, generation) = (wire.link, wire.generation);
        let bytes = completion.result.map_or(0, u64::from);
        counters::add(&self.clients.context.counts().bus_received_bytes, bytes);
        let (buffer, result) = (completion.buffer.unwrap_or_default(), completion.result);
        if wire.sealed.is_some() {
            self.sealed_received(at, buffer, result);
        } else {
            let result = result.map(|bytes| Some(bytes as usize)).map_err(host_trouble);
            self.links.received(&mut self.clients, link, generation, buffer, result);
        }
        self.carry_out();
        let mut messages = 0;
        if link.half == Half::Pop {
            loop {
                self.count_bytes();
                let delivered = self.links.deliver(&mut self.clients);
                self.carry_out();
                messages += delivered;
                // Fewer than are handled together: there are no more.
                if delivered < TOGETHER {
                    break;
                }
            }
        }
        self.drop_over(at);
        messages
    }
}

fn host_trouble(errno: Errno) -> Trouble {
    Trouble::Host(io::Error::from_raw_os_error(errno.0))
}

fn cleared(mut batch: Vec<u8>) -> Vec<u8> {
    batch.clear();
    batch
}
