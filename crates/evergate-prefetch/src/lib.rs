//! Memory that will be read soon is asked for now: among thousands of clients each is cold when its turn comes, and the
//! misses of a batch can overlap.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a prefetch instruction takes a pointer"))]

/// Asks the CPU to bring all of `thing` near; never waits. Does nothing where evergate knows no such instruction.
#[inline]
pub fn prefetch<T>(thing: &T) {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = thing;
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer is inside `thing`, and a prefetch reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(thing).cast::<i8>().add(offset)) };
    }
}
