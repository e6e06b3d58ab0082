//! One connection to a Redis: commands out, their answers back, in order. The `redis` crate spells the commands and
//! reads the answers; the ring carries them.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;

use futures_util::future::{select_ok, try_join};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _, Splitable as _};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use redis::{ErrorKind, Parser, RedisError, Value};

use super::link::Account;

/// Bytes that one receive takes at most.
const RECEIVE_BYTES: usize = 16 * 1024;

/// A connection that has logged in. It is of no use any more when the wait for an answer was given up, or has failed.
pub(super) struct Connection {
    incoming: TcpOwnedReadHalf,
    /// Shuts the connection down when it is dropped.
    outgoing: TcpOwnedWriteHalf,
    parser: Parser,
    /// Received; `read..` of it has not been given to the parser.
    received: Vec<u8>,
    /// Bytes of `received` that the parser has.
    read: usize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to whichever of the host's addresses answers first, and logs in.
    pub(super) async fn open(account: &Account) -> Result<Self, RedisError> {
        let addresses = resolve(&account.host, account.port).await?;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
        }
        let attempts = addresses.into_iter().map(|address| Box::pin(TcpStream::connect_addr(address)));
        let (stream, _others) = select_ok(attempts).await?;
        stream.set_nodelay(true)?;
        let (incoming, outgoing) = stream.into_split();
        let received = Vec::with_capacity(RECEIVE_BYTES);
        let mut connection = Self { incoming, outgoing, parser: Parser::new(), received, read: 0 };
        let login = redis::cmd("AUTH").arg(&account.user).arg(&account.password).get_packed_command();
        match connection.ask(login, 1).await?.as_slice() {
            [Value::Okay] => Ok(connection),
            // As the `redis` crate has it, which leaves out the reason.
            _ => Err((ErrorKind::AuthenticationFailed, "Password authentication failed").into()),
        }
    }

    /// Sends `count` commands, spelled already, in one write and waits for the answer to each; a refusal by Redis is an
    /// answer, too.
    pub(super) async fn ask(&mut self, commands: Vec<u8>, count: usize) -> Result<Vec<Value>, RedisError> {
        let Self { incoming, outgoing, received, read, .. } = self;
        let send = async { outgoing.write_all(commands).await.0 };
        // Both in one turn of the ring: the first answer is never there before.
        try_join(send, receive(incoming, received, read)).await?;
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            let mut unread = Unread { bytes: &self.received[self.read..], is_short: false };
            let answer = self.parser.parse_value(&mut unread);
            let is_short = unread.is_short;
            self.read = self.received.len() - unread.bytes.len();
            match answer {
                Ok(answer) => answers.push(answer),
                Err(_incomplete) if is_short => {
                    let Self { incoming, received, read, .. } = self;
                    receive(incoming, received, read).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }
}

/// Waits for more bytes, when the parser has `read` all that were `received`.
async fn receive(incoming: &mut TcpOwnedReadHalf, received: &mut Vec<u8>, read: &mut usize) -> io::Result<()> {
    let (result, bytes) = incoming.read(std::mem::take(received)).await;
    *received = bytes;
    *read = 0;
    match result? {
        0 => Err(io::ErrorKind::BrokenPipe.into()),
        _ => Ok(()),
    }
}

/// What the parser reads from: says that it would block, and remembers it, where the bytes end.
struct Unread<'a> {
    bytes: &'a [u8],
    is_short: bool,
}

impl Read for Unread<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.is_short = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Read::read(&mut self.bytes, buffer)
    }
}

/// The addresses of a host. Names are resolved on a thread of their own, for that may take long and the ring waits for
/// nobody; the thread lets go of its end of a socket pair when it is done, which the ring sees.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (busy, done) = UnixStream::pair()?;
    let host = host.to_owned();
    let resolver = std::thread::Builder::new().name("demo-resolver".to_owned()).spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        drop(busy);
        addresses
    })?;
    monoio::net::UnixStream::from_std(done)?.readable(false).await?;
    resolver.join().map_err(|_panicked| io::Error::other("the resolver failed"))?
}
