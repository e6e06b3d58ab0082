//! The OpenSRF bus: Redis lists. A core has one address, a link that pops it, and a link that pushes.
//!
//! `resp`, `inbox`, `outbox`, `refusals`, `silence` and `stranger` are pure: bytes go in, bytes and decisions come out. `link`, `acks` and `connection` are their
//! shell on the core's ring. `address_file` and `embedded` never run on a core.
//! Never: a second connection for a client, a push sent twice, a wait on Redis that blocks the core.

mod acks;
pub mod address_file;
mod connection;
pub mod embedded;
pub mod inbox;
pub mod link;
pub mod outbox;
pub mod refusals;
pub mod resp;
pub mod silence;
pub mod stranger;
#[cfg(test)]
mod tests;
