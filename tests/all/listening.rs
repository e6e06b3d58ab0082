//! What the process listens on: addresses of both families, Unix sockets, and PROXY headers before a client's own words. Whoever
//! comes by whichever is served, and stands in the activity log under an address that he did not choose himself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use nix::sys::signal::Signal;
use tungstenite::{Message, WebSocket};

use crate::support::client::{envelope, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::process::{Process, binary, evergate};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, StopsAtEnd, eventually, free_port, until};

/// What a client's way in is.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Where a client connects.
#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }

    /// Says `before` as it is, then shakes hands with the header `lines`.
    fn upgrade(&self, before: &[u8], lines: &str) -> WebSocket<Box<dyn Stream>> {
        let mut stream = self.connect().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let handshake = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        stream.write_all(&[before, handshake.as_bytes()].concat()).expect("it is taken");
        let answer = header(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{self:?}: {answer}");
        WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None)
    }
}

/// One HTTP header.
fn header(stream: &mut dyn Stream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks for 1 + 2; false where a 1012 came instead, after which it may be asked again.
fn adds(client: &mut WebSocket<Box<dyn Stream>>) -> bool {
    let asked = envelope("opensrf.math", "t", &[request(1, "add", "[1,2]")]);
    if client.send(Message::text(asked)).is_err() {
        return false;
    }
    loop {
        match client.read().expect("an answer, or a Close") {
            Message::Text(text) if text.contains("\"content\":3") => return true,
            Message::Close(close) => {
                assert_eq!(close.map(|close| close.code.into()), Some(1_012_u16));
                return false;
            }
            _ => {}
        }
    }
}

/// A header of version 2 that names an IPv4 client.
fn version_2(client: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &client[..], &[192, 0, 2, 1, 0x9c, 0x40, 0, 80]].concat()
}

