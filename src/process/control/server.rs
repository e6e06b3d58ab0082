//! The server: a thread that accepts, and one for each client.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::passing;
use super::place::{Claim, Named, Place};
use super::protocol::{ASK_BYTES_MAX, Answer, Ask, Command, Ended, Ready, WATCH_EVERY, line};
use super::request::{Lent, Peer, Reply, Request, Successor};
use super::wire::Wire;
use crate::bounded::{self, FILE_MAX};
use crate::config::CONTROL_CLIENTS_MAX;

/// How long a client may take to say what it wants, and between two questions.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to read what it is answered.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// How long the main thread may take to answer. It looks several times a second.
const ANSWER_MAX: Duration = Duration::from_secs(10);

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
    /// Tells the main thread that there are requests, without waiting.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, handover_max, status: _, wake: _ } = self;
        f.debug_struct("ServerOptions").field("path", path).field("handover_max", handover_max).finish_non_exhaustive()
    }
}

/// The server, in the hands of the main thread.
#[derive(Debug)]
pub struct Server {
    place: Arc<Place>,
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
        Ok(Self { place: Arc::new(place), inner, requests })
    }

    /// Takes the name: this process serves now. Where another process has it, the log says so.
    pub fn take_name(&self, claim: Claim) {
        let place = Arc::clone(&self.place);
        let taken = bounded::within(FILE_MAX, move || place.take_name(claim));
        let name = self.place.name().display();
        match taken.unwrap_or_else(|failed| Err(failed.into())) {
            Ok(Named::Ours) => {}
            Ok(Named::Others(pid)) => tracing::warn!(
                "control {name} belongs to process {pid}, which lives: this one is reached by `evergate drain --pid \
                 {}` only; let control name another path for each of several gateways (control = \"…\")",
                std::process::id()
            ),
            Err(error) => tracing::warn!("control {name} cannot be taken: {error}"),
        }
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
        let Self { place, inner, requests } = self;
        // Whoever waits for an answer hears at once that there is none.
        drop(requests);
        inner.end(exit_code);
        let _ = bounded::within(END_MAX, move || drop(place));
    }
}

/// What the threads share.
#[derive(Debug)]
struct Inner {
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
    /// Those of them that have been asked something by, and have not got all of the answer.
    busy: usize,
    /// The number of the last.
    connection: u64,
    /// The process ends with that exit code.
    ended: Option<u8>,
}

/// Why a client's thread has nothing more to do: it was told, or cannot be.
type Over = io::Result<()>;

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
            let mut client = Client { place, wire };
            if let Err(error) = client.attend() {
                tracing::debug!("control: a client is given up: {error}");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("control: no thread can be started: {error}");
        }
    }

    /// Waits for the end of the process, for so long: its exit code.
    fn ended_within(&self, limit: Duration) -> Option<u8> {
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
struct ClientPlace {
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
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.inner.state().clients -= 1;
    }
}

/// A client that has asked something; dropped, it has its answer.
struct Busy<'a>(&'a Inner);

