//! The clients of one core: the way in for bytes from either side, for time, and for what befalls the bus.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use evergate_prefetch::prefetch;
use memchr::memmem;

use super::client::{Client, Stage};
use super::context::Context;
use super::limits::Limits;
use super::outbound::Chunk;
use super::output::{Output, SlotIndex};
use super::outstanding::Room;
use super::turns::Turns;
use crate::counters::{self, Limit, Oldest};
use crate::drain::{Drain, DrainOptions};
use crate::opensrf::reply::ReplyMessage;
use crate::websocket::decoder::are_control;
use crate::websocket::net::Address;
use crate::websocket::proxy_header::{Opening, Wrong};

/// A tick that is so late is a stall of ours: what clients owed meanwhile is not held against them.
const STALL_MS: u64 = 1_000;

/// A place for a client. The generation tells its clients apart.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) client: Option<Box<Client>>,
}

/// All clients of a core.
pub struct Clients {
    pub(super) slots: Vec<Slot>,
    /// Empty slots, the one that was freed first in front: a late reply meets an old generation for as long as can be.
    free: VecDeque<SlotIndex>,
    /// For each slot, when its client must be looked at; apart from the slots so that a tick reads little memory.
    due_ms: Vec<u64>,
    /// Clients that are not read from.
    paused: BTreeSet<SlotIndex>,
    /// Some of them may wait for nothing but the core's bytes, or for limits that were changed.
    looks_at_paused: bool,
    /// Some of them wait for room on the bus: they are looked at when that has less.
    looks_at_paused_for_bus: bool,
    /// Who waits for the router.
    pub(super) turns: Turns,
    /// The slot at which the tick under way goes on; 0 = none is.
    tick_at: usize,
    /// When the last tick was, ms; 0 = none yet.
    ticked_ms: u64,
    /// For whom the bus had room at the last tick.
    pub(super) room: Room,
    /// Finds where a bus message names its thread.
    pub(super) thread_key: memmem::Finder<'static>,
    /// Where that stood in the last one.
    pub(super) thread_at: usize,
    /// Reused between replies.
    pub(super) reply_messages: Vec<ReplyMessage>,
    /// What they share.
    pub context: Context,
}

impl Clients {
    /// No clients yet.
    pub fn new(context: Context) -> Self {
        Self {
            slots: Vec::new(),
            free: VecDeque::new(),
            due_ms: Vec::new(),
            paused: BTreeSet::new(),
            looks_at_paused: false,
            looks_at_paused_for_bus: false,
            turns: Turns::default(),
            tick_at: 0,
            ticked_ms: 0,
            room: Room::All,
            thread_key: memmem::Finder::new(br#""thread":""#),
            thread_at: 0,
            reply_messages: Vec::new(),
            context,
        }
    }

    /// What is to be done since the last call, in exchange for an empty one.
    pub fn take_output(&mut self, empty: Output) -> Output {
        std::mem::replace(&mut self.context.output, empty)
    }

    /// Takes a buffer back that was handed out with bytes for a client or for the bus.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.context.reuse.give_buffer(buffer);
    }

    /// Connections, whatever their stage.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True when there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a connection from `peer` may begin so: a PROXY header is taken from proxies that are trusted alone. One that may not is
    /// counted, and its peer is named in the log.
    pub fn admits(&mut self, peer: Address, opening: Opening) -> bool {
        let admits = opening == Opening::Request || self.context.limits.policy.trusts(peer);
        if !admits {
            counters::add(&self.context.counts().accepted, 1);
            self.context.proxy_refused(peer, Wrong::Untrusted);
        }
        admits
    }