fn loopback(port: u16) -> Place {
    Place::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A port of IPv6's loopback; none where this host has no IPv6, which is said.
fn free_port_6() -> Option<u16> {
    let port = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    match port {
        Ok(address) => Some(address.port()),
        Err(error) => {
            eprintln!("NOT TESTED: this host has no IPv6 loopback: {error}");
            None
        }
    }
}

/// Connections that were closed for want of a good PROXY header.
fn refused(gateway: &Gateway) -> String {
    gateway.metric("evergate_proxy_headers_refused_total").to_string()
}

#[test]
fn each_kind_of_listener_serves_and_the_activity_log_has_the_address_of_the_client() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let folder = Folder::new();
    let [plain, proxied] = ["plain", "proxied"].map(|name| folder.path().join(name));
    let (port, port_6) = (free_port(), free_port_6());
    let mut listen = vec![
        format!("127.0.0.1:{port};proxy"),
        format!("unix:{}", plain.display()),
        format!("unix:{};proxy;mode=0600", proxied.display()),
    ];
    listen.extend(port_6.map(|port| format!("[::1]:{port}")));
    let flags: Vec<&str> = listen.iter().flat_map(|listen| ["--listen", listen]).collect();
    let gateway = Setup::serve(&redis).flags(&flags).start();
    let own = Place::Tcp(gateway.address());
    let (plain, proxied, proxied_tcp) = (Place::Unix(plain), Place::Unix(proxied), loopback(port));
    let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\n";
    let mut cases: Vec<(&Place, Vec<u8>, &str, &str)> = vec![
        (&own, vec![], "X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"),
        (&plain, vec![], "X-Forwarded-For: 6.6.6.6, 198.51.100.2\r\n", "198.51.100.2"),
        (&plain, vec![], "X-Real-IP: 198.51.100.3\r\n", "198.51.100.3"),
        (&plain, vec![], "", "unix:"),
        (&proxied, version_2([198, 51, 100, 4]), "", "198.51.100.4"),
        (&proxied, b"PROXY UNKNOWN\r\n".to_vec(), "X-Forwarded-For: 198.51.100.5\r\n", "198.51.100.5"),
        (&proxied_tcp, v1.to_vec(), "", "2001:db8::7"),
        (&proxied_tcp, version_2([198, 51, 100, 6]), "X-Forwarded-For: 6.6.6.6\r\n", "198.51.100.6"),
        (&proxied_tcp, version_2([127, 0, 0, 9]), "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        // As a balancer asks by itself: LOCAL.
        (&proxied_tcp, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "", "127.0.0.1"),
    ];
    let own_6 = port_6.map(|port| Place::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    cases.extend(own_6.iter().map(|own_6| (own_6, vec![], "X-Forwarded-For: 2001:db8::8\r\n", "2001:db8::8")));
    for (place, before, lines, shown) in cases {
        let mut client = place.upgrade(&before, lines);
        gateway.until_logged(&format!("[{shown}] [] connect"));
        assert!(adds(&mut client), "{place:?}");
        gateway.until_logged(&format!("[{shown}] [] opensrf.math add 1, 2"));
    }
    let status = gateway.status();
    let listeners = status["listeners"].as_array().expect("a list");
    assert_eq!(listeners.len(), listen.len() + 1, "{status}");
    assert_eq!((&listeners[1]["address"], &listeners[1]["proxy"]), (&format!("127.0.0.1:{port}").into(), &true.into()));
    assert!(!gateway.log().contains("6.6.6.6"));
    assert_eq!(refused(&gateway), "0");
}

#[test]
fn who_is_no_proxy_is_not_believed_and_the_log_names_him_and_the_remedy() {
    let redis = Redis::start();
    let port = free_port();
    let listen = format!("127.0.0.1:{port};proxy");
    let flags = ["--trusted-proxies", "192.0.2.0/24", "--listen", &listen];
    // Each core counts for itself.
    let mut gateway = Setup::serve(&redis).environment("EVERGATE_CORES", "0").flags(&flags).start();
    gateway.until_logged(&format!("ws://127.0.0.1:{port} (PROXY)"));
    for _ in 0..3 {
        let mut stream = loopback(port).connect().expect("it listens");
        stream.write_all(&version_2([198, 51, 100, 1])).expect("the first bytes are taken");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "no byte comes back");
    }
    until("they are counted", PATIENCE, || refused(&gateway) == "3");
    let line = gateway.until_logged("is not in trusted_proxies");
    assert!(line.contains("address 127.0.0.1: closed: ") && line.contains("add it there"), "{line}");
    // A listener that expects none takes a PROXY header for what it is not, and an untrusted peer's X-Forwarded-For for nothing.
    let mut stream = Place::Tcp(gateway.address()).connect().expect("it listens");
    stream.write_all(b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n\r\n").expect("it is taken");
    assert!(header(&mut stream).starts_with("HTTP/1.1 400 "));
    Place::Tcp(gateway.address()).upgrade(b"", "X-Forwarded-For: 198.51.100.2\r\n");
    gateway.until_logged("[127.0.0.1] [] connect");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    let log = gateway.log();
    assert!(!log.contains("198.51.100."), "{log}");
    assert_eq!(
        log.lines().filter(|line| line.contains("is not in trusted_proxies")).count(),
        2,
        "said once, then counted"
    );
    assert!(log.contains(", 2 times more within 10 s"), "{log}");
}

#[test]
fn a_proxy_that_sends_no_header_is_closed_without_an_answer_and_so_is_one_that_takes_too_long() {
    let redis = Redis::start();
    let folder = Folder::new();
    let place = Place::Unix(folder.path().join("ws"));
    let listen = format!("unix:{};proxy", folder.path().join("ws").display());
    let gateway = Setup::serve(&redis).flags(&["--handshake-timeout-seconds", "1", "--listen", &listen]).start();
    for said in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "PROXY TCP4 198.51.100.1 192.0.2.1 40000"] {
        let mut stream = place.connect().expect("it listens");
        stream.write_all(said.as_bytes()).expect("the first bytes are taken");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "no byte comes back");
    }
    until("they are counted", PATIENCE, || refused(&gateway) == "2");
    gateway.until_logged("address unix:: closed: the proxy sends no PROXY header; have it send one");
    gateway.until_logged("was not whole within handshake_timeout_seconds");
    assert_eq!(gateway.limit("handshake_timeout_seconds"), 1);
}

/// Why nobody can connect at a path; none where somebody listens.
fn refusal(path: &Path) -> Option<ErrorKind> {
    UnixStream::connect(path).err().map(|error| error.kind())
}

