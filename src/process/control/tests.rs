//! A server in this process, and clients of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

use super::client::{self, AskError, Connection};
use super::protocol::Command;
use super::*;
use crate::config::CONTROL_CLIENTS_MAX;
use crate::process::shared::Shared;
use crate::unix_socket::SocketFile;

/// A directory of the test's own, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("eg-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst)));
        fs::DirBuilder::new().mode(0o755).create(&path).expect("a directory");
        Self(path)
    }

    fn control(&self) -> PathBuf {
        self.0.join("control")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that has the name, and how often it woke the main thread.
fn serve(path: &Path, handover_max: Duration) -> (Server, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let server = Server::start(ServerOptions {
        path: path.to_owned(),
        handover_max,
        status: Box::new(|| "{\"phase\":\"serving\"}".to_owned()),
        shared: Arc::new(Shared::new(&[0])),
        wake: Arc::new(move || {
            count.fetch_add(1, SeqCst);
        }),
    });
    let server = server.expect("a server");
    server.take_name(Claim::IfFree);
    (server, woken)
}

const LONG: Duration = Duration::from_secs(30);

fn next(server: &Server) -> Request {
    let until = Instant::now() + LONG;
    loop {
        if let Some(request) = server.take_requests().pop() {
            return request;
        }
        assert!(Instant::now() < until, "nothing is asked");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a line, as it stands, is answered with.
fn told(path: &Path, line: &str) -> Value {
    let mut stream = UnixStream::connect(path).expect("it listens");
    // Of a line that is too long it hears as much as it needs, and has answered and gone by then.
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn error(answer: &Value) -> &str {
    assert_eq!(answer["ok"], false, "{answer}");
    answer["error"].as_str().expect("an error says why")
}

#[test]
fn the_status_is_answered_by_the_server_and_a_drain_by_the_main_thread() {
    let dir = Dir::new();
    let (server, woken) = serve(&dir.control(), LONG);
    let status = told(&dir.control(), "{\"evergate_control\":1,\"command\":\"status\"}");
    assert_eq!(status["phase"], "serving");
    let path = dir.control();
    let asks = thread::spawn(move || Connection::open(&path)?.ask(Command::Drain { watch: false }));
    let begun = DrainBegun { already: false, port_closes_in_seconds: 0.0, seconds_left: 120.0, closed_before: 0 };
    match next(&server) {
        Request::Drain { by, reply } => {
            let me = Peer { pid: std::process::id(), uid: nix::unistd::getuid().as_raw() };
            assert_eq!(by, Asker::Process(me));
            assert_eq!(woken.load(SeqCst), 1);
            reply.answer(Ok(begun));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(asks.join().expect("a thread").expect("it is done").drain, Some(begun));
    let path = dir.control();
    let asks = thread::spawn(move || Connection::open(&path)?.ask(Command::Cancel));
    match next(&server) {
        Request::Cancel { reply, .. } => reply.answer(Err("nothing drains".to_owned())),
        other => panic!("{other:?}"),
    }
    let refused = asks.join().expect("a thread").expect_err("it was refused");
    assert!(matches!(&refused, AskError::Refused(why) if why == "nothing drains"), "{refused:?}");
}

#[test]
fn another_version_is_told_both_and_the_server_serves_on() {
    let dir = Dir::new();
    let (_server, _) = serve(&dir.control(), LONG);
    let answer = told(&dir.control(), "{\"evergate_control\":2,\"version\":\"9.9.9\",\"command\":\"status\"}");
    let why = error(&answer);
    for part in ["version 1", "version 2", "9.9.9", env!("CARGO_PKG_VERSION"), "kill -USR1"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(answer["evergate_control"], 1);
    for (line, part) in [
        ("garbage", "not JSON"),
        ("{}", "evergate_control"),
        ("{\"evergate_control\":1}", "command"),
        (
            "{\"evergate_control\":1,\"command\":\"explode\"}",
            "status, watch, drain, cancel, connections, close, replace",
        ),
        ("{\"evergate_control\":1,\"command\":\"replace\"}", "listen"),
    ] {
        let answer = told(&dir.control(), line);
        assert!(error(&answer).contains(part), "{line}: {answer}");
    }
    let huge = told(&dir.control(), &"x".repeat(70_000));
    assert!(error(&huge).contains("65536 bytes"), "{huge}");
    assert_eq!(told(&dir.control(), "{\"evergate_control\":1,\"command\":\"status\"}")["phase"], "serving");
}

#[test]
fn a_server_of_another_version_is_known_as_such_and_is_not_nobody() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.control()).expect("a socket");
    let old = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).expect("a line");
        let answer =
            "{\"ok\":false,\"evergate_control\":7,\"version\":\"7.0\",\"pid\":1,\"error\":\"mine is 7\",\"more\":[]}\n";
        stream.write_all(answer.as_bytes()).expect("it reads");
    });
    let places = ["127.0.0.1:1".parse().expect("an address")];
    let refused = client::replace(&dir.control(), &places).expect_err("it was refused");
    assert!(matches!(&refused, AskError::OtherVersion(why) if why == "mine is 7"), "{refused:?}");
    old.join().expect("a thread");
    // Its listener is closed, and its file still there.
    assert!(matches!(client::replace(&dir.control(), &places), Err(AskError::Nobody)));
    assert!(matches!(client::replace(&dir.0.join("nothing"), &places), Err(AskError::Nobody)));
}

#[test]
fn the_socket_is_its_owners_and_groups_and_the_name_is_a_link_to_it() {
    let dir = Dir::new();
    let path = dir.0.join("made/control");
    let (server, _) = serve(&path, LONG);
    let own = format!("control.{}", std::process::id());
    assert_eq!(fs::read_link(&path).expect("a link"), Path::new(&own));
    let mode = |path: &Path| fs::symlink_metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!((mode(server.socket()), mode(&dir.0.join("made"))), (0o660, 0o755));
    server.end(0);
    let left = fs::read_dir(dir.0.join("made")).expect("the directory").map(|entry| entry.expect("it").file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["control.lock"], "nothing else is left");
}

#[test]
fn what_dead_processes_left_is_removed_and_what_lives_or_is_others_stays() {
    let dir = Dir::new();
    let dead = dir.0.join("control.4194999");
    drop(UnixListener::bind(&dead).expect("a socket"));
    let living = dir.0.join("control.4194998");
    let listener = UnixListener::bind(&living).expect("a socket");
    let file = dir.0.join("control.4194997");
    fs::write(&file, "").expect("a file");
    std::os::unix::fs::symlink("control.4194999", dir.control()).expect("a link");
    let (server, _) = serve(&dir.control(), LONG);
    assert!(!dead.exists() && living.exists() && file.exists());
    assert_eq!(fs::read_link(dir.control()).expect("a link"), server.socket().file_name().expect("a name"));
    drop(listener);
}

#[test]
fn a_name_of_a_living_process_is_left_to_it_and_goes_to_a_successor() {
    let dir = Dir::new();
    let other = UnixListener::bind(dir.0.join("control.4194998")).expect("a socket");
    std::os::unix::fs::symlink("control.4194998", dir.control()).expect("a link");
    let (server, _) = serve(&dir.control(), LONG);
    assert_eq!(fs::read_link(dir.control()).expect("a link"), Path::new("control.4194998"));
    server.take_name(Claim::AsSuccessor);
    assert_eq!(fs::read_link(dir.control()).expect("a link"), server.socket().file_name().expect("a name"));
    // It is taken over in turn: at its end the name is another's.
    fs::remove_file(dir.control()).expect("the link");
    std::os::unix::fs::symlink("control.4194998", dir.control()).expect("a link");
    server.end(0);
    assert_eq!(fs::read_link(dir.control()).expect("a link"), Path::new("control.4194998"));
    drop(other);
}

#[test]
fn what_is_no_link_is_not_replaced_and_what_others_may_write_is_not_used() {
    let dir = Dir::new();
    fs::write(dir.control(), "precious").expect("a file");
    let (server, _) = serve(&dir.control(), LONG);
    assert_eq!(fs::read_to_string(dir.control()).expect("the file"), "precious");
    drop(server);
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o777)).expect("its mode");
    let refused = place::Place::make(&dir.control()).expect_err("others may write");
    assert!(refused.to_string().contains("chmod go-w"), "{refused}");
    let long = dir.0.join("x".repeat(120));
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).expect("its mode");
    assert!(place::Place::make(&long).is_err(), "a path has its length");
}

