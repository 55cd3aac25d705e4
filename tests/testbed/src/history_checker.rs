//! Compares what a consumer read with what was acknowledged to a producer.
//!
//! The values of a producer increase; each value is sent to one partition, in order.

use std::collections::{BTreeMap, BTreeSet};

/// `value` was acknowledged at this place. With offset −1 Kafka acknowledges a duplicate whose offset
/// it no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    pub partition: i32,
    pub offset: i64,
    pub value: u64,
}

/// A consumer read `value` at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    pub value: u64,
}

/// A contradiction between acknowledgements and records, or among records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anomaly {
    /// Acknowledged, but not readable.
    Lost(Acked),
    /// Acknowledged at one place, read at another one.
    Moved(Acked, Found),
    /// One value at several offsets.
    Duplicate { value: u64, places: Vec<(i32, i64)> },
    /// The value follows a greater one of its partition.
    Reordered { greater: u64, found: Found },
    /// Two records at one offset.
    SharedOffset { partition: i32, offset: i64, values: Vec<u64> },
    /// No record at an offset below the last.
    Gap { partition: i32, offset: i64 },
}

/// Returns all anomalies. `found` may be in any order: the order of a partition is that of its
/// offsets.
pub fn anomalies(acked: &[Acked], found: &[Found]) -> Vec<Anomaly> {
    let mut places: BTreeMap<u64, Vec<Found>> = BTreeMap::new();
    let mut log: BTreeMap<(i32, i64), Vec<u64>> = BTreeMap::new();
    for record in found {
        places.entry(record.value).or_default().push(*record);
        log.entry((record.partition, record.offset)).or_default().push(record.value);
    }
    let mut wrong = contradicted_acks(acked, &places);
    wrong.extend(duplicates(&places));
    wrong.extend(shared_offsets(&log));
    wrong.extend(gaps(&log));
    wrong.extend(reordered(&log));
    wrong
}

fn contradicted_acks(acked: &[Acked], places: &BTreeMap<u64, Vec<Found>>) -> Vec<Anomaly> {
    let mut wrong = Vec::new();
    for promise in acked {
        let Some(found) = places.get(&promise.value) else {
            wrong.push(Anomaly::Lost(*promise));
            continue;
        };
        let kept = |place: &Found| {
            place.partition == promise.partition
                && (promise.offset == -1 || place.offset == promise.offset)
        };
        if !found.iter().any(kept) {
            wrong.push(Anomaly::Moved(*promise, found[0]));
        }
    }
    wrong
}

fn duplicates(places: &BTreeMap<u64, Vec<Found>>) -> Vec<Anomaly> {
    let mut wrong = Vec::new();
    for (value, found) in places {
        let distinct: BTreeSet<_> = found.iter().map(|f| (f.partition, f.offset)).collect();
        if distinct.len() > 1 {
            let places = distinct.into_iter().collect();
            wrong.push(Anomaly::Duplicate { value: *value, places });
        }
    }
    wrong
}

fn shared_offsets(log: &BTreeMap<(i32, i64), Vec<u64>>) -> Vec<Anomaly> {
    log.iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(&(partition, offset), values)| Anomaly::SharedOffset {
            partition,
            offset,
            values: values.clone(),
        })
        .collect()
}

fn gaps(log: &BTreeMap<(i32, i64), Vec<u64>>) -> Vec<Anomaly> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for &(partition, offset) in log.keys() {
        let expected = next.entry(partition).or_insert(0);
        wrong.extend((*expected..offset).map(|offset| Anomaly::Gap { partition, offset }));
        *expected = offset + 1;
    }
    wrong
}

