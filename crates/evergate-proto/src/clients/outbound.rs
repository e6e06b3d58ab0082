//! Frames for one client: what the kernel has not taken, and how far the peer has acknowledged what it has.
//!
//! Offsets count the bytes that were ever queued for the connection. The kernel takes them in order, and the peer's TCP
//! acknowledges them in order; how far, the shell asks the kernel when that matters (SIOCOUTQ).

use std::collections::VecDeque;
use std::ops::Range;

use super::reuse::Reuse;
use crate::websocket::frame;

/// Small frames are put together up to this size, so that a burst costs one send.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub struct Chunk {
    /// What holds them.
    pub buffer: Vec<u8>,
    /// Where in it they begin: before them stands what the bus had there, if this is the buffer in which a reply came.
    pub from: u32,
}

impl Chunk {
    /// Those that are to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.from as usize..]
    }
}

/// A reply that is sent from the buffer in which it came.
#[derive(Debug)]
pub struct Around<'a> {
    /// What was received.
    pub buffer: Vec<u8>,
    /// Where in it the body stands.
    pub body: Range<usize>,
    /// What is to stand before it: over what the bus had there.
    pub head: &'a [u8],
    /// What is to stand behind it.
    pub tail: &'a [u8],
}

impl Around<'_> {
    /// Bytes of the message.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }

    /// Whether there is room before and behind the body.
    pub fn fits(&self) -> bool {
        self.body.start >= frame::HEADER_BYTES_MAX + self.head.len()
            && self.buffer.capacity() - self.body.end >= self.tail.len()
    }
}

/// Unsent bytes, in chunks of whole frames, and what is known of those sent. Owns no memory when nothing is unsent. What is unsent
/// is less than 4 GiB: `outbound_bytes_max`, 1 GiB at most, and one message beyond it.
#[derive(Debug, Default)]
pub struct Outbound {
    /// The buffer of the chunk that is sent next; empty where none waits.
    next: Vec<u8>,
    /// Chunks behind it, oldest first.
    #[expect(clippy::box_collection, reason = "an idle client has none, and should not pay for one")]
    more: Option<Box<VecDeque<Chunk>>>,
    /// Bytes in both.
    queued_bytes: u32,
    /// Bytes of the chunk that the shell is sending; 0 = none.
    in_flight: u32,
    /// How many of those the kernel has taken.
    in_flight_taken: u32,
    /// How far the kernel has taken what was queued.
    taken: u64,
    /// How far the peer had acknowledged that when it was last looked at.
    acknowledged: u64,
    /// The longest time between two sights of the peer acknowledging more while something was on its way, ms.
    pub acknowledged_every_ms: u32,
    /// Where the last reply ends. Behind it are control frames at most.
    reply_end: u64,
    /// The last look found a reply that the kernel had taken and the peer had not acknowledged.
    late: bool,
    /// Where its bytes begin in `next`. Apart from it: together as a [`Chunk`] they would be padded, and a client has 248 bytes.
    next_from: u32,
    /// Bytes at the front of the queue that are no frame but the answer to the handshake: they are never dropped.
    answer_bytes: u16,
    /// The bytes of each frame ever queued: the simulator's oracle cannot know how long our own texts are.
    #[cfg(feature = "simulator")]
    frames_queued: Vec<usize>,
}

impl Outbound {
    /// Appends one text frame, a reply, around what `write` appends; `bytes_hint` is about how much that is. How much it was, bytes.
    pub fn text(&mut self, reuse: &mut Reuse, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.message(reuse, frame::OpCode::Text, bytes_hint, write)
    }

    /// As [`Self::text`], of either kind.
    pub fn message(
        &mut self,
        reuse: &mut Reuse,
        opcode: frame::OpCode,
        bytes_hint: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let mut payload = 0;
        self.frame(reuse, bytes_hint + frame::HEADER_BYTES_MAX, |chunk| {
            // The header's size depends on the payload's, which is known only afterwards: leave room for the
            // longest header and move a small payload down, which costs less than measuring it first.
            let start = chunk.len();
            chunk.extend_from_slice(&[0; frame::HEADER_BYTES_MAX]);
            write(chunk);
            payload = chunk.len() - start - frame::HEADER_BYTES_MAX;
            let (header, used) = frame::header(opcode, payload);
            let gap = frame::HEADER_BYTES_MAX - used;
            chunk[start + gap..start + gap + used].copy_from_slice(&header[..used]);
            if gap > 0 {
                chunk.copy_within(start + gap.., start);
                chunk.truncate(chunk.len() - gap);
            }
        });
        self.reply_end = self.end();
        payload
    }

    /// Appends a text frame, a reply, in a chunk of its own. It must [fit](Around::fits).
    pub fn around(&mut self, around: Around<'_>) {
        debug_assert!(around.fits());
        let (header, used) = frame::header(frame::OpCode::Text, around.bytes());
        let Around { mut buffer, body, head, tail } = around;
        let opening = body.start - head.len();
        let from = opening - used;
        buffer[from..opening].copy_from_slice(&header[..used]);
        buffer[opening..body.start].copy_from_slice(head);
        buffer.truncate(body.end);
        buffer.extend_from_slice(tail);
        let bytes = buffer.len() - from;
        if self.next.is_empty() {
            (self.next, self.next_from) = (buffer, from as u32);
        } else {
            self.more.get_or_insert_default().push_back(Chunk { buffer, from: from as u32 });
        }
        self.appended(bytes);
        self.reply_end = self.end();
    }

    /// Puts the answer to the handshake first.
    pub fn answer(&mut self, reuse: &mut Reuse, response: &[u8]) {
        debug_assert!(self.is_empty(), "nothing is sent before it");
        self.frame(reuse, response.len(), |out| out.extend_from_slice(response));
        self.answer_bytes = response.len().min(usize::from(u16::MAX)) as u16;
    }

