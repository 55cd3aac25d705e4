//! What clients wrote down, and whether a Kafka may have answered so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use testbed::history_checker::{Acked, Anomaly, Found, anomalies};

/// Values of a producer are its number times this, and upwards from there.
pub(crate) const VALUES_EACH: u64 = 1_000_000_000;

/// A line of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Ack(Acked),
    Poll(Found),
    /// The high watermark of a partition, as a consumer knows it.
    Mark {
        partition: i32,
        offset: i64,
    },
    Failed(String),
}

/// What one client has written down so far.
#[derive(Debug)]
pub(crate) struct Diary {
    pub(crate) name: String,
    path: PathBuf,
    read: u64,
    rest: String,
    pub(crate) lines: Vec<Line>,
}

impl Diary {
    pub(crate) fn new(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), path, read: 0, rest: String::new(), lines: Vec::new() }
    }

    /// Reads on.
    pub(crate) fn refresh(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut more = Vec::new();
        file.seek(SeekFrom::Start(self.read)).expect("a file");
        file.read_to_end(&mut more).expect("a file");
        self.read += more.len() as u64;
        self.rest += &String::from_utf8_lossy(&more);
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.rest[..whole].lines().filter_map(parse);
        self.lines.extend(lines);
        self.rest.drain(..whole);
    }

    /// Acks and polls, of which a client that goes on has ever more.
    pub(crate) fn progress(&self) -> usize {
        let counts = |line: &&Line| matches!(line, Line::Ack(_) | Line::Poll(_));
        self.lines.iter().filter(counts).count()
    }
}

/// A line of `clients.py`, or of Kafka's own verifiable producer.
fn parse(line: &str) -> Option<Line> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let number = |key: &str| event[key].as_i64();
    let partition = || number("partition").and_then(|p| i32::try_from(p).ok());
    if event["name"] == "producer_send_success" {
        let (producer, value) = event["value"].as_str()?.split_once('.')?;
        let value = producer.parse::<u64>().ok()? * VALUES_EACH + value.parse::<u64>().ok()?;
        return Some(Line::Ack(Acked {
            partition: partition()?,
            offset: number("offset")?,
            value,
        }));
    }
    if event["name"] == "producer_send_error" {
        return Some(Line::Failed(line.to_owned()));
    }
    let offset = number("offset");
    match event["type"].as_str()? {
        "ack" => {
            let value = event["value"].as_u64()?;
            Some(Line::Ack(Acked { partition: partition()?, offset: offset?, value }))
        }
        "poll" => {
            let value = event["value"].as_u64()?;
            Some(Line::Poll(Found { partition: partition()?, offset: offset?, value }))
        }
        "mark" => Some(Line::Mark { partition: partition()?, offset: offset? }),
        "failed" => Some(Line::Failed(line.to_owned())),
        _ => None,
    }
}

/// Whether a reader may be told an end that lies before one that it was told earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watermarks {
    NeverGoBack,
    MayGoBack,
}

/// What is wrong with the history of one topic. `readers` read everything from the beginning, each
/// by itself; the members of a `group` together, and some of it more than once.
pub(crate) fn judge(
    producers: &[&Diary],
    readers: &[&Diary],
    group: &[&Diary],
    marks: Watermarks,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let acked: Vec<Acked> = producers.iter().flat_map(|p| &p.lines).filter_map(ack).collect();
    let failed = producers.iter().flat_map(|p| &p.lines).filter_map(|line| match line {
        Line::Failed(text) => Some(format!("a send failed for good: {text}")),
        _ => None,
    });
    wrong.extend(failed);
    let mut log: BTreeMap<(i32, i64), u64> = BTreeMap::new();
    for diary in readers.iter().chain(group) {
        for found in diary.lines.iter().filter_map(polled) {
            let before = *log.entry((found.partition, found.offset)).or_insert(found.value);
            if before != found.value {
                wrong.push(format!("{}: {found:?}, which was {before} before", diary.name));
            }
        }
    }
    for reader in readers {
        wrong.extend(out_of_step(reader));
        let own: BTreeSet<u64> = reader.lines.iter().filter_map(polled).map(|f| f.value).collect();
        let missing = acked.iter().filter(|acked| !own.contains(&acked.value));
        wrong.extend(missing.map(|acked| format!("{} never read {acked:?}", reader.name)));
    }
    if !group.is_empty() {
        let read = group.iter().flat_map(|member| &member.lines).filter_map(polled);
        let read: BTreeSet<u64> = read.map(|found| found.value).collect();
        let missing = acked.iter().filter(|acked| !read.contains(&acked.value));
        wrong.extend(missing.map(|acked| format!("the group never read {acked:?}")));
    }
    if marks == Watermarks::NeverGoBack {
        wrong.extend(marks_that_went_back(readers));
    }
    let found: Vec<Found> = log
        .into_iter()
        .map(|((partition, offset), value)| Found { partition, offset, value })
        .collect();
    // A producer's order is its own; the rest is everybody's. Classic partitions have gaps where
    // nothing is, so only what was skipped by a reader counts, not what is not there.
    let is_ours =
        |wrong: &Anomaly| !matches!(wrong, Anomaly::Reordered { .. } | Anomaly::Gap { .. });
    wrong.extend(anomalies(&acked, &found).into_iter().filter(is_ours).map(|w| format!("{w:?}")));
    let producers: BTreeSet<u64> = found.iter().map(|f| f.value / VALUES_EACH).collect();
    for producer in producers {
        let own = |found: &&Found| found.value / VALUES_EACH == producer;
        let own: Vec<Found> = found.iter().filter(own).copied().collect();
        let order = anomalies(&[], &own).into_iter();
        let order = order.filter(|wrong| matches!(wrong, Anomaly::Reordered { .. }));
        wrong.extend(order.map(|w| format!("{w:?}")));
    }
    wrong
}

