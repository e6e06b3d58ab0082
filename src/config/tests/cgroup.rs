//! What the limits of the cgroup do to the defaults.

use super::*;

/// A host of 64 CPUs on which a container may use two, and this much memory.
fn limited(memory: u64) -> Inputs {
    let host = Host { quota: Some(vec![7, 8]), memory_bytes_max: Some(memory), ..Host::of(0..64, 20_000) };
    Inputs { host, ..Inputs::none(Purpose::Config) }
}

#[test]
fn a_cpu_quota_decides_how_many_cores_all_are() {
    let found = load(limited(64 << 30)).expect("a configuration");
    assert_eq!(found.config.cores, [7, 8]);
    assert!(effective(&found).contains("cores = [7, 8]"), "{}", effective(&found));
    assert_eq!(by_cgroup(&found), ["cores = [7, 8] (default, less by the cgroup's CPU quota)"]);
    assert_eq!(found.warnings, [""; 0]);
}

#[test]
fn half_of_the_memory_limit_is_shared_by_the_cores() {
    let found = load(limited(1 << 30)).expect("a configuration");
    assert_eq!(found.config.core_bytes_max, 256 << 20);
    let line = "core_bytes_max = \"256 MiB\" (default, less by the cgroup's memory limit)";
    assert!(by_cgroup(&found).iter().any(|said| said == line), "{:?}", by_cgroup(&found));
    let plenty = load(limited(4 << 30)).expect("a configuration");
    assert_eq!(plenty.config.core_bytes_max, 1 << 30, "the limit asks for no less");
    assert_eq!(by_cgroup(&plenty).len(), 1, "only the cores are said: {:?}", by_cgroup(&plenty));
}

#[test]
fn what_was_written_stands_against_the_cgroup_with_a_warning() {
    let written =
        |flags: Vec<(&'static str, Vec<String>)>| load(Inputs { flags, ..limited(1 << 30) }).expect("a configuration");
    let cores = written(vec![("cores", vec!["0-3".into()])]);
    assert_eq!(cores.config.cores, [0, 1, 2, 3]);
    assert_eq!(cores.config.core_bytes_max, 128 << 20, "the default follows the cores");
    assert!(cores.warnings.iter().any(|line| line.contains("CPU quota")), "{:?}", cores.warnings);
    let bytes = written(vec![("core_bytes_max", vec!["1 GiB".into()])]);
    assert_eq!(bytes.config.core_bytes_max, 1 << 30);
    assert!(bytes.warnings.iter().any(|line| line.contains("memory limit")), "{:?}", bytes.warnings);
    let all = written(vec![("cores", vec!["all".into()]), ("core_bytes_max", vec!["auto".into()])]);
    assert_eq!((all.config.cores, all.config.core_bytes_max), (vec![7, 8], 256 << 20));
    assert_eq!(all.warnings, [""; 0]);
}
