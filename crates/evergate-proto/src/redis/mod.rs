//! The bus as Redis knows it: lists, pushed to and popped from.
//!
//! - [`resp`]: the protocol's tokens; [`inbox`]: from replies to bus messages; [`outbox`]: from messages to commands, and what
//!   their answers confirm
//! - [`links`]: the life of a core's links: `opening`, `pushing`, `popping`; each is a [`connection`], which begins with a `greeting` and has an
//!   `input`; what is known of a `domain`; whom they serve: [`served`]
//! - [`dial`]: where a Redis is, and what bytes go through on their way there; [`trouble`]: why a link is of no use
//! - [`refusals`]: whether Redis takes pushes; [`silence`]: whether it answers at all; [`stranger`]: whether it is a Redis
//!
//! May never: send a push twice, or forget one that is unconfirmed.

pub mod connection;
pub mod dial;
mod domain;
mod greeting;
pub mod inbox;
mod input;
pub mod links;
mod opening;
pub mod outbox;
mod popping;
mod pushing;
pub mod refusals;
pub mod resp;
pub mod served;
pub mod silence;
pub mod stranger;
#[cfg(test)]
mod tests;
mod trip;
pub mod trouble;
