//! A core's share of the listening port: accepting, and closing the share without losing a connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use monoio::time::timeout;
use socket2::SockRef;

use super::connection;
use super::stream::Stream;
use super::{Core, notify::Notify};
use crate::counters::Limit;

/// The pause after the process has run out of descriptors, unless a connection ends before.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// One log line of the process about that in so long, ms.
const EXHAUSTED_LOG_MS: u64 = 60_000;

/// A core's share of the port.
pub struct Share {
    canceller: RefCell<Option<Canceller>>,
    closing: Cell<bool>,
    /// Set when the share is closed.
    pub closed: Cell<bool>,
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
            done: Notify::default(),
        });
        monoio::spawn(accept(Rc::clone(core), Rc::clone(&share), listener, twin));
        Ok(share)
    }

    /// Closes the share: what is established is taken and served. Returns when the port is given up.
    ///
    /// The order matters (ARCHITECTURE.md, Decisions, "monoio's traps"): a close with an accept in flight does not close the
    /// port, so that is cancelled first; what still completes is taken, and what the kernel has queued.
    pub async fn close(&self) {
        if !self.closing.replace(true)
            && let Some(canceller) = self.canceller.borrow_mut().take()
        {
            canceller.cancel();
        }
        while !self.closed.get() {
            self.done.notified().await;
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
            Ok((stream, peer)) => take(&core, stream, peer),
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
    match take_established(&twin) {
        Ok(established) => established.into_iter().for_each(|(stream, peer)| take(&core, stream, peer)),
        Err(error) => tracing::warn!("host: connections that were established may be lost: {error}"),
    }
    drop(twin);
    drop(listener);
    core.published().listener_closed.store(true, SeqCst);
    share.closed.set(true);
    share.done.notify();
}

/// Accepts what the kernel has queued, then has it stop listening at once: dropping the listener does so only when the
/// ring gets to it, and whatever is established meanwhile is reset. A filter that drops every packet before the last
/// accept leaves fewer resets still, but has a connect in that window wait a second for its refusal.
fn take_established(twin: &std::net::TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    twin.set_nonblocking(true)?;
    let mut established = Vec::new();
    loop {
        match twin.accept() {
            Ok((stream, peer)) => established.push((stream, peer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if is_exhausted(&error) => return Err(error),
            Err(_) => {}
        }
    }
    SockRef::from(twin).shutdown(Shutdown::Read)?;
    established
        .into_iter()
        .map(|(stream, peer)| {
            // The ring's operations expect a blocking descriptor.
            stream.set_nonblocking(false)?;
            Ok((TcpStream::from_std(stream)?, peer))
        })
        .collect()
}

fn take(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr) {
    let stream = Stream::new(stream);
    if stream.set_nodelay().is_err() {
        return;
    }
    let full = connections(core) >= core.settings.clients_max;
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
