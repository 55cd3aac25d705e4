//! Events that end a wait, and events that do not.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;

use super::Findings;
use super::request_builders::{fetch, in_session};
use super::side_by_side::{Side, SideBySide, TopicRef};
use super::topic_contents::{batch, fill};

const WAIT_MS: i32 = 1_500;
/// Long enough that a slow machine does not confuse the two.
const LONG_MS: i32 = 6_000;

/// Expected end of a wait.
enum End {
    /// At once.
    Now,
    /// After the maximum wait.
    Time,
}

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("waits", 5, &[]);
    fill(&mut sides);
    for version in [4, 12, 15] {
        alone(findings, &mut sides, version);
    }
    news(findings, &mut sides);
    sessions(findings, &mut sides);
}

/// Compares the responses and their times; the maximum wait is `LONG_MS` for responses that come at
/// once.
fn query(
    findings: &mut Findings,
    sides: &mut SideBySide,
    label: &str,
    version: i16,
    end: &End,
    build: &dyn Fn(&Side) -> FetchRequest,
) {
    let wait = if matches!(end, End::Now) { LONG_MS } else { WAIT_MS };
    for side in sides.each() {
        let request = build(side).with_max_wait_ms(wait);
        side.send(&request, version, None);
    }
    let started = Instant::now();
    // The response that is read second may have arrived long before.
    let theirs = sides.theirs.receive::<FetchRequest>(version);
    let their_time = started.elapsed();
    let ours = sides.ours.receive::<FetchRequest>(version);
    let our_time = started.elapsed();
    let waited = |time: Duration| match time.as_millis() as i32 + 100 >= wait {
        true => "waited",
        false => "at once",
    };
    let (ours, theirs) =
        (format!("{} {ours}", waited(our_time)), format!("{} {theirs}", waited(their_time)));
    findings.compare(sides.name, &format!("{label} v{version}"), &ours, &theirs);
    let expected = if matches!(end, End::Now) { "at once" } else { "waited" };
    assert!(theirs.starts_with(expected), "{label}: not what a broker does: {theirs}");
}

fn alone(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut at = |label: &str, end: End, parts: &[(TopicRef, i32, i64)], min: i32, max: i32| {
        let build =
            |side: &Side| fetch(side, version, parts).with_min_bytes(min).with_max_bytes(max);
        query(findings, sides, label, version, &end, &build);
    };
    let empty = (TopicRef::Main, 1, 0);
    let max = 50 << 20;
    at("an empty one", End::Time, &[empty], 1, max);
    at("an empty one, at least 0", End::Now, &[empty], 0, max);
    at("an empty one, at least -1", End::Now, &[empty], -1, max);
    at("an empty one, at most 0", End::Now, &[empty], 1, 0);
    at("the end of all", End::Time, &[(TopicRef::Main, 0, 30), (TopicRef::Main, 2, 16)], 1, max);
    at("an unknown one", End::Now, &[(TopicRef::Main, 77, 0)], 1, max);
    at("an unknown one beside an empty one", End::Time, &[empty, (TopicRef::Main, 77, 0)], 1, max);
    at(
        "an unknown topic beside an empty one",
        End::Time,
        &[(TopicRef::Unknown, 0, 0), empty],
        1,
        max,
    );
    at("out of range beside an empty one", End::Now, &[empty, (TopicRef::Main, 0, 99)], 1, max);
    at("below the start beside an empty one", End::Now, &[empty, (TopicRef::Main, 2, 0)], 1, max);
    at("no partitions", End::Now, &[], 1, max);
    at("some", End::Now, &[empty, (TopicRef::Main, 0, 0)], 1, max);
    at("some, too few", End::Time, &[empty, (TopicRef::Main, 3, 0)], 1 << 20, max);
    at("some, as many as allowed", End::Now, &[empty, (TopicRef::Main, 3, 0)], 1 << 20, 1000);
    at("some, as many as allowed, all", End::Now, &[(TopicRef::Main, 0, 0)], 1 << 20, 1);
}

/// Appends during the wait.
fn news(findings: &mut Findings, sides: &mut SideBySide) {
    let small = batch(0, 1, 1);
    let size = i32::try_from(small.len()).expect("small");
    for (label, min_bytes, batches) in
        [("one", 1, 1), ("two of two", 2 * size, 2), ("three of a few", 2 * size + 1, 3)]
    {
        let mut offsets = [0, 0];
        for (side, offset) in sides.each().into_iter().zip(&mut offsets) {
            *offset = crate::raw::requests::offset_of(
                &mut side.client,
                side.topics[0].partition(1),
                crate::raw::requests::LATEST,
            )
            .offset;
            let request = fetch(side, 12, &[(TopicRef::Main, 1, *offset), (TopicRef::Main, 77, 0)]);
            let request = request.with_max_wait_ms(LONG_MS).with_min_bytes(min_bytes);
            side.send(&request, 12, None);
            assert!(side.client.is_silent_for(Duration::from_millis(200)), "{label}");
        }
        let started = Instant::now();
        for n in 1..=batches {
            for side in sides.each() {
                let mut writer = crate::raw::client::Client::connect(side.address());
                let at = side.topics[0].partition(1);
                crate::raw::requests::append(&mut writer, at, small.clone());
                if n < batches {
                    assert!(side.client.is_silent_for(Duration::from_millis(100)), "{label} {n}");
                }
            }
        }
        let ours = sides.ours.receive::<FetchRequest>(12);
        let theirs = sides.theirs.receive::<FetchRequest>(12);
        findings.compare(sides.name, &format!("new data: {label}"), &ours, &theirs);
        assert!(started.elapsed() < Duration::from_secs(5), "{label}: {:?}", started.elapsed());
    }
}

/// Waits in a session: an empty response takes its time too.
fn sessions(findings: &mut Findings, sides: &mut SideBySide) {
    let parts = [(TopicRef::Main, 4, 2), (TopicRef::Second, 1, 0)];
    query(findings, sides, "a session begins", 12, &End::Time, &|side| {
        fetch(side, 12, &parts).with_session_epoch(0)
    });
    query(findings, sides, "a session goes on", 12, &End::Time, &|side| {
        in_session(side, 12, 1, &[])
    });
    query(findings, sides, "a session has an unknown one", 12, &End::Time, &|side| {
        in_session(side, 12, 2, &[(TopicRef::Main, 77, 0)])
    });
    query(findings, sides, "a session is out of range", 12, &End::Now, &|side| {
        in_session(side, 12, 3, &[(TopicRef::Main, 4, 9)])
    });
    query(findings, sides, "a session is wrong", 12, &End::Now, &|side| {
        in_session(side, 12, 9, &[])
    });
    query(findings, sides, "a session closes", 12, &End::Now, &|side| {
        in_session(side, 12, -1, &[])
    });
}
