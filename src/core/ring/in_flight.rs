//! Memory that operations under way read or write.
#![expect(unsafe_code, reason = "only the completion tells how much of a buffer the kernel has filled")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::ManuallyDrop;

use evergate_proto::ring::{Kind, Op};
use rustc_hash::FxBuildHasher;
use socket2::SockAddr;

/// By operation, under way with the name that it has here: all but those of [`brings_memory`]'s other kinds. What is in
/// here no drop frees, not even of this: it is given back by [`Self::take`], or leaked.
///
/// Vectors, because their memory stays where it is when they are moved, and because the compiler does not take them (as
/// it takes a `Box`) for the only way to that memory.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: HashMap<u64, Held, FxBuildHasher>,
}

/// Whether operations of `kind` may bring memory of their own. Of the others there is one a client and longer, and they
/// cost nothing here.
pub(super) fn brings_memory(kind: Kind) -> bool {
    !matches!(kind, Kind::Accept | Kind::Receive | Kind::WatchEnd)
}

#[derive(Debug)]
enum Held {
    /// It brought none, though its kind may: its name is taken all the same.
    Nothing,
    /// The kernel reads it.
    Sent(ManuallyDrop<Vec<u8>>),
    /// The kernel writes behind its bytes.
    Filled(ManuallyDrop<Vec<u8>>),
    /// The kernel reads the one address in it.
    Address(ManuallyDrop<Vec<SockAddr>>),
}

impl InFlight {
    /// The kernel will read `buffer`; where its bytes begin.
    pub fn send(&mut self, op: Op, buffer: Vec<u8>) -> *const u8 {
        let start = buffer.as_ptr();
        self.hold(op, Held::Sent(ManuallyDrop::new(buffer)));
        start
    }

    /// The kernel will write into the room of `buffer`; where that begins, and its bytes.
    pub fn fill(&mut self, op: Op, mut buffer: Vec<u8>) -> (*mut u8, usize) {
        let room = buffer.spare_capacity_mut();
        let (start, bytes) = (room.as_mut_ptr().cast(), room.len());
        assert!(bytes > 0, "no room to receive into, {op:?}: what came of it would look like the peer's end");
        self.hold(op, Held::Filled(ManuallyDrop::new(buffer)));
        (start, bytes)
    }

    /// The kernel will read `address`; where it is.
    pub fn address(&mut self, op: Op, address: SockAddr) -> *const SockAddr {
        let address = vec![address];
        let start = address.as_ptr();
        self.hold(op, Held::Address(ManuallyDrop::new(address)));
        start
    }

    /// `op` brings no memory.
    pub fn nothing(&mut self, op: Op) {
        if brings_memory(op.kind) {
            self.hold(op, Held::Nothing);
        }
    }

    /// What `op` had; the kernel has `filled` bytes of it where it was to fill it.
    ///
    /// # Safety
    ///
    /// The last completion of `op` has come, with `filled` as its result (0 for an error).
    pub unsafe fn take(&mut self, op: Op, filled: u32) -> Option<Vec<u8>> {
        if !brings_memory(op.kind) {
            return None;
        }
        match self.held.remove(&op.to_bits())? {
            Held::Nothing => None,
            Held::Sent(buffer) => Some(ManuallyDrop::into_inner(buffer)),
            Held::Filled(buffer) => {
                let mut buffer = ManuallyDrop::into_inner(buffer);
                let len = buffer.len() + filled as usize;
                assert!(len <= buffer.capacity(), "{op:?} brought more than there was room for");
                // SAFETY: the kernel has written so many bytes behind those that were there, says the caller.
                unsafe { buffer.set_len(len) };
                Some(buffer)
            }
            Held::Address(address) => {
                drop(ManuallyDrop::into_inner(address));
                None
            }
        }
    }

    fn hold(&mut self, op: Op, held: Held) {
        assert!(brings_memory(op.kind), "no memory is kept for {op:?}");
        match self.held.entry(op.to_bits()) {
            Entry::Vacant(place) => place.insert(held),
            // Whatever is under way keeps its memory: neither of the two is ever freed.
            Entry::Occupied(_) => panic!("two operations of one name: {op:?}"),
        };
    }
}
