//! What clients tell of themselves, where they are asked (KIP-714): series by client.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::book::Book;
use super::labels::ClientLabels;

/// Figures that clients told.
#[derive(Debug)]
pub struct ToldMetrics {
    batch_bytes: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    queue_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    latency_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
    crosses: Family<ClientLabels, Gauge<i64, AtomicI64>>,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientRow {
    /// Its `client.id`.
    pub client_id: String,
    /// Bytes of its batches on the average.
    pub batch_bytes: Option<f64>,
    /// How long its records wait to be sent, on the average.
    pub queue_seconds: Option<f64>,
    /// How long its requests take, on the average.
    pub latency_seconds: Option<f64>,
    /// Whether it is known to be in another zone than this replica.
    pub crosses: bool,
}

impl ToldMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            batch_bytes: book.gauges(
                "client_batch_bytes",
                "client_id",
                "Bytes of a producer's batches on the average, as it says (`clients.telemetry`)",
            ),
            queue_seconds: book.gauges(
                "client_queue_seconds",
                "client_id",
                "How long a producer's records wait to be sent, as it says (`clients.telemetry`)",
            ),
            latency_seconds: book.gauges(
                "client_latency_seconds",
                "client_id",
                "How long a producer's requests take, as it says (`clients.telemetry`)",
            ),
            crosses: book.gauges(
                "client_crosses_zones",
                "client_id",
                "1 for a client that is known to be in another zone (`clients.telemetry`)",
            ),
        }
    }

    /// Shows these clients and no others.
    pub fn show(&self, rows: &[ClientRow]) {
        self.batch_bytes.clear();
        self.queue_seconds.clear();
        self.latency_seconds.clear();
        self.crosses.clear();
        for row in rows {
            let labels = ClientLabels { client_id: row.client_id.clone() };
            let numbers = [
                (&self.batch_bytes, row.batch_bytes),
                (&self.queue_seconds, row.queue_seconds),
                (&self.latency_seconds, row.latency_seconds),
            ];
            for (family, number) in numbers {
                if let Some(number) = number {
                    family.get_or_create(&labels).set(number);
                }
            }
            self.crosses.get_or_create(&labels).set(i64::from(row.crosses));
        }
    }
}
