//! Time: what is due at a tick, and the core's bytes.

use std::rc::Rc;

use super::Oracle;
use super::client::{Client, Pending, Stage};
use super::expect::Expect;
use crate::browser::Frame;
use crate::tally::What;

/// A tick that is so late is the core's fault, ms.
const LATE_MS: u64 = 1_000;

impl Oracle {
    /// A tick; `stages` are those of the product's clients after it.
    pub fn tick(&mut self, stages: &[u8]) {
        let now = self.now;
        let late = now - self.ticked.max(1);
        if self.ticked > 0 && late > LATE_MS {
            self.forgive(late);
        }
        self.ticked = now;
        self.each(|o, c| match c.stage {
            Stage::Handshake if now >= c.accepted + o.rules.handshake_ms => {
                o.tally.one(What::handshake_timeout);
                o.refuse(c, 408);
            }
            Stage::Closing { since, awaits } if now >= since + o.rules.close_ms => {
                o.tally.add(What::close_timeout, usize::from(awaits));
                c.stage = Stage::Gone;
            }
            Stage::Open => o.tick_open(c, stages.get(c.slot as usize) == Some(&2)),
            _ => {}
        });
        if self.gap_closes > 0 {
            self.wrong("a client was closed by the drain that was at no gap");
        }
        self.cut_largest();
    }

    /// What clients owed while the core stood still is not held against them.
    fn forgive(&mut self, late: u64) {
        let now = self.now;
        self.tally.one(What::tick_late);
        if let Some(drain) = &mut self.drain {
            drain.late = true;
        }
        let forgive = |since: &mut u64| *since = (*since + late).min(now);
        for c in self.clients.iter_mut().flatten() {
            c.ping_since.as_mut().map(forgive);
            c.message_since.as_mut().map(forgive);
            match &mut c.stage {
                Stage::Handshake => forgive(&mut c.accepted),
                Stage::Closing { since, .. } => forgive(since),
                Stage::Open | Stage::Gone => {}
            }
        }
    }

    fn tick_open(&mut self, c: &mut Client, product_closes: bool) {
        let now = self.now;
        let rules = Rc::clone(&self.rules);
        let old = |p: &Pending| now >= p.since + if p.connect { rules.connect_ms } else { rules.request_ms };
        let lost = self.fail(c, 503, |_, _, p| p.lost_at.is_some_and(|at| at <= now));
        self.tally.add(What::maybe_lost_503, lost);
        for connect in [true, false] {
            let given_up = self.fail(c, 504, |_, _, p| p.connect == connect && old(p));
            self.tally.add(What::given_up_504, given_up);
        }
        if c.stage != Stage::Open {
            return;
        }
        if let Some(since) = c.gap_since() {
            if self.drain.is_some() {
                if self.at_gap_in_drain(c, since, product_closes) {
                    return;
                }
            } else if rules.idle_ms > 0 && now >= since + rules.idle_ms {
                self.tally.one(What::idle_closed);
                return self.close(c, 1000);
            }
        }
        if c.paused {
            return;
        }
        if c.message_since.is_some_and(|since| now >= since + rules.message_ms) {
            self.tally.one(What::message_timeout);
            self.close(c, 1008);
        } else if let Some(since) = c.ping_since {
            if now >= since + rules.pong_ms {
                self.tally.one(What::pong_timeout);
                self.gone(c);
            }
        } else if now >= c.received + rules.ping_ms {
            self.tally.one(What::ping_sent);
            c.ping_since = Some(now);
            self.put(c, Expect::Exactly(Frame::Ping));
        }
    }

    /// Over `core_bytes_max`, not counting what those hold that are closing: the largest holder is closed.
    fn cut_largest(&mut self) {
        let open = || self.clients.iter().flatten().filter(|c| c.stage == Stage::Open);
        if open().map(Client::held).sum::<usize>() as u64 <= self.rules.core_bytes {
            return;
        }
        let Some(slot) = open().max_by_key(|c| c.held()).map(|c| c.slot) else { return };
        self.tally.one(What::core_bytes_hit);
        self.with(slot, |o, c| {
            o.drop_queued(c);
            o.close(c, 1008);
            if !c.clean {
                // Its half message is given back at once.
                o.tally.one(What::desynced);
                (c.desynced, c.clean) = (true, true);
            }
        });
    }
}
