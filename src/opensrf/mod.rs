//! `OpenSRF` as text: what clients send, what the bus delivers, and the writing of both.
//!
//! `envelope` reads a client's message and splices it into a bus message; `reply` reads what the bus delivers;
//! `transport` writes for the bus and wraps replies for the client; `error` writes the gateway's own errors;
//! `address` knows the names of queues and threads; `activity` formats the activity log's lines; `printable` shows what
//! others wrote.
//!
//! It may use: byte searching, vectors, and its arguments.
//! It may never do I/O, read a clock or the environment, log, recurse on input, or rebuild a message: bytes are
//! scanned and spliced, so that big numbers, escapes and class names arrive as they were written.
#![forbid(unsafe_code)]

pub mod activity;
pub mod address;
mod block;
pub mod envelope;
pub mod error;
mod escape;
pub mod judge;
mod payload;
mod precheck;
pub mod printable;
mod read;
pub mod reply;
mod rules;
mod scan;
mod seen;
#[cfg(test)]
mod tests;
mod trace;
pub mod transport;
