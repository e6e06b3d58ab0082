//! One connection to a Redis: where it stands.

use super::greeting::Greeting;
use super::input::Input;

/// Which of the two links of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Half {
    /// Pushes.
    Push,
    /// Pops the core's own list.
    Pop,
}

impl Half {
    /// What it does, for the log.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Push => "pushes to",
            Self::Pop => "pops from",
        }
    }
}

/// What was known of a Redis before an attempt to connect: the two links of a domain connect side by side, and a restart that the
/// other has found is not found twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The highest number that it has given to a connection of ours.
    pub id: i64,
    /// How often it was seen to have restarted.
    pub restarts: u32,
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nobody needs it, or the core ends.
    Off,
    /// The next attempt is due then, ms.
    Waiting { until_ms: u64 },
    /// It is being opened, and given up then, ms.
    Connecting { until_ms: u64, known: Known },
    /// Somebody is there, and both ends are yet to agree on TLS; given up then, ms.
    Agreeing { until_ms: u64, known: Known },
    /// The greeting is under way, by TLS or not, and given up then, ms.
    Greeting { until_ms: u64, known: Known, is_sealed: bool, greeting: Box<Greeting> },
    /// It is of use, since then, ms.
    Up { since_ms: u64 },
}

/// A connection, over all its attempts.
#[derive(Debug)]
pub(super) struct Connection {
    pub stage: Stage,
    /// Counts the attempts: what is told of an earlier one is of no interest.
    pub generation: u32,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// The wait after the next that fails, ms.
    pub backoff_ms: u64,
    /// One of its attempts was of use.
    pub has_been_up: bool,
    /// What was received.
    pub input: Input,
    /// Bytes that are to be sent first: the greeting.
    pub greets: Vec<u8>,
    /// Something is being sent.
    pub is_sending: bool,
}

impl Connection {
    /// One that nobody needs yet; a receive brings so many bytes at most.
    pub fn new(receive_bytes: usize) -> Self {
        Self {
            stage: Stage::Off,
            generation: 0,
            failures: 0,
            backoff_ms: 0,
            has_been_up: false,
            input: Input::new(receive_bytes),
            greets: Vec::new(),
            is_sending: false,
        }
    }

    /// Whether it is of use.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
    }

    /// Whether there is a socket.
    pub fn has_socket(&self) -> bool {
        matches!(
            self.stage,
            Stage::Connecting { .. } | Stage::Agreeing { .. } | Stage::Greeting { .. } | Stage::Up { .. }
        )
    }
}
