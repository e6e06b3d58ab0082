//! The links to one domain, and what is known of its Redis.

use super::connection::{Connection, Half, Known, Stage};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::refusals::Refusals;
use super::silence::Silence;
use super::trip::Trip;
use crate::clients::limits::BusNames;
use crate::counters::LinkState;

/// Bytes that one receive of replies brings at most. It also bounds a turn: what it brought is handed to clients and sent, then the
/// others have their turn before the next.
const REPLIES_BYTES: usize = 64 * 1024;
/// The same of confirmations, which are a few bytes each.
const CONFIRMATIONS_BYTES: usize = 4 * 1024;

/// The links to one domain.
#[derive(Debug)]
pub(super) struct Domain {
    pub push: Connection,
    pub pop: Option<Connection>,
    /// How the two are, for the clients: a link that has ended and is about to be opened again is still what it was.
    pub push_state: LinkState,
    pub pop_state: LinkState,
    /// What waits to be pushed, and what waits for its confirmation.
    pub outbox: Outbox,
    /// The pops under way.
    pub inbox: Inbox,
    /// Whether Redis takes pushes.
    pub refusals: Refusals,
    /// How long Redis has confirmed nothing.
    pub silence: Silence,
    /// How long Redis takes to answer.
    pub trip: Trip,
    /// Why a link could not be opened last, or was given up by Redis.
    pub trouble: String,
    pub known: Known,
    /// When the last batch was written, ms.
    pub wrote_ms: u64,
    /// The confirmations that come next are waited for, not left for later.
    pub listens: bool,
    /// Replies that Redis popped for a link that broke may be lost.
    pub pops_lost: bool,
    /// Since when no pop of this connection has been refused, after one that was, ms; `None`: the last one was not.
    pub pops_refused_ms: Option<u64>,
}

impl Domain {
    /// None is open.
    pub fn new(index: usize, names: &BusNames) -> Self {
        Self {
            push: Self::connection_of(Half::Push),
            pop: (index == 0).then(|| Self::connection_of(Half::Pop)),
            push_state: LinkState::Connecting,
            pop_state: if index == 0 { LinkState::Connecting } else { LinkState::Up },
            outbox: Outbox::default(),
            inbox: Inbox::new(&names.address),
            refusals: Refusals::default(),
            silence: Silence::default(),
            trip: Trip::default(),
            trouble: String::new(),
            known: Known::default(),
            wrote_ms: 0,
            listens: false,
            pops_lost: false,
            pops_refused_ms: None,
        }
    }

    /// A connection that nobody needs yet.
    pub fn connection_of(half: Half) -> Connection {
        Connection::new(if half == Half::Push { CONFIRMATIONS_BYTES } else { REPLIES_BYTES })
    }

    /// Both links, as one state.
    pub fn state(&self) -> LinkState {
        match (self.push_state, self.pop_state) {
            (LinkState::Up, LinkState::Up) => LinkState::Up,
            (LinkState::Away, _) | (_, LinkState::Away) => LinkState::Away,
            _ => LinkState::Connecting,
        }
    }

    /// The connection of one of the two.
    pub fn connection_mut(&mut self, half: Half) -> Option<&mut Connection> {
        match half {
            Half::Push => Some(&mut self.push),
            Half::Pop => self.pop.as_mut(),
        }
    }

    /// Whether the links have been asked for.
    pub fn is_started(&self) -> bool {
        !matches!(self.push.stage, Stage::Off)
    }
}
