//! In a cgroup that allows less than the host has, as in a container. They need one of their own: where this machine lets nobody
//! make one (no root, or a container), they say so and pass; `config::cgroup` is tested everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Folder;
use crate::support::process::{Ended, Process, binary};

/// A group below that of these tests, of version 1 or 2, in which nobody is left when the test ends.
struct Group(PathBuf);

impl Group {
    /// With this limit: the file and value of version 1, then of version 2.
    fn limited(controller: &str, limits: [(&str, &str); 2]) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").expect("the groups of this process");
        let path_of = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let is_it = fields.next()?.split(',').any(|found| found == wanted);
                fields.next().filter(|_| is_it).map(|path| path.trim_start_matches('/'))
            })
        };
        let top = Path::new("/sys/fs/cgroup");
        let (above, (file, value)) = match path_of(controller) {
            Some(path) => (top.join(controller).join(path), limits[0]),
            // Processes may only be in groups whose controllers are not given on: the root is excepted.
            None => (top.to_owned(), limits[1]),
        };
        let _ = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
        let group = Self(above.join(format!("evergate-{}-{}", std::process::id(), crate::support::unique())));
        if fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(file), value)).is_ok() {
            return Some(group);
        }
        println!("no cgroup with {controller} can be made in {}: not tested here", above.display());
        None
    }

    /// A command of evergate's in this group.
    fn evergate(&self, arguments: &[&str]) -> Ended {
        let folder = Folder::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        command.arg(binary().get_program()).args(arguments).current_dir(folder.path());
        Process::start("evergate", &mut command, folder.path()).ended()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cpu_quota_of_one_cpu_is_one_core() {
    let Some(group) = Group::limited("cpu", [("cpu.cfs_quota_us", "100000"), ("cpu.max", "100000 100000")]) else {
        return;
    };
    let ended = group.evergate(&["config"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let line = ended.stdout.lines().find(|line| line.starts_with("cores = ")).expect("the cores");
    let (value, _) = line.split_once('#').expect("a source");
    assert!(!value.contains(','), "{line}");
    let cpus = std::thread::available_parallelism().expect("the CPUs of these tests").get();
    assert_eq!(line.contains("less by the cgroup's CPU quota"), cpus > 1, "{line}");
}

#[test]
fn a_memory_limit_lowers_core_bytes_max_and_check_says_it() {
    const LIMIT: &str = "268435456";
    let Some(group) = Group::limited("memory", [("memory.limit_in_bytes", LIMIT), ("memory.max", LIMIT)]) else {
        return;
    };
    let ended = group.evergate(&["config", "--cores", "0"]);
    let line = ended.stdout.lines().find(|line| line.starts_with("core_bytes_max")).expect("the limit");
    assert!(line.starts_with("core_bytes_max = \"128 MiB\""), "{line}");
    assert!(line.contains("less by the cgroup's memory limit"), "{line}");
    let written = group.evergate(&["config", "--cores", "0", "--core-bytes-max", "1 GiB"]);
    assert!(written.stdout.contains("# warning: core_bytes_max"), "{}", written.text());
    let account = ["--domain", "localhost", "--username", "u", "--port", "1", "--bus-connect-timeout-seconds", "1"];
    let toml = Folder::new();
    let file =
        toml.write("evergate.toml", "passwd = \"p\"\nlisten = \"127.0.0.1:0\"\ncores = [0]\n").display().to_string();
    let check = group.evergate(&[&["check", "--config", &file][..], &account].concat());
    assert!(check.stdout.contains("note  configuration: core_bytes_max = \"128 MiB\""), "{}", check.text());
}
