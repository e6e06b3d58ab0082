//! What each service costs its callers: how long it takes and how often it fails. One core writes its own figures, others read.
//!
//! Clients choose what they call a service. Only one that has answered something gets a place, and there are so many of them for the
//! process: first come, first named, which at a site are those that are used most. All others share one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::counters::add;
use crate::histograms::{Histogram, LATENCY, Reading};

/// Services with a place of their own.
pub const NAMED: usize = 32;
/// What all others are called together.
pub const OTHER: &str = "other";
/// Their place.
const OTHERS: u8 = NAMED as u8;

/// The name of each place, for all cores alike: a core's figures can be added to another's.
#[derive(Debug, Default)]
pub struct Names([OnceLock<Box<str>>; NAMED]);

impl Names {
    /// The place of `name`, which gets one if there is one left. Each is written once in the life of the process, and only then could a core
    /// wait for another, for as long as a name is copied.
    fn place(&self, name: &str) -> u8 {
        if name == OTHER {
            return OTHERS;
        }
        let is_its = |place: &OnceLock<Box<str>>| &**place.get_or_init(|| name.into()) == name;
        self.0.iter().position(is_its).map_or(OTHERS, |at| at as u8)
    }

    /// The names that have a place, in the order in which they came.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map_while(|name| name.get().map(|name| &**name))
    }
}

/// The figures of one service on one core.
#[derive(Debug)]
#[repr(align(128))]
struct Figures {
    first: Histogram,
    completion: Histogram,
    failures: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self { first: Histogram::new(&LATENCY), completion: Histogram::new(&LATENCY), failures: AtomicU64::new(0) }
    }
}

/// What has become of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// This is the first that came about it.
    pub is_first: bool,
    /// So many of its REQUESTs have ended.
    pub completed: u32,
    /// So many of those by an error.
    pub failed: u32,
}

/// The figures of all services on one core.
#[derive(Debug)]
pub struct Services {
    names: Arc<Names>,
    /// By place; at the end those of all others.
    figures: Box<[Figures]>,
}

impl Default for Services {
    fn default() -> Self {
        Self::sharing(&Arc::default())
    }
}

/// What one service's callers have seen, on all cores that were asked.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// From relaying an envelope to the first that came about it.
    pub first: Reading,
    /// From relaying an envelope to the end of each of its REQUESTs.
    pub completion: Reading,
    /// REQUESTs that ended with an error.
    pub failures: u64,
}

impl Services {
    /// Nothing has been seen; the places are those of other cores, too.
    pub fn sharing(names: &Arc<Names>) -> Self {
        Self { names: Arc::clone(names), figures: (0..=NAMED).map(|_| Figures::default()).collect() }
    }

    /// The names of the places.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Something has come about an envelope for the service of that place, so long after it was relayed. Only the core may say so.
    pub fn heard(&self, place: Place, outcome: Outcome, after_us: u64) {
        let figures = &self.figures[usize::from(place.0.min(OTHERS))];
        let bucket = LATENCY.bucket(after_us);
        if outcome.is_first {
            figures.first.count_in(bucket, after_us, 1);
        }
        if outcome.completed > 0 {
            figures.completion.count_in(bucket, after_us, outcome.completed.into());
        }
        if outcome.failed > 0 {
            add(&figures.failures, outcome.failed.into());
        }
    }

    /// What `cores`, which share their names, have seen of each service that has a place, and under `None` of all others.
    pub fn seen<'a>(cores: &[&'a Self]) -> Vec<(Option<&'a str>, Seen)> {
        let Some(any) = cores.first() else { return Vec::new() };
        let named = any.names.all().enumerate().map(|(at, name)| (Some(name), at));
        let all = named.chain(std::iter::once((None, NAMED)));
        all.map(|(name, at)| {
            let mut seen = Figures::default().read();
            for core in cores {
                let own = core.figures[at].read();
                seen.first = seen.first.and(&own.first);
                seen.completion = seen.completion.and(&own.completion);
                seen.failures += own.failures;
            }
            (name, seen)
        })
        .collect()
    }
}

impl Figures {
    fn read(&self) -> Seen {
        Seen { first: self.first.read(), completion: self.completion.read(), failures: self.failures.load(Relaxed) }
    }
}

/// Where a service's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u8);

impl Place {
    /// Nobody has looked yet.
    pub const UNKNOWN: Self = Self(u8::MAX);
}

/// The places that a core has looked up, so that it need not compare all names each time.
#[derive(Debug, Default)]
pub struct Places(FxHashMap<Box<str>, Place>);

impl Places {
    /// The place of a service that has answered something.
    pub fn of(&mut self, names: &Names, service: &str) -> Place {
        if let Some(place) = self.0.get(service) {
            return *place;
        }
        let place = Place(names.place(service));
        // What has a place is known for good: there are few of them, however many others clients name.
        if place.0 < OTHERS {
            self.0.insert(service.into(), place);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Outcome = Outcome { is_first: true, completed: 0, failed: 0 };

    #[test]
    fn the_first_services_have_places_of_their_own_and_all_others_share_one() {
        let core = Services::default();
        let mut places = Places::default();
        for _ in 0..2 {
            for at in 0..10_000 {
                let place = places.of(core.names(), &format!("service.{at}"));
                core.heard(place, FIRST, 1);
            }
        }
        let seen = Services::seen(&[&core]);
        assert_eq!(seen.len(), NAMED + 1);
        for (at, (name, seen)) in seen[..NAMED].iter().enumerate() {
            assert_eq!((*name, seen.first.values()), (Some(&*format!("service.{at}")), 2));
        }
        assert_eq!((seen[NAMED].0, seen[NAMED].1.first.values()), (None, 2 * (10_000 - NAMED as u64)));
        assert_eq!(places.0.len(), NAMED, "what has no place is not remembered");
    }

    #[test]
    fn two_cores_have_one_place_for_a_service_whichever_heard_of_it_first() {
        let names = Arc::default();
        let cores = [Services::sharing(&names), Services::sharing(&names)];
        let mut places = [Places::default(), Places::default()];
        for (core, services) in [["a", "b"], ["b", "a"]].into_iter().enumerate() {
            for service in services {
                let outcome = Outcome { is_first: true, completed: 2, failed: 1 };
                cores[core].heard(places[core].of(&names, service), outcome, 1_000);
            }
        }
        for (name, seen) in &Services::seen(&cores.each_ref())[..2] {
            assert!([Some("a"), Some("b")].contains(name));
            assert_eq!((seen.first.values(), seen.completion.values(), seen.failures), (2, 4, 2));
            assert_eq!(seen.first.sum, 2_000);
        }
    }

    #[test]
    fn threads_that_name_services_at_once_agree_about_their_places() {
        let names: Arc<Names> = Arc::default();
        let asked: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let names = &names;
                    scope.spawn(move || {
                        let order = (0..64).map(|at| (at * (2 * thread + 1)) % 64);
                        let mut places = vec![0; 64];
                        order.for_each(|at: usize| places[at] = names.place(&at.to_string()));
                        places
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(asked.iter().all(|places| *places == asked[0]));
        assert_eq!(names.all().count(), NAMED);
    }
}
