//! The audit log: who did what to which topic, from where, and with which outcome.
//!
//! The brokers decide; the log only records what was decided, and what the proxy did. Events are
//! lines of JSON on a stream of their own, apart from the log of the process and its level. Their
//! number is bounded: what repeats is counted in the next event of its kind, and a writer that cannot
//! keep up loses events, which are counted, instead of delaying requests.

mod auditor;
mod event;
mod repeats;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

pub(crate) use self::auditor::Auditor;
pub use self::event::{AuditEvent, AuditOutcome, AuditSubject};
use self::repeats::{Repeats, Verdict};
use self::writer::Entry;
use crate::clock::WallClock;
use crate::logging::AuditOutput;
use crate::metrics::Metrics;

/// Events that wait for the writer.
const QUEUE_EVENTS: usize = 4_096;
/// Time for the last events before the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Records events.
#[derive(Debug)]
pub struct AuditLog {
    replica: String,
    zone: String,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    /// `None` if the log is turned off.
    queue: Option<mpsc::Sender<Entry>>,
    repeats: Mutex<Repeats>,
}

impl AuditLog {
    /// Starts the log of a replica in a zone.
    pub fn start(
        output: AuditOutput,
        (replica, zone): (&str, &str),
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let queue = (output != AuditOutput::Off).then(|| {
            let (queue, lines) = mpsc::channel(QUEUE_EVENTS);
            writer::spawn(output, lines);
            queue
        });
        let repeats = Mutex::new(Repeats::new(Instant::now()));
        let (replica, zone) = (replica.to_owned(), zone.to_owned());
        Arc::new(Self { replica, zone, clock, metrics, queue, repeats })
    }

    /// Records an event. An event like another one of the last minute is counted, not written.
    pub fn record(&self, subject: &AuditSubject, event: &AuditEvent<'_>) {
        let Some(queue) = &self.queue else { return };
        let key = event.repeats_as(subject);
        let verdict = self.repeats.lock().occurred(key, Instant::now());
        let line = match verdict {
            Verdict::Write { repeated } => {
                let now = self.clock.now_ms();
                event::line(subject, event, (&self.replica, &self.zone), now, repeated)
            }
            Verdict::Repeated => return,
            Verdict::TooMany => return self.suppressed(),
        };
        if queue.try_send(Entry::Line(line)).is_err() {
            self.suppressed();
        }
    }

    /// Returns once the events so far are written, or a second has passed.
    pub async fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (sender, written) = oneshot::channel();
        let flushed = async {
            if queue.send(Entry::Flush(sender)).await.is_ok() {
                // A writer that has ended writes nothing more.
                let _written = written.await;
            }
        };
        let _too_slow = timeout(FLUSH_TIMEOUT, flushed).await;
    }

    fn suppressed(&self) {
        self.metrics.clients.audit_events_suppressed.inc();
    }
}
