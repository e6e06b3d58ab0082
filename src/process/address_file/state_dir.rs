//! The directory of the address files: opened once, and everything in it is reached through that.
//!
//! Whoever may write here decides what is deleted in Redis, and where the account's password is sent. So directory and files
//! must be this user's own, writable by nobody else, and no links; what is not so is not used. It is judged by what was opened,
//! never by a name that may name something else a moment later.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::process::ownership::{judge, refused};

/// What names the directory.
const OPTION: &str = "state_dir";

/// The directory, open.
#[derive(Debug)]
pub(super) struct StateDir {
    fd: File,
    path: PathBuf,
}

impl StateDir {
    /// Opens the directory, and makes it where it is absent. An error names what to do.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A slash at the end would have a link followed.
        let path: PathBuf = path.components().collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(&path, flags, Mode::empty());
        let fd = File::from(opened.map_err(|error| match fs::symlink_metadata(&path) {
            Ok(named) if named.is_symlink() => {
                refused(&path, "it is a symbolic link: let state_dir name the directory itself")
            }
            _ => error.into(),
        })?);
        judge(&path, &fd.metadata()?, OPTION)?;
        Ok(Self { fd, path })
    }

    /// Where `name` is, for the log.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a file of our own.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok(File::from(openat(
            &self.fd,
            name,
            flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::from_bits_retain(0o600),
        )?))
    }

    /// Opens a file that is there: never through a link, nor into a FIFO's wait. What is no file of our own is an error.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = self.path(name);
        let file = File::from(openat(&self.fd, name, flags, Mode::empty()).map_err(|error| match error {
            nix::errno::Errno::ELOOP => refused(&path, "it is a symbolic link: delete it"),
            error => error.into(),
        })?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(refused(&path, "it is no file: delete it"));
        }
        judge(&path, &found, OPTION)?;
        Ok(file)
    }

    /// Whether `name` still names `file`.
    pub(super) fn names(&self, name: &str, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.dev(), ours.ino())),
            Err(nix::errno::Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file a second name; an error where that is taken.
    pub(super) fn link(&self, name: &str, second: &str) -> io::Result<()> {
        Ok(linkat(&self.fd, name, &self.fd, second, AtFlags::empty())?)
    }

    /// Takes a name away.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// The names that end so.
    pub(super) fn list(&self, suffix: &str) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut entries = Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let name = |name: &CStr| name.to_str().ok().filter(|name| name.ends_with(suffix)).map(str::to_owned);
        Ok(entries.iter().filter_map(Result::ok).filter_map(|entry| name(entry.file_name())).collect())
    }
}
