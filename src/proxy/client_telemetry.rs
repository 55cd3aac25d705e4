//! What clients tell of themselves (KIP-714): kept of the latest clients, for series by client.

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

/// Clients with series of their own; beyond, those that were silent for longest go.
const CLIENTS_MAX: usize = 200;
/// A client that missed so many pushes is gone.
const MISSED_MAX: u32 = 3;
/// The longest name of a client in a label.
const NAME_CHARS_MAX: usize = 100;
/// What one push may hold, in bytes; Kafka's own default.
pub const PUSH_BYTES_MAX: usize = 1 << 20;
/// The figures that clients are asked for: those by which one that costs more than it need be is
/// known. The names are the Java client's (KIP-714).
pub const REQUESTED_METRICS: [&str; 3] = [BATCH_SIZE, QUEUE_TIME, LATENCY];
const BATCH_SIZE: &str = "org.apache.kafka.producer.batch.size.avg";
const QUEUE_TIME: &str = "org.apache.kafka.producer.record.queue.time.avg";
const LATENCY: &str = "org.apache.kafka.producer.request.latency.avg";

/// What clients told.
#[derive(Debug)]
pub struct ClientTelemetry {
    /// Between two pushes of a client.
    pub interval: Duration,
    clients: Mutex<HashMap<[u8; 16], ClientEntry>>,
}

#[derive(Clone, Debug)]
struct ClientEntry {
    last_push: Instant,
    row: ClientSeries,
}

/// A push that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedPush;

impl ClientTelemetry {
    /// Keeps what clients push, and shows it with every scrape.
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

    /// A client's push. `cross_zone` says whether it is known to be in another zone.
    ///
    /// # Errors
    /// It is no `MetricsData` of OpenTelemetry.
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

    /// A client says goodbye.
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

    /// The clients that are there; of several with one id, the one heard last.
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

/// The latest number of a metric that is one number.
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
