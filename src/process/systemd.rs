//! What the service manager is told (`sd_notify(3)`): a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! The crate sd-notify takes a name that begins with `@`, which is one of the abstract namespace, for a path.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The log has heard that the service manager cannot be told anything: a drain tells it something each second.
static SAID: AtomicBool = AtomicBool::new(false);

/// Tells the service manager what is the case, `READY=1` say, a line each. Where there is none, nothing is done; where it
/// does not listen, the log says so once.
pub fn tell(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
        && let Err(error) = send(&socket, state)
        && !SAID.swap(true, Relaxed)
    {
        tracing::warn!(
            "host: the service manager at {} cannot be told {}: {error}; unset NOTIFY_SOCKET where there is none",
            socket.display(),
            state.replace('\n', ", ")
        );
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read is not waited for: the main thread has the signals to answer.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_socket_with_a_path_and_an_abstract_one_hear_the_same() {
        let path = env::temp_dir().join(format!("evergate-notify-{}", std::process::id()));
        let named = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), "READY=1\nMAINPID=7").expect("it listens");
        assert_eq!(heard(&named), "READY=1\nMAINPID=7");
        std::fs::remove_file(&path).expect("its path");
        assert!(send(path.as_os_str(), "READY=1").is_err(), "nobody listens any more");

        let name = format!("evergate/notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let unnamed = UnixDatagram::bind_addr(&address).expect("a socket");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("it listens");
        assert_eq!(heard(&unnamed), "STOPPING=1");
    }
}
