//! The end of a run.

use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::clients::audit::audit;
use evergate_proto::lifecycle::Phase;
use evergate_proto::ring::Kind;

use super::CoreWorld;
use crate::kernel::connection::Far;
use crate::kernel::{Door, tell};
use crate::tally::What;
use crate::world::violated;

/// As long as all time-outs together may take, ms.
const PATIENCE_MS: u64 = 120_000;
/// With nothing under way for so long, ms, all has come to rest.
const QUIET_MS: u64 = 200;
/// Links at rest: those that push to either domain, the one that pops.
const LINKS_MAX: usize = 3;
/// Turns of everything, which is far more than it takes.
const ROUNDS_MAX: usize = 40_000;

impl CoreWorld {
    /// Everything that is under way goes on until all is over. Nothing new begins, but for what restless clients ask.
    pub(super) fn finish(&mut self) {
        tell!(self.scene, "everything is brought to its end");
        self.core.ring().is_calm = true;
        self.core.ring().doors = [Door::Open; 2];
        for redis in &mut self.bus.redis {
            (redis.down, redis.stalled, redis.full) = (false, false, false);
        }
        for &id in &self.alive {
            let peer = &mut self.peers[id];
            (peer.browser.reading, peer.drip) = (true, 0);
        }
        self.come_to_rest();
        if self.orders.get().phase == Phase::Serving {
            self.check_rest();
            if self.drain_at_end { self.drain_at_last() } else { self.stop() }
        }
        let mut rounds = 0;
        while !self.core.has_ended() {
            self.settle_down();
            rounds += 1;
            if rounds > ROUNDS_MAX {
                violated!("the core does not end, nor does its time");
            }
        }
        self.check_end();
        self.tally.one(What::ended_quietly);
    }

    /// What is under way is given the time to end, unless the end has been told already.
    fn come_to_rest(&mut self) {
        let patience_ms = self.now_ms() + PATIENCE_MS;
        let (mut busy_ms, mut rounds) = (self.now_ms(), 0);
        while self.orders.get().phase == Phase::Serving
            && self.now_ms() < patience_ms
            && self.now_ms() < busy_ms + QUIET_MS
        {
            self.settle_down();
            rounds += 1;
            let why = self.busy();
            if rounds > ROUNDS_MAX {
                violated!("nothing comes to rest, nor does time pass: {why:?}");
            }
            busy_ms = if why.is_some() { self.now_ms() } else { busy_ms };
        }
    }

    /// What is under way, if anything is.
    fn busy(&mut self) -> Option<String> {
        let counts = &self.cores[0].counts;
        for (name, counter) in [
            ("pending", &counts.pending),
            ("handshaking", &counts.handshaking),
            ("waiting_for_room", &counts.waiting_for_room),
        ] {
            if counter.load(Relaxed) > 0 {
                let context = &self.core.clients().context;
                let (full, bytes) = (context.is_core_full(), (context.core_bytes(), context.loop_bytes()));
                return Some(format!("{name} is {}, core full: {full}, {bytes:?} bytes", counter.load(Relaxed)));
            }
        }
        if self.services.is_busy() {
            return Some("services have something to do".to_owned());
        }
        // What has come of one that has broken is heard as well.
        let kernel = self.core.ring();
        let is_unheard = |at: usize| !kernel.connections[at].inbound.is_empty() && !kernel.connections[at].is_given_up;
        if kernel.open_connections().any(is_unheard) {
            return Some("something has come and was not received".to_owned());
        }
        for &id in &self.alive {
            let peer = &self.peers[id];
            let connection = &self.core.ring().connections[peer.at];
            let Some(slot) = connection.slot.filter(|_| connection.socket.is_some()) else { continue };
            let ways = (peer.browser.unsent.len(), connection.inbound.len(), connection.outbound.len());
            let owed = self.core.clients().owed(slot);
            if ways != (0, 0, 0) || owed > 0 {
                return Some(format!("client {id}: {ways:?} bytes are on their way, {owed} are owed"));
            }
        }
        None
    }

