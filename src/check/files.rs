//! The files: can the log be appended to, can the state directory and the control socket be used? Nothing that was not there stays behind.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::Finding;
use crate::config::{Config, Logfile};
use crate::process::address_file::AddressFile;
use crate::process::{control, logs};

/// Opens the log file as `serve` does; without it `serve` does not start.
pub(super) fn logfile(config: &Config) -> Option<Finding> {
    let Logfile::File(path) = &config.logfile else { return None };
    Some(match append(path) {
        Ok(()) => Finding::ok(format!("logfile {} can be appended to", path.display())),
        Err(why) => Finding::fail(format!("logfile {} cannot be opened: {why}", path.display()), logs::FILE_REMEDY),
    })
}

fn append(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // A FIFO that nobody reads would otherwise be waited for.
    options.append(true).custom_flags(OFlag::O_NONBLOCK.bits()).mode(0o600);
    match options.open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            options.create_new(true).open(path)?;
            fs::remove_file(path)
        }
        result => result.map(drop),
    }
}

/// Does what `serve` does at its start, which goes on where that fails.
pub(super) fn state_dir(config: &Config) -> Option<Finding> {
    let dir = config.state_dir.as_deref()?;
    let absent: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    let written = AddressFile::create(dir).and_then(AddressFile::remove);
    for made in absent {
        // One that could not be made, or that somebody has begun to use, is left as it is.
        let _ = fs::remove_dir(made);
    }
    Some(match written {
        Ok(()) => Finding::ok(format!("state_dir {} can be written to", dir.display())),
        Err(why) => Finding::warn(
            format!(
                "state_dir {} cannot be used: {why}; serve goes on, but after a crash its lists stay in Redis",
                dir.display()
            ),
            "let this account write there (StateDirectory= or RuntimeDirectory= in the unit), or set state_dir to a \
             directory of its own, or to off",
        ),
    })
}

/// The same for the control socket.
pub(super) fn control(config: &Config) -> Option<Finding> {
    let path = config.control.as_deref()?;
    let made = path.parent().filter(|directory| !directory.exists());
    let listened = control::try_out(path);
    if let Some(made) = made {
        let _ = fs::remove_file(control::lock_of(path));
        let _ = fs::remove_dir(made);
    }
    Some(match listened {
        Ok(()) => Finding::ok(format!("control {} can be listened at", path.display())),
        Err(why) => Finding::warn(
            format!(
                "control {} cannot be used: {why}; serve goes on, but `evergate drain` and `--replace` find nobody",
                path.display()
            ),
            "let this account write there (RuntimeDirectory= in the unit), or set control to a path in a directory of its own, or to off",
        ),
    })
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
