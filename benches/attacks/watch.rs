//! What is seen of the gateway and of Redis from outside: memory, counters.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::background::Background;
use super::process::{http, kilobytes};

/// Between two looks at the gateway's memory.
const MEMORY: Duration = Duration::from_millis(20);
/// Between two looks at its counters, where they are asked for all the time.
const COUNTERS: u32 = 10;

/// Peaks of a gateway.
pub struct Watch {
    peaks: Arc<Peaks>,
    /// Ends with it.
    _thread: Background,
}

#[derive(Default)]
struct Peaks {
    rss: AtomicU64,
    held: AtomicU64,
}

impl Watch {
    /// Watches the memory of a process; and, if `counters` says where its admin page is, the bytes that its cores say they hold.
    pub fn start(pid: u32, counters: Option<SocketAddr>) -> io::Result<Self> {
        let peaks = Arc::new(Peaks::default());
        let shared = Arc::clone(&peaks);
        let thread = Background::start("watch", move |over| {
            let mut looks = 0;
            while !over.load(Relaxed) {
                shared.rss.fetch_max(rss(pid).unwrap_or(0), Relaxed);
                if let Some(admin) = counters.filter(|_| looks % COUNTERS == 0) {
                    let held = gauge(admin, "evergate_core_bytes").unwrap_or(0.0);
                    // A byte count is far below 2^53.
                    #[expect(clippy::cast_sign_loss, reason = "a gauge of bytes is not negative")]
                    shared.held.fetch_max(held as u64, Relaxed);
                }
                looks += 1;
                thread::sleep(MEMORY);
            }
        })?;
        Ok(Self { peaks, _thread: thread })
    }

    /// The most memory that was resident, bytes, and the most that the cores said they held.
    pub fn peaks(&self) -> (u64, u64) {
        (self.peaks.rss.load(Relaxed), self.peaks.held.load(Relaxed))
    }
}

/// Resident memory of a process, bytes; none where it has ended.
pub fn rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kilobytes(&status, "VmRSS:") * 1_024).filter(|&bytes| bytes > 0)
}

/// The largest value of a metric over the cores; none where it does not exist or nobody answers.
pub fn gauge(admin: SocketAddr, name: &str) -> Option<f64> {
    let metrics = http(admin, "/metrics")?;
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    metrics.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).reduce(f64::max)
}

/// What `/status` says of version and commit.
pub fn version(admin: SocketAddr) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(&http(admin, "/status")?).ok()?;
    Some(format!("{} {}", status["version"].as_str()?, status["commit"].as_str().unwrap_or("?")))
}

/// The most memory that Redis has used since it began, bytes.
pub fn redis_peak(redis: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect_timeout(&redis, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"AUTH default default-test\r\nINFO memory\r\nQUIT\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("used_memory_peak:")?.trim().parse().ok())
}
