//! The server: a thread that accepts, and one for each client.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::attendant::Attendant;
use super::place::{Claim, Named, Place};
use super::protocol::{Answer, line};
use super::request::Request;
use super::wire::Wire;
use crate::bounded::{self, FILE_MAX};
use crate::config::CONTROL_CLIENTS_MAX;
use crate::process::shared::Shared;
use crate::process::signals::Wake;

/// How long the end of the process waits for clients to be told of it, and then for the files to go.
const END_MAX: Duration = Duration::from_millis(500);

/// How long accepting pauses when the host has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Gives the status: one line of JSON.
pub type StatusSource = Box<dyn Fn() -> String + Send + Sync>;

/// What a server is made from.
pub struct ServerOptions {
    /// The name of the socket: the option `control`.
    pub path: PathBuf,
    /// How long a successor may take to be ready.
    pub handover_max: Duration,
    /// What `status` and `watch` answer.
    pub status: StatusSource,
    /// Where the cores are asked who is connected.
    pub shared: Arc<Shared>,
    /// Tells the main thread that there are requests, without waiting.
    pub wake: Arc<Wake>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, handover_max, status: _, shared: _, wake: _ } = self;
        f.debug_struct("ServerOptions").field("path", path).field("handover_max", handover_max).finish_non_exhaustive()
    }
}

/// The server, in the hands of the main thread.
#[derive(Debug)]
pub struct Server {
    place: Arc<Place>,
    naming: Arc<Naming>,
    inner: Arc<Inner>,
    requests: Receiver<Request>,
}

/// Starts a server, or warns of why there is none: signals still work.
pub fn start(options: ServerOptions) -> Option<Server> {
    let path = options.path.clone();
    let started = Server::start(options);
    if let Err(error) = &started {
        tracing::warn!(
            "control {} cannot be used: {error}; `evergate drain` and `--replace` do not work, SIGUSR1 and SIGTERM do",
            path.display()
        );
    }
    started.ok()
}

impl Server {
    /// Listens beside `path`, which is not taken yet. Returns within seconds, whatever the file system does.
    pub fn start(options: ServerOptions) -> io::Result<Self> {
        let path = options.path.clone();
        let made = bounded::within(FILE_MAX, move || Place::make(&path));
        let (place, listener) = made.unwrap_or_else(|failed| Err(failed.into()))?;
        let (sender, requests) = channel();
        let inner =
            Arc::new(Inner { options, listener, requests: sender, state: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&inner);
        bounded::spawn("control", move || own.accept())?;
        Ok(Self { place: Arc::new(place), naming: Arc::default(), inner, requests })
    }

    /// Takes the name: this process serves now. Where another process has it, the log says so, once. It waits for files: not for the
    /// main thread.
    pub fn take_name(&self, claim: Claim) {
        take_name(&self.place, claim, &self.naming);
    }

    /// The same for the main thread, which hears nothing of it.
    pub fn claim_name(&self, claim: Claim) {
        let (place, naming) = (Arc::clone(&self.place), Arc::clone(&self.naming));
        if let Err(error) = bounded::spawn("control-name", move || take_name(&place, claim, &naming)) {
            tracing::warn!(
                "control {} cannot be taken: no thread can be started: {error}",
                self.place.name().display()
            );
        }
    }

    /// Whether this process has the name, as far as it knows. Another may come by it when its owner is gone.
    pub fn has_name(&self) -> bool {
        self.naming.is_ours.load(SeqCst)
    }

    /// Where this process listens.
    pub fn socket(&self) -> &Path {
        self.place.socket()
    }

    /// How many clients there are.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.inner.state().clients
    }

    /// What was asked since the last call; never waits.
    pub fn take_requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// The process ends with that exit code: whoever watches is told, and the files go. Takes a second at most.
    pub fn end(self, exit_code: u8) {
        let Self { place, naming: _, inner, requests } = self;
        // Whoever waits for an answer hears at once that there is none.
        drop(requests);
        inner.end(exit_code);
        let _ = bounded::within(END_MAX, move || drop(place));
    }
}

/// Whether the name is this process' own.
#[derive(Debug, Default)]
struct Naming {
    is_ours: AtomicBool,
    /// The log has heard that it is another's.
    is_said: AtomicBool,
}

