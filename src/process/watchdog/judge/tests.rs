use super::*;

/// How often the watchdog looks.
const LOOK_MS: u64 = 50;

/// A core as the watchdog sees it: each step passes time and says what the core did in it.
#[derive(Default)]
struct Seen {
    judge: Judge,
    at_ms: u64,
    heartbeat_ms: u64,
    ran_ms: u64,
    queued_ms: u64,
    witness: Option<u64>,
}

impl Seen {
    fn look(&mut self, state: State) -> Verdict {
        self.judge.look(Look {
            at: Duration::from_millis(self.at_ms),
            heartbeat_ms: self.heartbeat_ms,
            ran: Duration::from_millis(self.ran_ms),
            queued: Duration::from_millis(self.queued_ms),
            state: Some(state),
            witness: self.witness,
        })
    }

    /// One that has just turned.
    fn turning() -> Self {
        let mut seen = Self::default();
        seen.look(State::Asleep);
        seen
    }

    /// Looks every [`LOOK_MS`] for `seconds`; `step` says what happened in between.
    fn pass(&mut self, seconds: u64, state: State, mut step: impl FnMut(&mut Self)) -> Verdict {
        let mut verdict = Verdict::Still(Was::Paused);
        for _ in 0..seconds * 1_000 / LOOK_MS {
            self.at_ms += LOOK_MS;
            step(self);
            verdict = self.look(state);
        }
        verdict
    }
}

#[test]
fn a_core_that_spins_in_one_turn_has_failed_after_10_s_of_its_cpu() {
    let mut seen = Seen::turning();
    let spin = |seen: &mut Seen| seen.ran_ms += LOOK_MS;
    assert_eq!(seen.pass(9, State::Runnable, spin), Verdict::Still(Was::Running));
    assert_eq!(seen.pass(1, State::Runnable, spin), Verdict::Failed(Was::Running));
}

#[test]
fn a_core_that_spins_for_a_tenth_of_its_cpu_fails_after_ten_times_as_long() {
    let mut seen = Seen::turning();
    let spin = |seen: &mut Seen| {
        seen.ran_ms += LOOK_MS / 10;
        seen.queued_ms += LOOK_MS * 9 / 10;
    };
    assert_eq!(seen.pass(99, State::Runnable, spin), Verdict::Still(Was::Runnable));
    assert_eq!(seen.pass(1, State::Runnable, spin), Verdict::Failed(Was::Running));
}

#[test]
fn a_core_that_sleeps_on_while_its_cpu_runs_others_has_lost_its_wake_up() {
    let mut seen = Seen::turning();
    seen.witness = Some(0);
    let sleep = |seen: &mut Seen| seen.witness = seen.witness.map(|beats| beats + seen.at_ms / LOOK_MS % 2);
    assert_eq!(seen.pass(9, State::Asleep, sleep), Verdict::Still(Was::Asleep));
    assert_eq!(seen.pass(2, State::Asleep, sleep), Verdict::Failed(Was::Asleep));
}

#[test]
fn without_a_witness_the_watchdogs_own_punctuality_must_do() {
    let mut seen = Seen::turning();
    assert_eq!(seen.pass(9, State::Asleep, |_| ()), Verdict::Still(Was::Asleep));
    assert_eq!(seen.pass(1, State::Asleep, |_| ()), Verdict::Failed(Was::Asleep));
}

#[test]
fn a_core_whose_cpu_the_hypervisor_has_taken_is_not_blamed() {
    let mut seen = Seen::turning();
    seen.witness = Some(0);
    assert_eq!(seen.pass(60, State::Asleep, |_| ()), Verdict::Still(Was::Asleep), "its timer cannot fire");
    // The CPU is back: what the witness has not seen does not count.
    seen.witness = Some(1);
    assert_eq!(seen.pass(1, State::Asleep, |_| ()), Verdict::Still(Was::Asleep));
    let mut seen = Seen::turning();
    assert_eq!(seen.pass(60, State::Runnable, |_| ()), Verdict::Still(Was::Runnable), "it was on it");
    seen.ran_ms += 60_000;
    assert_eq!(seen.pass(1, State::Runnable, |_| ()), Verdict::Still(Was::Runnable), "all at once, by some clocks");
}