#[test]
fn the_file_of_a_unix_socket_has_its_mode_and_group_and_is_gone_when_the_process_is() {
    let redis = Redis::start();
    let folder = Folder::new();
    let (path, other) = (folder.path().join("ws.sock"), folder.path().join("other.sock"));
    // The group of this process: any account may give that away.
    let group = std::fs::metadata(folder.path()).expect("a folder").gid();
    // Nobody listens at it any more.
    drop(UnixListener::bind(&path).expect("a socket"));
    let listen = [format!("unix:{};mode=0622;group={group}", path.display()), format!("unix:{}", other.display())];
    let flags = ["--listen", &listen[0], "--listen", &listen[1]];
    for signal in [Signal::SIGUSR1, Signal::SIGTERM] {
        let mut gateway = Setup::serve(&redis).flags(&flags).start();
        let modes = [&path, &other].map(|path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777);
        assert_eq!((modes, std::fs::metadata(&path).expect("a file").gid()), ([0o622, 0o660], group));
        Place::Unix(path.clone()).upgrade(b"", "");
        gateway.signal(signal);
        assert_eq!(gateway.wait_exit(PATIENCE), 0);
        for path in [&path, &other] {
            assert_eq!(refusal(path), Some(ErrorKind::NotFound));
            assert!(!path.exists());
        }
    }
    // A crash leaves it, and the next start replaces it.
    let mut gateway = Setup::serve(&redis).flags(&flags).start();
    gateway.kill();
    until("the kernel has taken its rings down", PATIENCE, || refusal(&path) == Some(ErrorKind::ConnectionRefused));
    let gateway = Setup::serve(&redis).flags(&flags).start();
    Place::Unix(path.clone()).upgrade(b"", "");
    // What somebody else has put there since is not ours to remove.
    std::fs::remove_file(&path).expect("it is there");
    let _other = UnixListener::bind(&path).expect("another's");
    let mut gateway = gateway;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert_eq!(refusal(&path), None, "it is another's");
}

