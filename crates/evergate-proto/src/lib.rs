//! The pure half of evergate: everything that can be decided, decided without touching the world.
//!
//! Bytes, results of operations and the time go in; bytes and decisions come out. May use: its arguments, and crates that do the
//! same. May never: open a socket or a file, read a clock or the environment, log, spawn, block. Its `Cargo.toml` has nothing that
//! could, so that this is the compiler's word and not a reviewer's (quinn-proto is the model). It can therefore be fuzzed,
//! simulated and enumerated: `fuzz/`, `tests/simulator`.
//!
//! - [`json`]: text that is scanned and judged, never built
//! - [`opensrf`]: the messages of either side
//! - [`websocket`]: RFC 6455
//! - [`clients`]: a core's clients, their conversations, limits, timers, idle gaps
//! - [`effects`]: what clients decide, carried out
//! - [`redis`]: the bus as lists of Redis
//! - [`event_loop`]: one core, given its ring
//! - [`lifecycle`]: a core from its start to its end; [`drain`]: when a connection may close
//! - [`ring`]: what a core asks of the kernel; [`waiting`]: how long it looks before it sleeps
//! - [`counters`], [`histograms`], [`services`], [`codes`]: what one core writes and other threads read

#![forbid(unsafe_code)]

pub mod clients;
pub mod codes;
pub mod counters;
pub mod drain;
pub mod effects;
pub mod event_loop;
pub mod histograms;
pub mod json;
pub mod lifecycle;
pub mod opensrf;
pub mod redis;
pub mod ring;
pub mod services;
pub mod waiting;
pub mod websocket;

/// Whether the bounds are those of the simulator: a program that serves must not be built so.
pub const SIMULATED: bool = cfg!(feature = "simulator");
