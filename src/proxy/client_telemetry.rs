//! Client telemetry (KIP-714): the metrics that clients push, retained for the latest clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, MetricsData};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use tokio::time::Instant;

use crate::metrics::{ClientSeries, Metrics};

/// The maximum number of clients with series of their own. Beyond it, the clients that have been
/// silent longest are evicted.
const CLIENTS_MAX: usize = 200;
/// A client that missed this many pushes is gone.
const MISSED_MAX: u32 = 3;
/// The maximum number of characters of a client id in a label.
const NAME_CHARS_MAX: usize = 100;
/// The maximum size of one push in bytes, Kafka's default.
pub const PUSH_BYTES_MAX: usize = 1 << 20;
/// The metrics that clients are asked for: those that show which clients cost more than necessary.
/// The names are those of the Java client (KIP-714).
pub const REQUESTED_METRICS: [&str; 3] = [BATCH_SIZE, QUEUE_TIME, LATENCY];
const BATCH_SIZE: &str = "org.apache.kafka.producer.batch.size.avg";
const QUEUE_TIME: &str = "org.apache.kafka.producer.record.queue.time.avg";
const LATENCY: &str = "org.apache.kafka.producer.request.latency.avg";

/// The metrics that clients pushed.
#[derive(Debug)]
pub struct ClientTelemetry {
    /// The time between two pushes of a client.
    pub interval: Duration,
    clients: Mutex<HashMap<[u8; 16], ClientEntry>>,
}

#[derive(Clone, Debug)]
struct ClientEntry {
    last_push: Instant,
    row: ClientSeries,
}

/// A push is not a valid `MetricsData` message of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedPush;

impl ClientTelemetry {
    /// Retains what clients push, and exports it with every scrape.
    pub fn start(interval: Duration, metrics: &Arc<Metrics>) -> Arc<Self> {
        let telemetry = Arc::new(Self { interval, clients: Mutex::default() });
        let (shown, to) = (Arc::clone(&telemetry), Arc::downgrade(metrics));
        metrics.on_scrape(move || {
            if let Some(metrics) = to.upgrade() {
                metrics.client_telemetry.show(&shown.rows());
            }
        });
        telemetry
    }

    /// Records a push of a client. `cross_zone` is whether the client is known to be in another zone.
    ///
    /// # Errors
    /// The push is not a valid `MetricsData` message.
    pub fn push(
        &self,
        instance: [u8; 16],
        client_id: &str,
        cross_zone: bool,
        pushed: &[u8],
    ) -> Result<(), MalformedPush> {
        let data = MetricsData::decode(pushed).map_err(|_| MalformedPush)?;
        let scopes = data.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let mut clients = self.lock();
        let client = clients.entry(instance).or_insert_with(|| ClientEntry {
            last_push: Instant::now(),
            row: ClientSeries::default(),
        });
        client.last_push = Instant::now();
        client.row.client_id = client_id.chars().take(NAME_CHARS_MAX).collect();
        client.row.cross_zone = cross_zone;
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            let Some(number) = latest(metric) else { continue };
            match metric.name.as_str() {
                BATCH_SIZE => client.row.batch_bytes = Some(number),
                QUEUE_TIME => client.row.record_queue_seconds = Some(number / 1_000.0),
                LATENCY => client.row.request_latency_seconds = Some(number / 1_000.0),
                _ => {}
            }
        }
        self.evict(&mut clients);
        Ok(())
    }

    /// Removes a client that is terminating.
    pub fn remove(&self, instance: [u8; 16]) {
        self.lock().remove(&instance);
    }

    fn evict(&self, clients: &mut HashMap<[u8; 16], ClientEntry>) {
        let longest = self.interval * MISSED_MAX;
        clients.retain(|_, client| client.last_push.elapsed() < longest);
        while clients.len() > CLIENTS_MAX {
            let silent = clients.iter().min_by_key(|(_, client)| client.last_push);
            let Some(instance) = silent.map(|(instance, _)| *instance) else { return };
            clients.remove(&instance);
        }
    }

    /// Returns the current clients in the order of their latest pushes, so that of several with the same
    /// client id the last one is exported.
    fn rows(&self) -> Vec<ClientSeries> {
        let mut clients = self.lock();
        self.evict(&mut clients);
        let mut all: Vec<_> = clients.values().cloned().collect();
        all.sort_by_key(|client| client.last_push);
        all.into_iter().map(|client| client.row).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], ClientEntry>> {
        self.clients.lock()
    }
}

/// Returns the latest value of a gauge or sum.
fn latest(metric: &Metric) -> Option<f64> {
    let points = match metric.data.as_ref()? {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        _ => return None,
    };
    let number = match points.last()?.value? {
        Value::AsDouble(number) => number,
        Value::AsInt(number) => number as f64,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    };

    use super::*;

    fn push(name: &str, number: f64) -> Vec<u8> {
        let point = NumberDataPoint { value: Some(Value::AsDouble(number)), ..Default::default() };
        let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
        let metric = Metric { name: name.to_owned(), data, ..Default::default() };
        let scope = ScopeMetrics { metrics: vec![metric], ..Default::default() };
        let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
        MetricsData { resource_metrics: vec![resource] }.encode_to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn latest_clients_are_retained_and_silent_ones_evicted() {
        let interval = Duration::from_secs(10);
        let telemetry = ClientTelemetry { interval, clients: Mutex::default() };
        for n in 0..CLIENTS_MAX as u128 + 5 {
            tokio::time::advance(Duration::from_millis(1)).await;
            let name = format!("client-{n}");
            telemetry.push(n.to_be_bytes(), &name, false, &push(BATCH_SIZE, 7.0)).unwrap();
        }
        let rows = telemetry.rows();
        assert_eq!((rows.len(), rows[0].client_id.as_str()), (CLIENTS_MAX, "client-5"));
        let long = "x".repeat(9_000);
        tokio::time::advance(Duration::from_millis(1)).await;
        telemetry.push([9; 16], &long, true, &push(QUEUE_TIME, 250.0)).unwrap();
        let row = telemetry.rows().pop().unwrap();
        assert_eq!((row.client_id.len(), row.cross_zone), (NAME_CHARS_MAX, true));
        assert_eq!((row.batch_bytes, row.record_queue_seconds), (None, Some(0.25)));
        assert_eq!(telemetry.push([8; 16], "c", false, b"\xff\xff"), Err(MalformedPush));
        telemetry.remove([9; 16]);
        assert!(telemetry.rows().iter().all(|row| !row.cross_zone));
        tokio::time::advance(interval * 3).await;
        assert_eq!(telemetry.rows(), Vec::new());
    }
}
