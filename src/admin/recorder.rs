//! What has been, and what is, as events for the page.

use std::collections::BTreeMap;

use super::View;
use super::history::History;
use super::live::{Ended, Hello, Hit, Now, event};
use super::meter::{Meter, Pace};
use super::status::limit_hits;

/// Records a sample a second.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    meter: Meter,
    history: History,
    /// What each core did in the last second.
    paces: Vec<Pace>,
    /// The limits that were hit.
    hits: BTreeMap<&'static str, Hit>,
}

impl Recorder {
    /// Takes a sample.
    pub(super) fn record(&mut self, view: &View) {
        let View { shared, options, .. } = view;
        if let Some((sample, paces)) = self.meter.read(shared) {
            self.history.push(sample);
            self.paces = paces;
        }
        let log_full = options.log.as_ref().map(|log| log().full);
        for (name, times) in limit_hits(shared, log_full).filter(|&(_, times)| times > 0) {
            if self.hits.get(name).is_none_or(|hit| hit.times != times) {
                self.hits.insert(name, Hit { times, last_at_ms: shared.now_ms() });
            }
        }
    }

    /// What a page is told when it is opened.
    pub(super) fn hello(&self, view: &View, console: Option<String>) -> String {
        event("hello", &Hello::of(view, console, self.history.columns())) + &self.now(view)
    }

    /// How the node does.
    pub(super) fn now(&self, view: &View) -> String {
        event("now", &self.as_of_now(view))
    }

    /// The last that a page is told.
    pub(super) fn ended(&self, view: &View, exit_code: u8) -> String {
        event("ended", &Ended { exit_code, now: self.as_of_now(view) })
    }

    fn as_of_now<'a>(&'a self, view: &'a View) -> Now<'a> {
        Now::of(view, self.history.last().copied(), &self.paces, &self.hits, self.meter.services())
    }
}
