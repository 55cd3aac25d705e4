//! Refuses a Redis that evicts keys, and watches for one that begins to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::metadata_health::MonitoredRedis;
use crate::coordinator::redis::eviction::EvictionPolicy;
use crate::metrics::Metrics;
use crate::retry::retry_until_ok;
use crate::tasks;

/// The interval at which the policies are read.
const INTERVAL: Duration = Duration::from_secs(15);

/// Reads the policy of every master, and retries until one answers.
///
/// # Errors
/// A master evicts keys.
pub(super) async fn require_no_eviction(monitored: &MonitoredRedis) -> anyhow::Result<()> {
    let coordinator = &monitored.coordinator;
    let policies =
        retry_until_ok("the batch coordinator", || coordinator.eviction_policies()).await;
    for policy in &policies {
        if policy.policy.is_none() {
            tracing::warn!(
                server = policy.server,
                "{} does not tell its maxmemory-policy: make sure that it is `noeviction`, because \
                 any other one removes offsets and index entries",
                policy.name()
            );
        }
    }
    match problems(&policies).into_iter().next() {
        Some(problem) => bail!(problem),
        None => Ok(()),
    }
}

/// Watches the policies for the lifetime of the process: a change is logged and counted.
pub(super) fn watch(monitored: &MonitoredRedis, metrics: Arc<Metrics>) {
    let coordinator = Arc::clone(&monitored.coordinator);
    tasks::spawn_critical("eviction", async move {
        let mut known = BTreeSet::new();
        loop {
            // The calls that cannot reach Redis report it.
            if let Ok(policies) = coordinator.eviction_policies().await {
                let current = problems(&policies);
                for problem in current.difference(&known) {
                    tracing::error!("{problem}");
                    metrics.coordinator.eviction_changes.inc();
                }
                if current.is_empty() && !known.is_empty() {
                    tracing::info!("no Redis evicts keys any longer");
                }
                let count = i64::try_from(current.len()).unwrap_or(i64::MAX);
                metrics.coordinator.evicting_servers.set(count);
                known = current;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

fn problems(policies: &[EvictionPolicy]) -> BTreeSet<String> {
    policies.iter().filter_map(EvictionPolicy::problem).collect()
}
