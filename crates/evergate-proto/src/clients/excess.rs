//! What a core does where too much is held: of its clients' bytes by itself, or of their messages by the bus.

use super::client::{Client, Stage};
use super::context::Context;
use super::output::{Severity, SlotIndex};
use super::outstanding::Room;
use super::table::Clients;
use crate::counters::Limit;
use crate::opensrf::address::BusThread;

impl Clients {
    /// Something has come about a conversation that its client does not know any more.
    pub(super) fn end_orphan(&mut self, thread: BusThread) {
        self.context.outstanding.end_orphan(thread, self.context.now_ms);
        self.context.publish_outstanding();
    }

    /// Forgets orphans and addresses that are not needed any more.
    pub(super) fn forget_old(&mut self) {
        let Context { now_ms, outstanding, limits, .. } = &mut self.context;
        outstanding.tick(*now_ms);
        for _ in 0..outstanding.addresses.tick(limits.addresses_max, *now_ms) {
            self.context.hit(Limit::addresses_max);
        }
        self.context.publish_outstanding();
        self.context.say_turned_away_more(false);
        self.tell_room();
    }

    /// The core ends: says what it was still counting for the log.
    pub fn say_counted(&mut self) {
        self.context.say_turned_away_more(true);
    }

    /// Says in the log when what nobody answers begins to keep clients from being read, and when it no longer does.
    fn tell_room(&mut self) {
        let cx = &mut self.context;
        let room = cx.outstanding.room(&cx.limits);
        let was = std::mem::replace(&mut self.room, room);
        if room == was {
            return;
        }
        let limit = match cx.outstanding.limit(&cx.limits) {
            Limit::bus_unanswered_max => "bus_unanswered_max",
            _ => "bus_unanswered_bytes_max",
        };
        let (level, line) = match room {
            Room::All => (Severity::Info, "bus: what is unanswered leaves room for all clients again".to_owned()),
            Room::Newcomers => {
                let who = "clients whose address has something there are not read; look for a service that hangs";
                (Severity::Warn, format!("bus: too much is unanswered ({limit}): {who}"))
            }
            Room::Nobody => {
                let who = "no client is read; look for a service that hangs";
                (Severity::Warn, format!("bus: twice too much is unanswered ({limit}): {who}"))
            }
        };
        cx.output.log(level, line);
    }

    /// While the core holds more than it may, though what its clients take has been sent: the open client that holds most is
    /// closed. Where those that are closing hold too much by themselves, the largest of them is given up. It is done at once, so
    /// that no more than one message is ever held too many.
    pub fn cut_holders(&mut self) {
        while let Some(slot) = self.holder_to_cut() {
            self.context.hit(Limit::core_bytes_max);
            self.with(slot, |client, cx| client.cut(cx));
        }
    }

    fn holder_to_cut(&self) -> Option<SlotIndex> {
        let (cx, bytes_max) = (&self.context, self.context.limits.core_bytes_max);
        let clients = || self.slots.iter().filter_map(|slot| slot.client.as_deref());
        let is_closing = |c: &&Client| matches!(c.stage, Stage::Closing(_));
        // Where nobody holds much, everybody is asked.
        let largest = if cx.core_bytes().saturating_sub(cx.holders.others_bytes()) > bytes_max {
            let smaller = || clients().filter(|c| matches!(c.stage, Stage::Open)).max_by_key(|c| c.bytes());
            cx.holders.largest_open().and_then(|slot| self.client(slot)).or_else(smaller)
        } else if cx.core_bytes() > bytes_max {
            let smaller = || clients().filter(is_closing).max_by_key(|c| c.bytes());
            cx.holders.others().filter_map(|slot| self.client(slot)).find(is_closing).or_else(smaller)
        } else {
            None
        };
        largest.map(|c| c.slot())
    }
}
