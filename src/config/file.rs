//! A file that the operator names, looked at within a time limit: it may be a FIFO that nobody writes to, or on a disk that hangs.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use crate::bounded::{self, FILE_MAX};

/// The first bytes of `path`, at most `bytes_max`.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let read = move || {
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    bounded::within(FILE_MAX, read).unwrap_or_else(|failed| Err(failed.into()))
}

/// Why it cannot be read, and what to do.
pub(super) fn unreadable(path: &Path, why: &io::Error) -> String {
    format!("{} cannot be read: {why}; correct the path, or let this account read the file", path.display())
}

/// Its kind, owner and mode.
pub(super) fn metadata(path: &Path) -> io::Result<Metadata> {
    let path = path.to_owned();
    bounded::within(FILE_MAX, move || fs::metadata(path)).unwrap_or_else(|failed| Err(failed.into()))
}
