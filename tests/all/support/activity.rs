//! What the activity log says was relayed. The benchmark `drains` uses it, too.

/// The params of each request for `opensrf.math add` that was relayed. Other lines name requests too: what crossed a Close, and what a drain waits
/// for (`oldest: opensrf.math add for 0 ms from 127.0.0.1`).
pub fn relayed_adds(log: &str) -> Vec<&str> {
    let params = |line| Some(said(line)?.0.split_once("] [] opensrf.math add ")?.1);
    log.lines().filter_map(params).collect()
}

/// What a line says, and the connection and `log_xid` behind it, or the connection alone.
pub fn said(line: &str) -> Option<(&str, &str)> {
    line.strip_suffix(']')?.rsplit_once(" [#")
}
