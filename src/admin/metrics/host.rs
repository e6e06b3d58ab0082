//! What the kernel knows of the process, under the names that Prometheus' own libraries give it.

use std::fs;
use std::time::SystemTime;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::registry::Unit;

use super::family::{Family, Value};

/// `began`: when the process began. What this host does not tell has no sample.
pub(super) fn families(began: SystemTime) -> Vec<Family> {
    let (virtual_bytes, resident_bytes) = memory_bytes().unzip();
    let max = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
    vec![
        sample(
            Family::counter("cpu", "Time of all CPUs that the process has used.").unit(Unit::Seconds),
            cpu_seconds(),
        ),
        sample(Family::gauge("resident_memory", "Memory that is resident.").unit(Unit::Bytes), resident_bytes),
        sample(Family::gauge("virtual_memory", "Memory that is mapped.").unit(Unit::Bytes), virtual_bytes),
        sample(Family::gauge("open_fds", "File descriptors that are open."), open_descriptors()),
        sample(Family::gauge("max_fds", "File descriptors that may be open."), max),
        sample(
            Family::gauge("start_time", "When the process began, since 1970.").unit(Unit::Seconds),
            began.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs_f64()),
        ),
    ]
}

fn sample(family: Family, value: Option<impl Into<Value>>) -> Family {
    match value {
        Some(value) => family.value(value),
        None => family,
    }
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(microseconds as f64 / 1e6)
}

/// Of the process's address space, and of what of it is resident.
fn memory_bytes() -> Option<(u64, u64)> {
    let page_bytes = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(pages.next()?.ok()? * page_bytes);
    Some((next()?, next()?))
}

/// Since Linux 6.2 the size of the folder says how many there are. To list 100,000 of them takes tens of milliseconds.
fn open_descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        // The listing has a descriptor of its own.
        0 => Some(fs::read_dir(FOLDER).ok()?.count().saturating_sub(1) as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_counted_as_they_come_and_go() {
        let before = open_descriptors().expect("/proc is there");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("it is there")).collect();
        // Other tests of this process open and close some, too.
        let with = open_descriptors().expect("/proc is there");
        assert!(with >= before + 40, "{before} {with}");
        drop(files);
    }

    #[test]
    fn memory_and_time_are_those_of_this_process() {
        let (mapped, resident) = memory_bytes().expect("/proc is there");
        assert!(resident > 1 << 20 && mapped > resident, "{mapped} {resident}");
        let before = cpu_seconds().expect("the kernel says so");
        while cpu_seconds().expect("the kernel says so") <= before {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
    }
}
