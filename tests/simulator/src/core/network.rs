//! What the network does with bytes either way, and what those behind it do about them.

use super::CoreWorld;
use super::services::{Pushed, said_by};
use crate::browser::Frame;
use crate::kernel::tell;
use crate::oracle::{ADDRESS, ROUTER_KEY};
use crate::random::Random;
use crate::tally::What;
use crate::workers::address;
use crate::world::violated;

/// All of so many bytes, or some.
fn some_of(random: &mut Random, have: usize) -> usize {
    match random.below(8) {
        _ if have == 0 => 0,
        0 => 1,
        1 | 2 => 1 + random.below(have),
        3 => 1 + random.below(have.min(16)),
        _ => have,
    }
}

impl CoreWorld {
    pub(super) fn network(&mut self) {
        match self.random.below(8) {
            0..3 => self.some_alive(Self::arrive),
            3..6 => self.some_alive(Self::acknowledge),
            _ => self.serve_redis(),
        }
    }

    fn some_alive(&mut self, act: impl FnOnce(&mut Self, usize)) {
        if !self.alive.is_empty() {
            let id = self.alive[self.random.below(self.alive.len())];
            act(self, id);
        }
    }

    /// Bytes travel from a client to the core's kernel.
    pub(super) fn arrive(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        let connection = &mut self.core.ring().connections[peer.at];
        let room = connection.inbound_max.saturating_sub(connection.inbound.len());
        let n = some_of(&mut self.random, peer.browser.unsent.len().min(room));
        if n > 0 && (connection.is_closed || connection.is_reset) {
            // The answer to what nobody receives any more.
            connection.reset();
            peer.browser.unsent.clear();
        } else {
            connection.inbound.extend(peer.browser.unsent.drain(..n));
        }
        if peer.ends && peer.browser.unsent.is_empty() && !connection.is_closed {
            connection.has_fin = true;
        }
    }

    /// A client's TCP acknowledges bytes, and the client reads them.
    pub(super) fn acknowledge(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        let connection = &mut self.core.ring().connections[peer.at];
        let n = some_of(&mut self.random, connection.outbound.len());
        let n = if peer.browser.reading { n } else { n.min(peer.browser.window) };
        let n = if peer.drip > 0 { n.min(peer.drip) } else { n };
        if !peer.browser.reading {
            peer.browser.window -= n;
        }
        connection.acknowledge(n);
        let is_heard = connection.outbound.is_empty();
        connection.is_fin_acknowledged |= is_heard && connection.is_shut.0;
        let is_shut = connection.is_shut.0;
        let is_over = connection.is_closed && (is_heard || connection.is_reset);
        let frames = peer.acknowledge(n);
        self.react(id, frames);
        let peer = &mut self.peers[id];
        if is_heard && is_shut {
            // Our end is answered with theirs.
            peer.ends = true;
        }
        if is_over {
            tell!(self.scene, "client {id} is over");
            self.tally.add(What::frames_cut_off, usize::from(peer.is_amid_frame()));
            self.lose(id);
        }
    }

    /// What a client does about what it is sent.
    fn react(&mut self, id: usize, frames: Vec<Frame>) {
        let (random, peer) = (&mut self.random, &mut self.peers[id]);
        for frame in frames {
            match frame {
                Frame::Ping if !peer.browser.silent && !peer.browser.close_sent => peer.browser.pong(random),
                Frame::Close(_) => {
                    peer.browser.close_got = true;
                    if !peer.browser.close_sent && !peer.browser.silent && random.percent(85) {
                        peer.browser.close(random);
                        peer.closes = true;
                    }
                    peer.ends |= random.percent(30);
                }
                Frame::Http(status) if status != 101 => peer.ends |= random.percent(70),
                _ => {}
            }
        }
    }

    /// Bytes reach Redis, and it carries out what it can.
    pub(super) fn serve_redis(&mut self) {
        let Self { bus, core, random, peers, owners, tally, scene, .. } = self;
        bus.open(core.ring());
        bus.serve(
            core.ring(),
            |have| some_of(random, have),
            |list, message| {
                let list = String::from_utf8_lossy(list);
                let text = String::from_utf8_lossy(message);
                let pushed = Pushed::read(&text);
                tell!(scene, "pushed to {list}: {text}");
                // What the gateway says for itself.
                let ours = "[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":\"0\",\"locale\"";
                if list.ends_with(":probe") || pushed.body.starts_with(ours) {
                    return;
                }
                tally.one(What::pushed_to_redis);
                let (Some((id, at)), Some((slot, generation, _))) = (said_by(pushed.xid), address(pushed.thread))
                else {
                    violated!("pushed is what nobody said: {text}");
                };
                let owner = *owners.entry((slot, generation)).or_insert(id);
                match peers.get_mut(id) {
                    Some(peer) if owner == id => peer.was_pushed(&list, at, &pushed),
                    _ => violated!("what client {id} said is pushed for {slot}.{generation}, which is client {owner}"),
                }
            },
        );
    }

    /// The router takes a message, or a worker one of its own list.
    pub(super) fn route(&mut self) {
        let redis = &mut self.bus.redis;
        if let Some(message) = redis[0].pop(ROUTER_KEY.as_bytes()) {
            return self.services.routed(&message, &mut self.random);
        }
        for redis in redis {
            let key = redis.lists.keys().find(|key| key.starts_with(b"opensrf:client:opensrf:")).cloned();
            if let Some(key) = key
                && let Some(message) = redis.pop(&key)
            {
                return self.services.taken(&message, &String::from_utf8_lossy(&key));
            }
        }
    }

    pub(super) fn work(&mut self) {
        if let Some(reply) = self.services.work(&mut self.random)
            && !self.bus.redis[0].down
        {
            self.bus.redis[0].push(ADDRESS.as_bytes(), reply);
        }
    }
}
