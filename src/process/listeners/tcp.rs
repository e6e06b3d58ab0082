//! Listening sockets of TCP: several on one address, a share for each core (`SO_REUSEPORT`).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{BACKLOG, retry_in_use};

/// How often a port that is taken is looked at.
const LINGER_LOOK: Duration = Duration::from_millis(20);

/// Waits until nobody listens on `address`.
///
/// Without `SO_REUSEPORT` a bind fails where anybody listens, also one of ourselves. It does not listen, so that no client is lost
/// when it is closed.
pub(super) fn wait_for(address: SocketAddr, longest: Duration) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    retry_in_use(longest, LINGER_LOOK, || socket(address)?.bind(&address.into()))
}

/// So many sockets on one address, which do not listen yet; with the port that port 0 became.
pub(super) fn bind(mut address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        let socket = TcpListener::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket.into());
    }
    Ok((address, sockets))
}

/// Has one listen, if it does not.
pub(super) fn listen(socket: impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    if socket.is_listener()? { Ok(()) } else { socket.listen(BACKLOG) }
}

/// Whether others may bind to its address, too.
pub(super) fn lets_others(socket: impl AsFd) -> io::Result<bool> {
    SockRef::from(&socket).reuse_port()
}

/// What others made is set as ours are.
pub(super) fn adopt(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_nodelay(true)
}

/// A socket of ours.
pub fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] may stand side by side.
        socket.set_only_v6(true)?;
    }
    // Every connection inherits it: small frames are sent at once.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
