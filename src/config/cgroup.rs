//! What the cgroup of this process allows it: CPU time and memory. A container sees all the CPUs and all the memory of
//! its host, and is throttled or killed when it uses them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// From this on version 1 means "no limit": it says so by the largest number of pages.
const UNLIMITED: u64 = 1 << 60;

/// The CPUs whose time the process may use, where its cgroup allows it less than its `cpus` have: whole ones, at least
/// one. The standard library reads the quotas (`cpu.max`, `cpu.cfs_quota_us`) of all the groups above.
pub(super) fn quota(cpus: usize) -> Option<usize> {
    thread::available_parallelism().ok().map(usize::from).filter(|quota| *quota < cpus)
}

/// So many of the CPUs as the quota has time for: neighbours, since those share caches, from a place that depends on
/// `name`. From the first on, all the containers of a host would be pinned to the same ones.
pub(super) fn within(cpus: &[usize], quota: usize, name: &str) -> Vec<usize> {
    let hash = name.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let start = usize::try_from(hash % cpus.len().max(1) as u64).unwrap_or(0);
    let mut chosen: Vec<usize> = cpus.iter().cycle().skip(start).take(quota.min(cpus.len())).copied().collect();
    chosen.sort_unstable();
    chosen
}

/// The bytes of memory that the process may use: the lowest limit of its cgroup and of those above it, of either
/// version. `process` is `/proc/self`.
pub(super) fn memory_max(process: &Path) -> Option<u64> {
    let groups = fs::read_to_string(process.join("cgroup")).ok()?;
    let mounts = fs::read_to_string(process.join("mountinfo")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // proc_pid_cgroup(5): number, controllers, path; version 2 has number 0 and names no controller.
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (kind, file) = match controllers {
            "" => ("cgroup2", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => ("cgroup", "memory.limit_in_bytes"),
            _ => return None,
        };
        let (top, group) = mounts.lines().find_map(|mount| place(mount, kind, path))?;
        group.ancestors().take_while(|above| above.starts_with(&top)).filter_map(|above| limit(&above.join(file))).min()
    });
    limits.min()
}

/// Where a line of mountinfo (`proc_pid_mountinfo(5)`) shows the group of that path: the mount point, and the group's
/// directory below it.
fn place(mount: &str, kind: &str, path: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = mount.split_once(" - ")?;
    let mut after = after.split(' ');
    let (is_kind, options) = (after.next() == Some(kind), after.nth(1).unwrap_or_default());
    if !is_kind || (kind == "cgroup" && !options.split(',').any(|option| option == "memory")) {
        return None;
    }
    let mut before = before.split(' ').skip(3);
    let (root, top) = (before.next()?, PathBuf::from(before.next()?));
    // A container's own mount may show less than the path names: then the group is the mount itself.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let group = if below.components().any(|part| part.as_os_str() == "..") { top.clone() } else { top.join(below) };
    Some((top, group))
}

fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for `/proc/self`, and one that stands for `/sys/fs/cgroup`.
    struct Fake(PathBuf);

    impl Fake {
        fn new(test: &str) -> Self {
            let place = std::env::temp_dir().join(format!("evergate-cgroup-{test}-{}", std::process::id()));
            fs::create_dir_all(&place).expect("a temporary directory");
            Self(place)
        }

        fn file(self, path: &str, text: &str) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text.replace("TOP", &self.0.display().to_string())).expect("written");
            self
        }

        fn memory_max(&self) -> Option<u64> {
            memory_max(&self.0)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const UNIFIED: &str =
        "22 21 0:20 / /proc rw - proc proc rw\n31 23 0:28 / TOP/fs rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_lowest_memory_limit_of_the_groups_above_counts() {
        let fake = Fake::new("v2").file("cgroup", "0::/system.slice/evergate.service\n").file("mountinfo", UNIFIED);
        assert_eq!(fake.memory_max(), None, "no group says anything");
        let fake = fake.file("fs/system.slice/evergate.service/memory.max", "max\n");
        assert_eq!(fake.memory_max(), None, "this one says that it has none");
        let fake = fake.file("fs/system.slice/memory.max", "2147483648\n");
        assert_eq!(fake.memory_max(), Some(2 << 30));
        let fake = fake.file("fs/system.slice/evergate.service/memory.max", "1073741824\n");
        assert_eq!(fake.memory_max(), Some(1 << 30));
        // Not above the mount.
        let fake = fake.file("memory.max", "4096\n");
        assert_eq!(fake.memory_max(), Some(1 << 30));
    }

    #[test]
    fn a_container_whose_mount_is_its_own_group_reads_that() {
        let fake = Fake::new("container").file("cgroup", "0::/../../other\n").file("fs/memory.max", "536870912\n");
        let fake = fake.file("mountinfo", UNIFIED);
        assert_eq!(fake.memory_max(), Some(512 << 20));
        let mounted = "31 23 0:28 /docker/1f TOP/fs rw - cgroup2 cgroup2 rw\n";
        let fake = fake.file("cgroup", "0::/docker/1f\n").file("mountinfo", mounted);
        assert_eq!(fake.memory_max(), Some(512 << 20));
    }

    #[test]
    fn the_memory_limit_of_version_1_is_read_where_that_has_the_controller() {
        let mounts = "32 31 0:29 / TOP/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 / TOP/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / TOP/unified rw - cgroup2 cgroup2 rw\n";
        let fake = Fake::new("v1").file("cgroup", "4:memory:/app\n1:cpu:/\n0::/\n").file("mountinfo", mounts);
        let fake = fake.file("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(fake.memory_max(), None, "the largest number means no limit");
        let fake = fake.file("memory/app/memory.limit_in_bytes", "268435456\n");
        assert_eq!(fake.memory_max(), Some(256 << 20));
    }

    #[test]
    fn a_quota_takes_neighbours_from_a_place_that_depends_on_the_name() {
        let cpus: Vec<usize> = (0..64).collect();
        let chosen = within(&cpus, 2, "pod-7f9c");
        assert_eq!(chosen, within(&cpus, 2, "pod-7f9c"), "the same for the same container");
        let starts: std::collections::BTreeSet<_> =
            (0..20).map(|pod| within(&cpus, 2, &format!("pod-{pod}"))).collect();
        assert!(starts.len() > 10, "{starts:?}");
        for pair in starts {
            assert!(pair[1] - pair[0] == 1 || pair == [0, 63], "{pair:?}");
        }
        assert_eq!(within(&[3, 5], 2, "x"), [3, 5]);
        assert_eq!(within(&[3], 4, "x"), [3]);
    }
}
