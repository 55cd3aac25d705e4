//! The loops that keep a replica's view of the coordinator and the brokers current.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::Readiness;
use crate::coordinator::{Coordinator, CoordinatorEvent, EventScope};
use crate::engine::fetch::LongPolls;
use crate::metrics::MonitoredOperation;
use crate::proxy::Proxy;
use crate::proxy::listener::Listeners;
use crate::proxy::topics::Topics;
use crate::proxy::upstream::error::UpstreamError;
use crate::retry::retry_until_ok;
use crate::tasks;

/// The interval at which brokers and topics are read, to notice changes made by other clients.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// The interval at which the readiness learns whether the store refuses objects.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// Subscribes to the coordinator's events, for waiting fetches and topic types. Retries until the
/// subscription is made.
pub(super) async fn subscribe(
    coordinator: &Arc<dyn Coordinator>,
    wakeups: &Arc<LongPolls>,
    topics: &Arc<Topics>,
) {
    let events = retry_until_ok("the batch coordinator", || coordinator.subscribe()).await;
    let (wakeups, topics) = (Arc::clone(wakeups), Arc::clone(topics));
    tasks::spawn_critical("events", async move {
        let also = |event: &CoordinatorEvent| {
            topics.registry.apply_event(event);
            if let CoordinatorEvent::Gap(EventScope::All | EventScope::Topics) = event {
                let topics = Arc::clone(&topics);
                tasks::spawn("reload", async move {
                    if let Err(error) = topics.classifier.load().await {
                        tracing::warn!(%error, "topic types were not reloaded");
                    }
                });
            }
        };
        wakeups.apply_events(events, also).await;
    });
}

/// Reads brokers and topics at intervals, for changes that no client of this replica made.
pub(super) async fn refresh_brokers(proxy: Arc<Proxy>, listeners: Arc<Listeners>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep_until(last + REFRESH_INTERVAL).await;
        last = Instant::now();
        let metadata = match proxy.cluster.refresh().await {
            Ok(metadata) => metadata,
            Err(error @ UpstreamError::OtherCluster { .. }) => {
                tracing::error!(%error, "the topics of the brokers are ignored");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the metadata of the brokers");
                continue;
            }
        };
        proxy.topics.classifier.observe_all(&metadata.topics).await;
        proxy.topics.migrator.resume_abandoned().await;
        proxy.topics.configs.refresh().await;
        proxy.metrics.last_successes.record(MonitoredOperation::kafka_metadata);
        let written = proxy.topics.audit.run().await;
        proxy
            .metrics
            .clients
            .placeholders_with_records
            .set(i64::try_from(written).unwrap_or(i64::MAX));
        listeners.open_brokers().await;
    }
}

/// Reports to `readiness` whether the store refuses objects, for the lifetime of the process.
pub(super) fn report_refusals(proxy: &Arc<Proxy>, readiness: &Arc<Readiness>) {
    let (proxy, readiness) = (Arc::clone(proxy), Arc::clone(readiness));
    tasks::spawn_critical("refusals", async move {
        loop {
            readiness.set_store_refusal(proxy.producer.store_refusal());
            tokio::time::sleep(REFUSAL_INTERVAL).await;
        }
    });
}
