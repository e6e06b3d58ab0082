//! Time: what is due at a tick, and the core's bytes.

use std::rc::Rc;

use evergate_proto::clients::output::SlotIndex;

use super::client::{Client, Pending, Stage};
use super::expect::Expect;
use super::{Oracle, Rules};
use crate::browser::Frame;
use crate::tally::What;

/// What the core may take to find out that a reply has arrived, ms: without a drain nothing waits for it.
const UNDRAINED_LOOK_MS: u64 = 1_000 + 2 * TICK_MS;
/// How often one that is closing is looked at, with the tick that does it, ms.
const LOOK_MS: u64 = 100 + 2 * TICK_MS;
/// The core's tick, ms.
const TICK_MS: u64 = 20;
/// A tick that is so late is the core's fault, ms.
const LATE_MS: u64 = 1_000;

impl Oracle {
    /// A tick: what needs no look. `asked`: whom the product looks at next.
    pub fn tick(&mut self, asked: &[SlotIndex]) {
        self.asked = asked.to_vec();
        let now = self.now;
        let late = now - self.ticked.max(1);
        if self.ticked > 0 && late > LATE_MS {
            self.forgive(late);
        }
        self.ticked = now;
        self.forget_orphans();
        self.look_at_half();
        self.each(|o, c| {
            if c.stage == Stage::Open {
                o.tick_open(c);
            }
        });
        self.cut_holders();
    }

    /// A client has been looked at, and its TCP has yet to acknowledge `unacknowledged` bytes of what the kernel has taken.
    pub fn looked(&mut self, slot: u32, unacknowledged: u64) {
        self.with(slot, |o, c| {
            let now = o.now;
            let (before, was_delivered, was_late) = (c.acknowledged, c.is_delivered(), c.late);
            // The kernel counts our FIN as a byte.
            let unacknowledged = unacknowledged.saturating_sub(u64::from(c.half_closed));
            c.acknowledged = before.max(c.taken.saturating_sub(unacknowledged));
            c.late = c.acknowledged < c.reply_end.min(c.taken);
            o.tally.add(What::acknowledgement_late, usize::from(c.late));
            if !was_delivered && (was_late || !c.is_delivered() || o.drain.is_some() || c.is_dismissed) {
                c.activity = now;
            }
            let progressed = c.acknowledged > before;
            if progressed {
                c.leap = c.leap.max(c.seen.map_or(0, |seen| now - seen));
                c.seen = Some(now).filter(|_| !c.is_all_sent() || c.acknowledged < c.taken);
            }
            match c.stage {
                Stage::Handshake if now >= c.accepted + o.rules.handshake_ms => {
                    o.tally.one(What::handshake_timeout);
                    o.refuse(c, 408);
                }
                Stage::Closing { .. } => o.judge_closing(c, progressed),
                Stage::Open => {
                    o.judge(c);
                    o.ping_if_due(c);
                }
                _ => {}
            }
        });
        if self.gap_closes > 0 {
            self.wrong("a client was closed by the drain that was at no gap");
        }
    }

    fn judge_closing(&mut self, c: &mut Client, progressed: bool) {
        let (now, all) = (self.now, c.is_all_sent() && c.acknowledged == c.taken);
        let silence = if all { 0 } else { (2 * c.leap).min(self.rules.pong_ms) }.max(self.rules.close_ms);
        let Stage::Closing { since, awaits, ended } = &mut c.stage else { return };
        if *ended && all {
            c.stage = Stage::Gone;
        } else if progressed {
            *since = now;
            if now >= c.enough.0 + self.rules.pong_ms {
                let taken = c.acknowledged - c.enough.1;
                c.enough = (now, c.acknowledged);
                if taken * 1_000 < self.rules.slow * self.rules.pong_ms {
                    self.tally.one(What::reader_too_slow);
                    self.tally.add(What::given_up_undelivered, usize::from(!c.is_delivered()));
                    c.stage = Stage::Gone;
                }
            }
        } else if now >= *since + silence {
            if std::mem::take(awaits) {
                self.tally.one(What::close_timeout);
                *since = now;
                c.clean = true;
            } else {
                self.tally.add(What::given_up_undelivered, usize::from(!c.is_delivered()));
                c.stage = Stage::Gone;
            }
        }
    }

