//! The life of a core: it follows the process, and says what is to be done next.

use crate::drain::DrainOptions;

/// How long the links may take to confirm the last of what they were given, ms; and when the drain's time is over, ms.
const LINKS_MAX_MS: u64 = 1_000;
const LINKS_LATE_MAX_MS: u64 = 100;

/// The life of the process, in order. It goes back only where a drain is cancelled, from draining to serving. Readiness, systemd,
/// `/status` and the logs derive from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Options read, sockets bound, cores started; nobody is taken yet. The bus may not have been reached; a successor waits for that.
    Starting = 0,
    /// Clients are taken and served.
    Serving = 1,
    /// SIGUSR1 came: no new clients once the grace is over; each connection ends at its idle gap, all at the deadline.
    Draining = 2,
    /// SIGTERM or SIGINT came, a core failed, or the drain is done: connections are closed and the process ends.
    Stopping = 3,
}

impl Phase {
    /// Every phase, in its order.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Stopping];

    /// The word for `/status` and the logs.
    pub fn name(self) -> &'static str {
        ["starting", "serving", "draining", "stopping"][self as usize]
    }
}

/// What the process wants of its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Where the process stands.
    pub phase: Phase,
    /// Which drain is under way: no two have the same number; 0 while there is none.
    pub drain: u32,
    /// When the cores close their listener shares, ms.
    pub drain_start_ms: u64,
    /// When the drain's time is over, ms.
    pub drain_deadline_ms: u64,
    /// The WebSocket close code of a stop.
    pub stop_code: u16,
    /// Listeners that others have, too, and go on with: what is queued there is theirs.
    pub left: Left,
}

/// Some of the process' listeners, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left(u64);

impl Left {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// Those of these numbers, which are below 64.
    pub fn of(numbers: impl IntoIterator<Item = u8>) -> Self {
        Self(numbers.into_iter().fold(0, |bits, number| bits | 1 << number))
    }

    /// A bit for each.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Those whose bits are set.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether the listener of that number is one of them.
    pub fn contains(self, number: u8) -> bool {
        self.0 >> number & 1 > 0
    }
}

impl Orders {
    /// Clients are served, and nothing else is wanted.
    #[cfg(any(test, feature = "simulator"))]
    pub const SERVING: Self = Self {
        phase: Phase::Serving,
        drain: 0,
        drain_start_ms: 0,
        drain_deadline_ms: 0,
        stop_code: 1001,
        left: Left::NONE,
    };

    /// The drain that is under way, by its number; 0 where there is none.
    fn drains(&self) -> u32 {
        if self.phase == Phase::Draining { self.drain } else { 0 }
    }
}

/// A core's share of the listening port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Connections are taken.
    Open,
    /// It is being closed, and more is established than there are descriptors for: the rest is taken as clients leave.
    Crowded,
    /// The port is given up.
    Closed,
}

/// What a core must know of how it is to end.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleOptions {
    /// Of a drain: closes a second on this core; 0 = no limit.
    pub closes_per_second: f64,
    /// How long a closing client may stay beyond a drain's deadline, ms.
    pub close_timeout_ms: u64,
    /// How long a stop may take, ms.
    pub stop_max_ms: u64,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Nothing, for now.
    Wait,
    /// Connections are to be taken from the listening sockets that the process has for this core.
    OpenListener,
    /// The share of the port is to be closed: what is established is taken.
    CloseListener,
    /// Clients end at their gaps from now on.
    BeginDrain(DrainOptions),
    /// Whoever is left stays.
    CancelDrain,
    /// The drain's time is over: all that are left are told.
    DrainDeadline,
    /// Everybody is told.
    Stop {
        /// The close code.
        code: u16,
        /// Whether it overtakes a drain.
        draining: bool,
    },
    /// The core ends.
    End {
        /// So long the links may take for the last that they were given, ms.
        links_max_ms: u64,
    },
}

/// Where the core itself stands.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No connection is taken.
    Starting,
    Serving,
    /// The listener share is closed; clients end at their gaps.
    Draining {
        /// Its number.
        drain: u32,
        deadline_passed: bool,
    },
    /// Everybody has been told; the core ends when they are gone, at the latest then, ms.
    Stopping {
        until_ms: u64,
    },
    Ended,
}

/// The life of one core.
#[derive(Debug)]
pub struct Lifecycle {
    options: LifecycleOptions,
    stage: Stage,
}

