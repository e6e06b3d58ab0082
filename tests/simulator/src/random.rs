//! A small random generator (splitmix64): the same numbers from the same seed, for ever.

/// Everything random in a run comes from here.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995)
    }

    /// What restless clients ask, in the runs that have such: from a source of its own, so that all else in a run is as it was without.
    pub fn restless(seed: u64) -> Option<Self> {
        let mut random = Self::new(seed ^ 0x7265_7374_6c65_7373);
        random.percent(40).then_some(random)
    }

    /// Whom an operator ends, in the runs that have one; as above.
    pub fn operator(seed: u64) -> Option<Self> {
        let mut random = Self::new(seed ^ 0x6f70_6572_6174_6f72);
        random.percent(30).then_some(random)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n.max(1) as u64) >> 32) as usize
    }

    /// True `percent` times of a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below((to - from + 1) as usize) as u64
    }
}
