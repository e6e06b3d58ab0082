//! `tuning/container`: the seccomp profile as an engine loads it, and files that name what exists.

use std::process::Command;

use crate::support::process::binary;

#[test]
fn evergate_serves_under_the_container_s_seccomp_profile_and_not_without_its_io_uring() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/container.py");
    let ended = Command::new("python3").arg(script).arg(binary().get_program()).output().expect("python3");
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{said}");
}