fn ack(line: &Line) -> Option<Acked> {
    if let Line::Ack(acked) = line { Some(*acked) } else { None }
}

fn polled(line: &Line) -> Option<Found> {
    if let Line::Poll(found) = line { Some(*found) } else { None }
}

/// Offsets that a reader skipped, or went back to.
fn out_of_step(reader: &Diary) -> Vec<String> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for found in reader.lines.iter().filter_map(polled) {
        let expected = next.entry(found.partition).or_insert(0);
        if found.offset != *expected {
            wrong.push(format!("{}: {found:?} came for offset {expected}", reader.name));
        }
        *expected = found.offset + 1;
    }
    wrong
}

fn marks_that_went_back(readers: &[&Diary]) -> Vec<String> {
    let mut wrong = Vec::new();
    for reader in readers {
        let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
        for line in &reader.lines {
            let Line::Mark { partition, offset } = line else { continue };
            let before = highest.entry(*partition).or_insert(*offset);
            if offset < before {
                wrong.push(format!(
                    "{}: the end of {partition} went from {before} to {offset}",
                    reader.name
                ));
            }
            *before = *offset.max(before);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diary(name: &str, lines: &[Line]) -> Diary {
        let mut diary = Diary::new(name, PathBuf::new());
        diary.lines = lines.to_vec();
        diary
    }

    const fn ack(offset: i64, value: u64) -> Line {
        Line::Ack(Acked { partition: 0, offset, value })
    }

    const fn poll(offset: i64, value: u64) -> Line {
        Line::Poll(Found { partition: 0, offset, value })
    }

    #[track_caller]
    fn check(acks: &[Line], polls: &[Line], wanted: &[&str]) {
        let (producer, reader) = (diary("producer", acks), diary("reader", polls));
        let wrong = judge(&[&producer], &[&reader], &[], Watermarks::NeverGoBack);
        assert_eq!(wrong.len(), wanted.len(), "{wrong:?}");
        wanted.iter().for_each(|w| assert!(wrong.iter().any(|x| x.contains(w)), "{w}: {wrong:?}"));
    }

    #[test]
    fn a_faultless_history_is_faultless() {
        check(&[ack(0, 1), ack(1, 2)], &[poll(0, 1), poll(1, 2), poll(2, 3)], &[]);
    }

    #[test]
    fn finds_what_was_lost_skipped_doubled_and_reordered() {
        check(&[ack(0, 1), ack(1, 2)], &[poll(0, 1)], &["never read", "Lost"]);
        check(&[], &[poll(0, 1), poll(2, 2)], &["came for offset 1"]);
        check(&[], &[poll(0, 1), poll(1, 2), poll(1, 2)], &["came for offset 2"]);
        check(&[], &[poll(0, 1), poll(1, 1)], &["Duplicate"]);
        check(&[], &[poll(0, 2), poll(1, 1)], &["Reordered"]);
        check(&[ack(0, 2)], &[poll(0, 1), poll(1, 2)], &["Moved"]);
    }

    #[test]
    fn finds_two_records_at_one_offset_and_a_watermark_that_went_back() {
        let (one, other) = (diary("one", &[poll(0, 1)]), diary("other", &[poll(0, 2)]));
        let wrong = judge(&[], &[&one, &other], &[], Watermarks::NeverGoBack);
        assert!(wrong.iter().any(|w| w.contains("which was 1 before")), "{wrong:?}");
        let wrong = judge(&[], &[&one], &[&other], Watermarks::NeverGoBack);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let marks =
            [Line::Mark { partition: 0, offset: 5 }, Line::Mark { partition: 0, offset: 4 }];
        check(&[], &marks, &["went from 5 to 4"]);
        check(&[Line::Failed("no".to_owned())], &[], &["failed for good"]);
    }

    #[test]
    fn finds_what_a_group_skipped() {
        let (producer, reader) =
            (diary("producer", &[ack(0, 1), ack(1, 2)]), diary("r", &[poll(0, 1), poll(1, 2)]));
        let (one, other) = (diary("one", &[poll(1, 2), poll(1, 2)]), diary("other", &[poll(0, 1)]));
        let judge =
            |group: &[&Diary]| judge(&[&producer], &[&reader], group, Watermarks::NeverGoBack);
        assert_eq!(judge(&[&one, &other]), Vec::<String>::new());
        assert_eq!(judge(&[&one]).len(), 1);
    }

    #[test]
    fn reads_the_lines_of_both_kinds_of_clients() {
        let java = r#"{"timestamp":1,"name":"producer_send_success","key":null,"value":"2.17","topic":"t","partition":3,"offset":9}"#;
        let acked = Acked { partition: 3, offset: 9, value: 2 * VALUES_EACH + 17 };
        assert_eq!(parse(java), Some(Line::Ack(acked)));
        let python = r#"{"type": "poll", "value": 7, "partition": 0, "offset": 1}"#;
        assert_eq!(parse(python), Some(Line::Poll(Found { partition: 0, offset: 1, value: 7 })));
        assert_eq!(parse("a line of a log"), None);
    }
}
