//! What goes wrong, by kind.

use std::fmt;
use std::io;

/// One kind of fault; its name is what reports and `--json` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection: this error.
    Connect(io::ErrorKind),
    /// No connection, or no handshake, in time.
    ConnectTimeout,
    /// The server refused the handshake with this HTTP status.
    Refused(u16),
    /// What answered the handshake is no WebSocket server.
    BadHandshake,
    /// The server closed with this code (0: none).
    Closed(u16),
    /// The stream ended without a Close.
    Eof,
    /// Reading or writing failed.
    Io(io::ErrorKind),
    /// The server broke RFC 6455, or sent what is no text.
    Protocol,
    /// A request that was under way when its connection ended.
    Lost,
    /// A request without the end of its reply in time.
    Missing,
    /// A reply that came after its request was given up.
    Late,
    /// A reply to a request that has been answered before.
    Duplicate,
    /// A reply that belongs to another client.
    WrongClient,
    /// A thread that nobody asked with.
    WrongThread,
    /// A `threadTrace` that is not the request's.
    WrongTrace,
    /// A message of another type than was due, or of none that is known.
    WrongType,
    /// The content is not what the method returns.
    WrongContent,
    /// More or fewer RESULTs than were asked for.
    WrongCount,
    /// A large content of another length than was asked for.
    WrongLength,
    /// No UTF-8, no JSON, or none that `OpenSRF` knows.
    Unparsable,
    /// A STATUS that ends a request otherwise than well, or a RESULT with such a code.
    Status(u16),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Connect(kind) => return write!(out, "connect_{}", snake(*kind)),
            Self::Refused(status) => return write!(out, "refused_http_{status}"),
            Self::Closed(0) => "closed_without_code",
            Self::Closed(code) => return write!(out, "closed_{code}"),
            Self::Io(kind) => return write!(out, "io_{}", snake(*kind)),
            Self::Status(code) => return write!(out, "status_{code}"),
            Self::ConnectTimeout => "connect_timeout",
            Self::BadHandshake => "bad_handshake",
            Self::Eof => "connection_ended",
            Self::Protocol => "protocol",
            Self::Lost => "lost",
            Self::Missing => "missing",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::WrongClient => "wrong_client",
            Self::WrongThread => "wrong_thread",
            Self::WrongTrace => "wrong_trace",
            Self::WrongType => "wrong_type",
            Self::WrongContent => "wrong_content",
            Self::WrongCount => "wrong_count",
            Self::WrongLength => "wrong_length",
            Self::Unparsable => "unparsable",
        };
        out.write_str(name)
    }
}

impl Fault {
    /// For people: what it means, where the name alone does not say it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Connect(_) => "no connection could be opened",
            Self::ConnectTimeout => "no connection and handshake in time",
            Self::Refused(_) => "the handshake was refused",
            Self::BadHandshake => "no WebSocket server answered",
            Self::Closed(1012) => "the server is being drained",
            Self::Closed(1001) => "the server went away",
            Self::Closed(_) => "the server closed the connection",
            Self::Eof | Self::Io(_) => "the connection ended without a Close",
            Self::Protocol => "the server broke RFC 6455",
            Self::Lost => "requests under way when their connection ended",
            Self::Missing => "requests without a whole reply in time",
            Self::Late => "replies to requests that had been given up",
            Self::Duplicate => "replies to requests that were answered already",
            Self::WrongClient => "replies that belong to another client",
            Self::WrongThread => "replies on a thread that was not asked with",
            Self::WrongTrace => "replies with another threadTrace",
            Self::WrongType => "messages of a type that was not due",
            Self::WrongContent => "replies with another content",
            Self::WrongCount => "replies with more or fewer RESULTs",
            Self::WrongLength => "replies of another length",
            Self::Unparsable => "replies that cannot be read",
            Self::Status(_) => "requests that were answered with this statusCode",
        }
    }
}

/// `ConnectionRefused` as `connection_refused`.
fn snake(kind: io::ErrorKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
