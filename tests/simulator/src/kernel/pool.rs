//! Buffers that the ring lends.

use crate::world::violated;

/// Where a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// With the kernel.
    Here,
    /// In a completion that was not told.
    Filled,
    /// With the core.
    Lent,
}

/// A pool.
pub struct BufferPool {
    memory: Vec<Vec<u8>>,
    places: Vec<Place>,
    free: Vec<u16>,
}

impl BufferPool {
    pub fn new(buffers: u16, bytes: u32) -> Self {
        Self {
            memory: vec![vec![0; bytes as usize]; usize::from(buffers)],
            places: vec![Place::Here; usize::from(buffers)],
            free: (0..buffers).collect(),
        }
    }

    /// How many are not with the kernel.
    pub fn out(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none is with the kernel.
    pub fn is_used_up(&self) -> bool {
        self.free.is_empty()
    }

    /// A buffer to write to, if one is here.
    pub fn fill(&mut self) -> Option<(u16, &mut [u8])> {
        let id = self.free.pop()?;
        self.places[usize::from(id)] = Place::Filled;
        Some((id, &mut self.memory[usize::from(id)]))
    }

    /// The core is told of it.
    pub fn lend(&mut self, id: u16) {
        self.places[usize::from(id)] = Place::Lent;
    }

    /// The bytes of one that is lent.
    pub fn lent(&mut self, id: u16, len: u32) -> &mut [u8] {
        if self.places.get(usize::from(id)) != Some(&Place::Lent) {
            violated!("the bytes of buffer {id} are asked for, which is not lent");
        }
        &mut self.memory[usize::from(id)][..len as usize]
    }

    /// It comes back.
    pub fn give_back(&mut self, id: u16) {
        if self.places.get(usize::from(id)) != Some(&Place::Lent) {
            violated!("buffer {id} is given back, which is not lent");
        }
        self.places[usize::from(id)] = Place::Here;
        // Whoever looks at it later sees that it is not his.
        self.memory[usize::from(id)].fill(b'~');
        self.free.push(id);
    }
}