    /// A connection from `peer`, which is [admitted](Self::admits), and what it is to begin with; its slot.
    pub fn accept(&mut self, peer: Address, opening: Opening) -> SlotIndex {
        let index = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.due_ms.push(u64::MAX);
            (self.slots.len() - 1) as SlotIndex
        });
        let slot = &mut self.slots[index as usize];
        slot.client = Some(Box::new(Client::new(index, slot.generation, peer, opening, self.context.now_ms)));
        counters::add(&self.context.counts().accepted, 1);
        self.count_connections();
        self.settle(index);
        index
    }

    /// Bytes came from a client. They are unmasked in place.
    pub fn input(&mut self, slot: SlotIndex, bytes: &mut [u8]) {
        self.with(slot, |client, cx| client.input(cx, bytes));
    }

    /// The client has ended its side of the connection: nothing more comes of it.
    pub fn ended(&mut self, slot: SlotIndex, reason: &str) {
        self.with(slot, |client, cx| client.ended(cx, reason));
    }

    /// The client's connection broke.
    pub fn broke(&mut self, slot: SlotIndex, reason: &str) {
        self.with(slot, |client, cx| client.broke(cx, reason));
    }

    /// The client has been looked at, as [`Output::look`] asked: its TCP has yet to acknowledge `unacknowledged` bytes of
    /// what the kernel has taken for it.
    pub fn looked(&mut self, slot: SlotIndex, unacknowledged: u64) {
        self.with(slot, |client, cx| client.looked(cx, unacknowledged));
    }

    /// Whether the client's connection is over, as [`Output::hang_up`] said.
    pub fn is_over(&self, slot: SlotIndex) -> bool {
        self.client(slot).is_some_and(|client| matches!(client.stage, Stage::Gone))
    }

    /// A connection was accepted when the process had as many clients as it may.
    pub fn no_place(&mut self, slot: SlotIndex) {
        self.with(slot, |client, cx| client.no_place(cx));
    }

    /// Answers one of [`Output::probes`].
    pub fn answer(&mut self, slot: SlotIndex, response: &[u8]) {
        self.with(slot, |client, cx| client.answer(cx, response));
    }

    /// The chunk to send next; [`Self::sent`] must follow before the next call.
    pub fn take_outbound(&mut self, slot: SlotIndex) -> Option<Chunk> {
        self.slots[slot as usize].client.as_mut().filter(|client| client.outbound.is_ready())?.outbound.take()
    }

    /// Bytes for the client that the kernel has not taken.
    pub fn owed(&self, slot: SlotIndex) -> usize {
        self.client(slot).map_or(0, |client| client.outbound.bytes())
    }

    /// The kernel has taken `bytes` more of the chunk, and not the last.
    pub fn progressed(&mut self, slot: SlotIndex, bytes: usize) {
        self.with(slot, |client, _| client.outbound.progressed(bytes));
    }

    /// The kernel has taken all of the chunk.
    pub fn sent(&mut self, slot: SlotIndex) {
        self.with(slot, |client, cx| client.sent(cx));
    }

    /// Whether the client may be read from; if not, it will be named in [`Output::resume`].
    pub fn may_read(&mut self, slot: SlotIndex) -> bool {
        let Some(client) = &mut self.slots[slot as usize].client else { return true };
        if client.may_read(&self.context) {
            return true;
        }
        if !client.is_paused() {
            client.pause();
            if self.context.is_core_full() {
                self.context.hit(Limit::core_bytes_max);
            }
            // What waits for the router is counted by the message.
            if let Some(limit) = client.kept_by(&self.context).filter(|limit| *limit != Limit::router_queue_max) {
                self.context.hit(limit);
            }
            self.paused.insert(slot);
            self.settle(slot);
        }
        false
    }

    /// Whether the client may be received from: who falls silent in a drain is until it has said something.
    pub fn may_listen(&mut self, slot: SlotIndex) -> bool {
        self.is_only_silenced(slot) || self.may_read(slot)
    }

    /// Whether `bytes` of the client may be read.
    pub fn may_take(&mut self, slot: SlotIndex, bytes: &[u8]) -> bool {
        self.is_only_silenced(slot) && are_control(bytes) || self.may_read(slot)
    }

    fn is_only_silenced(&self, slot: SlotIndex) -> bool {
        self.context.drain.is_some() && self.client(slot).is_some_and(|client| client.is_only_silenced(&self.context))
    }

    /// Has a client that was read from be not read any more, if it may not be: unless it is the router's list that keeps it, which is
    /// so after nearly every request where the router is busy, and is over before the next one as a rule.
    pub fn look_to_pause(&mut self, slot: SlotIndex) {
        // Who shakes hands still has no address that could be kept.
        let waits_for_router = self.client(slot).is_some_and(|client| {
            matches!(client.stage, Stage::Open) && client.kept_by(&self.context) == Some(Limit::router_queue_max)
        });
        if !waits_for_router {
            self.may_listen(slot);
        }
    }

    /// So many bytes of a client have come and wait for it to be read from again: they stand in its account.
    pub fn keep_unheard(&mut self, slot: SlotIndex, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.client(slot).is_some_and(|client| client.unheard_bytes() != bytes) {
            self.with(slot, |client, _| client.keep_unheard(bytes));
        }
    }

    /// Whether the client is not read from.
    pub fn is_paused(&self, slot: SlotIndex) -> bool {
        self.client(slot).is_some_and(|client| client.is_paused())
    }

    /// Whether nothing waits for the chunk that was just taken to be sent: no other chunk, no end of the connection.
    pub fn is_last_chunk(&self, slot: SlotIndex) -> bool {
        self.client(slot)
            .is_some_and(|client| matches!(client.stage, Stage::Open) && client.outbound.has_nothing_behind())
    }

    /// Whether the client is sending a message so long that it is judged while it comes in.
    pub fn is_amid_long_message(&self, slot: SlotIndex) -> bool {
        self.client(slot).is_some_and(|client| client.is_judging())
    }

    /// Clients that are not read from: the loop watches for their end.
    pub fn paused(&self) -> &BTreeSet<SlotIndex> {
        &self.paused
    }

    /// The socket has been given back: the slot may be used again.
    pub fn release(&mut self, slot: SlotIndex) {
        self.with(slot, |client, cx| {
            client.outbound = super::outbound::Outbound::default();
            client.broke(cx, "connection lost");
        });
        let place = &mut self.slots[slot as usize];
        if place.client.take().is_some() {
            place.generation = place.generation.wrapping_add(1);
            self.due_ms[slot as usize] = u64::MAX;
            self.free.push_back(slot);
            self.count_connections();
            self.paused.remove(&slot);
        }
    }

    /// The client in `slot` will be asked for soon.
    pub fn prefetch(&self, slot: SlotIndex) {
        if let Some(client) = self.client(slot) {
            prefetch(client);
        }
    }

    /// Time has passed: does what is due, as long as `goes_on` says so; it is asked after each client. False: the same call goes on
    /// with the rest.
    pub fn tick(&mut self, mut goes_on: impl FnMut() -> bool) -> bool {
        if self.tick_at == 0 {
            self.begin_tick();
        }
        while self.tick_at < self.due_ms.len() {
            let index = self.tick_at;
            self.tick_at += 1;
            if self.due_ms[index] <= self.ticked_ms {
                self.with(index as SlotIndex, |client, cx| client.tick(cx));
                if !goes_on() {
                    return false;
                }
            }
        }
        self.tick_at = 0;
        self.end_tick();
        true
    }

    fn begin_tick(&mut self) {
        let now_ms = self.context.now_ms;
        let late_ms = now_ms.saturating_sub(self.ticked_ms.max(1));
        if self.ticked_ms > 0 && late_ms > STALL_MS {
            self.for_each(|client, _| client.forgive(late_ms, now_ms));
        }
        self.ticked_ms = now_ms;
        self.forget_old();
        self.context.reuse.tick();
        let open = self.len();
        if self.context.drain.as_mut().is_some_and(|drain| drain.begin_second_half(open, now_ms)) {
            self.look_at_all();
        }
        self.give_turns();
    }

    fn end_tick(&mut self) {
        self.cut_holders();
        let has_room = !self.context.is_core_full();
        let looks_for_bus = has_room && self.looks_at_paused_for_bus && self.context.outstanding.take_freed();
        if has_room && (self.looks_at_paused || looks_for_bus) {
            (self.looks_at_paused, self.looks_at_paused_for_bus) = (false, false);
            for slot in self.paused.clone() {
                self.settle(slot);
            }
        }
    }

    /// Lets those who stand in line in a drain have their turns, as far as the pace allows.
    fn give_turns(&mut self) {
        while let Some(slot) = self.context.drain.as_mut().and_then(Drain::first_in_line) {
            if self.with(slot, |client, cx| client.take_turn(cx)) == Some(false) {
                if let Some(drain) = &mut self.context.drain {
                    drain.back_to_front(slot);
                }
                return;
            }
        }
    }

    /// The limits were read again.
    pub fn set_limits(&mut self, limits: Rc<Limits>) {
        self.context.replace_limits(limits);
        self.looks_at_paused = true;
    }

    /// The listener share is closed: from now on each client is closed at its gap.
    pub fn begin_drain(&mut self, options: DrainOptions) {
        self.context.begin_drain(options, self.len());
        self.look_at_all();
    }

    /// What all of them are judged by has changed: when each is due, and whether it is read from, is worked out anew.
    fn look_at_all(&mut self) {
        self.for_each(|_, _| ());
    }

    /// The drain is cancelled: whoever is here stays.
    pub fn cancel_drain(&mut self) {
        self.context.cancel_drain();
        self.for_each(|client, _| client.leave_line());
    }

    /// The drain's deadline has passed: everybody is closed.
    pub fn drain_deadline(&mut self) {
        self.for_each(|client, cx| client.drain_deadline(cx));
    }

    /// The process stops: everybody is closed with `code`. During a drain, who had something to lose is counted as cut.
    pub fn stop(&mut self, code: u16, draining: bool) {
        self.for_each(|client, cx| client.stop(cx, code, draining));
    }

    /// Clients whose replies are not all known to be delivered, and the bytes of those.
    pub fn undelivered(&self) -> (usize, u64) {
        let bytes = self.slots.iter().filter_map(|slot| Some(slot.client.as_deref()?.outbound.undelivered_bytes()));
        bytes.filter(|bytes| *bytes > 0).fold((0, 0), |(clients, sum), bytes| (clients + 1, sum + bytes))
    }

    /// What has been waited for longest, of the clients that keep the core from ending.
    pub fn oldest(&self) -> Option<Oldest> {
        let now_ms = self.context.now_ms;
        self.slots
            .iter()
            .filter_map(|slot| slot.client.as_deref())
            .filter(|client| client.is_busy())
            .filter_map(|client| client.oldest(now_ms).map(|oldest| (client, oldest)))
            .max_by_key(|(_, (.., age_ms))| *age_ms)
            .map(|(client, (service, method, age_ms))| Oldest {
                service: service.into_owned(),
                method: method.into_owned(),
                age_ms,
                client: client.address().to_string(),
            })
    }

    /// Slots, used or free, for the tests.
    #[cfg(any(test, feature = "simulator"))]
    pub(super) fn slots_len(&self) -> SlotIndex {
        self.slots.len() as SlotIndex
    }

    /// The client in `slot`, if there is one.
    pub(super) fn client(&self, slot: SlotIndex) -> Option<&Client> {
        self.slots.get(slot as usize)?.client.as_deref()
    }

    fn count_connections(&self) {
        counters::set(&self.context.counts().connections, self.len() as u64);
    }

    pub(super) fn for_each(&mut self, mut decide: impl FnMut(&mut Client, &mut Context)) {
        for index in 0..self.slots.len() {
            self.with(index as SlotIndex, &mut decide);
        }
    }

    /// Lets `decide` decide about a client, then draws the conclusions that every decision has.
    pub(super) fn with<T>(
        &mut self,
        slot: SlotIndex,
        decide: impl FnOnce(&mut Client, &mut Context) -> T,
    ) -> Option<T> {
        let client = self.slots[slot as usize].client.as_mut()?;
        let decided = decide(client, &mut self.context);
        self.settle(slot);
        Some(decided)
    }

    /// Brings the gauges, the output and the due time up to date with a client.
    fn settle(&mut self, slot: SlotIndex) {
        let Some(client) = &mut self.slots[slot as usize].client else { return };
        let cx = &mut self.context;
        // One that is being looked at may turn out to be over, and needs no half-close then.
        if let Stage::Closing(closing) = &mut client.stage
            && client.outbound.is_empty()
            && !client.asked
            && closing.shut_down(cx.now_ms)
        {
            cx.output.half_close.push(slot);
        }
        if matches!(client.stage, Stage::Gone) {
            cx.output.hang_up.push(slot);
        } else if client.outbound.is_ready() {
            cx.output.send.push(slot);
        }
        if client.is_paused() && client.may_read(cx) {
            client.resume(cx.now_ms);
            self.paused.remove(&slot);
            cx.output.resume.push(slot);
        }
        // Of one that goes on waiting, nothing but the core's bytes or room on the bus can be missing without an event of
        // its own.
        self.looks_at_paused |= client.is_paused() && cx.is_core_full();
        let kept = if client.is_paused() { client.kept_by(cx) } else { None };
        self.looks_at_paused_for_bus |= kept.is_some();
        if client.waits_for_bus || kept.is_some() {
            self.turns.wait(slot);
        }
        client.book.rest(&mut cx.reuse);
        client.update_gauges(cx);
        self.due_ms[slot as usize] = client.due_ms(cx);
    }
}
