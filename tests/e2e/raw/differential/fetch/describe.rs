//! Responses as comparable text.

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{
    DeleteRecordsResponse, DescribeProducersResponse, FetchResponse, ListOffsetsResponse,
    OffsetForLeaderEpochResponse,
};
use uuid::Uuid;

use super::super::number;
use super::side_by_side::Side;

pub(super) trait Describe {
    fn describe(&self, side: &Side) -> String;

    /// The fetch session of the response, if it has one.
    fn session(&self) -> Option<i32> {
        None
    }
}

fn throttled(ms: i32) -> &'static str {
    if ms == 0 { "" } else { "throttled " }
}

impl Describe for FetchResponse {
    fn describe(&self, side: &Side) -> String {
        let session = match self.session_id {
            0 => "none",
            id if id == side.session => "same",
            _ => "new",
        };
        let mut rows = Vec::new();
        for topic in &self.responses {
            let role = side.role(&topic.topic, topic.topic_id);
            rows.extend(topic.partitions.iter().map(|row| format!("{role} {}", fetched(row))));
        }
        let endpoints = if self.node_endpoints.is_empty() { "" } else { "endpoints " };
        let throttled = throttled(self.throttle_time_ms);
        format!(
            "{throttled}{endpoints}code {} session {session}: {}",
            self.error_code,
            rows.join("; ")
        )
    }

    fn session(&self) -> Option<i32> {
        (self.error_code == 0 && self.session_id != 0).then_some(self.session_id)
    }
}

fn fetched(row: &PartitionData) -> String {
    let records = match &row.records {
        None => "null".to_owned(),
        Some(records) => batches(records).iter().map(|b| b.2.clone()).collect::<Vec<_>>().join(" "),
    };
    let aborted = row.aborted_transactions.as_ref().map(Vec::len);
    let (leader, diverging) = (&row.current_leader, &row.diverging_epoch);
    let led = match (leader.leader_id.0, leader.leader_epoch) {
        (-1, -1) => "",
        _ => " led elsewhere",
    };
    let diverges = match (diverging.epoch, diverging.end_offset) {
        (-1, -1) => String::new(),
        (epoch, end) => format!(" diverges {epoch} {end}"),
    };
    format!(
        "{}: code {} ends {} {} {} aborted {aborted:?} replica {}{led}{diverges} [{records}]",
        row.partition_index,
        row.error_code,
        row.log_start_offset,
        row.last_stable_offset,
        row.high_watermark,
        row.preferred_read_replica.0,
    )
}

/// Returns the first and next offset of every whole batch, and its description. A broker may cut
/// the last batch.
pub(super) fn batches(mut rest: &[u8]) -> Vec<(i64, i64, String)> {
    let mut seen = Vec::new();
    while rest.len() >= 61 {
        let size = 12 + number::<4>(rest, 8) as usize;
        let Some(batch) = rest.get(..size) else { break };
        let (base, last) = (number::<8>(batch, 0), number::<4>(batch, 23));
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, batch);
        let text = format!("{base}+{} e{} {size}b {crc:08x}", last + 1, number::<4>(batch, 12));
        seen.push((base, base + last + 1, text));
        rest = &rest[size..];
    }
    seen
}

/// Returns the rows in the order of topics and partitions: a broker's order is accidental.
fn sorted(throttle_ms: i32, mut rows: Vec<(String, i32, String)>) -> String {
    rows.sort();
    let rows: Vec<_> =
        rows.into_iter().map(|(role, index, row)| format!("{role} {index}: {row}")).collect();
    format!("{}{}", throttled(throttle_ms), rows.join("; "))
}

impl Describe for ListOffsetsResponse {
    fn describe(&self, side: &Side) -> String {
        let mut rows = Vec::new();
        for topic in &self.topics {
            rows.extend(topic.partitions.iter().map(|row| {
                let outcome = format!(
                    "code {} offset {} time {} epoch {}",
                    row.error_code, row.offset, row.timestamp, row.leader_epoch
                );
                (side.role(&topic.name, Uuid::nil()), row.partition_index, outcome)
            }));
        }
        sorted(self.throttle_time_ms, rows)
    }
}

impl Describe for OffsetForLeaderEpochResponse {
    fn describe(&self, side: &Side) -> String {
        let mut rows = Vec::new();
        for topic in &self.topics {
            rows.extend(topic.partitions.iter().map(|row| {
                let outcome = format!(
                    "code {} epoch {} end {}",
                    row.error_code, row.leader_epoch, row.end_offset
                );
                (side.role(&topic.topic, Uuid::nil()), row.partition, outcome)
            }));
        }
        sorted(self.throttle_time_ms, rows)
    }
}

impl Describe for DescribeProducersResponse {
    fn describe(&self, side: &Side) -> String {
        let mut rows = Vec::new();
        for topic in &self.topics {
            rows.extend(topic.partitions.iter().map(|row| {
                let mut producers: Vec<_> = row
                    .active_producers
                    .iter()
                    .map(|p| {
                        format!(
                            "{} e{} seq {} time {} coordinator {} txn {}",
                            p.producer_id.0,
                            p.producer_epoch,
                            p.last_sequence,
                            p.last_timestamp,
                            p.coordinator_epoch,
                            p.current_txn_start_offset
                        )
                    })
                    .collect();
                producers.sort();
                let outcome = format!("code {} [{}]", row.error_code, producers.join(", "));
                (side.role(&topic.name, Uuid::nil()), row.partition_index, outcome)
            }));
        }
        sorted(self.throttle_time_ms, rows)
    }
}

impl Describe for DeleteRecordsResponse {
    fn describe(&self, side: &Side) -> String {
        let mut rows = Vec::new();
        for topic in &self.topics {
            rows.extend(topic.partitions.iter().map(|row| {
                let outcome = format!("code {} start {}", row.error_code, row.low_watermark);
                (side.role(&topic.name, Uuid::nil()), row.partition_index, outcome)
            }));
        }
        sorted(self.throttle_time_ms, rows)
    }
}
