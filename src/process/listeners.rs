//! The listening sockets of the process: one port, a share for each core.
//!
//! They are bound here, or come from the service manager (`LISTEN_FDS`, `sd_listen_fds(3)`), or from the process that this one
//! succeeds. What others have, too, goes on listening when this process closes it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel keeps until they are accepted; `net.core.somaxconn` cuts it.
pub const BACKLOG: i32 = 4096;

/// How long the port of a killed predecessor may still be taken: the kernel takes its rings, and with them its
/// listeners, down some time after the process is gone.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LINGER_LOOK: Duration = Duration::from_millis(20);

/// What each core takes connections from.
pub type Shares = Vec<Vec<TcpListener>>;

/// The port of the process.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    cores: usize,
    is_shared: bool,
    /// The service manager has the sockets as well, and keeps them when this process is gone.
    is_kept: bool,
    /// Copies of what the cores take connections from.
    sockets: Vec<TcpListener>,
}

impl Port {
    /// Binds a socket for each of so many `cores` to one port. Unless it is to be shared with other processes (`SO_REUSEPORT`), one
    /// that another process listens on is an error. A shared one does not listen before [`Self::listen`]: the others serve meanwhile.
    pub fn bind(address: SocketAddr, cores: usize, is_shared: bool) -> io::Result<Self> {
        if !is_shared {
            wait_for(address, LINGER_MAX)?;
        }
        let sockets = bind(address, cores)?;
        if !is_shared {
            listen(&sockets)?;
        }
        let address = sockets[0].local_addr()?;
        Ok(Self { address, cores, is_shared, is_kept: false, sockets })
    }

    /// Of listening sockets that others made. Where there are fewer than `cores`, more are bound beside them if they let that happen;
    /// else cores share them.
    pub fn of(mut sockets: Vec<TcpListener>, cores: usize, is_kept: bool) -> io::Result<Self> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "there is no listening socket");
        let address = sockets.first().ok_or_else(none)?.local_addr()?;
        for socket in &sockets {
            judge(socket)?;
        }
        let may_be_more = SockRef::from(&sockets[0]).reuse_port()?;
        if may_be_more && !is_kept && sockets.len() < cores {
            // Under another account they cannot be, and nothing is lost by that.
            sockets.extend(bind(address, cores - sockets.len()).unwrap_or_default());
        }
        Ok(Self { address, cores, is_shared: false, is_kept, sockets })
    }

    /// The sockets that the service manager has passed, if it has.
    pub fn of_service_manager(cores: usize) -> io::Result<Option<Self>> {
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|index| passed.take_tcp_listener(index)).collect::<io::Result<Vec<_>>>()?;
        let sockets: Vec<TcpListener> = sockets.into_iter().flatten().collect();
        if sockets.is_empty() { Ok(None) } else { Self::of(sockets, cores, true).map(Some) }
    }

    /// Whether other processes may listen on the port, should it be bound again.
    #[must_use]
    pub fn sharing(self, is_shared: bool) -> Self {
        Self { is_shared, ..self }
    }

    /// Sockets of a predecessor on the same address, which this process serves as well.
    #[must_use]
    pub fn beside(mut self, sockets: Vec<TcpListener>) -> Self {
        self.sockets.extend(sockets);
        self
    }

    /// Has all of them listen, as far as they do not: new ones, and those that an old process has ended that had them, too.
    pub fn listen(&self) -> io::Result<()> {
        listen(&self.sockets)
    }

    /// The address that is listened on: with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether others go on listening when this process does not.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// What each core takes connections from: several sockets where there are more than cores.
    pub fn shares(&self) -> io::Result<Shares> {
        let mut shares: Shares = (0..self.cores).map(|_| Vec::new()).collect();
        for place in 0..self.sockets.len().max(self.cores) {
            shares[place % self.cores].push(self.sockets[place % self.sockets.len()].try_clone()?);
        }
        Ok(shares)
    }

    /// The sockets, for a successor.
    pub fn sockets(&self) -> &[TcpListener] {
        &self.sockets
    }

    /// The cores have closed theirs: gives the port up, unless it is kept.
    pub fn give_up(&mut self) {
        if !self.is_kept {
            self.sockets.clear();
        }
    }

    /// Listens again, if nobody else has the port by now; waits for nobody.
    pub fn listen_again(&mut self) -> io::Result<()> {
        if self.is_kept {
            return Ok(());
        }
        self.sockets.clear();
        if !self.is_shared {
            wait_for(self.address, Duration::ZERO)?;
        }
        self.sockets = bind(self.address, self.cores)?;
        listen(&self.sockets)
    }
}

