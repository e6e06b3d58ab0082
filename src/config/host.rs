//! What the host allows this process: CPUs, descriptors and memory.

use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, close, gethostname};

use super::cgroup;
use super::table::{CLIENTS_MAX_LIMIT, Config};

/// What the host allows this process; a parameter, so that tests need no particular host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The CPUs that the process may run on (`sched_getaffinity(2)`), ascending.
    pub cpus: Vec<usize>,
    /// The soft limit of open descriptors (`RLIMIT_NOFILE`).
    pub nofile: u64,
    /// Those of `cpus` to run on where its cgroup has CPU time for fewer.
    pub quota: Option<Vec<usize>>,
    /// The bytes of memory that its cgroup allows it, if it limits them.
    pub memory_bytes_max: Option<u64>,
}

impl Host {
    /// Asks the kernel. What it does not say counts as one CPU and 1,024 descriptors.
    pub fn ask() -> Self {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let mut cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
        if cpus.is_empty() {
            cpus.push(0);
        }
        let nofile = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
        // A container's name is its own.
        let name = gethostname().unwrap_or_default();
        let quota = cgroup::quota(cpus.len()).map(|quota| cgroup::within(&cpus, quota, &name.to_string_lossy()));
        Self { cpus, nofile, quota, memory_bytes_max: cgroup::memory_max(Path::new("/proc/self")) }
    }

    /// A host of so many CPUs and descriptors that limits nothing else.
    pub fn of(cpus: impl IntoIterator<Item = usize>, nofile: u64) -> Self {
        Self { cpus: cpus.into_iter().collect(), nofile, quota: None, memory_bytes_max: None }
    }
}

/// Standard input, output and error.
const STANDARD: u64 = 3;
/// The main thread's end of the pipe that wakes it, a writing end for each of the five signals, and one for other threads.
const SIGNALS: u64 = 7;
/// The log and the activity log: a file, or two sockets of syslog.
const LOGS: u64 = 2;
/// The file of the addresses on the bus.
const ADDRESSES: u64 = 1;
/// A core: its ring; what wakes it; its share of the port, and the process' copy of that; its two links to the first domain.
const CORE: u64 = 6;
/// Of a core, for each further listener: its share, and the process' copy of that.
const SHARE: u64 = 2;
/// Of a core, for each further domain in use: a link that pushes.
const LINK: u64 = 1;
/// The admin page, without its connections: the listener, a copy of it, and the three of its runtime.
const ADMIN: u64 = 5;
/// The control socket, without who speaks to it.
const CONTROL: u64 = 1;
/// The demo's own bus, router and services; besides, the other ends of the cores' links.
const DEMO: u64 = 64;
const DEMO_LINKS_PER_CORE: u64 = 2;
/// What is open for a moment: names being resolved, the files of a reload, systemd's socket, queues of dead processes being
/// deleted, and what whoever started the process left open.
const SPARE: u64 = 32;

/// What of a configuration decides how many descriptors a process needs besides those of its clients. `config`, `check` and
/// the default of `clients_max` all count with it, and a test counts those of a real process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Cores.
    pub cores: usize,
    /// What is listened on for clients.
    pub listeners: usize,
    /// Domains of the bus that may be dialled.
    pub domains: usize,
    /// Whether there is an admin page.
    pub admin: bool,
    /// Whether there is a control socket.
    pub control: bool,
    /// Whether the process brings its own bus.
    pub demo: bool,
}

impl Descriptors {
    /// Those that `evergate serve` needs with this configuration.
    pub fn of(config: &Config) -> Self {
        let Config { cores, listen, domains, admin, control, .. } = config;
        let (admin, control) = (admin.is_some(), control.is_some());
        let (cores, listeners, domains) = (cores.len(), listen.len(), domains.len());
        Self { cores, listeners, domains, admin, control, demo: false }
    }

    /// Those that are open as long as the process serves, every domain being in use, and nobody asking the admin page.
    pub fn lasting(&self) -> u64 {
        let cores = self.cores as u64;
        let links = self.domains.saturating_sub(1) as u64 * LINK;
        let shares = self.listeners.saturating_sub(1) as u64 * SHARE;
        let demo = if self.demo { DEMO + cores * DEMO_LINKS_PER_CORE } else { 0 };
        let admin = if self.admin { ADMIN } else { 0 };
        let control = if self.control { CONTROL } else { 0 };
        STANDARD + SIGNALS + LOGS + ADDRESSES + cores * (CORE + shares + links) + admin + control + demo
    }

    /// All that a process needs beside one for each client, where it may open `nofile`.
    pub fn besides_clients(&self, nofile: u64) -> u64 {
        let asking = if self.admin { admin_connections_max(nofile) as u64 } else { 0 };
        // A successor is given copies of the shares of the port.
        let speaking = if self.control { CONTROL_CLIENTS_MAX as u64 + (self.cores * self.listeners) as u64 } else { 0 };
        self.lasting() + asking + speaking + refusals_max(nofile) + SPARE
    }
}

/// Connections to the control socket at a time: operators who watch, and a successor.
pub const CONTROL_CLIENTS_MAX: usize = 16;

/// Connections to the admin page at a time: enough for hundreds of probes that stay silent, and never many beside the
/// clients.
pub fn admin_connections_max(nofile: u64) -> usize {
    (nofile / 32).clamp(64, 512) as usize
}

/// Connections beyond `clients_max` at a time, each until it has been told that there is no place for it. It may be asked of
/// `clients_max` itself, which is no more than the limit.
pub fn refusals_max(nofile: u64) -> u64 {
    (nofile / 128).clamp(32, 512)
}

/// `clients_max` where it is `auto`: nine tenths of the limit, unless less is `left`.
pub(super) fn clients_max(nofile: u64, left: u64) -> u64 {
    let nine_tenths = nofile / 10 * 9 + nofile % 10 * 9 / 10;
    nine_tenths.min(left).clamp(1, CLIENTS_MAX_LIMIT)
}

/// `core_bytes_max` where no memory limit asks for less.
const CORE_BYTES_MAX: u64 = 1 << 30;

/// `core_bytes_max` where it is `auto`: all cores together take half of what the cgroup allows. The other half is for
/// the rest of the process, what the kernel keeps for its sockets, and whoever else is in there.
pub(super) fn core_bytes_max(memory_bytes_max: Option<u64>, cores: usize) -> u64 {
    let share = memory_bytes_max.map_or(u64::MAX, |bytes| bytes / 2 / cores.max(1) as u64);
    // In whole KiB, and no less than the option takes.
    share.clamp(1 << 10, CORE_BYTES_MAX) & !0x3ff
}

/// Has the kernel make the process' table of descriptors large enough for `most` at once. It doubles the table as it
/// fills up, and where threads share it each doubling waits until no CPU can see the old one (`synchronize_rcu` in
/// `expand_fdtable`, fs/file.c). Meanwhile a core that has just accepted a client does nothing else
/// (docs/performance.md, "Work in a turn"). The largest number in use decides, and the table never shrinks.
pub fn widen_descriptors(most: u64) {
    let highest = most.min(Host::ask().nofile).saturating_sub(1);
    // Where it fails, the table grows as it always would.
    if let Ok(lowest) = i32::try_from(highest)
        && let Ok(copy) = fcntl(std::io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(lowest))
    {
        let _ = close(copy);
    }
}
