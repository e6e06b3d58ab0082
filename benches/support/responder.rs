//! Router and service on a real Redis, as one process on synchronous sockets: it takes what the gateways pushed to the
//! router and answers every request.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use evergate_proto::redis::resp::{self, Token};

use super::answer::{Answerer, Batch, WORKER};

/// The account that may push to clients and pop from the router's list under the stock ACL (tests/redis-acl.txt).
const ACCOUNT: [&[u8]; 2] = [b"router", b"router-test"];
/// The most requests of one turn.
const POP: &[u8] = b"512";
/// Room for what one read brings.
const READ_BYTES: usize = 1024 * 1024;

/// Answers what arrives in `key` on the Redis at `redis` until that closes the connection.
pub fn serve(redis: &str, key: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(redis)?;
    stream.set_nodelay(true)?;
    let (mut out, mut input) = (Vec::new(), Input::default());
    resp::write_command(&mut out, &[b"AUTH", ACCOUNT[0], ACCOUNT[1]]);
    stream.write_all(&out)?;
    input.integers_or_ok(&mut stream, 1)?;
    let (answerer, mut batch) = (Answerer::default(), Batch::default());
    loop {
        out.clear();
        let pushes = batch.write(&mut out);
        let all = [key.as_bytes(), WORKER];
        let lists = if batch.sessions { &all[..] } else { &all[..1] };
        // One wakes with the first request, the others take what has gathered behind it.
        resp::write_command(&mut out, &[&[&b"BLPOP"[..]], lists, &[b"0"]].concat());
        for list in lists {
            resp::write_command(&mut out, &[b"LPOP", list, POP]);
        }
        if stream.write_all(&out).is_err() {
            return Ok(());
        }
        let popped = input.integers_or_ok(&mut stream, pushes).and_then(|()| {
            let skips = std::iter::once(1).chain(lists.iter().map(|_| 0));
            skips
                .into_iter()
                .try_for_each(|skip| input.elements(&mut stream, skip, &mut |message| batch.add(&answerer, message)))
        });
        match popped {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
    }
}

/// What Redis has sent and nobody has read.
#[derive(Default)]
pub struct Input {
    /// Received bytes, and room behind them: to clear it for each read costs more than the read.
    buffer: Vec<u8>,
    /// How many bytes have been received.
    end: usize,
    /// How many of them have been read.
    at: usize,
}

impl Input {
    /// Reads that many replies that are an integer or OK.
    pub fn integers_or_ok(&mut self, stream: &mut TcpStream, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.token(stream, |token| match token {
                Token::Integer(_) | Token::Simple(_) => Ok(()),
                other => Err(io::Error::other(format!("Redis answers {}", shown(other)))),
            })?;
        }
        Ok(())
    }

    /// Reads a reply that is an array or nil and shows its elements but the first `skip` to `visit`.
    pub fn elements(
        &mut self,
        stream: &mut TcpStream,
        skip: usize,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        let count = self.token(stream, |token| match token {
            Token::Array(count) => Ok(*count),
            Token::Nil => Ok(0),
            other => Err(io::Error::other(format!("Redis answers {}", shown(other)))),
        })?;
        for index in 0..count {
            self.token(stream, |token| match token {
                Token::Bulk(text) if index >= skip && !visit(text) => {
                    Err(io::Error::other(format!("no request: {}", shown(token))))
                }
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Waits for the next token.
    fn token<T>(&mut self, stream: &mut TcpStream, mut take: impl FnMut(&Token<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            let next = resp::next(&self.buffer[..self.end], &mut self.at);
            if let Some(token) = next.map_err(|_| io::Error::other("Redis sent what is not RESP"))? {
                return take(&token);
            }
            self.buffer.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            self.at = 0;
            if self.buffer.len() < self.end + READ_BYTES {
                self.buffer.resize(self.end + 2 * READ_BYTES, 0);
            }
            let count = stream.read(&mut self.buffer[self.end..])?;
            self.end += count;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A token for a person, cut.
fn shown(token: &Token<'_>) -> String {
    match token {
        Token::Bulk(text) | Token::Error(text) | Token::Simple(text) => {
            String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
        }
        other => format!("{other:?}"),
    }
}
