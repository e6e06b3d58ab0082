//! How long a core looks for what comes next before it sleeps: learned from the waits that it has seen.
//!
//! To wake a CPU that sleeps takes 25 to 50 µs on a virtual machine, and a lone request passes two such sleeps. How long its waits are
//! is a matter of the CPU, of Redis and of the service: 50 µs on one machine, 150 on another. So nobody says how long to look: the
//! last waits are remembered, and it looks for as long as most of them lasted. Where they are too long for that, it does not look at all:
//! whoever asks again as soon as it has its answer is served in half the time, and requests that come at random, whose waits are of any
//! length, cost no more than they must. And where others want the CPU, which shows in a look that took far longer than it should have,
//! looking costs them their time and us our place in the queue: then it is left for a while, for longer each time.
//!
//! What a look saves is one wake-up, so that is what bounds it. How long a wake-up takes shows in how late the core comes back from a
//! sleep until a time: each tick of an idle core is one.

use std::time::Duration;

/// Lengths that are told apart, each longer by the same step.
const LENGTHS: usize = 16;
/// Of so many waits a look may miss the end of one.
const MISSES_ONE_OF: u16 = 16;
/// Waits after which each that is remembered counts half: what a core knows is of a moment ago.
const REMEMBERED: u16 = 128;
/// Waits without a look after one that was disturbed, at first and at most; they double in between.
const PAUSE_WAITS: (u32, u32) = (16, 4096);
/// Looks in a row that must be undisturbed for the next pause to be a short one again.
const CALM_LOOKS: u32 = 256;
/// The CPU time that a look may take, in times of the wake-up that it saves.
const PRICE: u32 = 5;
/// Wake-ups that are remembered. The quickest counts: the longer a CPU has slept, and the more others want it, the longer it takes.
const WAKE_UPS: usize = 16;

/// What has been learned.
#[derive(Debug)]
pub struct Looking {
    /// The longest time that it may look; zero: never.
    most: Duration,
    /// The waits that are remembered, by the shortest look that finds their end; the last are longer than all.
    waits: [u16; LENGTHS + 1],
    /// How long it looks before the next sleep; zero: not at all.
    next: Duration,
    /// Waits that pass without a look.
    paused: u32,
    /// Those of the next pause.
    pause: u32,
    /// Looks since the last that was disturbed.
    calm: u32,
    wake_ups: WakeUps,
}

/// How long the last wake-ups took.
#[derive(Debug, Default)]
struct WakeUps {
    last: [Duration; WAKE_UPS],
    seen: usize,
}

impl WakeUps {
    fn note(&mut self, took: Duration) {
        self.last[self.seen % WAKE_UPS] = took;
        self.seen += 1;
    }

    /// The quickest, where enough are known.
    fn quickest(&self) -> Option<Duration> {
        self.last.into_iter().min().filter(|_| self.seen >= WAKE_UPS)
    }
}

impl Looking {
    /// Nothing is known; it may look for `most`.
    pub fn new(most: Duration) -> Self {
        Self {
            most,
            waits: [0; LENGTHS + 1],
            next: Duration::ZERO,
            paused: 0,
            pause: PAUSE_WAITS.0,
            calm: 0,
            wake_ups: WakeUps::default(),
        }
    }

    /// How long to look before the next sleep.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// The longest time that it may look.
    pub fn most(&self) -> Duration {
        self.most
    }

    /// It has looked, for so long.
    pub fn looked(&mut self, looked: Duration) {
        if looked > self.next * 2 {
            (self.next, self.paused, self.calm) = (Duration::ZERO, self.pause, 0);
            self.pause = (self.pause * 2).min(PAUSE_WAITS.1);
        } else {
            self.calm += 1;
            if self.calm >= CALM_LOOKS {
                (self.pause, self.calm) = (PAUSE_WAITS.0, 0);
            }
        }
    }

    /// It has slept for so long until a time at which nothing had come, and is back so much later. Of a short sleep the CPU hardly
    /// needs to wake up.
    pub fn woke(&mut self, slept: Duration, late: Duration) {
        if slept >= self.most {
            self.wake_ups.note(late);
        }
    }

    /// A wait is over that lasted so long, from the end of a turn to the beginning of the next.
    pub fn waited(&mut self, waited: Duration) {
        if self.most.is_zero() {
            return;
        }
        if self.paused > 0 {
            self.paused -= 1;
            return;
        }
        let steps = (waited.as_nanos() * LENGTHS as u128).div_ceil(self.most.as_nanos());
        self.waits[(steps as usize).clamp(1, LENGTHS + 1) - 1] += 1;
        if self.waits.iter().sum::<u16>() > REMEMBERED {
            self.waits.iter_mut().for_each(|count| *count /= 2);
        }
        let next = self.most * self.steps() / LENGTHS as u32;
        // Until it is known it sleeps: who looks sees no wake-up.
        let pays = self.wake_ups.quickest().is_some_and(|wake_up| next <= wake_up * PRICE);
        self.next = if pays { next } else { Duration::ZERO };
    }

