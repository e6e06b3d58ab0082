//! `evergate-load` as a child process, and what it found.

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;

use super::process::Process;
use super::{Folder, PATIENCE};

/// What a run came to.
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// What it wrote into the file of `--json`.
    pub json: Value,
    /// Stdout and stderr.
    pub output: String,
}

impl Run {
    /// Its errors by kind.
    pub fn errors(&self) -> HashMap<&str, u64> {
        let errors = self.json["errors"].as_object().expect("errors").iter();
        errors.map(|(kind, count)| (kind.as_str(), count.as_u64().expect("a count"))).collect()
    }
}

/// The generator.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_evergate-load"))
}

/// Starts it.
pub fn start(folder: &Folder, url: &str, options: &[&str]) -> Process {
    let mut command = program();
    command.arg(url).args(options).arg("--json").arg(folder.path().join("load.json"));
    Process::start("evergate-load", &mut command, folder.path())
}

/// Waits for its end.
pub fn finish(folder: &Folder, mut load: Process) -> Run {
    let code = load.wait_exit(PATIENCE * 3);
    let text = std::fs::read_to_string(folder.path().join("load.json")).unwrap_or_default();
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", load.log()));
    Run { code, json, output: load.output() + &load.log() }
}

/// Both.
pub fn run(url: &str, options: &[&str]) -> Run {
    let folder = Folder::new();
    let load = start(&folder, url, options);
    finish(&folder, load)
}
