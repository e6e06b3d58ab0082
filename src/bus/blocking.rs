//! A connection to Redis for whoever may wait: `evergate check`, and a start that deletes what a dead process left. How long it is waited
//! for is bounded in all, and so is what is taken of an answer, however little each read brings.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use evergate_proto::redis::dial::Place;
use evergate_proto::redis::stranger;
use evergate_proto::redis::trouble::Trouble;
use redis::{Cmd, Parser, Value};
use rustls::{ClientConnection, StreamOwned};
use socket2::Socket;

use super::tls::{self, Tls};
use crate::config::RedisPlace;
use crate::unix_socket;

/// Bytes of an answer by which one knows what answers.
const FIRST_BYTES: usize = 256;
/// The most that one answer may take, bytes: those that are asked for are short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The shortest wait that is asked of the kernel, which takes none for a wait without an end.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// How long a [`Link`] is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until one place is connected, and both ends have agreed on TLS.
    pub connect_max: Duration,
    /// For an answer, from the command to its last byte.
    pub answer_max: Duration,
    /// For all of it together, from the first connect to the last answer.
    pub whole_max: Duration,
}

/// A connected socket whose reads and writes must be over at one time, however little each brings.
#[derive(Debug)]
struct Timed {
    socket: Socket,
    until: Instant,
}

