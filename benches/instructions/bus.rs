//! The pure half of `src/bus`.
#[path = "../../src/bus/inbox.rs"]
pub mod inbox;
#[path = "../../src/bus/outbox.rs"]
pub mod outbox;
#[path = "../../src/bus/resp.rs"]
pub mod resp;
