//! A core's links to the bus, on its ring: one that pops the core's own list, one that pushes for each domain in use.
//!
//! What is decided about the bytes is decided in [`evergate_proto::redis`]. Never: a second connection for a client, a push sent
//! twice, a wait on Redis that blocks the core.

mod acks;
mod connection;
pub mod link;
