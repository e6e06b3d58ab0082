//! The course of a drain, as the gateway's own page tells it.

use std::io;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::http;

/// Between two looks at the page.
const PAUSE: Duration = Duration::from_millis(200);

/// What the page says at one moment, over all cores.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Clients that are open.
    pub open: u64,
    /// Those of them that wait for a reply.
    pub waiting: u64,
    /// In a session, with nothing in flight.
    pub in_session: u64,
    /// With a reply that they have not taken.
    pub sending: u64,
    /// Whose messages wait for room on the bus.
    pub without_room: u64,
    /// Closed at a gap so far.
    pub closed: u64,
    /// Cut at the deadline so far.
    pub cut: u64,
    /// Requests that came behind a Close so far.
    pub crossed: u64,
}

/// All that was seen, in order of time.
pub struct Course {
    /// The gateway's page.
    admin: SocketAddr,
    /// What it said.
    pub samples: Vec<Sample>,
    /// Limits that were hit, and how often, the last time that it was asked.
    pub limits: Value,
}

impl Course {
    /// Nothing seen yet.
    pub fn new(admin: SocketAddr) -> Self {
        Self { admin, samples: Vec::new(), limits: Value::Null }
    }

    /// Looks at the page again and again until something holds of it.
    pub fn until(&mut self, what: &str, bound: Duration, holds: impl Fn(&Sample) -> bool) -> io::Result<Sample> {
        let end = Instant::now() + bound;
        loop {
            let next = Instant::now() + PAUSE;
            if let Some(sample) = self.look().filter(|sample| holds(sample)) {
                return Ok(sample);
            }
            if next > end {
                let last = self.samples.last();
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what}: not within {bound:?}; {last:?}")));
            }
            sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Looks at the page again and again until something else has ended.
    pub fn while_not<T>(&mut self, bound: Duration, ended: &mut dyn FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        let end = Instant::now() + bound;
        loop {
            let next = Instant::now() + PAUSE;
            self.look();
            while Instant::now() < next {
                if let Some(ended) = ended()? {
                    return Ok(ended);
                }
                sleep(Duration::from_millis(5));
            }
            if next > end {
                let last = self.samples.last();
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end within {bound:?}; {last:?}")));
            }
        }
    }

    /// Looks once; nothing where nobody answers.
    fn look(&mut self) -> Option<Sample> {
        let at = Instant::now();
        let status: Value = serde_json::from_str(&http(self.admin, "/status")?).ok()?;
        let sum =
            |name: &str| status["cores"].as_array().into_iter().flatten().filter_map(|core| core[name].as_u64()).sum();
        let sample = Sample {
            at,
            open: sum("open"),
            waiting: sum("waiting_for_replies"),
            in_session: sum("in_stateful_session"),
            sending: sum("sending"),
            without_room: sum("waiting_for_room"),
            closed: sum("closed_at_gap"),
            cut: sum("closed_at_deadline"),
            crossed: sum("crossed_close"),
        };
        let limits = status["limits"].as_object().into_iter().flatten();
        self.limits =
            limits.filter(|(_, hits)| **hits != json!(0)).map(|(name, hits)| (name.clone(), hits.clone())).collect();
        self.samples.push(sample);
        Some(sample)
    }
}

/// Seconds from one moment to another; below 0 where that was before.
pub fn seconds_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() - from.saturating_duration_since(to).as_secs_f64()
}
