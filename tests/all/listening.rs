//! What the process listens on: addresses of both families, Unix sockets, and PROXY headers before a client's own words. Whoever
//! comes by whichever is served, and stands in the activity log under an address that he did not choose himself.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::gateway::{Gateway, Setup};
use crate::support::place::{Place, adds, header, loopback};
use crate::support::process::{Process, binary, evergate};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, free_port, until};

/// A header of version 2 that names an IPv4 client.
fn version_2(client: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &client[..], &[192, 0, 2, 1, 0x9c, 0x40, 0, 80]].concat()
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
    let flags = ["--trusted-proxies", "192.0.2.0/24", "--handshake-timeout-seconds", "60", "--listen", &listen];
    // Each core counts for itself.
    let mut gateway = Setup::serve(&redis).environment("EVERGATE_CORES", "0").flags(&flags).start();
    gateway.until_logged(&format!("ws://127.0.0.1:{port} (PROXY)"));
    for _ in 0..3 {
        // What it would say is not waited for.
        let mut stream = loopback(port).connect().expect("it listens");
        assert_eq!(stream.read(&mut [0]).expect("an end, and no time-out"), 0);
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

#[test]
fn all_mistakes_in_the_list_are_named_at_once_with_exit_2() {
    let listen = "nowhere,127.0.0.1:7682,unix:ws.sock,127.0.0.1:1;mode=0660,unix:/a;mode=9,[::1]:2;prox,127.0.0.1:7682,\
                  unix:/run/../b.sock,unix:/run//c.sock";
    let ended = evergate(&["config", "--listen", listen], &[]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    for why in [
        "\"nowhere\" is neither an IP address with a port nor unix:/path",
        "\"ws.sock\" is no absolute path",
        "\"/run/../b.sock\" has \"..\", \".\" or \"//\" in it: write the path without",
        "\"/run//c.sock\" has \"..\", \".\" or \"//\" in it",
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
