//! What the log was told of the links to each bus domain: every link of every core finds the same, again and again, and the log hears of
//! it once for all of them; while it lasts, once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What lasts is said again after so long, ms.
const AGAIN_MS: u64 = 60_000;
/// Reasons that are said for one domain in that time, before one of its links has been opened.
const REASONS_MAX: usize = 16;

/// One domain.
#[derive(Debug, Default)]
struct Domain {
    /// A link has been up.
    is_reached: bool,
    /// Why one could not be opened since the last one that could, and when each reason was said last, ms. Several, for a name may have
    /// several addresses, and the two links of a core do not ask for the same.
    failures: BTreeMap<String, u64>,
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
    pub fn failed(&self, domain: &str, why: &str, now_ms: u64) -> bool {
        let mut all = self.all();
        let failures = &mut all.entry(domain.to_owned()).or_default().failures;
        let is_old = |said_ms: u64| now_ms >= said_ms + AGAIN_MS;
        if failures.get(why).is_some_and(|&said_ms| !is_old(said_ms)) {
            return false;
        }
        if failures.len() >= REASONS_MAX {
            failures.retain(|_, said_ms| !is_old(*said_ms));
        }
        let says = failures.len() < REASONS_MAX;
        if says {
            failures.insert(why.to_owned(), now_ms);
        }
        says
    }

    /// A link to `domain` is open: the word for that, if the log should hear of it.
    pub fn opened(&self, domain: &str) -> Option<&'static str> {
        let mut all = self.all();
        let said = all.entry(domain.to_owned()).or_default();
        let word = if said.is_reached { "back" } else { "reached" };
        said.is_reached = true;
        (!std::mem::take(&mut said.failures).is_empty()).then_some(word)
    }

    /// The Redis of `domain` has no `LPOP key n`, which is said once.
    pub fn lacks_counts(&self, domain: &str) -> bool {
        !std::mem::replace(&mut self.all().entry(domain.to_owned()).or_default().lacks_counts, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_a_bus_once_for_all_links_and_again_when_the_error_changes() {
        let said = BusSaid::default();
        assert_eq!(said.opened("a"), None, "nothing was said, so nothing is taken back");
        assert!(said.failed("b", "refused", 1) && !said.failed("b", "refused", 1));
        assert!(said.failed("a", "refused", 2), "each domain has its own");
        assert!(said.failed("b", "WRONGPASS", 3) && !said.failed("b", "refused", 3));
        assert_eq!((said.opened("b"), said.opened("b")), (Some("reached"), None));
        assert!(said.failed("b", "refused", 4));
        assert_eq!((said.opened("b"), said.opened("a")), (Some("back"), Some("back")));
    }

    #[test]
    fn a_trouble_that_lasts_is_said_once_a_minute_for_all_cores() {
        let said = BusSaid::default();
        // Four links try again each 100 ms, for ten minutes.
        let times = (0..600_000).step_by(100).flat_map(|now_ms| [now_ms; 4]);
        assert_eq!(times.filter(|&now_ms| said.failed("a", "WRONGPASS", now_ms)).count(), 10);
        assert_eq!(said.opened("a"), Some("reached"));
    }

    #[test]
    fn of_reasons_without_end_few_are_said_in_a_minute_and_the_end_of_them_is() {
        let said = BusSaid::default();
        let reasons = |from_ms: u64| {
            let each = (from_ms..from_ms + AGAIN_MS).step_by(10);
            each.filter(|now_ms| said.failed("a", &format!("reason {now_ms}"), *now_ms)).count()
        };
        assert_eq!([reasons(1), reasons(AGAIN_MS + 1), reasons(2 * AGAIN_MS + 1)], [REASONS_MAX; 3]);
        assert_eq!(said.opened("a"), Some("reached"));
    }
}
