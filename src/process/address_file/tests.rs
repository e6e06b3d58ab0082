use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Instant;
use std::{env, thread};

use super::*;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, SeqCst);
        let path = env::temp_dir().join(format!("evergate-addresses-{}-{n}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// Writes a file that is ours alone, whatever the umask.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        chmod(&path, 0o600);
        path
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEY: &str = "opensrf:client:gateway:private.localhost:host:1:abc";

#[test]
fn the_start_time_is_read_behind_any_command_name() {
    let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
    assert_eq!(process_start(&format!("42 (evergate) {tail}")), Some(987_654));
    assert_eq!(process_start(&format!("42 (a) b ) R (c) {tail}")), Some(987_654));
    assert_eq!(process_start("42 (evergate) S 1 2"), None);
    assert_eq!(process_start(""), None);
}

#[test]
fn the_file_is_named_after_the_process_and_its_start() {
    let dir = Dir::new();
    let file = AddressFile::create(&dir.0).unwrap();
    let start = process_start(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
    let name = format!("{}-{start}.addresses", std::process::id());
    assert_eq!(file.path(), dir.0.join(name));
    assert_eq!(file.dir(), dir.0);
}

#[test]
fn a_directory_is_made_where_it_can_be_and_an_error_where_not() {
    let dir = Dir::new();
    assert_eq!(AddressFile::create(&dir.0.join("made")).unwrap().dir(), dir.0.join("made"));
    assert!(AddressFile::create(Path::new("/proc/nowhere")).is_err());
}

#[test]
fn a_living_process_keeps_its_addresses_and_a_dead_ones_are_found() {
    let dir = Dir::new();
    let mut file = AddressFile::create(&dir.0).unwrap();
    file.record("private.localhost", KEY).unwrap();
    file.record("public.localhost", &format!("{KEY}2")).unwrap();
    assert!(orphans(&dir.0).is_empty(), "it is locked");
    drop(file);
    let found = orphans(&dir.0);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].addresses()[0], Address { domain: "private.localhost".into(), key: KEY.into() });
    let keys = found[0].keys_by_domain();
    assert_eq!((keys["private.localhost"].as_slice(), keys.len()), (&[KEY][..], 2));
    assert!(orphans(&dir.0).is_empty(), "one process works on an orphan at a time");
    drop(found);
    let [orphan] = <[Orphan; 1]>::try_from(orphans(&dir.0)).unwrap();
    orphan.remove().unwrap();
    assert!(orphans(&dir.0).is_empty());
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn only_whole_lines_with_client_addresses_are_believed() {
    let dir = Dir::new();
    let text = format!("d\t{KEY}\nd\topensrf:router:router:d\n\t{KEY}\nnonsense\n\u{0}\nd\t{KEY}-cut");
    dir.write("1-2.addresses", text);
    dir.write("other", format!("d\t{KEY}\n"));
    let found = orphans(&dir.0);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].addresses(), [Address { domain: "d".into(), key: KEY.into() }]);
}

#[test]
fn a_file_of_strange_bytes_or_a_link_or_a_directory_does_no_harm() {
    let dir = Dir::new();
    dir.write("1-1.addresses", [0xff, 0xfe, b'\n', b'\t']);
    fs::create_dir(dir.0.join("2-2.addresses")).unwrap();
    let target = dir.write("target", format!("d\t{KEY}\n"));
    std::os::unix::fs::symlink(&target, dir.0.join("3-3.addresses")).unwrap();
    nix::unistd::mkfifo(&dir.0.join("4-4.addresses"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(orphans(&dir.0).is_empty());
    assert!(target.exists());
    assert!(!dir.0.join("1-1.addresses").exists(), "a file without an address is removed");
}

#[test]
fn what_others_may_have_written_is_not_used_and_the_remedy_is_named() {
    let dir = Dir::new();
    let refused = |path: &Path| AddressFile::create(path).unwrap_err().to_string();
    for mode in [0o777, 0o770, 0o707, 0o1777] {
        chmod(&dir.0, mode);
        let why = refused(&dir.0);
        // What is for everybody, as /tmp is, must stay so.
        let remedy = format!("chmod go-w {}", dir.0.display());
        assert!(why.contains("others may write") && why.contains(&remedy) == (mode != 0o1777), "{why}");
        assert!(orphans(&dir.0).is_empty());
    }
    chmod(&dir.0, 0o755);
    assert!(AddressFile::create(&dir.0).unwrap().remove().is_ok(), "others may look");
    let link = dir.0.join("link");
    std::os::unix::fs::symlink(&dir.0, &link).unwrap();
    for path in [link.clone(), link.join(""), link.join(".")] {
        let why = refused(&path);
        assert!(why.contains("symbolic link"), "{}: {why}", path.display());
    }
    let path = dir.write("1-1.addresses", format!("d\t{KEY}\n"));
    for mode in [0o666, 0o620, 0o602] {
        chmod(&path, mode);
        assert!(orphans(&dir.0).is_empty(), "{mode:o}");
        assert!(path.exists(), "it is left for whoever looks into it");
    }
    chmod(&path, 0o644);
    assert_eq!(orphans(&dir.0).len(), 1);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(orphans(&dir.0).is_empty(), "it belongs to somebody else");
        std::os::unix::fs::chown(&dir.0, Some(65_534), None).unwrap();
        let why = refused(&dir.0);
        assert!(why.contains("belongs to user 65534") && why.contains("chown"), "{why}");
    }
}

#[test]
fn what_would_spoil_the_file_is_not_recorded() {
    let dir = Dir::new();
    let mut file = AddressFile::create(&dir.0).unwrap();
    assert!(file.record("d", &format!("{KEY}\nd\t{KEY}")).is_err());
    assert!(file.record("d\t", KEY).is_err());
    assert!(file.record("d", "opensrf:router:router:d").is_err());
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "");
}

