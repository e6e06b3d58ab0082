//! Buffers that the kernel picks from when bytes come (`IORING_REGISTER_PBUF_RING`).
#![expect(unsafe_code, reason = "the kernel reads the ring of buffers and writes the buffers, where they lie")]

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Buffers that the kernel is given at first. It takes them in turn, so that each is touched again only when all others
/// were: with 1,024 of 4 KiB an echo costs 3 % more than with 256, for the buffers fall out of the caches.
const WINDOW: u16 = 128;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Buffers; 1 to 16,384.
    pub buffers: u16,
    /// Bytes of each.
    pub bytes: u32,
}

/// A pool. Its memory lives until [`Self::free`]: a drop leaks it, for the kernel may still write.
#[derive(Debug)]
pub(super) struct BufferPool {
    /// The kernel's name of it.
    group: u16,
    /// The kernel's name of its first buffer: with another of each pool a completion tells the pool.
    first: u16,
    size: PoolSize,
    /// What the kernel takes buffers from, a power of two of entries.
    entries: NonNull<BufRingEntry>,
    /// Entries less 1.
    mask: u16,
    /// All buffers, one behind the other.
    memory: NonNull<u8>,
    /// How many buffers were ever put into `entries`, modulo 2^16.
    tail: u16,
    /// How many of those no completion has brought.
    provided: u16,
    /// How many may be: twice as many whenever the kernel has used them up.
    window: u16,
    /// Buffers that are neither lent nor provided. The last one given back is the first to be provided again.
    spare: Vec<u16>,
    /// Whether it is lent, by buffer.
    is_lent: Box<[bool]>,
}

impl BufferPool {
    /// Maps the memory and registers it; the kernel has buffers with the next [`Self::provide`].
    pub fn new(submitter: &Submitter<'_>, group: u16, first: u16, size: PoolSize) -> io::Result<Self> {
        let entries_count = size.buffers.next_power_of_two();
        let entries = map(usize::from(entries_count) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(size.buffers) * size.bytes as usize)?;
        // SAFETY: the mapping has room for so many entries, begins on a page, and lives until `free`, whose caller has
        // ended what could use it.
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, entries_count, group, 0)? };
        let mask = entries_count - 1;
        Ok(Self {
            group,
            first,
            size,
            entries,
            mask,
            memory,
            tail: 0,
            provided: 0,
            window: WINDOW.min(size.buffers),
            spare: (0..size.buffers).rev().collect(),
            is_lent: vec![false; usize::from(size.buffers)].into(),
        })
    }

    /// The kernel's name of the pool.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// Which of its buffers the kernel calls `name`; none where it is not of this pool.
    pub fn buffer(&self, name: u16) -> Option<u16> {
        name.checked_sub(self.first).filter(|buffer| *buffer < self.size.buffers)
    }

    /// A completion brought `buffer`.
    pub fn take(&mut self, buffer: u16) {
        let was_lent = std::mem::replace(&mut self.is_lent[usize::from(buffer)], true);
        assert!(!was_lent, "buffer {buffer} came twice");
        self.provided -= 1;
        if self.provided == 0 {
            self.window = self.window.saturating_mul(2).min(self.size.buffers);
        }
    }

    /// The first `len` bytes of a buffer that is lent.
    pub fn bytes(&mut self, buffer: u16, len: u32) -> &mut [u8] {
        assert!(self.is_lent[usize::from(buffer)], "buffer {buffer} is not lent");
        assert!(len <= self.size.bytes, "buffer {buffer} is not so large: {len}");
        let start = self.start(buffer);
        // SAFETY: within the mapping, which was zeroed when it was made; the kernel has not got this buffer, and the
        // slice borrows the pool.
        unsafe { slice::from_raw_parts_mut(start, len as usize) }
    }

    /// A buffer is lent no more.
    pub fn give_back(&mut self, buffer: u16) {
        let was_lent = std::mem::replace(&mut self.is_lent[usize::from(buffer)], false);
        assert!(was_lent, "buffer {buffer} was given back twice");
        self.spare.push(buffer);
    }

    /// Gives the kernel what it may have, and as many more as the `completions` that it is to gather.
    pub fn provide(&mut self, completions: u32) {
        let before = self.tail;
        let most = u32::from(self.window).saturating_add(completions);
        while u32::from(self.provided) < most
            && let Some(buffer) = self.spare.pop()
        {
            let start = self.start(buffer);
            // SAFETY: an entry of the mapping; the kernel reads none behind the tail that it knows, and no more than
            // all buffers are before it. Nothing is written to the field that holds the tail.
            let entry = unsafe { self.entries.add(usize::from(self.tail & self.mask)).as_mut() };
            entry.set_addr(start as u64);
            entry.set_len(self.size.bytes);
            entry.set_bid(self.first + buffer);
            self.tail = self.tail.wrapping_add(1);
            self.provided += 1;
        }
        if self.tail == before {
            return;
        }
        // SAFETY: the first entry holds the tail, which the kernel reads only; the mapping lives as long as the pool.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Unregisters and unmaps it.
    ///
    /// # Safety
    ///
    /// No operation that may take a buffer of this pool is under way, or will be; nothing else is asked of the pool.
    pub unsafe fn free(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        submitter.unregister_buf_ring(self.group)?;
        let entries = (usize::from(self.mask) + 1) * size_of::<BufRingEntry>();
        let memory = usize::from(self.size.buffers) * self.size.bytes as usize;
        // SAFETY: both were mapped with these lengths; the kernel has let go of the one and writes the other no more,
        // says the caller; no slice is left, for that would borrow the pool.
        unsafe {
            libc::munmap(self.entries.as_ptr().cast(), entries);
            libc::munmap(self.memory.as_ptr().cast(), memory);
        }
        Ok(())
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        // SAFETY: within the mapping: a buffer that is or was lent (`is_lent` has as many elements), or one from
        // `spare`.
        unsafe { self.memory.add(usize::from(buffer) * self.size.bytes as usize).as_ptr() }
    }
}

/// Zeroed pages, which cost memory when they are first written.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping takes nobody's place.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
