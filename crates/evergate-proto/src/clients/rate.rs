//! Token buckets, as one time each (GCRA): when the bucket would be full again. One that nobody takes from costs nothing but
//! these eight bytes.

/// What a full bucket holds: so many seconds' worth.
const BURST_SECONDS: u64 = 2;
/// The time after which any bucket is full again, ms.
pub const BURST_MS: u64 = BURST_SECONDS * 1_000;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// How fast a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time of one token, ns; 0 = no limit.
    token_ns: u64,
}

impl Rate {
    /// So many tokens a second; 0 = no limit.
    pub fn per_second(tokens: u64) -> Self {
        Self { token_ns: NS_PER_SECOND.checked_div(tokens).unwrap_or(0) }
    }
}

/// A bucket; full at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it is full again, ns since the process began.
    full_ns: u64,
}

impl Bucket {
    /// Takes a token, if there is one.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        if rate.token_ns == 0 {
            return true;
        }
        let now = now_ms * NS_PER_MS;
        let full_ns = self.full_ns.max(now) + rate.token_ns;
        let taken = full_ns <= now + BURST_SECONDS * NS_PER_SECOND;
        if taken {
            self.full_ns = full_ns;
        }
        taken
    }

    /// Whether it has filled up: it says no more than a new one.
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.full_ns <= now_ms * NS_PER_MS
    }
}
