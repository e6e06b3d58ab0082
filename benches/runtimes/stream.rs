//! How the gateway read and wrote a client's connection, before it had its own event loop: recv(2) and send(2), without
//! waiting and without the ring; kept to be measured.
#![expect(unsafe_code, reason = "a descriptor that monoio lends as a number only; a receive into a vector's room")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use monoio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use socket2::SockRef;

/// A TCP connection.
#[derive(Debug)]
pub struct Stream {
    /// Closes it.
    _stream: TcpStream,
    /// Its descriptor, at hand: monoio keeps it two pointers away, which are two cache misses among thousands of clients.
    fd: RawFd,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self`, which is borrowed for as long as the result.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Stream {
    /// Wraps an accepted stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { fd: stream.as_raw_fd(), _stream: stream }
    }

    /// Sends small frames at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self) -> io::Result<()> {
        SockRef::from(self).set_tcp_nodelay(true)
    }

    /// Appends what has come, as far as `buffer` has room, which it must have. `None` = nothing, 0 bytes = the peer has
    /// ended.
    pub fn read_now(&self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        debug_assert!(buffer.capacity() > buffer.len(), "no room looks like an end");
        match SockRef::from(self).recv_with_flags(buffer.spare_capacity_mut(), libc::MSG_DONTWAIT) {
            Ok(bytes) => {
                // SAFETY: the kernel has written so many bytes behind the others.
                unsafe { buffer.set_len(buffer.len() + bytes) };
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends what the kernel takes of `bytes` at once: that much.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match nix::sys::socket::send(self.fd, bytes, flags) {
            Ok(bytes) => Ok(bytes),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
