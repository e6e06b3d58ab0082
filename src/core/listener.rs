//! A core's share of the listening port: accepting, and closing the share without losing a connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use evergate_proto::counters::Limit;
use evergate_proto::lifecycle::Listener;
use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use monoio::time::timeout;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockFilter, SockRef};

use super::connection;
use super::stream::Stream;
use super::{Core, notify::Notify};
use evergate_proto::lifecycle::Phase;

/// The pause after the process has run out of descriptors, unless a connection ends before.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// One log line of the process about that in so long, ms.
const EXHAUSTED_LOG_MS: u64 = 60_000;

/// Drops the SYN of a new handshake, by byte 13 of its TCP header, and nothing else: handshakes under way are completed, and what
/// is established is heard.
const NO_NEW_HANDSHAKES: [SockFilter; 5] = {
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, 13),
        SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, SYN | ACK),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, SYN),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
    ]
};

/// A core's share of the port.
pub struct Share {
    canceller: RefCell<Option<Canceller>>,
    closing: Cell<bool>,
    /// The share is closed.
    closed: Cell<bool>,
    /// More is established than there are descriptors for: the rest is taken as clients leave.
    crowded: Cell<bool>,
    done: Notify,
}

impl Share {
    /// Starts to accept.
    pub fn start(core: &Rc<Core>, listener: std::net::TcpListener) -> io::Result<Rc<Self>> {
        let twin = listener.try_clone()?;
        let listener = TcpListener::from_std(listener)?;
        let twin = Rc::new(twin);
        core.waits.set_listener(Some(Rc::clone(&twin)));
        let share = Rc::new(Self {
            canceller: RefCell::new(Some(Canceller::new())),
            closing: Cell::new(false),
            closed: Cell::new(false),
            crowded: Cell::new(false),
            done: Notify::default(),
        });
        monoio::spawn(accept(Rc::clone(core), Rc::clone(&share), listener, twin));
        Ok(share)
    }

    /// Closes the share: what is established is taken and served. Returns when the port is given up, or when that must wait for
    /// clients to leave, since there are no descriptors for all that are established: then nobody new comes meanwhile.
    ///
    /// The order matters (ARCHITECTURE.md, "monoio's traps"): a close with an accept in flight does not close the
    /// port, so that is cancelled first; what still completes is taken, and what the kernel has queued.
    pub async fn close(&self) {
        if !self.closing.replace(true)
            && let Some(canceller) = self.canceller.borrow_mut().take()
        {
            canceller.cancel();
        }
        while !self.closed.get() && !self.crowded.get() {
            self.done.notified().await;
        }
    }

    /// How the share is.
    pub fn state(&self) -> Listener {
        if self.closed.get() {
            Listener::Closed
        } else if self.crowded.get() {
            Listener::Crowded
        } else {
            Listener::Open
        }
    }
}

async fn accept(core: Rc<Core>, share: Rc<Share>, listener: TcpListener, twin: Rc<std::net::TcpListener>) {
    while !share.closing.get() {
        if core.counts().handshaking.load(Relaxed) >= core.settings.handshakes_max {
            core.published().limit_hit(Limit::handshakes_max);
            let _ = timeout(EXHAUSTED_PAUSE, core.freed.notified()).await;
            continue;
        }
        // What is kept aside for links, logs and the admin page is not for a rush of clients without a place.
        if connections(&core) >= core.settings.clients_max.saturating_add(core.settings.refusals_max) {
            let _ = timeout(EXHAUSTED_PAUSE, core.freed.notified()).await;
            continue;
        }
        let Some(handle) = share.canceller.borrow().as_ref().map(Canceller::handle) else { break };
        match listener.cancelable_accept(handle).await {
            Ok((stream, peer)) => take(&core, stream, peer, false),
            Err(error) if is_exhausted(&error) => {
                let remedy = "accepting pauses until clients leave; raise LimitNOFILE";
                say_exhausted(&core, "file descriptors", &error, remedy);
                let _ = timeout(EXHAUSTED_PAUSE, core.freed.notified()).await;
            }
            // The peer was gone before it was accepted, or the accept was cancelled.
            Err(_) => {}
        }
    }
    core.waits.set_listener(None);
    while !take_established(&core, &twin, share.crowded.get()) {
        // Whoever closes the share now lets clients go, which makes the room.
        if !share.crowded.replace(true) {
            say_crowded(&core, &twin);
            share.done.notify();
        }
        let _ = timeout(EXHAUSTED_PAUSE, core.freed.notified()).await;
    }
    drop(twin);
    drop(listener);
    core.published().listener_closed.store(true, SeqCst);
    share.closed.set(true);
    share.done.notify();
}

