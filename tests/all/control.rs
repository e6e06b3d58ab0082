//! The control socket as operators and successors see it: the real commands, and a successor that is not ours, against a server in
//! this process, whose main thread the tests play.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use evergate::admin;
use evergate::process::control::client::{self, AskError};
use evergate::process::control::{Claim, DrainBegun, Lent, Request, Server, ServerOptions, Succession};
use evergate::process::logs::Figures;
use evergate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::process::{Ended, Process, binary, evergate};
use crate::support::{Folder, PATIENCE, eventually, trio, until};

/// What the tests answer a drain with.
const BEGUN: DrainBegun =
    DrainBegun { already: false, port_closes_in_seconds: 0.0, seconds_left: 120.0, closed_before: 0 };

/// A process that serves, as far as it can be seen from the control socket.
struct Served {
    folder: Folder,
    shared: Arc<Shared>,
    /// None once it has ended.
    server: Option<Server>,
}

impl Served {
    fn start() -> Self {
        Self::with(Duration::from_secs(30))
    }

    /// One that gives a successor so much time.
    fn with(handover_max: Duration) -> Self {
        let folder = Folder::new();
        let shared = Arc::new(Shared::new(&[0, 1]));
        shared.enter(Phase::Serving);
        let status = admin::status_line(Arc::clone(&shared), "public.localhost".to_owned(), Box::new(Figures::default));
        let path = folder.path().join("control");
        let options = ServerOptions { path, handover_max, status: Box::new(status), wake: Arc::new(|| ()) };
        let server = Server::start(options).expect("a server");
        server.take_name(Claim::IfFree);
        Self { folder, shared, server: Some(server) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    fn requests(&self) -> Vec<Request> {
        self.server.as_ref().map(Server::take_requests).unwrap_or_default()
    }

    /// The next thing that its main thread is asked.
    fn request(&self) -> Request {
        eventually("a request", PATIENCE, || self.requests().pop())
    }

    /// Begins to drain, with so many clients on each core, when it is asked to.
    fn drain_when_asked(&self, clients: u64) {
        match self.request() {
            Request::Drain { reply, .. } => {
                for core in self.shared.cores.iter() {
                    core.counts.idle.store(clients, SeqCst);
                }
                let now_ms = self.shared.now_ms();
                assert!(self.shared.drain(now_ms, now_ms + 120_000), "it is the first");
                reply.answer(Ok(BEGUN));
            }
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, exit_code: u8) {
        if let Some(server) = self.server.take() {
            server.end(exit_code);
        }
    }

    /// A command of ours that speaks to it.
    fn command(&self, arguments: &[&str]) -> Process {
        let mut command = binary();
        command.args(arguments).arg("--control").arg(self.path()).current_dir(self.folder.path());
        Process::start("evergate-control", &mut command, self.folder.path())
    }
}

/// Waits for the end of a command.
fn ended(mut process: Process) -> Ended {
    let code = process.wait_exit(Duration::from_secs(20));
    Ended { code, stdout: process.output(), stderr: process.log() }
}

#[test]
fn evergate_drain_says_when_the_port_closes_and_by_when_all_are_gone() {
    let served = Served::start();
    let command = served.command(&["drain"]);
    served.drain_when_asked(3);
    let ended = ended(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.text());
    let expected =
        format!("process {} drains: the port closes at once, all are gone in 120 s at most\n", std::process::id());
    assert_eq!(ended.stdout, expected);
}

#[test]
fn evergate_drain_json_prints_the_answer_and_nothing_else() {
    let served = Served::start();
    let command = served.command(&["drain", "--json"]);
    served.drain_when_asked(3);
    let ended = ended(command);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("an object");
    assert_eq!((ended.code, &answer["ok"], &answer["drain"]["seconds_left"]), (0, &true.into(), &120.0.into()));
}

#[test]
fn a_watched_drain_counts_the_clients_and_ends_with_the_exit_code_of_the_process() {
    let mut served = Served::start();
    let command = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    until("a line of the drain", PATIENCE, || command.output().contains("open 6"));
    served.shared.cores[0].counts.idle.store(1, SeqCst);
    served.shared.cores[0].counts.closed_at_gap.store(2, SeqCst);
    until("the next", PATIENCE, || command.output().contains("open 4, sending 0, waiting 0, in session 0, idle 4"));
    served.end(3);
    let ended = ended(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (3, ""), "{}", ended.text());
    assert!(ended.stdout.contains("closed at gap 2, at deadline 0"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("it has ended with 3: the deadline cut somebody off\n"), "{}", ended.stdout);
}

#[test]
fn a_watched_drain_as_json_is_the_status_line_by_line_and_the_exit_code() {
    let mut served = Served::start();
    let command = served.command(&["drain", "--watch", "--json"]);
    served.drain_when_asked(3);
    until("some lines", PATIENCE, || command.output().lines().count() >= 3);
    served.end(0);
    let ended = ended(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.text());
    let mut lines: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.pop().expect("a last line")["ended"]["exit_code"], 0);
    for line in lines {
        assert_eq!((&line["phase"], &line["cores"][1]["open"]), (&"draining".into(), &3.into()), "{line}");
    }
}

#[test]
fn ctrl_c_leaves_the_drain_as_it_is_and_says_so() {
    let served = Served::start();
    let command = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    until("a line of the drain", PATIENCE, || command.output().contains("open 6"));
    command.signal(Signal::SIGINT);
    let ended = ended(command);
    assert_eq!(ended.code, 130, "{}", ended.text());
    assert!(ended.stderr.contains("drains on") && ended.stderr.contains("--cancel"), "{}", ended.stderr);
    assert!(served.requests().is_empty(), "nothing more was asked");
}

#[test]
fn a_drain_that_is_under_way_is_just_watched_and_all_who_watch_hear_of_its_end() {
    let mut served = Served::start();
    let first = served.command(&["drain", "--watch"]);
    served.drain_when_asked(3);
    let second = served.command(&["drain", "--watch"]);
    match served.request() {
        Request::Drain { reply, .. } => reply.answer(Ok(DrainBegun { already: true, ..BEGUN })),
        other => panic!("{other:?}"),
    }
    until("it watches, too", PATIENCE, || second.output().contains("open 6"));
    assert!(second.output().contains("drains already: the port is closed, all"), "{}", second.output());
    served.end(70);
    assert_eq!((ended(first).code, ended(second).code), (70, 70), "a core failed");
    assert_eq!(ended(served.command(&["status"])).code, 1, "nobody is there any more");
}

/// Plays a process that answers a drain, and then says this of itself, and no more.
fn watch_one_that_says(phases: &[Phase]) -> Ended {
    let folder = Folder::new();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut command = binary();
    command.args(["drain", "--watch", "--control"]).arg(&path);
    let process = Process::start("evergate-control", &mut command, folder.path());
    let (mut stream, _) = listener.accept().expect("it connects");
    BufReader::new(&stream).read_line(&mut String::new()).expect("it asks");
    let shared = Arc::new(Shared::new(&[0]));
    let answer = "{\"ok\":true,\"evergate_control\":1,\"version\":\"0.1.0\",\"pid\":7}\n";
    stream.write_all(answer.as_bytes()).expect("it reads");
    let status = |shared: &Arc<Shared>| {
        admin::status_line(Arc::clone(shared), "public.localhost".to_owned(), Box::new(Figures::default))()
    };
    for &phase in phases {
        // A phase never goes back by itself: each is another process's.
        let shared = if phase == Phase::Serving { Arc::new(Shared::new(&[0])) } else { Arc::clone(&shared) };
        shared.enter(phase);
        writeln!(stream, "{}", status(&shared)).expect("it reads");
    }
    if phases.last() == Some(&Phase::Draining) {
        drop(stream);
    }
    ended(process)
}

#[test]
fn a_process_that_ends_without_a_word_and_a_drain_that_is_taken_back_end_the_watching_with_1() {
    for (phases, part) in [
        (&[Phase::Draining][..], "process 7 has ended without a word"),
        (&[Phase::Draining, Phase::Serving], "process 7: the drain was cancelled; 0 clients stay"),
    ] {
        let ended = watch_one_that_says(phases);
        assert!(ended.code == 1 && ended.stderr.contains(part), "{}: {}", ended.code, ended.text());
    }
}

#[test]
fn a_cancelled_drain_is_confirmed_or_refused_with_the_reason() {
    let served = Served::start();
    for (answer, code, part) in [
        (Ok(()), 0, "the drain is cancelled"),
        (Err("nothing drains: there is nothing to cancel".to_owned()), 1, "refused: nothing drains"),
    ] {
        let command = served.command(&["drain", "--cancel"]);
        match served.request() {
            Request::Cancel { reply, .. } => reply.answer(answer),
            other => panic!("{other:?}"),
        }
        let ended = ended(command);
        assert!(ended.code == code && ended.text().contains(part), "{}: {}", ended.code, ended.text());
    }
}

#[test]
fn evergate_status_prints_what_the_admin_page_says() {
    let served = Served::start();
    served.shared.cores[1].counts.waiting_for_replies.store(7, SeqCst);
    let json = ended(served.command(&["status", "--json"]));
    let status: Value = serde_json::from_str(&json.stdout).expect("an object");
    assert_eq!((json.code, &status["phase"], &status["pid"]), (0, &"serving".into(), &std::process::id().into()));
    assert_eq!(status["cores"][1]["waiting_for_replies"], 7);
    let text = ended(served.command(&["status"]));
    assert!(
        text.code == 0 && text.stdout.contains(": serving\n") && text.stdout.contains("  all       7 "),
        "{}",
        text.text()
    );
    // The same process by its number, whoever has the name.
    let own = ended(served.command(&["status", "--pid", &std::process::id().to_string()]));
    assert_eq!(own.code, 0, "{}", own.text());
}

#[test]
fn where_nobody_listens_the_error_names_the_path_and_the_remedy() {
    let folder = Folder::new();
    let path = folder.path().join("control").display().to_string();
    for arguments in [&["drain", "--control", &path][..], &["status", "--control", &path]] {
        let ended = evergate(arguments, &[]);
        assert!(ended.code == 1 && ended.stdout.is_empty(), "{}", ended.text());
        assert!(ended.stderr.contains(&path) && ended.stderr.contains("is evergate running"), "{}", ended.stderr);
    }
    let off = evergate(&["drain", "--control", "off"], &[]);
    assert!(off.code == 1 && off.stderr.contains("kill -USR1"), "{}", off.text());
    let wrong = evergate(&["drain", "--control", &path, "--config", "/nowhere/evergate.toml"], &[]);
    assert_eq!(wrong.code, 2, "{}", wrong.text());
}

#[test]
fn whoever_is_neither_owner_nor_group_is_kept_out_and_told_who_may() {
    if !geteuid().is_root() {
        println!("skipped: only root can be somebody else for a moment");
        return;
    }
    let folder = Folder::new();
    let all_enter = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all_enter).expect("its mode");
    let server = Server::start(ServerOptions {
        path: folder.path().join("control"),
        handover_max: PATIENCE,
        status: Box::new(|| "{}".to_owned()),
        wake: Arc::new(|| ()),
    });
    let server = server.expect("a server");
    server.take_name(Claim::IfFree);
    let path = folder.path().join("control").display().to_string();
    let work = Folder::new();
    // Perl, which every Debian has: others may not be allowed to run what cargo has built.
    let connect =
        "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ARGV[0])) or die $!";
    let outcome = |flags: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(flags).args(["/usr/bin/perl", "-e", connect, &path]);
        ended(Process::start("others", &mut command, work.path()))
    };
    let stranger = outcome(&["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    assert!(stranger.code != 0 && stranger.stderr.contains("Permission denied"), "{}", stranger.text());
    let group = nix::unistd::getegid().to_string();
    let member = outcome(&["--reuid", "65534", "--regid", &group, "--clear-groups"]);
    assert_eq!(member.code, 0, "the group may: {}", member.text());
    server.end(0);
}

/// A successor in Python: what it is given, it serves on; what it is told, it prints. `argv`: the socket, and how it ends.
const SUCCESSOR: &str = r#"
import json, os, socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
ask = {"evergate_control": 1, "version": "py", "command": "replace", "listen": "127.0.0.1:7682", "pid": os.getpid()}
control.sendall(json.dumps(ask).encode() + b"\n")
line = b""
while not line.endswith(b"\n"):
    byte = control.recv(1)
    if not byte: sys.exit("closed")
    line += byte
answer = json.loads(line)
if not answer["ok"]: sys.exit(answer["error"])
count, descriptors = len(answer["sockets"]), []
while len(descriptors) < count:
    _, got, _, _ = socket.recv_fds(control, 1, 64)
    descriptors += got
print("taken", count, flush=True)
if sys.argv[2] == "die": os._exit(1)
if sys.argv[2] == "serve":
    listener = socket.socket(fileno=descriptors[-1])
    control.sendall(b'{"ready":true}\n')
    print(control.recv(65536).decode(), flush=True)
    client, _ = listener.accept()
    client.sendall(b"served by %d" % os.getpid())
    client.close()
else:
    print(control.recv(65536).decode(), flush=True)
"#;

/// Starts that successor.
fn successor(served: &Served, how: &str) -> Process {
    let mut command = Command::new("python3");
    command.arg("-c").arg(SUCCESSOR).arg(served.path()).arg(how);
    Process::start("successor", &mut command, served.folder.path())
}

/// Copies of a listening socket.
fn copies(listener: &TcpListener, count: usize) -> Lent {
    let address = listener.local_addr().expect("its address");
    let sockets = (0..count).map(|_| (listener.try_clone().expect("a copy").into(), address)).collect();
    Lent { sockets, is_kept: false }
}

#[test]
fn the_listening_sockets_pass_to_another_process_which_serves_on_them() {
    let served = Served::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut python = successor(&served, "serve");
    match served.request() {
        Request::Replace { peer, successor, reply } => {
            assert_eq!((peer.pid, successor.pid, successor.version.as_str()), (python.pid(), python.pid(), "py"));
            reply.answer(Ok(copies(&listener, 70)));
        }
        other => panic!("{other:?}"),
    }
    match served.request() {
        Request::Ready { reply, .. } => reply.answer(Ok(())),
        other => panic!("{other:?}"),
    }
    // It is the other's alone now, and nobody was refused meanwhile.
    drop(listener);
    let said = std::io::read_to_string(TcpStream::connect(address).expect("the port is served")).expect("an answer");
    assert_eq!(said, format!("served by {}", python.pid()));
    assert_eq!(python.wait_exit(PATIENCE), 0, "{}", python.log());
    assert!(
        python.output().contains("taken 70") && python.output().contains("\"draining\":true"),
        "{}",
        python.output()
    );
}

#[test]
fn a_successor_that_dies_or_never_gets_ready_leaves_the_first_serving_and_another_may_come() {
    let served = Served::with(Duration::from_secs(2));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut succession = Succession::default();
    for (how, part) in [("die", "has ended before it served"), ("wait", "handover_max_seconds (2 s)")] {
        let mut python = successor(&served, how);
        match served.request() {
            Request::Replace { successor, reply, .. } => {
                let granted = succession.asks(served.shared.phase(), &successor);
                reply.answer(granted.map(|()| copies(&listener, 1)));
            }
            other => panic!("{other:?}"),
        }
        until("it has them", PATIENCE, || python.output().contains("taken 1"));
        // Meanwhile a second one hears who is the first.
        if how == "wait" {
            let (path, listen) = (served.path(), listener.local_addr().expect("its address"));
            let second = std::thread::spawn(move || client::replace(&path, listen));
            match served.request() {
                Request::Replace { successor, reply, .. } => {
                    reply.answer(succession.asks(served.shared.phase(), &successor).map(|()| Lent::default()));
                }
                other => panic!("{other:?}"),
            }
            let refused = second.join().expect("a thread").expect_err("one at a time");
            let first = format!("process {} is taking over already", python.pid());
            assert!(matches!(&refused, AskError::Refused(why) if why.contains(&first)), "{refused:?}");
        }
        match served.request() {
            Request::Gone { successor, why } => {
                assert!(successor.pid == python.pid() && why.contains(part), "{why}");
                assert!(succession.is_gone(&successor));
            }
            other => panic!("{other:?}"),
        }
        python.wait_exit(PATIENCE);
    }
    assert_eq!(served.shared.phase(), Phase::Serving);
}

#[test]
fn two_processes_that_use_one_name_leave_it_to_the_first_and_each_is_reached_by_its_number() {
    let served = Served::start();
    let link = || std::fs::read_link(served.path()).expect("a link");
    let first = link();
    // Another process: what one process may do twice is not what is meant.
    let mut command = Command::new("python3");
    let other = format!("{}.4194304", served.path().display());
    let listens = "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); \
                   print('up',flush=True); time.sleep(60)";
    command.args(["-c", listens, &other]);
    let mut python = Process::start("other", &mut command, served.folder.path());
    until("it listens", PATIENCE, || python.output().contains("up"));
    let link_to_other = Path::new("control.4194304");
    std::fs::remove_file(served.path()).expect("the link");
    std::os::unix::fs::symlink(link_to_other, served.path()).expect("a link");
    let take_name = || served.server.iter().for_each(|server| server.take_name(Claim::IfFree));
    take_name();
    assert_eq!(link(), link_to_other, "the other lives");
    let reached = ended(served.command(&["status", "--pid", &std::process::id().to_string()]));
    assert_eq!(reached.code, 0, "{}", reached.text());
    python.kill();
    take_name();
    assert_eq!(link(), first, "nobody has it any more");
}

/// The real gateway, drained by the real command.
fn drain(gateway: &Gateway, flags: &[&str], folder: &Folder) -> Process {
    let mut command = binary();
    command.arg("drain").args(flags).arg("--control").arg(gateway.control()).current_dir(folder.path());
    Process::start("evergate-drain", &mut command, folder.path())
}

#[test]
fn who_drains_a_gateway_and_watches_sees_what_it_waits_for_and_ends_as_it_does() {
    for (flags, answers, code) in [(&[][..], true, 0), (&["--drain-max-seconds", "1"], false, 3)] {
        let (_redis, mut gateway, mut client, mut bus) = trio(flags);
        let folder = Folder::new();
        client.request("open-ils.circ", "t", 1, "open-ils.circ.checkout", "[]");
        let arrived = bus.next();
        let command = drain(&gateway, &["--watch"], &folder);
        until("it waits for the reply", PATIENCE, || {
            command.output().contains("waiting 1") && command.output().contains("open-ils.circ.checkout")
        });
        if answers {
            bus.complete(&arrived, "1");
            client.until_status(205);
        }
        let ended = ended(command);
        assert_eq!((ended.code, gateway.wait_exit(PATIENCE)), (code, code), "{}", ended.text());
        assert!(ended.stdout.contains(&format!("it has ended with {code}")), "{}", ended.stdout);
        let run = std::fs::read_dir(folder_of(&gateway)).expect("the folder of its socket");
        let left: Vec<_> = run.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["control.lock"], "its socket and its name are gone");
    }
}

/// The folder of a gateway's control socket.
fn folder_of(gateway: &Gateway) -> PathBuf {
    gateway.control().parent().expect("a folder").to_owned()
}

#[test]
fn a_gateway_whose_drain_was_begun_by_mistake_goes_on_and_who_watches_is_told() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let folder = Folder::new();
    client.request("s", "t", 1, "m", "[]");
    let arrived = bus.next();
    let watching = drain(&gateway, &["--watch"], &folder);
    until("it is watched", PATIENCE, || watching.output().contains("waiting 1"));
    let cancelled = eventually("the port is closed, and can be opened again", PATIENCE, || {
        let cancelled = ended(drain(&gateway, &["--cancel"], &folder));
        (cancelled.code == 0).then_some(cancelled)
    });
    assert!(cancelled.stdout.contains("the drain is cancelled"), "{}", cancelled.text());
    let watched = ended(watching);
    assert!(watched.code == 1 && watched.stderr.contains("was cancelled; 1 clients stay"), "{}", watched.text());
    let again = ended(drain(&gateway, &["--cancel"], &folder));
    assert!(again.code == 1 && again.stderr.contains("refused: no drain is under way"), "{}", again.text());
    bus.complete(&arrived, "1");
    client.until_status(205);
    Client::connect(&gateway);
}
