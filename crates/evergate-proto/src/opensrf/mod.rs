//! `OpenSRF` as text: what clients send, what the bus delivers, and the writing of both.
//!
//! `envelope` reads a client's message and splices it into a bus message; `reply` reads what the bus delivers;
//! `transport` writes for the bus and wraps replies for the client; `error` writes the gateway's own errors;
//! `address` knows the names of queues and threads; `activity` formats the activity log's lines; `printable` shows what
//! others wrote.
//!
//! May use `json`, the names of the limits and its arguments. May never recurse on input or rebuild a message: bytes are scanned and spliced, so that big
//! numbers, escapes and class names arrive as they were written.

pub mod activity;
pub mod address;
pub mod envelope;
pub mod error;
mod payload;
pub mod printable;
mod read;
pub mod reply;
#[cfg(test)]
mod tests;
mod trace;
pub mod transport;