    /// All has had its time: who has stayed has all, and the core has nothing of anybody.
    fn check_rest(&mut self) {
        for slot in 0..64 {
            if audit(self.core.clients(), slot).is_some_and(|audit| audit.pending > 0 || audit.backlog > 0) {
                violated!("slot {slot} still waits at the end of all time-outs");
            }
        }
        let left = self.core.clients().len();
        let kernel = self.core.ring();
        let is_clients = |at: &usize| kernel.connections[*at].far == Far::Client;
        let open = kernel.open_connections().filter(|at| !kernel.is_closing(*at));
        let (open, links) = open.partition::<Vec<usize>, _>(is_clients);
        if open.len() != left || links.len() > LINKS_MAX {
            violated!("of {left} clients {} connections are open, and of links {}", open.len(), links.len());
        }
        if self.core.ring().buffers_out() > 0 {
            violated!("{} buffers are not with the ring", self.core.ring().buffers_out());
        }
        let counts = &self.cores[0].counts;
        let (here, shaking) = (counts.connections.load(Relaxed), counts.handshaking.load(Relaxed));
        let has_room = here < self.options.clients_max && shaking < self.options.handshakes_max;
        let kernel = self.core.ring();
        // Whoever leaves at this moment has made the room.
        let leaves =
            kernel.open_connections().any(|at| kernel.is_closing(at) && kernel.connections[at].far == Far::Client);
        let queued = kernel.queued().count();
        if queued > 0 && has_room && !leaves {
            violated!("{queued} wait to be accepted, and only {here} are connected");
        }
        let alive = self.alive.clone();
        for id in alive {
            let peer = &self.peers[id];
            let kernel = self.core.ring();
            let connection = &kernel.connections[peer.at];
            if kernel.queued().any(|at| at == peer.at) {
                continue;
            }
            if connection.slot.is_none() && connection.socket.is_some() {
                violated!("client {id} was accepted, and nobody cares for it");
            }
            let has_left = peer.ends || peer.browser.close_sent || peer.close.is_some() || connection.is_closed;
            if peer.status == Some(101) && !has_left {
                self.tally.one(What::client_stayed);
                self.peers[id].must_have_all();
            }
        }
    }

    /// Drains; sometimes that is cancelled before, with whoever is left.
    fn drain_at_last(&mut self) {
        self.drain();
        if self.random.percent(40) {
            (0..self.random.between(1, 60)).for_each(|_| self.settle_down());
            self.cancel();
            self.drain();
        }
    }

    /// A turn of everything that needs no decision.
    fn settle_down(&mut self) {
        self.step += 1;
        self.scene.step.set(self.step);
        for id in self.alive.clone() {
            self.arrive(id);
            self.acknowledge(id);
        }
        self.ask_again();
        self.serve_redis();
        self.route();
        self.work();
        self.core.ring().wake_at_ns = self.scene.now_ns.get() + 7_000_000;
        self.turn();
    }

    /// The core has ended: what it leaves behind.
    fn check_end(&mut self) {
        let orders = self.orders.get();
        let now_ms = self.now_ms();
        let latest_ms = orders.drain_deadline_ms + self.life.close_timeout_ms;
        let is_late = orders.drain > 0 && now_ms >= latest_ms
            || self.stopped_at_ms.is_some_and(|at_ms| now_ms >= at_ms + self.life.stop_max_ms);
        self.tally.one(match (self.drained_at_ms, is_late) {
            (Some(_), _) => What::ended_early,
            (None, true) if orders.drain > 0 => What::ended_late,
            _ => What::ended_by_stop,
        });
        let is_empty = self.core.clients().is_empty();
        if !is_empty && !is_late {
            violated!("the core ends too soon: {} clients are left", self.core.clients().len());
        }
        let kernel = self.core.ring();
        if !kernel.listeners.iter().all(|listener| listener.is_closed) && orders.phase != Phase::Stopping && !is_late {
            violated!("the core ends with its listener open");
        }
        if kernel.buffers_out() > 0 && is_empty {
            violated!("the core ends with {} buffers of the ring's", kernel.buffers_out());
        }
        let open: Vec<usize> = kernel.open_connections().collect();
        for at in open {
            let connection = &kernel.connections[at];
            if connection.far != Far::Client || kernel.is_closing(at) {
                continue;
            }
            if is_empty {
                violated!("connection {at} is open, and nobody is left");
            }
            if connection.slot.is_none() {
                violated!("connection {at} was accepted, and nobody cared for it");
            }
        }
        let is_own = |kind: Kind| matches!(kind, Kind::LinkConnect | Kind::LinkReceive | Kind::LinkSend);
        if let Some(flight) = kernel.flights().iter().find(|flight| is_empty && !is_own(flight.op.kind)) {
            violated!("{:?} is under way, and nobody is left", flight.op);
        }
        if is_empty {
            self.check_counters();
        }
    }

    fn check_counters(&self) {
        let counts = &self.cores[0].counts;
        let are_orphans_left = counts.bus_orphans.load(Relaxed) > 0;
        for (name, counter) in [
            ("pending", &counts.pending),
            ("sessions", &counts.sessions),
            ("core_bytes", &counts.core_bytes),
            ("connections", &counts.connections),
            ("handshaking", &counts.handshaking),
            ("open", &counts.open),
            ("sending", &counts.sending),
            ("bus_unanswered", &counts.bus_unanswered),
        ] {
            let is = counter.load(Relaxed);
            if is > 0 && !(name == "bus_unanswered" && are_orphans_left) {
                violated!("in the end {name} is {is}");
            }
        }
    }
}
