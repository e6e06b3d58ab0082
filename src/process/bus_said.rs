//! What the log was told of the links to each bus domain: every link of every core finds the same, again and again, and the log hears of
//! it once for all of them; while it lasts, once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evergate_proto::redis::connection::Half;

/// What lasts is said again after so long, ms.
const AGAIN_MS: u64 = 60_000;
/// Reasons that are said for one domain in that time, before one of its links has been opened.
const REASONS_MAX: usize = 16;

/// Why links cannot be opened.
#[derive(Debug)]
struct Failure {
    /// When it was said last, ms.
    said_ms: u64,
    /// It holds for links that push, for those that pop.
    of: [bool; 2],
}

/// One domain.
#[derive(Debug, Default)]
struct Domain {
    /// A link has been up.
    is_reached: bool,
    /// Why some could not be opened since the last of their kind that could. Several, for a name may have several addresses, and the two
    /// links of a core do not ask for the same.
    failures: BTreeMap<String, Failure>,
    /// What it refused pushes with since it took one, and when that was said last, ms.
    refusal: Option<(String, u64)>,
    /// That its Redis is old.
    lacks_counts: bool,
}

/// All of them. What is asked is whether the log should hear of it.
#[derive(Debug, Default)]
pub struct BusSaid(Mutex<BTreeMap<String, Domain>>);

impl BusSaid {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Domain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link to `domain` cannot be opened.
    pub fn failed(&self, domain: &str, half: Half, why: &str, now_ms: u64) -> bool {
        let mut all = self.all();
        let failures = &mut all.entry(domain.to_owned()).or_default().failures;
        let is_old = |said_ms: u64| now_ms >= said_ms + AGAIN_MS;
        if let Some(failure) = failures.get_mut(why) {
            failure.of[half as usize] = true;
            let says = is_old(failure.said_ms);
            failure.said_ms = if says { now_ms } else { failure.said_ms };
            return says;
        }
        if failures.len() >= REASONS_MAX {
            failures.retain(|_, failure| !is_old(failure.said_ms));
        }
        let says = failures.len() < REASONS_MAX;
        if says {
            let mut failure = Failure { said_ms: now_ms, of: [false; 2] };
            failure.of[half as usize] = true;
            failures.insert(why.to_owned(), failure);
        }
        says
    }

    /// A link to `domain` is open: the word for that, if the log should hear of it. It should once nothing is known any more that the
    /// other kind of links suffers from.
    pub fn opened(&self, domain: &str, half: Half) -> Option<&'static str> {
        let mut all = self.all();
        let said = all.entry(domain.to_owned()).or_default();
        let had_failed = !said.failures.is_empty();
        said.failures.retain(|_, failure| {
            failure.of[half as usize] = false;
            failure.of.contains(&true)
        });
        if !said.failures.is_empty() {
            return None;
        }
        let word = if said.is_reached { "back" } else { "reached" };
        said.is_reached = true;
        had_failed.then_some(word)
    }

    /// The Redis of `domain` refuses pushes.
    pub fn refuses(&self, domain: &str, why: &str, now_ms: u64) -> bool {
        let mut all = self.all();
        let refusal = &mut all.entry(domain.to_owned()).or_default().refusal;
        let says = refusal.as_ref().is_none_or(|(said, said_ms)| said != why || now_ms >= said_ms + AGAIN_MS);
        if says {
            *refusal = Some((why.to_owned(), now_ms));
        }
        says
    }

    /// It takes them again.
    pub fn takes(&self, domain: &str) -> bool {
        self.all().entry(domain.to_owned()).or_default().refusal.take().is_some()
    }

    /// The Redis of `domain` has no `LPOP key n`, which is said once.
    pub fn lacks_counts(&self, domain: &str) -> bool {
        !std::mem::replace(&mut self.all().entry(domain.to_owned()).or_default().lacks_counts, true)
    }
}

#[cfg(test)]
mod tests {
    use super::Half::{Pop, Push};
    use super::*;

    #[test]
    fn the_log_hears_of_a_bus_once_for_all_links_and_again_when_the_error_changes() {
        let said = BusSaid::default();
        assert_eq!(said.opened("a", Push), None, "nothing was said, so nothing is taken back");
        assert!(said.failed("b", Push, "refused", 1) && !said.failed("b", Push, "refused", 1));
        assert!(said.failed("a", Push, "refused", 2), "each domain has its own");
        assert!(said.failed("b", Push, "WRONGPASS", 3) && !said.failed("b", Push, "refused", 3));
        assert_eq!((said.opened("b", Push), said.opened("b", Push)), (Some("reached"), None));
        assert!(said.failed("b", Push, "refused", 4));
        assert_eq!((said.opened("b", Push), said.opened("a", Push)), (Some("back"), Some("back")));
    }

    #[test]
    fn a_bus_is_back_when_links_of_either_kind_are() {
        let said = BusSaid::default();
        assert!(said.failed("a", Push, "refused", 1) && !said.failed("a", Pop, "refused", 1));
        assert_eq!((said.opened("a", Push), said.opened("a", Pop)), (None, Some("reached")));
        assert!(said.failed("a", Pop, "NOPERM", 2));
        assert_eq!((said.opened("a", Push), said.opened("a", Pop)), (None, Some("back")));
    }

    #[test]
    fn a_trouble_that_lasts_is_said_once_a_minute_for_all_cores() {
        let said = BusSaid::default();
        // Four links try again each 100 ms, for ten minutes.
        let times = (0..600_000).step_by(100).flat_map(|now_ms| [now_ms; 4]);
        assert_eq!(times.filter(|&now_ms| said.failed("a", Push, "WRONGPASS", now_ms)).count(), 10);
        assert_eq!(said.opened("a", Push), Some("reached"));
    }

    #[test]
    fn refused_pushes_are_said_once_a_minute_for_all_cores_and_when_they_are_taken_again() {
        let said = BusSaid::default();
        assert!(!said.takes("a"), "nothing was said");
        let times = (0..600_000).step_by(1_000).flat_map(|now_ms| [now_ms; 4]);
        assert_eq!(times.filter(|&now_ms| said.refuses("a", "OOM", now_ms)).count(), 10);
        assert!(said.refuses("a", "READONLY", 600_000) && !said.takes("b"));
        assert_eq!([said.takes("a"), said.takes("a")], [true, false]);
    }

    #[test]
    fn of_reasons_without_end_few_are_said_in_a_minute_and_the_end_of_them_is() {
        let said = BusSaid::default();
        let reasons = |from_ms: u64| {
            let each = (from_ms..from_ms + AGAIN_MS).step_by(10);
            each.filter(|now_ms| said.failed("a", Push, &format!("reason {now_ms}"), *now_ms)).count()
        };
        assert_eq!([reasons(1), reasons(AGAIN_MS + 1), reasons(2 * AGAIN_MS + 1)], [REASONS_MAX; 3]);
        assert_eq!(said.opened("a", Push), Some("reached"));
    }
}
