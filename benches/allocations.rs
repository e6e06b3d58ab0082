//! What the pure half allocates, per message, in steady state: `cargo bench --bench allocations`.
//!
//! Counted, not timed: two runs give the same figures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[path = "support/cases.rs"]
mod cases;
#[path = "support/core.rs"]
mod core;
#[path = "support/messages.rs"]
#[expect(dead_code, reason = "the bench codec uses the rest")]
mod messages;
#[path = "support/provenance.rs"]
mod provenance;

/// Repetitions before the count begins: buffers that are reused have then grown to their size.
const WARMUP: u32 = 1_000;
/// Repetitions that are counted.
const COUNTED: u32 = 1_000;

/// Allocations and reallocations so far.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// Bytes asked for; of a reallocation what it asked for in addition.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be counted without being one")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(size.saturating_sub(layout.size()) as u64, Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    println!("{}", provenance::line());
    println!("{:45} {:>12} {:>10}", "per message, in steady state", "allocations", "bytes");
    for case in &cases::CASES {
        let mut run = (case.make)();
        (0..WARMUP).for_each(|_| run());
        let before = (CALLS.load(Relaxed), BYTES.load(Relaxed));
        (0..COUNTED).for_each(|_| run());
        let per_message = |after: u64, before: u64| (after - before) as f64 / f64::from(COUNTED) / case.messages as f64;
        let (calls, bytes) = (per_message(CALLS.load(Relaxed), before.0), per_message(BYTES.load(Relaxed), before.1));
        println!("{:45} {calls:12.2} {bytes:10.0}", case.name);
    }
}
