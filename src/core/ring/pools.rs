//! The two pools of a ring: the kernel's name of a buffer says of which it is.
#![expect(unsafe_code, reason = "what the kernel writes to is freed")]

use std::io;

use evergate_proto::ring::{Lent, Pool};
use io_uring::Submitter;

use super::pool::{BufferPool, PoolSize};

/// Both of them.
#[derive(Debug)]
pub(super) struct Pools {
    light: BufferPool,
    heavy: BufferPool,
}

impl Pools {
    /// Registers them; the kernel has buffers with the next [`Self::provide`].
    pub fn new(submitter: &Submitter<'_>, light: PoolSize, heavy: PoolSize) -> io::Result<Self> {
        let first_heavy = light.buffers;
        let light = BufferPool::new(submitter, 0, 0, light)?;
        Ok(Self { light, heavy: BufferPool::new(submitter, 1, first_heavy, heavy)? })
    }

    fn pool(&mut self, pool: Pool) -> &mut BufferPool {
        match pool {
            Pool::Light => &mut self.light,
            Pool::Heavy => &mut self.heavy,
        }
    }

    /// The kernel's name of a pool.
    pub fn group(&mut self, pool: Pool) -> u16 {
        self.pool(pool).group()
    }

    /// Gives the kernel what it may have, and as many more as the `completions` that it is to gather.
    pub fn provide(&mut self, completions: u32) {
        self.light.provide(completions);
        self.heavy.provide(completions);
    }

    /// A completion brought the buffer that the kernel calls `name`, with `len` bytes in it.
    pub fn lend(&mut self, name: u16, len: u32) -> Lent {
        let found = self.light.buffer(name).map(|id| (Pool::Light, id));
        let found = found.or_else(|| self.heavy.buffer(name).map(|id| (Pool::Heavy, id)));
        let (pool, id) = found.unwrap_or_else(|| panic!("no buffer is called {name}"));
        self.pool(pool).take(id);
        Lent { pool, id, len }
    }

    /// What is in a buffer that is lent.
    pub fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        self.pool(lent.pool).bytes(lent.id, lent.len)
    }

    /// A buffer is lent no more.
    pub fn give_back(&mut self, lent: &Lent) {
        self.pool(lent.pool).give_back(lent.id);
    }

    /// Unregisters and unmaps both. What cannot be unregistered is leaked.
    ///
    /// # Safety
    ///
    /// As for [`BufferPool::free`].
    pub unsafe fn free(&mut self, submitter: &Submitter<'_>) {
        for pool in [&mut self.light, &mut self.heavy] {
            // SAFETY: the caller promises the same.
            let _ = unsafe { pool.free(submitter) };
        }
    }
}
