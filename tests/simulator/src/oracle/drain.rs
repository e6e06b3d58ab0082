//! The end: gaps, the pace, the deadline, a stop.

use super::Oracle;
use super::client::{Client, Stage};
use crate::tally::What;

/// What a close may be late for reasons of ticks and turns, ms.
const SLACK_MS: u64 = 200;

/// The last to be closed go at the shortest spread, ms.
const SHORTEST_MS: u64 = 100;
/// How much faster or slower than the pace a tick may be.
const JITTER: f64 = 0.5;

pub(super) struct Drain {
    quiet: u64,
    /// When half of the time is over, and all of it.
    half: u64,
    deadline: u64,
    /// A tick has found half of the time over.
    is_half_over: bool,
    /// Closes a second; 0 = no limit.
    rate: f64,
    /// Connections at the signal, then at half of the time.
    here: usize,
    /// When clients were closed at their gaps; behind half of the time, since then.
    closes: Vec<u64>,
    /// When the last was, or the drain began.
    closed: u64,
    /// A tick was late, and all that follows may be.
    pub(super) late: bool,
}

impl Drain {
    /// The most closes a second at `now`, the jitter apart: the rate, or what it takes to be through with all by half of the time,
    /// and behind that with all that are left by half of the rest. The first close comes after the quiet time; less than a tenth of
    /// a second is no time to spread anything over, and is left for the last ones.
    fn rate_max(&self, now: u64) -> f64 {
        let gone_by = if self.is_half_over {
            self.half + self.deadline.saturating_sub(self.half) / 2
        } else {
            self.half.saturating_sub(self.quiet + SHORTEST_MS)
        };
        let left = gone_by.saturating_sub(now).max(SHORTEST_MS) as f64 / 1e3;
        self.rate.max(self.here.max(1) as f64 / left)
    }

    /// The last close was one too many: for any time up to it, what the rate allows, and a tenth of a second at once.
    fn is_too_fast(&self) -> bool {
        let Some(&now) = self.closes.last() else { return false };
        let rate = self.rate_max(now);
        self.rate > 0.0
            && self.closes.iter().rev().zip(1..).any(|(&since, closes)| {
                let most = (now - since) as f64 / 1e3 * rate * (1.0 + JITTER);
                f64::from(closes) > (rate / 10.0).max(1.0) + most + 1e-6
            })
    }

    /// When somebody who may be closed from `from` on must have been, or another in its place.
    fn must_close_by(&self, from: u64) -> u64 {
        let turn = if self.rate > 0.0 { (1e3 / self.rate / (1.0 - JITTER)) as u64 } else { 0 };
        from.max(self.closed) + turn + SLACK_MS
    }
}

impl Oracle {
    pub fn begin_drain(&mut self, deadline: u64, rate: f64) {
        let quiet = self.rules.quiet_ms;
        let (began, here) = (self.now, self.clients.iter().flatten().count());
        let half = began + deadline.saturating_sub(began) / 2;
        let (closes, closed) = (Vec::new(), began);
        let (is_half_over, late) = (false, false);
        self.drain = Some(Drain { quiet, half, deadline, is_half_over, rate, here, closes, closed, late });
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

    /// A tick begins: half of the time may be over.
    pub(super) fn look_at_half(&mut self) {
        let (now, here) = (self.now, self.clients.iter().flatten().count());
        if let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_half_over && now >= drain.half) {
            (drain.is_half_over, drain.here) = (true, here);
            drain.closes.clear();
        }
    }

    /// Whether nothing more is read of a client: half of the drain is over, and it neither has a session nor asks for one. A message
    /// that it began before is read to its end.
    pub(super) fn is_silenced(&self, c: &Client) -> bool {
        let is_half_over = self.drain.as_ref().is_some_and(|drain| drain.is_half_over);
        is_half_over && c.stage == Stage::Open && c.sessions() + c.connecting() == 0 && c.message_since.is_none()
    }

    /// All that was relayed for a client of which nothing more is read is answered, and it has the answers.
    fn is_at_forced_gap(&self, c: &Client) -> bool {
        self.is_silenced(c) && c.pending() == 0 && c.backlog.is_empty() && c.is_delivered()
    }

    /// From when on the drain may close a client.
    fn closable_from(&self, c: &Client) -> Option<u64> {
        let drain = self.drain.as_ref()?;
        let forced = self.is_at_forced_gap(c).then_some(drain.half);
        forced.or_else(|| c.gap_since().map(|since| since + drain.quiet))
    }

    /// In a drain: closes a client that may be closed, if the product gave it its turn.
    pub(super) fn close_in_drain(&mut self, c: &mut Client) -> bool {
        let now = self.now;
        if self.gap_closes == 0 || self.closable_from(c).is_none_or(|from| now < from) {
            return false;
        }
        let Some(drain) = &mut self.drain else { return false };
        let is_own = c.gap_since().is_some_and(|since| now >= since + drain.quiet);
        drain.closes.push(now);
        drain.closed = now;
        if drain.is_too_fast() {
            let closes = format!("{:?}", drain.closes);
            self.wrong(format!("the drain closes faster than its pace: at {closes}"));
        }
        self.gap_closes -= 1;
        self.tally.one(What::closed_at_gap);
        self.tally.add(What::closed_at_forced_gap, usize::from(!is_own));
        self.close(c, 1012);
        true
    }

    /// Behind a tick of a drain: whoever is at a gap must have been closed once its turn has come.
    pub(super) fn not_late_in_drain(&mut self, c: &mut Client) {
        let now = self.now;
        let is_forced = self.is_at_forced_gap(c);
        c.forced_since = is_forced.then(|| c.forced_since.unwrap_or(now));
        let own = c.gap_since().map(|since| since.max(c.clean_since));
        let Some(drain) = self.drain.as_ref().filter(|drain| !drain.late) else { return };
        let Some(from) = c.forced_since.or(own.map(|since| since + drain.quiet)) else { return };
        if c.idle_at_drain && now > drain.half + SLACK_MS {
            self.wrong(format!("slot {} was idle at the signal and is open after half of the drain", c.slot));
        } else if now > drain.must_close_by(from) {
            self.wrong(format!("slot {} may be closed since {from}, it would be its turn, and it is open", c.slot));
        }
    }

    fn cut(&mut self, c: &Client) {
        self.tally.one(What::closed_at_deadline);
        self.tally.add(What::cut_in_drain, usize::from(c.is_busy()));
    }

    /// Nobody is cut who has no session, has an answer to all that was relayed, takes what it is sent and was not amid a message at
    /// half of the time: it has not been read from since, and has had half of the time to be closed.
    fn cut_at_deadline(&mut self, c: &Client) {
        let half = self.drain.as_ref().map_or(0, |drain| drain.half);
        let (pending, sessions, _, backlog, _) = c.books();
        let is_amid = !c.clean && c.unclean_since <= half + SLACK_MS;
        let is_late = self.drain.as_ref().is_some_and(|drain| drain.late);
        if pending + sessions + backlog == 0 && c.is_delivered() && !is_amid && !c.had_session && !is_late {
            self.wrong(format!("slot {} is cut, and nothing is under way for it", c.slot));
        }
        self.cut(c);
    }

    pub fn deadline(&mut self) {
        self.each(|o, c| match c.stage {
            Stage::Open if c.gap_since().is_some() || o.is_at_forced_gap(c) => {
                o.tally.one(What::closed_at_gap);
                o.tally.add(What::closed_at_forced_gap, usize::from(c.gap_since().is_none()));
                o.close(c, 1012);
            }
            Stage::Open => {
                o.cut_at_deadline(c);
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
