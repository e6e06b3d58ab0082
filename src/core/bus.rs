//! The sockets of a core's links to the bus, on monoio's ring.
//!
//! Does what [`Links`] asks, and decides nothing: for each connection one task that writes and one that receives, which end when the
//! link has given their connection up.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evergate_proto::clients::from_bus::TOGETHER;
use evergate_proto::clients::table::Clients;
use evergate_proto::redis::connection::Half;
use evergate_proto::redis::links::{LinkId, LinkOptions, Links, Want};
use evergate_proto::redis::trouble::Trouble;
use monoio::buf::IoBufMut;
use monoio::time::{sleep, timeout};
use smallvec::SmallVec;

use super::Core;
use super::notify::Notify;
use super::stream::Stream;
use crate::process::resolver::Resolver;
use crate::process::settings::Settings;

/// How long nothing is popped by a core that is out of buffers, at a time.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// A batch's buffer that has grown larger is given back.
const BATCH_BYTES_KEPT: usize = 256 * 1024;

/// The links of a core and their sockets.
pub struct Bus {
    links: RefCell<Links>,
    /// Those of each domain: the one that pushes, the one that pops.
    wires: Vec<[Wire; 2]>,
    /// Where the names of the bus domains are resolved.
    resolver: Arc<Resolver>,
    /// The longest wait for a connection.
    connect_max: Duration,
    /// `TCP_USER_TIMEOUT` of the links.
    dead: Duration,
}

/// What one link has of the world.
#[derive(Default)]
struct Wire {
    /// The connection.
    stream: RefCell<Option<Rc<Stream>>>,
    /// There may be something to write, or the connection was given up.
    write: Notify,
    /// There may be something to receive, or the connection was given up.
    receive: Notify,
    /// A receive is under way.
    is_receiving: Cell<bool>,
}

impl Bus {
    /// No connection yet.
    pub fn new(links: Links, options: &LinkOptions, settings: &Settings, resolver: Arc<Resolver>) -> Self {
        Self {
            links: RefCell::new(links),
            wires: settings.domains.iter().map(|_| <[Wire; 2]>::default()).collect(),
            resolver,
            connect_max: Duration::from_millis(options.connect_max_ms),
            dead: settings.bus_dead,
        }
    }

    /// The links, for a moment.
    pub fn links<T>(&self, act: impl FnOnce(&mut Links) -> T) -> T {
        act(&mut self.links.borrow_mut())
    }

    /// Asks for the names of the domains to be resolved anew.
    pub fn resolve_again(&self) {
        self.resolver.resolve_again();
    }

    /// The connections whose confirmations are waited for on the ring.
    pub fn confirmations(&self) -> SmallVec<[Rc<Stream>; 4]> {
        self.wires.iter().filter(|[push, _]| push.is_receiving.get()).filter_map(|[push, _]| push.stream()).collect()
    }

    fn wire(&self, link: LinkId) -> &Wire {
        &self.wires[link.domain][usize::from(link.half == Half::Pop)]
    }

    /// Does what the links ask for, and wakes the tasks that have something to do.
    pub fn settle(&self, core: &Rc<Core>) {
        let mut links = self.links.borrow_mut();
        while let Some(want) = links.next_want() {
            match want {
                Want::Connect { link, generation, attempt } => {
                    let address = self.resolver.address(link.domain, attempt as usize);
                    monoio::spawn(serve(Rc::clone(core), link, generation, address));
                }
                Want::Close { link, .. } => {
                    let wire = self.wire(link);
                    if link.half == Half::Pop {
                        core.waits.set_pops(None);
                    }
                    if let Some(stream) = wire.stream.take() {
                        stream.shutdown(Shutdown::Both);
                    }
                    wire.write.notify();
                    wire.receive.notify();
                }
            }
        }
        for link in links.all() {
            if links.writes(link) {
                self.wire(link).write.notify();
            }
            // The one that pops asks by itself.
            if link.half == Half::Push && links.receives(link, false) {
                self.wire(link).receive.notify();
            }
        }
    }
}

impl Wire {
    fn stream(&self) -> Option<Rc<Stream>> {
        self.stream.borrow().clone()
    }
}

