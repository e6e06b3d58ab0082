//! One metric: its name, its kind, what it says, and its samples.

use std::fmt;

use evergate_proto::histograms::{self, Reading};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up only.
    Counter,
    /// Values counted by size.
    Histogram,
    /// Says something by its labels alone.
    Info,
}

/// A value of a sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
    /// Of a histogram.
    Counted(Reading),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<Reading> for Value {
    fn from(reading: Reading) -> Self {
        Self::Counted(reading)
    }
}

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the prefix, the unit and what a kind adds.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// In what.
    pub unit: Option<Unit>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// For each sample the values of those labels, and its own.
    samples: Vec<(Vec<String>, Value)>,
}

impl Family {
    fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help, unit: None, labels: &[], samples: Vec::new() }
    }

    /// One that goes up and down.
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, help)
    }

    /// One that goes up only.
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, help)
    }

    /// Values counted by size, in the unit of their scale.
    pub(super) fn histogram(name: &'static str, help: &'static str, scale: &histograms::Scale) -> Self {
        let family = Self::new(name, Kind::Histogram, help);
        match scale.unit {
            histograms::Unit::Microseconds => family.unit(Unit::Seconds),
            histograms::Unit::Bytes => family.unit(Unit::Bytes),
            histograms::Unit::Messages => family.unit(Unit::Other("messages".to_owned())),
        }
    }

    /// One that says something by its labels alone.
    pub(super) fn info(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Info, help).labels(labels)
    }

    /// In that unit.
    pub(super) fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// With these labels.
    pub(super) fn labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// The one value of a metric without labels.
    pub(super) fn value(self, value: impl Into<Value>) -> Self {
        self.with([], value)
    }

    /// One more sample: the values of its labels, in their order, and its own.
    pub(super) fn with<const LABELS: usize>(mut self, labels: [String; LABELS], value: impl Into<Value>) -> Self {
        self.add(labels, value);
        self
    }

    /// As [`Self::with`].
    pub(super) fn add<const LABELS: usize>(&mut self, labels: [String; LABELS], value: impl Into<Value>) {
        debug_assert_eq!(labels.len(), self.labels.len(), "{}: each label has a value", self.name);
        self.samples.push((labels.into(), value.into()));
    }

    /// What it is called with its unit and with what Prometheus' text format adds for its kind.
    pub(super) fn shown_name(&self, prefix: &str) -> String {
        let unit = self.unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{prefix}_{}{unit}{suffix}", self.name)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let kind = match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let mut encoder = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        for (values, value) in &self.samples {
            // To Prometheus a label without a value is none.
            let labels = self.labels.iter().copied().zip(values.iter().map(String::as_str));
            let labels: Vec<(&str, &str)> = labels.filter(|(_, value)| !value.is_empty()).collect();
            // No sample without labels stands beside others, and an empty family would print `{}`.
            if labels.is_empty() {
                return value.encode(self.kind, encoder);
            }
            if self.kind == Kind::Info {
                return Info::new(labels).encode(encoder);
            }
            value.encode(self.kind, encoder.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }
}

impl Value {
    fn encode(self, kind: Kind, mut encoder: MetricEncoder) -> fmt::Result {
        match (kind, self) {
            (Kind::Counter, Self::Whole(value)) => ConstCounter::new(value).encode(encoder),
            (Kind::Counter, Self::Real(value)) => ConstCounter::new(value).encode(encoder),
            (_, Self::Whole(value)) => ConstGauge::new(value).encode(encoder),
            (_, Self::Real(value)) => ConstGauge::new(value).encode(encoder),
            (_, Self::Counted(reading)) => {
                let in_unit = |value: u64| match reading.scale.unit {
                    histograms::Unit::Microseconds => value as f64 / 1e6,
                    histograms::Unit::Bytes | histograms::Unit::Messages => value as f64,
                };
                let bounds = reading.scale.bounds.iter().map(|bound| in_unit(*bound)).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(reading.buckets).collect();
                encoder.encode_histogram::<NoLabelSet>(in_unit(reading.sum), reading.values(), &buckets, None)
            }
        }
    }
}

/// Metrics at one moment: a [`Collector`] must own what it encodes.
#[derive(Debug)]
pub(super) struct Families(pub Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}