#[test]
fn a_path_that_is_taken_or_is_no_socket_ends_serve_with_1_and_is_left_as_it_is() {
    let redis = Redis::start();
    let folder = Folder::new();
    let path = folder.path().join("ws.sock");
    let listen = format!("unix:{}", path.display());
    let running = Setup::serve(&redis).flags(&["--listen", &listen]).start();
    let fails = |setup: Setup, remedy: &str| {
        let mut gateway = setup.start_unready();
        assert_eq!(gateway.wait_exit(PATIENCE), 1, "{}", gateway.log());
        let log = gateway.log();
        assert!(log.contains(&format!("host: listen {listen} cannot be used")) && log.contains(remedy), "{log}");
    };
    fails(Setup::serve(&redis).flags(&["--listen", &listen]), "stop whoever listens there");
    fails(Setup::beside(&running), "`evergate serve --replace` takes over from it");
    let check = evergate(
        &["check", "--listen", &listen, "--domain", "public.localhost", "--username", "gateway"],
        &[("EVERGATE_PASSWD", "x")],
    );
    assert!(check.stdout.contains(&format!("FAIL  listen {listen} cannot be used")), "{}", check.text());
    Place::Unix(path.clone()).upgrade(b"", "");
    drop(running);
    std::fs::remove_file(&path).ok();
    for make in [|path: &Path| std::fs::write(path, "precious"), |path: &Path| symlink("/dev/null", path)] {
        make(&path).expect("it is made");
        let before = std::fs::symlink_metadata(&path).expect("it is there");
        fails(Setup::serve(&redis).flags(&["--listen", &listen]), "no socket, which is left as it is");
        assert_eq!(std::fs::symlink_metadata(&path).expect("it is there still").ino(), before.ino());
        std::fs::remove_file(&path).expect("it is there");
    }
    // Where everybody may put another file in its place, its mode and group could become another's.
    let everybodys = folder.path().join("everybodys");
    std::fs::create_dir(&everybodys).expect("a folder");
    let mode = |mode| std::fs::set_permissions(&everybodys, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    mode(0o777);
    let there = format!("unix:{}", everybodys.join("ws.sock").display());
    let mut gateway = Setup::serve(&redis).flags(&["--listen", &there]).start_unready();
    assert_eq!(gateway.wait_exit(PATIENCE), 1);
    assert!(gateway.log().contains("every user may put another file"), "{}", gateway.log());
    mode(0o1777);
    drop(Setup::serve(&redis).flags(&["--listen", &there]).start());
    for (listen, why) in [
        ("unix:/nonexistent/ws.sock".to_owned(), "make its directory (RuntimeDirectory= in the unit)"),
        (format!("{listen};group=no-such-group"), "this host has no group no-such-group"),
    ] {
        let mut gateway = Setup::serve(&redis).flags(&["--listen", &listen]).start_unready();
        assert_eq!(gateway.wait_exit(PATIENCE), 1);
        assert!(gateway.log().contains(why), "{}", gateway.log());
        let account = ["--domain", "public.localhost", "--username", "gateway"];
        let check = evergate(&[&["check", "--listen", &listen][..], &account].concat(), &[("EVERGATE_PASSWD", "x")]);
        assert!(check.code == 1 && check.stdout.contains(why), "{}", check.text());
        assert!(!path.exists());
    }
}

#[test]
fn all_mistakes_in_the_list_are_named_at_once_with_exit_2() {
    let listen = "nowhere,127.0.0.1:7682,unix:ws.sock,127.0.0.1:1;mode=0660,unix:/a;mode=9,[::1]:2;prox,127.0.0.1:7682";
    let ended = evergate(&["config", "--listen", listen], &[]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    for why in [
        "\"nowhere\" is neither an IP address with a port nor unix:/path",
        "\"ws.sock\" is no absolute path",
        "has a mode, which only a Unix socket has",
        "no mode of three or four octal digits",
        "has \"prox\", which is neither mode=, group= nor proxy",
        "127.0.0.1:7682 is named twice",
    ] {
        assert!(ended.stderr.contains(why), "{why}: {}", ended.text());
    }
    let good = "[\"127.0.0.1:7682\", \"[::1]:7682;proxy\", \"unix:/run/ws;mode=0666;group=www-data\"]";
    let folder = Folder::new();
    let file = folder.write("e.toml", &format!("listen = {good}\n")).display().to_string();
    let shown = evergate(&["config", "--config", &file], &[]);
    assert!(shown.stdout.contains(&format!("listen = {good}")), "{}", shown.text());
    let of_environment = evergate(&["config"], &[("EVERGATE_LISTEN", "127.0.0.1:1, unix:/b")]);
    assert!(of_environment.stdout.contains("listen = [\"127.0.0.1:1\", \"unix:/b\"]"), "{}", of_environment.text());
}

#[test]
fn the_same_port_of_both_families_stands_side_by_side() {
    let Some(_) = free_port_6() else { return };
    let redis = Redis::start();
    let port = free_port();
    let listen = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let gateway = Setup::serve(&redis).flags(&["--listen", &listen[0], "--listen", &listen[1]]).start();
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        Place::Tcp(address).upgrade(b"", "");
        gateway.until_logged(&format!("[{}] [] connect", address.ip()));
    }
}

#[test]
fn the_clients_of_a_unix_socket_are_dealt_to_all_cores() {
    let redis = Redis::start();
    let folder = Folder::new();
    let path = folder.path().join("ws");
    let listen = format!("unix:{}", path.display());
    let gateway = Setup::serve(&redis).environment("EVERGATE_CORES", "0,1").flags(&["--listen", &listen]).start();
    let place = Place::Unix(path);
    let _clients: Vec<_> = (0..60).map(|_| place.upgrade(b"", "")).collect();
    let status = gateway.status();
    let open = [0, 1].map(|core| status["cores"][core]["open"].as_u64().expect("a number"));
    assert!(open.iter().sum::<u64>() == 60 && open.iter().all(|open| *open >= 10), "{open:?}");
}

/// Who comes, asks once, and goes, again and again.
struct Comers {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Comers {
    /// Nobody is refused. What a 1012 left unanswered is asked again.
    fn come(&self, place: &Place) {
        while !self.stop.load(SeqCst) {
            let is_answered = (0..2).any(|_| adds(&mut place.upgrade(b"", "")));
            assert!(is_answered, "a request came to nothing at {place:?}");
            self.answered.fetch_add(1, SeqCst);
        }
    }

    fn until_more(&self, requests: u64) {
        let before = self.answered.load(SeqCst);
        until("they are answered", PATIENCE, || self.answered.load(SeqCst) >= before + requests);
    }
}

#[test]
fn a_successor_takes_over_addresses_and_sockets_under_load_also_where_its_list_differs() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let folder = Folder::new();
    let [both, old_only, new_only] = ["both", "old", "new"].map(|name| folder.path().join(name));
    let listen = [&both, &old_only, &new_only].map(|path| format!("unix:{}", path.display()));
    let mut old = Setup::serve(&redis)
        .environment("EVERGATE_CORES", "0")
        .flags(&["--listen", &listen[0], "--listen", &listen[1]])
        .start();
    let inode = std::fs::metadata(&both).expect("a file").ino();
    let comers = Comers { stop: AtomicBool::new(false), answered: AtomicU64::new(0) };
    let places = [Place::Unix(both.clone()), Place::Unix(both.clone()), Place::Tcp(old.address())];
    let mut new = std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| comers.come(place));
        }
        let _stop = StopsAtEnd(&comers.stop);
        comers.until_more(20);
        let mut waiting = places[0].upgrade(b"", "");
        assert!(adds(&mut waiting));
        // One that cannot start takes nothing away.
        let mut failing = Setup::after(&old).flags(&["--listen", "unix:/nonexistent/ws"]).start_after(&old);
        assert_eq!(failing.wait_exit(PATIENCE), 1);
        assert!(both.exists() && old_only.exists(), "they are the old one's");
        comers.until_more(5);
        // Its list is said anew.
        let mut successor = Setup::after(&old);
        successor = successor.without_flags("--listen").flags(&["--listen", &listen[0], "--listen", &listen[2]]);
        let new = successor.start_after(&old);
        new.until_logged("serves ws://");
        old.until_logged("takes over some of the addresses");
        assert_eq!(old.wait_exit(PATIENCE), 0, "{}", old.log());
        comers.until_more(20);
        new
    });
    assert_eq!(std::fs::metadata(&both).expect("it is there").ino(), inode, "the same socket, by the same file");
    assert_eq!(refusal(&old_only), Some(ErrorKind::NotFound), "the old process has taken it away");
    Place::Unix(new_only.clone()).upgrade(b"", "");
    new.signal(Signal::SIGUSR1);
    assert_eq!(new.wait_exit(PATIENCE), 0);
    assert_eq!([&both, &new_only].map(|path| refusal(path)), [Some(ErrorKind::NotFound); 2]);
}

