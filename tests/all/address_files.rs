//! The addresses of every process are on record, so that the queues of one that crashed are deleted and those of the living are not.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::Folder;
use crate::support::PATIENCE;
use crate::support::bus::{Arrived, Responder};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::process::evergate;
use crate::support::redis::Redis;
use crate::support::until;

/// The address files in a gateway's state folder.
fn files(gateway: &Gateway) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(gateway.state_dir()).expect("the state folder");
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "addresses"))
        .collect();
    files.sort();
    files
}

/// The address that a gateway of one core uses.
fn address(redis: &Redis, gateway: &Gateway) -> String {
    let (mut client, mut bus) = (Client::connect(gateway), Responder::new(redis));
    client.request("s", "t", 0, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    arrived.from().to_owned()
}

#[test]
fn a_process_records_the_addresses_that_it_opens_under_its_pid() {
    let redis = Redis::start();
    let gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let address = address(&redis, &gateway);
    let files = files(&gateway);
    assert_eq!(files.len(), 1, "{files:?}");
    let name = files[0].file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with(&format!("{}-", gateway.pid())), "{name}");
    assert!(std::fs::read_to_string(&files[0]).expect("text").contains(&address));
}

#[test]
fn a_start_that_fails_for_its_admin_port_names_the_remedy_and_leaves_no_file() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = taken.local_addr().expect("its address").to_string();
    let folder = Folder::new();
    let state = folder.path().join("state");
    let account = ["--domain", "public.localhost", "--username", "gateway"];
    let places = ["--listen", "127.0.0.1:0", "--admin", &admin, "--state-dir", &state.display().to_string()];
    let ended = evergate(&[&["serve"][..], &account, &places].concat(), &[("EVERGATE_PASSWD", "x")]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.stderr.contains(&format!("admin {admin} cannot be used")), "{}", ended.stderr);
    assert!(ended.stderr.contains("or choose another port"), "{}", ended.stderr);
    assert!(!state.exists(), "nothing was recorded");
}

#[test]
fn the_queues_of_a_crashed_process_are_deleted_by_the_next_start() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--cores", "0"]);
    let old = address(&redis, &gateway);
    gateway.kill();
    redis.command::<i64>(&["RPUSH", &old, "a reply that nobody will read"]);
    gateway.restart();
    until("the old queue is deleted", PATIENCE, || redis.keys("opensrf:client:gateway:*").is_empty());
    assert_ne!(address(&redis, &gateway), old, "64 fresh random bits");
}

#[test]
fn a_queue_that_a_late_reply_recreates_is_deleted_once_more_after_request_max_seconds() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--cores", "0", "--request-max-seconds", "2"]);
    let old = address(&redis, &gateway);
    gateway.kill();
    gateway.restart();
    redis.command::<i64>(&["RPUSH", &old, "late"]);
    until("deleted once more", PATIENCE, || redis.keys("opensrf:client:gateway:*").is_empty());
}

