//! The connections of the clients: one task reads from all of them, and one sends to each that does not take its bytes at once.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;

use nix::sys::epoll::EpollEvent;

use super::Core;
use super::readiness::{Events, Ready, TURN_MAX};
use super::stream::Stream;
use crate::near;
use crate::session::clients::Clients;
use crate::session::output::SlotIndex;

/// Bytes of the receive buffer: what one client may have handled in one turn.
const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes of a long chunk that are sent at once.
const SLICE_BYTES: usize = 256 * 1024;

/// Chunks that are sent to one client in one turn; the rest waits for the ring, so that the others have theirs.
const CHUNKS_AT_ONCE: usize = 4;

/// What a core keeps of a client's connection besides its state.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// A sender is at work.
    sending: Cell<bool>,
    /// Nothing more is read.
    ended: Cell<bool>,
}

// An idle client has one: it grows knowingly.
const _: () = assert!(size_of::<Connection>() <= 96);

impl Connection {
    /// A connection that nobody reads or writes yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, sending: Cell::new(false), ended: Cell::new(false) }
    }
}

/// Begins to serve a client, or to refuse it where the process is `full`. An error means that it cannot be served.
pub fn start(core: &Rc<Core>, stream: Stream, peer: IpAddr, full: bool) -> io::Result<()> {
    let slot = core.clients(|clients| clients.accept(peer));
    // First of all: what has no connection and no watch yet needs no end of its own.
    core.readiness.watch(&stream, slot).inspect_err(|_| core.clients(|clients| clients.release(slot)))?;
    core.connect(slot, Rc::new(Connection::new(stream)));
    if full {
        core.clients(|clients| clients.no_place(slot));
    }
    Ok(())
}

/// Reads what the clients of the core send, as long as the core lives.
pub async fn read_all(core: Rc<Core>) {
    let mut events: Events = [EpollEvent::empty(); TURN_MAX];
    let error = loop {
        match core.readiness.next(&mut events).await {
            Ok(ready) => read_ready(&core, ready),
            Err(error) => break error,
        }
    };
    tracing::error!("host: core {} cannot wait for its clients any more: {error}", core.index);
}

/// Reads once from each of `ready`.
fn read_ready(core: &Rc<Core>, ready: impl Iterator<Item = Ready> + Clone) {
    core.turn(ready.clone().count(), |clients| {
        let connections = core.connections.borrow();
        let connection = |slot: SlotIndex| connections.get(slot as usize).and_then(Option::as_deref);
        for Ready { slot, .. } in ready.clone() {
            clients.bring_near(slot);
            connection(slot).inspect(|connection| near::bring(*connection));
        }
        for Ready { slot, unfinished } in ready {
            if let Some(connection) = connection(slot) {
                read(core, clients, slot, connection, unfinished);
            }
        }
    });
}

/// Reads once from a client, if it may be read from. `unfinished`: one read may leave something behind however little it
/// brings.
fn read(core: &Core, clients: &mut Clients, slot: SlotIndex, connection: &Connection, unfinished: bool) {
    if connection.ended.get() || !clients.may_read(slot) {
        return;
    }
    let mut buffer = core.receive_buffer.borrow_mut();
    buffer.clear();
    buffer.reserve(BUFFER_BYTES);
    match connection.stream.read_now(&mut buffer) {
        Ok(None) => {}
        Ok(Some(0)) => {
            connection.ended.set(true);
            clients.ended(slot, "the client ended the connection without a Close frame");
        }
        Ok(Some(_)) => {
            clients.input(slot, &mut buffer);
            // Asked at once: who is not read from owes no pong, and perhaps nothing more comes that would have it asked.
            // Of what else a client has sent nothing is told unless it is asked for.
            if clients.may_read(slot) && (unfinished || buffer.len() == buffer.capacity()) {
                core.readiness.look_again(&connection.stream, slot);
            }
        }
        Err(_) => {
            connection.ended.set(true);
            clients.broke(slot, "the connection broke");
        }
    }
}

/// A client is to be judged: reads what has come of it, and says how much it has yet to acknowledge.
pub fn look(core: &Core, clients: &mut Clients, slot: SlotIndex, connection: &Connection) {
    read(core, clients, slot, connection, false);
    clients.looked(slot, connection.stream.unacknowledged());
}

/// Gives the connection up, now or when the sender has noticed.
pub fn release(core: &Core, clients: &mut Clients, slot: SlotIndex, connection: &Connection) {
    connection.ended.set(true);
    // Once more than a courtesy: a peer that still sends sees an end, not a reset, as far as it can be had.
    connection.stream.shutdown(Shutdown::Both);
    if !connection.sending.get() {
        core.disconnect(slot);
        clients.release(slot);
    }
}

/// Sends the rest of a chunk, and tells how far the kernel has taken it: what the peer acknowledges is counted by that.
async fn send(
    core: &Rc<Core>,
    slot: SlotIndex,
    connection: &Connection,
    chunk: &[u8],
    mut from: usize,
) -> io::Result<()> {
    loop {
        let slice = &chunk[from..chunk.len().min(from + SLICE_BYTES)];
        let bytes = connection.stream.send_now(slice)?;
        from += bytes;
        if from == chunk.len() {
            return Ok(());
        }
        if bytes > 0 {
            core.clients(|clients| clients.progressed(slot, bytes));
        }
        // Also where the kernel took it all, and takes more at once: the others have their turn.
        connection.stream.writable().await?;
    }
}

/// Sends what waits for a client as far as the kernel takes it at once, which is nearly always all of it: no task, no
/// entry of the ring, and the buffer is free again. What the kernel does not take is left to a task.
pub fn send_outbound(core: &Rc<Core>, clients: &mut Clients, slot: SlotIndex, connection: &Rc<Connection>) {
    if connection.sending.get() {
        return;
    }
    for _ in 0..CHUNKS_AT_ONCE {
        let Some(chunk) = clients.take_outbound(slot) else { return };
        match connection.stream.send_now(&chunk) {
            Ok(bytes) if bytes == chunk.len() => {
                clients.recycle(chunk);
                clients.sent(slot);
            }
            Ok(bytes) => {
                clients.progressed(slot, bytes);
                return start_sending(core, slot, connection, Some((chunk, bytes)));
            }
            Err(_) => return clients.broke(slot, "the connection broke"),
        }
    }
    start_sending(core, slot, connection, None);
}

/// Starts a sender with the rest of a chunk, then for what is queued behind it.
fn start_sending(core: &Rc<Core>, slot: SlotIndex, connection: &Rc<Connection>, rest: Option<(Vec<u8>, usize)>) {
    connection.sending.set(true);
    let (core, connection) = (Rc::clone(core), Rc::clone(connection));
    monoio::spawn(async move {
        let mut rest = rest;
        while let Some((chunk, from)) =
            rest.take().or_else(|| core.clients(|clients| clients.take_outbound(slot)).map(|chunk| (chunk, 0)))
        {
            if send(&core, slot, &connection, &chunk, from).await.is_err() {
                core.clients(|clients| clients.broke(slot, "the connection broke"));
                break;
            }
            core.clients(|clients| {
                clients.recycle(chunk);
                clients.sent(slot);
            });
        }
        connection.sending.set(false);
        core.clients(|clients| {
            if clients.is_over(slot) {
                release(&core, clients, slot, &connection);
            }
        });
    });
}