fn reordered(log: &BTreeMap<(i32, i64), Vec<u64>>) -> Vec<Anomaly> {
    let mut greatest: BTreeMap<i32, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (&(partition, offset), values) in log {
        for &value in values {
            let greater = greatest.entry(partition).or_insert(value);
            if value < *greater {
                let found = Found { partition, offset, value };
                wrong.push(Anomaly::Reordered { greater: *greater, found });
            }
            *greater = value.max(*greater);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn acked(partition: i32, offset: i64, value: u64) -> Acked {
        Acked { partition, offset, value }
    }

    const fn found(partition: i32, offset: i64, value: u64) -> Found {
        Found { partition, offset, value }
    }

    #[track_caller]
    fn check(acked: &[Acked], found: &[Found], wanted: &[Anomaly]) {
        assert_eq!(anomalies(acked, found), wanted);
    }

    #[test]
    fn consistent_log_has_no_anomalies() {
        let log = [found(1, 0, 2), found(0, 1, 3), found(0, 0, 1)];
        check(&[acked(0, 0, 1), acked(1, 0, 2), acked(0, 1, 3)], &log, &[]);
    }

    #[test]
    fn unacknowledged_record_may_exist_or_not() {
        check(&[acked(0, 0, 1)], &[found(0, 0, 1), found(0, 1, 2)], &[]);
        check(&[acked(0, 0, 1)], &[found(0, 0, 1)], &[]);
    }

    #[test]
    fn ack_without_offset_requires_only_the_record() {
        check(&[acked(0, -1, 1)], &[found(0, 0, 1)], &[]);
        check(&[acked(0, -1, 1)], &[], &[Anomaly::Lost(acked(0, -1, 1))]);
        let moved = Anomaly::Moved(acked(0, -1, 1), found(1, 0, 1));
        check(&[acked(0, -1, 1)], &[found(1, 0, 1)], &[moved]);
    }

    #[test]
    fn lost_record_is_found() {
        let promises = [acked(0, 0, 1), acked(0, 1, 2)];
        check(&promises, &[found(0, 0, 1)], &[Anomaly::Lost(acked(0, 1, 2))]);
    }

    #[test]
    fn moved_record_is_found() {
        let log = [found(0, 0, 1), found(0, 1, 2)];
        check(&[acked(0, 0, 2)], &log, &[Anomaly::Moved(acked(0, 0, 2), found(0, 1, 2))]);
    }

    #[test]
    fn duplicate_is_found() {
        let log = [found(0, 0, 1), found(0, 1, 1)];
        let wanted = Anomaly::Duplicate { value: 1, places: vec![(0, 0), (0, 1)] };
        check(&[acked(0, 0, 1)], &log, &[wanted]);
    }

    #[test]
    fn duplicate_in_another_partition_is_found() {
        let log = [found(0, 0, 1), found(1, 0, 1)];
        let wanted = Anomaly::Duplicate { value: 1, places: vec![(0, 0), (1, 0)] };
        check(&[], &log, &[wanted]);
    }

    #[test]
    fn reordered_pair_is_found() {
        let log = [found(0, 0, 2), found(0, 1, 1)];
        check(&[], &log, &[Anomaly::Reordered { greater: 2, found: found(0, 1, 1) }]);
    }

    #[test]
    fn two_records_at_one_offset_are_found() {
        let log = [found(0, 0, 1), found(0, 0, 2)];
        check(&[], &log, &[Anomaly::SharedOffset { partition: 0, offset: 0, values: vec![1, 2] }]);
    }

    #[test]
    fn record_delivered_twice_at_one_offset_is_found() {
        let log = [found(0, 0, 1), found(0, 0, 1)];
        check(&[], &log, &[Anomaly::SharedOffset { partition: 0, offset: 0, values: vec![1, 1] }]);
    }

    #[test]
    fn gap_is_found() {
        let log = [found(0, 0, 1), found(0, 3, 2)];
        let gap = |offset| Anomaly::Gap { partition: 0, offset };
        check(&[], &log, &[gap(1), gap(2)]);
        check(&[], &[found(0, 1, 1)], &[gap(0)]);
    }
}