#[test]
fn who_says_nothing_is_cut_off_and_who_is_one_too_many_is_told() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    let mut silent: Vec<UnixStream> =
        (0..CONTROL_CLIENTS_MAX).map(|_| UnixStream::connect(dir.control()).expect("a place")).collect();
    let until = Instant::now() + LONG;
    let refused = loop {
        // They are accepted in their order: this one is the last.
        let mut connection = Connection::open(&dir.control()).expect("it is accepted");
        match connection.ask(Command::Cancel) {
            Err(AskError::Refused(why)) if why.contains("16 clients") => break why,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
    };
    assert!(refused.contains("kill -USR1"), "{refused}");
    let began = Instant::now();
    let mut said = String::new();
    silent[0].read_to_string(&mut said).expect("it is told and closed");
    assert!(said.contains("too slow") && began.elapsed() < LONG, "{said}");
    let told = told(&dir.control(), "{\"evergate_control\":1,\"command\":\"status\"}");
    assert_eq!(told["phase"], "serving", "there is room again");
    drop(server);
}

#[test]
fn who_watches_gets_a_status_again_and_again_and_at_the_end_the_exit_code() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    let mut connection = Connection::open(&dir.control()).expect("it listens");
    connection.send(Command::Watch).expect("it reads");
    for _ in 0..3 {
        let line = connection.read(LONG).expect("a line").expect("it lives");
        assert_eq!(line, "{\"phase\":\"serving\"}");
    }
    server.end(3);
    let mut last = String::new();
    while let Some(line) = connection.read(LONG).expect("a line") {
        last = line;
    }
    assert_eq!(last, "{\"ended\":{\"exit_code\":3}}");
    assert!(matches!(Connection::open(&dir.control()), Err(AskError::Nobody)));
}

