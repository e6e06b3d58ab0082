//! How long a core looks for what comes next before it sleeps: learned from the waits that it has seen.
//!
//! To wake a CPU that sleeps takes 25 to 50 µs on a virtual machine, and a lone request passes two such sleeps. How long its waits are
//! is a matter of the CPU, of Redis and of the service: 50 µs on one machine, 150 on another. So nobody says how long to look: as the
//! kernel's halt polling does (`virt/kvm`), the time grows when looking a little longer would have found what came, and shrinks when
//! nothing came for longer than it may ever look. And where others want the CPU, which shows in a look that took far longer than it
//! should have, looking costs them their time and us our place in the queue: then it is left for a while, for longer each time.

use std::time::Duration;

/// The shortest time that is worth looking: less than a wake-up.
const LEAST: Duration = Duration::from_micros(10);
/// Waits without a look after one that was disturbed, at first and at most; they double in between.
const PAUSE_WAITS: (u32, u32) = (16, 4096);
/// Looks in a row that must be undisturbed for the next pause to be a short one again.
const CALM_LOOKS: u32 = 256;

/// What has been learned.
#[derive(Debug)]
pub struct Looking {
    /// The longest time that it may look; zero: never.
    most: Duration,
    /// How long it looks before the next sleep; zero: not at all.
    next: Duration,
    /// Waits that pass without a look.
    paused: u32,
    /// Those of the next pause.
    pause: u32,
    /// Looks since the last that was disturbed.
    calm: u32,
}

impl Looking {
    /// Nothing is known; it may look for `most`.
    pub fn new(most: Duration) -> Self {
        Self { most, next: Duration::ZERO, paused: 0, pause: PAUSE_WAITS.0, calm: 0 }
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

    /// A wait is over that lasted so long, from the end of a turn to the beginning of the next.
    pub fn waited(&mut self, waited: Duration) {
        if self.paused > 0 {
            self.paused -= 1;
        } else if waited > self.most {
            self.next = if self.next >= LEAST * 2 { self.next / 2 } else { Duration::ZERO };
        } else if waited > self.next {
            self.next = (self.next * 2).max(LEAST).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(400);

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// Of waits that repeat in this order: the share of the time that is spent looking, and of the waits that looking ends.
    fn looks(most: Duration, waits: &[Duration]) -> (f64, f64) {
        let mut looking = Looking::new(most);
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
        // Every 20 ms a request, which then waits for the bus.
        let (share, _) = looks(MOST, &[us(20_000), us(150)]);
        assert!(share < 0.01, "{share}");
        let (share, _) = looks(MOST, &[us(2_000), us(150)]);
        assert!(share < 0.1, "{share}");
    }

    #[test]
    fn where_others_want_the_cpu_it_looks_ever_more_seldom() {
        let mut looking = Looking::new(MOST);
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
    fn a_core_that_must_not_look_never_does() {
        assert_eq!(looks(Duration::ZERO, &[us(1), us(50)]), (0.0, 0.0));
    }
}
