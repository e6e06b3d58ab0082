//! The lock of a path at which processes listen: who looks at what is there and changes it has it meanwhile. Without it, of two that
//! start at once one could remove the socket of the other, which would listen and hear nothing.
//!
//! It is a file beside the path, for the lock of the directory itself could be held by whoever may read that. The file is there as
//! long as somebody has the lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a lock that another has is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The lock. Dropped, it is free.
#[derive(Debug)]
pub(super) struct PathLock {
    file: File,
    path: PathBuf,
}

impl PathLock {
    /// Waits for the lock of `path`, for so long at most. The error names the file, and what is in the way.
    pub(super) fn take(path: &Path, longest: Duration) -> io::Result<Self> {
        let path = lock_of(path);
        let failed = |error: io::Error| {
            let why = format!("{}, which is locked while the socket is made, cannot be used: {error}", path.display());
            io::Error::new(error.kind(), why)
        };
        let began = Instant::now();
        loop {
            let file = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { file, path }),
                // Whoever had it last has removed it in the meantime, so that a third one would make, and lock, another.
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if began.elapsed() >= longest {
                let (lock, ms) = (path.display(), longest.as_millis());
                let why = format!("another process has {lock} locked, for {ms} ms by now (fuser {lock} shows it)");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for PathLock {
    /// Removed while it is locked: nobody else can have locked that file and find it in its place afterwards.
    fn drop(&mut self) {
        // What another program keeps something in is not ours.
        if self.file.metadata().is_ok_and(|found| found.is_file() && found.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock_of(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Whether a file is the one at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let (ours, there) = (file.metadata(), fs::symlink_metadata(path));
    ours.is_ok_and(|ours| there.is_ok_and(|there| (ours.dev(), ours.ino()) == (there.dev(), there.ino())))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("evergate-path-lock-{}-{name}", std::process::id()))
    }

    #[test]
    fn one_at_a_time_has_the_lock_and_its_file_is_gone_when_nobody_has_it() {
        let path = path("one");
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = PathLock::take(&path, LONG).expect("its turn comes");
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!((most.into_inner(), lock_of(&path).exists()), (1, false));
    }

    #[test]
    fn a_lock_that_another_has_or_that_cannot_be_made_is_an_error_that_names_the_file() {
        let path = path("held");
        let held = PathLock::take(&path, LONG).expect("nobody has it");
        let late = PathLock::take(&path, Duration::from_millis(10)).expect_err("it is held");
        assert!(late.kind() == io::ErrorKind::TimedOut && late.to_string().contains("-held.lock locked"), "{late}");
        assert!(lock_of(&path).exists(), "who waited in vain has not removed it");
        drop(held);
        fs::write(lock_of(&path), "precious").expect("written");
        drop(PathLock::take(&path, LONG).expect("nobody has it"));
        assert_eq!(fs::read_to_string(lock_of(&path)).expect("it is there"), "precious");
        fs::remove_file(lock_of(&path)).expect("it is there");
        let nowhere = PathLock::take(Path::new("/nonexistent/ws"), LONG).expect_err("no directory");
        assert!(nowhere.to_string().starts_with("/nonexistent/ws.lock, which is locked while"), "{nowhere}");
    }
}
