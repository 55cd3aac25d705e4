//! Produce while the store, Redis or the replica fails: one outcome for each failure
//! (`docs/failure-modes.md`), and neither gap nor duplicate afterwards.

mod error_codes;
mod kill_steps;
pub(super) mod memory;
mod metadata_loss;

use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};

use super::Topic;
use super::batch::{Batch, read, stored_bytes};
use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{fetch, fetched, produce, produced};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{DISKLESS_PREFIX, Replica};

const VERSION: i16 = 9;

/// An idempotent producer of one record a batch, which repeats unacknowledged batches.
struct Producer {
    topic: Topic,
    id: i64,
    /// The timeout of each request, in milliseconds; a replica waits at least 5 s.
    timeout_ms: i32,
}

impl Producer {
    fn new(replica: &Replica) -> Self {
        let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}faults"));
        let topic = Topic::create(replica, &name, 1, &[]);
        let mut client = Client::connect(&replica.bootstrap());
        let init = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut id = -1;
        // A broker that has just started has no producer ids yet.
        wait_until("a producer id", LIMIT, || {
            let given = client.call::<InitProducerIdRequest>(&init, 4);
            id = given.producer_id.0;
            given.error_code == 0
        });
        Self { topic, id, timeout_ms: 1_000 }
    }

    fn connect(&self, replica: &Replica) -> Client {
        Client::connect(&self.topic.address(replica, 0))
    }

    fn batch(&self, sequence: i32) -> bytes::Bytes {
        Batch::of(&[&format!("record {sequence}")]).by(self.id, 0, sequence).bytes()
    }

    /// Sends without waiting; returns the correlation id of the response.
    fn send(&self, client: &mut Client, sequence: i32) -> i32 {
        let request = produce(self.topic.partition(0), VERSION, -1, self.batch(sequence));
        client.send(&request.with_timeout_ms(self.timeout_ms), VERSION)
    }

    /// Returns the error code and the offset of the next response.
    fn receive(&self, client: &mut Client, correlation_id: i32) -> (i16, i64) {
        let response = client.receive::<ProduceRequest>(correlation_id, VERSION);
        (produced(&response).error_code, produced(&response).base_offset)
    }

    /// Sends until the batch is acknowledged; returns its offset.
    fn write(&self, replica: &Replica, sequence: i32) -> i64 {
        for _ in 0..20 {
            let mut client = self.connect(replica);
            let correlation_id = self.send(&mut client, sequence);
            match self.receive(&mut client, correlation_id) {
                (0, offset) => return offset,
                (6 | 7 | 56, _) => {}
                (code, _) => panic!("error {code} for sequence {sequence}"),
            }
        }
        panic!("sequence {sequence} is never acknowledged")
    }

    /// Checks that the log contains exactly the first `records` records, each once and in order.
    fn check_log(&self, replica: &Replica, records: i32) {
        let mut client = self.connect(replica);
        let response = client.call(&fetch(self.topic.partition(0), 12, 0), 12);
        let row = fetched(&response);
        let log = row.records.as_ref().map(|records| read(records)).unwrap_or_default();
        let expected: Vec<_> =
            (0..records).map(|n| (i64::from(n), stored_bytes(&self.batch(n)))).collect();
        assert_eq!(log, expected, "neither gap nor duplicate");
    }
}
