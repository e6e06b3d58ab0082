//! What one client of the control socket gets.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::passing;
use super::protocol::{ASK_BYTES_MAX, Answer, Ask, Command, Ended, Ready, WATCH_EVERY, line};
use super::request::{Lent, Listening, Peer, Reply, Request, Successor};
use super::server::{Busy, ClientPlace, Inner};
use super::wire::Wire;
use crate::config::{ListenAt, in_a_line};
use crate::process::roster;
use evergate_proto::opensrf::printable::Shown;

/// How long a client may take to say what it wants, and between two questions.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to read what it is answered.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// How long the main thread may take to answer. It looks several times a second.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Why there is nothing more to do: the client was told, or cannot be.
type Over = io::Result<()>;

/// Attends to one client, on a thread of its own.
pub(super) struct Attendant {
    place: ClientPlace,
    wire: Wire,
}

impl Attendant {
    pub(super) fn new(place: ClientPlace, wire: Wire) -> Self {
        Self { place, wire }
    }

    /// Answers until the client goes, or says what cannot be understood.
    pub(super) fn attend(&mut self) -> Over {
        let peer = self.wire.peer()?;
        loop {
            let asked = match self.wire.read_line(ASK_BYTES_MAX, SILENCE_MAX) {
                Ok(None) => return Ok(()),
                Ok(Some(asked)) => Ask::parse(&asked),
                Err(error) => Err(error.to_string()),
            };
            let inner = Arc::clone(self.place.inner());
            let _busy = Busy::begin(&inner);
            match asked {
                Ok(ask) => self.answer(ask, peer)?,
                Err(error) => return self.say(&Answer::refused(error)),
            }
            // Whoever has watched to the end has heard all.
            if inner.ended_within(Duration::ZERO).is_some() {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, ask: Ask, peer: Peer) -> Over {
        match ask.command {
            Command::Status => self.wire.write_line(&self.place.inner().status(), WRITE_MAX),
            Command::Watch => self.watch(),
            Command::Drain { watch } => {
                tracing::info!("control: {peer} asks for a drain");
                match self.ask_main(|reply| Request::Drain { by: peer.into(), reply }) {
                    Ok(drain) => {
                        self.say(&Answer { drain: Some(drain), ..Answer::done() })?;
                        if watch { self.watch() } else { Ok(()) }
                    }
                    Err(error) => self.say(&Answer::refused(error)),
                }
            }
            Command::Cancel => {
                tracing::info!("control: {peer} asks to cancel the drain");
                self.say(&match self.ask_main(|reply| Request::Cancel { by: peer.into(), reply }) {
                    Ok(()) => Answer::done(),
                    Err(error) => Answer::refused(error),
                })
            }
            Command::Connections { query } => {
                let page = roster::page(self.place.inner().shared(), &query);
                self.say(&match page {
                    Ok(page) => Answer { page: Some(page), ..Answer::done() },
                    Err(error) => Answer::refused(error),
                })
            }
            Command::Close { connection, now } => {
                let closes = connection.parse().and_then(|number| {
                    tracing::info!(
                        "control: {peer} closes connection {number} {}",
                        if now { "at once" } else { "at its gap" }
                    );
                    roster::close(self.place.inner().shared(), number, now)
                });
                self.say(&match closes {
                    Ok(closes) => Answer { closes: Some(closes), ..Answer::done() },
                    Err(error) => Answer::refused(error),
                })
            }
            Command::Replace { listen, places, pid } => {
                let pid = if peer.pid > 0 { peer.pid } else { pid };
                let connection = self.place.connection();
                let version =
                    Some(ask.version).filter(|version| is_version(version)).unwrap_or_else(|| "unknown".to_owned());
                let takes_unix = !places.is_empty();
                let listen = if takes_unix { places } else { vec![ListenAt::Tcp(listen)] };
                self.replace(peer, &Successor { connection, pid, version, listen, takes_unix })
            }
        }
    }

    /// A status again and again, until the process ends.
    fn watch(&mut self) -> Over {
        loop {
            self.wire.write_line(&self.place.inner().status(), WRITE_MAX)?;
            if let Some(exit_code) = self.place.inner().ended_within(WATCH_EVERY) {
                self.wire.write_line(&self.place.inner().status(), WRITE_MAX)?;
                return self.wire.write_line(&line(&Ended::with(exit_code)), WRITE_MAX);
            }
        }
    }

    /// Hands the listening sockets over, if the main thread agrees, and waits until the successor serves or comes to nothing.
    fn replace(&mut self, peer: Peer, successor: &Successor) -> Over {
        let Successor { version, listen, .. } = successor;
        let places = in_a_line(listen);
        tracing::info!("control: {peer}, evergate {version}, asks to take over, with {}", Shown(&places));
        let granted = self.ask_main(|reply| Request::Replace { peer, successor: successor.clone(), reply });
        // Of who was granted something the main thread hears again, whatever happens here.
        let mut going =
            Going { inner: &Arc::clone(self.place.inner()), successor: Some(successor), why: String::new() };
        match granted {
            Ok(lent) => going.why = self.hand_over(lent, successor, &mut going.successor),
            Err(error) => {
                // An answer of the main thread that comes too late grants it all the same.
                if !error.is_late() {
                    going.successor = None;
                }
                going.why = error.to_string();
                // It hears nothing, asks once more, and finds nobody.
                if matches!(error, Unanswered::Ends) {
                    return Ok(());
                }
                return self.say(&Answer::refused(going.why.clone()));
            }
        }
        Ok(())
    }

    /// Gives the sockets and waits for the successor. What became of it, where `pending` still holds it.
    fn hand_over(&mut self, lent: Lent, successor: &Successor, pending: &mut Option<&Successor>) -> String {
        let limit = self.place.inner().handover_max();
        let until = Instant::now() + limit;
        let is_understood = |(_, at): &Listening| successor.takes_unix || at.tcp().is_some();
        let (descriptors, addresses): (Vec<_>, Vec<_>) = lent.sockets.into_iter().filter(is_understood).unzip();
        let (sockets, files, kept) = (Some(addresses), Some(lent.files), Some(lent.is_kept));
        let given = self.say(&Answer { sockets, files, kept, ..Answer::done() }).and_then(|()| {
            self.wire.limit(WRITE_MAX)?;
            passing::send(&self.wire, &descriptors.iter().map(AsFd::as_fd).collect::<Vec<_>>())
        });
        if let Err(error) = given {
            return format!("the sockets could not be given to it: {error}");
        }
        drop(descriptors);
        let said = match self.wire.read_line(ASK_BYTES_MAX, until.saturating_duration_since(Instant::now())) {
            Ok(Some(said)) => said,
            Ok(None) => return "it has ended before it served".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let why = format!("it did not serve within handover_max_seconds ({} s)", limit.as_secs());
                let _ = self.say(&Answer::refused(why.clone()));
                return why;
            }
            Err(error) => return error.to_string(),
        };
        if !serde_json::from_str(&said).is_ok_and(|Ready { ready }| ready) {
            let why = "it said something else than {\"ready\":true}".to_owned();
            let _ = self.say(&Answer::refused(why.clone()));
            return why;
        }
        *pending = None;
        let answer = match self.ask_main(|reply| Request::Ready { successor: successor.clone(), reply }) {
            Ok(()) => Answer { draining: Some(true), ..Answer::done() },
            // It hears that nobody answers, and serves: this process ends, or drains as soon as it comes to that.
            Err(Unanswered::Ends | Unanswered::Late) => return String::new(),
            Err(error) => Answer::refused(error.to_string()),
        };
        // It serves, whether it hears this or not.
        let _ = self.say(&answer);
        String::new()
    }

    fn say(&self, answer: &Answer) -> Over {
        self.wire.write_line(&line(answer), WRITE_MAX)
    }

    /// Asks the main thread, and waits for its answer.
    fn ask_main<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Unanswered> {
        let (reply, answer) = Reply::channel();
        if !self.place.inner().request(request(reply)) {
            return Err(Unanswered::Ends);
        }
        match answer.recv_timeout(ANSWER_MAX) {
            Ok(answer) => answer.map_err(Unanswered::Refused),
            Err(RecvTimeoutError::Disconnected) => Err(Unanswered::Ends),
            Err(RecvTimeoutError::Timeout) => Err(Unanswered::Late),
        }
    }
}

/// Whether it can be one, and so can be logged.
fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Why the main thread did not do what it was asked.
#[derive(Debug)]
enum Unanswered {
    /// It says why.
    Refused(String),
    /// The process ends.
    Ends,
    /// It has not answered in time.
    Late,
}

impl Unanswered {
    fn is_late(&self) -> bool {
        matches!(self, Self::Late)
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Ends => f.write_str("it is ending"),
            Self::Late => write!(f, "its main thread has not answered for {} s", ANSWER_MAX.as_secs()),
        }
    }
}

impl From<Unanswered> for String {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.to_string()
    }
}

/// A successor that has not come to serve; dropped with one, it has come to nothing.
struct Going<'a> {
    inner: &'a Inner,
    successor: Option<&'a Successor>,
    /// What became of it.
    why: String,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if let Some(successor) = self.successor {
            let gone = Request::Gone { successor: successor.clone(), why: std::mem::take(&mut self.why) };
            // Where the process ends, nobody wants to hear it.
            let _ = self.inner.request(gone);
        }
    }
}
