//! The control socket as successors see it, and whom it lets in: a successor that is not ours against a server in this process, whose main
//! thread the tests play. What operators see of it is in `operator`.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use evergate::process::control::client::{self, AskError};
use evergate::process::control::{Lent, Request, Succession};
use evergate_proto::lifecycle::Phase;
use nix::unistd::geteuid;

use crate::support::process::Process;
use crate::support::served::Served;
use crate::support::{Folder, PATIENCE, until};

#[test]
fn whoever_is_neither_owner_nor_group_is_kept_out_and_the_group_is_not() {
    if !geteuid().is_root() {
        println!("skipped: only root can be somebody else for a moment");
        return;
    }
    let served = Served::start();
    let all_enter = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(served.folder.path(), all_enter).expect("its mode");
    let path = served.path().display().to_string();
    let work = Folder::new();
    // Perl, which every Debian has: others may not be allowed to run what cargo has built.
    let connect =
        "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ARGV[0])) or die $!";
    let outcome = |flags: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(flags).args(["/usr/bin/perl", "-e", connect, &path]);
        Process::start("others", &mut command, work.path()).ended()
    };
    let stranger = outcome(&["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    assert!(stranger.code != 0 && stranger.stderr.contains("Permission denied"), "{}", stranger.text());
    let group = nix::unistd::getegid().to_string();
    let member = outcome(&["--reuid", "65534", "--regid", &group, "--clear-groups"]);
    assert_eq!(member.code, 0, "the group may: {}", member.text());
}

/// Somebody who listens as another user than the one who made the socket, in Python: what it is asked, it counts.
const IMPOSTOR: &str = r#"
import os, socket, sys
control = socket.socket(socket.AF_UNIX)
control.bind(sys.argv[1])
os.setuid(65534)
control.listen()
print("listens", flush=True)
print("asked", len(control.accept()[0].recv(100)), flush=True)
"#;

#[test]
fn whoever_listens_at_the_control_socket_as_another_user_is_not_asked_for_sockets() {
    if !geteuid().is_root() {
        println!("skipped: only root can have somebody else listen");
        return;
    }
    let folder = Folder::new();
    let path = folder.path().join("control");
    let mut command = Command::new("python3");
    command.arg("-c").arg(IMPOSTOR).arg(&path);
    let mut impostor = Process::start("impostor", &mut command, folder.path());
    until("it listens", PATIENCE, || impostor.output().contains("listens"));
    let refused =
        client::replace(&path, &["127.0.0.1:7682".parse().expect("an address")]).expect_err("it is a stranger");
    assert!(matches!(refused, AskError::Foreign(peer) if (peer.pid, peer.uid) == (impostor.pid(), 65534)), "{refused}");
    assert_eq!(impostor.wait_exit(PATIENCE), 0);
    assert!(impostor.output().ends_with("asked 0\n"), "{}", impostor.output());
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
    let sockets = (0..count).map(|_| (listener.try_clone().expect("a copy").into(), address.into())).collect();
    Lent { sockets, ..Lent::default() }
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
            let (path, places) = (served.path(), [listener.local_addr().expect("its address").into()]);
            let second = std::thread::spawn(move || client::replace(&path, &places));
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
    served.take_name();
    assert_eq!(link(), link_to_other, "the other lives");
    let reached = served.command(&["status", "--pid", &std::process::id().to_string()]).ended();
    assert_eq!(reached.code, 0, "{}", reached.text());
    python.kill();
    served.take_name();
    assert_eq!(link(), first, "nobody has it any more");
}
