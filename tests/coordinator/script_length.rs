//! Large calls are divided, so that others come between: the number of calls is asserted, and the
//! longest script is printed, because it depends on the load of the machine.

use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::{
    Commit, Coordinator as _, CoordinatorExt as _, FindFrom, FindRequest, PartOutcome,
};
use odradek::log::batch::{BatchMetadata, Part, ProducerSequence};
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};
use testbed::print_line;

use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

/// Starts one server and one shard; scripts are logged from 1 ms on.
async fn start() -> Option<(RedisServer, std::sync::Arc<RedisCoordinator>)> {
    let server = RedisServer::start()?;
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.expect("a reply");
    server.query::<String>(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]);
    server.query::<String>(&["CONFIG", "SET", "slowlog-max-len", "10000"]);
    server.query::<String>(&["SLOWLOG", "RESET"]);
    Some((server, coordinator))
}

fn calls(server: &RedisServer) -> u64 {
    let info: String = server.query(&["INFO", "commandstats"]);
    let of = |command: &str| {
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    of("evalsha") + of("eval")
}

fn print_longest(server: &RedisServer, what: &str) {
    let log: Vec<(i64, i64, i64, redis::Value, String, String)> =
        server.query(&["SLOWLOG", "GET", "-1"]);
    let mut micros: Vec<_> = log.iter().map(|row| row.2).collect();
    micros.sort_unstable();
    print_line(&format!(
        "{what}: {} scripts above 1 ms, median {:?}, longest {:?} µs",
        micros.len(),
        micros.get(micros.len() / 2),
        micros.last()
    ));
    server.query::<String>(&["SLOWLOG", "RESET"]);
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition: partition.cast_signed() }
}

fn object(sequence: u32, parts: impl Iterator<Item = (u32, Vec<BatchMetadata>)>) -> Commit {
    let mut start = 8;
    let parts = (0..).zip(parts).map(|(index, (to, batches))| {
        let part = Part { index, partition: partition(to), start, batches };
        // Not adjacent.
        start += 10 + part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
        part
    });
    let object = ObjectId { incarnation: 1, process_id: 1, sequence };
    Commit { object, sealed_ms: 1_000, lowest_undecided: sequence, parts: parts.collect() }
}

