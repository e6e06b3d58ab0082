//! What is asked of a socket without the ring: calls that never wait.
#![expect(unsafe_code, reason = "the loop knows its descriptors by number")]

use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, IntoRawFd as _};
use std::time::Duration;

use evergate_proto::redis::dial::Place;
use evergate_proto::ring::{Emptied, Errno, Socket};
use evergate_proto::websocket::net::Address;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockFlag;
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, TcpKeepalive, Type};

/// A socket that connects to `place`.
pub(super) fn open(place: &Place, dead: Duration) -> Result<Socket, Errno> {
    let opened = || -> io::Result<_> {
        let Place::Tcp(address) = place else {
            // Whether the path is one.
            address(place)?;
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
            return Ok(Socket(socket.into_raw_fd()));
        };
        let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        // Also while nothing is under way.
        let probe = (dead / 4).max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe))?;
        socket.set_tcp_user_timeout(Some(dead))?;
        Ok(Socket(socket.into_raw_fd()))
    };
    opened().map_err(|why| errno(&why))
}

/// As the kernel is told it.
pub(super) fn address(place: &Place) -> io::Result<SockAddr> {
    match place {
        Place::Tcp(address) => Ok((*address).into()),
        Place::Unix(path) => SockAddr::unix(path),
    }
}

/// Whom a connection belongs to.
pub(super) fn peer(socket: Socket) -> Result<Address, Errno> {
    let peer = SockRef::from(&borrow(socket)).peer_addr().map_err(|why| errno(&why))?;
    if peer.is_unix() {
        return Ok(Address::Unix);
    }
    Ok(Address::Ip(peer.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))?.ip()))
}

/// Bytes that the peer's TCP has not acknowledged; none where it is no connection. Of a Unix socket, memory that holds what its peer
/// has not read: more than the bytes of that, and 0 when all is read.
pub(super) fn unacknowledged(socket: Socket) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, here. `TIOCOUTQ` is what libc calls the number of `SIOCOUTQ`.
    let result = unsafe { libc::ioctl(socket.0, libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { 0 } else { u64::try_from(bytes).unwrap_or(0) }
}

/// Bytes that have come and were not received; none where it is no connection.
pub(super) fn unread(socket: Socket) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: as above. `FIONREAD` is what libc calls the number of `SIOCINQ`.
    let result = unsafe { libc::ioctl(socket.0, libc::FIONREAD, &raw mut bytes) };
    if result < 0 { 0 } else { u64::try_from(bytes).unwrap_or(0) }
}

/// Takes what is queued on a listener, not more than `most`; then, where that was all, or `anyway`, it listens no more.
///
/// A Unix socket that is shut down refuses whoever comes and still gives up who is queued: so that is done first, and nobody is
/// between the two. Other cores may have it, too, and find it shut down.
///
/// accept4(2), for no accept of a ring before Linux 6.10 can be told not to wait. A filter that drops every packet before the
/// last accept would leave fewer resets still, but has a connect in that window wait a second for its refusal.
pub(super) fn empty(listener: Socket, most: u64, anyway: bool) -> Emptied {
    let mut emptied = Emptied::default();
    let listener_socket = borrow(listener);
    let socket = SockRef::from(&listener_socket);
    if let Err(why) = socket.set_nonblocking(true) {
        return Emptied { is_over: true, error: Some(errno(&why)), ..emptied };
    }
    let is_unix = is_unix(&socket);
    if is_unix {
        emptied.error = socket.shutdown(Shutdown::Read).err().map(|why| errno(&why));
    }
    emptied.is_over = loop {
        if emptied.taken.len() as u64 >= most {
            break anyway || !is_waited_for(listener);
        }
        match nix::sys::socket::accept4(listener.0, SockFlag::SOCK_CLOEXEC) {
            Ok(accepted) => emptied.taken.push(Socket(accepted)),
            // EINVAL: it does not listen any more.
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINVAL) => break true,
            Err(why) if Errno(why as i32).is_exhausted() => break anyway,
            // The peer was gone before it was accepted.
            Err(_) => {}
        }
    };
    if emptied.is_over && !is_unix {
        emptied.error = socket.shutdown(Shutdown::Read).err().map(|why| errno(&why));
    }
    emptied
}

fn is_unix(socket: &SockRef<'_>) -> bool {
    socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
}

/// Whether somebody is queued.
fn is_waited_for(listener: Socket) -> bool {
    let mut fds = [PollFd::new(borrow(listener), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Drops the SYN of a new handshake, by byte 13 of its TCP header, and nothing else: handshakes under way are completed, and what
/// is established is heard.
const NO_NEW_HANDSHAKES: [SockFilter; 5] = {
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, 13),
        SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, SYN | ACK),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, SYN),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
    ]
};

/// Has a listener drop every new handshake. One of a path has been shut down, and refuses whoever comes.
pub(super) fn refuse_new(listener: Socket) -> Result<(), Errno> {
    let listener = borrow(listener);
    let socket = SockRef::from(&listener);
    if is_unix(&socket) { Ok(()) } else { socket.attach_filter(&NO_NEW_HANDSHAKES).map_err(|why| errno(&why)) }
}

/// Shuts one side of a connection, or both.
///
/// shutdown(2), which never waits. The ring's is done by a thread of the kernel's (Linux 6.18), which looks the descriptor up by
/// its number when it comes to that: after a close, and an accept that was given the number, it shuts the wrong connection.
pub(super) fn shutdown(socket: Socket, how: Shutdown) {
    // It fails where the peer has done so already.
    let _ = SockRef::from(&borrow(socket)).shutdown(how);
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
