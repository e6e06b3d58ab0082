use std::path::PathBuf;

use super::super::Outcome;
use super::*;
use crate::config::{Inputs, Purpose, load};

/// A directory of the test's own; deleted on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("evergate-check-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).expect("it exists").next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config() -> Config {
    load(Inputs::none(Purpose::Demo)).expect("the defaults").config
}

fn outcome(path: PathBuf) -> Outcome {
    logfile(&Config { logfile: Logfile::File(path), ..config() }).expect("a file is looked at").outcome
}

#[test]
fn a_log_file_that_can_be_made_passes_and_is_not_left_behind() {
    let folder = Folder::new("log");
    assert_eq!(outcome(folder.0.join("evergate.log")), Outcome::Ok);
    assert!(folder.is_empty());
}

#[test]
fn a_log_file_that_is_there_keeps_what_it_holds() {
    let folder = Folder::new("kept");
    let path = folder.0.join("evergate.log");
    fs::write(&path, "a line\n").expect("a file");
    assert_eq!(outcome(path.clone()), Outcome::Ok);
    assert_eq!(fs::read_to_string(path).expect("still there"), "a line\n");
}

#[test]
fn a_log_file_in_no_directory_or_that_is_one_fails() {
    let folder = Folder::new("nowhere");
    for path in [folder.0.join("absent/evergate.log"), folder.0.clone()] {
        assert!(matches!(outcome(path.clone()), Outcome::Fail { .. }), "{}", path.display());
    }
    assert_eq!(logfile(&Config { logfile: Logfile::Stderr, ..config() }), None);
}

#[test]
fn a_state_directory_that_can_be_made_passes_and_one_that_cannot_is_only_a_warning() {
    let folder = Folder::new("state");
    let look = |dir: PathBuf| state_dir(&Config { state_dir: Some(dir), ..config() }).expect("it is looked at").outcome;
    assert_eq!(look(folder.0.join("one/two")), Outcome::Ok);
    assert!(folder.is_empty(), "what was made is gone again");
    fs::write(folder.0.join("file"), "").expect("a file");
    assert!(matches!(look(folder.0.join("file/state")), Outcome::Warn { .. }));
    assert_eq!(state_dir(&Config { state_dir: None, ..config() }), None);
}

#[test]
fn a_control_socket_that_can_be_made_passes_and_one_that_cannot_is_only_a_warning() {
    let folder = Folder::new("control");
    let look =
        |path: PathBuf| super::control(&Config { control: Some(path), ..config() }).expect("it is looked at").outcome;
    assert_eq!(look(folder.0.join("made/control")), Outcome::Ok);
    assert!(folder.is_empty(), "what was made is gone again");
    assert!(matches!(look(folder.0.join("no/directory/control")), Outcome::Warn { .. }));
    assert_eq!(super::control(&Config { control: None, ..config() }), None);
}
