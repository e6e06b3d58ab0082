//! Has a core failed, or was it not given the time to turn? A decision: no clock, no file, no thread.
//!
//! Only time that the core was given counts: what it ran, and what it slept although its timer was due. What it waited in its
//! CPU's run queue does not, nor what it was stopped, nor what nobody saw. Nobody saw what passed while the watchdog itself did
//! not run; and of a thread that sleeps nobody knows whether its CPU runs at all (a hypervisor may have taken it, and with it
//! the timer) unless another thread has run there.

use std::ops::AddAssign;
use std::time::Duration;

/// How long a core may stand still, of the time that it was given.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(10);
/// One look vouches for so much of what passed since the last, however long ago that was: a machine that was paused shows all of
/// its pause at once, as time asleep or, by some clocks, as time that a thread ran.
const VOUCHED_MAX: Duration = Duration::from_secs(1);

/// What the kernel says a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On a CPU or in its run queue (`R`).
    Runnable,
    /// Waiting for an event or a timer (`S`, `I`).
    Asleep,
    /// Waiting for the host in a way that nothing interrupts: a page from a disk, as a rule (`D`).
    Blocked,
    /// Stopped by a signal or a debugger (`T`, `t`).
    Stopped,
}

/// One look at a core's thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// When it was taken, on the watchdog's own clock.
    pub at: Duration,
    /// When the core's loop turned last, ms.
    pub heartbeat_ms: u64,
    /// How long the thread has run so far.
    pub ran: Duration,
    /// How long it has waited in a run queue so far. The kernel adds a wait when it is over.
    pub queued: Duration,
    /// What it is now; `None` where that was not asked for or cannot be known.
    pub state: Option<State>,
    /// How often a thread that watches the core's CPU has run there; `None` where there is none.
    pub witness: Option<u64>,
}

/// What a core was for most of a standstill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Was {
    /// It ran: one turn took so long.
    Running,
    /// It waited for its CPU.
    Runnable,
    /// It slept, and its timer did not wake it.
    Asleep,
    /// It waited for the host.
    Blocked,
    /// It was stopped, or the watchdog stood still as well: the whole process or host did.
    Paused,
}

impl Was {
    /// Every one, as `Spent` counts them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Runnable, Self::Asleep, Self::Blocked, Self::Paused];

    /// The word for `/metrics`.
    pub fn name(self) -> &'static str {
        ["running", "runnable", "asleep", "blocked", "paused"][self as usize]
    }

    /// What that means, for the log.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Running => "one turn took so long",
            Self::Runnable => "it waited for its CPU, which others had: the host is overloaded",
            Self::Asleep => "it slept",
            Self::Blocked => "it waited for the host: a disk, memory that was swapped out",
            Self::Paused => "it was stopped, or the whole process or host was",
        }
    }
}

/// How the time of a standstill was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent([Duration; Was::ALL.len()]);

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl Spent {
    fn between(last: &Look, look: &Look) -> Self {
        let ran = look.ran.saturating_sub(last.ran);
        let passed = look.at.saturating_sub(last.at);
        // Of a wait that is over, what passed before the last look has been seen already, by the state.
        let queued = look.queued.saturating_sub(last.queued).min(passed);
        let rest = passed.saturating_sub(ran).saturating_sub(queued);
        let seen = rest.min(VOUCHED_MAX);
        let mut spent = Self::default();
        spent.0[Was::Running as usize] = ran;
        spent.0[Was::Runnable as usize] = queued;
        match look.state {
            // It is in the queue, and its wait has not been added yet.
            Some(State::Runnable) => {
                spent.0[Was::Runnable as usize] += seen;
                spent.0[Was::Paused as usize] = rest.saturating_sub(seen);
            }
            Some(State::Blocked) => spent.0[Was::Blocked as usize] = rest,
            Some(State::Stopped) => spent.0[Was::Paused as usize] = rest,
            Some(State::Asleep) | None => {
                spent.0[Was::Asleep as usize] = seen;
                spent.0[Was::Paused as usize] = rest.saturating_sub(seen);
            }
        }
        spent
    }

    fn of(&self, was: Was) -> Duration {
        self.0[was as usize]
    }

    fn mostly(&self) -> Was {
        Was::ALL.into_iter().rev().max_by_key(|&was| self.of(was)).unwrap_or(Was::Paused)
    }
}

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The loop has turned since the last look. What the core was before, for the most part.
    Turns(Was),
    /// It has not turned, and cannot be blamed for it yet. What it was so far.
    Still(Was),
    /// It was given [`STANDSTILL_MAX`] and has not turned. What it was in that time: it ran or slept.
    Failed(Was),
}

/// Judges one core by what is seen of it.
#[derive(Debug, Default)]
pub struct Judge {
    last: Look,
    /// Since the look before the one that saw the loop turn.
    spent: Spent,
    /// Of that, what the core was given.
    given: Duration,
    /// Of what it slept, what its witness has not confirmed yet.
    unconfirmed: Duration,
}

impl Judge {
    /// Judges a core whose thread is about to be started, on a clock that begins now.
    pub fn new(heartbeat_ms: u64) -> Self {
        Self { last: Look { heartbeat_ms, ..Look::default() }, ..Self::default() }
    }

    /// How much time the core was given since its loop last turned.
    pub fn given(&self) -> Duration {
        self.given
    }

    /// Takes a look.
    pub fn look(&mut self, look: Look) -> Verdict {
        let last = std::mem::replace(&mut self.last, look);
        let spent = Spent::between(&last, &look);
        self.spent += spent;
        let was = self.spent.mostly();
        if look.heartbeat_ms != last.heartbeat_ms {
            // When in this time it turned cannot be told: the most of it may belong to the next standstill as well as to the last.
            *self = Self { last: self.last, spent, ..Self::default() };
            return Verdict::Turns(was);
        }
        self.unconfirmed = (self.unconfirmed + spent.of(Was::Asleep)).min(VOUCHED_MAX);
        let is_confirmed = match (last.witness, look.witness) {
            (_, None) => true,
            (Some(before), Some(now)) => now > before,
            (None, Some(_)) => false,
        };
        let slept = if is_confirmed { std::mem::take(&mut self.unconfirmed) } else { Duration::ZERO };
        self.given += (spent.of(Was::Running) + slept).min(VOUCHED_MAX);
        if self.given < STANDSTILL_MAX {
            return Verdict::Still(was);
        }
        // What it was of the time that is held against it: others may have had its CPU for longer.
        let ran = self.spent.of(Was::Running) >= self.spent.of(Was::Asleep);
        Verdict::Failed(if ran { Was::Running } else { Was::Asleep })
    }
}

#[cfg(test)]
mod tests;
