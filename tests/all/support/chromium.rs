//! A Chromium that is installed, started without a window.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::Folder;
use super::process::Process;

/// A Chromium that is installed; none where `tests/run` found that none can be. Who runs the tests otherwise, and has none, is told.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let found =
        names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()));
    let may_be_without = std::env::var_os("EVERGATE_TESTS_WITHOUT_CHROMIUM").is_some();
    assert!(found.is_some() || may_be_without, "no Chromium: apt install chromium-headless-shell");
    found
}

/// One that runs.
pub struct Chromium {
    process: Process,
    folder: Folder,
}

impl Chromium {
    /// Starts one that opens `url`.
    pub fn open(url: &str) -> Self {
        let folder = Folder::new();
        let mut command = Command::new(program().expect("a Chromium"));
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(url).env("HOME", folder.path());
        let process = Process::start("chromium-headless-shell", &mut command, folder.path());
        Self { process, folder }
    }

    /// Where its debugger listens, once it does: a port, and the path of the WebSocket.
    pub fn debugger(&self) -> Option<(u16, String)> {
        let text = std::fs::read_to_string(self.folder.path().join("profile/DevToolsActivePort")).ok()?;
        let (port, path) = text.split_once('\n')?;
        Some((port.parse().ok()?, path.trim().to_owned()))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its renderers, which may be busy, live on without it.
        if self.process.exited().is_none() {
            self.process.signal_group(Signal::SIGKILL);
        }
    }
}
