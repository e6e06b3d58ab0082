//! The listening socket of a path: one, from which all cores take, and its file.
//!
//! The file has its mode and group before anybody can connect: until listen(2), whoever comes is refused. One that nobody listens at
//! any more is replaced. What is no socket is never touched.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Group, chown, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::bounded::{self, FILE_MAX};
use crate::config::Listen;

/// How often a path that is taken is looked at. Who listens there sees a connection that says nothing.
const LINGER_LOOK: Duration = Duration::from_millis(100);

/// Who else may write to a directory; and that they may not touch what is not theirs.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The file of a socket that this process listens at.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own there since.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&fs::symlink_metadata(path)?) })
    }

    /// Fails where another process has put its own socket there since: clients would go to that, and this one would be deaf.
    pub(super) fn must_be_in_place(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
            Err(error) => Err(error),
        }
    }

    /// Removes it, if it is still that.
    pub fn remove(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => fs::remove_file(&self.path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether nobody but this user and root can take a file of the directory away and put a link in its place, whose target would get the
/// mode and the group that are meant for the socket.
fn judge_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let found = fs::metadata(directory)?;
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    let place = directory.display();
    let refused =
        |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{place} is not used: {why}")));
    if owner != own && owner != 0 {
        return refused(format!(
            "it belongs to user {owner}, who could put another file in the socket's place, and this process runs as user {own}: \
             chown it, or name a directory of this user's own"
        ));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return refused(format!(
            "every user may put another file in the socket's place (mode {mode:04o}): chmod o-w {place}"
        ));
    }
    Ok(())
}

/// A socket that has the path and does not listen yet. Returns within seconds, whatever the file system does.
pub(super) fn bind(path: &Path, listen: &Listen) -> io::Result<(OwnedFd, SocketFile)> {
    let (path, listen) = (path.to_owned(), listen.clone());
    let made = bounded::within(FILE_MAX, move || {
        judge_directory(&path)?;
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
/// where somebody has taken it away.
pub(super) fn adopt(path: &Path, listen: &Listen) -> io::Result<Option<SocketFile>> {
    let (path, listen) = (path.to_owned(), listen.clone());
    let found = bounded::within(FILE_MAX, move || {
        let is_socket = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
        if !is_socket {
            return Ok(None);
        }
        judge_directory(&path)?;
        give_access(&path, &listen)?;
        SocketFile::of(&path).map(Some)
    });
    found.unwrap_or_else(|failed| Err(failed.into()))
}

/// Waits until nobody listens at a path, as with a port: the rings of a killed process go some time after it.
pub(super) fn wait_for(path: &Path, longest: Duration) -> io::Result<()> {
    let began = Instant::now();
    while let Err(error) = judge(path) {
        if error.kind() != io::ErrorKind::AddrInUse || began.elapsed() >= longest {
            return Err(error);
        }
        thread::sleep(LINGER_LOOK);
    }
    Ok(())
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
