//! What connections cost the kernel, and whether this host has room for them.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit};

use crate::process::kilobytes;
use crate::results::print_table;

/// Caches that others on this machine fill, by building, by being started or by having closed: no open connection does.
const FOREIGN: [&str; 11] = [
    "ext4",
    "jbd2",
    "buffer_head",
    "radix_tree",
    "extent_status",
    "proc_inode",
    "anon_vma",
    "vm_area",
    "task_struct",
    "maple",
    "tw_sock",
];
/// Bytes per client, both ends, user space and kernel, that are asked for before it begins.
const ROOM_PER_CLIENT: u64 = 24 * 1024;
/// Descriptors of a process besides its clients'.
const OTHER_DESCRIPTORS: usize = 500;

/// The kernel's memory at one moment, or its growth.
pub struct Kernel {
    /// Slab cache -> objects in use, bytes of one.
    caches: BTreeMap<String, (u64, u64)>,
    /// `SUnreclaim` and `PageTables` of /proc/meminfo, bytes.
    pub unreclaimable: u64,
    /// TCP sockets in use (/proc/net/sockstat).
    sockets: u64,
    /// Pages that TCP holds for data.
    pages: u64,
}

impl Kernel {
    /// Now. /proc/slabinfo is root's: without it no cache is known.
    pub fn now() -> io::Result<Self> {
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let caches = slabs.lines().skip(2).filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?.to_owned();
            let active = fields.next()?.parse().ok()?;
            Some((name, (active, fields.nth(1)?.parse().ok()?)))
        });
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let sockstat = fs::read_to_string("/proc/net/sockstat")?;
        let tcp = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
        let field = |name: &str| {
            let mut fields = tcp.split(' ').skip_while(|field| *field != name);
            fields.nth(1).and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            caches: caches.collect(),
            unreclaimable: (kilobytes(&meminfo, "SUnreclaim:") + kilobytes(&meminfo, "PageTables:")) * 1024,
            sockets: field("inuse"),
            pages: field("mem"),
        })
    }

    /// What has grown since.
    pub fn since(&self, before: &Self) -> Self {
        let caches = self.caches.iter().filter_map(|(name, &(objects, bytes))| {
            let grown = objects.saturating_sub(before.caches.get(name).map_or(0, |&(objects, _)| objects));
            (grown > 0 && !FOREIGN.iter().any(|foreign| name.starts_with(foreign)))
                .then(|| (name.clone(), (grown, bytes)))
        });
        Self {
            caches: caches.collect(),
            unreclaimable: self.unreclaimable.saturating_sub(before.unreclaimable),
            sockets: self.sockets.saturating_sub(before.sockets),
            pages: self.pages.saturating_sub(before.pages),
        }
    }

    /// Bytes of the caches.
    pub fn bytes(&self) -> f64 {
        self.caches.values().map(|&(objects, bytes)| (objects * bytes) as f64).sum()
    }

    /// Prints the caches that hold at least an object for every other client, and gives objects per client.
    pub fn print(&self, clients: f64) -> BTreeMap<String, f64> {
        let per_client: BTreeMap<String, f64> = self
            .caches
            .iter()
            .map(|(name, &(objects, _))| (name.clone(), objects as f64 / clients))
            .filter(|(_, objects)| *objects >= 0.5)
            .collect();
        let rows: Vec<Vec<String>> = per_client
            .iter()
            .map(|(name, objects)| {
                let bytes = self.caches.get(name).map_or(0, |&(_, bytes)| bytes);
                vec![name.clone(), format!("{objects:.2}"), bytes.to_string(), format!("{:.0}", objects * bytes as f64)]
            })
            .collect();
        let head = ["cache", "objects per client", "bytes of one", "bytes per client"];
        print_table("The kernel's memory for both ends", &head, &rows);
        println!("TCP sockets: {:.2} per client; pages of data: {}", self.sockets as f64 / clients, self.pages);
        per_client
    }
}

/// Fails where limits or memory of this host do not suffice.
pub fn has_room(processes: usize, clients: usize) -> io::Result<()> {
    let total = (processes * clients) as u64;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let free_files = number("/proc/sys/fs/file-max")?.saturating_sub(number("/proc/sys/fs/file-nr")?);
    let available = kilobytes(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:") * 1024;
    let of_process = (clients + OTHER_DESCRIPTORS) as u64;
    for (what, has, needs) in [
        ("open files of a process (ulimit -n)", soft, of_process),
        ("open files of a process (fs.nr_open)", number("/proc/sys/fs/nr_open")?, of_process),
        ("open files of the host (fs.file-max)", free_files, total * 2 + 10_000),
        ("bytes of memory", available, total * ROOM_PER_CLIENT),
    ] {
        println!("{what}: {has}, needed {needs}");
        if has < needs {
            return Err(io::Error::other(format!("not enough {what}: {has} of {needs}")));
        }
    }
    Ok(())
}

/// The first number of a file of the kernel's.
pub fn number(path: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.split_ascii_whitespace().next().unwrap_or_default().parse().map_err(io::Error::other)
}
