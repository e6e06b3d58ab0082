//! What has come of clients and was not handled: they are heavy and take turns, or they may not be read from.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::FULL_ENTRY;
use crate::clients::output::SlotIndex;
use crate::ring::{Lent, Pool};

/// Bytes of one part: what one turn of a client is about at most, but for one receive.
const PART_BYTES: usize = if cfg!(feature = "simulator") { 300 } else { 64 * 1024 };

/// Something that has come of a client.
#[derive(Debug)]
pub(super) enum Part {
    /// A large buffer, as it came.
    Lent(Lent),
    /// Bytes that were copied, so that the ring has its buffers.
    Bytes(Vec<u8>),
    /// The peer has ended the connection.
    Ended,
    /// It broke.
    Broke,
}

/// All of it, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Held {
    parts: FxHashMap<SlotIndex, VecDeque<Part>>,
    /// Who is heavy and has something, the first first.
    queue: VecDeque<SlotIndex>,
    /// Those of them who were there when the turn began.
    due: usize,
    /// Turns in a row in which they were left to the next.
    left: u32,
    /// Who waits for a buffer of the pool to receive into: light, heavy.
    starved: [VecDeque<SlotIndex>; 2],
    /// Buffers of the heavy pool that are held here.
    lent: u32,
    /// Who is to be received from again.
    listens: Vec<SlotIndex>,
    /// Of whom the last receive was, and how much has come in a row.
    run: (SlotIndex, usize),
    /// Bytes of clients since the time was looked at.
    unlooked: usize,
}

/// Bytes after which the time is looked at: they may be dozens of requests.
const LOOK_BYTES: usize = if cfg!(feature = "simulator") { 200 } else { 16 * 1024 };
/// Bytes in a row with which a client is heavy.
pub(super) const RUN_BYTES: usize = if cfg!(feature = "simulator") { 200 } else { 16 * 1024 };
/// Bytes that are handled of heavy clients in one turn, and the time after which no more is. The light ones wait for no more
/// than that, however many are heavy; one long message that has become whole may go beyond it.
pub(super) const HEAVY_TURN_BYTES: usize = if cfg!(feature = "simulator") { 500 } else { 64 * 1024 };
pub(super) const HEAVY_TURN: Duration = Duration::from_millis(1);
/// So often a turn may leave the heavy ones to the next because more may be ready: whoever is light is found first, behind however
/// many that have gone.
const LEFT_MAX: u32 = if cfg!(feature = "simulator") { 3 } else { 32 };

impl Held {
    pub fn begin_turn(&mut self) {
        self.due = self.queue.len();
        self.run.1 = 0;
        self.unlooked = 0;
    }

    /// Bytes of a client have come; how many in a row.
    pub fn run(&mut self, slot: SlotIndex, bytes: usize) -> usize {
        self.unlooked += bytes;
        self.run = (slot, if self.run.0 == slot { self.run.1 + bytes } else { bytes });
        self.run.1
    }

    /// Whether so much has come that the time should be looked at.
    pub fn looks_at_time(&mut self) -> bool {
        let looks = self.unlooked >= LOOK_BYTES;
        if looks {
            self.unlooked = 0;
        }
        looks
    }

    /// Keeps a part, behind the others of its client.
    pub fn keep(&mut self, slot: SlotIndex, part: Part) {
        self.lent += u32::from(matches!(part, Part::Lent(_)));
        self.parts.entry(slot).or_default().push_back(part);
    }

    /// Keeps a copy of bytes, behind the others of its client.
    pub fn keep_bytes(&mut self, slot: SlotIndex, bytes: &[u8]) {
        let parts = self.parts.entry(slot).or_default();
        match parts.back_mut() {
            Some(Part::Bytes(last)) if last.len() < PART_BYTES => last.extend_from_slice(bytes),
            _ => parts.push_back(Part::Bytes(bytes.to_vec())),
        }
    }

    /// The oldest part of a client, and whether more are behind it.
    pub fn take(&mut self, slot: SlotIndex) -> Option<(Part, bool)> {
        let parts = self.parts.get_mut(&slot)?;
        let part = parts.pop_front()?;
        let has_more = !parts.is_empty();
        if !has_more {
            self.parts.remove(&slot);
        }
        self.taken(&part);
        Some((part, has_more))
    }

    /// All parts of a client, which has gone, or may not be read from for a while.
    pub fn take_all(&mut self, slot: SlotIndex) -> VecDeque<Part> {
        let parts = self.parts.remove(&slot).unwrap_or_default();
        for part in &parts {
            self.taken(part);
        }
        parts
    }

    fn taken(&mut self, part: &Part) {
        self.lent -= u32::from(matches!(part, Part::Lent(_)));
    }

    /// Bytes of a client that were copied.
    pub fn bytes_of(&self, slot: SlotIndex) -> usize {
        let bytes = |part: &Part| if let Part::Bytes(bytes) = part { bytes.len() } else { 0 };
        self.parts.get(&slot).map_or(0, |parts| parts.iter().map(bytes).sum())
    }

    /// A client takes its place behind the others.
    pub fn queue(&mut self, slot: SlotIndex) {
        self.queue.push_back(slot);
    }

    /// Whoever is next, of those who were there when the turn began.
    pub fn next(&mut self) -> Option<SlotIndex> {
        self.due = self.due.checked_sub(1)?;
        self.queue.pop_front()
    }

    /// Whether they wait for a turn that finds nobody else, though not for ever: this one has handled so many completions.
    pub fn leaves(&mut self, completions: usize) -> bool {
        let leaves = completions >= FULL_ENTRY && self.left < LEFT_MAX;
        self.left = if leaves { self.left + 1 } else { 0 };
        leaves
    }

    /// A client waits for a buffer of that pool.
    pub fn starve(&mut self, slot: SlotIndex, pool: Pool) {
        self.starved[index(pool)].push_back(slot);
    }

    /// Somebody who waited for a buffer, if there may be one.
    pub fn feed(&mut self, pool: Pool) -> Option<SlotIndex> {
        self.starved[index(pool)].pop_front()
    }

    /// How many wait for a buffer of the pool.
    pub fn starved(&self, pool: Pool) -> usize {
        self.starved[index(pool)].len()
    }

    /// Large buffers that are held here.
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// A client is to be received from again.
    pub fn listen(&mut self, slot: SlotIndex) {
        self.listens.push(slot);
    }

    /// Who is.
    pub fn take_listens(&mut self) -> Vec<SlotIndex> {
        std::mem::take(&mut self.listens)
    }

    /// Takes the memory back.
    pub fn give_listens(&mut self, mut listens: Vec<SlotIndex>) {
        listens.clear();
        if self.listens.is_empty() {
            self.listens = listens;
        }
    }

    /// Whether somebody can be served without waiting.
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty() || !self.listens.is_empty() || self.starved.iter().any(|starved| !starved.is_empty())
    }
}

fn index(pool: Pool) -> usize {
    usize::from(pool == Pool::Heavy)
}
