//! The sockets of a core's clients, by slot, and what is under way on each.

use evergate_prefetch::prefetch;

use crate::clients::output::SlotIndex;
use crate::ring::{GENERATION_BITS, Kind, Kinds, Op, Socket};

/// What a core has of a client besides its state. An idle client has one: it grows knowingly.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most of them are true together")]
pub(super) struct Connection {
    /// The socket; none while nobody has the slot.
    pub socket: Socket,
    /// Which of those that have had the slot.
    pub generation: u32,
    /// What is under way on it.
    pub under_way: Kinds,
    /// The receive under way was cancelled, or is a single one.
    pub is_cancelled: bool,
    /// It sends much: it is read in turns.
    pub is_heavy: bool,
    /// Something has come of it that was not handled.
    pub is_held: bool,
    /// It waits for its turn.
    pub is_queued: bool,
    /// It waits for a buffer to receive into.
    pub is_starved: bool,
    /// Nothing more comes of it; so is one that is given up.
    pub has_ended: bool,
    /// It is given up.
    pub is_over: bool,
}

const _: () = assert!(size_of::<Connection>() <= 20);

/// The descriptor of nobody.
const NONE: Socket = Socket(-1);

impl Connection {
    const EMPTY: Self = Self {
        socket: NONE,
        generation: 0,
        under_way: Kinds::NONE,
        is_cancelled: false,
        is_heavy: false,
        is_held: false,
        is_queued: false,
        is_starved: false,
        has_ended: false,
        is_over: false,
    };

    /// The name of what is under way for it.
    pub fn op(&self, kind: Kind, slot: SlotIndex) -> Op {
        Op::new(kind, slot, self.generation)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Connection>,
}

impl Connections {
    /// The slot is that of `socket` now.
    pub fn open(&mut self, slot: SlotIndex, socket: Socket) {
        let at = slot as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || Connection::EMPTY);
        }
        let generation = self.slots[at].generation;
        self.slots[at] = Connection { socket, generation, ..Connection::EMPTY };
    }

    /// Nobody has the slot any more: what still names it is not for the next.
    pub fn close(&mut self, slot: SlotIndex) {
        if let Some(connection) = self.slots.get_mut(slot as usize) {
            let generation = connection.generation.wrapping_add(1) & GENERATION_BITS;
            *connection = Connection { generation, ..Connection::EMPTY };
        }
    }

    /// Whoever has the slot will be asked for soon.
    pub fn prefetch(&self, slot: SlotIndex) {
        if let Some(connection) = self.slots.get(slot as usize) {
            prefetch(connection);
        }
    }

    /// Whoever has the slot.
    pub fn get(&self, slot: SlotIndex) -> Option<&Connection> {
        self.slots.get(slot as usize).filter(|connection| connection.socket != NONE)
    }

    /// Whoever has the slot.
    pub fn get_mut(&mut self, slot: SlotIndex) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize).filter(|connection| connection.socket != NONE)
    }

    /// Whose operation it is, unless that one has gone.
    pub fn of(&mut self, op: Op) -> Option<&mut Connection> {
        self.get_mut(op.place).filter(|connection| connection.generation == op.generation)
    }

    /// All that are there.
    pub fn all(&self) -> impl Iterator<Item = (SlotIndex, &Connection)> {
        let slots = self.slots.iter().enumerate().map(|(slot, connection)| (slot as SlotIndex, connection));
        slots.filter(|(_, connection)| connection.socket != NONE)
    }
}
