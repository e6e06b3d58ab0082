//! Where a Redis is, and what its bytes go through on their way.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On a port.
    Tcp(SocketAddr),
    /// On a Unix socket of this host.
    Unix(Arc<Path>),
}

impl Place {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// How a link is opened.
#[derive(Debug)]
pub struct Dial {
    /// Where to.
    pub place: Place,
    /// What its bytes go through; `None`: they go as they are.
    pub cipher: Option<Box<dyn Cipher>>,
}

impl Dial {
    /// Plain bytes to `place`.
    pub fn plain(place: Place) -> Self {
        Self { place, cipher: None }
    }
}

/// What a connection's bytes go through, both ways: TLS, which reads a clock and draws random numbers, so that it is the shell's.
/// One for each connection. It begins with messages of its own ([`Self::greet`]), until it is ready for ours.
pub trait Cipher: fmt::Debug {
    /// Appends what it has to send for itself.
    fn greet(&mut self, out: &mut Vec<u8>);
    /// Whether both sides have agreed: ours may be sent.
    fn is_ready(&self) -> bool;
    /// Appends `plain`, sealed, behind what it has to send for itself; `Err`: why it cannot be.
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String>;
    /// Takes what has come, of which a part may wait for more, and appends what can be opened; says whether the other side has ended
    /// the connection with that, whatever TCP does. `Err`: what is wrong with it, or with the other side. What was opened before is
    /// good.
    fn open(&mut self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<bool, String>;
}
