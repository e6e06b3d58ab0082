//! The product, called as the shell calls it: time, what may happen next, what is done with its decisions.

use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::clients::audit::{Audit, audit};
use evergate_proto::clients::output::{Output, Severity};
use evergate_proto::clients::table::Clients;
use evergate_proto::effects::{Effector, carry_out};
use evergate_proto::lifecycle::{Listener, Phase, Step};

use super::actions::ACCEPTED_IN_DRAIN_MS;
use evergate_proto::redis::outbox::Push;

use super::conn::Conn;
use super::link::{POP, PUSH};
use super::{World, checks};
use crate::oracle::Stage;
use crate::tally::What;

/// The core's tick, ms.
const TICK_MS: u64 = 20;

impl Effector for World {
    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    fn begin(&mut self, decided: &Output) {
        for slot in &decided.resume {
            self.oracle.resume(*slot);
        }
        if decided.pushes.is_empty() {
            self.pushed();
        }
    }

    fn activity(&mut self, lines: &str) {
        self.activity_lines += lines.lines().count() as u64;
    }

    fn log(&mut self, _: Severity, line: String) {
        self.logged_429 += checks::told_429(&line);
    }

    fn push(&mut self, domain: usize, push: Push) {
        let text = checks::pushed(&mut self.oracle, domain, &push);
        if let Some(ticket) = push.ticket
            && let Some(conn) = self.conn(ticket.slot)
        {
            conn.browser.was_pushed(&text);
        }
        note!(self, "push {} {text}", push.key);
        self.give(domain, push);
    }

    fn pushed(&mut self) {
        checks::nothing_is_missing(&mut self.oracle);
        // As the shell has it: while the links are at work it is what it was.
        self.clients.context.loop_holds(self.bus_bytes().unwrap_or(self.clients.context.loop_bytes()));
    }

    fn send(&mut self, slot: u32) {
        if let Some(conn) = self.conn(slot) {
            conn.sending = true;
        }
    }

    fn half_close(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        conn.half_closed = true;
        self.oracle.half_closed(slot);
        let Some(client) = self.oracle.client(slot) else { return };
        if !client.is_all_sent() || !(client.desynced || matches!(client.stage, Stage::Closing { awaits: false, .. })) {
            violated!("slot {slot} was half closed too soon: {:?}", client.stage);
        }
    }

    fn look(&mut self, slot: u32) {
        World::look(self, slot);
    }

    fn resume(&mut self, slot: u32) {
        if let Some(conn) = self.conn(slot) {
            conn.waits_for_resume = false;
        }
    }

    fn hang_up(&mut self, slot: u32) {
        if let Some(conn) = self.conn(slot) {
            conn.shut = true;
            self.try_release(slot);
        }
    }
}

impl World {
    pub(super) fn call<T>(&mut self, decide: impl FnOnce(&mut Clients) -> T) -> T {
        self.clients.context.at(self.now);
        self.oracle.now = self.now;
        let gap_closes = |world: &Self| world.cores[0].counts.closed_at_gap.load(Relaxed);
        let before = gap_closes(self);
        let decided = decide(&mut self.clients);
        self.oracle.gap_closes = gap_closes(self) - before;
        checks::tell(&mut self.oracle, &self.clients);
        decided
    }

