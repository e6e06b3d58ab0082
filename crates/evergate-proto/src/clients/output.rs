//! What the pure half wants done: the shell takes it after each call.

use crate::redis::connection::Half;
use crate::redis::outbox::Push;

/// Index into the core's table of clients.
pub type SlotIndex = u32;

/// How loud an event is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something an operator should look at.
    Warn,
    /// Worth a line in a normal log.
    Info,
    /// For the one who looks for something.
    Debug,
}

/// What became of a link to the bus: the log hears of it once for all cores.
#[derive(Debug, PartialEq, Eq)]
pub enum BusNews {
    /// A link is open, and of use.
    Opened {
        /// The index of its domain.
        domain: usize,
        /// Which of the domain's links.
        half: Half,
    },
    /// A link cannot be opened, or only for Redis to refuse what it is for; its name may have to be resolved anew.
    Failed {
        /// The index of its domain.
        domain: usize,
        /// Which of the domain's links.
        half: Half,
        /// Why, with the remedy where one is known.
        text: String,
        /// Redis refused it, or it is no Redis; else it cannot be reached.
        refused: bool,
    },
    /// Redis refuses pushes: told at first, where its word changes, and once a minute while it lasts.
    RefusesPushes {
        /// The index of its domain.
        domain: usize,
        /// In Redis' own words, with the remedy.
        text: String,
    },
    /// It takes them again.
    TakesPushes {
        /// The index of its domain.
        domain: usize,
    },
    /// The Redis of a domain has no `LPOP` with a count.
    LacksCounts {
        /// The index of its domain.
        domain: usize,
    },
}

/// Decisions, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages for the bus, each with the index of its domain.
    pub pushes: Vec<(usize, Push)>,
    /// Clients that have bytes to send and no send in flight.
    pub send: Vec<SlotIndex>,
    /// Clients that are to be looked at before they are judged: what has come of them is read, then
    /// [`Clients::looked`](super::table::Clients::looked) told how much they have yet to acknowledge.
    pub look: Vec<SlotIndex>,
    /// Clients whose sending side is to be shut down: all is sent, the peer's end is awaited.
    pub half_close: Vec<SlotIndex>,
    /// Clients whose connection is over: the socket is to be given back.
    pub hang_up: Vec<SlotIndex>,
    /// Clients that may be read from again.
    pub resume: Vec<SlotIndex>,
    /// Connections that ask whether the process is ready, and whether by HEAD: to be answered.
    pub probes: Vec<(SlotIndex, bool)>,
    /// What became of links.
    pub bus: Vec<BusNews>,
    /// Lines for the log.
    pub events: Vec<(Severity, String)>,
    /// Lines for the activity log, each with its end of line.
    pub activity: String,
}

impl Output {
    /// Queues a log line.
    pub fn log(&mut self, severity: Severity, text: String) {
        self.events.push((severity, text));
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        let Self { pushes, send, look, half_close, hang_up, resume, probes, bus, events, activity } = self;
        pushes.clear();
        probes.clear();
        for slots in [send, look, half_close, hang_up, resume] {
            slots.clear();
        }
        bus.clear();
        events.clear();
        activity.clear();
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.pushes.is_empty()
            && self.send.is_empty()
            && self.look.is_empty()
            && self.half_close.is_empty()
            && self.hang_up.is_empty()
            && self.resume.is_empty()
            && self.probes.is_empty()
            && self.bus.is_empty()
            && self.events.is_empty()
            && self.activity.is_empty()
    }
}
