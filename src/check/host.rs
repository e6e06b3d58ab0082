//! The host: kernel, ring, descriptors, locked memory, CPUs, ports.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use io_uring::IoUring;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access, getegid, geteuid};

use super::{Finding, Outcome, sysctls};
use crate::config::{Config, Descriptors, Host, Listen, ListenAt};
use crate::process::control::client::Connection;
use crate::process::listeners::{tcp, unix};

/// `SINGLE_ISSUER` and `DEFER_TASKRUN` together: Linux 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// The right to lock any amount of memory, as a bit of `CapEff` in `/proc/self/status`.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// Kernel and ring: without them nothing can be served. The error names the cause and the remedy; exit code 1.
pub fn host_usable() -> Result<(), String> {
    for finding in kernel_and_ring() {
        if let Outcome::Fail { remedy } = finding.outcome {
            return Err(format!("{}: {remedy}", finding.text));
        }
    }
    Ok(())
}

pub(super) fn kernel_and_ring() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    vec![kernel(release), ring(build_ring(), &Clues::read(release))]
}

fn kernel(release: &str) -> Finding {
    let (major, minor) = KERNEL_MIN;
    match version(release) {
        Some(found) if found >= KERNEL_MIN => Finding::ok(format!("kernel {release}, {major}.{minor} is needed")),
        _ => Finding::fail(
            format!("kernel {release:?} is older than {major}.{minor}"),
            format!(
                "install a kernel of {major}.{minor} or later (Ubuntu 22.04: linux-generic-hwe-22.04; Debian: 12 or later): io_uring's \
                 DEFER_TASKRUN is not in older ones; docs/hosts.md has the systems"
            ),
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A small ring with the flags that the cores use.
fn build_ring() -> Result<(), Errno> {
    let mut builder = IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
    let ring = builder.build(8);
    ring.map(drop).map_err(|why| why.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

/// What tells the causes of a refused ring apart.
#[derive(Debug, Default)]
struct Clues {
    /// As in `uname -r`.
    release: String,
    /// `kernel.io_uring_disabled`: 0 no, 1 for all but its group and the privileged, 2 for all. `None`: no such setting.
    disabled: Option<u32>,
    /// Whether a seccomp filter is on this process (`Seccomp:` of `/proc/self/status` is not 0).
    seccomp: bool,
}

impl Clues {
    fn read(release: &str) -> Self {
        Self {
            release: release.to_owned(),
            disabled: sysctls::read("kernel.io_uring_disabled").and_then(|text| text.parse().ok()),
            seccomp: own_status("Seccomp").is_some_and(|mode| mode != "0"),
        }
    }
}

/// A field of `/proc/self/status`.
fn own_status(field: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn ring(built: Result<(), Errno>, clues: &Clues) -> Finding {
    const FLAGS: &str = "SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN";
    const SECCOMP: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (docker: \
        --security-opt seccomp=PROFILE.json; systemd: SystemCallFilter=@system-service io_uring_setup io_uring_enter \
        io_uring_register)";
    let Err(errno) = built else { return Finding::ok(format!("io_uring with {FLAGS}")) };
    let old = version(&clues.release).is_none_or(|found| found < KERNEL_MIN);
    let disabled = clues.disabled.unwrap_or(0);
    let (problem, remedy) = match errno {
        Errno::EPERM if disabled > 0 => (
            format!("io_uring is disabled on this host (kernel.io_uring_disabled={disabled})"),
            if disabled == 1 {
                "set it to 0 (sysctl -w kernel.io_uring_disabled=0), or add this account's group to \
                 kernel.io_uring_group"
                    .to_owned()
            } else {
                "set it to 0: sysctl -w kernel.io_uring_disabled=0, and in /etc/sysctl.d to keep it".to_owned()
            },
        ),
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS if clues.seccomp => {
            (format!("io_uring is blocked by a seccomp filter ({errno})"), SECCOMP.to_owned())
        }
        Errno::EINVAL | Errno::ENOSYS if old => (
            format!("this kernel's io_uring lacks {FLAGS} ({errno})"),
            format!("install a kernel of {}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1),
        ),
        Errno::ENOSYS => (
            format!("this kernel has no io_uring ({errno})"),
            format!("use a kernel built with CONFIG_IO_URING; where this is a container: {SECCOMP}"),
        ),
        Errno::EPERM | Errno::EACCES => (
            format!("io_uring is refused to this process ({errno})"),
            "look for a rule of a security module (SELinux: io_uring class; AppArmor: io_uring), and allow it"
                .to_owned(),
        ),
        Errno::EINVAL => (
            format!("io_uring takes none of {FLAGS} ({errno})"),
            "a sandbox (gVisor, an emulator) stands in for the kernel: run evergate outside it".to_owned(),
        ),
        Errno::ENOMEM => (
            format!("no memory for a ring ({errno})"),
            "raise the limit of locked memory (LimitMEMLOCK=infinity in the unit, ulimit -l)".to_owned(),
        ),
        Errno::EMFILE | Errno::ENFILE => {
            (format!("no descriptor for a ring ({errno})"), "raise RLIMIT_NOFILE (LimitNOFILE= in the unit)".to_owned())
        }
        other => (format!("no ring can be built ({other})"), "see io_uring_setup(2) for this error".to_owned()),
    };
    Finding::fail(problem, remedy)
}

pub(super) fn descriptors(config: &Config) -> Finding {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1_024, 1_024));
    descriptors_suffice(config, soft, hard)
}

fn descriptors_suffice(config: &Config, soft: u64, hard: u64) -> Finding {
    // serve raises the soft limit to the hard one.
    let limit = soft.max(hard);
    let needed = (config.clients_max as u64).saturating_add(Descriptors::of(config).besides_clients(limit));
    let text = format!("descriptors: {needed} needed for clients_max {}, {limit} allowed", config.clients_max);
    if needed <= limit {
        return Finding::ok(text);
    }
    Finding::fail(
        text,
        format!(
            "LimitNOFILE={needed} or more in the unit (--ulimit nofile= of a container; fs.nr_open is the most that it may be), \
             or a lower clients_max, or auto"
        ),
    )
}

pub(super) fn cores(config: &Config) -> Finding {
    cores_allowed(config, &Host::ask().cpus)
}

fn cores_allowed(config: &Config, allowed: &[usize]) -> Finding {
    let refused: Vec<usize> = config.cores.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if refused.is_empty() {
        return Finding::ok(format!("cores {:?}", config.cores));
    }
    Finding::fail(
        format!("cores: this process may not run on CPU {refused:?}, only on {allowed:?}"),
        "correct `cores`, which names CPUs and not how many, or the affinity (CPUAffinity= in the unit, taskset, cpuset of the container)",
    )
}

pub(super) fn ports(config: &Config) -> Vec<Finding> {
    let runs = config.control.as_deref().and_then(|control| Connection::open(control).ok()).map(|to| to.pid());
    let port = |option, address: SocketAddr, share| match (port(option, address, share), runs) {
        (Finding { outcome: Outcome::Fail { .. }, .. }, Some(pid)) if listens(pid, address.port()) => {
            Finding::note(format!(
                "{option} {address} is that of evergate, which runs as process {pid}: `evergate serve --replace` takes over from it"
            ))
        }
        (finding, _) => finding,
    };
    let mut findings: Vec<Finding> = config
        .listen
        .iter()
        .map(|listen| match &listen.at {
            ListenAt::Tcp(address) => port("listen", *address, config.share_port),
            ListenAt::Unix(path) => unix_socket(path, listen, runs),
        })
        .collect();
    findings.extend(config.admin.map(|address| port("admin", address, false)));
    findings
}

/// Whether a process is seen to listen at a TCP port: another user's is not.
fn listens(pid: u32, port: u16) -> bool {
    const LISTENS: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let local = format!(":{port:04X}");
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| matches!(fields[..], [_, at, _, state, ..] if at.ends_with(&local) && state == LISTENS))
        .filter_map(|fields| Some(format!("socket:[{}]", fields.get(9)?)))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    links.any(|link| link.to_str().is_some_and(|link| sockets.iter().any(|socket| socket == link)))
}

/// Binds without listening: enough to meet whoever listens there, and no client is ever given to this socket.
fn port(option: &str, address: SocketAddr, share: bool) -> Finding {
    let bind = || -> io::Result<()> {
        let socket = tcp::socket(address)?;
        if share {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())
    };
    match bind() {
        Ok(()) => Finding::ok(format!("{option} {address} is free")),
        Err(why) => {
            Finding::fail(format!("{option} {address} cannot be used: {why}"), remedy(option, address, share, &why))
        }
    }
}

/// The file of a Unix socket: its directory, its group, and who listens there. Nothing is made or changed.
fn unix_socket(path: &Path, listen: &Listen, runs: Option<u32>) -> Finding {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let may_write = || access(directory, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from);
    let may_give = || listen.group.as_deref().map_or(Ok(()), may_give_to);
    let judged = unix::judge(path).and_then(|_| may_write()).and_then(|()| may_give());
    match (judged, runs) {
        (Ok(()), _) => Finding::ok(format!("listen {listen} can be listened at")),
        (Err(why), Some(pid)) if why.kind() == io::ErrorKind::AddrInUse => Finding::note(format!(
            "listen {} is listened at, and evergate runs as process {pid}: if that is its own, `evergate serve --replace` takes over \
             from it",
            listen.at
        )),
        (Err(why), _) => Finding::fail(format!("listen {} cannot be used: {why}", listen.at), unix_remedy(path, &why)),
    }
}

/// Whether this process may give a file to a group.
fn may_give_to(name: &str) -> io::Result<()> {
    let gid = unix::group(name)?.gid;
    let groups = nix::unistd::getgroups()?;
    if geteuid().is_root() || getegid() == gid || groups.contains(&gid) {
        return Ok(());
    }
    let why = format!("this account is no member of its group {name}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Why `serve` cannot listen there, and what to do.
pub fn cannot_listen(at: &ListenAt, why: &io::Error) -> String {
    match at {
        ListenAt::Tcp(address) => cannot_bind("listen", *address, false, why),
        ListenAt::Unix(path) => format!("listen {at} cannot be used: {why}; {}", unix_remedy(path, why)),
    }
}

fn unix_remedy(path: &Path, why: &io::Error) -> String {
    let path = path.display();
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop whoever listens there (ss -lxp | grep {path}), or choose another path")
        }
        io::ErrorKind::AlreadyExists => "remove it if it is of no use, or choose another path".to_owned(),
        io::ErrorKind::NotFound => "make its directory (RuntimeDirectory= in the unit), or correct the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "its directory must be writable for this account (RuntimeDirectory= in the unit)".to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "name a group of this host (getent group) of which this account is a member (SupplementaryGroups= in the unit)".to_owned()
        }
        _ => "choose another path".to_owned(),
    }
}

/// The same for an address.
pub fn cannot_bind(option: &str, address: SocketAddr, share: bool, why: &io::Error) -> String {
    format!("{option} {address} cannot be used: {why}; {}", remedy(option, address, share, why))
}

fn remedy(option: &str, address: SocketAddr, share: bool, why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse if share => {
            "whoever listens there does not share the port, or runs under another account: stop it, or choose another \
             port"
                .to_owned()
        }
        io::ErrorKind::AddrInUse => {
            let sharing = if option == "listen" { ", or give both --share-port" } else { "" };
            let port = address.port();
            format!("stop whoever listens there (ss -ltnp 'sport = :{port}'), or choose another port{sharing}")
        }
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address: correct it (ip addr lists them)".to_owned(),
        _ => "choose another address".to_owned(),
    }
}

/// Whether the cores' rings may be locked in memory, and those of a successor beside them: the kernel counts by account.
pub(super) fn locked_memory(config: &Config) -> Finding {
    let capabilities = own_status("CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0);
    let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if capabilities & CAP_IPC_LOCK == 0 => soft,
        _ => u64::MAX,
    };
    locked_memory_suffices(config.cores.len(), limit)
}

fn locked_memory_suffices(cores: usize, limit: u64) -> Finding {
    let size = crate::core::ring::UringSize::default();
    // Entries of 64 bytes with an index each, and of 16; some pages more. As `tuning/measure memlock` found it.
    let ring = u64::from(size.submissions) * (64 + 4) + u64::from(size.completions) * 16 + 16 * 1_024;
    let needed = 2 * ring * cores as u64;
    if limit >= needed {
        return Finding::ok(format!("locked memory: {needed} bytes for the rings of this process and of a successor"));
    }
    Finding::warn(
        format!(
            "locked memory: {limit} bytes are allowed, and newer kernels (seen on 6.18) want {needed} for the rings of this process and \
             of a successor beside it"
        ),
        "LimitMEMLOCK=infinity in the unit (ulimit -l; --ulimit memlock= of a container)",
    )
}

/// What monitoring shows of a gateway that waits.
pub(super) fn io_wait() -> Finding {
    Finding::note(
        "I/O wait: a core that waits counts as idle from Linux 6.15 on. Before, it counts as I/O wait (procs_blocked, iowait, `some` \
         of /proc/pressure/io), and these figures say nothing about a disk; the log says at the start which it is (`host: io_uring, …`)",
    )
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
