//! Whether what was opened is this user's own, and nobody else's to write.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::geteuid;

/// Who else may write: the group, and others.
const OTHERS_WRITE: u32 = 0o022;

/// A directory for everybody, such as /tmp.
const STICKY: u32 = 0o1000;

/// The error for what is not so. `option` is the one that names the directory.
pub(super) fn judge(path: &Path, found: &Metadata, option: &str) -> io::Result<()> {
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != own {
        let why = format!(
            "it belongs to user {owner}, and this process runs as user {own}: chown it, or let {option} name a \
             directory of this user's own"
        );
        return Err(refused(path, &why));
    }
    if mode & OTHERS_WRITE != 0 {
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

/// The error for what is not used, with the reason and the remedy.
pub(super) fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} is not used: {why}", path.display()))
}
