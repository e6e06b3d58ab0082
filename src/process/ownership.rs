//! Who else may write to a directory where this process has files.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::geteuid;

/// The group may write, or everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;

/// A directory for everybody, such as /tmp: nobody may touch what is not theirs.
const STICKY: u32 = 0o1000;

/// The error for what is not this user's own, or somebody else's to write as well. `option` is the one that names the directory.
pub(super) fn judge(path: &Path, found: &Metadata, option: &str) -> io::Result<()> {
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != own {
        let why = format!(
            "it belongs to user {owner}, and this process runs as user {own}: chown it, or let {option} name a \
             directory of this user's own"
        );
        return Err(refused(path, &why));
    }
    if mode & (GROUP_WRITES | ALL_WRITE) != 0 {
        let place = path.display();
        let why = if mode & STICKY != 0 {
            format!(
                "others may write to it (mode {mode:04o}), for it is everybody's: let {option} name a directory of this user's own"
            )
        } else {
            format!("others may write to it (mode {mode:04o}): chmod go-w {place}")
        };
        return Err(refused(path, &why));
    }
    Ok(())
}

/// The error for a socket in whose place another user than root could put a link: its target would get the mode and the group that are
/// meant for the socket. Its directory may be root's, or a group's to write: whom the socket is for is said by whoever made that.
pub(super) fn judge_directory_of(socket: &Path) -> io::Result<()> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let found = fs::metadata(directory)?;
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != own && owner != 0 {
        let why = format!(
            "it belongs to user {owner}, who could put another file in the socket's place, and this process runs as user {own}: \
             chown it, or name a directory of this user's own"
        );
        return Err(refused(directory, &why));
    }
    if mode & ALL_WRITE != 0 && mode & STICKY == 0 {
        let place = directory.display();
        let why = format!("every user may put another file in the socket's place (mode {mode:04o}): chmod o-w {place}");
        return Err(refused(directory, &why));
    }
    Ok(())
}

/// The error for what is not used, with the reason and the remedy.
pub(super) fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} is not used: {why}", path.display()))
}
