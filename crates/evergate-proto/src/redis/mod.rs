//! The bus as Redis knows it: lists, pushed to and popped from.
//!
//! - [`resp`]: the protocol's tokens; [`inbox`]: from replies to bus messages; [`outbox`]: from messages to commands, and what
//!   their answers confirm
//! - [`refusals`]: whether Redis takes pushes; [`silence`]: whether it answers at all; [`stranger`]: whether it is a Redis
//!
//! May never: send a push twice, or forget one that is unconfirmed.

pub mod inbox;
pub mod outbox;
pub mod refusals;
pub mod resp;
pub mod silence;
pub mod stranger;
#[cfg(test)]
mod tests;
