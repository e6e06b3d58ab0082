//! Why a link is of no use.

use std::fmt;

use super::connection::Stage;
use super::inbox::Unexpected;
use super::refusals;
use super::resp::Malformed;
use super::stranger;

/// What befell a link, or an attempt to open one.
#[derive(Debug)]
pub enum Trouble {
    /// The host's word: no route, nobody listens, reset.
    Host(std::io::Error),
    /// It took too long.
    TimedOut,
    /// The name of the domain has not been resolved.
    Unresolved,
    /// Redis ended the connection.
    Closed,
    /// The other side's certificate is not believed, or what it sent cannot be opened: why.
    Tls(String),
    /// Before both ends had agreed on TLS, it fell silent or hung up: how.
    NoTls(String),
    /// It hung up on a plain greeting without having said anything: how.
    HungUp(String),
    /// Redis refused what the link is for: in its own words, with the remedy.
    Refused(String),
    /// What answers is no Redis: what it looks like, with the remedy.
    Stranger(String),
    /// What Redis sent is no RESP.
    Malformed,
    /// Redis answered what was not asked.
    Unexpected,
}

impl Trouble {
    /// Whether trying again at once is of no use: somebody must mend something first.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Refused(_) | Self::Stranger(_) | Self::Malformed | Self::Unexpected)
    }

    /// What this trouble is likely to mean for an attempt that had come as far as `stage`, where that tells more than the trouble itself:
    /// a port that speaks no TLS, or nothing else.
    pub(super) fn after(&self, stage: &Stage) -> Option<String> {
        let how = self.to_string();
        let meant = match (stage, self) {
            (Stage::Agreeing { .. }, Self::Closed | Self::TimedOut | Self::Host(_)) => Self::NoTls(how),
            (Stage::Greeting { greeting, is_sealed: false, .. }, Self::Closed | Self::Host(_))
                if greeting.is_unheard() =>
            {
                Self::HungUp(how)
            }
            _ => return None,
        };
        Some(meant.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(formatter),
            Self::TimedOut => formatter.write_str("timed out"),
            Self::Unresolved => formatter.write_str("the name is not resolved yet"),
            Self::Closed => formatter.write_str("Redis closed the connection"),
            Self::Refused(text) | Self::Stranger(text) => formatter.write_str(text),
            Self::Tls(why) => write!(formatter, "TLS: {why}"),
            Self::NoTls(how) => {
                write!(formatter, "TLS: {how}, before both ends had agreed; {}", stranger::SPEAKS_NO_TLS)
            }
            Self::HungUp(how) => write!(formatter, "{how} at the greeting, without a word; {}", stranger::WANTS_TLS),
            Self::Malformed => formatter.write_str("Redis sent what is not RESP"),
            Self::Unexpected => formatter.write_str("Redis answered what was not asked"),
        }
    }
}

impl From<Malformed> for Trouble {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Unexpected> for Trouble {
    fn from(unexpected: Unexpected) -> Self {
        match unexpected {
            Unexpected::Refused(text) => Self::Refused(format!("Redis refused a pop: {}", refusals::explain(&text))),
            Unexpected::Shape => Self::Unexpected,
        }
    }
}
