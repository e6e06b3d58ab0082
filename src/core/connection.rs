//! The connections of the clients: one task reads from all of them, and one sends to each that does not take its bytes at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evergate_prefetch::prefetch;
use evergate_proto::clients::output::SlotIndex;
use evergate_proto::clients::table::Clients;
use monoio::time::sleep;
use nix::sys::epoll::EpollEvent;
use smallvec::SmallVec;

use super::Core;
use super::readiness::{Events, Ready, TURN_MAX};
use super::stream::Stream;

/// Bytes of the receive buffer: what one client may have handled in one turn.
const BUFFER_BYTES: usize = 16 * 1024;

/// A client of which one read brings more than this is heavy: it is read when the others have been.
const LIGHT_BYTES: usize = 4 * 1024;

/// The time after which no more light clients are read in a turn, looked at whenever so many bytes more have been: a read may bring
/// dozens of requests. Who is left is the first of the next turn's heavy ones.
const LIGHT_TURN: Duration = Duration::from_millis(2);
const LIGHT_LOOK_BYTES: usize = 16 * 1024;

/// So often a turn may leave the heavy ones to the next because more may be ready than the set told of at once: whoever is light is
/// found first, behind however many that have gone.
const FULL_TURNS_MAX: usize = 32;

/// Bytes that are read of heavy clients in one turn, and the time after which no more is. The light ones wait for no more
/// than that, however many are heavy; one long message that has become whole may go beyond it.
const HEAVY_TURN_BYTES: usize = 64 * 1024;
const HEAVY_TURN: Duration = Duration::from_millis(1);

/// Bytes of a long chunk that are sent with the decision that queued it; its rest waits for the ring.
const AT_ONCE_BYTES: usize = 1024 * 1024;

/// Bytes of a long chunk that its sender sends at once: between these, so that all senders together send [`SENT_TURN_BYTES`].
const SLICE_BYTES: RangeInclusive<usize> = 4 * 1024..=256 * 1024;
const SENT_TURN_BYTES: usize = 2 * 1024 * 1024;

/// What a client was owed that is gone is freed at once where its turn of the core has not lasted this long: many may
/// leave together, and to unmap megabytes takes time (docs/performance.md, "Work in a turn").
const FREE_TURN: Duration = Duration::from_millis(1);

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
    /// The last read brought much.
    much: Cell<bool>,
    /// It waits among the heavy ones.
    queued: Cell<bool>,
}

// An idle client has one: it grows knowingly.
const _: () = assert!(size_of::<Connection>() <= 96);

