//! Resource usage of this process, build information and configuration reloads.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{BuildLabels, ReloadLabels, ReloadOutcome};
use super::registry::MetricRegistry;
use crate::clock::{SystemClock, WallClock};

/// Metrics of the process.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    build: Family<BuildLabels, Gauge<i64, AtomicI64>>,
    reloads: Family<ReloadLabels, Counter>,
    restart_required: Gauge<i64, AtomicI64>,
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Gauge<i64, AtomicI64>,
    open_fds: Gauge<i64, AtomicI64>,
}

impl ProcessMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let build = registry.gauge_family(
            "build_info",
            "version, replica, zone",
            "Always 1; the labels describe this replica. Join by `instance` to group other metrics by zone",
        );
        let started: Gauge<f64, AtomicU64> = registry.gauge(
            "process_start_time_seconds",
            "Start time of the process, in seconds since the Unix epoch",
        );
        started.set(SystemClock.now_ms() as f64 / 1_000.0);
        Self {
            build,
            reloads: registry.counter_family(
                "config_reloads",
                "outcome",
                "Reloads of the configuration after a change of the file or a SIGHUP",
            ),
            restart_required: registry.gauge(
                "config_restart_required",
                "1 while the configuration file contains changes that require a restart",
            ),
            cpu_seconds: registry.float_counter(
                "process_cpu_seconds",
                "Total user and system CPU time of the process, in seconds",
            ),
            resident_bytes: registry
                .gauge("process_resident_memory_bytes", "Resident memory of the process, in bytes"),
            open_fds: registry.gauge("process_open_fds", "Open file descriptors of the process"),
        }
    }

    pub(super) fn set_build_info(&self, replica: &str, zone: &str) {
        let (replica, zone) = (replica.to_owned(), zone.to_owned());
        let version = crate::VERSION;
        self.build.get_or_create(&BuildLabels { version, replica, zone }).set(1);
    }

    pub(super) fn record_reload(&self, outcome: ReloadOutcome) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    pub(super) fn set_restart_required(&self, is_needed: bool) {
        self.restart_required.set(i64::from(is_needed));
    }

    pub(super) fn refresh(&self) {
        let usage = usage();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.cpu_seconds.inc_by((usage.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        self.resident_bytes.set(whole(usage.resident_bytes));
        self.open_fds.set(whole(usage.open_fds));
    }
}

/// Resource usage of this process; 0 where the operating system does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ProcessUsage {
    /// CPU time in user and kernel mode, in seconds.
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
}

#[cfg(target_os = "linux")]
fn usage() -> ProcessUsage {
    use procfs::WithCurrentSystemInfo as _;

    let read = || {
        let process = procfs::process::Process::myself()?;
        let stat = process.stat()?;
        procfs::ProcResult::Ok(ProcessUsage {
            cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            resident_bytes: stat.rss_bytes().get(),
            open_fds: process.fd_count()? as u64,
        })
    };
    read().unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn usage() -> ProcessUsage {
    ProcessUsage::default()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The entry of the auxiliary vector that contains the page size.
    const AT_PAGESZ: u64 = 6;

    fn page_size_of_kernel() -> u64 {
        let auxv = fs::read("/proc/self/auxv").unwrap();
        let word = |at: usize| u64::from_ne_bytes(auxv[at * 8..][..8].try_into().unwrap());
        (0..auxv.len() / 16).find(|n| word(n * 2) == AT_PAGESZ).map(|n| word(n * 2 + 1)).unwrap()
    }

    #[test]
    fn usage_of_a_running_process_is_not_zero() {
        let usage = usage();
        assert!(usage.resident_bytes > 1 << 20 && usage.open_fds > 2, "{usage:?}");
    }

    #[test]
    fn resident_memory_is_counted_in_pages_of_the_running_kernel() {
        assert_eq!(procfs::page_size(), page_size_of_kernel());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let share = usage().resident_bytes as f64 / (kib * 1_024) as f64;
        assert!((0.5..2.0).contains(&share), "{share} of what the kernel reports");
    }
}
