//! The other end: what asks a running process.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use super::passing;
use super::protocol::{ANSWER_BYTES_MAX, Answer, Ask, Command, Ready, VERSION, line};
use super::request::{Listening, Peer};
use super::wire::Wire;
use crate::config::ListenAt;
use crate::unix_socket::SocketFile;

/// How long a server may take to accept, to read and to answer: its main thread has 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Why nothing came of it.
#[derive(Debug)]
pub enum AskError {
    /// There is no socket, or nobody listens there.
    Nobody,
    /// The running process says why.
    Refused(String),
    /// It speaks another version of the protocol. What it says of it.
    OtherVersion(String),
    /// It belongs to another account, whose sockets are not taken.
    Foreign(Peer),
    /// It cannot be spoken to.
    Failed(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Nobody,
            _ => Self::Failed(error),
        }
    }
}

impl AskError {
    /// Whether the other process is gone, or going: it has closed the connection without a word.
    pub fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            Self::Nobody => true,
            Self::Failed(error) => matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe),
            Self::Refused(_) | Self::OtherVersion(_) | Self::Foreign(_) => false,
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody listens there"),
            Self::Refused(why) | Self::OtherVersion(why) => f.write_str(why),
            Self::Foreign(peer) => write!(
                f,
                "{peer} listens there, and this one runs as user {}: its sockets are not taken; start this one as that user, or \
                 end that process if it is none of yours",
                geteuid()
            ),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AskError {}

/// A connection to a running process.
#[derive(Debug)]
pub struct Connection(Wire);

impl Connection {
    /// Connects to the process that has the name `path`, or that listens there.
    pub fn open(path: &Path) -> Result<Self, AskError> {
        Ok(Self(Wire::connect(path, ANSWER_MAX)?))
    }

    /// The process that listens there; 0 where that is in another namespace.
    pub fn pid(&self) -> u32 {
        self.0.peer().map_or(0, |peer| peer.pid)
    }

    /// Asks. What is answered with a status is to be read with [`Connection::read`].
    pub fn send(&self, command: Command) -> Result<(), AskError> {
        Ok(self.0.write_line(&line(&Ask::new(command)), ANSWER_MAX)?)
    }

    /// Asks, and takes the answer.
    pub fn ask(&mut self, command: Command) -> Result<Answer, AskError> {
        // Who has no place for this client, say, has answered and gone before it was asked.
        let sent = self.send(command);
        match self.answer() {
            Err(AskError::Failed(_)) => sent.and(Err(AskError::Failed(ended()))),
            answered => answered,
        }
    }

    /// The next line; none where the process has ended, an error of the kind `TimedOut` where it says nothing for so long.
    pub fn read(&mut self, limit: Duration) -> io::Result<Option<String>> {
        self.0.read_line(ANSWER_BYTES_MAX, limit)
    }

    fn answer(&mut self) -> Result<Answer, AskError> {
        let said = self.read(ANSWER_MAX)?.ok_or_else(|| AskError::Failed(ended()))?;
        judge(&said)
    }
}

/// How a program answers what it does not know: its commands are read by serde, as those of this one.
const UNKNOWN: &str = "unknown variant";

/// What a line that is an answer says.
pub fn judge(said: &str) -> Result<Answer, AskError> {
    let answer: Answer = serde_json::from_str(said).map_err(|error| {
        AskError::Failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("what it answers is not understood: {error}"),
        ))
    })?;
    match answer.error {
        None if answer.ok => Ok(answer),
        why => {
            let why = why.unwrap_or_else(|| "it does not say why".to_owned());
            let why = if why.starts_with(UNKNOWN) {
                let Answer { version, pid, .. } = answer;
                format!(
                    "process {pid} is evergate {version}, which cannot do this: it can when it has been restarted with this program \
                     ({why})"
                )
            } else {
                why
            };
            Err(if answer.evergate_control == VERSION { AskError::Refused(why) } else { AskError::OtherVersion(why) })
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection")
}

/// What a successor has of the running process.
#[derive(Debug)]
pub struct Taken {
    /// Its listening sockets.
    pub sockets: Vec<Listening>,
    /// Which files are those of its Unix sockets.
    pub files: Vec<SocketFile>,
    /// The service manager listens there as well.
    pub is_kept: bool,
    /// The version of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The connection, on which it waits to hear that the successor serves. Dropped, it serves on as if nobody had asked.
    pub connection: Connection,
}

/// Takes the listening sockets of the process at `path`, for one that would listen at `places`. It must be this user's, or root's:
/// whoever else listens there is asked nothing.
pub fn replace(path: &Path, places: &[ListenAt]) -> Result<Taken, AskError> {
    let mut connection = Connection::open(path)?;
    let peer = connection.0.peer()?;
    if !peer.is_trusted_by(geteuid().as_raw()) {
        return Err(AskError::Foreign(peer));
    }
    // One without an address has none that an older program could know.
    let nowhere = || SocketAddr::from(([0, 0, 0, 0], 0));
    let listen = places.iter().find_map(ListenAt::tcp).unwrap_or_else(nowhere);
    let command = Command::Replace { listen, places: places.to_vec(), pid: std::process::id() };
    let answer = connection.ask(command)?;
    let (addresses, files) = (answer.sockets.unwrap_or_default(), answer.files.unwrap_or_default());
    connection.0.limit(ANSWER_MAX)?;
    let descriptors = passing::receive(&connection.0, addresses.len())?;
    let sockets = descriptors.into_iter().zip(addresses).collect();
    let is_kept = answer.kept.unwrap_or(false);
    Ok(Taken { sockets, files, is_kept, version: answer.version, pid: answer.pid, connection })
}

impl Connection {
    /// Whether the other process has gone without a word. Does not wait.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Tells that the successor serves: the other process drains from now on. Who refuses may have said so, and closed, before.
    pub fn ready(mut self) -> Result<(), AskError> {
        let _ = self.0.write_line(&line(&Ready { ready: true }), ANSWER_MAX);
        self.answer().map(drop)
    }
}
