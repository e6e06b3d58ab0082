//! The tasks of one client: one that reads as long as the connection lives, one that sends while there is something.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;

use monoio::buf::IoBuf;

use super::Core;
use super::notify::Notify;
use super::stream::Stream;
use crate::session::clients::Clients;
use crate::session::output::SlotIndex;

/// Bytes of a long chunk that are sent at once.
const SLICE_BYTES: usize = 256 * 1024;

/// Chunks that are sent to one client in one turn; the rest waits for the ring, so that the others have theirs.
const CHUNKS_AT_ONCE: usize = 4;

/// What a core keeps of a client's connection besides its state.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Wakes the reader when it may read again, and when the sender is done: it never waits for both.
    pub reader: Notify,
    /// A sender is at work.
    sending: Cell<bool>,
}

// An idle client has one: it grows knowingly.
const _: () = assert!(size_of::<Connection>() <= 128);

impl Connection {
    /// A connection that nobody reads or writes yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, reader: Notify::default(), sending: Cell::new(false) }
    }
}

/// Begins to serve a client; `refusal` is an HTTP status and response to send instead.
pub fn start(core: &Rc<Core>, stream: Stream, peer: IpAddr, refusal: Option<(u16, Vec<u8>)>) {
    let slot = core.clients(|clients| clients.accept(peer));
    let connection = Rc::new(Connection::new(stream));
    core.connect(slot, Rc::clone(&connection));
    if let Some((status, response)) = refusal {
        core.clients(|clients| clients.refuse(slot, status, &response));
    }
    monoio::spawn(serve(Rc::clone(core), slot, connection));
}

/// Serves one client to the end. A task of many: what it holds while it waits is what an idle client costs.
async fn serve(core: Rc<Core>, slot: SlotIndex, connection: Rc<Connection>) {
    let end = read(&core, slot, &connection).await;
    core.clients(|clients| clients.ended(slot, end));
    while connection.sending.get() {
        connection.reader.notified().await;
    }
    // Once more than a courtesy: a peer that still sends sees an end, not a reset, as far as it can be had.
    connection.stream.shutdown(Shutdown::Write);
    core.disconnect(slot);
    core.clients(|clients| clients.release(slot));
}

/// Reads until the end, which it names.
async fn read(core: &Rc<Core>, slot: SlotIndex, connection: &Connection) -> &'static str {
    loop {
        while !core.clients(|clients| clients.may_read(slot)) {
            connection.reader.notified().await;
        }
        // Readiness first, then a buffer: a connection that waits owns none.
        if connection.stream.readable().await.is_err() {
            return "the connection broke";
        }
        core.bring_near(slot);
        let mut buffer = core.pool.take();
        let end = match connection.stream.read_now(&mut buffer) {
            Ok(None) => None,
            Ok(Some(0)) => Some("the client ended the connection without a Close frame"),
            Ok(Some(_)) => {
                core.clients(|clients| clients.input(slot, &mut buffer));
                None
            }
            Err(_) => Some("the connection broke"),
        };
        core.pool.give(buffer);
        if let Some(end) = end {
            return end;
        }
    }
}

/// Sends the rest of a chunk and gives it back, and tells of its progress where it is long: that is how a slow link is told
/// from a dead one.
async fn send(
    core: &Rc<Core>,
    slot: SlotIndex,
    connection: &Connection,
    mut chunk: Vec<u8>,
    mut from: usize,
) -> io::Result<Vec<u8>> {
    while from < chunk.len() {
        let to = chunk.len().min(from + SLICE_BYTES);
        let (result, slice) = connection.stream.write_all(chunk.slice(from..to)).await;
        result?;
        chunk = slice.into_inner();
        from = to;
        if from < chunk.len() {
            core.clients(|clients| clients.progressed(slot));
        }
    }
    Ok(chunk)
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
            Ok(bytes) => return start_sending(core, slot, connection, Some((chunk, bytes))),
            Err(_) => {
                clients.ended(slot, "the connection broke");
                return connection.stream.shutdown(Shutdown::Both);
            }
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
            let Ok(chunk) = send(&core, slot, &connection, chunk, from).await else {
                core.clients(|clients| clients.ended(slot, "the connection broke"));
                connection.stream.shutdown(Shutdown::Both);
                break;
            };
            core.clients(|clients| {
                clients.recycle(chunk);
                clients.sent(slot);
            });
        }
        connection.sending.set(false);
        connection.reader.notify();
    });
}
