//! The time, as all processes of this host say it.

use std::time::SystemTime;

/// Now, ms since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
