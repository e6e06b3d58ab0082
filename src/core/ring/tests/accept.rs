use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, TcpStream};

use evergate_proto::ring::{Errno, Kind, Ring as _, Socket, Wait};
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
        assert_eq!(ring.peer(socket), Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)));
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
fn accepts_on_an_unblocked_listener_end_with_again_once_nobody_is_queued() {
    let (mut ring, (socket, _listener, address)) = (small(), listener());
    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    ring.unblock(socket).unwrap();
    for _ in &clients {
        ring.accept(op(Kind::Accept, 0), socket, false);
        let accepted = next(&mut ring).result.unwrap();
        ring.close(Socket(accepted.cast_signed()));
    }
    for multishot in [false, true] {
        ring.accept(op(Kind::Accept, 0), socket, multishot);
        let completion = next(&mut ring);
        assert_eq!((completion.result, completion.more), (Err(Errno::AGAIN), false));
    }
    // Whoever shares the listener and has not unblocked it waits for the next connection.
    let mut other = small();
    other.accept(op(Kind::Accept, 0), socket, true);
    other.enter(Wait::No).unwrap();
    assert!(other.next().is_none());
    let client = TcpStream::connect(address).unwrap();
    let accepted = next(&mut other).result.unwrap();
    other.close(Socket(accepted.cast_signed()));
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
