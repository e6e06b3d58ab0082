//! The files: a socket for each process, and the name, a symbolic link to the socket of the one that serves.
//!
//! Whoever may write in their directory decides who is believed to be the running process. So it must be this user's own, as with
//! `state_dir`. Its lock is held while anything there is looked at and changed: two processes may do so at a time.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

use super::wire::Wire;
use crate::process::ownership::{judge, refused};
use crate::unix_socket::SocketFile;

/// Connections that wait to be accepted: twice as many as have a place.
const BACKLOG: i32 = 32;

/// How long it is tried to connect to a socket, to see whether somebody is there.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// By what right the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody who lives has it.
    IfFree,
    /// Whoever has it hands over to this process.
    AsSuccessor,
}

/// Whose the name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// This process's.
    Ours,
    /// That of the process with this number, 0 where that is unknown. It lives.
    Others(u32),
}

/// The files of this process. Dropped, they go.
#[derive(Debug)]
pub(super) struct Place {
    /// What is locked while the names are changed.
    lock: File,
    /// The link.
    name: PathBuf,
    /// The file name of the socket, which the link holds.
    socket_name: OsString,
    /// The socket.
    socket: SocketFile,
}

impl Place {
    /// Makes the socket of this process beside `name`, listening, and removes those of dead processes.
    pub(super) fn make(name: &Path) -> io::Result<(Self, UnixListener)> {
        let lock = open_lock(name, &open_directory(name)?)?;
        let _locked = Lock::take(&lock)?;
        let socket = socket_of(name, std::process::id());
        remove_leftovers(name);
        let address = SockAddr::unix(&socket)?;
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        listener.bind(&address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => refused(
                &socket,
                "a process with the number of this one, in another container say, listens there: let control name a \
                 directory of its own for each",
            ),
            _ => error,
        })?;
        // Before it listens: until then nobody can connect, whatever the umask.
        fs::set_permissions(&socket, Permissions::from_mode(0o660))?;
        listener.listen(BACKLOG)?;
        let place = Self {
            lock: lock.try_clone()?,
            name: name.to_owned(),
            socket_name: socket.file_name().map(OsString::from).unwrap_or_default(),
            socket: SocketFile::of(&socket)?,
        };
        Ok((place, UnixListener::from(OwnedFd::from(listener))))
    }

    /// Has the name mean this process's socket, unless it is another's who lives.
    pub(super) fn take_name(&self, claim: Claim) -> io::Result<Named> {
        let _locked = Lock::take(&self.lock)?;
        match fs::symlink_metadata(&self.name) {
            Ok(found) if !found.is_symlink() => {
                return Err(refused(
                    &self.name,
                    "it is no link that evergate made: delete it, or let control name another",
                ));
            }
            Ok(_) if claim == Claim::IfFree && fs::read_link(&self.name)? != Path::new(&self.socket_name) => {
                if let Some(pid) = listener_at(&self.name) {
                    return Ok(Named::Others(pid));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = with_suffix(self.socket(), ".new");
        remove_if_there(&new)?;
        std::os::unix::fs::symlink(&self.socket_name, &new)?;
        fs::rename(&new, &self.name)?;
        Ok(Named::Ours)
    }

    /// Where the name is.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Where this process listens.
    pub(super) fn socket(&self) -> &Path {
        self.socket.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(_locked) = Lock::take(&self.lock) else { return };
        let _ = self.socket.remove();
        if fs::read_link(&self.name).is_ok_and(|target| target == Path::new(&self.socket_name)) {
            let _ = fs::remove_file(&self.name);
        }
    }
}

/// The socket of a process, of those that share a name.
pub fn socket_of(name: &Path, pid: u32) -> PathBuf {
    with_suffix(name, &format!(".{pid}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The directory of `name`, this user's own; made where it is absent.
fn open_directory(name: &Path) -> io::Result<File> {
    let path = match name.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match DirBuilder::new().mode(0o755).create(path) {
        // The group, which may use the socket, must be able to get to it, whatever the umask.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let why = format!(
                "its directory cannot be made: {error}: make it for this user (RuntimeDirectory=evergate in the unit), \
                 or let control name one that there is"
            );
            return Err(io::Error::new(error.kind(), format!("{} is not used: {why}", name.display())));
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(nix::fcntl::open(path, flags, Mode::empty()).map_err(|error| match error {
        nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR => {
            refused(path, "it is no directory: let control name a path in a directory")
        }
        error => error.into(),
    })?);
    judge(path, &directory.metadata()?, "control")?;
    Ok(directory)
}

/// The file that is locked while a name is changed.
pub fn lock_of(name: &Path) -> PathBuf {
    with_suffix(name, ".lock")
}

/// Opens it in `directory`, whose own lock whoever may read it could hold.
fn open_lock(name: &Path, directory: &File) -> io::Result<File> {
    let lock = lock_of(name);
    let lock = lock.file_name().unwrap_or_default();
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(openat(directory, lock, flags, Mode::from_bits_retain(0o600))?))
}

/// Removes the sockets of processes that are gone, one of an earlier process with this one's number among them.
fn remove_leftovers(name: &Path) {
    let Some((directory, stem)) = name.parent().zip(name.file_name().and_then(|stem| stem.to_str())) else { return };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(stem)?.strip_prefix('.'));
        let is_ours = pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_ours && listener_at(&entry.path()).is_none() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that listens at `path`, 0 where it cannot be told; none where nobody does.
fn listener_at(path: &Path) -> Option<u32> {
    match Wire::connect(path, LOOK_MAX) {
        Ok(wire) => Some(wire.peer().map_or(0, |peer| peer.pid)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => None,
        // Somebody is there, and does not answer, or does not let this process in.
        Err(_) => Some(0),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The lock of that file; dropped, it is free.
struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    fn take(file: &'a File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
