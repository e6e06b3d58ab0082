//! The end: gaps, the pace, the deadline, a stop.

use super::Oracle;
use super::client::{Client, Stage};
use crate::tally::What;

/// What a close may be late for reasons of ticks and turns, ms.
const SLACK_MS: u64 = 200;

pub(super) struct Drain {
    quiet: u64,
    /// When half of the time is over.
    half: u64,
    /// Closes a second; 0 = no limit.
    rate: f64,
    began: u64,
    /// Connections at the signal.
    here: usize,
    /// When clients were closed at their gaps.
    closes: Vec<u64>,
    /// A tick was late, and all that follows may be.
    pub(super) late: bool,
}

impl Drain {
    /// The most closes a second at `now`: the rate, or what it takes to be through with all by half of the time. The
    /// first close comes after the quiet time; less than a tenth of a second is no time to spread anything over.
    fn rate_max(&self, now: u64) -> f64 {
        let left = self.half.saturating_sub(self.quiet + now).max(100) as f64 / 1e3;
        self.rate.max(self.here as f64 / left)
    }

    /// The last close was one too many: for any time up to it, what the rate allows, and a tenth of a second at once.
    fn is_too_fast(&self) -> bool {
        let Some(&now) = self.closes.last() else { return false };
        let rate = self.rate_max(now);
        self.rate > 0.0
            && self.closes.iter().rev().zip(1..).any(|(&since, closes)| {
                f64::from(closes) > (rate / 10.0).max(1.0) + (now - since) as f64 / 1e3 * rate + 1e-6
            })
    }

    /// When somebody who is at a gap since `since` must have been closed, or another in its place.
    fn must_close_by(&self, since: u64) -> u64 {
        let turn = if self.rate > 0.0 { (1e3 / self.rate) as u64 } else { 0 };
        (since + self.quiet).max(self.closes.last().copied().unwrap_or(self.began)) + turn + SLACK_MS
    }
}

impl Oracle {
    pub fn begin_drain(&mut self, quiet: u64, deadline: u64, rate: f64) {
        let (began, here) = (self.now, self.clients.iter().flatten().count());
        let half = began + deadline.saturating_sub(began) / 2;
        self.drain = Some(Drain { quiet, half, rate, began, here, closes: Vec::new(), late: false });
        self.tally.one(What::drain);
        let busy = self.clients.iter().flatten().any(|c| c.pending() > 0);
        self.tally.add(What::drain_with_requests, usize::from(busy));
        for c in self.clients.iter_mut().flatten() {
            c.idle_at_drain = c.gap_since().is_some();
        }
    }

    /// Whoever is left stays.
    pub fn cancel_drain(&mut self) {
        self.drain = None;
        for c in self.clients.iter_mut().flatten() {
            c.idle_at_drain = false;
        }
    }

    /// A client is at a gap: it is closed if that has been quiet for long enough and the product gave it its turn.
    pub(super) fn at_gap_in_drain(&mut self, c: &mut Client, since: u64) -> bool {
        let now = self.now;
        let Some(drain) = &mut self.drain else { return false };
        if now >= since + drain.quiet && self.gap_closes > 0 {
            drain.closes.push(now);
            let too_fast = drain.is_too_fast();
            if too_fast {
                let closes = format!("{:?}", drain.closes);
                self.wrong(format!("the drain closes faster than its pace: at {closes}"));
            }
            self.gap_closes -= 1;
            self.tally.one(What::closed_at_gap);
            self.close(c, 1012);
            return true;
        }
        false
    }

    /// Behind a tick of a drain: whoever is at a gap must have been closed once its turn has come.
    pub(super) fn not_late_in_drain(&mut self, c: &Client, since: u64) {
        let now = self.now;
        let Some(drain) = &self.drain else { return };
        if !drain.late {
            if c.idle_at_drain && now > drain.half + SLACK_MS {
                self.wrong(format!("slot {} was idle at the signal and is open after half of the drain", c.slot));
            } else if now > drain.must_close_by(since.max(c.clean_since)) {
                self.wrong(format!("slot {} is at a gap since {since}, it would be its turn, and it is open", c.slot));
            }
        }
    }

    fn cut(&mut self, c: &Client) {
        self.tally.one(What::closed_at_deadline);
        self.tally.add(What::cut_in_drain, usize::from(c.is_busy()));
    }

    pub fn deadline(&mut self) {
        self.each(|o, c| match c.stage {
            Stage::Open if c.gap_since().is_some() => {
                o.tally.one(What::closed_at_gap);
                o.close(c, 1012);
            }
            Stage::Open => {
                o.cut(c);
                o.close(c, 1001);
            }
            Stage::Closing { .. } if !c.is_delivered() => o.cut(c),
            Stage::Handshake => o.refuse(c, 503),
            _ => {}
        });
    }

    pub fn stop(&mut self, code: u16, draining: bool) {
        self.tally.one(if draining { What::stop_in_drain } else { What::stop });
        self.each(|o, c| match c.stage {
            Stage::Open => {
                if draining && c.gap_since().is_none() {
                    o.cut(c);
                }
                o.close(c, code);
            }
            Stage::Handshake => o.refuse(c, 503),
            Stage::Closing { .. } if draining && !c.is_delivered() => o.cut(c),
            _ => {}
        });
    }
}
