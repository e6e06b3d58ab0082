use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Barrier;

use super::*;

fn loopback() -> Listen {
    Listen::plain(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn open(wanted: &[Listen], cores: usize, taken: Given, kept: Given) -> Result<Listeners, ListenError> {
    Listeners::open(wanted, cores, false, Sources { kept, taken, ..Sources::default() })
}

fn counts(listeners: &Listeners) -> Vec<usize> {
    listeners.shares().expect("copies").iter().map(Vec::len).collect()
}

fn sockets(listeners: &Listeners) -> usize {
    listeners.copies().expect("copies").len()
}

fn address(listeners: &Listeners) -> SocketAddr {
    listeners.iter().find_map(|listen| listen.at.tcp()).expect("an address")
}

#[test]
fn each_core_has_a_share_and_all_sockets_are_dealt() {
    let port = open(&[loopback()], 3, vec![], vec![]).expect("a port");
    assert_eq!(counts(&port), [1, 1, 1]);
    let wanted = [Listen::plain(address(&port))];
    let copies = || port.copies().expect("copies");
    assert_eq!(counts(&open(&wanted, 2, copies(), vec![]).expect("fewer cores")), [2, 1]);
    let more = open(&wanted, 5, copies(), vec![]).expect("more cores");
    assert_eq!((counts(&more), sockets(&more)), (vec![1; 5], 5), "two are bound beside them");
    let kept = open(&wanted, 5, vec![], copies()).expect("more cores");
    assert_eq!((counts(&kept), sockets(&kept)), (vec![1; 5], 3), "the manager's are shared");
}

#[test]
fn one_socket_that_lets_nobody_beside_it_is_shared_by_all_cores() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let at = socket.local_addr().expect("its address");
    let port = open(&[Listen::plain(at)], 4, vec![(socket.into(), at.into())], vec![]).expect("a port");
    assert_eq!((counts(&port), sockets(&port)), (vec![1; 4], 1));
}

#[test]
fn a_port_that_was_given_up_is_listened_on_again_unless_another_has_it() {
    let mut port = open(&[loopback()], 2, vec![], vec![]).expect("a port");
    let address = address(&port);
    port.give_up(Left::NONE);
    assert!(std::net::TcpStream::connect(address).is_err());
    port.listen_again().expect("it is free");
    assert!(std::net::TcpStream::connect(address).is_ok());
    port.give_up(Left::NONE);
    let _other = TcpListener::bind(address).expect("another process's, say");
    assert_eq!(port.listen_again().expect_err("it is taken").error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn what_is_left_is_named_by_number() {
    let wanted = [loopback(), loopback(), loopback()];
    let port = open(&wanted, 1, vec![], vec![]).expect("ports");
    let places: Vec<ListenAt> = port.iter().map(|listen| listen.at.clone()).collect();
    assert_eq!(port.left(&[]), Left::NONE);
    assert_eq!(port.left(&places[2..]), Left::of([2]));
    assert!(port.are_all_in(&places) && !port.are_all_in(&places[1..]));
}

#[test]
fn an_address_that_cannot_be_listened_on_leaves_no_other_listening() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let path = std::env::temp_dir().join(format!("evergate-listeners-{}.sock", std::process::id()));
    let wanted = [Listen::plain(ListenAt::Unix(path.clone())), Listen::plain(taken.local_addr().expect("its address"))];
    let error = open(&wanted, 1, vec![], vec![]).expect_err("it is taken");
    assert_eq!((error.listen, error.error.kind()), (wanted[1].clone(), io::ErrorKind::AddrInUse));
    assert!(!path.exists());
}

#[test]
fn of_several_that_start_at_once_at_a_dead_path_one_listens_and_is_reached() {
    const AT_ONCE: usize = 3;
    let path = std::env::temp_dir().join(format!("evergate-at-once-{}.sock", std::process::id()));
    let listen = Listen::plain(ListenAt::Unix(path.clone()));
    for round in 0..100 {
        drop(UnixListener::bind(&path).expect("the file of one that is dead"));
        let start = Barrier::new(AT_ONCE);
        let one = || {
            start.wait();
            let (socket, file) = unix::bind(&path, &listen)?;
            unix::listen(socket.as_fd(), &file).map(|()| (UnixListener::from(socket), file))
        };
        let all: Vec<io::Result<_>> = thread::scope(|scope| {
            let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().expect("a thread")).collect()
        });
        let (listening, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert!(refused.iter().all(|one| one.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)));
        let [Ok((socket, file))] = &listening[..] else { panic!("round {round}: {} listen", listening.len()) };
        let _client = UnixStream::connect(&path).expect("somebody listens");
        socket.set_nonblocking(true).expect("it is set");
        socket.accept().expect("it is this one");
        unix::remove(file.clone()).expect("removed");
    }
}
