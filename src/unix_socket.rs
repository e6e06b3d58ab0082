//! Unix sockets with a path: connecting to one, and the file of one that this process listens at.

#![forbid(unsafe_code)]

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

/// Between two attempts to connect to a server that has not accepted those before.
const CONNECT_AGAIN: Duration = Duration::from_millis(20);

/// Connects to the socket at `path`, and waits no longer than `limit` for a server that does not accept: connect(2) has no time limit of its
/// own there.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + limit;
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    while let Err(error) = socket.connect(&address) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        if Instant::now() >= until {
            let why = format!("it has not accepted a connection for {} s", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        thread::sleep(CONNECT_AGAIN);
    }
    socket.set_nonblocking(false)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

/// The file of a socket that this process listens at, or its predecessor.
///
/// As long as the socket is open, no other file has its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own there since.
    identity: (u64, u64),
}

impl SocketFile {
    /// What is at `path` now.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&fs::symlink_metadata(path)?) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails where another process has put its own socket there since: clients would go to that, and this one would be deaf.
    pub fn must_be_in_place(&self) -> io::Result<()> {
        if self.is_in_place()? { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EADDRINUSE)) }
    }

    /// Whether it is there still; an error of the kind `NotFound` where nothing is.
    pub fn is_in_place(&self) -> io::Result<bool> {
        fs::symlink_metadata(&self.path).map(|found| identity(&found) == self.identity)
    }

    /// Removes it, if it is still that.
    pub fn remove(&self) -> io::Result<()> {
        match self.is_in_place() {
            Ok(true) => fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_accept_is_waited_for_no_longer_than_the_limit() {
        let path = std::env::temp_dir().join(format!("evergate-unix-socket-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("a path")).expect("bound");
        listener.listen(0).expect("it listens");
        let file = SocketFile::of(&path).expect("its file");
        let mut queued = Vec::new();
        let error = loop {
            match connect(&path, Duration::from_millis(50)) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
            assert!(queued.len() < 10, "the kernel queues one");
        };
        file.must_be_in_place().expect("it is there");
        file.remove().expect("removed");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(connect(&path, Duration::ZERO).map_err(|error| error.kind()).err(), Some(io::ErrorKind::NotFound));
    }
}
