//! A core's io_uring: what [`evergate_proto::ring::Ring`] asks for, done by the kernel.
//!
//! May use: the crate `io-uring`, system calls that never wait, memory that the kernel may touch. It is the only place
//! of the shell with `unsafe` for I/O. Never: wait anywhere but in [`Uring::enter`](evergate_proto::ring::Ring::enter)
//! and, a second at most, where a ring is dropped; know a client, a byte's meaning or the loop; free or move what the
//! kernel may still write.
//!
//! - `uring`: operations in, completions out
//! - `quiet`: sends that end no wait
//! - `in_flight`: buffers and addresses that the kernel has until a completion
//! - `pool`: buffers that the kernel picks from when bytes come; `pools`: the two of a ring
//! - `descriptor`: the way into the kernel, and the only wait
//! - `sockets`: what is asked of a socket without the ring
//! - `waker`: how another thread ends a wait
//! - `probe`: what this kernel has, and why it may refuse a ring

mod descriptor;
mod in_flight;
mod pool;
mod pools;
mod probe;
mod quiet;
mod sockets;
mod uring;
mod waker;

#[cfg(test)]
mod tests;

pub use pool::PoolSize;
pub use probe::Refused;
pub use uring::{Uring, UringSize};
pub use waker::Waker;