#[test]
fn a_core_that_waits_in_the_run_queue_is_starved_however_long() {
    // The wait is added when it is over.
    let mut seen = Seen::turning();
    assert_eq!(seen.pass(3_600, State::Runnable, |_| ()), Verdict::Still(Was::Runnable));
    seen.queued_ms += 3_600_000;
    assert_eq!(seen.pass(5, State::Runnable, |_| ()), Verdict::Still(Was::Runnable));
    // Scheduled again and again for a moment, and seen asleep now and then.
    let mut seen = Seen::turning();
    let verdict = seen.pass(60, State::Asleep, |seen| seen.queued_ms += LOOK_MS);
    assert_eq!(verdict, Verdict::Still(Was::Runnable));
}

#[test]
fn a_stopped_process_and_a_paused_host_are_no_failure() {
    for (asleep, ran) in [(60_000, 0), (0, 60_000)] {
        let mut seen = Seen::turning();
        for _ in 0..9 {
            // The watchdog stood still as well; by some clocks the thread that was on the CPU has run all the time.
            seen.at_ms += asleep + ran;
            seen.ran_ms += ran;
            assert!(matches!(seen.look(State::Asleep), Verdict::Still(_)));
        }
        seen.heartbeat_ms += 20;
        let was = if ran > 0 { Was::Running } else { Was::Paused };
        assert_eq!(seen.look(State::Asleep), Verdict::Turns(was));
    }
}

#[test]
fn a_thread_that_a_debugger_holds_or_that_waits_for_a_disk_is_no_failure() {
    let mut seen = Seen::turning();
    assert_eq!(seen.pass(60, State::Stopped, |_| ()), Verdict::Still(Was::Paused));
    let mut seen = Seen::turning();
    assert_eq!(seen.pass(60, State::Blocked, |_| ()), Verdict::Still(Was::Blocked));
}

#[test]
fn a_turn_begins_the_count_anew() {
    let mut seen = Seen::turning();
    for _ in 0..9 {
        assert_eq!(seen.pass(9, State::Runnable, |seen| seen.ran_ms += LOOK_MS), Verdict::Still(Was::Running));
        seen.heartbeat_ms += 9_000;
        assert_eq!(seen.look(State::Runnable), Verdict::Turns(Was::Running));
    }
}

#[test]
fn where_the_kernel_tells_nothing_time_that_the_watchdog_saw_counts() {
    let mut seen = Seen::turning();
    let mut verdict = Verdict::Still(Was::Paused);
    for _ in 0..10_000 / LOOK_MS {
        seen.at_ms += LOOK_MS;
        let at = Duration::from_millis(seen.at_ms);
        let nothing = Duration::ZERO;
        verdict =
            seen.judge.look(Look { at, heartbeat_ms: 0, ran: nothing, queued: nothing, state: None, witness: None });
    }
    assert_eq!(verdict, Verdict::Failed(Was::Asleep));
}

#[test]
fn a_pause_that_begins_just_after_a_turn_is_told_as_one() {
    let mut seen = Seen::turning();
    seen.heartbeat_ms += 20;
    seen.at_ms += 12_000;
    assert_eq!(seen.look(State::Asleep), Verdict::Turns(Was::Paused), "the turn before the pause is seen behind it");
    seen.at_ms += LOOK_MS;
    assert_eq!(seen.look(State::Runnable), Verdict::Still(Was::Paused));
    seen.at_ms += LOOK_MS;
    seen.heartbeat_ms += 12_000;
    assert_eq!(seen.look(State::Asleep), Verdict::Turns(Was::Paused));
}