impl<'a> Busy<'a> {
    fn begin(inner: &'a Inner) -> Self {
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

/// A client, on its thread.
struct Client {
    place: ClientPlace,
    wire: Wire,
}

impl Client {
    /// Answers until the client goes, or says what cannot be understood.
    fn attend(&mut self) -> Over {
        let peer = self.wire.peer()?;
        loop {
            let asked = match self.wire.read_line(ASK_BYTES_MAX, SILENCE_MAX) {
                Ok(None) => return Ok(()),
                Ok(Some(asked)) => Ask::parse(&asked),
                Err(error) => Err(error.to_string()),
            };
            let inner = Arc::clone(&self.place.inner);
            let _busy = Busy::begin(&inner);
            match asked {
                Ok(ask) => self.answer(ask, peer)?,
                Err(error) => return self.say(&Answer::refused(error)),
            }
            // Whoever has watched to the end has heard all.
            if inner.state().ended.is_some() {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, ask: Ask, peer: Peer) -> Over {
        match ask.command {
            Command::Status => self.wire.write_line(&(self.place.inner.options.status)(), WRITE_MAX),
            Command::Watch => self.watch(),
            Command::Drain { watch } => {
                tracing::info!("control: {peer} asks for a drain");
                match self.ask_main(|reply| Request::Drain { peer, reply }) {
                    Ok(drain) => {
                        self.say(&Answer { drain: Some(drain), ..Answer::done() })?;
                        if watch { self.watch() } else { Ok(()) }
                    }
                    Err(error) => self.say(&Answer::refused(error)),
                }
            }
            Command::Cancel => {
                tracing::info!("control: {peer} asks to cancel the drain");
                self.say(&match self.ask_main(|reply| Request::Cancel { peer, reply }) {
                    Ok(()) => Answer::done(),
                    Err(error) => Answer::refused(error),
                })
            }
            Command::Replace { listen, pid } => {
                let pid = if peer.pid > 0 { peer.pid } else { pid };
                let connection = self.place.connection;
                self.replace(peer, &Successor { connection, pid, version: ask.version, listen })
            }
        }
    }

    /// A status again and again, until the process ends.
    fn watch(&mut self) -> Over {
        loop {
            self.wire.write_line(&(self.place.inner.options.status)(), WRITE_MAX)?;
            if let Some(exit_code) = self.place.inner.ended_within(WATCH_EVERY) {
                self.wire.write_line(&(self.place.inner.options.status)(), WRITE_MAX)?;
                return self.wire.write_line(&line(&Ended::with(exit_code)), WRITE_MAX);
            }
        }
    }

    /// Hands the listening sockets over, if the main thread agrees, and waits until the successor serves or comes to nothing.
    fn replace(&mut self, peer: Peer, successor: &Successor) -> Over {
        let Successor { version, listen, .. } = successor;
        tracing::info!("control: {peer}, evergate {version}, asks to take over, with {listen}");
        let granted = self.ask_main(|reply| Request::Replace { peer, successor: successor.clone(), reply });
        // Of who was granted something the main thread hears again, whatever happens here.
        let mut going = Going { inner: &Arc::clone(&self.place.inner), successor: Some(successor), why: String::new() };
        match granted {
            Ok(lent) => going.why = self.hand_over(lent, successor, &mut going.successor),
            Err(error) => {
                // An answer of the main thread that comes too late grants it all the same.
                if !error.is_late() {
                    going.successor = None;
                }
                going.why = error.to_string();
                return self.say(&Answer::refused(going.why.clone()));
            }
        }
        Ok(())
    }

    /// Gives the sockets and waits for the successor. What became of it, where `pending` still holds it.
    fn hand_over(&mut self, lent: Lent, successor: &Successor, pending: &mut Option<&Successor>) -> String {
        let limit = self.place.inner.options.handover_max;
        let until = Instant::now() + limit;
        let (descriptors, addresses): (Vec<_>, Vec<_>) = lent.sockets.into_iter().unzip();
        let given =
            self.say(&Answer { sockets: Some(addresses), kept: Some(lent.is_kept), ..Answer::done() }).and_then(|()| {
                self.wire.limit(WRITE_MAX)?;
                passing::send(&self.wire, &descriptors.iter().map(AsFd::as_fd).collect::<Vec<_>>())
            });
        if let Err(error) = given {
            return format!("the sockets could not be given to it: {error}");
        }
        drop(descriptors);
        let said = match self.wire.read_line(ASK_BYTES_MAX, until.saturating_duration_since(Instant::now())) {
            Ok(Some(said)) => said,
            Ok(None) => return "it has ended before it served".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let why = format!("it did not serve within handover_max_seconds ({} s)", limit.as_secs());
                let _ = self.say(&Answer::refused(why.clone()));
                return why;
            }
            Err(error) => return error.to_string(),
        };
        if !serde_json::from_str(&said).is_ok_and(|Ready { ready }| ready) {
            let why = "it said something else than {\"ready\":true}".to_owned();
            let _ = self.say(&Answer::refused(why.clone()));
            return why;
        }
        *pending = None;
        let answer = match self.ask_main(|reply| Request::Ready { successor: successor.clone(), reply }) {
            Ok(()) => Answer { draining: Some(true), ..Answer::done() },
            // It hears that nobody answers, and serves.
            Err(Unanswered::Ends) => return String::new(),
            Err(error) => Answer::refused(error.to_string()),
        };
        // It serves, whether it hears this or not.
        let _ = self.say(&answer);
        String::new()
    }

    fn say(&self, answer: &Answer) -> Over {
        self.wire.write_line(&line(answer), WRITE_MAX)
    }

    /// Asks the main thread, and waits for its answer.
    fn ask_main<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Unanswered> {
        let (reply, answer) = Reply::channel();
        let inner = &self.place.inner;
        inner.requests.send(request(reply)).map_err(|_| Unanswered::Ends)?;
        (inner.options.wake)();
        match answer.recv_timeout(ANSWER_MAX) {
            Ok(answer) => answer.map_err(Unanswered::Refused),
            Err(RecvTimeoutError::Disconnected) => Err(Unanswered::Ends),
            Err(RecvTimeoutError::Timeout) => Err(Unanswered::Late),
        }
    }
}

/// Why the main thread did not do what it was asked.
#[derive(Debug)]
enum Unanswered {
    /// It says why.
    Refused(String),
    /// The process ends.
    Ends,
    /// It has not answered in time.
    Late,
}

impl Unanswered {
    fn is_late(&self) -> bool {
        matches!(self, Self::Late)
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Ends => f.write_str("it is ending"),
            Self::Late => write!(f, "its main thread has not answered for {} s", ANSWER_MAX.as_secs()),
        }
    }
}

impl From<Unanswered> for String {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.to_string()
    }
}

/// A successor that has not come to serve; dropped with one, it has come to nothing.
struct Going<'a> {
    inner: &'a Inner,
    successor: Option<&'a Successor>,
    /// What became of it.
    why: String,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if let Some(successor) = self.successor {
            let gone = Request::Gone { successor: successor.clone(), why: std::mem::take(&mut self.why) };
            if self.inner.requests.send(gone).is_ok() {
                (self.inner.options.wake)();
            }
        }
    }
}
