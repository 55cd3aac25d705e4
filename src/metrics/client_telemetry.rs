//! Metrics that clients push (KIP-714), as series by client.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::ClientLabels;
use super::registry::MetricRegistry;

/// Metrics that clients pushed.
#[derive(Debug)]
pub struct ClientTelemetryMetrics {
    batch_bytes: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    record_queue_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    request_latency_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    cross_zone: Family<ClientLabels, Gauge<i64, AtomicI64>>,
}

/// The values of one client's series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientSeries {
    /// Its `client.id`.
    pub client_id: String,
    /// Average size of the client's batches, in bytes.
    pub batch_bytes: Option<f64>,
    /// Average time that records wait to be sent, in seconds.
    pub record_queue_seconds: Option<f64>,
    /// Average latency of requests, in seconds.
    pub request_latency_seconds: Option<f64>,
    /// True if the client is known to be in another zone than this replica.
    pub cross_zone: bool,
}

impl ClientTelemetryMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            batch_bytes: registry.gauge_family(
                "client_batch_size_bytes",
                "client_id",
                "Average size of the producer's batches, in bytes, as reported by the client (`clients.telemetry`)",
            ),
            record_queue_seconds: registry.gauge_family(
                "client_record_queue_time_seconds",
                "client_id",
                "Average time that the producer's records wait to be sent, as reported by the client (`clients.telemetry`)",
            ),
            request_latency_seconds: registry.gauge_family(
                "client_request_latency_seconds",
                "client_id",
                "Average latency of the producer's requests, as reported by the client (`clients.telemetry`)",
            ),
            cross_zone: registry.gauge_family(
                "client_cross_zone",
                "client_id",
                "1 if the client is known to be in another zone than this replica (`clients.telemetry`)",
            ),
        }
    }

    /// Replaces the series by client with these.
    pub fn show(&self, rows: &[ClientSeries]) {
        self.batch_bytes.clear();
        self.record_queue_seconds.clear();
        self.request_latency_seconds.clear();
        self.cross_zone.clear();
        for row in rows {
            let labels = ClientLabels { client_id: row.client_id.clone() };
            let numbers = [
                (&self.batch_bytes, row.batch_bytes),
                (&self.record_queue_seconds, row.record_queue_seconds),
                (&self.request_latency_seconds, row.request_latency_seconds),
            ];
            for (family, number) in numbers {
                if let Some(number) = number {
                    family.get_or_create(&labels).set(number);
                }
            }
            self.cross_zone.get_or_create(&labels).set(i64::from(row.cross_zone));
        }
    }
}