    /// How long to look, in steps.
    fn steps(&self) -> u32 {
        let all: u16 = self.waits.iter().sum();
        let mut found = 0;
        let enough = self.waits[..LENGTHS].iter().position(|count| {
            found += count;
            (all - found) * MISSES_ONE_OF <= all
        });
        enough.map_or(0, |shorter| shorter as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(400);

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// What has learned how long a wake-up takes here.
    fn looking(most: Duration) -> Looking {
        let mut looking = Looking::new(most);
        for _ in 0..WAKE_UPS {
            looking.woke(most, us(100));
        }
        looking
    }

    /// Of waits that repeat in this order: the share of the time that is spent looking, and of the waits that looking ends.
    fn looks(most: Duration, waits: &[Duration]) -> (f64, f64) {
        let mut looking = looking(most);
        let (mut looked, mut passed, mut found, mut count) = (Duration::ZERO, Duration::ZERO, 0_u32, 0_u32);
        for round in 0..200 {
            for &wait in waits {
                if round >= 20 {
                    looked += looking.next().min(wait);
                    passed += wait;
                    found += u32::from(wait <= looking.next());
                    count += 1;
                }
                looking.waited(wait);
            }
        }
        (looked.as_secs_f64() / passed.as_secs_f64(), f64::from(found) / f64::from(count))
    }

    #[test]
    fn short_waits_are_looked_through_whatever_their_length_is_on_this_machine() {
        for wait in [15, 50, 150, 390] {
            assert_eq!(looks(MOST, &[us(wait)]), (1.0, 1.0), "{wait} µs");
            // A request waits for the bus longer than for its client.
            assert_eq!(looks(MOST, &[us(wait), us(wait / 2)]), (1.0, 1.0), "{wait} µs");
        }
    }

    #[test]
    fn waits_that_are_too_long_cost_nothing() {
        for wait in [401, 1_000, 20_000] {
            assert_eq!(looks(MOST, &[us(wait)]), (0.0, 0.0), "{wait} µs");
        }
    }

    #[test]
    fn a_request_now_and_then_costs_no_more_than_its_own_waits() {
        for between in [20_000, 2_000, 500] {
            assert_eq!(looks(MOST, &[us(between), us(150)]), (0.0, 0.0), "{between} µs, and then for the bus");
        }
    }

    #[test]
    fn one_wait_of_many_may_be_long() {
        let mut waits = [us(100); 20];
        waits[7] = us(30_000);
        let (_, found) = looks(MOST, &waits);
        assert!(found > 0.9, "{found}");
    }

    #[test]
    fn it_does_not_look_for_what_comes_at_random() {
        // Waits for clients, and each time for the bus.
        let share = |between: f64| {
            let random = (0..64).map(|at| {
                let wait = -between * (1.0 - (f64::from(at * 37 % 64) + 0.5) / 64.0).ln();
                Duration::from_secs_f64(wait / 1e6)
            });
            looks(MOST, &random.flat_map(|wait| [wait, us(100)]).collect::<Vec<_>>()).0
        };
        assert!(share(500.0) < 0.1, "{}", share(500.0));
        assert!(share(60.0) > 0.9, "{}", share(60.0));
    }

    #[test]
    fn what_has_changed_is_learned_within_some_waits() {
        let mut looking = looking(MOST);
        let waits_until = |looking: &mut Looking, wait: Duration, looks: bool| {
            let learns = (1..1_000).find(|_| {
                looking.waited(wait);
                looking.next().is_zero() != looks
            });
            learns.expect("it learns")
        };
        for _ in 0..1_000 {
            looking.waited(us(20_000));
        }
        let waits = waits_until(&mut looking, us(100), true);
        assert!(waits <= 300, "{waits}");
        let waits = waits_until(&mut looking, us(20_000), false);
        assert!(waits <= 20, "{waits}");
    }

    #[test]
    fn where_others_want_the_cpu_it_looks_ever_more_seldom() {
        let mut looking = looking(MOST);
        let mut looks = Vec::new();
        for _ in 0..20_000 {
            looking.waited(us(50));
            if looking.next() > Duration::ZERO {
                // Others had the CPU for a time slice.
                looking.looked(us(3_000));
                looks.push(looking.paused);
            }
        }
        assert_eq!(looks[..4], [16, 32, 64, 128]);
        assert!(looks.len() < 15, "{looks:?}");
        // They are gone: it looks again, and the next disturbance counts as a first.
        for _ in 0..PAUSE_WAITS.1 + CALM_LOOKS {
            looking.waited(us(50));
            let next = looking.next();
            if next > Duration::ZERO {
                looking.looked(next);
            }
        }
        assert!(looking.next() >= us(50));
        looking.looked(us(3_000));
        assert_eq!(looking.paused, PAUSE_WAITS.0);
    }

    #[test]
    fn a_look_that_takes_longer_than_the_wake_up_is_worth_is_left() {
        let looks = |wait: Duration, slept: Duration, late: &[u64]| {
            let mut looking = Looking::new(MOST);
            for &late in late {
                looking.woke(slept, us(late));
            }
            for _ in 0..1_000 {
                looking.waited(wait);
            }
            !looking.next().is_zero()
        };
        for (wait, wake_up, pays) in
            [(95, 20, true), (45, 20, true), (150, 40, true), (300, 30, false), (390, 100, true)]
        {
            assert_eq!(looks(us(wait), MOST, &[wake_up; WAKE_UPS]), pays, "{wait} µs for {wake_up}");
        }
        assert!(!looks(us(300), MOST, &[[30; 1].as_slice(), &[5_000; WAKE_UPS - 1]].concat()), "others delay some");
        assert!(looks(us(300), MOST, &[[30; WAKE_UPS], [90; WAKE_UPS]].concat()), "the last ones count");
        assert!(!looks(us(50), MOST, &[30; WAKE_UPS - 1]), "too few are known");
        assert!(!looks(us(50), us(20), &[30; 100]), "a short sleep says nothing");
    }

    #[test]
    fn a_core_that_must_not_look_never_does() {
        assert_eq!(looks(Duration::ZERO, &[us(1), us(50)]), (0.0, 0.0));
    }
}
