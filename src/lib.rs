//! evergate: a WebSocket gateway for Evergreen ILS. Thread per core, io_uring, drained without losing a reply.
//!
//! Two halves. Pure state, into which bytes and `now` go and out of which bytes and decisions come, is a crate of its own:
//! [`evergate_proto`]. Here is the shell that does what it decides.
//!
//! - [`config`]: the one table of options; [`check`]: host and bus, line by line
//! - [`process`]: phases, threads, signals, logs
//! - [`core`]: one pinned thread: the event loop of the pure half on an io_uring
//! - [`bus`]: Redis for whoever may wait, and TLS to it
//! - [`admin`]: health, readiness, metrics, status
//! - [`operator`]: what operators ask a running process; [`call`]: a call through a gateway, by hand
//! - [`bounded`]: calls that may hang; [`unix_socket`]: sockets with a path; [`random`]: numbers that nobody can guess;
//!   [`stdio`]: what commands print
//!
//! ARCHITECTURE.md has the map, the invariants and the decisions; docs/walk.md follows a message through the files.

pub mod admin;
pub mod bounded;
pub mod bus;
pub mod call;
pub mod check;
pub mod config;
pub mod core;
pub mod operator;
pub mod process;
pub mod random;
pub mod stdio;
pub mod unix_socket;

const _: () = assert!(
    !evergate_proto::SIMULATED,
    "the simulator is built alone (-p evergate-simulator), and nothing with --all-features: name those that you want"
);