#[test]
fn a_lock_on_a_file_that_was_removed_meanwhile_counts_for_nothing() {
    let dir = Dir::new();
    let name = "1-1.addresses";
    dir.write(name, format!("d\t{KEY}\n"));
    let state = StateDir::open(&dir.0).unwrap();
    // Two processes open the file before either has locked it.
    let slow = state.open_file(name).unwrap();
    let [orphan] = <[Orphan; 1]>::try_from(orphans(&dir.0)).unwrap();
    assert!(!lock(&state, name, &slow).unwrap(), "the other one has it");
    orphan.remove().unwrap();
    assert!(!lock(&state, name, &slow).unwrap(), "locked, but it is nobody's file any more");
    dir.write(name, "");
    assert!(!lock(&state, name, &slow).unwrap(), "nor is it the new one of that name");
}

#[test]
fn processes_that_start_while_others_scan_never_lose_their_file() {
    let dir = Dir::new();
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    assert!(orphans(&dir.0).is_empty(), "a living process's file was taken");
                }
            });
        }
        // In a thread of its own, so that the scanners are stopped also where it fails.
        let starts = scope.spawn(|| {
            while began.elapsed() < Duration::from_millis(300) {
                let mut file = AddressFile::create(&dir.0).unwrap();
                file.record("d", KEY).unwrap();
                assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("d\t{KEY}\n"));
                file.remove().unwrap();
            }
        });
        let outcome = starts.join();
        stop.store(true, SeqCst);
        outcome.unwrap();
    });
}

/// A Redis of our own, without persistence, that ends with the test.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// None where the machine has no redis-server.
    fn start(dir: &Dir) -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_text = port.to_string();
        let child = Command::new(std::env::var_os("BUS_SERVER").unwrap_or_else(|| "redis-server".into()))
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(&dir.0)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { child, port };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "redis-server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    fn admin(&self) -> redis::Connection {
        redis::Client::open(("127.0.0.1", self.port)).unwrap().get_connection().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at(port: u16) -> RedisPlace {
    RedisPlace::Tcp { host: "127.0.0.1".to_owned(), port }
}

#[test]
fn queues_are_deleted_under_the_stock_acl() {
    let dir = Dir::new();
    let Some(server) = Redis::start(&dir) else {
        eprintln!("skipped: there is no redis-server here");
        return;
    };
    let mut admin = server.admin();
    redis::cmd("ACL")
        .arg("SETUSER gateway reset on >gateway-test -@all +lpop +blpop +rpush +del".split(' ').collect::<Vec<_>>())
        .arg(&["~opensrf:router:*", "~opensrf:client:*"])
        .exec(&mut admin)
        .unwrap();
    let keys: Vec<String> = (0..300).map(|n| format!("{KEY}{n}")).collect();
    for key in &keys {
        redis::cmd("RPUSH").arg(key).arg("late").exec(&mut admin).unwrap();
    }
    redis::cmd("RPUSH").arg("opensrf:client:other").arg("kept").exec(&mut admin).unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let place = at(server.port);
    assert_eq!(delete_queues(&place, None, ("gateway", "gateway-test"), &keys), Ok(300));
    assert_eq!(delete_queues(&place, None, ("gateway", "gateway-test"), &keys), Ok(0));
    assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut admin), Ok(1));
    let refused = delete_queues(&place, None, ("gateway", "wrong"), &keys).unwrap_err().to_string();
    assert!(refused.contains("WRONGPASS") && !refused.contains("wrong"), "{refused}");
    assert!(delete_queues(&place, None, ("gateway", "gateway-test"), &["forbidden"]).is_err());
}

#[test]
fn a_redis_that_is_away_is_an_error_and_no_wait() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = delete_queues(&at(port), None, ("gateway", "secret"), &[KEY]).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && !error.contains("secret"), "{error}");
    assert_eq!(delete_queues(&at(port), None, ("gateway", "secret"), &[]), Ok(0));
}
