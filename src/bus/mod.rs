//! What the shell knows of Redis beside the links of the cores.
//!
//! - [`tls`]: what a link's bytes go through where Redis is reached by TLS
//! - [`blocking`]: a connection for commands and start, whose every call has a time limit
//!
//! May never: be used on a core, but for [`tls::Tls::cipher`].

#![forbid(unsafe_code)]

pub mod blocking;
pub mod tls;
