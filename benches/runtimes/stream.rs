//! A TCP connection on the core's ring that is read and written at the same time.
//!
//! monoio's own halves will not do: the owned read half has no `readable()`, and dropping the write half shuts the
//! socket down.
#![expect(
    unsafe_code,
    reason = "one TcpStream lent to a reader and a writer, as monoio's own Split does; a receive into a vector's room; an ioctl"
)]

use std::cell::UnsafeCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use socket2::{SockRef, TcpKeepalive};

/// A TCP connection. At most one read and one write at a time.
#[derive(Debug)]
pub struct Stream {
    stream: UnsafeCell<TcpStream>,
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
    /// Wraps an accepted or connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { fd: stream.as_raw_fd(), stream: UnsafeCell::new(stream) }
    }

    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_addr(address).await.map(Self::new)
    }

    #[expect(clippy::mut_from_ref, reason = "see the SAFETY comment")]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: the core is one thread, and monoio's read and write only clone the shared descriptor out of the
        // stream when they are first polled; `TcpStream: Split` promises that the two do not disturb each other.
        unsafe { &mut *self.stream.get() }
    }

    fn with_socket<T>(&self, act: impl FnOnce(SockRef<'_>) -> T) -> T {
        act(SockRef::from(self))
    }

    /// Sends small frames at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.with_socket(|socket| socket.set_tcp_nodelay(true))
    }

    /// Has the kernel give the connection up when the peer's host has been silent for `dead` (`TCP_USER_TIMEOUT`),
    /// also while nothing is under way (`SO_KEEPALIVE`).
    pub fn set_dead_after(&self, dead: Duration) -> io::Result<()> {
        let probe = (dead / 4).max(Duration::from_secs(1));
        self.with_socket(|socket| {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe))?;
            socket.set_tcp_user_timeout(Some(dead))
        })
    }

    /// Shuts down one side or both; what is under way ends by itself.
    pub fn shutdown(&self, how: Shutdown) {
        // An error means that the peer has done so already.
        let _ = self.with_socket(|socket| socket.shutdown(how));
    }

    /// Whether the connection has broken or the peer has ended it, without reading what it sent before.
    pub fn is_broken(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    /// Waits until there is something to read, an end or an error; owns no buffer meanwhile.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream().readable(false).await
    }

    /// Waits until the kernel takes more, or the connection has broken.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream().writable(false).await
    }

    /// Bytes that the kernel has taken and the peer's TCP has not acknowledged, our FIN among them (`SIOCOUTQ`).
    pub fn unacknowledged(&self) -> u64 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which Linux also calls TIOCOUTQ, writes one int.
        let result = unsafe { libc::ioctl(self.fd, libc::TIOCOUTQ, &raw mut bytes) };
        debug_assert_eq!(result, 0, "every TCP socket knows this");
        u64::try_from(bytes).unwrap_or(0)
    }

    /// Appends what has come, as far as `buffer` has room, which it must have; without waiting and without the ring.
    /// `None` = nothing, 0 bytes = the peer has ended.
    pub fn read_now(&self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        debug_assert!(buffer.capacity() > buffer.len(), "no room looks like an end");
        match self.with_socket(|socket| socket.recv_with_flags(buffer.spare_capacity_mut(), libc::MSG_DONTWAIT)) {
            Ok(bytes) => {
                // SAFETY: the kernel has written so many bytes behind the others.
                unsafe { buffer.set_len(buffer.len() + bytes) };
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends what the kernel takes of `bytes` at once, without waiting and without the ring: that much.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match nix::sys::socket::send(self.fd, bytes, flags) {
            Ok(bytes) => Ok(bytes),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads into `buffer`; 0 bytes = the peer has ended.
    pub async fn read<T: IoBufMut>(&self, buffer: T) -> BufResult<usize, T> {
        self.stream().read(buffer).await
    }

    /// Writes `bytes` and gives them back. What the kernel takes at once goes without the ring: the peer need not wait until
    /// the core has nothing else to do.
    pub async fn write(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self.send_now(&bytes) {
            Ok(sent) if sent == bytes.len() => (Ok(()), bytes),
            Ok(sent) => {
                let (result, rest) = self.write_all(bytes.slice(sent..)).await;
                (result.map(|_| ()), rest.into_inner())
            }
            Err(error) => (Err(error), bytes),
        }
    }

    /// Writes all of `buffer` by the ring.
    pub async fn write_all<T: IoBuf + 'static>(&self, buffer: T) -> BufResult<usize, T> {
        self.stream().write_all(buffer).await
    }
}
