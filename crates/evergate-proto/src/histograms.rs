//! How long things take and how large they are, as counts in buckets: one core writes them, other threads read.
//!
//! May use: atomics. May never: lock, allocate, or be written by two threads. The clients' and registries' histograms of crates
//! take a lock, or a locked instruction, for each value.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::counters::add;

/// Upper bounds of each scale. Beyond the last there is one bucket more.
pub const BOUNDS: usize = 16;

/// What a histogram counts, and in which buckets.
#[derive(Debug, PartialEq, Eq)]
pub struct Scale {
    /// What a value is.
    pub unit: Unit,
    /// The largest value of each bucket, in order.
    pub bounds: [u64; BOUNDS],
}

impl Scale {
    /// Which bucket a value belongs to.
    pub(crate) fn bucket(&self, value: u64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }
}

/// The unit of what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Microseconds,
    /// Bytes.
    Bytes,
    /// Messages.
    Messages,
}

/// How long a service takes: from half a millisecond to a minute.
pub static LATENCY: Scale = Scale {
    unit: Unit::Microseconds,
    bounds: [
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000, 60_000_000,
    ],
};

/// What a core or Redis does in a moment: from 10 µs to a second.
pub static MOMENT: Scale = Scale {
    unit: Unit::Microseconds,
    bounds: [
        10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    ],
};

/// How large a message is: from 64 bytes to 16 MiB, each twice or four times the last.
pub static SIZE: Scale = Scale {
    unit: Unit::Bytes,
    bounds: [
        1 << 6,
        1 << 7,
        1 << 8,
        1 << 9,
        1 << 10,
        1 << 11,
        1 << 12,
        1 << 13,
        1 << 14,
        1 << 15,
        1 << 16,
        1 << 17,
        1 << 18,
        1 << 20,
        1 << 22,
        1 << 24,
    ],
};

/// How many messages go together.
pub static BATCH: Scale =
    Scale { unit: Unit::Messages, bounds: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256] };

/// Values counted by size.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// For each bound the values up to it and beyond the last; at the end what is beyond all of them.
    buckets: [AtomicU64; BOUNDS + 1],
    /// All values together.
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing is counted yet.
    pub const fn new(scale: &'static Scale) -> Self {
        Self { scale, buckets: [const { AtomicU64::new(0) }; BOUNDS + 1], sum: AtomicU64::new(0) }
    }

    /// Its unit and bounds.
    pub fn scale(&self) -> &'static Scale {
        self.scale
    }

    /// Counts a value. Only the thread that owns the histogram may.
    pub fn count(&self, value: u64) {
        self.count_in(self.scale.bucket(value), value, 1);
    }

    /// Counts a value so many times, whose [`Scale::bucket`] is known.
    pub(crate) fn count_in(&self, bucket: usize, value: u64, times: u64) {
        add(&self.buckets[bucket], times);
        add(&self.sum, value * times);
    }

    /// What has been counted.
    pub fn read(&self) -> Reading {
        Reading {
            scale: self.scale,
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Relaxed)),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// What a histogram said when it was read, or several of one scale together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Their unit and bounds.
    pub scale: &'static Scale,
    /// As in [`Histogram`].
    pub buckets: [u64; BOUNDS + 1],
    /// All values together.
    pub sum: u64,
}

impl Reading {
    /// How many values there are.
    pub fn values(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The same with what `other` says, which is of the same scale.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        debug_assert_eq!(self.scale, other.scale, "apples and pears");
        self.buckets.iter_mut().zip(other.buckets).for_each(|(bucket, more)| *bucket += more);
        self.sum += other.sum;
        self
    }
}

/// Declares the histograms of a core once: the field, its scale, its help line.
macro_rules! histograms {
    ($($(#[doc = $doc:literal])+ $name:ident : $scale:ident,)+) => {
        /// The histograms of one core. Written by that core only, and on cache lines of their own.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct Histograms {
            $($(#[doc = $doc])+ pub $name: Histogram,)+
        }

        impl Default for Histograms {
            fn default() -> Self {
                Self { $($name: Histogram::new(&$scale),)+ }
            }
        }

        impl Histograms {
            /// Every histogram as `(name, help line, what it says)`, in the order of the table.
            pub fn table(&self) -> Vec<(&'static str, &'static str, Reading)> {
                vec![$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name.read()),)+]
            }
        }
    };
}

histograms! {
    /// Time for which the core's loop has worked before it asked its ring again, turn by turn.
    turn: MOMENT,
    /// Time from writing a push to reading Redis' answer, of one push a second.
    bus_round_trip: MOMENT,
    /// Size of each message received from a client, its frames together.
    message_in: SIZE,
    /// Size of each message sent to a client.
    message_out: SIZE,
    /// Messages that went to Redis in one batch.
    bus_push: BATCH,
    /// Messages that one pop took from Redis.
    bus_pop: BATCH,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_holds_it() {
        for scale in [&LATENCY, &MOMENT, &SIZE, &BATCH] {
            assert!(scale.bounds.is_sorted_by(|a, b| a < b), "{scale:?}");
            for (at, bound) in scale.bounds.iter().enumerate() {
                for (value, bucket) in [(*bound, at), (bound + 1, at + 1)] {
                    let histogram = Histogram::new(scale);
                    histogram.count(value);
                    let mut buckets = [0; BOUNDS + 1];
                    buckets[bucket] = 1;
                    assert_eq!(histogram.read(), Reading { scale, buckets, sum: value });
                }
            }
        }
    }

    #[test]
    fn the_smallest_and_the_largest_values_are_counted_too() {
        let histogram = Histogram::new(&SIZE);
        histogram.count(0);
        histogram.count(1 << 40);
        let reading = histogram.read();
        assert_eq!((reading.buckets[0], reading.buckets[BOUNDS], reading.values()), (1, 1, 2));
        assert_eq!(reading.sum, 1 << 40);
    }

    #[test]
    fn what_two_cores_say_is_added_up_bucket_by_bucket() {
        let (one, other) = (Histogram::new(&BATCH), Histogram::new(&BATCH));
        for (histogram, values) in [(&one, &[1, 1, 300][..]), (&other, &[1, 2])] {
            for value in values {
                histogram.count(*value);
            }
        }
        let both = one.read().and(&other.read());
        assert_eq!((both.buckets[0], both.buckets[1], both.buckets[BOUNDS]), (3, 1, 1));
        assert_eq!((both.values(), both.sum), (5, 305));
    }
}
