//! An in-process server that speaks the Redis protocol: lists only, in memory only, under the stock ACL.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::account::User;
use super::commands::{Client, Next, execute, popped};
use super::keyspace::Keyspace;
use super::resp::{Replies, Request, request};

/// Most connections at a time: Redis' `maxclients`.
const CLIENTS_MAX: usize = 10_000;
/// Bytes of requests that one client may have waiting, the unfinished one included: Redis' `client-query-buffer-limit`.
const QUERY_BYTES_MAX: usize = 1024 * 1024 * if cfg!(test) { 64 } else { 1024 };
/// Bytes of replies gathered before they are written, so that a long pipeline does not gather without end.
const REPLY_BYTES_GATHERED: usize = 256 * 1024;
/// Capacity above which an emptied buffer is given back.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;
/// Pause after a failed accept: the process is out of descriptors, and a retry at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server. Dropping it closes the port and every connection, and forgets every list.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    users: Vec<Arc<User>>,
    keyspace: Mutex<Keyspace>,
    /// The id of the next client.
    client_next: AtomicU64,
}

impl Shared {
    fn keyspace(&self) -> MutexGuard<'_, Keyspace> {
        self.keyspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a server on `bind` for these users, as a task of the current tokio runtime.
pub async fn start(bind: SocketAddr, users: Vec<User>) -> io::Result<Server> {
    let listener = TcpListener::bind(bind).await?;
    let addr = listener.local_addr()?;
    let shared = Arc::new(Shared {
        users: users.into_iter().map(Arc::new).collect(),
        keyspace: Mutex::default(),
        client_next: AtomicU64::new(1),
    });
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
    Ok(Server { addr, shared, accepting })
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Elements in a list: what LLEN would say.
    pub fn list_length(&self, key: &str) -> usize {
        self.shared.keyspace().length(key.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Takes clients until it is aborted; their tasks live in its set and end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    clients.spawn(Connection::new(stream, Arc::clone(&shared)).run());
                }
                Ok((mut stream, _)) => {
                    let refusal = stream.write_all(b"-ERR max number of clients reached\r\n").await;
                    tracing::warn!(?refusal, "embedded bus: client refused, {CLIENTS_MAX} are connected");
                }
                Err(error) => {
                    tracing::warn!(%error, "embedded bus: accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
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
        self.shared.keyspace().unblock(self.reader);
    }
}

impl Connection {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let id = shared.client_next.fetch_add(1, Ordering::Relaxed);
        let client = Client { id, user: None };
        Self { stream, shared, client, received: Vec::new(), start: 0, replies: Replies::new() }
    }

    async fn run(mut self) {
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "embedded bus: TCP_NODELAY");
        }
        if let Err(error) = self.serve().await {
            tracing::debug!(client = self.client.id, %error, "embedded bus: connection lost");
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut bytes_min = 1;
        loop {
            while self.received.len() - self.start < bytes_min {
                self.write().await?;
                self.compact();
                if self.stream.read_buf(&mut self.received).await? == 0 {
                    return Ok(());
                }
                if self.received.len() > QUERY_BYTES_MAX {
                    return Err(io::Error::other("more requests waiting than the query buffer may hold"));
                }
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
        let next =
            execute(arguments, &mut self.client, &self.shared.users, &mut self.shared.keyspace(), &mut self.replies);
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
        let shared = Arc::clone(&self.shared);
        // A push between BLPOP's first look and here finds no reader to serve: look again under the same lock.
        let (blocked, notify) = {
            let mut keyspace = shared.keyspace();
            if let Some((key, element)) = keyspace.pop_first(&keys) {
                popped(&key, &element, &mut self.replies);
                return Ok(true);
            }
            let (reader, notify) = keyspace.block(keys);
            (Blocked { shared: &shared, reader }, notify)
        };
        // After taking its place in the queue: a client slow to read its earlier replies does not lose its turn.
        self.write().await?;
        // Whoever queues pops ahead never lets the buffer run empty.
        self.compact();
        let deadline = (timeout_seconds > 0.0).then(|| Instant::now() + Duration::from_secs_f64(timeout_seconds));
        loop {
            let room = QUERY_BYTES_MAX.saturating_sub(self.received.len());
            tokio::select! {
                // The client's end comes first: what it was given in the same turn goes to the next reader.
                biased;
                read = self.stream.read_buf(&mut self.received) => {
                    if read? == 0 {
                        return Ok(false);
                    }
                    if room == 0 {
                        return Err(io::Error::other("more requests waiting than the query buffer may hold"));
                    }
                }
                () = notify.notified() => {
                    if let Some((key, element)) = shared.keyspace().take(blocked.reader) {
                        popped(&key, &element, &mut self.replies);
                        return Ok(true);
                    }
                }
                () = until(deadline) => {
                    match shared.keyspace().take(blocked.reader) {
                        Some((key, element)) => popped(&key, &element, &mut self.replies),
                        None => self.replies.null_array(),
                    }
                    return Ok(true);
                }
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        if !self.replies.bytes.is_empty() {
            self.stream.write_all(&self.replies.bytes).await?;
            self.replies.bytes.clear();
            self.replies.bytes.shrink_to(BUFFER_BYTES_KEPT);
        }
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.write().await?;
        self.stream.shutdown().await
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.received.drain(..self.start);
            self.start = 0;
            self.received.shrink_to(BUFFER_BYTES_KEPT);
        }
        // `read_buf` would otherwise grow a full buffer by 64 bytes.
        if self.received.capacity() - self.received.len() < 4096 {
            self.received.reserve(16 * 1024);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
