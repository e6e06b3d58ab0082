//! The listening socket of a path: one, from which all cores take, and its file.
//!
//! The file has its mode and group before anybody can connect: until listen(2), whoever comes is refused. One that nobody listens at
//! any more is replaced. What is no socket is never touched. All of it under a lock (`path_lock`), from looking at what is there to having
//! changed it: a socket that was bound and does not listen yet looks as if its process were dead, and may be replaced; its process sees
//! that when it comes to listen.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Group, chown};
use socket2::{Domain, SockAddr, Socket, Type};

use super::path_lock::PathLock;
use super::{retry_in_use, tcp};
use crate::bounded::{self, FILE_MAX};
use crate::config::Listen;
use crate::process::ownership::judge_directory_of;
use crate::unix_socket::SocketFile;

/// How often a path that is taken is looked at. Who listens there sees a connection that says nothing.
const LINGER_LOOK: Duration = Duration::from_millis(100);

/// How long the lock of a path is waited for. Whoever has it has it for a moment, unless the disk hangs.
const LOCK_MAX: Duration = Duration::from_secs(3);

/// How long the removal of a socket's file may take, the wait for its lock included.
const REMOVE_MAX: Duration = Duration::from_secs(1);
const REMOVE_LOCK_MAX: Duration = Duration::from_millis(500);

/// A socket that has the path and does not listen yet. Returns within seconds, whatever the file system does.
pub(super) fn bind(path: &Path, listen: &Listen) -> io::Result<(OwnedFd, SocketFile)> {
    let (path, listen) = (path.to_owned(), listen.clone());
    let made = bounded::within(FILE_MAX, move || {
        judge_directory_of(&path)?;
        let _lock = PathLock::take(&path, LOCK_MAX)?;
        if judge(&path)? {
            fs::remove_file(&path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let file = SocketFile::of(&path)?;
        if let Err(error) = give_access(&path, &listen) {
            let _ = file.remove();
            return Err(error);
        }
        Ok((socket.into(), file))
    });
    made.unwrap_or_else(|failed| Err(failed.into()))
}

/// The file of a socket that another process has made and this one goes on with: it has what this one's configuration says. None
/// where it is not there any more, and another may be made. Which file is meant is said by that process (`given`): what else has come
/// there is not touched, and is an error where somebody listens at it, for clients go there.
pub(super) fn adopt(path: &Path, listen: &Listen, given: Option<&SocketFile>) -> io::Result<Option<SocketFile>> {
    let (path, listen, given) = (path.to_owned(), listen.clone(), given.cloned());
    let found = bounded::within(FILE_MAX, move || {
        judge_directory_of(&path)?;
        let _lock = PathLock::take(&path, LOCK_MAX)?;
        if let Some(file) = given
            && file.is_in_place().unwrap_or(false)
        {
            give_access(&path, &listen)?;
            return Ok(Some(file));
        }
        match judge(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let why = "what is there is not the socket of the running process, and somebody listens at it";
                Err(io::Error::new(io::ErrorKind::AddrInUse, why))
            }
            judged => judged.map(|_| None),
        }
    });
    found.unwrap_or_else(|failed| Err(failed.into()))
}

/// Has a socket listen, if its file is in its place; an error of the kind `AddrInUse` where another process has put its own there, as
/// it may until then.
pub(super) fn listen(socket: BorrowedFd<'_>, file: &SocketFile) -> io::Result<()> {
    let (socket, file) = (socket.try_clone_to_owned()?, file.clone());
    let listened = bounded::within(FILE_MAX, move || {
        let _lock = PathLock::take(file.path(), LOCK_MAX)?;
        file.must_be_in_place()?;
        tcp::listen(&socket)
    });
    listened.unwrap_or_else(|failed| Err(failed.into()))
}

/// Removes the file of a socket, if it is still that; the socket must not be closed before.
pub(super) fn remove(file: SocketFile) -> io::Result<()> {
    let removed = bounded::within(REMOVE_MAX, move || {
        match PathLock::take(file.path(), REMOVE_LOCK_MAX) {
            // Its directory is gone, and it with that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            lock => lock.and_then(|_lock| file.remove()),
        }
    });
    removed.unwrap_or_else(|failed| Err(failed.into()))
}

/// Waits until nobody listens at a path, as with a port: the rings of a killed process go some time after it.
pub(super) fn wait_for(path: &Path, longest: Duration) -> io::Result<()> {
    retry_in_use(longest, LINGER_LOOK, || judge(path).map(drop))
}

/// What is at a path: false for nothing, true for a socket that nobody listens at. Anything else is an error.
pub fn judge(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let what = "there is something that is no socket, which is left as it is";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // EAGAIN: its queue is full, so there is somebody.
        Ok(()) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
        Err(error) => Err(error),
    }
}

/// The group of that name, or of that number.
pub fn group(name: &str) -> io::Result<Group> {
    let found = match name.parse() {
        Ok(number) => Group::from_gid(nix::unistd::Gid::from_raw(number)),
        Err(_) => Group::from_name(name),
    };
    let none = || io::Error::new(io::ErrorKind::InvalidInput, format!("this host has no group {name}"));
    found?.ok_or_else(none)
}

/// First the group: a mode that lets it in would else be for another one.
fn give_access(path: &Path, listen: &Listen) -> io::Result<()> {
    if let Some(name) = &listen.group {
        let gid = group(name)?.gid;
        let explain = |error: nix::errno::Errno| {
            let why = format!(
                "its group cannot be {name}: {error}; be a member of that group (SupplementaryGroups= in the unit)"
            );
            io::Error::new(io::ErrorKind::InvalidInput, why)
        };
        chown(path, None, Some(gid)).map_err(explain)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(listen.mode))
}

/// Whether a socket that listened has been shut down, which cannot be undone: by a process that has it, too, and drained.
pub(super) fn is_shut_down(socket: impl AsFd) -> bool {
    // nix has no name for it.
    let hung_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut fds = [PollFd::new(socket.as_fd(), hung_up)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|found| found > 0)
}
