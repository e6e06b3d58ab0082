//! What the kernel knows of this process and of the servers: CPU and memory.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

/// CPU time of this process, in seconds.
pub fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

/// CPU time of processes in seconds, all their threads together; `None` where there are none, or one is gone.
pub fn cpu_seconds(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    pids.iter()
        .map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .sum::<Option<u64>>()
        .map(|sum| sum as f64 / ticks)
}

/// `utime` and `stime` of `/proc/PID/stat`, in clock ticks. The command's name may hold anything, brackets too.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Memory of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident bytes.
    pub rss_bytes: u64,
    /// The same with shared pages divided among those that share them; `None` where the kernel does not tell.
    pub pss_bytes: Option<u64>,
}

/// Memory of processes, summed; `None` where there are none, or one is gone.
pub fn memory(pids: &[u32]) -> Option<Memory> {
    if pids.is_empty() {
        return None;
    }
    let mut sum = Memory { rss_bytes: 0, pss_bytes: Some(0) };
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum.rss_bytes += kilobytes(&status, "VmRSS:")?;
        sum.pss_bytes = sum.pss_bytes.zip(kilobytes(&rollup, "Pss:")).map(|(sum, pss)| sum + pss);
    }
    Some(sum)
}

/// A line of `/proc` that counts in kB, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 3 0 100 1 1";
        assert_eq!(parse_stat(stat), Some(12));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn this_process_has_memory_and_cpu_time_and_one_that_is_gone_has_none() {
        let own = std::process::id();
        let memory = memory(&[own, own]).expect("memory");
        assert!(memory.rss_bytes > 1_000_000 && memory.pss_bytes.is_none_or(|pss| pss <= memory.rss_bytes));
        assert!(cpu_seconds(&[own]).is_some());
        assert_eq!(cpu_seconds(&[0]), None);
    }
}