impl Lifecycle {
    /// A core that takes nobody yet.
    pub fn new(options: LifecycleOptions) -> Self {
        Self { options, stage: Stage::Starting }
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining { .. })
    }

    /// The drain in which nobody is left on this core, by its number; 0 where somebody is, or may come.
    pub fn drained(&self, listener: Listener, is_empty: bool) -> u32 {
        match self.stage {
            Stage::Draining { drain, .. } if is_empty && listener == Listener::Closed => drain,
            _ => 0,
        }
    }

    /// What is to be done at `now_ms`, given what the process wants, how the listener is, and whether clients are left. To be asked
    /// again behind each step until there is none.
    pub fn next(&mut self, now_ms: u64, orders: &Orders, listener: Listener, is_empty: bool) -> Step {
        match self.stage {
            Stage::Starting if orders.phase != Phase::Starting => {
                self.stage = Stage::Serving;
                Step::OpenListener
            }
            Stage::Serving | Stage::Draining { .. } if orders.phase == Phase::Stopping => {
                if listener == Listener::Open {
                    return Step::CloseListener;
                }
                self.stage = Stage::Stopping { until_ms: now_ms + self.options.stop_max_ms };
                Step::Stop { code: orders.stop_code, draining: orders.drain > 0 }
            }
            Stage::Serving if orders.drains() > 0 && now_ms >= orders.drain_start_ms => {
                if listener == Listener::Open {
                    return Step::CloseListener;
                }
                self.stage = Stage::Draining { drain: orders.drain, deadline_passed: false };
                Step::BeginDrain(DrainOptions {
                    deadline_ms: orders.drain_deadline_ms,
                    closes_per_second: self.options.closes_per_second,
                })
            }
            // Cancelled; another may have begun since.
            Stage::Draining { drain, .. } if orders.drains() != drain => {
                self.stage = Stage::Starting;
                Step::CancelDrain
            }
            Stage::Draining { drain, deadline_passed } => {
                if now_ms >= orders.drain_deadline_ms + self.options.close_timeout_ms {
                    self.end(LINKS_LATE_MAX_MS)
                } else if !deadline_passed && now_ms >= orders.drain_deadline_ms {
                    self.stage = Stage::Draining { drain, deadline_passed: true };
                    Step::DrainDeadline
                } else {
                    // One that is empty waits for the others: the drain may be cancelled yet.
                    Step::Wait
                }
            }
            Stage::Stopping { until_ms } if is_empty || now_ms >= until_ms => self.end(LINKS_MAX_MS),
            _ => Step::Wait,
        }
    }

    fn end(&mut self, links_max_ms: u64) -> Step {
        self.stage = Stage::Ended;
        Step::End { links_max_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: LifecycleOptions =
        LifecycleOptions { closes_per_second: 0.0, close_timeout_ms: 2_000, stop_max_ms: 5_000 };
    const SERVES: Orders = Orders::SERVING;
    const DRAINS: Orders =
        Orders { phase: Phase::Draining, drain: 1, drain_start_ms: 1_000, drain_deadline_ms: 10_000, ..SERVES };
    const STOPS: Orders = Orders { phase: Phase::Stopping, ..DRAINS };

    fn serving() -> Lifecycle {
        let mut life = Lifecycle::new(OPTIONS);
        assert_eq!(life.next(1, &SERVES, Listener::Closed, true), Step::OpenListener);
        life
    }

    fn draining() -> Lifecycle {
        let mut life = serving();
        assert!(matches!(life.next(1_000, &DRAINS, Listener::Closed, false), Step::BeginDrain(_)));
        life
    }

    #[test]
    fn nobody_is_taken_before_the_process_serves() {
        let mut life = Lifecycle::new(OPTIONS);
        let starts = Orders { phase: Phase::Starting, ..SERVES };
        assert_eq!(life.next(500, &starts, Listener::Closed, true), Step::Wait);
        assert_eq!(life.next(500, &SERVES, Listener::Closed, true), Step::OpenListener);
        assert_eq!(life.next(500, &SERVES, Listener::Open, true), Step::Wait);
    }

    #[test]
    fn a_core_that_is_told_to_end_before_it_has_served_takes_who_is_queued_first() {
        for orders in [DRAINS, STOPS] {
            let mut life = Lifecycle::new(OPTIONS);
            assert_eq!(life.next(1_000, &orders, Listener::Closed, true), Step::OpenListener);
            assert_eq!(life.next(1_000, &orders, Listener::Open, true), Step::CloseListener);
        }
    }

    #[test]
    fn a_core_serves_through_the_grace_then_closes_its_share_then_drains() {
        let mut life = serving();
        assert_eq!(life.next(500, &SERVES, Listener::Open, true), Step::Wait);
        assert_eq!(life.next(999, &DRAINS, Listener::Open, true), Step::Wait);
        assert_eq!(life.next(1_000, &DRAINS, Listener::Open, true), Step::CloseListener);
        let options = DrainOptions { deadline_ms: 10_000, closes_per_second: 0.0 };
        assert_eq!(life.next(1_000, &DRAINS, Listener::Closed, true), Step::BeginDrain(options));
        assert_eq!(life.next(1_000, &DRAINS, Listener::Closed, true), Step::Wait, "the others may not be empty");
        assert!(matches!(life.next(1_000, &STOPS, Listener::Closed, true), Step::Stop { draining: true, .. }));
        assert_eq!(life.next(1_000, &STOPS, Listener::Closed, true), Step::End { links_max_ms: LINKS_MAX_MS });
        assert_eq!(life.next(9_000, &STOPS, Listener::Closed, true), Step::Wait, "it has ended");
    }

    #[test]
    fn a_core_is_drained_with_its_last_client_unless_more_are_established() {
        let mut life = draining();
        assert_eq!(life.next(2_000, &DRAINS, Listener::Closed, false), Step::Wait);
        let drained = [(Listener::Closed, false), (Listener::Crowded, true), (Listener::Closed, true)];
        assert_eq!(drained.map(|(listener, is_empty)| life.drained(listener, is_empty)), [0, 0, 1]);
        assert_eq!(serving().drained(Listener::Closed, true), 0);
    }

    #[test]
    fn a_cancelled_drain_lets_everybody_stay_and_the_share_be_opened_again() {
        let mut life = draining();
        let serves = Orders { drain: 0, ..SERVES };
        assert_eq!(life.next(2_000, &serves, Listener::Closed, false), Step::CancelDrain);
        assert_eq!(life.next(2_000, &serves, Listener::Closed, false), Step::OpenListener);
        assert_eq!(life.next(2_000, &serves, Listener::Open, false), Step::Wait);
        assert_eq!(life.next(2_000, &DRAINS, Listener::Open, false), Step::CloseListener, "and drained again");
    }

    #[test]
    fn a_drain_that_was_cancelled_in_its_grace_is_as_if_it_had_not_been() {
        let mut life = serving();
        assert_eq!(life.next(999, &DRAINS, Listener::Open, false), Step::Wait);
        assert_eq!(life.next(2_000, &SERVES, Listener::Open, false), Step::Wait);
        // As a core may see it that looks while the orders change.
        assert_eq!(life.next(2_000, &Orders { drain: 0, ..DRAINS }, Listener::Open, false), Step::Wait);
    }

    #[test]
    fn a_drain_that_follows_a_cancelled_one_before_the_core_has_looked_is_another() {
        let mut life = draining();
        let again = Orders { drain: 2, drain_start_ms: 3_000, ..DRAINS };
        assert_eq!(life.next(3_000, &again, Listener::Closed, true), Step::CancelDrain);
        assert_eq!(life.drained(Listener::Closed, true), 0);
        assert_eq!(life.next(3_000, &again, Listener::Closed, true), Step::OpenListener);
        assert_eq!(life.next(3_000, &again, Listener::Open, true), Step::CloseListener);
        assert!(matches!(life.next(3_000, &again, Listener::Closed, true), Step::BeginDrain(_)));
        assert_eq!(life.drained(Listener::Closed, true), 2);
    }

    #[test]
    fn at_the_deadline_all_are_told_once_and_the_core_ends_when_they_have_had_time_to_close() {
        let mut life = draining();
        assert_eq!(life.next(9_999, &DRAINS, Listener::Closed, false), Step::Wait);
        assert_eq!(life.next(10_000, &DRAINS, Listener::Closed, false), Step::DrainDeadline);
        assert_eq!(life.next(10_000, &DRAINS, Listener::Closed, false), Step::Wait);
        assert_eq!(life.next(12_000, &DRAINS, Listener::Crowded, false), Step::End { links_max_ms: LINKS_LATE_MAX_MS });
    }

    #[test]
    fn a_stop_closes_the_share_tells_everybody_and_ends_in_its_time_also_in_the_middle_of_a_drain() {
        for (mut life, listener) in [(serving(), Listener::Open), (draining(), Listener::Crowded)] {
            if listener == Listener::Open {
                assert_eq!(life.next(2_000, &STOPS, listener, false), Step::CloseListener);
            }
            let stop = Step::Stop { code: 1001, draining: true };
            assert_eq!(life.next(2_000, &STOPS, Listener::Crowded, false), stop);
            assert_eq!(life.next(6_999, &STOPS, Listener::Closed, false), Step::Wait);
            assert_eq!(life.next(7_000, &STOPS, Listener::Closed, false), Step::End { links_max_ms: LINKS_MAX_MS });
        }
    }
}
