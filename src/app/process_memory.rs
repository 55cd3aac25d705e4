//! The memory that the process may use.

use std::fs;
use std::path::{Path, PathBuf};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The memory that the process may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessMemory(pub(super) u64);

impl ProcessMemory {
    /// Returns the least limit of the process' control groups and the memory of the machine.
    pub(crate) fn read() -> Self {
        let of_machine = fs::read_to_string("/proc/meminfo").ok();
        let of_machine = of_machine.and_then(|text| total(&text));
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of_groups = limit_files(&groups).into_iter().filter_map(|file| limit(&file));
        Self(of_groups.chain(of_machine).min().unwrap_or(u64::MAX))
    }

    /// Returns the bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

/// Returns `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// Returns the files with the limits of the groups in `/proc/self/cgroup` and of the groups around
/// them. In a container, the path may be that of the host; the container's own group is at the root.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(CGROUPS).join("memory/memory.limit_in_bytes")];
    for group in groups.lines().filter_map(|line| line.strip_prefix("0::/")) {
        let groups = Path::new(group).ancestors();
        files.extend(groups.map(|group| Path::new(CGROUPS).join(group).join("memory.max")));
    }
    files
}

/// Returns the limit in a file; `None` if there is no file, or `max` in it.
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_groups_around_the_process_count() {
        let files = limit_files("12:cpu:/a\n0::/kubepods/pod-1/odradek\n");
        let expected = [
            "memory/memory.limit_in_bytes",
            "kubepods/pod-1/odradek/memory.max",
            "kubepods/pod-1/memory.max",
            "kubepods/memory.max",
            "memory.max",
        ];
        assert_eq!(files, expected.map(|file| Path::new(CGROUPS).join(file)));
    }

    #[test]
    fn memory_of_the_machine_is_an_upper_bound() {
        assert_eq!(total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(ProcessMemory::read().bytes() > 1 << 20);
    }
}
