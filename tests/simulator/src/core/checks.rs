//! What must hold before the core sleeps, and after each turn.

use std::net::IpAddr;

use evergate_proto::clients::audit::audit;
use evergate_proto::lifecycle::Phase;
use evergate_proto::ring::Kind;

use super::CoreWorld;
use crate::kernel::connection::Far;
use crate::tally::What;
use crate::world::violated;

/// So many turns in a row may do nothing at all.
const IDLE_TURNS: u32 = 3_000;
/// The core's tick, ms.
const TICK_MS: u64 = 20;
/// How soon a drain closes whoever may be closed, the pace apart, ms: where buffers are few, a client has its turn for one first, for what has
/// come of it is heard before it is judged.
const CLOSED_WITHIN_MS: u64 = 500;
/// How late a core may be with its own end, ms.
const LATE_MS: u64 = 3_000;

impl CoreWorld {
    /// What the core could do, and must not sleep over.
    fn undone(&mut self) -> Option<String> {
        let is_full = self.core.clients().context.is_core_full();
        let open: Vec<usize> = self.core.ring().open_connections().collect();
        for at in open {
            let kernel = self.core.ring();
            let connection = &kernel.connections[at];
            let Some(socket) = connection.socket else { continue };
            let is_under_way = |kind: Kind| {
                let mut flights = kernel.flights().iter();
                flights.any(|flight| flight.socket == socket && flight.op.kind == kind)
            };
            let is_idle = !kernel.flights().iter().any(|flight| flight.socket == socket) && !kernel.is_closing(at);
            if connection.is_given_up && is_idle {
                return Some(format!("connection {at} is given up, and its descriptor is kept"));
            }
            match (connection.far, connection.slot) {
                (Far::Client, Some(slot)) if !connection.is_given_up => {
                    let is_unheard = connection.is_unheard() && !connection.is_fin_told;
                    let is_unheard = is_unheard && !is_under_way(Kind::Receive);
                    let is_unsent = !is_under_way(Kind::Send);
                    let clients = self.core.clients();
                    if is_unheard && !clients.is_paused(slot) && !clients.is_over(slot) {
                        return Some(format!("slot {slot} has something to say and is not received from"));
                    }
                    if is_unsent && clients.owed(slot) > 0 && !clients.is_over(slot) {
                        return Some(format!("slot {slot} has something to be sent and nothing is being sent"));
                    }
                }
                (Far::Redis(0), _) => {
                    let is_unheard =
                        connection.is_connected && !connection.is_given_up && !connection.inbound.is_empty();
                    let is_push = kernel.flights().iter().any(|flight| flight.socket == socket && flight.op.place == 0);
                    if is_unheard && !is_full && !is_under_way(Kind::LinkReceive) && !is_push && self.is_pop(at) {
                        return Some(format!("connection {at} has replies and is not received from"));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whether a link pops, as far as Redis can tell.
    fn is_pop(&self, at: usize) -> bool {
        self.bus.lines.iter().any(|line| line.at == at && line.is_popping())
    }

    pub(super) fn before_turn(&mut self) {
        let undone = self.undone();
        let kernel = self.core.ring();
        kernel.undone = undone;
        kernel.turns += 1;
        kernel.has_progressed = false;
    }

    pub(super) fn after_turn(&mut self) {
        self.look_over_shoulders();
        let Self { bus, core, peers, .. } = self;
        bus.delivered(core.ring(), |id, number| {
            if let Some(peer) = peers.get_mut(id) {
                peer.delivered.push(number);
            }
        });
        self.idle_turns = if self.core.ring().has_progressed { 0 } else { self.idle_turns + 1 };
        if self.idle_turns > IDLE_TURNS {
            violated!("{IDLE_TURNS} turns in a row did nothing");
        }
        self.check_ends();
        self.check_second_half();
        self.check_listeners();
        self.check_time();
        self.end_drain();
    }

    /// What clients are sent is judged as soon as the kernel has it.
    fn look_over_shoulders(&mut self) {
        let Self { core, peers, alive, tally, free_ms, .. } = self;
        let kernel = core.ring();
        for &id in alive.iter() {
            let peer = &mut peers[id];
            if let Some(bytes) = kernel.connections[peer.at].unseen() {
                let (replies, close) = (peer.seen.len(), peer.close);
                peer.check(bytes);
                tally.add(What::reply_seen, peer.seen.len() - replies);
                if close.is_none() && peer.close == Some(Some(1012)) {
                    tally.one(What::told_1012);
                    free_ms.clear();
                }
            }
        }
    }

    /// The end of a client is heard behind all that it said.
    fn check_ends(&mut self) {
        let ended = std::mem::take(&mut *self.scene.ended_bare.borrow_mut());
        for address in ended.into_iter().filter(|_| self.own_addresses) {
            let IpAddr::V4(address) = address else { continue };
            let id = (address.to_bits() & 0x00ff_ffff) as usize;
            if self.peers.get(id).is_some_and(|peer| peer.closes && !peer.misbehaves) {
                violated!("the end of client {id} is heard without its Close, which it said before");
            }
        }
    }

    /// Behind half of a drain whoever has nothing under way is closed soon, or another in its place, however often it asks.
    fn check_second_half(&mut self) {
        let (now_ms, orders) = (self.now_ms(), self.orders.get());
        let passed_ms = (now_ms - std::mem::replace(&mut self.looked_ms, now_ms)).min(TICK_MS);
        let half_ms = orders.drain_deadline_ms.saturating_sub(self.drain_max_ms / 2);
        if orders.phase != Phase::Draining || !(half_ms..orders.drain_deadline_ms).contains(&now_ms) {
            self.free_ms.clear();
            return;
        }
        let turn_ms = if self.life.closes_per_second > 0.0 { 2e3 / self.life.closes_per_second } else { 0.0 };
        for id in self.alive.clone() {
            let at = self.peers[id].at;
            let connection = &self.core.ring().connections[at];
            let slot = connection.slot.filter(|_| connection.socket.is_some() && connection.outbound.is_empty());
            let is_unheard = !connection.inbound.is_empty();
            let waits_for_buffer = is_unheard && self.core.ring().lacks_buffers();
            let free = slot.and_then(|slot| audit(self.core.clients(), slot)).filter(|audit| {
                let under_way = audit.pending + audit.sessions + audit.backlog + audit.gathered + audit.outbound_bytes;
                audit.stage == 1 && under_way == 0
            });
            let Some(free) = free else {
                self.free_ms.remove(&id);
                continue;
            };
            let free_ms = self.free_ms.entry(id).or_default();
            // Who is amid a message has time for that of its own. Who has sent something that there is no buffer for is not judged before it
            // is heard: a kernel that tells one thing a turn keeps its buffers for long.
            if free.decoder_bytes == 0 && !waits_for_buffer {
                *free_ms += passed_ms;
            }
            if *free_ms > CLOSED_WITHIN_MS + turn_ms as u64 {
                violated!(
                    "client {id} has had nothing under way for {free_ms} ms behind half of the drain, and is open"
                );
            }
        }
    }

    /// Nobody who was queued is dropped by a drain.
    fn check_listeners(&mut self) {
        let mut gone = Vec::new();
        for listener in &mut self.core.ring().listeners {
            let (dropped, is_stopped) = (listener.dropped, self.stopped_at_ms.is_some());
            if dropped > 0 && !is_stopped {
                violated!("a listener ends, and {dropped} that were queued are reset");
            }
            gone.append(&mut listener.reset);
            self.tally.add(What::left_to_successor, listener.left.len());
            gone.append(&mut listener.left);
        }
        for at in gone {
            let id = self.alive.iter().copied().find(|id| self.peers[*id].at == at);
            id.into_iter().for_each(|id| self.lose(id));
        }
    }

    /// A core that has been told to ends in its time.
    fn check_time(&self) {
        let orders = self.orders.get();
        let latest = match (orders.phase, self.stopped_at_ms) {
            (Phase::Draining, _) => orders.drain_deadline_ms + self.life.close_timeout_ms,
            (Phase::Stopping, Some(at)) => at + self.life.stop_max_ms,
            _ => return,
        };
        // It may have stood still meanwhile.
        if !self.core.has_ended() && self.now_ms() > latest + LATE_MS + self.stood_still_ms {
            violated!("the core does not end");
        }
    }
}
