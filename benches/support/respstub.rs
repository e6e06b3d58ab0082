//! A stub in Redis' place that is router and service besides: what a request costs the gateway without a Redis in the
//! measurement. It knows the commands that the gateway's links send, and no others.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use evergate_proto::redis::resp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustc_hash::FxHashMap;

use super::answer::{Answerer, WORKER, array};

/// Whatever is pushed to such a list is a request.
const ROUTER: &[u8] = b"opensrf:router:";
/// Room for what one read brings.
const READ_BYTES: usize = 256 * 1024;

/// Serves until the process is ended.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut stub = Stub::default();
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let ready = wait(listener, &connections)?;
        for (connection, _) in connections.iter_mut().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            connection.receive();
            stub.run(connection)?;
        }
        // What one has pushed, another may be waiting for.
        for connection in connections.iter_mut().filter(|connection| !connection.pops.is_empty()) {
            stub.run(connection)?;
        }
        for connection in &mut connections {
            connection.send();
        }
        connections.retain(|connection| connection.open);
        if ready[0] {
            connections.push(Connection::new(listener.accept()?.0)?);
        }
    }
}

/// Which of the listener and the connections have something to read.
fn wait(listener: &TcpListener, connections: &[Connection]) -> io::Result<Vec<bool>> {
    let sockets = connections.iter().map(|connection| connection.stream.as_fd());
    let mut sockets: Vec<PollFd<'_>> =
        std::iter::once(listener.as_fd()).chain(sockets).map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
    poll(&mut sockets, PollTimeout::NONE)?;
    Ok(sockets.iter().map(|socket| socket.any().unwrap_or(true)).collect())
}

/// One link of a gateway.
struct Connection {
    /// Blocking: it is read only when `poll` says that there is something.
    stream: TcpStream,
    /// False once the gateway has closed it.
    open: bool,
    /// Bytes of commands that are not all there.
    input: Vec<u8>,
    /// Replies.
    out: Vec<u8>,
    /// Pops in their order: the list, and how many elements, or none for a BLPOP.
    pops: VecDeque<(Vec<u8>, Option<usize>)>,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, open: true, input: Vec::new(), out: Vec::new(), pops: VecDeque::new() })
    }

    fn receive(&mut self) {
        let filled = self.input.len();
        self.input.resize(filled + READ_BYTES, 0);
        let count = self.stream.read(&mut self.input[filled..]).unwrap_or(0);
        self.input.truncate(filled + count);
        self.open = count > 0;
    }

    fn send(&mut self) {
        self.open &= self.out.is_empty() || self.stream.write_all(&self.out).is_ok();
        self.out.clear();
    }
}

/// The lists.
#[derive(Default)]
struct Stub {
    /// What waits in each.
    lists: FxHashMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// Answers the requests.
    answerer: Answerer,
    /// The answer that is being written.
    scratch: Vec<u8>,
    /// Connections that logged in.
    logins: i64,
}

impl Stub {
    /// Carries out what a connection has asked for.
    fn run(&mut self, connection: &mut Connection) -> io::Result<()> {
        let (input, mut at) = (std::mem::take(&mut connection.input), 0);
        let mut words = Vec::new();
        while array(&input, &mut at, &mut words)? {
            self.command(&words, connection)?;
        }
        self.pop(connection);
        drop(words);
        connection.input = input;
        connection.input.drain(..at);
        Ok(())
    }

    fn command(&mut self, words: &[&[u8]], connection: &mut Connection) -> io::Result<()> {
        let out = &mut connection.out;
        match words {
            [b"HELLO", ..] => {
                self.logins += 1;
                write!(out, "*2\r\n$2\r\nid\r\n:{}\r\n", self.logins)?;
            }
            [b"DEL", key] => {
                self.lists.remove(*key);
                out.extend_from_slice(b":0\r\n");
            }
            [b"RPUSH", key, messages @ ..] => {
                for message in messages {
                    self.push(key, message);
                }
                out.extend_from_slice(b":1\r\n");
            }
            [b"BLPOP", key, _] => connection.pops.push_back((key.to_vec(), None)),
            [b"LPOP", key, count] => {
                let count = str::from_utf8(count).ok().and_then(|count| count.parse().ok());
                connection.pops.push_back((key.to_vec(), Some(count.unwrap_or(0))));
            }
            _ => out.extend_from_slice(b"-ERR the stub does not know this\r\n"),
        }
        Ok(())
    }

    /// A request is answered at once; anything else waits in its list.
    fn push(&mut self, key: &[u8], message: &[u8]) {
        let Self { lists, answerer, scratch, .. } = self;
        if key.starts_with(ROUTER) || key == WORKER {
            answerer.answer(message, scratch, &mut |to, answer| match lists.get_mut(to) {
                Some(list) => list.push_back(answer.to_vec()),
                None => _ = lists.insert(to.to_vec(), VecDeque::from([answer.to_vec()])),
            });
        } else {
            lists.entry(key.to_vec()).or_default().push_back(message.to_vec());
        }
    }

    /// Answers a connection's pops up to the first that has to wait.
    fn pop(&mut self, connection: &mut Connection) {
        let Connection { pops, out, .. } = connection;
        while let Some((key, count)) = pops.front() {
            match (self.lists.get_mut(key).filter(|list| !list.is_empty()), count) {
                (None, None) => return,
                (None, Some(_)) | (_, Some(0)) => out.extend_from_slice(b"*-1\r\n"),
                (Some(list), None) => {
                    resp::write_array(out, 2);
                    resp::write_bulk(out, key);
                    list.pop_front().iter().for_each(|message| resp::write_bulk(out, message));
                }
                (Some(list), Some(count)) => {
                    let count = list.len().min(*count);
                    resp::write_array(out, count);
                    list.drain(..count).for_each(|message| resp::write_bulk(out, &message));
                }
            }
            pops.pop_front();
        }
    }
}
