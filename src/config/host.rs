//! What the host allows this process: CPUs and descriptors.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// What the host allows this process; a parameter, so that tests need no particular host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The CPUs that the process may run on (`sched_getaffinity(2)`), ascending.
    pub cpus: Vec<usize>,
    /// The soft limit of open descriptors (`RLIMIT_NOFILE`).
    pub nofile: u64,
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
        Self { cpus, nofile }
    }
}

/// Descriptors besides the clients', their links' and the cores': listeners, logs, the admin page, standard streams.
const DESCRIPTORS_RESERVE: u64 = 64;

/// Links of a core to its own Redis, one that sends and one that receives.
const LINKS_PER_CORE: u64 = 2;

/// Descriptors that a process needs beside one for each client: each core has two links to the first domain, and one to
/// each other.
pub fn descriptors_besides_clients(cores: usize, domains: usize) -> u64 {
    let links = LINKS_PER_CORE + domains.saturating_sub(1) as u64;
    cores as u64 * links + DESCRIPTORS_RESERVE
}

/// Raises the soft limit of open descriptors to the hard one and returns what then holds. Call it before `load`, which
/// derives `clients_max` from the soft limit.
pub fn raise_nofile() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1_024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
