//! The pure half can touch nothing: what it depends on is known, crate by crate.

use std::collections::BTreeSet;
use std::process::Command;

/// All that `cargo tree -p evergate-proto` shows. `fastwebsockets` brings tokio for its traits alone (`io-util`, no driver), and rand
/// with its source for masks that a client would make; neither can be named from the pure half.
const KNOWN: &str = "base64 block-buffer bytemuck bytes cfg-if cpufeatures crc crc-catalog crypto-common digest evergate-prefetch evergate-proto \
    fastwebsockets generic-array getrandom hashbrown httparse itoa libc memchr pin-project-lite ppp ppv-lite86 proc-macro2 quote rand \
    rand_chacha rand_core rustc-hash safe_arch sha1 simdutf8 smallvec syn thiserror thiserror-impl tokio typenum unicode-ident utf-8 \
    version_check wide zerocopy zerocopy-derive";

/// What its own manifest may name.
const NAMED: &str = "base64 crc evergate-prefetch fastwebsockets hashbrown httparse itoa memchr ppp rustc-hash sha1 simdutf8 smallvec wide";

fn tree(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--package", "evergate-proto", "--edges", "normal", "--prefix", "none"]);
    let output = cargo.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("names")
}

/// The first word of each line.
fn crates(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_pure_half_depends_on_nothing_that_touches_the_world() {
    let whole = tree(&[]);
    let unknown: Vec<&str> = crates(&whole).difference(&KNOWN.split_whitespace().collect()).copied().collect();
    assert!(unknown.is_empty(), "new below evergate-proto: {unknown:?}. Can it do I/O? If not, name it here");
    let direct = tree(&["--depth", "1"]);
    let mut named = crates(&direct);
    named.remove("evergate-proto");
    assert_eq!(named, NAMED.split_whitespace().collect(), "what evergate-proto's own code can reach");
    let features = tree(&["--format", "{p} {f}"]);
    let tokio = features.lines().find(|line| line.starts_with("tokio ")).expect("of fastwebsockets");
    let of_tokio = tokio.rsplit(' ').next().unwrap_or_default();
    assert!(
        of_tokio.split(',').all(|feature| ["bytes", "default", "io-util"].contains(&feature)),
        "tokio has {of_tokio}"
    );
}
