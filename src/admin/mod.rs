//! What an operator, a balancer and Prometheus ask over HTTP: health, readiness, status, who is connected, metrics, a page that lives.
//!
//! May use: tokio and hyper, in a thread of its own, and what the cores publish ([`Shared`]). May never: change
//! anything itself, answer anything but GET and HEAD (but for `actions`, which ask the main thread) or anybody who asks for another
//! host (`hosts`), hold a lock that a core could wait for longer than a copy takes, or grow without bound: so many connections
//! (`places`), one request each, each of them gone after `SILENCE_MAX` and `REQUEST_MAX`; and so many pages that are open (`viewers`).
//!
//! - `answer`: one request in, one answer out
//! - `page`, and the folder of that name: the document; `live`: what it is told once a second; `history`, `meter`, `latency`: what it draws
//! - `actions`: its buttons; `questions`: how the cores are asked
//! - `health`, `status`, `metrics`: the same for programs

#![forbid(unsafe_code)]

mod actions;
mod answer;
pub mod health;
mod history;
mod hosts;
mod latency;
mod live;
mod meter;
pub mod metrics;
mod page;
mod places;
mod questions;
mod recorder;
mod status;
#[cfg(test)]
mod tests;
mod viewers;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::config::{Secret, cli};
use crate::process::control::Request;
use crate::process::listeners::BACKLOG;
use crate::process::logs::Figures;
use crate::process::shared::Shared;
use crate::process::signals;
use actions::Actions;
use answer::Visit;
use hosts::Hosts;
use places::{Place, Places, Stage};
use questions::Questions;
use recorder::Recorder;
use status::held;
use viewers::Viewers;

/// From the accept to the first byte of the request.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// From the first byte of the request to the last of the answer; who is slower is cut off.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// The largest request header, bytes: hyper's own minimum.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// How long accepting pauses when the host has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pages that are open at a time, each with a connection of its own for `/events`; of the connections these are so many.
const STREAMS_MAX: usize = 16;

/// What the kernel may hold of a page's events that were not taken, bytes.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// How often the page is told how the node does.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long the end of the process waits for open pages to be told of it.
const END_MAX: Duration = Duration::from_millis(500);

/// Reads how the log fares.
pub type LogFigures = Box<dyn Fn() -> Figures + Send + Sync>;

/// What the answers need besides the counters.
#[derive(Default)]
pub struct AdminOptions {
    /// The primary domain, as `/status` names its links.
    pub domain: String,
    /// How long a core's links may be away before `/readyz` says 503, seconds.
    pub ready_bus_grace_seconds: u64,
    /// Connections at a time.
    pub connections_max: usize,
    /// Names that a request may be for, besides loopback's and the address: in lower case, without port or brackets.
    pub hosts: Vec<String>,
    /// Every option that is a number, with its value.
    pub numbers: Vec<(&'static str, u64)>,
    /// Of this program.
    pub version: String,
    /// The commit it was built from; empty where unknown.
    pub commit: String,
    /// Of the log, for `/metrics` and `/status`; none where there is no log.
    pub log: Option<LogFigures>,
    /// What a request that acts must hold; none where no request may.
    pub token: Option<Secret>,
    /// Where the page's console connects, in the demo; none elsewhere.
    pub console: Option<SocketAddr>,
}

impl AdminOptions {
    /// The option of that name; 0 where it is none that is a number.
    fn number(&self, name: &str) -> u64 {
        self.numbers.iter().find(|(of, _)| *of == name).map_or(0, |(_, value)| *value)
    }
}

/// The admin listener. It serves until the process exits, through a drain and a stop, unless a successor has it.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    /// What is listened on, or will be; none while a successor has it.
    listener: Arc<Mutex<Option<TcpListener>>>,
    begins: Arc<Notify>,
    retired: Arc<Notify>,
    /// What the page's buttons ask for.
    requests: Receiver<Request>,
    /// Tells the page how the process ends.
    ends: oneshot::Sender<End>,
}

/// The exit code, and who waits until the open pages have been told.
type End = (u8, SyncSender<()>);

impl Admin {
    /// The address that is listened on: the one asked for, with the port that port 0 became.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A copy of the socket, for a successor.
    pub fn listener(&self) -> Option<io::Result<TcpListener>> {
        held(&self.listener).as_ref().map(TcpListener::try_clone)
    }

    /// Takes connections from now on.
    pub fn begin(&self) {
        self.begins.notify_one();
    }

    /// Takes no more connections: a successor does.
    pub fn retire(&self) {
        drop(held(&self.listener).take());
        self.retired.notify_one();
    }

    /// What was asked since the last call; never waits.
    pub fn take_requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// The process ends with that exit code: pages that are open are told. Takes `END_MAX` at most.
    pub fn end(self, exit_code: u8) {
        // Whoever waits for an answer hears at once that there is none.
        drop(self.requests);
        let (told, is_told) = sync_channel(1);
        if self.ends.send((exit_code, told)).is_ok() {
            let _ = is_told.recv_timeout(END_MAX);
        }
    }

    /// The successor is gone: takes connections of `listener`.
    pub fn resume(&self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        *held(&self.listener) = Some(listener);
        self.begin();
        Ok(())
    }
}

