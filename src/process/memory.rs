//! Memory that is not needed any more goes back to the system.

/// Bytes from which on a buffer is memory of its own. Smaller ones, a reply of a megabyte among them, are faster from the heap.
#[cfg(all(target_env = "gnu", not(feature = "mimalloc")))]
const LARGE_BYTES: libc::c_int = 1024 * 1024;

/// Bytes at the end of a heap that are kept for the next buffers.
#[cfg(all(target_env = "gnu", not(feature = "mimalloc")))]
const KEPT_BYTES: libc::c_int = 16 * 1024 * 1024;

/// Has glibc map each large buffer by itself, and unmap it when it is freed (mallopt(3), `M_MMAP_THRESHOLD`, `M_TRIM_THRESHOLD`).
///
/// Left alone it raises the first to the largest buffer that was ever freed, and a storm of replies of 5 MB stays in the heaps of
/// the cores for good (docs/performance.md, "The allocator").
pub fn give_back_large_buffers() {
    #[cfg(all(target_env = "gnu", not(feature = "mimalloc")))]
    for (option, bytes) in [(libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)] {
        // SAFETY: it sets a number of the allocator's, under the allocator's own lock; whatever it is, no buffer is touched.
        #[expect(unsafe_code, reason = "glibc has no other way in but the environment")]
        let set = unsafe { libc::mallopt(option, bytes) };
        debug_assert_eq!(set, 1, "glibc knows it");
    }
}
