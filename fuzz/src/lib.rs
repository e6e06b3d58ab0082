//! What is fuzzed: eight readers of what others send, each held to something that does not share its code.
//!
//! A target is a module with `run`, which panics where a promise is broken. `fuzz_targets/` gives each to libFuzzer; `tests/seeds.rs` runs
//! each over its seeds without it. To fuzz one: `RUSTC_BOOTSTRAP=1 cargo fuzz run -s none envelope`; all of them for ten seconds each, as CI
//! does: `fuzz/run`; for longer: `fuzz/run 300`.
//!
//! - [`handshake`]: the request header, however it is cut
//! - [`decoder`]: WebSocket frames, however they are cut, and against a decoder that has them all at once
//! - [`envelope`]: what a client sends, against `serde_json` and against its own splice
//! - [`reply`]: what a service sends, against `serde_json`
//! - [`resp`]: what Redis sends, with inbox and outbox
//! - [`forwarded_for`]: `X-Forwarded-For`, against a naive model
//! - [`opensrf_core`], [`toml`]: the two files, against their parsers and what `evergate config` prints

pub mod cuts;
pub mod decoder;
pub mod envelope;
mod file;
pub mod forwarded_for;
pub mod handshake;
pub mod json;
pub mod opensrf_core;
pub mod reply;
pub mod resp;
pub mod toml;

/// A target: it panics where the bytes break a promise.
type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("handshake", handshake::run),
    ("decoder", decoder::run),
    ("envelope", envelope::run),
    ("reply", reply::run),
    ("resp", resp::run),
    ("forwarded_for", forwarded_for::run),
    ("opensrf_core", opensrf_core::run),
    ("toml", toml::run),
];