impl Connection {
    /// A connection that nobody reads or writes yet.
    pub fn new(stream: Stream) -> Self {
        let [sending, ended, much, queued] = [const { Cell::new(false) }; 4];
        Self { stream, sending, ended, much, queued }
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

/// Reads once from each light one of `ready`, then from those heavy ones whose turn it is.
fn read_ready(core: &Rc<Core>, ready: impl Iterator<Item = Ready> + Clone) {
    let ready_count = ready.clone().count();
    core.turn(|clients| {
        let mut heavy = core.heavy.borrow_mut();
        let queued = heavy.len();
        let mut queue = |slot, connection: &Connection| {
            if !connection.queued.replace(true) {
                heavy.push_back(slot);
            }
        };
        let (mut bytes, mut is_over, began) = (0, false, Instant::now());
        let mut left = SmallVec::<[SlotIndex; 16]>::new();
        let connections = core.connections.borrow();
        let connection = |slot: SlotIndex| connections.get(slot as usize).and_then(Option::as_deref);
        for Ready { slot, .. } in ready.clone() {
            clients.prefetch(slot);
            connection(slot).inspect(|connection| prefetch(*connection));
        }
        for Ready { slot, unfinished } in ready {
            let Some(connection) = connection(slot) else { continue };
            // Who has gone is in no hurry: to end a thousand takes as long as to serve a thousand.
            if connection.much.get() || unfinished || clients.is_amid_long_message(slot) {
                queue(slot, connection);
                continue;
            }
            if is_over {
                left.extend((!connection.queued.replace(true)).then_some(slot));
                continue;
            }
            let read = read(core, clients, slot, connection, unfinished);
            bytes += read.bytes;
            if bytes >= LIGHT_LOOK_BYTES {
                (bytes, is_over) = (0, began.elapsed() >= LIGHT_TURN);
            }
            if read.has_more {
                queue(slot, connection);
            }
        }
        // The heavy ones wait for a turn that finds no more who are ready, though not for ever.
        let leaves_heavy = ready_count == TURN_MAX && core.full_turns.get() < FULL_TURNS_MAX;
        core.full_turns.set(if leaves_heavy { core.full_turns.get() + 1 } else { 0 });
        if leaves_heavy {
            core.readiness.come_back();
        } else {
            read_heavy(core, clients, (&mut heavy, queued), connection);
        }
        if !left.is_empty() {
            left.drain(..).rev().for_each(|slot| heavy.push_front(slot));
            core.readiness.come_back();
        }
        ready_count
    });
}

/// Reads from the heavy ones in turn, those that were `queued` before this turn of the core's: what others have just sent is
/// decided and answered first. Who has more goes to the end.
fn read_heavy<'c>(
    core: &Core,
    clients: &mut Clients,
    (heavy, queued): (&mut VecDeque<SlotIndex>, usize),
    connection: impl Fn(SlotIndex) -> Option<&'c Connection>,
) {
    let began = Instant::now();
    let mut bytes = 0;
    for _ in 0..queued {
        if bytes >= HEAVY_TURN_BYTES || began.elapsed() >= HEAVY_TURN {
            break;
        }
        let Some(slot) = heavy.pop_front() else { break };
        let Some(connection) = connection(slot) else { continue };
        // Its predecessor in the slot may have been meant: then there may be nothing to be read, which does no harm.
        connection.queued.set(false);
        let read = read(core, clients, slot, connection, true);
        bytes += read.bytes;
        if read.has_more && !connection.queued.replace(true) {
            heavy.push_back(slot);
        }
    }
    if !heavy.is_empty() {
        core.readiness.come_back();
    }
}

/// What one read brought.
#[derive(Default)]
struct Read {
    bytes: usize,
    /// There may be more, of which nobody will be told.
    has_more: bool,
}

/// Reads once from a client, if it may be read from. `unfinished`: one read may leave something behind however little it
/// brings.
fn read(core: &Core, clients: &mut Clients, slot: SlotIndex, connection: &Connection, unfinished: bool) -> Read {
    if connection.ended.get() || !clients.may_read(slot) {
        return Read::default();
    }
    let mut buffer = core.receive_buffer.borrow_mut();
    buffer.clear();
    buffer.reserve(BUFFER_BYTES);
    match connection.stream.read_now(&mut buffer) {
        Ok(None) => connection.much.set(false),
        Ok(Some(0)) => {
            connection.ended.set(true);
            clients.ended(slot, "the client ended the connection without a Close frame");
        }
        Ok(Some(bytes)) => {
            connection.much.set(bytes > LIGHT_BYTES);
            clients.input(slot, &mut buffer);
            // Asked at once: who is not read from owes no pong, and perhaps nothing more comes that would have it asked.
            // Of what else a client has sent nothing is told.
            let may_more = unfinished || buffer.len() == buffer.capacity();
            let has_more = may_more && clients.may_read(slot);
            if !may_more {
                clients.look_to_pause(slot);
            }
            return Read { bytes, has_more };
        }
        Err(_) => {
            connection.ended.set(true);
            clients.broke(slot, "the connection broke");
        }
    }
    Read::default()
}

/// A client is to be judged: reads what has come of it, and says how much it has yet to acknowledge.
pub fn look(core: &Core, clients: &mut Clients, slot: SlotIndex, connection: &Connection) {
    if read(core, clients, slot, connection, false).has_more {
        core.readiness.look_again(&connection.stream, slot);
    }
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
        let bytes_max = (SENT_TURN_BYTES / core.senders.get().max(1)).clamp(*SLICE_BYTES.start(), *SLICE_BYTES.end());
        let slice = &chunk[from..chunk.len().min(from + bytes_max)];
        core.waits.works();
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
        match connection.stream.send_now(&chunk[..chunk.len().min(AT_ONCE_BYTES)]) {
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
    core.senders.set(core.senders.get() + 1);
    let (core, connection) = (Rc::clone(core), Rc::clone(connection));
    monoio::spawn(async move {
        let mut rest = rest;
        while let Some((chunk, from)) =
            rest.take().or_else(|| core.clients(|clients| clients.take_outbound(slot)).map(|chunk| (chunk, 0)))
        {
            if send(&core, slot, &connection, &chunk, from).await.is_err() {
                core.clients(|clients| clients.broke(slot, "the connection broke"));
                wait_to_free(&core, slot).await;
                break;
            }
            core.clients(|clients| {
                clients.recycle(chunk);
                clients.sent(slot);
            });
        }
        connection.sending.set(false);
        core.senders.set(core.senders.get() - 1);
        core.clients(|clients| {
            if clients.is_over(slot) {
                release(&core, clients, slot, &connection);
            }
        });
    });
}

/// Waits until there is time to free what the client in `slot` was owed. Until then it counts among the bytes of the core.
async fn wait_to_free(core: &Core, slot: SlotIndex) {
    core.waits.works();
    if core.waits.worked() < FREE_TURN {
        return;
    }
    let owed = core.clients.borrow().owed(slot);
    core.unfreed.set(core.unfreed.get() + owed);
    while core.waits.worked() >= FREE_TURN {
        sleep(FREE_TURN).await;
        core.waits.works();
    }
    core.unfreed.set(core.unfreed.get() - owed);
}
