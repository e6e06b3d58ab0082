//! One connection to Redis on a core's ring: how it begins, and what it receives.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use evergate_proto::redis::refusals;
use evergate_proto::redis::resp::{self, Token};
use evergate_proto::redis::stranger;
use monoio::buf::IoBufMut;

use super::link::LinkOptions;
use crate::core::stream::Stream;

/// Bytes that a link reads at once; more for a message that is known to be larger. It also bounds a turn: what one
/// read brought is handed to clients and sent, then the others have their turn before the next read.
const READ_BYTES: usize = 128 * 1024;

/// Room for what is read without waiting: confirmations are a few bytes each.
const ACKS_BYTES: usize = 4 * 1024;

/// A connection whose account is accepted.
#[derive(Debug)]
pub struct Greeted {
    /// The connection.
    pub stream: Rc<Stream>,
    /// What it received behind the greeting.
    pub input: Input,
    /// The number that Redis gave the connection.
    pub id: i64,
    /// Why the probe was not carried out, where a Redis of any age would have been able to.
    pub lacks: Option<String>,
}

/// Received bytes and how far they have been read.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    at: usize,
}

impl Input {
    /// Reads more from `stream` behind what is there.
    pub async fn fill(&mut self, stream: &Stream) -> io::Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            if self.buffer.capacity() > 4 * READ_BYTES {
                self.buffer = Vec::new();
            }
        }
        let wanted = resp::wanted(&self.buffer, self.at);
        let have = self.buffer.len() - self.at;
        if self.at > 0 && self.buffer.capacity() < self.at + wanted.max(have + READ_BYTES / 4) {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(wanted.saturating_sub(have).max(READ_BYTES / 4).max(if have == 0 {
            READ_BYTES
        } else {
            0
        }));
        let filled = self.buffer.len();
        let (result, slice) = stream.read(std::mem::take(&mut self.buffer).slice_mut(filled..)).await;
        self.buffer = slice.into_inner();
        match result? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection")),
            _ => Ok(()),
        }
    }

    /// What has been received and not read yet.
    pub fn received(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Takes what has been received already, without waiting; says whether that was anything.
    pub fn try_fill(&mut self, stream: &Stream) -> io::Result<bool> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        self.buffer.reserve(ACKS_BYTES);
        match stream.read_now(&mut self.buffer)? {
            Some(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection")),
            read => Ok(read.is_some()),
        }
    }

    /// The next token, or `None` when it is not all here.
    pub fn next(&mut self) -> io::Result<Option<Token<'_>>> {
        next(&self.buffer, &mut self.at)
    }

    /// Shows `take` token after token until it says that it has enough, which is what is returned; false where the next token
    /// is not all here.
    pub fn each<'a>(&'a mut self, mut take: impl FnMut(&Token<'a>) -> io::Result<bool>) -> io::Result<bool> {
        while let Some(token) = next(&self.buffer, &mut self.at)? {
            if take(&token)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn next<'a>(buffer: &'a [u8], at: &mut usize) -> io::Result<Option<Token<'a>>> {
    resp::next(buffer, at)
        .map_err(|resp::Malformed| io::Error::new(io::ErrorKind::InvalidData, "Redis sent what is not RESP"))
}

/// Connects to `address`, logs in, and has Redis carry out `probe`, so that an account or a server that refuses what the
/// link is for is found out before the link counts as up.
pub async fn greet(address: SocketAddr, options: &LinkOptions, probe: &[&[u8]]) -> io::Result<Greeted> {
    let stream = Stream::connect(address).await?;
    stream.set_nodelay()?;
    stream.set_dead_after(options.dead)?;
    let mut commands = Vec::new();
    let hello: [&[u8]; 5] = [b"HELLO", b"2", b"AUTH", options.username.as_bytes(), options.passwd.as_bytes()];
    resp::write_command(&mut commands, &hello);
    resp::write_command(&mut commands, probe);
    stream.write_all(commands).await.0?;
    let mut input = Input::default();
    let (mut id, mut is_id, mut is_map) = (0, false, None);
    let no_redis =
        |received: &[u8]| io::Error::new(io::ErrorKind::InvalidData, stranger::describe(received, address.port()));
    while input.received().is_empty() {
        input.fill(&stream).await?;
    }
    // As much as has come at once will do to know it by.
    let first = input.received()[..input.received().len().min(256)].to_vec();
    if !stranger::may_be_redis(&first) {
        return Err(no_redis(&first));
    }
    let greeted = reply(&mut input, &stream, "the account", |token| {
        is_map.get_or_insert(matches!(token, Token::Array(_)));
        if let (Token::Integer(n), true) = (token, is_id) {
            id = *n;
        }
        is_id = *token == Token::Bulk(b"id");
    })
    .await;
    match greeted {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(no_redis(&first)),
        Ok(()) if is_map == Some(false) => return Err(no_redis(&first)),
        Err(error) if error.to_string().contains("unknown command") => {
            let text = format!("{error}; this Redis is older than 6.0 and knows no accounts: upgrade to 6.2 or later");
            return Err(io::Error::new(error.kind(), text));
        }
        greeted => greeted?,
    }
    let lacks = match reply(&mut input, &stream, &String::from_utf8_lossy(probe[0]), |_| ()).await {
        // Said before the account's rights are looked at, and in no newer version.
        Err(error) if error.to_string().contains("wrong number of arguments") => Some(error.to_string()),
        probed => probed.map(|()| None)?,
    };
    Ok(Greeted { stream: Rc::new(stream), input, id, lacks })
}

/// Reads one whole reply and shows its tokens to `visit`; an error of Redis' is an error that names `what`.
async fn reply(input: &mut Input, stream: &Stream, what: &str, mut visit: impl FnMut(&Token<'_>)) -> io::Result<()> {
    let mut left = 1_usize;
    while left > 0 {
        let Some(token) = input.next()? else {
            input.fill(stream).await?;
            continue;
        };
        left -= 1;
        match token {
            Token::Error(text) => {
                let word = String::from_utf8_lossy(text);
                // What it does not know or cannot parse is a matter of its version, and the caller's.
                let why = if word.starts_with("ERR ") { word.into_owned() } else { refusals::explain(&word) };
                let text = format!("Redis refused {what}: {why}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Token::Array(n) => left += n,
            _ => {}
        }
        visit(&token);
    }
    Ok(())
}
