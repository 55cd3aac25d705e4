//! What the operating system says of this process.

use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{BuildLabels, ReloadLabels, ReloadOutcome};
use super::registry::MetricRegistry;
use crate::clock::{SystemClock, WallClock};

/// The process.
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
            "1, with what this replica is as labels: join it by `instance` to have figures by zone",
        );
        let started: Gauge<f64, AtomicU64> = registry.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds of Unix time",
        );
        started.set(SystemClock.now_ms() as f64 / 1_000.0);
        Self {
            build,
            reloads: registry.counter_family(
                "config_reloads",
                "outcome",
                "Configurations read again after a change of the file or a SIGHUP",
            ),
            restart_required: registry.gauge(
                "config_restart_required",
                "1 while the file says something that counts after a restart only",
            ),
            cpu_seconds: registry
                .float_counter("process_cpu_seconds", "Seconds of CPU that the process has taken"),
            resident_bytes: registry
                .gauge("process_resident_memory_bytes", "Bytes of memory that the process takes"),
            open_fds: registry
                .gauge("process_open_fds", "Files and sockets that the process has open"),
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

/// Seconds of a CPU, bytes and descriptors; 0 where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
}

/// Clock ticks of a second, as Linux shows them to programs on every architecture.
const TICKS: f64 = 100.0;
/// Bytes of a page where nothing else is said.
const PAGE_BYTES: u64 = 4_096;

fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the command's name, which may hold anything but ends with the last bracket.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Usage {
        cpu_seconds: (number(11) + number(12)) as f64 / TICKS,
        resident_bytes: number(21) * PAGE_BYTES,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_running_process_takes_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 1 << 20 && usage.open_fds > 2, "{usage:?}");
    }
}