#[test]
fn a_living_predecessor_keeps_its_queues() {
    let redis = Redis::start();
    let first = Gateway::serve(&redis, &["--cores", "0"]);
    let old = address(&redis, &first);
    // Frozen, so that a message stays in its queue and a DEL of it would be seen.
    first.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", first.pid());
    until("it is frozen", PATIENCE, || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
    redis.command::<i64>(&["RPUSH", &old, "for the living"]);
    let state = first.state_dir().display().to_string();
    let second = Setup::serve(&redis).flags(&["--cores", "0", "--state-dir", &state]).start();
    assert_eq!(files(&first).len(), 2);
    assert_eq!(redis.length(&old), 1);
    first.signal(Signal::SIGCONT);
    until("the first reads on", PATIENCE, || redis.length(&old) == 0);
    drop(second);
}

/// Writes an address file as a process that is gone left it.
fn leave(state: &Path, addresses: &[(&str, &str)]) -> PathBuf {
    let path = state.join("1-1.addresses");
    let lines: Vec<String> = addresses.iter().map(|(domain, key)| format!("{domain}\t{key}\n")).collect();
    std::fs::write(&path, lines.concat()).expect("an address file");
    chmod(&path, 0o600);
    path
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

const LEFT: &str = "opensrf:client:gateway:public.localhost:host:1:left";

#[test]
fn a_domain_that_only_an_address_file_names_is_never_dialled() {
    // Its name is its address, and the port is the one that every domain has.
    let foreign = TcpListener::bind("127.0.0.7:0").expect("a port");
    foreign.set_nonblocking(true).expect("not to be waited for");
    let port = foreign.local_addr().expect("its address").port().to_string();
    let redis = Redis::start();
    let state = Folder::new();
    let path = leave(state.path(), &[("public.localhost", LEFT), ("127.0.0.7", LEFT)]);
    redis.command::<i64>(&["RPUSH", LEFT, "a reply that nobody will read"]);
    let directory = state.path().display().to_string();
    let flags = ["--cores", "0", "--port", &port, "--request-max-seconds", "1", "--state-dir", &directory];
    let gateway = Setup::serve(&redis).flags(&flags).start();
    until("what is our own domain's is deleted", PATIENCE, || redis.length(LEFT) == 0);
    redis.command::<i64>(&["RPUSH", LEFT, "late"]);
    until("and once more", PATIENCE, || redis.length(LEFT) == 0);
    let dialled = foreign.accept().expect_err("nobody was to come");
    assert_eq!(dialled.kind(), std::io::ErrorKind::WouldBlock);
    let line = gateway.until_logged("is not dialled");
    assert!(line.contains("127.0.0.7") && line.contains("bus_domains"), "{line}");
    assert!(path.exists(), "what it names has not been looked after");
    assert_eq!(gateway.log().matches("is not dialled").count(), 1, "{}", gateway.log());
}

#[test]
fn what_others_may_write_is_not_used_and_the_log_and_check_name_the_remedy() {
    let redis = Redis::start();
    redis.command::<i64>(&["RPUSH", LEFT, "kept"]);
    for (directory_mode, file_mode, remedy) in [(0o777, 0o600, "chmod go-w"), (0o700, 0o666, "chmod go-w")] {
        let state = Folder::new();
        let path = leave(state.path(), &[("public.localhost", LEFT)]);
        chmod(&path, file_mode);
        chmod(state.path(), directory_mode);
        let directory = state.path().display().to_string();
        let flags = ["--cores", "0", "--state-dir", &directory];
        let gateway = Setup::serve(&redis).flags(&flags).start();
        let what = if file_mode == 0o666 { path.display().to_string() } else { directory.clone() };
        let line = gateway.until_logged(remedy);
        assert!(line.contains("WARN") && line.contains(&what) && line.contains("others may write"), "{line}");
        let files = std::fs::read_dir(state.path()).expect("the directory").count();
        assert_eq!(files, if file_mode == 0o666 { 2 } else { 1 }, "nothing is written where others may write");
        if directory_mode == 0o777 {
            let domain = format!("public.localhost={}", redis.address());
            let account = ["--domain", "public.localhost", "--username", "gateway", "--bus-domain-address", &domain];
            let check = [&["check", "--listen", "127.0.0.1:0", "--state-dir", &directory][..], &account].concat();
            let ended = evergate(&check, &[("EVERGATE_PASSWD", "gateway-test")]);
            assert!(ended.stdout.contains("chmod go-w"), "{}", ended.text());
        }
        // It serves as before: only its crash would leave something behind.
        address(&redis, &gateway);
    }
    assert_eq!(redis.length(LEFT), 1);
}

#[test]
fn a_state_directory_that_is_a_link_is_not_used() {
    let redis = Redis::start();
    let (state, folder) = (Folder::new(), Folder::new());
    leave(state.path(), &[("public.localhost", LEFT)]);
    redis.command::<i64>(&["RPUSH", LEFT, "kept"]);
    let link = folder.path().join("state");
    std::os::unix::fs::symlink(state.path(), &link).expect("a link");
    for directory in [link.display().to_string(), format!("{}/", link.display())] {
        let gateway = Setup::serve(&redis).flags(&["--cores", "0", "--state-dir", &directory]).start();
        let logged = gateway.until_logged("symbolic link");
        assert!(logged.contains("let state_dir name the directory itself"), "{logged}");
    }
    assert_eq!((redis.length(LEFT), std::fs::read_dir(state.path()).expect("it").count()), (1, 1));
}

#[test]
fn a_configuration_that_every_user_may_read_or_write_is_warned_of() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis);
    let xml = setup.file("opensrf_core.xml", include_str!("../opensrf_core.xml"));
    chmod(Path::new(&xml), 0o646);
    let gateway = setup.flags(&["--opensrf-core", &xml, "--logfile", "stderr"]).start();
    let line = gateway.until_logged("chmod o-rw");
    assert!(line.contains("WARN") && line.contains(&xml) && line.contains("password"), "{line}");
}

#[test]
fn they_can_be_off_or_where_systemd_says() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis).flags(&["--state-dir", "auto", "--cores", "0"]);
    let given = setup.file("marker", "");
    let folder = std::path::Path::new(&given).parent().expect("its folder").to_owned();
    let systemd = setup.environment("STATE_DIRECTORY", &folder.display().to_string()).start();
    let found = |end: &str| {
        std::fs::read_dir(&folder)
            .expect("the folder")
            .any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().ends_with(end)))
    };
    assert!(found(".addresses"), "in $STATE_DIRECTORY");
    drop(systemd);
    let gateway = Setup::serve(&redis).flags(&["--state-dir", "off"]).start();
    address(&redis, &gateway);
    assert!(files(&gateway).is_empty());
}

#[test]
fn a_list_that_a_late_reply_makes_again_after_a_stop_is_deleted_by_the_next_start() {
    let redis = Redis::start();
    let mut gateway = Setup::serve(&redis).flags(&["--cores", "0"]).start();
    let mut bus = Responder::new(&redis);
    let late = ["waits for it", "has left"].map(|who| {
        let mut client = Client::connect(&gateway);
        client.request("s", who, 0, "m", "[]");
        (client, bus.next())
    });
    let [(waits, asked), (left, orphan)] = late;
    left.close();
    gateway.until_count("open", 1);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    drop(waits);
    for arrived in [&asked, &orphan] {
        answer_late(&redis, &mut bus, arrived);
    }
    gateway.restart();
    until("the list is deleted", PATIENCE, || redis.length(asked.from()) == 0);
}

#[test]
fn what_a_client_left_behind_on_the_bus_is_remembered_by_a_drain_that_ends_well() {
    let redis = Redis::start();
    let mut gateway = Setup::serve(&redis).flags(&["--cores", "0"]).start();
    let mut bus = Responder::new(&redis);
    let mut client = Client::connect(&gateway);
    client.request("s", "t", 0, "m", "[]");
    let orphan = bus.next();
    client.close();
    gateway.until_count("open", 0);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    answer_late(&redis, &mut bus, &orphan);
    gateway.restart();
    until("the list is deleted", PATIENCE, || redis.length(orphan.from()) == 0);
}

/// Answers until nobody reads it any more: Redis serves a reader that has just gone first.
fn answer_late(redis: &Redis, bus: &mut Responder, arrived: &Arrived) {
    let before = redis.length(arrived.from());
    until("it stays in the list", PATIENCE, || {
        bus.complete(arrived, "1");
        redis.length(arrived.from()) > before
    });
}
