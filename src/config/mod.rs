//! What the operator chose: one table of options (`table`), read from `opensrf_core.xml`, a TOML file, the environment
//! and flags, each over the one before, into one typed [`Config`].
//!
//! May use: files that the operator names, and what the host allows this process (`host`). May never: open a socket,
//! resolve a name, log, or print; the environment is read once, in [`cli`], and passed in. Every error names the place
//! and the remedy, and all are found before one is returned. A password never comes from a flag, and nothing here prints one.
#![forbid(unsafe_code)]

pub mod asking;
pub mod calling;
mod cgroup;
pub mod cli;
mod eg_websockets;
mod error;
mod file;
mod host;
mod kind;
mod layers;
mod listen;
mod load;
pub mod manual;
mod opensrf_core;
mod permissions;
mod print;
mod redis_place;
mod table;
mod tls_files;
mod token;
mod typed;
mod values;

#[cfg(test)]
mod tests;

pub use error::{Error, Errors};
pub use host::{CONTROL_CLIENTS_MAX, Descriptors, Host, admin_connections_max, refusals_max, widen_descriptors};
pub use kind::Kind;
pub use listen::{LISTENERS_MAX, Listen, ListenAt, in_a_line};
pub use load::{Inputs, Loaded, Purpose, Reloaded, load, reload};
pub use print::{by_cgroup, effective, markdown, sample};
pub use redis_place::RedisPlace;
pub use table::{Config, Opt, TABLE, find};
pub use typed::{Facility, LogFormat, LogLevel, Logfile, Secret};
pub use values::{Setting, Source, Value, Values};