    /// Appends bytes that `write` appends, as one unit that is never split by [`Self::drop_queued`].
    pub fn frame(&mut self, reuse: &mut Reuse, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let last = self.more.as_ref().and_then(|more| more.back()).map_or(&self.next, |last| &last.buffer);
        if self.next.is_empty() {
            self.next = reuse.buffer(bytes_hint);
        } else if last.len() + bytes_hint > CHUNK_BYTES {
            self.more.get_or_insert_default().push_back(Chunk { buffer: reuse.buffer(bytes_hint), from: 0 });
        }
        let tail = self.more.as_mut().and_then(|more| more.back_mut()).map_or(&mut self.next, |last| &mut last.buffer);
        let before = tail.len();
        write(tail);
        let bytes = tail.len() - before;
        self.appended(bytes);
    }

    /// A frame of so many bytes is queued.
    fn appended(&mut self, bytes: usize) {
        self.queued_bytes += bytes as u32;
        #[cfg(feature = "simulator")]
        self.frames_queued.push(bytes);
    }

    /// Where what was queued ends.
    fn end(&self) -> u64 {
        self.taken + u64::from(self.in_flight - self.in_flight_taken) + u64::from(self.queued_bytes)
    }

    /// Bytes that wait or are being sent.
    pub fn bytes(&self) -> usize {
        self.queued_bytes as usize + self.in_flight as usize
    }

    /// True when the kernel has taken everything.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// True when the peer is known to have acknowledged everything.
    pub fn is_all_acknowledged(&self) -> bool {
        self.is_empty() && self.acknowledged == self.taken
    }

    /// Bytes of replies that are not known to have been acknowledged, control frames before them included.
    pub fn undelivered_bytes(&self) -> u64 {
        self.reply_end.saturating_sub(self.acknowledged)
    }

    /// Whether the peer is known to have acknowledged every reply.
    pub fn is_delivered(&self) -> bool {
        self.acknowledged >= self.reply_end
    }

    /// Whether a reply is on its way: the kernel has not taken it, or a look has found it not acknowledged. What was not
    /// looked at yet is neither that nor delivered.
    pub fn is_sending(&self) -> bool {
        self.is_unsent() || self.late
    }

    /// How many bytes of replies are, control frames before them included.
    pub fn sending_bytes(&self) -> u64 {
        if self.is_sending() { self.undelivered_bytes() } else { 0 }
    }

    /// Whether the last look found a reply on its way.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Whether the kernel has not taken every reply.
    pub fn is_unsent(&self) -> bool {
        self.taken < self.reply_end
    }

    /// How far the peer is known to have acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The kernel was asked: the peer has yet to acknowledge `bytes` of what it has taken. How much more it has
    /// acknowledged than at the last look.
    pub fn looked(&mut self, bytes: u64) -> u64 {
        let before = self.acknowledged;
        self.acknowledged = before.max(self.taken.saturating_sub(bytes));
        self.late = self.acknowledged < self.reply_end.min(self.taken);
        self.acknowledged - before
    }

    /// True when nothing waits behind what is being sent.
    pub fn has_nothing_behind(&self) -> bool {
        self.queued_bytes == 0
    }

    /// True when a chunk waits and none is being sent.
    pub fn is_ready(&self) -> bool {
        self.in_flight == 0 && self.queued_bytes > 0
    }

    /// Hands the oldest chunk to the shell, which must report [`Self::sent`] before it asks again.
    pub fn take(&mut self) -> Option<Chunk> {
        debug_assert_eq!(self.in_flight, 0, "one send at a time");
        if self.next.is_empty() {
            return None;
        }
        let behind = self.more.as_mut().and_then(|more| more.pop_front()).unwrap_or_default();
        let buffer = std::mem::replace(&mut self.next, behind.buffer);
        let chunk = Chunk { buffer, from: std::mem::replace(&mut self.next_from, behind.from) };
        self.in_flight = chunk.buffer.len() as u32 - chunk.from;
        self.queued_bytes -= self.in_flight;
        self.answer_bytes = 0;
        self.more.take_if(|more| more.is_empty());
        Some(chunk)
    }

    /// The kernel has taken `bytes` of the chunk, and not the last.
    pub fn progressed(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        self.in_flight_taken += bytes as u32;
        debug_assert!(self.in_flight_taken < self.in_flight, "the last is told by `sent`");
    }

    /// The kernel has taken all of the chunk; how long it was, bytes.
    pub fn sent(&mut self) -> u64 {
        let bytes = self.in_flight.into();
        self.taken += u64::from(self.in_flight - self.in_flight_taken);
        (self.in_flight, self.in_flight_taken) = (0, 0);
        bytes
    }

    /// Whether there is a heap buffer, for the tests.
    #[cfg(any(test, feature = "simulator"))]
    pub(super) fn owns_heap(&self) -> bool {
        self.next.capacity() > 0 || self.more.is_some()
    }

    /// What the simulator's oracle is told.
    #[cfg(feature = "simulator")]
    pub(super) fn frames_queued(&self) -> &[usize] {
        &self.frames_queued
    }

    /// Forgets every frame that has not been handed to the shell.
    pub fn drop_queued(&mut self) {
        self.more = None;
        // Behind the answer to the handshake, if that still waits: without it the Close would be taken for one.
        self.next.truncate(self.answer_bytes.into());
        if self.next.is_empty() {
            (self.next, self.next_from) = (Vec::new(), 0);
        }
        self.queued_bytes = self.answer_bytes.into();
        self.reply_end = self.reply_end.min(self.end());
        self.late &= !self.is_delivered();
    }
}
