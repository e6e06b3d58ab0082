//! Tells the binary which commit it was built from (`/status`, `--version`).

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=EVERGATE_COMMIT");
    // A path that is not there (a worktree, a tarball) would have cargo build anew each time.
    for path in [".git/HEAD", ".git/refs/heads"].into_iter().filter(|path| std::path::Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    if std::env::var_os("EVERGATE_COMMIT").is_none()
        && let Ok(output) = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output()
        && output.status.success()
        && let Ok(commit) = String::from_utf8(output.stdout)
    {
        println!("cargo::rustc-env=EVERGATE_COMMIT={}", commit.trim());
    }
}
