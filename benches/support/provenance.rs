//! Where and when figures were taken.

use std::fs;
use std::process::Command;

/// One line: date, commit, CPU, compiler, and how busy the machine is: figures of a busy one say little.
pub fn line() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{}, commit {}, {}, {}, load average {load}", date(), commit(), cpu(), compiler())
}

/// Now, UTC.
pub fn date() -> String {
    run("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// The commit; with a `+` where sources differ from it.
pub fn commit() -> String {
    // From anywhere in the work tree; the results themselves are no source.
    let sources = [":/", ":(top,exclude)benches/results"];
    let here = env!("CARGO_MANIFEST_DIR");
    let differs = run("git", &["-C", here, "status", "--porcelain", "--", sources[0], sources[1]]);
    run("git", &["-C", here, "rev-parse", "--short", "HEAD"]) + if differs.is_empty() { "" } else { "+" }
}

/// What lscpu says of the CPU.
pub fn cpu() -> String {
    let lscpu = run("lscpu", &[]);
    let value = |key: &str| {
        lscpu.lines().find_map(|line| line.trim().strip_prefix(key)).map_or("?", |value| value.trim()).to_owned()
    };
    format!(
        "{} x {} (family {}, model {})",
        value("CPU(s):"),
        value("Model name:"),
        value("CPU family:"),
        value("Model:")
    )
}

/// The compiler.
pub fn compiler() -> String {
    run("rustc", &["--version"])
}

/// What a command prints; nothing where it cannot be run.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