    /// Behind a tick, with all looked at that the product looked at: nothing may be overdue.
    pub fn overdue(&mut self) {
        let now = self.now;
        self.each(|o, c| {
            let late = match c.stage {
                Stage::Handshake => (now >= c.accepted + o.rules.handshake_ms).then_some("the handshake"),
                Stage::Closing { since, .. } => {
                    (now > since + o.rules.close_ms.max(o.rules.pong_ms) + LOOK_MS).then_some("its end")
                }
                Stage::Open => {
                    let look_ms = if o.drain.is_some() || c.is_dismissed { 2 * TICK_MS } else { UNDRAINED_LOOK_MS };
                    let looks = !c.is_delivered() && c.taken >= c.reply_end && now > c.activity + look_ms;
                    let idle = c.gap_since().filter(|_| o.rules.idle_ms > 0 && o.drain.is_none());
                    if idle.is_some_and(|since| now >= since + o.rules.idle_ms) {
                        Some("the idle time-out")
                    } else if o.dismissible_from(c).is_some_and(|from| now >= from) {
                        Some("the Close that an operator has asked for")
                    } else if looks {
                        Some("to be asked whether its reply has arrived")
                    } else if c.paused {
                        None
                    } else if c.is_message_late(&o.rules, now).is_some() {
                        Some("the rest of its message")
                    } else {
                        c.ping_since.is_some_and(|since| now >= since + o.rules.pong_ms).then_some("its pong")
                    }
                }
                Stage::Gone => None,
            };
            if let Some(what) = late {
                o.wrong(format!("slot {} is overdue: {what}", c.slot));
            }
            if c.stage == Stage::Open {
                o.not_late_in_drain(c);
            }
        });
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
            if c.message_since.is_some() {
                forgive(&mut c.message_heard);
            }
            match &mut c.stage {
                Stage::Handshake => forgive(&mut c.accepted),
                Stage::Closing { since, .. } => {
                    forgive(since);
                    forgive(&mut c.enough.0);
                    forgive(&mut c.closing_since);
                }
                Stage::Open | Stage::Gone => {}
            }
        }
    }

    fn tick_open(&mut self, c: &mut Client) {
        let now = self.now;
        let rules = Rc::clone(&self.rules);
        let old = |p: &Pending| now >= p.heard + if p.connect { rules.connect_ms } else { rules.request_ms };
        let lost = self.fail(c, 503, |_, _, p| p.lost_at.is_some_and(|at| at <= now));
        self.tally.add(What::maybe_lost_503, lost);
        for connect in [true, false] {
            let given_up = self.fail(c, 504, |_, _, p| p.connect == connect && old(p));
            self.tally.add(What::given_up_504, given_up);
        }
        if c.stage != Stage::Open {
            return;
        }
        // The bus may have room again for what waited.
        self.relay_backlog(c);
        if c.stage != Stage::Open {
            return;
        }
        // Who is looked at in this tick is judged first.
        if !self.asked.contains(&c.slot) {
            self.ping_if_due(c);
        }
    }

    fn ping_if_due(&mut self, c: &mut Client) {
        let due = c.ping_since.is_none() && self.now >= c.received + self.rules.ping_ms;
        if c.stage == Stage::Open && !c.paused && due {
            self.tally.one(What::ping_sent);
            c.ping_since = Some(self.now);
            c.acknowledged_at_ping = c.acknowledged;
            self.put(c, Expect::Exactly(Frame::Ping));
        }
    }

    /// An open client has been looked at.
    fn judge(&mut self, c: &mut Client) {
        let now = self.now;
        let rules = Rc::clone(&self.rules);
        if self.close_in_drain(c) || self.close_dismissed(c) {
            return;
        }
        let idle = c.gap_since().filter(|_| self.drain.is_none() && rules.idle_ms > 0);
        if idle.is_some_and(|since| now >= since + rules.idle_ms) {
            self.tally.one(What::idle_closed);
            return self.close(c, 1000);
        }
        if c.paused {
            return;
        }
        if let Some(whole) = c.is_message_late(&rules, now) {
            self.tally.one(if whole { What::message_too_long } else { What::message_timeout });
            self.close(c, 1008);
        } else if c.ping_since.is_some_and(|since| now >= since + rules.pong_ms) {
            let taken = c.acknowledged - c.acknowledged_at_ping;
            if taken * 1_000 >= rules.slow * rules.pong_ms {
                self.tally.one(What::slow_reader_alive);
                (c.ping_since, c.acknowledged_at_ping) = (Some(now), c.acknowledged);
            } else {
                let silent = taken == 0 || (c.is_all_sent() && c.acknowledged == c.taken);
                self.tally.one(if silent { What::pong_timeout } else { What::reader_too_slow });
                self.gone(c);
            }
        }
    }

    /// While more than `core_bytes_max` is held: the largest open holder is closed; where those hold no more than that by
    /// themselves, the largest that is closing is given up.
    pub fn cut_holders(&mut self) {
        while self.cut_one() {}
    }

    /// More than `core_bytes_max` is held, `bus_bytes` of it for the bus.
    pub fn is_core_full(&self, bus_bytes: u64) -> bool {
        let held: usize = self.clients.iter().flatten().map(Client::held).sum();
        held as u64 + bus_bytes > self.rules.core_bytes
    }

    fn cut_one(&mut self) -> bool {
        let clients = || self.clients.iter().flatten();
        let open = || clients().filter(|c| c.stage == Stage::Open);
        let is_over = |bytes: usize| bytes as u64 > self.rules.core_bytes;
        let largest = if is_over(open().map(Client::held).sum()) {
            open().max_by_key(|c| c.held())
        } else if is_over(clients().map(Client::held).sum()) {
            clients().filter(|c| matches!(c.stage, Stage::Closing { .. })).max_by_key(|c| c.held())
        } else {
            None
        };
        let Some(slot) = largest.map(|c| c.slot) else { return false };
        self.tally.one(What::core_bytes_hit);
        self.with(slot, |o, c| {
            if c.stage != Stage::Open {
                o.tally.one(What::closing_cut);
                o.tally.add(What::given_up_undelivered, usize::from(!c.is_delivered()));
                c.stage = Stage::Gone;
                return;
            }
            o.drop_queued(c);
            o.close(c, 1008);
            c.half_bytes = 0;
            if !c.clean {
                // Its half message is given back at once.
                o.tally.one(What::desynced);
                (c.desynced, c.clean) = (true, true);
            }
        });
        true
    }
}

impl Client {
    /// Its unfinished message is too late: `false` for silence, `true` for the whole.
    fn is_message_late(&self, rules: &Rules, now: u64) -> Option<bool> {
        let since = self.message_since?;
        let whole = now >= since + rules.message_max_ms;
        (whole || now >= self.message_heard + rules.message_ms).then_some(whole)
    }
}
