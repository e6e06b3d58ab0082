//! The last ten minutes, a sample a second, so that a page opened now shows what has been. A ring of a fixed size, in the admin
//! thread.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

/// Samples that are kept.
pub(super) const SAMPLES_MAX: usize = 600;

/// Declares the series of the charts once: a value of a sample, and a column of what a page is sent first.
macro_rules! series {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The node in one second. What is not known is not a number, and null in JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        pub(super) struct Sample {
            /// When, ms since the process began.
            pub at_ms: u64,
            /// The number of the phase that the process was in.
            pub phase: u8,
            $($(#[doc = $doc])+ #[serde(serialize_with = "short")] pub $name: f64,)+
        }

        impl Sample {
            /// Nothing but its time and its phase.
            #[cfg(test)]
            pub(super) fn empty(at_ms: u64, phase: u8) -> Self {
                Self { at_ms, phase, $($name: f64::NAN,)+ }
            }

            fn columns(samples: &VecDeque<Self>) -> BTreeMap<&'static str, Vec<Short>> {
                BTreeMap::from([$((stringify!($name), samples.iter().map(|sample| Short(sample.$name)).collect()),)+])
            }
        }
    };
}

series! {
    /// Clients that are open.
    clients,
    /// Requests and connects pending.
    pending,
    /// Requests relayed, a second.
    requests,
    /// Messages sent to clients, a second.
    replies,
    /// Error replies that the gateway made, a second.
    errors,
    /// Handshakes refused, a second.
    refused,
    /// Connections accepted, a second.
    accepted,
    /// Bytes held for all clients.
    buffered,
    /// Of the cores' time, how much they worked: 1 is all of all.
    busy,
    /// Bytes of clients' messages, a second.
    bytes_in,
    /// Bytes of messages to clients, a second.
    bytes_out,
    /// Microseconds to the first reply that half of the requests of the last seconds did not exceed.
    p50_us,
    /// The same of all but a hundredth.
    p99_us,
    /// Microseconds of Redis' round trip, the mean of the last seconds.
    bus_us,
}

/// A number with three digits behind the point, and as few as will do.
#[derive(Debug)]
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        short(&self.0, serializer)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(super) fn short<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    // A whole number without ".0": ten minutes of them are sent at once.
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        return serializer.serialize_i64(rounded as i64);
    }
    // What is not a number becomes null.
    serializer.serialize_f64(rounded)
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

/// The same as a page is sent it: a list for each series, all of one length.
#[derive(Debug, Serialize)]
pub(super) struct Columns {
    at_ms: Vec<u64>,
    phase: Vec<u8>,
    #[serde(flatten)]
    series: BTreeMap<&'static str, Vec<Short>>,
}

impl History {
    /// Adds a sample; the oldest makes room.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The newest.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.0.back()
    }

    /// All of it.
    pub(super) fn columns(&self) -> Columns {
        Columns {
            at_ms: self.0.iter().map(|sample| sample.at_ms).collect(),
            phase: self.0.iter().map(|sample| sample.phase).collect(),
            series: Sample::columns(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let mut history = History::default();
        for second in 0..700_u64 {
            history.push(Sample { clients: second as f64, ..Sample::empty(second * 1_000, 1) });
        }
        let columns = serde_json::to_value(history.columns()).expect("JSON");
        let of = |name: &str| columns[name].as_array().expect("a list").clone();
        assert_eq!(
            (of("at_ms").len(), of("clients").len(), of("phase").len()),
            (SAMPLES_MAX, SAMPLES_MAX, SAMPLES_MAX)
        );
        assert_eq!((&of("clients")[0], &of("clients")[SAMPLES_MAX - 1]), (&100.into(), &699.into()));
        assert_eq!(history.last().map(|last| last.at_ms), Some(699_000));
    }

    #[test]
    fn numbers_are_short_and_what_is_unknown_is_null() {
        let mut history = History::default();
        history.push(Sample { clients: 3.0, requests: 2.0 / 3.0, ..Sample::empty(1_000, 1) });
        let text = serde_json::to_string(&history.columns()).expect("JSON");
        for part in
            ["\"clients\":[3]", "\"requests\":[0.667]", "\"errors\":[null]", "\"at_ms\":[1000]", "\"phase\":[1]"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
