use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use evergate_proto::redis::dial::Place;
use evergate_proto::ring::{Errno, Kind, Ring as _, Wait};
use evergate_proto::websocket::net::Address;
use socket2::{Domain, SockRef, Type};

use super::{listener, next, op, small};
use crate::core::ring::{Uring, sockets};

const DEAD: Duration = Duration::from_millis(4_321);

/// A listener that takes nobody more: connections to it hang. With the connections that fill it.
fn full_listener() -> (Vec<socket2::Socket>, SocketAddr) {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut all = vec![listener];
    for _ in 0..4 {
        let client = socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        let _ = client.connect(&address);
        all.push(client);
    }
    (all, address.as_socket().unwrap())
}

#[test]
fn a_link_connects_and_does_not_wait_for_more_to_send() {
    let (mut ring, (_, listener, address)) = (small(), listener());
    let socket = ring.open(&Place::Tcp(address), DEAD).unwrap();
    ring.connect(op(Kind::LinkConnect, 1), socket, &Place::Tcp(address));
    let completion = next(&mut ring);
    assert!(completion.op == op(Kind::LinkConnect, 1) && completion.result == Ok(0) && completion.buffer.is_none());
    let (_accepted, peer) = listener.accept().unwrap();
    assert_eq!(Address::Ip(peer.ip()), ring.peer(socket).unwrap());
    let opened = sockets::borrow(socket);
    let opened = SockRef::from(&opened);
    assert!(opened.tcp_nodelay().unwrap());
    assert_eq!(opened.tcp_user_timeout().unwrap(), Some(DEAD));
    ring.close(socket);
}

#[test]
fn a_connect_where_nobody_listens_is_refused() {
    let mut ring = small();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = ring.open(&Place::Tcp(address), DEAD).unwrap();
    ring.connect(op(Kind::LinkConnect, 0), socket, &Place::Tcp(address));
    assert_eq!(next(&mut ring).result, Err(Errno::CONNREFUSED));
    ring.close(socket);
}

#[test]
fn a_connect_that_hangs_can_be_cancelled() {
    let (mut ring, (_full, address)) = (small(), full_listener());
    let socket = ring.open(&Place::Tcp(address), DEAD).unwrap();
    ring.connect(op(Kind::LinkConnect, 0), socket, &Place::Tcp(address));
    ring.enter(Wait::No).unwrap();
    assert!(ring.next().is_none());
    ring.cancel(op(Kind::LinkConnect, 0));
    assert_eq!(next(&mut ring).result, Err(Errno::CANCELED));
    ring.close(socket);
}

#[test]
fn a_connect_over_ipv6_finds_its_address() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let (mut ring, address) = (small(), listener.local_addr().unwrap());
    let socket = ring.open(&Place::Tcp(address), DEAD).unwrap();
    ring.connect(op(Kind::LinkConnect, 0), socket, &Place::Tcp(address));
    assert_eq!(next(&mut ring).result, Ok(0));
    assert_eq!(ring.peer(socket), Ok(Address::Ip(address.ip())));
    ring.close(socket);
}

#[test]
fn a_connect_to_a_unix_socket_finds_it_and_a_path_without_one_is_told() {
    let path = std::env::temp_dir().join(format!("evergate-ring-{}", std::process::id()));
    let place = Place::Unix(path.as_path().into());
    let mut ring = small();
    let attempt = |ring: &mut Uring| {
        let socket = ring.open(&place, DEAD).unwrap();
        ring.connect(op(Kind::LinkConnect, 0), socket, &place);
        let result = next(ring).result;
        ring.close(socket);
        result
    };
    assert_eq!(attempt(&mut ring), Err(Errno(libc::ENOENT)));
    let listener = UnixListener::bind(&path).unwrap();
    let found = attempt(&mut ring);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found, Ok(0));
    assert!(listener.accept().is_ok());
    let long = Place::Unix(std::path::Path::new(&"/x".repeat(200)).into());
    assert!(ring.open(&long, DEAD).is_err(), "no such path fits an address");
}