/// Opens the connection of an attempt and serves it until the link gives it up.
async fn serve(core: Rc<Core>, link: LinkId, generation: u32, address: Option<SocketAddr>) {
    let opened = match address {
        Some(address) => match timeout(core.bus.connect_max, open(address, core.bus.dead)).await {
            Ok(opened) => opened.map(|stream| (address, stream)).map_err(Trouble::Host),
            Err(_) => Err(Trouble::TimedOut),
        },
        None => Err(Trouble::Unresolved),
    };
    let (address, stream) = match opened {
        Ok((address, stream)) => (Ok(address), Some(Rc::new(stream))),
        Err(trouble) => (Err(trouble), None),
    };
    let is_current = || core.bus.links(|links| links.generation(link)) == Some(generation);
    if is_current() {
        core.bus.wire(link).stream.replace(stream.clone());
    }
    core.links(|links, clients| links.connected(clients, link, generation, address));
    // The link may have given the attempt up meanwhile.
    if let Some(stream) = stream.filter(|_| is_current()) {
        if link.half == Half::Pop {
            core.waits.set_pops(Some(Rc::clone(&stream)));
        }
        monoio::spawn(receive(Rc::clone(&core), link, generation, Rc::clone(&stream)));
        write(&core, link, generation, &stream).await;
    }
}

async fn open(address: SocketAddr, dead: Duration) -> io::Result<Stream> {
    let stream = Stream::connect(address).await?;
    stream.set_nodelay()?;
    stream.set_dead_after(dead)?;
    Ok(stream)
}

/// Writes what the link has, batch after batch.
async fn write(core: &Rc<Core>, link: LinkId, generation: u32, stream: &Stream) {
    let mut batch = Vec::new();
    loop {
        catch_up(core, link, generation, stream);
        if core.bus.links(|links| links.generation(link)) != Some(generation) {
            return;
        }
        batch.clear();
        if !core.links(|links, clients| links.write(clients, link, &mut batch)) {
            core.bus.wire(link).write.notified().await;
            continue;
        }
        let (result, written) = stream.write(batch).await;
        batch = if written.capacity() > BATCH_BYTES_KEPT { Vec::new() } else { written };
        core.links(|links, clients| links.written(clients, link, generation, result.map_err(Trouble::Host)));
    }
}

/// Reads the confirmations that have come, where the link wants to know of them before it writes.
fn catch_up(core: &Rc<Core>, link: LinkId, generation: u32, stream: &Stream) {
    let Some(all) = core.bus.links(|links| links.catches_up(link, core.now_ms())) else { return };
    loop {
        let Some(mut room) = core.bus.links(|links| links.room(link)) else {
            // A receive that is under way has not had its turn: it may be about to hear of the end.
            if all && stream.is_broken() {
                core.links(|links, clients| links.broke(clients, link, generation, &Trouble::Closed));
            }
            return;
        };
        let read = stream.read_now(&mut room).map_err(Trouble::Host);
        let more = all && matches!(read, Ok(Some(1..)));
        core.links(|links, clients| links.received(clients, link, generation, room, read));
        if !more {
            return;
        }
    }
}

/// Receives what the link wants to know, and hands replies on.
async fn receive(core: Rc<Core>, link: LinkId, generation: u32, stream: Rc<Stream>) {
    let wire = core.bus.wire(link);
    while core.bus.links(|links| links.generation(link)) == Some(generation) {
        let is_full = link.half == Half::Pop && core.is_full();
        let room = core.bus.links(|links| links.receives(link, is_full).then(|| links.room(link)).flatten());
        let Some(room) = room else {
            if is_full {
                // Redis has the room that this core has not. Those who hold too much are cut at once: it is not for long.
                sleep(FULL_PAUSE).await;
            } else {
                wire.receive.notified().await;
            }
            continue;
        };
        let filled = room.len();
        wire.is_receiving.set(true);
        let (result, slice) = stream.read(room.slice_mut(filled..)).await;
        wire.is_receiving.set(false);
        let result = result.map(Some).map_err(Trouble::Host);
        let told = |links: &mut Links, clients: &mut Clients| {
            links.received(clients, link, generation, slice.into_inner(), result);
        };
        if link.half == Half::Push {
            core.links(told);
        } else {
            core.waits.begin_turn();
            core.links(told);
            let mut messages = 0;
            loop {
                let delivered = core.links(Links::deliver);
                messages += delivered;
                // Fewer than are handled together: there are no more.
                if delivered < TOGETHER {
                    break;
                }
            }
            core.waits.end_turn(messages);
        }
    }
}