#[test]
fn a_successor_whose_predecessor_drains_by_itself_makes_the_unix_socket_anew() {
    let redis = Redis::start();
    let folder = Folder::new();
    let path = folder.path().join("ws");
    let listen = format!("unix:{}", path.display());
    let mut old = Setup::serve(&redis).flags(&["--listen", &listen]).start();
    // It has the sockets, and finds no bus until the old one is gone.
    let relay_port = free_port();
    let nowhere = format!("public.localhost=127.0.0.1:{relay_port}");
    let new = Setup::after(&old).flags(&["--bus-domain-address", &nowhere]).start_after(&old);
    new.until_logged("taking over from process");
    old.until_logged("takes over the port");
    old.signal(Signal::SIGUSR1);
    assert_eq!(old.wait_exit(PATIENCE), 0);
    new.until_logged("is gone: serving in its place");
    new.until_logged("serves ws://");
    eventually("it is listened at again", PATIENCE, || UnixStream::connect(&path).ok());
}

#[test]
fn a_drain_that_is_cancelled_listens_at_the_unix_socket_again() {
    let redis = Redis::start();
    let folder = Folder::new();
    let path = folder.path().join("ws");
    let gateway = Setup::serve(&redis).flags(&["--listen", &format!("unix:{}", path.display())]).start();
    let _services = Services::start(&redis, &[]);
    let place = Place::Unix(path.clone());
    let mut client = place.upgrade(b"", "");
    client
        .send(Message::text(envelope("opensrf.demo", "t", &[request(1, "opensrf.demo.sleep", "[3]")])))
        .expect("sent");
    gateway.until_count("waiting_for_replies", 1);
    gateway.signal(Signal::SIGUSR1);
    until("nobody listens there", PATIENCE, || refusal(&path).is_some());
    gateway.cancel_drain();
    assert!(adds_soon(&place));
}

fn adds_soon(place: &Place) -> bool {
    eventually("it listens again", PATIENCE, || place.connect().ok());
    adds(&mut place.upgrade(b"", ""))
}

#[test]
fn several_sockets_of_the_service_manager_are_served_each_as_the_list_has_it_and_left_to_it() {
    let folder = Folder::new();
    let path = folder.path().join("ws");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").expect("a port"), UnixListener::bind(&path).expect("a socket"));
    let address = tcp.local_addr().expect("its address");
    let listen = format!("unix:{};proxy", path.display());
    let mut command = Command::new("sh");
    let become_it = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" \"$@\"";
    command.args(["-c", become_it]).arg(binary().get_program());
    command.args(["demo", "--admin", "off", "--listen", &listen, "--listen", "127.0.0.1:1"]);
    let given = [OwnedFd::from(tcp.try_clone().expect("a copy")), OwnedFd::from(unix.try_clone().expect("a copy"))];
    let mut process = Process::start_with_both("evergate-demo", &mut command, folder.path(), given.map(Stdio::from));
    let mut client = Place::Tcp(address).upgrade(b"", "");
    assert!(adds(&mut client));
    let mut client = Place::Unix(path.clone()).upgrade(&version_2([198, 51, 100, 1]), "");
    assert!(adds(&mut client));
    assert!(process.log().contains("which the service manager keeps"), "{}", process.log());
    until("the activity log has it", PATIENCE, || process.log().contains("[198.51.100.1] [] opensrf.math add"));
    process.signal(Signal::SIGUSR1);
    assert_eq!(process.wait_exit(PATIENCE), 0, "{}", process.log());
    // Nobody serves, and nobody is refused: the manager listens.
    UnixStream::connect(&path).expect("its file is left");
    TcpStream::connect(address).expect("its port is left");
}
