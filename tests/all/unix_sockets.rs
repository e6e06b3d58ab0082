//! Listeners that are files: who may connect, when the file comes and goes, and who has it after whom.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use nix::sys::signal::Signal;
use tungstenite::Message;

use crate::support::client::{envelope, request};
use crate::support::gateway::Setup;
use crate::support::place::{Place, adds};
use crate::support::process::evergate;
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, StopsAtEnd, eventually, free_port, until};

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
fn a_successor_leaves_alone_what_another_has_put_in_the_place_of_the_unix_socket_and_replaces_it_when_it_is_dead() {
    let redis = Redis::start();
    let folder = Folder::new();
    let path = folder.path().join("ws");
    let listen = format!("unix:{};mode=0622", path.display());
    let mut old = Setup::serve(&redis).flags(&["--listen", &listen]).start();
    std::fs::remove_file(&path).expect("it is there");
    let other = UnixListener::bind(&path).expect("another's");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let mut failing = Setup::after(&old).start_after(&old);
    assert_eq!(failing.wait_exit(PATIENCE), 1, "{}", failing.log());
    let log = failing.log();
    assert!(
        log.contains("what is there is not the socket of the running process, and somebody listens at it"),
        "{log}"
    );
    assert!(!log.contains("takes over from it"), "that is what it tried: {log}");
    let mode = std::fs::metadata(&path).expect("it is the other's").permissions().mode() & 0o777;
    assert_eq!((refusal(&path), mode), (None, 0o600), "the other is as it was");
    old.until_logged("comes to nothing");
    drop(other);
    let new = Setup::after(&old).start_after(&old);
    new.until_logged("serves ws://");
    assert_eq!(old.wait_exit(PATIENCE), 0, "{}", old.log());
    Place::Unix(path).upgrade(b"", "");
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
