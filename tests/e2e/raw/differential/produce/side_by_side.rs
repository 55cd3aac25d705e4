//! A classic topic at its broker and a diskless topic at a diskless node, which get the same
//! requests.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ProduceRequest, TransactionalId};
use kafka_protocol::protocol::Encodable;
use odradek::wire::guard::decode_response;
use odradek::wire::header::ResponseHeader;
use testbed::replica::DISKLESS_PREFIX;
use uuid::Uuid;

use super::super::frame_edits::Edit;
use super::super::raw_batch::RawBatch;
use super::super::{create_on_broker_1, wait_for_leadership};
use super::read_log::read_log;
use crate::raw::client::{Client, Received, frame};
use crate::raw::requests::{text, topic_name};
use crate::raw::{Topic, brokers, replica};

const PRODUCE: i16 = ApiKey::Produce as i16;
const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;
const PARTITIONS: i32 = 5;
/// The maximum wait for a response; a broker responds within milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The topic that a part of a request names.
#[derive(Clone, Copy)]
pub(super) enum TopicRef {
    Topic,
    /// A name, or from version 13 on an id, that no topic has.
    Unknown,
    /// No name, or the zero id.
    Zero,
}

/// One request.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) label: String,
    pub(super) version: i16,
    pub(super) acks: i16,
    pub(super) transactional_id: Option<&'static str>,
    pub(super) parts: Vec<(TopicRef, i32, Option<Bytes>)>,
    /// Edits the frame, its length prefix included, before it is sent.
    pub(super) edit: Option<Edit>,
}

/// A batch for partition 0 in version 9.
pub(super) fn case(label: impl Into<String>, batch: &RawBatch) -> Case {
    of_bytes(label, Some(batch.bytes()))
}

/// Any bytes for partition 0 in version 9.
pub(super) fn of_bytes(label: impl Into<String>, records: Option<Bytes>) -> Case {
    Case {
        label: label.into(),
        version: 9,
        acks: -1,
        transactional_id: None,
        parts: vec![(TopicRef::Topic, 0, records)],
        edit: None,
    }
}

impl Case {
    pub(super) fn version(self, version: i16) -> Self {
        Self { version, ..self }
    }

    pub(super) fn acks(self, acks: i16) -> Self {
        Self { acks, ..self }
    }

    pub(super) fn to(mut self, to: TopicRef, partition: i32) -> Self {
        self.parts[0].0 = to;
        self.parts[0].1 = partition;
        self
    }

    pub(super) fn and(mut self, partition: i32, records: Bytes) -> Self {
        self.parts.push((TopicRef::Topic, partition, Some(records)));
        self
    }

    pub(super) fn edited(self, edit: Edit) -> Self {
        Self { edit: Some(edit), ..self }
    }
}

pub(super) struct Side {
    topic: Topic,
    address: String,
    client: Client,
}

/// The diskless side and the broker's side.
pub(super) struct SideBySide {
    pub(super) name: &'static str,
    pub(super) ours: Side,
    pub(super) theirs: Side,
}

impl SideBySide {
    /// Creates two topics with the same configs.
    pub(super) fn new(name: &'static str, configs: &[(&str, &str)]) -> Self {
        let stem = format!("same-{}", name.replace(' ', "-"));
        let ours = create_on_broker_1(&format!("{DISKLESS_PREFIX}{stem}"), PARTITIONS, configs);
        let theirs = create_on_broker_1(&format!("classic-{stem}"), PARTITIONS, configs);
        assert!(ours.is_diskless() && !theirs.is_diskless());
        let (address, broker) = (ours.address(replica(), 0), brokers()[0].clone());
        wait_for_leadership(&broker, &theirs, PARTITIONS);
        Self { name, ours: Side::new(ours, address), theirs: Side::new(theirs, broker) }
    }

    /// Returns the responses to a request: ours, and the broker's.
    pub(super) fn query(&mut self, case: &Case) -> (String, String) {
        (self.ours.query(case), self.theirs.query(case))
    }

    /// Returns what a consumer reads of partition 0 on each side.
    pub(super) fn read(&mut self) -> (Vec<String>, Vec<String>) {
        (self.ours.read(), self.theirs.read())
    }

    pub(super) fn names(&self) -> [&str; 2] {
        [&self.ours.topic.name, &self.theirs.topic.name]
    }
}

impl Side {
    fn new(topic: Topic, address: String) -> Self {
        let client = Client::connect(&address);
        Self { topic, address, client }
    }

    fn read(&mut self) -> Vec<String> {
        read_log(&mut self.client, self.topic.partition(0))
    }