#[test]
fn who_waits_for_an_answer_when_the_process_ends_is_told_so() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    let path = dir.control();
    let asks = thread::spawn(move || Connection::open(&path)?.ask(Command::Drain { watch: true }));
    let request = next(&server);
    drop(request);
    let refused = asks.join().expect("a thread").expect_err("there is no answer");
    assert!(matches!(&refused, AskError::Refused(why) if why.contains("ending")), "{refused:?}");
    server.end(0);
}

/// Listening sockets, as a main thread would hand over.
fn sockets(count: usize) -> Vec<Listening> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    (0..count).map(|_| (listener.try_clone().expect("a copy").into(), address.into())).collect()
}

/// A successor that was given `count` sockets, and who the server says it is.
fn taken(server: &Server, path: &Path, count: usize) -> (client::Taken, Successor) {
    let path = path.to_owned();
    let asked = path.clone();
    let asks = thread::spawn(move || client::replace(&asked, &["127.0.0.1:7682".parse().expect("an address")]));
    let successor = match next(server) {
        Request::Replace { successor, reply, .. } => {
            let files = vec![SocketFile::of(&path).expect("a file")];
            reply.answer(Ok(Lent { sockets: sockets(count), files, is_kept: false }));
            successor
        }
        other => panic!("{other:?}"),
    };
    (asks.join().expect("a thread").expect("it is granted"), successor)
}

