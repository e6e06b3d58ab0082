//! evergate: a WebSocket gateway for Evergreen ILS. Thread per core, io_uring, drained without losing a reply.
//!
//! Two halves. Pure state, into which bytes and `now` go and out of which bytes and decisions come: [`websocket`],
//! [`opensrf`], [`session`], [`drain`], and `resp`, `inbox` and `outbox` of [`bus`]. The shell that does what they
//! decide: [`core`] and `bus::link` on the ring, [`process`], [`admin`].
//!
//! - [`config`]: the one table of options; [`check`]: host and bus, line by line
//! - [`process`]: phases, threads, signals, logs
//! - [`core`]: one pinned thread: ring, listener share, clients
//! - [`session`]: a client's conversations, limits, timers, idle gap
//! - [`drain`]: when a connection may close
//! - [`websocket`]: RFC 6455 without I/O; [`opensrf`]: the messages of either side
//! - [`bus`]: Redis; `embedded` is the demo's
//! - [`admin`]: health, readiness, metrics, status; [`counters`]: what the threads share
//! - [`bounded`]: calls that may hang; [`stdio`]: what commands print
//!
//! ARCHITECTURE.md follows a message through the files and lists the invariants.

pub mod admin;
pub mod bounded;
pub mod bus;
pub mod check;
pub mod config;
pub mod core;
pub mod counters;
pub mod drain;
pub mod near;
pub mod opensrf;
pub mod process;
pub mod session;
pub mod stdio;
pub mod websocket;
