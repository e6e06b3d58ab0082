//! A FIFO: it hangs whoever opens it, and whoever writes more than it holds, until the test relents.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Makes one whose other end nobody has.
pub fn make(path: &Path) {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
}

/// One whose reading end is held.
pub struct Fifo {
    path: PathBuf,
    /// Both ends, so that neither the gateway's nor the test's is ever the last.
    held: File,
}

impl Fifo {
    /// Makes it, or takes hold of one that is there.
    pub fn hold(path: &Path) -> Self {
        if !path.exists() {
            make(path);
        }
        let held = File::options().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
        Self { path: path.to_owned(), held: held.expect("both ends of a FIFO") }
    }

    /// Writes until it takes no more.
    pub fn fill(&mut self) {
        while self.held.write(&[b'x'; 4096]).is_ok() {}
        while self.held.write(b"x").is_ok() {}
    }

    /// What has been written to it since it was last read.
    pub fn read(&mut self) -> String {
        let (mut bytes, mut buffer) = (vec![], vec![0; 65_536]);
        loop {
            match self.held.read(&mut buffer) {
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return String::from_utf8_lossy(&bytes).into_owned();
                }
                Err(error) => panic!("read a FIFO: {error}"),
            }
        }
    }

    /// An end to write to that waits, as a child's stderr does.
    pub fn writer(&self) -> File {
        File::options().write(true).open(&self.path).expect("the end to write to")
    }
}
