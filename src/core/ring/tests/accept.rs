use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, TcpStream};

use evergate_proto::ring::{Errno, Kind, Ring as _, Socket, Wait};
use evergate_proto::websocket::net::Address;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{listener, next, op, small};

#[test]
fn one_accept_takes_one_connection_after_the_other() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let accept = op(Kind::Accept, 0);
    ring.accept(accept, socket, true);
    let mut accepted = HashSet::new();
    for _ in 0..50 {
        let client = TcpStream::connect(address).unwrap();
        let completion = next(&mut ring);
        assert!(completion.op == accept && completion.more);
        let socket = Socket(completion.result.unwrap().cast_signed());
        assert_eq!(ring.peer(socket), Ok(Address::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))));
        accepted.insert(socket);
        drop(client);
    }
    assert_eq!(accepted.len(), 50);
    for socket in accepted {
        ring.close(socket);
    }
}

#[test]
fn a_single_accept_takes_one() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    for place in 0..2 {
        ring.accept(op(Kind::Accept, place), socket, false);
        let completion = next(&mut ring);
        assert!(completion.op.place == place && !completion.more);
        ring.close(Socket(completion.result.unwrap().cast_signed()));
    }
    drop(clients);
}

#[test]
fn a_process_out_of_descriptors_ends_the_accept_and_no_connection() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let clients = [(); 6].map(|()| TcpStream::connect(address).unwrap());
    // This test's process is its own under nextest: the limit is nobody else's.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let free = std::fs::File::open("/dev/null").unwrap();
    let lowest_free = std::os::fd::AsRawFd::as_raw_fd(&free).cast_unsigned();
    drop(free);
    setrlimit(Resource::RLIMIT_NOFILE, u64::from(lowest_free) + 2, hard).unwrap();
    ring.accept(op(Kind::Accept, 0), socket, true);
    let mut accepted = Vec::new();
    let ended = loop {
        let completion = next(&mut ring);
        match completion.result {
            Ok(socket) => accepted.push(Socket(socket.cast_signed())),
            Err(why) => break (why, completion.more),
        }
    };
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(ended, (Errno::MFILE, false));
    assert!(Errno::MFILE.is_exhausted() && accepted.len() == 2, "{accepted:?}");
    ring.accept(op(Kind::Accept, 0), socket, true);
    while accepted.len() < clients.len() {
        accepted.push(Socket(next(&mut ring).result.unwrap().cast_signed()));
    }
    for socket in accepted {
        ring.close(socket);
    }
}

#[test]
fn emptying_a_listener_takes_all_that_are_queued_and_refuses_whoever_comes_then() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    let emptied = ring.empty(socket, 2, false);
    assert_eq!((emptied.taken.len(), emptied.is_over, emptied.error), (2, false, None), "one is queued");
    let client = TcpStream::connect(address).unwrap();
    let rest = ring.empty(socket, 2, false);
    assert_eq!((rest.taken.len(), rest.is_over, rest.error), (2, true, None));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    for socket in emptied.taken.into_iter().chain(rest.taken) {
        ring.close(socket);
    }
    ring.enter(Wait::No).unwrap();
    drop((clients, client));
}

#[test]
fn a_listener_is_closed_over_those_for_whom_there_is_no_room_where_nobody_may_wait() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let client = TcpStream::connect(address).unwrap();
    let emptied = ring.empty(socket, 0, true);
    assert!(emptied.taken.is_empty() && emptied.is_over);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    drop(client);
}

#[test]
fn a_listener_that_refuses_the_new_keeps_those_who_are_established() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let client = TcpStream::connect(address).unwrap();
    ring.refuse_new(socket).unwrap();
    assert!(TcpStream::connect_timeout(&address, std::time::Duration::from_millis(50)).is_err());
    let emptied = ring.empty(socket, 9, false);
    assert_eq!((emptied.taken.len(), emptied.is_over), (1, true));
    ring.close(emptied.taken[0]);
    ring.enter(Wait::No).unwrap();
    drop(client);
}

#[test]
fn a_cancelled_accept_leaves_the_queue_as_it_is() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    ring.accept(op(Kind::Accept, 0), socket, true);
    ring.cancel(op(Kind::Accept, 0));
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.more), (Err(Errno::CANCELED), false));
    let client = TcpStream::connect(address).unwrap();
    ring.accept(op(Kind::Accept, 1), socket, false);
    let completion = next(&mut ring);
    assert_eq!(completion.op.place, 1);
    ring.close(Socket(completion.result.unwrap().cast_signed()));
    drop(client);
}
