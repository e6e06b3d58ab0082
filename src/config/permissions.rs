//! Who else may read the files that hold secrets, and write those that say where the passwords are sent.
//!
//! Only warnings: a site may have its reasons, and a gateway that does not start serves nobody.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::file;

/// Others may write, or read.
const WRITE: u32 = 0o002;
const READ: u32 = 0o004;

/// What a file of ours holds as a rule.
pub(super) const PASSWORD: &str = "a password";

/// What is wrong with the mode of the file at `path`, which may hold a `secret` ("a password"); with the remedy. What is no file (a pipe that a
/// shell makes, say) has no mode worth judging.
pub(super) fn warning(path: &Path, secret: Option<&str>) -> Option<String> {
    let found = file::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = found.mode() & 0o7777;
    let (writable, readable) = (mode & WRITE != 0, secret.is_some() && mode & READ != 0);
    let secret = secret.unwrap_or_default();
    let (why, remedy) = match (writable, readable) {
        (false, false) => return None,
        (true, false) => {
            ("every user of this host may write to it, and so decide where passwords are sent".to_owned(), "o-w")
        }
        (false, true) => (format!("it holds {secret}, and every user of this host may read it"), "o-r"),
        (true, true) => (format!("it holds {secret}, and every user of this host may read it and write to it"), "o-rw"),
    };
    Some(format!("{}: {why} (mode {mode:04o}): chmod {remedy} {}", path.display(), path.display()))
}
