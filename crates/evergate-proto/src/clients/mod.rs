//! What the gateway knows of its clients: the conversations, what is pending, the sessions, the limits, the idle gap.
//!
//! Bytes and `now` go in; bytes and decisions come out as an [`Output`](output::Output). May use `websocket`,
//! `opensrf`, `redis`' [`Push`](crate::redis::outbox::Push), `drain`, the counters.
//!
//! - [`table`]: a core's clients; the way in for bytes from either side, ticks and failures
//! - [`client`]: one WebSocket client: its stage, timers, unsent frames, and its [`book`]; within it `entering`: its handshake,
//!   `reading`: its frames, `gauges`: what `/status` and `/metrics` say of clients
//! - [`admission`](client): what a client may give to the bus
//! - [`closing`](client): the end of a client, without a reset while it takes what it is sent
//! - [`dismissing`]: a connection that an operator ends; [`census`]: who is connected; [`number`]: what a connection is called
//! - [`relay`](client): from an envelope to the bus, and the backlog
//! - [`relay_back`](client): from a bus message to the client
//! - [`book`]: the conversations of one client: each is a [`conversation`], with its [`pendings`]; what waits stands with its
//!   thread in [`threads`]
//! - [`context`]: what all clients of a core share
//! - [`excess`](table): what is done where too much is held; `holders`: who holds most of the core's bytes
//! - [`from_bus`](table): the way in for replies, and for what befalls the links
//! - [`outstanding`]: what the bus has and nobody has answered; `orphans`: that of it for which no client waits
//! - [`router_list`]: how long calls wait for the router; [`turns`](table): who may send more when it has taken some
//! - [`addresses`]: where clients come from; [`rate`]: token buckets
//! - `turned_away`: whose clients were told 429, or sent no good PROXY header, for the log
//! - [`outbound`]: frames that the kernel has not taken
//! - [`reuse`]: memory for the next request
//! - `audit`: a recount, for the simulator

pub mod addresses;
mod admission;
#[cfg(feature = "simulator")]
pub mod audit;
pub mod book;
mod by_name;
pub mod census;
pub mod client;
mod closing;
pub mod context;
pub mod conversation;
mod conversations;
pub mod dismissing;
mod excess;
mod failing;
pub mod from_bus;
mod holders;
pub mod limits;
pub mod number;
mod orphans;
pub mod outbound;
pub mod output;
pub mod outstanding;
pub mod pendings;
pub mod rate;
mod relay;
mod relay_back;
pub mod reuse;
pub mod router_list;
pub mod table;
#[cfg(test)]
mod tests;
pub mod threads;
mod timers;
mod times;
mod turned_away;
mod turns;
