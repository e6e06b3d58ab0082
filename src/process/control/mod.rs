//! The control socket: operators and a successor speak to the running process over a Unix socket.
//!
//! Each process listens at `{control}.{pid}`, and `{control}` is a symbolic link to the one that serves. What is said are lines of
//! JSON with a version of their own, and, to a successor, the listening sockets. Who may speak is decided by the mode of the file:
//! its owner and its group.
//!
//! May use: threads, files, blocking calls with a time limit. May never: decide what becomes of the process (a [`Request`] goes to
//! the main thread, which answers it), make the main thread wait (it takes requests and gives answers without), run on a core, or
//! grow without bound: so many clients, each with so much time, each line so long.
//!
//! - [`Server`]: who listens; `attendant`: what each client gets
//! - [`request`]: what the main thread is asked, and how it answers
//! - [`Succession`]: who may take over
//! - [`client`]: the other end
//! - [`protocol`]: the lines; `wire`: how they are read and written; `passing`: descriptors
//! - `place`: the files
//!
//! Who is connected, and the end of one connection, are asked of the cores ([`roster`](super::roster)), not of the main thread.

#![forbid(unsafe_code)]

mod attendant;
pub mod client;
mod passing;
mod place;
pub mod protocol;
pub mod request;
mod server;
mod succession;
#[cfg(test)]
mod tests;
mod wire;

pub use place::{Claim, Named, lock_of, socket_of};
pub use request::{Asker, DrainBegun, Lent, Listening, Peer, Reply, Request, Successor};
pub use server::{Server, ServerOptions, start};
pub use succession::Succession;

/// Does what the start of a server does, to see whether it can; nothing is left.
pub fn try_out(path: &std::path::Path) -> std::io::Result<()> {
    place::Place::make(path).map(drop)
}
