//! What goes wrong, by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Serialize;

use super::table::thousands;
use super::tally::Tally;
use super::target::Target;

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
    /// The server's certificate is not trusted, or of another name.
    Certificate,
    /// TLS failed otherwise.
    Tls,
    /// The server broke RFC 6455, or sent what is no text.
    Protocol,
    /// A request that was under way when its connection ended.
    Lost,
    /// A request that a Close with 1012 left unanswered: it was not relayed, and its client does not come back to send it again.
    Unanswered,
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

/// Of a connection that stood.
impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate,
            Some(_) => Self::Tls,
            None => Self::Io(error.kind()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
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
            Self::Certificate => "certificate",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Lost => "lost",
            Self::Unanswered => "unanswered_1012",
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
    /// Whether it counts requests that failed. Otherwise it counts incidents: of connections, and messages that answer
    /// no request under way. What they cost is counted besides, as requests that are lost or missing.
    pub fn is_request(self) -> bool {
        matches!(
            self,
            Self::Lost
                | Self::Missing
                | Self::WrongTrace
                | Self::WrongType
                | Self::WrongContent
                | Self::WrongCount
                | Self::WrongLength
                | Self::Status(_)
        )
    }

    /// Whether it belongs to a drain in which nothing is lost.
    pub fn is_of_drain(self) -> bool {
        matches!(self, Self::Closed(1012) | Self::Unanswered)
    }

    /// For people: what it means, and what to do about it.
    pub fn meaning(self, target: &Target) -> String {
        let Target { address, path, .. } = target;
        let meaning = match self {
            Self::Connect(io::ErrorKind::ConnectionRefused) => return format!("nothing listens on {address}"),
            Self::Connect(io::ErrorKind::AddrNotAvailable) => {
                return format!("no local port is left for {address}: fewer connections, or --sources");
            }
            Self::Connect(_) => return format!("no connection to {address} could be opened"),
            Self::ConnectTimeout => return format!("no connection to {address} and handshake in time"),
            Self::Refused(404) => return format!("there is no WebSocket at the path {path}: check the URL's"),
            Self::Refused(503) => "the server takes no connection now: at its limit, or being drained",
            Self::Refused(502 | 504) => "a proxy answered: nothing listens behind it",
            Self::Refused(100..400) => {
                return format!("{address} is a web server, no WebSocket at {path}: check the URL");
            }
            Self::Refused(_) => "the handshake was refused",
            Self::BadHandshake => return format!("what listens on {address} is no WebSocket server"),
            Self::Closed(1012) => "the server is being drained",
            Self::Closed(1001) => "the server went away",
            Self::Closed(_) => "the server closed the connection",
            Self::Certificate => "the server's certificate does not do: --ca, --server-name, or for a test --insecure",
            Self::Tls => return format!("no TLS with {address}; where it has none, the URL begins with ws://"),
            Self::Eof | Self::Io(_) => "the connection ended without a Close",
            Self::Protocol => "the server broke RFC 6455",
            Self::Unanswered => "left unanswered by a 1012: not relayed, so they may be sent again (--reconnect does)",
            Self::Lost => "under way when their connection ended",
            Self::Missing => "no whole reply in time",
            Self::Late => "replies to requests that had been given up",
            Self::Duplicate => "replies to requests that were answered already",
            Self::WrongClient => "replies that belong to another client",
            Self::WrongThread => "replies to what was not asked",
            Self::WrongTrace => "replies with another threadTrace",
            Self::WrongType => "messages of a type that was not due",
            Self::WrongContent => "replies with another content",
            Self::WrongCount => "replies with more or fewer RESULTs",
            Self::WrongLength => "replies of another length",
            Self::Unparsable => "replies that cannot be read",
            Self::Status(_) => "answered with this statusCode",
        };
        meaning.to_owned()
    }
}

/// All errors of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorDetail {
    /// The fault's name.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// They are requests that failed, each counted once; else incidents.
    pub is_request: bool,
    /// For people.
    pub meaning: String,
    /// What the server said of the first.
    pub said: Option<String>,
}

impl ErrorDetail {
    /// The number with its unit.
    pub fn counted(&self) -> String {
        let number = thousands(self.count);
        match (self.is_request, self.count) {
            (true, 1) => format!("{number} request"),
            (true, _) => format!("{number} requests"),
            (false, _) => number,
        }
    }

    /// What it means, and what the server said.
    pub fn explained(&self) -> String {
        let Self { meaning, said, .. } = self;
        said.as_ref().map_or_else(|| meaning.clone(), |said| format!("{meaning}; the first: {said}"))
    }
}

/// The errors of all rounds.
pub fn details<'a>(rounds: impl Iterator<Item = &'a Tally>, target: &Target) -> Vec<ErrorDetail> {
    let (mut sum, mut said) = (BTreeMap::<Fault, u64>::new(), BTreeMap::new());
    for round in rounds {
        for (fault, count) in &round.faults {
            *sum.entry(*fault).or_default() += count;
            if let Some(text) = round.said.get(fault) {
                said.entry(*fault).or_insert(text);
            }
        }
    }
    let detail = |(fault, count): (Fault, u64)| ErrorDetail {
        kind: fault.to_string(),
        count,
        is_request: fault.is_request(),
        meaning: fault.meaning(target),
        said: said.get(&fault).map(|text| (*text).clone()),
    };
    sum.into_iter().map(detail).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Trust;

    #[test]
    fn an_error_says_where_and_what_to_do() {
        let target = Target::new("ws://127.0.0.1:7682/osrf", &Trust::default()).expect("a URL");
        for (fault, words) in [
            (Fault::Connect(io::ErrorKind::ConnectionRefused), "nothing listens on 127.0.0.1:7682"),
            (Fault::Refused(404), "/osrf"),
            (Fault::Refused(200), "check the URL"),
            (Fault::Refused(503), "limit"),
        ] {
            assert!(fault.meaning(&target).contains(words), "{fault}: {}", fault.meaning(&target));
        }
    }

    #[test]
    fn what_the_server_said_first_is_told_with_its_kind() {
        let target = Target::new("ws://127.0.0.1:7682/", &Trust::default()).expect("a URL");
        let mut tally = Tally::new(false);
        for text in ["", "a b: no\n\"method\"", "other"] {
            tally.fault(Fault::Status(404));
            tally.said(Fault::Status(404), text);
        }
        tally.said(Fault::Closed(1000), "bye");
        let explained: Vec<String> =
            details([&tally].into_iter(), &target).iter().map(ErrorDetail::explained).collect();
        assert_eq!(explained, ["answered with this statusCode; the first: a b: no\\n\"method\""]);
    }

    #[test]
    fn a_connection_that_ends_is_one_incident_and_costs_so_many_requests() {
        let target = Target::new("ws://127.0.0.1:7682/", &Trust::default()).expect("a URL");
        let rounds = [(Fault::Eof, 1), (Fault::Lost, 3)].map(|(fault, count)| {
            let mut tally = Tally::new(false);
            tally.faults.insert(fault, count);
            tally
        });
        let details = details(rounds.iter(), &target);
        let read: Vec<(&str, String)> = details.iter().map(|detail| (detail.kind.as_str(), detail.counted())).collect();
        assert_eq!(read, [("connection_ended", "1".to_owned()), ("lost", "3 requests".to_owned())]);
    }
}
