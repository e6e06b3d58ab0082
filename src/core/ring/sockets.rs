//! What is asked of a socket without the ring: calls that never wait.
#![expect(unsafe_code, reason = "the loop knows its descriptors by number")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, IntoRawFd as _};
use std::time::Duration;

use evergate_proto::ring::{Errno, Socket};
use nix::sys::socket::SockFlag;
use socket2::{Domain, Protocol, SockRef, Type};

/// A socket that connects to `address`.
pub(super) fn open(address: SocketAddr, dead: Duration) -> Result<Socket, Errno> {
    let opened = || -> io::Result<_> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(dead))?;
        Ok(Socket(socket.into_raw_fd()))
    };
    opened().map_err(|why| errno(&why))
}

/// Whom a connection belongs to.
pub(super) fn peer(socket: Socket) -> Result<IpAddr, Errno> {
    let peer = SockRef::from(&borrow(socket)).peer_addr().map_err(|why| errno(&why))?;
    Ok(peer.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))?.ip())
}

/// Bytes that the peer's TCP has not acknowledged; none where it is no connection.
pub(super) fn unacknowledged(socket: Socket) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, here. `TIOCOUTQ` is what libc calls the number of `SIOCOUTQ`.
    let result = unsafe { libc::ioctl(socket.0, libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { 0 } else { u64::try_from(bytes).unwrap_or(0) }
}

/// Has [`accept`] not wait. It holds for all who share the listener, but no ring of theirs heeds it.
pub(super) fn unblock(listener: Socket) -> Result<(), Errno> {
    SockRef::from(&borrow(listener)).set_nonblocking(true).map_err(|why| errno(&why))
}

/// Takes a connection from a listener that was unblocked.
pub(super) fn accept(listener: Socket) -> Result<u32, Errno> {
    let accepted = nix::sys::socket::accept4(listener.0, SockFlag::SOCK_CLOEXEC);
    accepted.map(i32::cast_unsigned).map_err(|why| Errno(why as i32))
}

/// Gives back a descriptor that nobody will ask for.
pub(super) fn close(socket: Socket) {
    // It is ours alone: nothing is left to be done where that fails.
    let _ = nix::unistd::close(socket.0);
}

pub(super) fn borrow<'socket>(socket: Socket) -> BorrowedFd<'socket> {
    // SAFETY: the loop names descriptors that it has open, and closes none during a call of its own.
    unsafe { BorrowedFd::borrow_raw(socket.0) }
}

fn errno(why: &io::Error) -> Errno {
    Errno(why.raw_os_error().unwrap_or(libc::EIO))
}
