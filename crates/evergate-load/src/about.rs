//! What made the figures: version, time, command line.

use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Of one run.
#[derive(Debug, Serialize)]
pub struct About {
    /// Of this program.
    pub version: &'static str,
    /// When the run began, as RFC 3339 in UTC.
    pub began: String,
    /// The command line, word by word.
    pub command: Vec<String>,
}

impl About {
    /// Of a run that begins now.
    pub fn now() -> Self {
        let mut began = String::new();
        // Into a String nothing fails.
        let _ = SystemTime.format_time(&mut Writer::new(&mut began));
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self { version: env!("CARGO_PKG_VERSION"), began, command }
    }
}
