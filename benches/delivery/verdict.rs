//! Whether what a client got is what it was owed.

use std::fmt;

use crate::case::{Behaviour, Path, Way};
use crate::demo::STOP_MAX;
use crate::player::Outcome;
use crate::slow::End;

/// The gateway must have named each.
pub const GIVEN_UP: &str = "given up while closing (close_timeout_seconds)";

/// The judgement of one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came, then the Close that was to be expected, then the end.
    Whole,
    /// Not everything came, and the rule allows it.
    CutByRule(&'static str),
    /// Something that was owed is missing.
    Lost(&'static str),
    /// A reset: also where nothing is missing, for the next time it would be.
    Reset,
}

impl Verdict {
    /// Judges an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { case, is_whole, asked, answered, code, end, .. } = *outcome;
        let half_closing = case.behaviour == Behaviour::HalfClosing;
        // nginx takes from its kernel in leaps, two seconds and more apart, in which nothing is acknowledged.
        if case.behaviour == Behaviour::Closing && case.path != Path::Direct && !is_whole && end == Some(End::Fin) {
            return Self::CutByRule(GIVEN_UP);
        }
        if half_closing && case.path != Path::Direct && !is_whole {
            return Self::CutByRule("nginx ends a client that half-closes");
        }
        // What counts is the proxy's acknowledgement: it has all of the reply, and the pong comes behind what it still holds.
        if case.way == Way::Alive && case.path != Path::Direct && is_whole && code.is_none() && end == Some(End::Fin) {
            return Self::CutByRule("nginx has acknowledged it all, and the pong comes behind what it holds");
        }
        // What is late is cut; the process is gone then, and what is sent to it brings a reset.
        if case.way == Way::Stop && !is_whole && case.time() + case.time() / 10 > STOP_MAX {
            return Self::CutByRule("stop_max_seconds");
        }
        if end == Some(End::Reset) {
            return Self::Reset;
        }
        if !is_whole {
            return Self::Lost("the reply is not whole");
        }
        if end.is_none() {
            return Self::Lost("no end of the connection");
        }
        // The client's own Close may cross the gateway's.
        let is_echo = case.behaviour == Behaviour::Closing && code == Some(1000);
        if code != Some(case.way.code()) && !is_echo && !(half_closing && code.is_none()) {
            return Self::Lost("not the Close that was due");
        }
        // Where the gateway closes a request may cross its Close: `crossed_close` counts those.
        if answered < asked && case.way == Way::Alive {
            return Self::Lost("a request without its answer");
        }
        Self::Whole
    }

    /// Whether the gateway kept its promise.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Whole | Self::CutByRule(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => formatter.write_str("whole"),
            Self::CutByRule(rule) => write!(formatter, "cut by rule: {rule}"),
            Self::Lost(what) => write!(formatter, "LOST: {what}"),
            Self::Reset => formatter.write_str("RESET"),
        }
    }
}
