//! The units of `tuning/` as a service manager runs them: each line as written, but for the places of the program, its configuration
//! and what it is given to write in.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::client::Client;
use crate::support::manager::until_heard;
use crate::support::process::{Process, binary, binary_of_service_manager};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, free_port};

const SERVICE: &str = include_str!("../../tuning/evergate.service");
const PAIR: &str = include_str!("../../tuning/evergate@.service");
const SOCKET: &str = include_str!("../../tuning/evergate.socket");

/// What stands behind `KEY=` in a unit, the last time.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next_back().unwrap_or_else(|| panic!("no {key} in {unit}"))
}

/// A host on which the package is installed, as far as the units know one.
struct Host {
    folder: Folder,
    /// Where systemd listens for `READY=1` and its like.
    manager: UnixDatagram,
    /// Where clients connect.
    port: u16,
    _services: Services,
    _redis: Redis,
}

impl Host {
    fn new() -> Self {
        let redis = Redis::start();
        let services = Services::start(&redis, &[]);
        let folder = Folder::new();
        let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        manager.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        for (directory, mode) in [("run", 0o755), ("state", 0o700)] {
            fs::DirBuilder::new().mode(mode).create(folder.path().join(directory)).expect("a directory");
        }
        let port = free_port();
        let toml = format!(
            "domain = \"public.localhost\"\nusername = \"gateway\"\npasswd = \"gateway-test\"\ncores = [0]\n\
             listen = \"127.0.0.1:{port}\"\nbus_domain_address = {{\"public.localhost\" = \"{}\"}}\n",
            redis.address()
        );
        fs::set_permissions(folder.write("evergate.toml", &toml), PermissionsExt::from_mode(0o600)).expect("its mode");
        Self { folder, manager, port, _services: services, _redis: redis }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words of a line, in this host's places.
    fn words(&self, line: &str, pid: u32) -> Vec<String> {
        let program = binary().get_program().to_string_lossy().into_owned();
        let configuration = self.path("evergate.toml").display().to_string();
        let places = [
            ("/usr/bin/evergate", program),
            ("/etc/evergate/evergate.toml", configuration),
            ("$MAINPID", pid.to_string()),
        ];
        let words = line.trim_start_matches('-').split(' ');
        words
            .map(|word| {
                places.iter().find(|(place, _)| *place == word).map_or(word.to_owned(), |(_, ours)| ours.clone())
            })
            .collect()
    }

    fn command(&self, mut command: Command, words: &[String]) -> Command {
        command.args(words).env("NOTIFY_SOCKET", self.path("notify"));
        command.env("RUNTIME_DIRECTORY", self.path("run")).env("STATE_DIRECTORY", self.path("state"));
        command
    }

    /// Starts a unit, and waits until it has said that it is ready and which process it is.
    fn start(&self, unit: &str) -> Process {
        let words = self.words(value(unit, "ExecStart"), 0);
        let mut command = self.command(Command::new(&words[0]), &words[1..]);
        self.until_ready(Process::start("unit", &mut command, self.folder.path()))
    }

    fn until_ready(&self, process: Process) -> Process {
        let said = until_heard(&self.manager, "READY=1");
        assert!(said.contains(&format!("MAINPID={}", process.pid())), "{said}");
        process
    }

    /// Runs another line of the unit of that process to its end.
    fn run(&self, line: &str, process: &Process) -> i32 {
        let words = self.words(line, process.pid());
        let mut command = self.command(Command::new(&words[0]), &words[1..]);
        Process::start("line", &mut command, self.folder.path()).wait_exit(PATIENCE)
    }

    fn client(&self) -> Client {
        Client::connect_with(([127, 0, 0, 1], self.port).into(), &[]).expect("a connection")
    }
}

#[test]
fn the_lines_of_the_service_start_reload_and_drain_it() {
    let host = Host::new();
    assert_eq!(value(SERVICE, "Type"), "notify");
    let mut process = host.start(SERVICE);
    let mut client = host.client();
    assert_eq!(client.call("opensrf.math", "t", 1, "add", "[1,2]"), [3]);
    assert_eq!(host.run(value(SERVICE, "ExecReload"), &process), 0);
    until_heard(&host.manager, "RELOADING=1");
    until_heard(&host.manager, "READY=1");
    assert_eq!(host.run(value(SERVICE, "ExecStop"), &process), 0);
    assert_eq!(process.wait_exit(PATIENCE), 0);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012), "a stop drains");
}

