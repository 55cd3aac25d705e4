//! The logs of clients, and whether they are consistent with what Kafka guarantees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use testbed::history_checker::{Acked, Anomaly, Found, anomalies};

/// The values of a producer start at its number times this.
pub(crate) const VALUES_EACH: u64 = 1_000_000_000;

/// A line of a client's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Ack(Acked),
    Poll(Found),
    /// The high watermark of a partition, as a consumer sees it.
    Mark {
        partition: i32,
        offset: i64,
    },
    Failed(String),
}

/// The log of one client.
#[derive(Debug)]
pub(crate) struct ClientLog {
    pub(crate) name: String,
    path: PathBuf,
    read: u64,
    rest: String,
    pub(crate) lines: Vec<Line>,
}

impl ClientLog {
    pub(crate) fn new(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), path, read: 0, rest: String::new(), lines: Vec::new() }
    }

    /// Reads the lines that were appended since the last call.
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

    /// Returns the number of acks and polls.
    pub(crate) fn progress(&self) -> usize {
        let counts = |line: &&Line| matches!(line, Line::Ack(_) | Line::Poll(_));
        self.lines.iter().filter(counts).count()
    }
}

/// Parses a line of `clients.py` or of Kafka's own verifiable producer.
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

/// True if the high watermark that a reader sees may decrease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watermarks {
    NeverGoBack,
    MayGoBack,
}

/// Returns the anomalies of one topic. Each of the `readers` reads everything from the beginning; the
/// members of a `group` read it together, some of it more than once.
pub(crate) fn check_history(
    producers: &[&ClientLog],
    readers: &[&ClientLog],
    group: &[&ClientLog],
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
    for client_log in readers.iter().chain(group) {
        for found in client_log.lines.iter().filter_map(polled) {
            let before = *log.entry((found.partition, found.offset)).or_insert(found.value);
            if before != found.value {
                wrong.push(format!("{}: {found:?}, which was {before} before", client_log.name));
            }
        }
    }
    for reader in readers {
        wrong.extend(offset_gaps(reader));
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
        wrong.extend(watermark_regressions(readers));
    }
    let found: Vec<Found> = log
        .into_iter()
        .map(|((partition, offset), value)| Found { partition, offset, value })
        .collect();
    // The order of records is checked for each producer below. Classic partitions have offsets without
    // records, so a gap counts only if a reader skipped a record.
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

/// Returns the offsets that a reader skipped or read again.
fn offset_gaps(reader: &ClientLog) -> Vec<String> {
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

fn watermark_regressions(readers: &[&ClientLog]) -> Vec<String> {
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

    fn client_log(name: &str, lines: &[Line]) -> ClientLog {
        let mut client_log = ClientLog::new(name, PathBuf::new());
        client_log.lines = lines.to_vec();
        client_log
    }

    const fn ack(offset: i64, value: u64) -> Line {
        Line::Ack(Acked { partition: 0, offset, value })
    }

    const fn poll(offset: i64, value: u64) -> Line {
        Line::Poll(Found { partition: 0, offset, value })
    }

    #[track_caller]
    fn check(acks: &[Line], polls: &[Line], wanted: &[&str]) {
        let (producer, reader) = (client_log("producer", acks), client_log("reader", polls));
        let wrong = check_history(&[&producer], &[&reader], &[], Watermarks::NeverGoBack);
        assert_eq!(wrong.len(), wanted.len(), "{wrong:?}");
        wanted.iter().for_each(|w| assert!(wrong.iter().any(|x| x.contains(w)), "{w}: {wrong:?}"));
    }

    #[test]
    fn consistent_history_has_no_anomalies() {
        check(&[ack(0, 1), ack(1, 2)], &[poll(0, 1), poll(1, 2), poll(2, 3)], &[]);
    }

    #[test]
    fn lost_skipped_duplicate_and_reordered_records_are_found() {
        check(&[ack(0, 1), ack(1, 2)], &[poll(0, 1)], &["never read", "Lost"]);
        check(&[], &[poll(0, 1), poll(2, 2)], &["came for offset 1"]);
        check(&[], &[poll(0, 1), poll(1, 2), poll(1, 2)], &["came for offset 2"]);
        check(&[], &[poll(0, 1), poll(1, 1)], &["Duplicate"]);
        check(&[], &[poll(0, 2), poll(1, 1)], &["Reordered"]);
        check(&[ack(0, 2)], &[poll(0, 1), poll(1, 2)], &["Moved"]);
    }

    #[test]
    fn shared_offsets_and_watermark_regressions_are_found() {
        let (one, other) = (client_log("one", &[poll(0, 1)]), client_log("other", &[poll(0, 2)]));
        let wrong = check_history(&[], &[&one, &other], &[], Watermarks::NeverGoBack);
        assert!(wrong.iter().any(|w| w.contains("which was 1 before")), "{wrong:?}");
        let wrong = check_history(&[], &[&one], &[&other], Watermarks::NeverGoBack);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let marks =
            [Line::Mark { partition: 0, offset: 5 }, Line::Mark { partition: 0, offset: 4 }];
        check(&[], &marks, &["went from 5 to 4"]);
        check(&[Line::Failed("no".to_owned())], &[], &["failed for good"]);
    }

    #[test]
    fn records_skipped_by_a_group_are_found() {
        let (producer, reader) = (
            client_log("producer", &[ack(0, 1), ack(1, 2)]),
            client_log("r", &[poll(0, 1), poll(1, 2)]),
        );
        let (one, other) =
            (client_log("one", &[poll(1, 2), poll(1, 2)]), client_log("other", &[poll(0, 1)]));
        let check_history = |group: &[&ClientLog]| {
            check_history(&[&producer], &[&reader], group, Watermarks::NeverGoBack)
        };
        assert_eq!(check_history(&[&one, &other]), Vec::<String>::new());
        assert_eq!(check_history(&[&one]).len(), 1);
    }

    #[test]
    fn lines_of_java_and_python_clients_are_parsed() {
        let java = r#"{"timestamp":1,"name":"producer_send_success","key":null,"value":"2.17","topic":"t","partition":3,"offset":9}"#;
        let acked = Acked { partition: 3, offset: 9, value: 2 * VALUES_EACH + 17 };
        assert_eq!(parse(java), Some(Line::Ack(acked)));
        let python = r#"{"type": "poll", "value": 7, "partition": 0, "offset": 1}"#;
        assert_eq!(parse(python), Some(Line::Poll(Found { partition: 0, offset: 1, value: 7 })));
        assert_eq!(parse("a line of a log"), None);
    }
}