fn batch(max_timestamp: i64, producer: Option<i64>) -> BatchMetadata {
    let sequence = |id| ProducerSequence { id, epoch: 0, base_sequence: 0 };
    BatchMetadata { bytes: 10, offset_count: 1, max_timestamp, producer: producer.map(sequence) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_by_time_are_divided() {
    const RUNS: i64 = 200_000;
    let Some((server, coordinator)) = start().await else { return };
    for sequence in 0..200 {
        let first = i64::from(sequence) * 1_000;
        let parts = (first..first + 1_000).map(|time| (0, vec![batch(time, None)]));
        coordinator.commit_all(&object(sequence, parts)).await.unwrap();
    }
    print_longest(&server, "commits of 1,000 parts");
    let find = |from| FindRequest { partition: partition(0), from, bytes_max: 1, runs_max: 1 };
    let times = [0, 1, 255, 256, 257, 100_000, RUNS - 300, RUNS - 1];
    let trims = [0, 1, 1_000, 100_100];
    for start in trims {
        coordinator.trim_all(vec![(partition(0), start)]).await.unwrap();
        let mut requests: Vec<_> = (0..25).map(|_| find(FindFrom::MaxTimestamp)).collect();
        requests.extend(times.map(|time| find(FindFrom::Timestamp(time))));
        requests.push(find(FindFrom::Timestamp(RUNS)));
        let before = calls(&server);
        let found = coordinator.find_all(requests).await.unwrap();
        if start == 0 {
            // 25 times 782 blocks.
            assert!(calls(&server) - before >= 5, "{} calls", calls(&server) - before);
        }
        let offsets: Vec<_> = found.iter().map(|found| found.runs.first()).collect();
        let offsets: Vec<_> = offsets.iter().map(|run| run.map(|run| run.base_offset)).collect();
        assert_eq!(offsets[..25], [Some(RUNS - 1); 25], "from {start}");
        let expected = times.map(|time| Some(time.max(start)));
        assert_eq!(offsets[25..33], expected, "from {start}");
        assert_eq!(offsets[33], None);
    }
    print_longest(&server, "finds by time");
    // All offsets at or above the time have a lower one: the whole index is read.
    let last = coordinator.trim_all(vec![(partition(0), RUNS)]).await.unwrap();
    assert_eq!(last[0].bytes, 0);
    let found = coordinator.find_all(vec![find(FindFrom::MaxTimestamp)]).await.unwrap();
    assert_eq!(found[0].runs, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_divided_by_their_batches() {
    let Some((server, coordinator)) = start().await else { return };
    for with_producers in [false, true] {
        let parts = (0..250_u32).map(|to| {
            let id = |n: i64| with_producers.then_some(i64::from(to) * 1_000 + n);
            (to, (0..80).map(|n| batch(1, id(n))).collect())
        });
        let commit = object(u32::from(with_producers), parts);
        let before = calls(&server);
        let outcomes = coordinator.commit_all(&commit).await.unwrap();
        assert!(calls(&server) - before >= 20, "{} calls", calls(&server) - before);
        assert_eq!(outcomes.len(), 250);
        assert!(outcomes.iter().all(|outcome| outcome.batches.len() == 80));
        print_longest(&server, "commits of 20,000 batches");
    }
    // One connection has one producer.
    for count in [1_000, 5_000] {
        let producer = |base_sequence| {
            let id = i64::from(count);
            Some(ProducerSequence { id, epoch: 0, base_sequence })
        };
        let batches = (0..count).map(|n| BatchMetadata { producer: producer(n), ..batch(1, None) });
        let one = object(count.cast_unsigned(), std::iter::once((0, batches.collect())));
        coordinator.commit_all(&one).await.unwrap();
        print_longest(&server, &format!("a commit of one part of {count} batches"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_outcomes_of_a_large_object_are_divided() {
    const PARTS: u32 = 20_000;
    let Some((server, coordinator)) = start().await else { return };
    let parts = || (0..PARTS).map(|index| (index % 500, vec![batch(1, None)]));
    let commit = Commit { lowest_undecided: 0, ..object(1, parts()) };
    let outcomes = coordinator.commit_all(&commit).await.unwrap();
    print_longest(&server, "commits of 20,000 parts");
    let key = "odradek:{c:0}:o:0000000000000001-00000001";
    let values: Vec<Vec<u8>> = server.query(&["HVALS", key]);
    let longest = values.iter().map(Vec::len).max();
    assert!(longest < Some(16_384), "an outcome of {longest:?} bytes");
    // Repeated in other calls than before: some of the parts, and all.
    let some = Commit {
        parts: commit.parts.iter().filter(|part| part.index % 3 == 1).cloned().collect(),
        ..commit.clone()
    };
    let is_some = |outcome: &&PartOutcome| outcome.index % 3 == 1;
    let expected: Vec<_> = outcomes.iter().filter(is_some).cloned().collect();
    assert_eq!(coordinator.commit_all(&some).await.unwrap(), expected);
    assert_eq!(coordinator.commit_all(&commit).await.unwrap(), outcomes);
    print_longest(&server, "repeated commits of 20,000 parts");
    // Objects with parts in one group of this shard only, and then none but the last one.
    let sparse = |sequence, index| {
        let mut commit = Commit { lowest_undecided: 0, ..object(sequence, parts().take(1)) };
        commit.parts[0].index = index;
        commit
    };
    for (sequence, index) in [(2, 0), (3, 256), (4, 5_000)] {
        let first = coordinator.commit_all(&sparse(sequence, index)).await.unwrap();
        assert_eq!(coordinator.commit_all(&sparse(sequence, index)).await.unwrap(), first);
    }
    for sequence in 5..8 {
        let last = object(sequence, parts().take(1));
        coordinator.commit_all(&last).await.unwrap();
    }
    assert_eq!(server.query::<i64>(&["HLEN", key]), 1, "outcomes below the fence are stored");
    print_longest(&server, "the removal of the outcomes");
}
