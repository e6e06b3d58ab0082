//! A connection to Redis for whoever may wait: `evergate check`, and a start that deletes what a dead process left. Each answer has a
//! time limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use evergate_proto::redis::dial::Place;
use evergate_proto::redis::stranger;
use redis::{Cmd, Parser, Value};
use rustls::{ClientConnection, StreamOwned};

use super::tls::{self, Tls};
use crate::config::RedisPlace;
use crate::unix_socket;

/// Bytes of an answer by which one knows what answers.
const FIRST_BYTES: usize = 256;

/// What the bytes go over.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// Redis refused it: in its own words.
    Refused(String),
    /// The connection broke, was silent for too long, or brought what is no RESP.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Broken(why) => formatter.write_str(why),
        }
    }
}

/// A stream whose first bytes are kept, and whose interrupted reads are done again: the end of the check's own ring interrupts a read
/// soon after it.
#[derive(Debug)]
struct Heard {
    stream: Stream,
    first: Vec<u8>,
    /// Why the last read failed.
    trouble: Option<String>,
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    let missing = FIRST_BYTES.saturating_sub(self.first.len());
                    self.first.extend_from_slice(&buffer[..count.min(missing)]);
                    return Ok(count);
                }
                Err(error) => {
                    self.trouble = Some(explain(&error));
                    return Err(error);
                }
            }
        }
    }
}

/// One connection. Only the encoder and the parser of the redis crate are used: its connection sends `CLIENT SETINFO`, which the stock
/// ACL refuses and Redis would log.
pub struct Link {
    heard: Heard,
    port: Option<u16>,
    parser: Parser,
}

impl Link {
    /// Connects to the Redis that is `named`, at the first of its `places` that can be reached; by TLS to one with a certificate
    /// for that name.
    pub fn connect(
        named: &RedisPlace,
        places: &[Place],
        tls: Option<&Tls>,
        connect_max: Duration,
        answer_max: Duration,
    ) -> Result<Self, String> {
        let sealed = match (named, tls) {
            (RedisPlace::Tls { host, .. }, Some(tls)) => Some((tls, host.as_str())),
            (RedisPlace::Tls { .. }, None) => return Err("nothing is set up for TLS".to_owned()),
            _ => None,
        };
        let mut last = "no address".to_owned();
        for place in places {
            let opened = match place {
                Place::Tcp(address) => tcp(*address, connect_max, answer_max).map(Stream::Tcp),
                Place::Unix(path) => unix_socket::connect(path, connect_max).and_then(|stream| {
                    stream.set_read_timeout(Some(answer_max))?;
                    stream.set_write_timeout(Some(answer_max))?;
                    Ok(Stream::Unix(stream))
                }),
            };
            let sealed = opened.map_err(|why| why.to_string()).and_then(|stream| match (stream, sealed) {
                (Stream::Tcp(stream), Some((tls, host))) => greet(tls, host, stream),
                (stream, _) => Ok(stream),
            });
            match sealed {
                Ok(stream) => {
                    let heard = Heard { stream, first: Vec::new(), trouble: None };
                    return Ok(Self { heard, port: place.port(), parser: Parser::new() });
                }
                Err(why) => last = format!("{place}: {why}"),
            }
        }
        Err(last)
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &Cmd) -> Result<Value, Failure> {
        let sent = self.heard.stream.write_all(&command.get_packed_command());
        sent.map_err(|why| Failure::Broken(explain(&why)))?;
        match self.parser.parse_value(&mut self.heard) {
            Ok(Value::ServerError(why)) => {
                let code = why.code();
                Err(Failure::Refused(
                    why.details().map_or_else(|| code.to_owned(), |details| format!("{code} {details}")),
                ))
            }
            Ok(value) => Ok(value),
            // TLS has a say behind its greeting, too: whose certificate is not believed hears of it then.
            Err(why) => Err(Failure::Broken(self.heard.trouble.take().unwrap_or_else(|| why.to_string()))),
        }
    }

    /// What answers, where that is no Redis.
    pub fn stranger(&self) -> Option<String> {
        let first = &self.heard.first;
        (!stranger::may_be_redis(first)).then(|| stranger::describe(first, self.port))
    }
}

fn tcp(address: SocketAddr, connect_max: Duration, answer_max: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, connect_max)?;
    stream.set_read_timeout(Some(answer_max))?;
    stream.set_write_timeout(Some(answer_max))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the two ends agree.
fn greet(tls: &Tls, host: &str, stream: TcpStream) -> Result<Stream, String> {
    let mut stream = tls.over(host, stream)?;
    match stream.conn.complete_io(&mut stream.sock) {
        Ok(_) => Ok(Stream::Tls(Box::new(stream))),
        Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err("TLS: no answer; what listens there may speak no TLS: name Redis' tls-port".to_owned())
        }
        Err(why) => Err(explain(&why)),
    }
}

/// In words; those of TLS with a remedy, where one is known.
fn explain(why: &io::Error) -> String {
    let of_tls = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    of_tls.map_or_else(|| why.to_string(), |why| format!("TLS: {}", tls::explain(why)))
}
