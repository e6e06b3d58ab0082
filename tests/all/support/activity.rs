//! What the activity log says was relayed. The benchmark `drains` uses it, too.

/// The params of each request for `opensrf.math add` that was relayed. Other lines name requests too: what crossed a Close, and what a drain waits
/// for (`oldest: opensrf.math add for 0 ms from 127.0.0.1`).
pub fn relayed_adds(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| Some(line.split_once("] [] opensrf.math add ")?.1)).collect()
}
