//! A connection: lines in both directions, each within its time and its length.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};

use super::request::Peer;
use crate::unix_socket;

/// Bytes that are looked at together.
const CHUNK_BYTES: usize = 4_096;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    /// What has come of the next line.
    begun: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, begun: Vec::new() }
    }

    /// Connects to the socket at `path`, within `limit`.
    pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        unix_socket::connect(path, limit).map(Self::new)
    }

    /// Who is at the other end: for a server who connected, for a client who listens.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let found = getsockopt(&self.stream, sockopt::PeerCredentials)?;
        Ok(Peer { pid: found.pid().cast_unsigned(), uid: found.uid() })
    }

    /// Whether the other end has closed, and all that it said was read. Does not wait.
    pub(super) fn is_over(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.stream.as_raw_fd(), &mut [0], flags), Ok(0) | Err(Errno::ECONNRESET))
    }

    /// The next line, without its end; none where the other end has closed. It takes no byte behind the line, for descriptors are
    /// tied to those. Where its time is over, what has come is kept for the next call.
    pub(super) fn read_line(&mut self, bytes_max: usize, limit: Duration) -> io::Result<Option<String>> {
        let until = Instant::now() + limit;
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            // What is there is read, however late it is.
            self.stream.set_read_timeout(Some(left(until).unwrap_or(Duration::from_millis(1))))?;
            let seen = match recv(self.stream.as_raw_fd(), &mut chunk, MsgFlags::MSG_PEEK) {
                Ok(0) => return Ok(None),
                Ok(seen) => &mut chunk[..seen],
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(late()),
                Err(error) => return Err(error.into()),
            };
            let end = seen.iter().position(|&byte| byte == b'\n');
            let length = end.map_or(seen.len(), |end| end + 1);
            (&self.stream).read_exact(&mut seen[..length])?;
            self.begun.extend_from_slice(&seen[..end.unwrap_or(length)]);
            if self.begun.len() > bytes_max {
                return Err(invalid(format!("a line has more than {bytes_max} bytes")));
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.begun);
                return String::from_utf8(line).map(Some).map_err(|_| invalid("a line is not UTF-8".to_owned()));
            }
        }
    }

    /// Writes a line. Whoever does not read is waited for no longer than that.
    pub(super) fn write_line(&self, line: &str, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        let bytes = [line.as_bytes(), b"\n"].concat();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(until)?))?;
            match (&self.stream).write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has whatever is received or sent next (`passing`) wait no longer than that.
    pub(super) fn limit(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The time to `until`, as long as there is any.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other end was too slow")
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