#[test]
fn a_successor_gets_every_socket_and_the_other_drains_when_it_is_ready() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    // More than one message's worth.
    let (taken, successor) = taken(&server, &dir.control(), 150);
    assert_eq!((taken.sockets.len(), taken.pid), (150, std::process::id()));
    assert_eq!(taken.files, [SocketFile::of(&dir.control()).expect("a file")], "those that were lent");
    assert_eq!((successor.pid, successor.version.as_str()), (std::process::id(), env!("CARGO_PKG_VERSION")));
    for (socket, address) in &taken.sockets {
        let flags = fcntl(socket.as_fd(), FcntlArg::F_GETFD).expect("it is open");
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let listener = TcpListener::from(socket.try_clone().expect("a copy"));
        assert_eq!(Some(listener.local_addr().expect("a socket")), address.tcp());
    }
    let ready = thread::spawn(move || taken.connection.ready());
    match next(&server) {
        Request::Ready { successor: again, reply } => {
            assert_eq!(again, successor);
            reply.answer(Ok(()));
        }
        other => panic!("{other:?}"),
    }
    ready.join().expect("a thread").expect("it drains");
    assert!(server.take_requests().is_empty(), "who is ready is not gone as well");
}

#[test]
fn a_successor_that_ends_or_takes_too_long_or_talks_nonsense_is_gone() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), Duration::from_millis(200));
    let gone = |successor: &Successor, part: &str| match next(&server) {
        Request::Gone { successor: who, why } => {
            assert!(who == *successor && why.contains(part), "{why}");
        }
        other => panic!("{other:?}"),
    };
    let (one, successor) = taken(&server, &dir.control(), 1);
    drop(one);
    gone(&successor, "has ended");
    let (two, successor) = taken(&server, &dir.control(), 1);
    gone(&successor, "handover_max_seconds");
    let late = two.connection.ready().expect_err("its time is over");
    assert!(matches!(&late, AskError::Refused(why) if why.contains("handover_max_seconds")), "{late:?}");
    let (mut three, successor) = taken(&server, &dir.control(), 1);
    let answer = three.connection.ask(Command::Status).expect_err("that is not the time");
    assert!(matches!(&answer, AskError::Refused(why) if why.contains("ready")), "{answer:?}");
    gone(&successor, "something else");
}

#[test]
fn sockets_are_taken_from_ones_own_account_and_root_alone() {
    let peer = |uid| Peer { pid: 7, uid };
    assert!(peer(1_000).is_trusted_by(1_000) && peer(0).is_trusted_by(1_000) && peer(0).is_trusted_by(0));
    assert!(!peer(1_001).is_trusted_by(1_000) && !peer(1_000).is_trusted_by(0));
    let why = AskError::Foreign(peer(1_001)).to_string();
    assert!(why.starts_with("process 7 of user 1001 listens there, and this one runs as user "), "{why}");
}

#[test]
fn a_successor_that_is_refused_hears_why_and_is_not_heard_of_again() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    let path = dir.control();
    let asks = thread::spawn(move || client::replace(&path, &["127.0.0.1:1".parse().expect("an address")]));
    match next(&server) {
        Request::Replace { reply, .. } => reply.answer(Err("process 7 is taking over already".to_owned())),
        other => panic!("{other:?}"),
    }
    let refused = asks.join().expect("a thread").expect_err("it was refused");
    assert!(matches!(&refused, AskError::Refused(why) if why.contains("process 7")), "{refused:?}");
    // Its thread has ended when the server has: whatever it had to say would be there.
    until_no_client(&server);
    assert!(server.take_requests().is_empty());
}

/// Waits until the server has no client.
fn until_no_client(server: &Server) {
    let until = Instant::now() + LONG;
    while server.clients() > 0 {
        assert!(Instant::now() < until, "somebody stays");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_a_successor_calls_its_version_is_logged_only_where_it_can_be_one() {
    let dir = Dir::new();
    let (server, _) = serve(&dir.control(), LONG);
    for (said, expected) in [("0.2.0-rc.1", "0.2.0-rc.1"), ("", "unknown"), ("1\\u001b[2J", "unknown")] {
        let ask = format!(
            "{{\"evergate_control\":1,\"version\":\"{said}\",\"command\":\"replace\",\"listen\":\"127.0.0.1:1\",\"pid\":1}}"
        );
        let path = dir.control();
        let asks = thread::spawn(move || told(&path, &ask));
        match next(&server) {
            Request::Replace { successor, reply, .. } => {
                assert_eq!(successor.version, expected);
                reply.answer(Err("not now".to_owned()));
            }
            other => panic!("{other:?}"),
        }
        asks.join().expect("a thread");
    }
}
