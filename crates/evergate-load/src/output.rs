//! Where figures go. Files are opened before the load: what cannot be written costs no run.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Stands for stdout in place of a file's name.
pub const STDOUT: &str = "-";

/// A file, or stdout.
#[derive(Debug)]
pub enum Output {
    /// This file, which keeps what it holds until the end of the run.
    File {
        /// As it was given.
        path: String,
        /// Opened for writing.
        file: File,
    },
    /// Stdout.
    Stdout,
}

impl Output {
    /// Opens a file, or creates it.
    pub fn open(path: &Path) -> Result<Self, String> {
        if path.as_os_str() == STDOUT {
            return Ok(Self::Stdout);
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let path = path.display().to_string();
        file.map(|file| Self::File { file, path: path.clone() }).map_err(|error| format!("{path}: {error}"))
    }

    /// Whether both are the same file.
    pub fn is(&self, other: &Self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let id = |output: &Self| match output {
            Self::File { file, .. } => file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino())),
            Self::Stdout => None,
        };
        matches!((self, other), (Self::Stdout, Self::Stdout)) || id(self).is_some_and(|own| Some(own) == id(other))
    }

    /// Writes the text in place of what the file held.
    pub fn write(&mut self, text: &str) -> Result<(), String> {
        match self {
            Self::Stdout => print(&mut io::stdout(), "stdout", text),
            Self::File { path, file } => {
                let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
                let emptied = if is_regular { file.set_len(0) } else { Ok(()) };
                emptied.and_then(|()| file.write_all(text.as_bytes())).map_err(|error| format!("{path}: {error}"))
            }
        }
    }
}

/// Writes to stdout or stderr. A reader that has seen enough (`| head`) is no failure.
pub fn print(stream: &mut impl Write, name: &str, text: &str) -> Result<(), String> {
    judge(name, stream.write_all(text.as_bytes()).and_then(|()| stream.flush()))
}

/// What an attempt to write to one of them means.
pub fn judge(name: &str, written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("{name}: {error}")),
        _ => Ok(()),
    }
}

/// Says a line on stderr. Where that is closed or full it is lost, and the exit code says the rest: `eprintln!` would panic.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "evergate-load: {text}");
}