impl Timed {
    /// Does `act` with what is left of the time, and again where a signal cuts it short: the end of the check's own ring interrupts a
    /// read soon after it.
    fn act(&mut self, mut act: impl FnMut(&mut Socket, Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left < WAIT_MIN {
                return Err(late());
            }
            match act(&mut self.socket, left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                done => return done,
            }
        }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time")
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.act(|socket, left| {
            socket.set_read_timeout(Some(left))?;
            socket.read(buffer)
        })
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.act(|socket, left| {
            socket.set_write_timeout(Some(left))?;
            socket.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the bytes go over.
#[derive(Debug)]
enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Stream {
    /// Whatever is read and written from now on must be over at `until`.
    fn must_end(&mut self, until: Instant) {
        match self {
            Self::Plain(timed) => timed.until = until,
            Self::Tls(stream) => stream.sock.until = until,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, PartialEq, Eq)]
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

/// A stream whose first bytes are kept, and of which one answer takes no more than it may.
#[derive(Debug)]
struct Heard {
    stream: Stream,
    first: Vec<u8>,
    /// Bytes that the answer under way may still take.
    left_bytes: usize,
    /// Why the last read brought nothing.
    trouble: Option<io::Error>,
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left_bytes);
        let read = match self.stream.read(&mut buffer[..most]) {
            _ if most == 0 => Err(io::Error::other(stranger::describe_talker(ANSWER_BYTES_MAX))),
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, Trouble::Closed.to_string())),
            read => read,
        };
        match read {
            Ok(bytes) => {
                self.left_bytes -= bytes;
                let missing = FIRST_BYTES.saturating_sub(self.first.len());
                self.first.extend_from_slice(&buffer[..bytes.min(missing)]);
                Ok(bytes)
            }
            Err(error) => {
                let kind = error.kind();
                self.trouble = Some(error);
                Err(kind.into())
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
    answer_max: Duration,
    /// When all of it must be over.
    until: Instant,
}

impl Link {
    /// Connects to the Redis that is `named`, at the first of its `places` that can be reached; by TLS to one with a certificate
    /// for that name.
    pub fn connect(
        named: &RedisPlace,
        places: &[Place],
        tls: Option<&Tls>,
        patience: Patience,
    ) -> Result<Self, String> {
        let sealed = match (named, tls) {
            (RedisPlace::Tls { host, .. }, Some(tls)) => Some((tls, host.as_str())),
            (RedisPlace::Tls { .. }, None) => return Err("nothing is set up for TLS".to_owned()),
            _ => None,
        };
        let until = Instant::now() + patience.whole_max;
        let mut last = "no address".to_owned();
        for (at, place) in places.iter().enumerate() {
            // One that swallows everything leaves time for those behind it.
            let share = until.saturating_duration_since(Instant::now()) / (places.len() - at) as u32;
            let limit = patience.connect_max.min(share).max(WAIT_MIN);
            let place_until = Instant::now() + limit;
            let opened = match place {
                Place::Tcp(address) => tcp(*address, limit),
                Place::Unix(path) => unix_socket::connect(path, limit).map(Socket::from),
            };
            let timed = opened.map(|socket| Timed { socket, until: place_until });
            let stream = timed.map_err(|why| why.to_string()).and_then(|timed| match (place, sealed) {
                (Place::Tcp(_), Some((tls, host))) => agree(tls, host, timed),
                _ => Ok(Stream::Plain(timed)),
            });
            match stream {
                Ok(stream) => {
                    let heard = Heard { stream, first: Vec::new(), left_bytes: 0, trouble: None };
                    let (port, answer_max) = (place.port(), patience.answer_max);
                    return Ok(Self { heard, port, parser: Parser::new(), answer_max, until });
                }
                Err(why) => last = format!("{place}: {why}"),
            }
        }
        Err(last)
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &Cmd) -> Result<Value, Failure> {
        self.heard.stream.must_end(self.until.min(Instant::now() + self.answer_max));
        self.heard.left_bytes = ANSWER_BYTES_MAX;
        let sent = self.heard.stream.write_all(&command.get_packed_command());
        sent.map_err(|why| Failure::Broken(self.explain(&why)))?;
        match self.parser.parse_value(&mut self.heard) {
            Ok(Value::ServerError(why)) => {
                let code = why.code();
                Err(Failure::Refused(
                    why.details().map_or_else(|| code.to_owned(), |details| format!("{code} {details}")),
                ))
            }
            Ok(value) => Ok(value),
            // TLS has a say behind its greeting, too: whose certificate is not believed hears of it then.
            Err(why) => {
                let trouble = mem::take(&mut self.heard.trouble);
                Err(Failure::Broken(trouble.map_or_else(|| why.to_string(), |trouble| self.explain(&trouble))))
            }
        }
    }

    /// What answers, where that is no Redis.
    pub fn stranger(&self) -> Option<String> {
        let first = &self.heard.first;
        (!stranger::may_be_redis(first)).then(|| stranger::describe(first, self.port))
    }

    /// Why nothing more comes, in words.
    fn explain(&self, why: &io::Error) -> String {
        let text = explain(why);
        let may_want_tls =
            self.port.is_some() && self.heard.first.is_empty() && matches!(self.heard.stream, Stream::Plain(_));
        if may_want_tls && is_hang_up(why) { Trouble::HungUp(text).to_string() } else { text }
    }
}

fn tcp(address: SocketAddr, connect_max: Duration) -> io::Result<Socket> {
    let stream = TcpStream::connect_timeout(&address, connect_max)?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

/// Has the two ends agree.
fn agree(tls: &Tls, host: &str, timed: Timed) -> Result<Stream, String> {
    let mut stream = tls.over(host, timed)?;
    match stream.conn.complete_io(&mut stream.sock) {
        Ok(_) => Ok(Stream::Tls(Box::new(stream))),
        Err(why) if is_hang_up(&why) || why.kind() == io::ErrorKind::TimedOut => {
            Err(Trouble::NoTls(why.to_string()).to_string())
        }
        Err(why) => Err(explain(&why)),
    }
}

/// Whether the other side has ended the connection, in one way or the other.
fn is_hang_up(why: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(why.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// In words; those of TLS with a remedy, where one is known.
fn explain(why: &io::Error) -> String {
    let of_tls = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    of_tls.map_or_else(|| why.to_string(), |why| format!("TLS: {}", tls::explain(why)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use redis::cmd;

    use super::*;

    const PATIENCE: Patience = Patience {
        connect_max: Duration::from_millis(400),
        answer_max: Duration::from_millis(400),
        whole_max: Duration::from_secs(20),
    };
    /// Between two bytes of who drips; no read waits for long.
    const DROP: Duration = Duration::from_millis(10);
    /// Who drips ends after so many: a test that waits for ever tells nothing.
    const DROPS_MAX: usize = 1_000;

    /// Somebody who does that with each connection.
    fn somebody(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static) -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = Place::Tcp(listener.local_addr().expect("its address"));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Whoever is left is gone.
                let _ = serve(&mut stream);
            }
        });
        place
    }

    /// Says `bytes` one by one, the last of them again and again.
    fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        for at in 0..DROPS_MAX {
            stream.write_all(&[bytes[at.min(bytes.len() - 1)]])?;
            thread::sleep(DROP);
        }
        Ok(())
    }

    fn link(place: Place, patience: Patience) -> Link {
        let named = RedisPlace::parse("127.0.0.1:1").expect("a place");
        Link::connect(&named, &[place], None, patience).expect("somebody listens")
    }

    fn by_tls(place: Place) -> Result<Link, String> {
        let named = RedisPlace::parse("rediss://127.0.0.1:1").expect("a place");
        Link::connect(&named, &[place], Some(&Tls::trusting_nobody()), PATIENCE)
    }

    fn failure(asked: Result<Value, Failure>) -> String {
        asked.expect_err("no answer").to_string()
    }

    #[test]
    fn who_drips_is_waited_for_no_longer_than_who_is_silent() {
        let mut link = link(somebody(|stream| drip(stream, b"+OOOO")), PATIENCE);
        assert_eq!(failure(link.ask(&cmd("AUTH"))), late().to_string());
        let record = [0x16, 3, 3, 0x40, 0];
        let why = by_tls(somebody(move |stream| drip(stream, &record))).err().expect("no agreement");
        assert!(why.contains(&late().to_string()) && why.contains("tls-port"), "{why}");
    }

    #[test]
    fn all_answers_together_are_waited_for_no_longer_than_the_whole_may_take() {
        let answers = |stream: &mut TcpStream| {
            for byte in b"+OK\r\n".iter().cycle().take(DROPS_MAX) {
                stream.write_all(&[*byte])?;
                thread::sleep(DROP);
            }
            Ok(())
        };
        let mut link = link(somebody(answers), Patience { answer_max: DROP * 500, whole_max: DROP * 100, ..PATIENCE });
        let whole = (0..DROPS_MAX / 5 - 1).map(|_| link.ask(&cmd("DEL"))).take_while(Result::is_ok).count();
        assert!((1..DROPS_MAX / 5 - 1).contains(&whole), "{whole}");
        assert_eq!(failure(link.ask(&cmd("DEL"))), late().to_string());
    }

    #[test]
    fn who_says_more_than_a_short_answer_is_not_listened_to() {
        for (begins, goes_on) in [("$536870912\r\n", "x"), ("*1000000000\r\n", ":1\r\n"), ("+", "x")] {
            let mut link = link(
                somebody(move |stream| {
                    stream.write_all(begins.as_bytes())?;
                    while stream.write_all(goes_on.as_bytes()).is_ok() {}
                    Ok(())
                }),
                Patience { answer_max: Duration::from_secs(20), ..PATIENCE },
            );
            let why = failure(link.ask(&cmd("AUTH")));
            assert!(why.contains("64 KiB") && why.contains("bus_domain_address"), "{begins}: {why}");
        }
    }

    #[test]
    fn a_port_that_hangs_up_is_said_to_speak_no_tls_or_nothing_else() {
        let hangs_up = || {
            somebody(|stream| {
                let _ = stream.read(&mut [0; 4_096])?;
                Ok(())
            })
        };
        let why = by_tls(hangs_up()).err().expect("no agreement");
        assert!(why.contains("tls-port"), "{why}");
        let why = failure(link(hangs_up(), PATIENCE).ask(&cmd("AUTH")));
        assert!(why.contains("rediss://HOST:PORT"), "{why}");
        let says_no = somebody(|stream| stream.write_all(b"-ERR unknown command\r\n"));
        let why = by_tls(says_no).err().expect("no agreement");
        assert!(why.contains("tls-port"), "{why}");
    }

    #[test]
    fn a_place_that_swallows_everything_leaves_time_for_the_next() {
        let silent = somebody(|stream| stream.read(&mut [0; 4_096]).and_then(|_| stream.read(&mut [0; 1])).map(drop));
        let says_no = somebody(|stream| stream.write_all(b"-ERR unknown command\r\n"));
        let named = RedisPlace::parse("rediss://127.0.0.1:1").expect("a place");
        let patience = Patience { connect_max: Duration::from_secs(20), whole_max: Duration::from_secs(1), ..PATIENCE };
        let why = Link::connect(&named, &[silent, says_no.clone()], Some(&Tls::trusting_nobody()), patience).err();
        let why = why.expect("no agreement");
        assert!(why.starts_with(&format!("{says_no}: TLS: ")) && why.contains("corrupt"), "{why}");
    }
}
