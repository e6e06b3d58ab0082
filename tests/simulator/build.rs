//! Opens the door that `src/session` keeps for the simulator: `audit.rs`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=simulator");
}
