//! The end of a run.

use evergate_proto::clients::audit::Audit;
use evergate_proto::clients::table::Clients;
use evergate_proto::lifecycle::Phase;

use super::link::{POP, PUSH};
use super::{World, checks};
use crate::tally::What;

/// Clients that come before the end, and turns of everything in which they shake hands.
const NEWCOMERS: usize = 8;
const ROUNDS_TO_SHAKE_HANDS: usize = 10;

impl World {
    /// Everything that is under way goes on until all is over. Nothing new begins, but for what restless clients ask.
    pub(super) fn finish(&mut self) {
        self.is_ending = true;
        for redis in &mut self.redis {
            (redis.down, redis.stalled, redis.full) = (false, false, false);
        }
        self.conns.iter_mut().flatten().for_each(|conn| (conn.browser.reading, conn.drip) = (true, 0));
        // What is under way is given the time to end, unless the end has been told already.
        let patience = self.now + 120_000;
        while self.orders.phase == Phase::Serving && self.now < patience {
            self.settle_down();
            let waits = |audit: Audit| audit.pending > 0 || audit.backlog > 0;
            if !self.slots().any(|slot| self.audit(slot).is_some_and(waits)) {
                break;
            }
        }
        if self.orders.phase == Phase::Serving {
            for slot in self.slots() {
                if self.audit(slot).is_some_and(|audit| audit.pending > 0 || audit.backlog > 0) {
                    violated!("slot {slot} still waits at the end of all time-outs");
                }
            }
            if self.restless.is_some() {
                // A drain has more to do than to let those go who stayed.
                self.clients_max += NEWCOMERS;
                (0..NEWCOMERS).for_each(|_| self.accept());
                (0..ROUNDS_TO_SHAKE_HANDS).for_each(|_| self.settle_down());
            }
            if self.drain_at_end { self.drain_at_last() } else { self.stop() }
        }
        let mut turns = 0;
        while !self.has_ended {
            self.settle_down();
            turns += 1;
            if turns > 20_000 {
                violated!("the core does not end");
            }
        }
        for slot in self.slots() {
            if self.conns[slot as usize].take().is_some() {
                self.call(|clients| clients.release(slot));
                self.oracle.release(slot);
                self.settle();
            }
        }
        // Nobody is thought of for ever.
        for _ in 0..2 {
            self.now += self.oracle.rules.request_ms + 2_000;
            self.call(|clients| clients.tick(|| true));
            self.oracle.tick(&[]);
            self.settle();
        }
        self.call(Clients::say_counted);
        self.settle();
        let told = self.oracle.tally.of(What::told_429);
        if self.logged_429 != told {
            violated!("the log says that clients were told 429 {} times, must be {told}", self.logged_429);
        }
        self.check();
        checks::gauges_are_zero(&self.cores[0]);
        if self.clients.context.core_bytes() > 0 || !self.clients.is_empty() {
            violated!("in the end something is left");
        }
        self.tally.one(What::ended_quietly);
    }

    /// Drains; sometimes that is cancelled before, with whoever is left.
    fn drain_at_last(&mut self) {
        self.drain();
        if self.network.percent(40) {
            (0..self.network.between(1, 60)).for_each(|_| self.settle_down());
            self.cancel();
            self.drain();
        }
    }

    /// A turn of everything that needs no decision.
    pub(super) fn settle_down(&mut self) {
        for slot in self.slots() {
            for act in [Self::arrive, Self::read, Self::send, Self::acknowledge, Self::hang_up_broken] {
                if self.conns[slot as usize].is_some() {
                    act(self, slot);
                }
            }
        }
        self.ask_again();
        self.step += 1;
        for link in PUSH {
            self.connect(link);
            self.write(link);
            self.receive(link);
        }
        self.connect(POP);
        self.write(POP);
        self.serve_redis();
        self.receive(POP);
        self.route();
        self.work(false);
        self.advance(7);
    }

    pub(super) fn end(&mut self) {
        note!(self, "the core ends");
        self.has_ended = true;
    }
}