/// Takes what the kernel has queued, and says whether that was all; then the kernel has stopped listening. `again`: it was not,
/// before.
fn take_established(core: &Rc<Core>, twin: &std::net::TcpListener, again: bool) -> bool {
    let (established, all) = match accept_established(core, twin, again) {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!("host: connections that were established may be lost: {error}");
            return true;
        }
    };
    for (stream, peer) in established {
        // The ring's operations expect a blocking descriptor.
        let stream = stream.set_nonblocking(false).and_then(|()| TcpStream::from_std(stream));
        match stream {
            // By a drain also in the room that is for refusals otherwise.
            Ok(stream) => take(core, stream, peer, core.shared.phase() == Phase::Draining),
            Err(error) => tracing::warn!("host: a connection that was established is lost: {error}"),
        }
    }
    all
}

/// Accepts what the kernel has queued, as far as there is room, then has it stop listening at once: dropping the listener does so
/// only when the ring gets to it, and whatever is established meanwhile is reset. A filter that drops every packet before the
/// last accept leaves fewer resets still, but has a connect in that window wait a second for its refusal.
fn accept_established(
    core: &Core,
    twin: &std::net::TcpListener,
    again: bool,
) -> io::Result<(Vec<(std::net::TcpStream, SocketAddr)>, bool)> {
    twin.set_nonblocking(true)?;
    // A stop lets nobody go for others to come: there is no use in waiting for room. Everybody has been told when it overtakes
    // a drain.
    let may_wait = core.shared.phase() == Phase::Draining;
    let room = if again && !may_wait { 0 } else { room(core) };
    let mut established = Vec::new();
    let all = loop {
        if established.len() as u64 >= room {
            break !may_wait || !is_waited_for(twin);
        }
        match twin.accept() {
            Ok(accepted) => established.push(accepted),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
            Err(error) if is_exhausted(&error) => break !may_wait,
            Err(_) => {}
        }
    };
    if all {
        SockRef::from(twin).shutdown(Shutdown::Read)?;
    }
    Ok((established, all))
}

/// More is established than there is room for: nothing is to come on top of it.
fn say_crowded(core: &Core, twin: &std::net::TcpListener) {
    if let Err(error) = SockRef::from(twin).attach_filter(&NO_NEW_HANDSHAKES) {
        tracing::warn!("host: new connections come on until all that are established have been taken: {error}");
    }
    tracing::info!(
        "drain: core {}: more connections are established than there are descriptors for; the rest is taken as clients leave",
        core.index
    );
}

/// Connections that this core may take at once, with all cores doing the same.
fn room(core: &Core) -> u64 {
    let most = core.settings.clients_max.saturating_add(core.settings.refusals_max);
    most.saturating_sub(connections(core)).div_ceil(core.shared.cores.len() as u64)
}

/// Whether somebody is queued.
fn is_waited_for(twin: &std::net::TcpListener) -> bool {
    let mut fds = [PollFd::new(twin.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Begins with a connection: refuses it where there is no place, unless it is to be served all the same.
fn take(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, serve: bool) {
    let stream = Stream::new(stream);
    if stream.set_nodelay().is_err() {
        return;
    }
    let full = !serve && connections(core) >= core.settings.clients_max;
    if full {
        core.published().limit_hit(Limit::clients_max);
    }
    let peer = match peer.ip() {
        IpAddr::V6(v6) => v6.to_canonical(),
        v4 @ IpAddr::V4(_) => v4,
    };
    if let Err(error) = connection::start(core, stream, peer, full) {
        say_exhausted(core, "epoll watches", &error, "a connection is given up; raise fs.epoll.max_user_watches");
    }
}

/// Those of the whole process. Whatever its stage, a connection has a descriptor.
fn connections(core: &Core) -> u64 {
    core.shared.cores.iter().map(|core| core.counts.connections.load(Relaxed)).sum()
}

fn say_exhausted(core: &Core, what: &str, error: &io::Error, remedy: &str) {
    let now_ms = core.now_ms().max(1);
    let said = core.shared.exhausted_said_ms.try_update(Relaxed, Relaxed, |said_ms| {
        (said_ms == 0 || said_ms + EXHAUSTED_LOG_MS <= now_ms).then_some(now_ms)
    });
    if said.is_ok() {
        tracing::error!("host: out of {what} ({error}): {remedy}");
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
