//! What clients tell of themselves, where they are asked (KIP-714): series by client.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::ClientLabels;
use super::registry::MetricRegistry;

/// Figures that clients told.
#[derive(Debug)]
pub struct ClientTelemetryMetrics {
    batch_bytes: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    record_queue_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    request_latency_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    cross_zone: Family<ClientLabels, Gauge<i64, AtomicI64>>,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientSeries {
    /// Its `client.id`.
    pub client_id: String,
    /// Bytes of its batches on the average.
    pub batch_bytes: Option<f64>,
    /// How long its records wait to be sent, on the average.
    pub record_queue_seconds: Option<f64>,
    /// How long its requests take, on the average.
    pub request_latency_seconds: Option<f64>,
    /// Whether it is known to be in another zone than this replica.
    pub cross_zone: bool,
}

impl ClientTelemetryMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            batch_bytes: registry.gauge_family(
                "client_batch_size_bytes",
                "client_id",
                "Bytes of a producer's batches on the average, as it says (`clients.telemetry`)",
            ),
            record_queue_seconds: registry.gauge_family(
                "client_record_queue_time_seconds",
                "client_id",
                "How long a producer's records wait to be sent, as it says (`clients.telemetry`)",
            ),
            request_latency_seconds: registry.gauge_family(
                "client_request_latency_seconds",
                "client_id",
                "How long a producer's requests take, as it says (`clients.telemetry`)",
            ),
            cross_zone: registry.gauge_family(
                "client_cross_zone",
                "client_id",
                "1 for a client that is known to be in another zone (`clients.telemetry`)",
            ),
        }
    }

    /// Shows these clients and no others.
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
