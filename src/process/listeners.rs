//! The shares of the listening port, one a core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps until they are accepted; `net.core.somaxconn` cuts it.
pub const BACKLOG: i32 = 4096;

/// How long the port of a killed predecessor may still be taken: the kernel takes its rings, and with them its
/// listeners, down some time after the process is gone.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LINGER_LOOK: Duration = Duration::from_millis(20);

/// Binds `shares` sockets to one port. Unless the port is to be shared with other processes, one that another process
/// listens on is an error.
pub fn bind(address: SocketAddr, shares: usize, share_port: bool) -> io::Result<Vec<TcpListener>> {
    if !share_port && address.port() != 0 {
        // Without SO_REUSEPORT a bind fails where anybody listens, also one of ourselves. It does not listen, so that
        // no client is lost when it is closed.
        let began = Instant::now();
        while let Err(error) = socket(address)?.bind(&address.into()) {
            if error.kind() != io::ErrorKind::AddrInUse || began.elapsed() > LINGER_MAX {
                return Err(error);
            }
            thread::sleep(LINGER_LOOK);
        }
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(shares);
    for _ in 0..shares {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Every connection inherits it: small frames are sent at once.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
