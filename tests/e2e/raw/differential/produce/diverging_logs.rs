//! Cases whose responses differ on purpose and whose logs diverge: the stored records are not
//! compared. [`super::expected_differences::EXPECTED_DIFFERENCES`] has both responses.

use kafka_protocol::messages::FindCoordinatorRequest;

use super::super::raw_batch::{LZ4, RawBatch, TRANSACTIONAL, encoded};
use super::Findings;
use super::idempotence::{numbered, of};
use super::record_contents::checked_lz4;
use super::side_by_side::{Case, SideBySide, TopicRef, case, of_bytes};
use crate::raw::brokers;
use crate::raw::client::Client;
use crate::raw::lifecycle::LIMIT;
use crate::raw::requests::text;
use testbed::process::wait_until;

const TRANSACTIONAL_ID: &str = "same-txn";
const KEY_TYPE_TRANSACTION: i8 = 1;

pub(super) fn run(findings: &mut Findings) {
    wait_for_transaction_coordinator();
    for (name, cases) in [
        ("null", nulls()),
        ("twice", twice()),
        ("transactions", transactions()),
        ("negative epochs", negative_epochs()),
        ("checksums", vec![wrong_checksum()]),
    ] {
        let mut sides = SideBySide::new(name, &[]);
        cases.iter().for_each(|case| findings.compare_one(&mut sides, case));
    }
}

fn nulls() -> Vec<Case> {
    let good = Some(RawBatch::two().bytes());
    let parts = vec![(TopicRef::Topic, 0, good), (TopicRef::Topic, 1, None)];
    vec![of_bytes("alone", None), Case { parts, ..of_bytes("among good ones", None) }]
}

/// Requests that name one partition twice.
fn twice() -> Vec<Case> {
    let (good, bad) =
        (RawBatch::two().bytes(), RawBatch { bad_crc: true, ..RawBatch::two() }.bytes());
    let old = RawBatch { magic: 1, ..RawBatch::two() }.bytes();
    let first = |label: &str| of_bytes(label, Some(good.clone()));
    vec![
        first("both good").and(0, good.clone()),
        first("good, then corrupt").and(0, bad.clone()),
        of_bytes("corrupt, then good", Some(bad)).and(0, good.clone()),
        of_bytes("old, then good", Some(old)).and(0, good.clone()),
    ]
}

fn transactions() -> Vec<Case> {
    let batch = RawBatch { attributes: TRANSACTIONAL, ..RawBatch::two() };
    let with_id = |case: Case| Case { transactional_id: Some(TRANSACTIONAL_ID), ..case };
    vec![
        with_id(case("never joined", &batch.clone().by(5, 0, 0))),
        with_id(case("of no producer", &batch)),
    ]
}

fn negative_epochs() -> Vec<Case> {
    let steps = [(5, -1, 0), (5, -1, 0), (5, -1, 7), (6, -2, 0), (6, i16::MIN, 0)];
    numbered(steps.map(|(id, epoch, sequence)| of(id, epoch, sequence)).to_vec())
}

fn wrong_checksum() -> Case {
    let payload = Some(checked_lz4(&encoded(&RawBatch::two().records), true));
    case("lz4 content", &RawBatch { payload, ..RawBatch::two() }.codec(LZ4))
}

/// Waits for the transaction coordinator: the first use of transactions creates their topic, and
/// until then the response differs.
fn wait_for_transaction_coordinator() {
    let request = FindCoordinatorRequest::default()
        .with_key_type(KEY_TYPE_TRANSACTION)
        .with_coordinator_keys(vec![text(TRANSACTIONAL_ID)]);
    let mut client = Client::connect(&brokers()[0]);
    wait_until("the transaction coordinator", LIMIT, || {
        client.call(&request, 4).coordinators[0].error_code == 0
    });
}