#[test]
fn one_of_the_pair_takes_over_from_the_other() {
    let host = Host::new();
    assert_eq!(value(PAIR, "RuntimeDirectoryPreserve"), "yes", "the other's control socket is in it");
    let mut first = host.start(PAIR);
    let mut client = host.client();
    assert_eq!(client.call("opensrf.math", "t", 1, "add", "[1,2]"), [3]);
    let mut second = host.start(PAIR);
    assert_eq!(first.wait_exit(PATIENCE), 0);
    assert_eq!(client.close_code(PATIENCE).0, Some(1012));
    assert_eq!(host.client().call("opensrf.math", "t", 1, "add", "[3,4]"), [7]);
    assert_eq!(host.run(value(PAIR, "ExecReload"), &second), 0);
    until_heard(&host.manager, "RELOADING=1");
    assert_eq!(host.run(value(PAIR, "ExecStop"), &second), 0);
    assert_eq!(second.wait_exit(PATIENCE), 0);
}

#[test]
fn the_socket_unit_s_listener_serves_the_service() {
    let host = Host::new();
    assert_eq!(value(SOCKET, "ListenStream"), "127.0.0.1:7682", "it is the default of `listen`");
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let words = host.words(value(SERVICE, "ExecStart"), 0);
    let mut command = host.command(binary_of_service_manager(), &words[1..]);
    let stdin = Stdio::from(OwnedFd::from(listener.try_clone().expect("a copy")));
    let process = host.until_ready(Process::start_with("unit", &mut command, host.folder.path(), stdin));
    let mut client = Client::connect_with(address, &[]).expect("a connection");
    assert_eq!(client.call("opensrf.math", "t", 1, "add", "[1,2]"), [3]);
    process.signal(Signal::SIGTERM);
}

#[test]
fn systemd_has_nothing_against_the_units() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "systemd-analyze is missing: install systemd (it need not run)");
        return;
    }
    let folder = Folder::new();
    let program = folder.write("evergate", "");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
    let unit = |name: &str, text: &str| {
        // What is not installed here is no fault of the unit.
        folder.write(name, &text.replace("/usr/bin/evergate", &program.display().to_string())).display().to_string()
    };
    // Exposure in tenths, of a hundred: docs/hosts.md has what is left and why.
    for (name, text, exposure_max) in [
        ("evergate.service", SERVICE, Some(15)),
        ("evergate@a.service", PAIR, Some(15)),
        ("evergate.socket", SOCKET, None),
    ] {
        let file = unit(name, text);
        let analyze = |arguments: &[&str]| {
            let output = Command::new("systemd-analyze").args(arguments).arg(&file).output().expect("systemd-analyze");
            (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (passes, said) = analyze(&["verify"]);
        assert!(passes && said.is_empty(), "{name}: {said}");
        if let Some(exposure_max) = exposure_max {
            let threshold = format!("--threshold={exposure_max}");
            let (passes, said) = analyze(&["security", "--offline=true", "--no-pager", &threshold]);
            assert!(passes, "{name}: {said}");
        }
    }
}

/// The files of `tuning/` that the package installs exist, and none is forgotten.
#[test]
fn the_package_has_every_unit_sysctl_and_script() {
    let manifest = include_str!("../../Cargo.toml");
    let tuning = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let named = |name: &str| manifest.contains(&format!("\"tuning/{name}\""));
    for entry in fs::read_dir(&tuning).expect("tuning/").filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_unit = [".service", ".socket"].iter().any(|end| name.ends_with(end));
        assert!(!is_unit || named(&name), "{name} is not packaged");
    }
    for path in manifest.split('"').filter(|word| word.starts_with("tuning/") && !word.contains('*')) {
        assert!(tuning.with_file_name(path).exists(), "{path} is packaged, and does not exist");
    }
}