    fn request(&self, case: &Case) -> ProduceRequest {
        let mut topics: Vec<(Option<Uuid>, TopicProduceData)> = Vec::new();
        for (to, partition, records) in &case.parts {
            let (name, id) = match to {
                TopicRef::Topic => (self.topic.name.as_str(), self.topic.id),
                TopicRef::Unknown => ("diskless-unknown", Uuid::from_u128(7 << 64 | 7)),
                TopicRef::Zero => ("", Uuid::nil()),
            };
            let data = PartitionProduceData::default()
                .with_index(*partition)
                .with_records(records.clone());
            match topics.iter_mut().find(|(known, _)| *known == Some(id)) {
                Some((_, topic)) => topic.partition_data.push(data),
                None => {
                    let topic = TopicProduceData::default().with_partition_data(vec![data]);
                    let topic = match case.version >= 13 {
                        true => topic.with_topic_id(id),
                        false => topic.with_name(topic_name(name)),
                    };
                    topics.push((Some(id), topic));
                }
            }
        }
        ProduceRequest::default()
            .with_acks(case.acks)
            .with_timeout_ms(20_000)
            .with_transactional_id(case.transactional_id.map(|id| TransactionalId(text(id))))
            .with_topic_data(topics.into_iter().map(|(_, topic)| topic).collect())
    }

    fn query(&mut self, case: &Case) -> String {
        let mut body = BytesMut::new();
        self.request(case).encode(&mut body, case.version).expect("an encodable body");
        let sent = frame(PRODUCE, case.version, 77, &body);
        let sent = case.edit.map_or_else(|| sent.to_vec(), |edit| edit(sent.to_vec()));
        self.client.send_bytes(&sent);
        if case.acks == 0 {
            return self.probe();
        }
        let outcome = match self.client.receive_within(RESPONSE_TIMEOUT) {
            Received::Frame(frame) => rows(&frame, case.version),
            Received::Closed => "closed".to_owned(),
            Received::Timeout => "silent".to_owned(),
        };
        if outcome == "closed" {
            self.client = Client::connect(&self.address);
            return outcome;
        }
        let alive = self.probe();
        if alive == "alive" { outcome } else { format!("{outcome}, then {alive}") }
    }

    /// Returns whether the connection still works; replaces it if it does not.
    fn probe(&mut self) -> String {
        let mut body = BytesMut::new();
        ApiVersionsRequest::default().encode(&mut body, 0).expect("an encodable body");
        self.client.try_send_bytes(&frame(API_VERSIONS, 0, 78, &body));
        let outcome = match self.client.receive_within(RESPONSE_TIMEOUT) {
            Received::Frame(frame) if frame[..4] == 78_i32.to_be_bytes() => {
                return "alive".to_owned();
            }
            Received::Frame(frame) => format!("out of step: {frame:?}"),
            Received::Closed => "closed".to_owned(),
            Received::Timeout => "silent".to_owned(),
        };
        self.client = Client::connect(&self.address);
        outcome
    }
}

/// Describes the partitions of a response in order; a broker's order is accidental.
fn rows(frame: &Bytes, version: i16) -> String {
    let header = ResponseHeader::parse(frame, PRODUCE, version).expect("a header");
    let body = frame.slice(header.bytes..);
    let response = decode_response::<ProduceRequest>(version, body).expect("an answer");
    let mut rows: Vec<(i32, String)> = Vec::new();
    for topic in &response.responses {
        rows.extend(topic.partition_responses.iter().map(|row| (row.index, describe(row))));
    }
    rows.sort();
    let throttled = if response.throttle_time_ms == 0 { "" } else { "throttled " };
    let rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
    format!("{throttled}{}", rows.join("; "))
}

fn describe(row: &PartitionProduceResponse) -> String {
    let time = if row.log_append_time_ms == -1 { "unset" } else { "set" };
    let errors: Vec<String> = row
        .record_errors
        .iter()
        .map(|e| {
            format!(
                "{}{}",
                e.batch_index,
                if has_message(&e.batch_index_error_message) { "" } else { "?" }
            )
        })
        .collect();
    format!(
        "{}: code {} base {} time {time} start {}{}{}",
        row.index,
        row.error_code,
        row.base_offset,
        row.log_start_offset,
        if errors.is_empty() { String::new() } else { format!(" records {}", errors.join(",")) },
        if has_message(&row.error_message) { " message" } else { "" },
    )
}

fn has_message(message: &Option<kafka_protocol::protocol::StrBytes>) -> bool {
    message.as_ref().is_some_and(|m| !m.is_empty())
}
