//! An in-process server that speaks the Redis protocol: lists only, in memory only, under the stock ACL.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{self, Write as _};
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_util::future::{FutureExt as _, LocalBoxFuture, join, try_join};
use futures_util::stream::StreamExt as _;
use monoio::BufResult;
use monoio::io::{AsyncReadRent as _, AsyncWriteRent as _, AsyncWriteRentExt as _, Splitable as _};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::{Instant, sleep, sleep_until};
use socket2::{Domain, Protocol, Socket, Type};

use super::account::User;
use super::commands::{Client, Next, execute, popped};
use super::keyspace::Keyspace;
use super::resp::{Replies, Request, request};
use super::task::Task;

/// Most connections at a time: Redis' `maxclients`.
const CLIENTS_MAX: usize = 10_000;
/// Bytes of requests that one client may have waiting, the unfinished one included: Redis' `client-query-buffer-limit`.
const QUERY_BYTES_MAX: usize = 1024 * 1024 * if cfg!(test) { 64 } else { 1024 };
/// Bytes of replies gathered before they are written, so that a long pipeline does not gather without end.
const REPLY_BYTES_GATHERED: usize = 256 * 1024;
/// Capacity above which an emptied buffer is given back.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;
/// Bytes that one receive takes at most.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Pause after a failed accept: the process is out of descriptors, and a retry at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A running server. Dropping it closes the port and every connection, and forgets every list.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Rc<Shared>,
    serving: Task,
}

#[derive(Debug)]
struct Shared {
    users: Vec<Rc<User>>,
    keyspace: RefCell<Keyspace>,
    /// The id of the next client.
    client_next: Cell<u64>,
    /// Clients that are connected.
    clients: Cell<usize>,
}

/// Starts a server on `bind` for these users, as a task of this thread's runtime.
pub fn start(bind: SocketAddr, users: Vec<User>) -> io::Result<Server> {
    let listener = listen(bind)?;
    let addr = listener.local_addr()?;
    // The same socket once more, for the ring.
    let ready = TcpListener::from_std(listener.try_clone()?)?;
    let shared = Rc::new(Shared {
        users: users.into_iter().map(Rc::new).collect(),
        keyspace: RefCell::default(),
        client_next: Cell::new(1),
        clients: Cell::new(0),
    });
    let serving = Task::spawn(serve_clients(listener, ready, Rc::clone(&shared)));
    Ok(Server { addr, shared, serving })
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Elements in a list: what LLEN would say.
    pub fn list_length(&self, key: &str) -> usize {
        self.shared.keyspace.borrow().length(key.as_bytes())
    }

    /// Ends it, and returns when it has let go of everything; the ring's next turn closes what it had in flight.
    pub(super) async fn end(self) {
        self.serving.end().await;
    }
}

