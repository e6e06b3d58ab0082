//! The addresses of every process are on record, so that the queues of one that crashed are deleted and those of the living are not.

use std::path::PathBuf;

use crate::support::Folder;
use crate::support::PATIENCE;
use crate::support::bus::Responder;
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
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", first.pid());
    until("it is frozen", PATIENCE, || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    redis.command::<i64>(&["CLIENT", "KILL", "USER", "gateway"]);
    redis.command::<i64>(&["RPUSH", &old, "for the living"]);
    let state = first.state_dir().display().to_string();
    let second = Setup::serve(&redis).flags(&["--cores", "0", "--state-dir", &state]).start();
    assert_eq!(files(&first).len(), 2);
    assert_eq!(redis.length(&old), 1);
    first.signal(nix::sys::signal::Signal::SIGCONT);
    until("the first reads on", PATIENCE, || redis.length(&old) == 0);
    drop(second);
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