/// Waits until nobody listens on `address`.
///
/// Without `SO_REUSEPORT` a bind fails where anybody listens, also one of ourselves. It does not listen, so that no client is lost
/// when it is closed.
fn wait_for(address: SocketAddr, longest: Duration) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let began = Instant::now();
    while let Err(error) = socket(address)?.bind(&address.into()) {
        if error.kind() != io::ErrorKind::AddrInUse || began.elapsed() >= longest {
            return Err(error);
        }
        thread::sleep(LINGER_LOOK);
    }
    Ok(())
}

/// So many sockets on one address.
fn bind(mut address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Has those listen that do not.
fn listen(sockets: &[TcpListener]) -> io::Result<()> {
    for socket in sockets.iter().map(SockRef::from) {
        if !socket.is_listener()? {
            socket.listen(BACKLOG)?;
        }
    }
    Ok(())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Every connection inherits it: small frames are sent at once.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// What others made must listen, and is set as ours are.
fn judge(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket that was passed does not listen"));
    }
    socket.set_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn counts(port: &Port) -> Vec<usize> {
        port.shares().expect("copies").iter().map(Vec::len).collect()
    }

    #[test]
    fn each_core_has_a_share_and_all_sockets_are_dealt() {
        let port = Port::bind(loopback(), 3, false).expect("a port");
        assert_eq!(counts(&port), [1, 1, 1]);
        let copies = || port.sockets().iter().map(|socket| socket.try_clone().expect("a copy")).collect::<Vec<_>>();
        assert_eq!(counts(&Port::of(copies(), 2, false).expect("fewer cores")), [2, 1]);
        let more = Port::of(copies(), 5, false).expect("more cores");
        assert_eq!((counts(&more), more.sockets().len()), (vec![1; 5], 5), "two are bound beside them");
        let kept = Port::of(copies(), 5, true).expect("more cores");
        assert_eq!((counts(&kept), kept.sockets().len()), (vec![1; 5], 3), "the manager's are shared");
    }

    #[test]
    fn one_socket_that_lets_nobody_beside_it_is_shared_by_all_cores() {
        let port = Port::of(vec![TcpListener::bind(loopback()).expect("a socket")], 4, false).expect("a port");
        assert_eq!((counts(&port), port.sockets().len()), (vec![1; 4], 1));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let bound = socket(loopback()).expect("a socket");
        bound.bind(&loopback().into()).expect("bound");
        let refused = Port::of(vec![TcpListener::from(bound)], 1, false).expect_err("it does not listen");
        assert!(refused.to_string().contains("does not listen"), "{refused}");
        assert!(Port::of(vec![], 1, false).is_err());
    }

    #[test]
    fn a_port_that_was_given_up_is_listened_on_again_unless_another_has_it() {
        let mut port = Port::bind(loopback(), 2, false).expect("a port");
        let address = port.address();
        port.give_up();
        assert!(std::net::TcpStream::connect(address).is_err());
        port.listen_again().expect("it is free");
        assert!(std::net::TcpStream::connect(address).is_ok());
        port.give_up();
        let _other = TcpListener::bind(address).expect("another process's, say");
        assert_eq!(port.listen_again().expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
    }
}