    pub(super) fn audit(&self, slot: u32) -> Option<Audit> {
        audit(&self.clients, slot)
    }

    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        0..self.conns.len() as u32
    }

    /// Does what was decided, after the oracle has decided for itself.
    pub(super) fn settle(&mut self) {
        carry_out(self, Output::default());
    }

    pub(super) fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize)?.as_mut()
    }

    // ---- Time.

    pub(super) fn advance(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.next_tick <= until && !self.has_ended {
            self.now = self.now.max(self.next_tick);
            self.tick();
            self.next_tick = self.now + TICK_MS;
        }
        self.now = until.max(self.now);
    }

    pub(super) fn tick(&mut self) {
        checks::tell_halves(&mut self.oracle, &self.clients);
        let paused: Vec<u32> = self.clients.paused().iter().copied().collect();
        self.call(|clients| clients.tick(|| true));
        let core_full = self.clients.context.is_core_full();
        self.oracle.tick(&self.clients.context.output().look);
        self.settle();
        self.oracle.overdue();
        checks::nothing_is_missing(&mut self.oracle);
        self.check_tick(&paused, core_full);
        self.clients.context.loop_holds(self.bus_bytes().unwrap_or_default());
        self.tick_links();
        self.live();
        self.check();
    }

    /// Does what the core's life calls for.
    pub(super) fn live(&mut self) {
        if self.listener == Listener::Crowded && self.now >= self.emptied_at {
            self.listener = Listener::Closed;
        }
        let started = self.orders.drain > 0 && self.now >= self.orders.drain_start_ms;
        let deadline = self.orders.drain_deadline_ms;
        loop {
            let is_empty = self.clients.is_empty();
            let step = self.lifecycle.next(self.now, &self.orders, self.listener, is_empty);
            match step {
                Step::Wait => return self.end_drain(),
                Step::OpenListener => {
                    if self.listener == Listener::Open {
                        violated!("the listener is opened twice: {:?}", self.orders);
                    }
                    self.listener = Listener::Open;
                }
                Step::CancelDrain => {
                    note!(self, "the drain is no more");
                    self.is_deadline_told = false;
                    self.call(Clients::cancel_drain);
                    self.oracle.cancel_drain();
                    self.settle();
                }
                Step::CloseListener => {
                    if self.listener != Listener::Open || !started && self.orders.phase != Phase::Stopping {
                        violated!("the listener is closed: {:?} at {:?}", self.listener, self.orders);
                    }
                    // Sometimes more are established than there are descriptors for.
                    let is_crowded = self.network.percent(15);
                    self.listener = if is_crowded { Listener::Crowded } else { Listener::Closed };
                    self.emptied_at = self.now + ACCEPTED_IN_DRAIN_MS;
                }
                Step::BeginDrain(options) => {
                    if !started || self.listener == Listener::Open {
                        violated!("the drain begins too soon: {:?}", self.orders);
                    }
                    note!(self, "the drain begins");
                    self.call(|clients| clients.begin_drain(options));
                    self.oracle.begin_drain(deadline, self.life.closes_per_second);
                    self.settle();
                }
                Step::DrainDeadline => {
                    note!(self, "the drain's deadline");
                    if !started || self.now < deadline || std::mem::replace(&mut self.is_deadline_told, true) {
                        violated!("the drain's deadline is told at {}: {:?}", self.now, self.orders);
                    }
                    self.call(Clients::drain_deadline);
                    self.oracle.deadline();
                    self.settle();
                }
                Step::Stop { code, draining } => {
                    if self.orders.phase != Phase::Stopping || draining != (self.orders.drain > 0) {
                        violated!("a stop that nobody wants: {step:?}, {:?}", self.orders);
                    }
                    self.stopped_at = self.now;
                    self.call(|clients| clients.stop(code, draining));
                    self.oracle.stop(1001, draining);
                    self.settle();
                }
                Step::End { .. } => {
                    let over = match self.orders.phase {
                        Phase::Stopping => self.now >= self.stopped_at + self.life.stop_max_ms,
                        _ => self.now >= deadline + self.life.close_timeout_ms,
                    };
                    let is_crowded = self.listener == Listener::Crowded && self.orders.phase != Phase::Stopping;
                    if !over && (!is_empty || is_crowded) {
                        violated!("the core ends while somebody is left: {:?}, {:?}", self.listener, self.orders);
                    }
                    self.tally.add(What::drain_ended_early, usize::from(is_empty && !self.is_deadline_told && started));
                    self.end();
                }
            }
            self.tell_time();
        }
    }

    /// What the main thread does when nobody is left.
    fn end_drain(&mut self) {
        let drained = self.lifecycle.drained(self.listener, self.clients.is_empty());
        if self.orders.phase == Phase::Draining && drained == self.orders.drain {
            if self.listener != Listener::Closed || !self.clients.is_empty() {
                violated!("the core counts as drained, and its listener is {:?}", self.listener);
            }
            self.orders.phase = Phase::Stopping;
        }
    }

    /// A core that has told everybody ends in its time.
    fn tell_time(&self) {
        let late = TICK_MS * 50;
        let drains = self.orders.phase == Phase::Draining && !self.has_ended;
        if drains && self.now > self.orders.drain_deadline_ms + self.life.close_timeout_ms + late {
            violated!("the drain does not end");
        }
    }

    // ---- What may happen next at any time: the scheduler's choice.

    pub(super) fn schedule(&mut self) {
        match self.random.below(14) {
            12 | 13 => self.some_conn(Self::acknowledge),
            0 | 1 => self.some_conn(Self::arrive),
            2 | 3 => self.some_conn(Self::read),
            4 | 5 => self.some_conn(Self::send),
            6 => {
                let domain = usize::from(self.random.percent(25));
                self.write(PUSH[domain]);
                self.connect(PUSH[domain]);
            }
            7 => {
                let domain = usize::from(self.random.percent(25));
                self.receive(PUSH[domain]);
            }
            8 => self.serve_redis(),
            9 => {
                self.connect(POP);
                self.write(POP);
            }
            10 => self.receive(POP),
            _ => self.some_conn(Self::hang_up_broken),
        }
    }

    pub(super) fn some_conn(&mut self, act: impl FnOnce(&mut Self, u32)) {
        let here = self.conns.iter().flatten().count();
        if here == 0 {
            return;
        }
        let at = self.random.below(here);
        let slot =
            self.conns.iter().enumerate().filter(|(_, conn)| conn.is_some()).nth(at).map(|(slot, _)| slot as u32);
        if let Some(slot) = slot {
            act(self, slot);
        }
    }

    /// All of so many bytes, or some.
    pub(super) fn some_bytes(&mut self, have: impl FnOnce(&Self) -> usize) -> usize {
        let have = have(self);
        match self.random.below(8) {
            _ if have == 0 => 0,
            0 => 1,
            1 | 2 => 1 + self.random.below(have),
            3 => 1 + self.random.below(have.min(16)),
            _ => have,
        }
    }
}