fn take_name(place: &Place, claim: Claim, naming: &Naming) {
    let name = place.name().display();
    match place.take_name(claim) {
        Ok(Named::Ours) => naming.is_ours.store(true, SeqCst),
        Ok(Named::Others(_)) if naming.is_said.swap(true, SeqCst) => {}
        Ok(Named::Others(pid)) => tracing::warn!(
            "control {name} belongs to process {pid}, which lives: this one is reached by `evergate drain --pid \
             {}` only; let control name another path for each of several gateways (control = \"…\")",
            std::process::id()
        ),
        Err(error) => tracing::warn!("control {name} cannot be taken: {error}"),
    }
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Inner {
    options: ServerOptions,
    listener: UnixListener,
    requests: Sender<Request>,
    state: Mutex<State>,
    /// `state` has changed.
    changed: Condvar,
}

/// Who is there, and whether the process ends.
#[derive(Debug, Default)]
struct State {
    /// Connections.
    clients: usize,
    /// Those of them that have asked something, and have not got all of the answer.
    busy: usize,
    /// The number of the last.
    connection: u64,
    /// The process ends with that exit code.
    ended: Option<u8>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until the process ends.
    fn accept(self: Arc<Self>) {
        while self.state().ended.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => Arc::clone(&self).admit(stream),
                // ECONNABORTED passes at once; EMFILE and ENFILE do not, and would spin.
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    /// Gives a client a thread of its own, if there is a place.
    fn admit(self: Arc<Self>, stream: UnixStream) {
        let wire = Wire::new(stream);
        let Some(place) = ClientPlace::take(&self) else {
            let error = format!(
                "{CONTROL_CLIENTS_MAX} clients are connected already: end one, an `evergate drain --watch` say, or \
                 drain with kill -USR1 {}",
                std::process::id()
            );
            // It fits into the socket's buffer.
            let _ = wire.write_line(&line(&Answer::refused(error)), Duration::from_millis(1));
            return;
        };
        let spawned = bounded::spawn("control-client", move || {
            if let Err(error) = Attendant::new(place, wire).attend() {
                tracing::debug!("control: a client is given up: {error}");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("control: no thread can be started: {error}");
        }
    }

    /// Has the main thread hear of it; false where that hears nothing any more.
    pub(super) fn request(&self, request: Request) -> bool {
        let is_sent = self.requests.send(request).is_ok();
        if is_sent {
            (self.options.wake)();
        }
        is_sent
    }

    /// The status, as of now.
    pub(super) fn status(&self) -> String {
        (self.options.status)()
    }

    /// What all threads can see.
    pub(super) fn shared(&self) -> &Shared {
        &self.options.shared
    }

    /// How long a successor may take to be ready.
    pub(super) fn handover_max(&self) -> Duration {
        self.options.handover_max
    }

    /// Waits for the end of the process, for so long: its exit code.
    pub(super) fn ended_within(&self, limit: Duration) -> Option<u8> {
        let goes_on = |state: &mut State| state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.state(), limit, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn end(&self, exit_code: u8) {
        self.state().ended = Some(exit_code);
        self.changed.notify_all();
        // It wakes the thread that accepts, and refuses whoever comes now.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        let is_busy = |state: &mut State| state.busy > 0;
        drop(self.changed.wait_timeout_while(self.state(), END_MAX, is_busy));
    }
}

/// One of the places for clients; dropped, it is free.
pub(super) struct ClientPlace {
    inner: Arc<Inner>,
    /// The number of the connection.
    connection: u64,
}

impl ClientPlace {
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let mut state = inner.state();
        if state.clients == CONTROL_CLIENTS_MAX {
            return None;
        }
        state.clients += 1;
        state.connection += 1;
        Some(Self { connection: state.connection, inner: Arc::clone(inner) })
    }

    /// What the threads share.
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The number of the connection.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.inner.state().clients -= 1;
    }
}

/// A client that has asked something; dropped, it has its answer.
pub(super) struct Busy<'a>(&'a Inner);

impl<'a> Busy<'a> {
    pub(super) fn begin(inner: &'a Inner) -> Self {
        inner.state().busy += 1;
        Self(inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
        self.0.changed.notify_all();
    }
}
