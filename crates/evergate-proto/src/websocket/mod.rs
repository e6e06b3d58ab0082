//! RFC 6455, server side, without I/O: handshake, frames, messages, close codes.
//!
//! The shell feeds bytes in and sends the bytes that come out:
//!
//! - [`handshake`]: the HTTP request that opens a connection, judged by a [`handshake::Policy`]. `origin` and `net`
//!   hold two judgements of their own: who may connect, and who stands behind a proxy.
//! - [`header`]: that request, while it comes in pieces.
//! - [`proxy_header`]: what a proxy says before it, by the PROXY protocol.
//! - [`decoder`]: from received bytes to messages and control frames.
//! - [`frame`]: from payloads to frames.
//!
//! May use: the bytes it is given, `httparse`, `ppp`, `sha1`, `base64`, `simdutf8`, and of `fastwebsockets` the mask and the
//! tables of opcodes and close codes. May never look into a message. Time-outs, ping intervals and the closing handshake's patience
//! are in `clients`.
//!
//! No extension is negotiated, so a reserved bit is always a violation. That a binary message is taken as text is the
//! session's habit, not the protocol's.

pub mod decoder;
pub mod frame;
pub mod handshake;
pub mod header;
pub mod net;
mod origin;
pub mod proxy_header;

#[cfg(test)]
mod tests;

/// The close codes that the gateway sends of its own accord (RFC 6455 7.4.1 and the IANA registry). Besides these it
/// sends back whatever valid code a client closed with.
#[derive(Debug)]
pub enum CloseCode {}

impl CloseCode {
    /// Nothing was pending for `idle_timeout_seconds`.
    pub const IDLE: u16 = 1000;
    /// Fast stop (SIGTERM, SIGINT): this process goes away at once.
    pub const GOING_AWAY: u16 = 1001;
    /// The client broke RFC 6455: see [`decoder::Violation`].
    pub const PROTOCOL: u16 = 1002;
    /// A Close without a code. Never sent.
    pub const NONE_GIVEN: u16 = 1005;
    /// The end of a connection without a Close. Never sent.
    pub const NO_CLOSE: u16 = 1006;
    /// A message or a close reason was not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// The client reads too slowly, keeps sending garbage, or took longer than `message_timeout_seconds` for one
    /// message.
    pub const POLICY: u16 = 1008;
    /// A message is longer than `message_bytes_max`, its frames together.
    pub const TOO_LARGE: u16 = 1009;
    /// A core of the gateway failed.
    pub const INTERNAL: u16 = 1011;
    /// Drain (SIGUSR1): reconnecting reaches the successor.
    pub const RESTART: u16 = 1012;
}