/// std's own listeners take 128 connections before they are accepted: sessions come by hundreds.
fn listen(bind: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Takes clients and serves them until it is dropped, and they with it.
async fn serve_clients(listener: net::TcpListener, ready: TcpListener, shared: Rc<Shared>) {
    let (accepted, clients) = mpsc::unbounded();
    let serving = clients.for_each_concurrent(None, Connection::run);
    join(accept(&listener, &ready, &shared, accepted), serving).await;
}

/// Takes clients for ever. The ring says when there is one, and does not accept it: an accept that is dropped when it
/// has just completed would leave a client behind that nobody knows.
async fn accept(
    listener: &net::TcpListener,
    ready: &TcpListener,
    shared: &Rc<Shared>,
    accepted: mpsc::UnboundedSender<Connection>,
) {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) if shared.clients.get() >= CLIENTS_MAX => {
                let refusal = stream.write_all(b"-ERR max number of clients reached\r\n");
                tracing::warn!(?refusal, "embedded bus: client refused, {CLIENTS_MAX} are connected");
            }
            Ok((stream, _)) => match Connection::new(stream, Rc::clone(shared)) {
                // Nobody takes it: this is being dropped.
                Ok(connection) => drop(accepted.unbounded_send(connection)),
                Err(error) => tracing::warn!(%error, "embedded bus: client lost"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(error) = ready.readable(false).await {
                    tracing::warn!(%error, "embedded bus: cannot wait for clients");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "embedded bus: accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A receive, with what it was lent.
type Receive = LocalBoxFuture<'static, (BufResult<usize, Vec<u8>>, TcpOwnedReadHalf)>;

/// What comes from a client. There is one receive at a time, and it goes on when the wait for it is given up: dropped,
/// it could take with it bytes that the kernel had handed over already.
struct Incoming(Receive);

impl Incoming {
    fn new(half: TcpOwnedReadHalf) -> Self {
        Self(Self::receive(half, Vec::with_capacity(RECEIVE_BYTES)))
    }

    fn receive(mut half: TcpOwnedReadHalf, buffer: Vec<u8>) -> Receive {
        async move { (half.read(buffer).await, half) }.boxed_local()
    }

    /// Appends what comes; zero bytes are the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>, received: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let ((result, mut buffer), half) = ready!(self.0.as_mut().poll(cx));
        received.extend_from_slice(&buffer);
        buffer.clear();
        self.0 = Self::receive(half, buffer);
        Poll::Ready(result)
    }
}

struct Connection {
    incoming: Incoming,
    /// Shuts the connection down when it is dropped.
    outgoing: TcpOwnedWriteHalf,
    shared: Rc<Shared>,
    client: Client,
    /// Received and not carried out; `start..` of it is live.
    received: Vec<u8>,
    /// Bytes of `received` already carried out.
    start: usize,
    replies: Replies,
}

/// A reader in the keyspace's queues; leaving scope takes it out, however the wait ends.
struct Blocked<'a> {
    shared: &'a Shared,
    reader: u64,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.shared.keyspace.borrow_mut().unblock(self.reader);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.clients.update(|clients| clients - 1);
    }
}

/// What ends a wait of BLPOP, or adds to what waits behind it.
enum Event {
    Received(usize),
    GivenOrLate,
}

impl Connection {
    fn new(stream: net::TcpStream, shared: Rc<Shared>) -> io::Result<Self> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "embedded bus: TCP_NODELAY");
        }
        let (half, outgoing) = TcpStream::from_std(stream)?.into_split();
        let client = Client { id: shared.client_next.get(), user: None };
        shared.client_next.set(client.id + 1);
        shared.clients.update(|clients| clients + 1);
        let (incoming, replies) = (Incoming::new(half), Replies::new());
        Ok(Self { incoming, outgoing, shared, client, received: Vec::new(), start: 0, replies })
    }

    async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(client = self.client.id, %error, "embedded bus: connection lost");
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut bytes_min = 1;
        loop {
            while self.received.len() - self.start < bytes_min {
                self.compact();
                let Self { incoming, received, outgoing, replies, .. } = self;
                // Both in one turn of the ring.
                let receive = poll_fn(|cx| incoming.poll(cx, received));
                let ((), received) = try_join(write(outgoing, replies), receive).await?;
                if received == 0 {
                    return Ok(());
                }
                self.check_room()?;
            }
            bytes_min = 1;
            match request(&self.received[self.start..], self.client.user.is_some()) {
                Ok(Request::Incomplete { bytes_min: needed }) => bytes_min = needed,
                Ok(Request::Complete { arguments, bytes }) => {
                    self.start += bytes;
                    if !self.carry_out(&arguments).await? {
                        return self.finish().await;
                    }
                }
                Err(error) => {
                    self.replies.error(&format!("ERR Protocol error: {}", error.0));
                    return self.finish().await;
                }
            }
        }
    }

    /// Carries out one command; `false` ends the connection.
    async fn carry_out(&mut self, arguments: &[Vec<u8>]) -> io::Result<bool> {
        let next = execute(
            arguments,
            &mut self.client,
            &self.shared.users,
            &mut self.shared.keyspace.borrow_mut(),
            &mut self.replies,
        );
        match next {
            Next::Close => return Ok(false),
            Next::Block { keys, timeout_seconds } => return self.wait(keys, timeout_seconds).await,
            Next::Continue if self.replies.bytes.len() >= REPLY_BYTES_GATHERED => self.write().await?,
            Next::Continue => {}
        }
        Ok(true)
    }

    /// Waits for an element, the time-out or the client's end; later requests of this client gather meanwhile.
    async fn wait(&mut self, keys: Vec<Vec<u8>>, timeout_seconds: f64) -> io::Result<bool> {
        let shared = Rc::clone(&self.shared);
        // BLPOP's first look is no await away: no push has come since that found no reader to serve.
        let (reader, told) = shared.keyspace.borrow_mut().block(keys);
        let blocked = Blocked { shared: &shared, reader };
        // After taking its place in the queue: a client slow to read its earlier replies does not lose its turn.
        self.write().await?;
        // Whoever queues pops ahead never lets the buffer run empty.
        self.compact();
        let deadline = (timeout_seconds > 0.0).then(|| Instant::now() + Duration::from_secs_f64(timeout_seconds));
        let mut given_or_late = pin!(given_or(told, until(deadline)));
        loop {
            let Self { incoming, received, .. } = self;
            // The client's end comes first: what it was given in the same turn goes to the next reader.
            let event = poll_fn(|cx| match incoming.poll(cx, received) {
                Poll::Ready(received) => Poll::Ready(received.map(Event::Received)),
                Poll::Pending => given_or_late.as_mut().poll(cx).map(|()| Ok(Event::GivenOrLate)),
            });
            match event.await? {
                Event::Received(0) => return Ok(false),
                Event::Received(_) => self.check_room()?,
                Event::GivenOrLate => {
                    match shared.keyspace.borrow_mut().take(blocked.reader) {
                        Some((key, element)) => popped(&key, &element, &mut self.replies),
                        None => self.replies.null_array(),
                    }
                    return Ok(true);
                }
            }
        }
    }

    fn check_room(&self) -> io::Result<()> {
        if self.received.len() > QUERY_BYTES_MAX {
            return Err(io::Error::other("more requests waiting than the query buffer may hold"));
        }
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        write(&mut self.outgoing, &mut self.replies).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.write().await?;
        self.outgoing.shutdown().await
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.received.drain(..self.start);
            self.start = 0;
            self.received.shrink_to(BUFFER_BYTES_KEPT);
        }
    }
}

async fn write(outgoing: &mut TcpOwnedWriteHalf, replies: &mut Replies) -> io::Result<()> {
    if !replies.bytes.is_empty() {
        let (written, mut bytes) = outgoing.write_all(std::mem::take(&mut replies.bytes)).await;
        written?;
        bytes.clear();
        bytes.shrink_to(BUFFER_BYTES_KEPT);
        replies.bytes = bytes;
    }
    Ok(())
}

/// Until the reader was given something, or until the end of its wait.
async fn given_or(told: oneshot::Receiver<()>, late: impl Future<Output = ()>) {
    futures_util::future::select(told, pin!(late)).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