/// Binds the admin page's address, so that a failure is known at once.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    // The standard library's 128 are soon full of connections that say nothing, and a probe that finds no place tries again after a
    // second.
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// Serves a listener, one's own or a predecessor's, in a thread of its own, from [`Admin::begin`] on: who asks whether the node is
/// ready is answered by the process that serves.
pub fn start(listener: TcpListener, shared: Arc<Shared>, mut options: AdminOptions) -> io::Result<Admin> {
    listener.set_nonblocking(true)?;
    let (begins, retired) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (from, until) = (Arc::clone(&begins), Arc::clone(&retired));
    let addr = listener.local_addr()?;
    let listener = Arc::new(Mutex::new(Some(listener)));
    let own = Arc::clone(&listener);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(questions::THREADS_MAX)
        .build()?;
    let (sender, requests) = channel();
    let actions = options.token.take().map(|token| Actions::new(token, sender));
    let view = Arc::new(View::new(shared, options, addr, actions));
    // What the first second is compared with.
    held(&view.recorder).record(&view);
    let (ends, end) = oneshot::channel();
    let run = move || {
        runtime.block_on(async {
            tokio::spawn(tell(Arc::clone(&view), end));
            // Who is connected is answered also when the socket is another's.
            loop {
                from.notified().await;
                let Some(Ok(listener)) = held(&own).as_ref().map(TcpListener::try_clone) else { continue };
                tokio::select! {
                    () = serve(listener, Arc::clone(&view)) => {}
                    () = until.notified() => {}
                }
            }
        });
    };
    let thread = signals::blocked(|| std::thread::Builder::new().name("admin".into()).spawn(run));
    thread.map(|_| Admin { addr, listener, begins, retired, requests, ends })
}

/// What an answer is made from.
struct View {
    /// What the cores publish.
    shared: Arc<Shared>,
    /// What the process was started with.
    options: AdminOptions,
    /// Whom a request may be for.
    hosts: Hosts,
    /// Who is connected.
    places: Arc<Places>,
    /// When the process began.
    began: SystemTime,
    /// Who is connected for `/events`, and so for as long as the page is open.
    streams: Arc<Places>,
    viewers: Viewers,
    recorder: Mutex<Recorder>,
    questions: Questions,
    /// None where no request may act.
    actions: Option<Actions>,
}

impl View {
    fn new(shared: Arc<Shared>, mut options: AdminOptions, addr: SocketAddr, actions: Option<Actions>) -> Self {
        let hosts = Hosts::new(std::mem::take(&mut options.hosts), addr.ip().to_canonical());
        let streams = STREAMS_MAX.min(options.connections_max / 2);
        Self {
            places: Arc::new(Places::new(options.connections_max - streams)),
            streams: Arc::new(Places::new(streams)),
            questions: Questions::default(),
            viewers: Viewers::default(),
            recorder: Mutex::default(),
            began: SystemTime::now() - shared.now(),
            shared,
            options,
            hosts,
            actions,
        }
    }

    /// What `/status` is made from.
    fn source(&self) -> status::Source<'_> {
        let Self { shared, options, .. } = self;
        status::Source {
            shared,
            version: &options.version,
            commit: &options.commit,
            domain: &options.domain,
            log_full: options.log.as_ref().map(|log| log().full),
        }
    }
}

/// What `/status` says, whenever it is asked for: for the control socket. `domain` is the primary one.
pub fn status_line(shared: Arc<Shared>, domain: String, log: LogFigures) -> impl Fn() -> String + Send + Sync {
    move || {
        let source = status::Source {
            shared: &shared,
            version: cli::VERSION,
            commit: cli::COMMIT,
            domain: &domain,
            log_full: Some(log().full),
        };
        // Numbers and text: nothing that JSON could not hold.
        status::json(source, shared.now_ms()).unwrap_or_default()
    }
}

/// Accepts for ever.
async fn serve(listener: TcpListener, view: Arc<View>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the admin listener could not be watched ({error}); it is closed");
            return;
        }
    };
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // ECONNABORTED passes at once; EMFILE and ENFILE do not, and would spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let places = Arc::clone(&view.places);
        places.give(peer.ip(), |place| tokio::spawn(attend(stream, Arc::clone(&view), place)).abort_handle());
        // Who has asked already must be seen to have, before so many have come behind that its place is wanted.
        tokio::task::yield_now().await;
    }
}

/// Answers one request. A client's fault, or its absence, concerns nobody else.
async fn attend(stream: TcpStream, view: Arc<View>, place: Place) {
    if !matches!(timeout(SILENCE_MAX, stream.peek(&mut [0])).await, Ok(Ok(1))) {
        return;
    }
    place.reached(Stage::Asking);
    let Ok(peer) = stream.peer_addr() else { return };
    let local = stream.local_addr().ok().map(|local| local.ip());
    // Of a page that is not read the kernel would hold megabytes.
    let _ = SockRef::from(&stream).set_send_buffer_size(STREAM_BUFFER_BYTES);
    let visit = Arc::new(Visit::new(view, place, peer.ip()));
    let own = Arc::clone(&visit);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&own);
        async move { Ok::<_, Infallible>(visit.answer(request, local).await) }
    });
    // One request a connection: an idle keep-alive connection would hold a place.
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A page that is open is cut off when it is not read (`viewers`).
    if timeout(REQUEST_MAX, connection.as_mut()).await.is_err() && visit.is_stream() {
        let _ = connection.await;
    }
}

/// Tells the open pages once a second how the node does, and at last how it ended. What has been is recorded whoever looks.
async fn tell(view: Arc<View>, mut end: oneshot::Receiver<End>) {
    let mut tick = tokio::time::interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
    // Who comes late measures a longer time, and does not hurry.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let mut recorder = held(&view.recorder);
                recorder.record(&view);
                if !view.viewers.is_empty() {
                    view.viewers.tell(&recorder.now(&view).into());
                }
            }
            ended = &mut end => {
                let Ok((exit_code, told)) = ended else { return };
                view.viewers.tell(&held(&view.recorder).ended(&view, exit_code).into());
                view.viewers.end();
                while !view.streams.is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let _ = told.send(());
                return;
            }
        }
    }
}
