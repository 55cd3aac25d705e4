//! Hand-written cases of the basic guarantees.

use super::*;
use crate::coordinator::CoordinatorExt as _;
use crate::coordinator::{
    BindRule, CLOCK_TOLERANCE_MS, CommitOutcome, CoordinatorError, PartOutcome, Refusal,
    Registration, TopicBinding, TopicType, Watermarks,
};
use crate::log::ids::ProcessIdentity;

/// Runs every case against a coordinator without metadata.
///
/// # Panics
/// When a result is wrong.
pub async fn check_cases(harness: &mut dyn Harness) {
    attachment(harness).await;
    registry(harness).await;
    repeated_commit(harness).await;
    idempotence(harness).await;
    expiry(harness).await;
    clocks_of_replicas(harness).await;
    fence(harness).await;
    adjacent_parts(harness).await;
    runs_and_trims(harness).await;
    rising_times(harness).await;
    time_index(harness).await;
    deleted_topic(harness).await;
    subscribers(harness).await;
    members::check(harness).await;
}

async fn commit(
    harness: &mut dyn Harness,
    sealed_ms: i64,
    parts: Vec<(TopicPartition, Vec<BatchMetadata>)>,
) -> (Commit, Vec<PartOutcome>) {
    let commit = commit_of(harness.next_object(), sealed_ms, parts);
    if let Some(clock) = harness.clock() {
        clock.set(sealed_ms);
    }
    harness.put(&commit).await;
    let outcomes = harness.subject().commit_all(&commit).await.expect("a commit");
    (commit, outcomes)
}

/// Commits one batch to a partition and returns its outcome.
async fn commit_one(
    harness: &mut dyn Harness,
    sealed_ms: i64,
    to: TopicPartition,
    batch: BatchMetadata,
) -> CommitOutcome {
    let (_, outcomes) = commit(harness, sealed_ms, vec![(to, vec![batch])]).await;
    outcomes[0].batches[0]
}

fn at(base_offset: i64) -> CommitOutcome {
    CommitOutcome::Committed { base_offset }
}

async fn attachment(harness: &dyn Harness) {
    let subject = harness.subject();
    assert_attached(&subject.attach("cluster", "zone-a").await.expect("attach"), 0, &["zone-a"]);
    let both = ["zone-a", "zone-b"];
    assert_attached(&subject.attach("cluster", "zone-b").await.expect("attach"), 1, &both);
    assert_attached(&subject.attach("cluster", "zone-a").await.expect("attach"), 0, &both);
    match subject.attach("another", "zone-c").await {
        Err(CoordinatorError::OtherCluster { bound, requested }) => {
            assert_eq!((bound.as_str(), requested.as_str()), ("cluster", "another"));
        }
        other => panic!("another cluster was accepted: {other:?}"),
    }
    let after = subject.attach("cluster", "zone-b").await.expect("attach");
    assert_attached(&after, 1, &both);
}

async fn registry(harness: &dyn Harness) {
    use BindRule::{FirstWins, Migrate};
    use TopicType::{Classic, Diskless, Migrating};
    let subject = harness.subject();
    let register = async |topic_type, rule| {
        let binding =
            TopicBinding { topic: TopicId([10; 16]), name: "naïve".to_owned(), topic_type };
        let bound = subject.register(vec![Registration { binding, rule }]).await.expect("register");
        let bound: Vec<_> = bound.into_iter().map(|b| b.expect("it is bound")).collect();
        assert_eq!((bound.len(), bound[0].name.as_str()), (1, "naïve"));
        bound[0].topic_type
    };
    assert_eq!(register(Classic, FirstWins).await, Classic);
    assert_eq!(register(Diskless, FirstWins).await, Classic);
    // A migration takes two steps, and can be undone after the first.
    assert_eq!(register(Diskless, Migrate).await, Classic);
    assert_eq!(register(Migrating, FirstWins).await, Classic);
    assert_eq!(register(Migrating, Migrate).await, Migrating);
    assert_eq!(register(Diskless, FirstWins).await, Migrating);
    assert_eq!(register(Migrating, Migrate).await, Migrating);
    assert_eq!(register(Classic, Migrate).await, Classic);
    assert_eq!(register(Migrating, Migrate).await, Migrating);
    assert_eq!(register(Diskless, Migrate).await, Diskless);
    assert_eq!(register(Classic, Migrate).await, Diskless);
    assert_eq!(register(Migrating, Migrate).await, Diskless);
    assert_eq!(register(Classic, FirstWins).await, Diskless);
    assert_eq!(subject.topics().await.expect("topics").len(), 1);
}

async fn repeated_commit(harness: &mut dyn Harness) {
    let to: Vec<_> = (0..6).map(|p| (partition(11, p), vec![plain(10, 3, 1)])).collect();
    let (commit, first) = commit(harness, EPOCH_MS, to).await;
    assert!(first.iter().all(|part| part.batches == [at(0)]));
    let again = harness.subject().commit_all(&commit).await.expect("a repeated call");
    assert_eq!(again, first);
    let found = harness.subject().find_all(vec![find_all(partition(11, 5))]).await.expect("find");
    let bounds = Watermarks { log_start_offset: 0, high_watermark: 3, bytes: 10 };
    assert_eq!((found[0].watermarks, found[0].runs.len()), (bounds, 1));
}

async fn idempotence(harness: &mut dyn Harness) {
    let to = partition(12, 0);
    let out_of_order = CommitOutcome::Refused(Refusal::OutOfOrderSequence);
    for i in 0..6_i32 {
        let outcome = commit_one(harness, EPOCH_MS, to, idempotent(5, 1, 40 + i, 1)).await;
        assert_eq!(outcome, at(i64::from(i)));
    }
    for i in 1..6_i32 {
        let again = commit_one(harness, EPOCH_MS, to, idempotent(5, 1, 40 + i, 1)).await;
        let max_timestamp = EPOCH_MS + i64::from(40 + i);
        assert_eq!(again, CommitOutcome::Duplicate { base_offset: i64::from(i), max_timestamp });
    }
    let cases = [
        (idempotent(5, 1, 40, 1), out_of_order),
        (idempotent(5, 1, 47, 1), out_of_order),
        (idempotent(5, 0, 46, 1), CommitOutcome::Refused(Refusal::InvalidProducerEpoch)),
        (idempotent(5, 2, 1, 1), out_of_order),
        (idempotent(5, 2, 0, 1), at(6)),
        (idempotent(6, 0, i32::MAX - 1, 4), at(7)),
        (idempotent(6, 0, 2, 1), at(11)),
        (idempotent(7, 0, i32::MAX, 1), at(12)),
        (idempotent(7, 0, 0, 1), at(13)),
        (idempotent(i64::MAX, i16::MAX, 7, 1), at(14)),
    ];
    for (batch, expected) in cases {
        assert_eq!(commit_one(harness, EPOCH_MS, to, batch).await, expected, "{batch:?}");
    }
    let producers = harness.subject().producers(to).await.expect("producers");
    let states: Vec<_> = producers.iter().map(|p| (p.id, p.epoch, p.last_sequence)).collect();
    assert_eq!(states, [(5, 2, 0), (6, 0, 2), (7, 0, 0), (i64::MAX, i16::MAX, 7)]);
}

async fn expiry(harness: &mut dyn Harness) {
    const DAY_MS: i64 = 86_400_000;
    let to = partition(13, 0);
    assert_eq!(commit_one(harness, EPOCH_MS, to, idempotent(5, 0, 0, 1)).await, at(0));
    let early = commit_one(harness, EPOCH_MS + DAY_MS - 1, to, idempotent(5, 0, 9, 1)).await;
    assert_eq!(early, CommitOutcome::Refused(Refusal::OutOfOrderSequence));
    assert_eq!(commit_one(harness, EPOCH_MS + DAY_MS, to, plain(1, 1, 0)).await, at(1));
    assert_eq!(harness.subject().producers(to).await.expect("producers"), []);
    // An earlier seal time: the partition's clock does not go back.
    assert_eq!(commit_one(harness, EPOCH_MS, to, idempotent(5, 0, 9, 1)).await, at(2));
}

/// Neither a replica's clock that is ahead nor one that is behind ends the idempotence of producers.
async fn clocks_of_replicas(harness: &mut dyn Harness) {
    const DAY_MS: i64 = 86_400_000;
    let Some(clock) = harness.clock() else { return };
    let (to, new) = (partition(21, 0), partition(21, 1));
    let commit = |harness: &mut dyn Harness, sealed_ms, parts| {
        let commit = commit_of(harness.next_object(), sealed_ms, parts);
        let subject = harness.subject();
        async move { subject.commit_all(&commit).await.expect("a commit") }
    };
    clock.set(EPOCH_MS);
    let first = commit(harness, EPOCH_MS, vec![(to, vec![idempotent(5, 0, 0, 3)])]).await;
    assert_eq!((first[0].batches[0], first[0].sealed_ms), (at(0), EPOCH_MS));
    let ahead = commit(harness, EPOCH_MS + DAY_MS + 1, vec![(to, vec![plain(1, 1, 0)])]).await;
    assert_eq!(ahead[0].sealed_ms, EPOCH_MS + CLOCK_TOLERANCE_MS);
    let behind = EPOCH_MS - DAY_MS - 1;
    let late = commit(harness, behind, vec![(new, vec![idempotent(6, 0, 0, 3)])]).await;
    assert_eq!(late[0].sealed_ms, EPOCH_MS - CLOCK_TOLERANCE_MS);
    let parts = vec![(to, vec![idempotent(5, 0, 0, 3)]), (new, vec![idempotent(6, 0, 0, 3)])];
    let again = commit(harness, EPOCH_MS, parts).await;
    let repeated = CommitOutcome::Duplicate { base_offset: 0, max_timestamp: EPOCH_MS };
    assert!(again.iter().all(|part| part.batches == [repeated]), "{again:?}");
    // Producers of a partition that is no longer written expire too.
    clock.set(EPOCH_MS + DAY_MS + 2 * CLOCK_TOLERANCE_MS);
    assert_eq!(harness.subject().producers(to).await.expect("producers"), []);
}

/// Outcomes are stored until the fence passes them; nothing is committed below it.
async fn fence(harness: &mut dyn Harness) {
    let to = partition(22, 0);
    let one = || vec![(to, vec![plain(1, 1, 0)])];
    let (first, outcomes) = commit(harness, EPOCH_MS, one()).await;
    // A long time later, as nothing but the fence ends it.
    if let Some(clock) = harness.clock() {
        clock.set(EPOCH_MS + (1 << 40));
    }
    let subject = harness.subject();
    assert_eq!(subject.commit_all(&first).await.expect("a repeated call"), outcomes);
    let object = harness.next_object();
    let second = Commit { lowest_undecided: object.sequence, ..commit_of(object, EPOCH_MS, one()) };
    harness.put(&second).await;
    let decided = subject.commit_all(&second).await.expect("a commit");
    assert_eq!(decided[0].batches, [at(1)]);
    let fenced = |result: Result<Vec<PartOutcome>, CoordinatorError>| {
        assert!(matches!(result, Err(CoordinatorError::Fenced(_))), "{result:?}");
    };
    fenced(subject.commit_all(&first).await);
    let lower = Commit { lowest_undecided: 0, ..second.clone() };
    assert_eq!(subject.commit_all(&lower).await.expect("it is stored"), decided);
    // Another process has taken over.
    let process = ProcessIdentity { incarnation: 5, process_id: 6 };
    let late = |sequence| {
        let ProcessIdentity { incarnation, process_id } = process;
        commit_of(ObjectId { incarnation, process_id, sequence }, EPOCH_MS, one())
    };
    subject.raise_fence(process, 7).await.expect("raise_fence");
    subject.raise_fence(process, 3).await.expect("a lower fence changes nothing");
    fenced(subject.commit_all(&late(6)).await);
    subject.raise_fence(process, u32::MAX).await.expect("raise_fence");
    fenced(subject.commit_all(&late(7)).await);
    fenced(subject.commit_all(&late(u32::MAX)).await);
    let found = subject.find_all(vec![find_all(to)]).await.expect("find");
    assert_eq!(found[0].watermarks.high_watermark, 2);
}

/// Adjacent parts of one partition, written by several connections, are one run.
async fn adjacent_parts(harness: &mut dyn Harness) {
    let (to, other) = (partition(23, 0), partition(23, 1));
    let part = |partition, bytes| (partition, vec![plain(bytes, 2, 1)]);
    let parts = vec![part(to, 10), part(to, 20), part(other, 5), part(to, 40)];
    let mut events = harness.subject().subscribe().await.expect("subscribe");
    let (_, outcomes) = commit(harness, EPOCH_MS, parts).await;
    let offsets: Vec<_> = outcomes.iter().map(|part| part.batches[0]).collect();
    assert_eq!(offsets, [at(0), at(2), at(0), at(4)]);
    let found = harness.subject().find_all(vec![find_all(to)]).await.expect("find").remove(0);
    let runs: Vec<_> = found.runs.iter().map(|r| (r.base_offset, r.start, r.bytes)).collect();
    assert_eq!(runs, [(0, 8, 30), (4, 43, 40)]);
    let events = next_events(&mut events, 2).await;
    assert_eq!(events[0], CoordinatorEvent::Committed { partition: to, runs: found.runs });
}

async fn runs_and_trims(harness: &mut dyn Harness) {
    let to = partition(14, 0);
    let batches = vec![plain(10, 2, 7), plain(20, 3, i64::MAX), idempotent(8, 0, 3, 1)];
    commit(harness, EPOCH_MS, vec![(to, batches)]).await;
    let batches = vec![plain(30, 1, 2), idempotent(8, 0, 3, 1), plain(40, 1, -1)];
    let (_, outcomes) = commit(harness, EPOCH_MS, vec![(to, batches)]).await;
    let max_timestamp = EPOCH_MS + 3;
    let again = CommitOutcome::Duplicate { base_offset: 5, max_timestamp };
    assert_eq!(outcomes[0].batches, [at(6), again, at(7)]);
    let subject = harness.subject();
    let find = async |from| {
        let request = FindRequest { from, ..find_all(to) };
        let found = subject.find_all(vec![request]).await.expect("find").remove(0);
        let ends: Vec<_> = found.runs.iter().map(|r| (r.base_offset, r.start, r.bytes)).collect();
        (found.watermarks, ends)
    };
    let (bounds, runs) = find(FindFrom::Offset(0)).await;
    assert_eq!((bounds.high_watermark, bounds.bytes), (8, 200));
    assert_eq!(runs, [(0, 8, 130), (6, 8, 30), (7, 138, 40)]);
    assert_eq!(find(FindFrom::MaxTimestamp).await.1[0].0, 0);
    let bounds = subject.trim_all(vec![(to, 6), (partition(14, 9), 3)]).await.expect("trim");
    assert_eq!((bounds[0].log_start_offset, bounds[0].bytes), (6, 70));
    assert_eq!(bounds[1], Watermarks::default());
    assert_eq!(find(FindFrom::MaxTimestamp).await.1[0].0, 6);
    assert_eq!(find(FindFrom::Timestamp(3)).await.1, []);
    assert_eq!(find(FindFrom::Offset(i64::MIN)).await.1.len(), 2);
    assert_eq!(find(FindFrom::Offset(i64::MAX)).await.1, []);
    let bounds = subject.trim_all(vec![(to, i64::MAX), (to, 2)]).await.expect("trim");
    assert!(bounds.iter().all(|b| (b.log_start_offset, b.high_watermark, b.bytes) == (8, 8, 0)));
    assert_eq!(commit_one(harness, EPOCH_MS, to, idempotent(8, 0, 4, 1)).await, at(8));
}

/// Finds every run by its own timestamp, also next to a boundary of an index.
async fn rising_times(harness: &mut dyn Harness) {
    let to = partition(18, 0);
    for i in 0..600_i64 {
        commit(harness, EPOCH_MS, vec![(to, vec![plain(1, 1, i * 10)])]).await;
    }
    let requests = (0..600_i64).map(|i| FindRequest {
        from: FindFrom::Timestamp(i * 10 - 5),
        runs_max: 1,
        ..find_all(to)
    });
    let found = harness.subject().find_all(requests.collect()).await.expect("find");
    let bases: Vec<_> = found.iter().map(|f| f.runs[0].base_offset).collect();
    assert_eq!(bases, (0..600).collect::<Vec<_>>());
}

/// Finds runs among more than one block of any index, with a timestamp out of order.
async fn time_index(harness: &mut dyn Harness) {
    let to = partition(15, 0);
    for i in 0..550_i64 {
        let timestamp = if i == 20 { 50_000 } else { i * 10 };
        commit(harness, EPOCH_MS, vec![(to, vec![plain(1, 1, timestamp)])]).await;
    }
    let subject = harness.subject();
    let first = async |from| {
        let request = FindRequest { runs_max: 1, from, ..find_all(to) };
        let found = subject.find_all(vec![request]).await.expect("find").remove(0);
        found.runs.first().map(|r| r.base_offset)
    };
    assert_eq!(first(FindFrom::Timestamp(150)).await, Some(15));
    assert_eq!(first(FindFrom::Timestamp(5_490)).await, Some(20));
    assert_eq!(first(FindFrom::MaxTimestamp).await, Some(20));
    subject.trim_all(vec![(to, 21)]).await.expect("trim");
    assert_eq!(first(FindFrom::Timestamp(150)).await, Some(21));
    assert_eq!(first(FindFrom::Timestamp(2_551)).await, Some(256));
    assert_eq!(first(FindFrom::Timestamp(5_401)).await, Some(541));
    assert_eq!(first(FindFrom::MaxTimestamp).await, Some(549));
    assert_eq!(first(FindFrom::Timestamp(5_491)).await, None);
    subject.trim_all(vec![(to, 300)]).await.expect("trim");
    assert_eq!(first(FindFrom::Timestamp(0)).await, Some(300));
    assert_eq!(first(FindFrom::MaxTimestamp).await, Some(549));
    subject.trim_all(vec![(to, 550)]).await.expect("trim");
    assert_eq!(first(FindFrom::MaxTimestamp).await, None);
    assert_eq!(commit_one(harness, EPOCH_MS, to, plain(1, 1, 7)).await, at(550));
    assert_eq!(first(FindFrom::MaxTimestamp).await, Some(550));
}

async fn deleted_topic(harness: &mut dyn Harness) {
    let topic = TopicId([16; 16]);
    let binding = TopicBinding { topic, name: "gone".to_owned(), topic_type: TopicType::Diskless };
    let registration = Registration { binding, rule: BindRule::FirstWins };
    let subject = harness.subject();
    subject.register(vec![registration.clone()]).await.expect("register");
    let parts = || (0..40).map(|p| (partition(16, p), vec![idempotent(1, 0, 5, 2)])).collect();
    let (before, outcomes) = commit(harness, EPOCH_MS, parts()).await;
    subject.delete_topic(topic).await.expect("delete_topic");
    subject.delete_topic(topic).await.expect("a repeated call");
    assert!(subject.topics().await.expect("topics").iter().all(|b| b.topic != topic));
    let (_, late) = commit(harness, EPOCH_MS, parts()).await;
    let deleted = CommitOutcome::Refused(Refusal::TopicDeleted);
    assert!(late.iter().all(|part| part.batches == [deleted] && part.log_start_offset == 0));
    assert_eq!(subject.commit_all(&before).await.expect("a repeated call"), outcomes);
    let found = subject.find_all(vec![find_all(partition(16, 7))]).await.expect("find");
    assert_eq!((found[0].watermarks, found[0].runs.len()), (Watermarks::default(), 0));
    assert_eq!(subject.producers(partition(16, 7)).await.expect("producers"), []);
    // A deleted id stays deleted under every rule, and other ids are bound in the same call.
    let other = TopicBinding { topic: TopicId([20; 16]), ..registration.binding.clone() };
    let registrations = [
        registration.clone(),
        Registration { binding: other.clone(), rule: BindRule::FirstWins },
        Registration { rule: BindRule::Migrate, ..registration },
    ];
    let bound = subject.register(registrations.to_vec()).await.expect("register");
    assert_eq!(bound, [None, Some(other), None]);
    assert!(subject.topics().await.expect("topics").iter().all(|b| b.topic != topic));
    let (_, late) = commit(harness, EPOCH_MS, parts()).await;
    assert!(late.iter().all(|part| part.batches == [deleted]));
    subject.delete_topic(TopicId([20; 16])).await.expect("delete_topic");
}

async fn subscribers(harness: &mut dyn Harness) {
    let subject = harness.subject();
    let (mut a, mut b) = (
        subject.subscribe().await.expect("subscribe"),
        subject.subscribe().await.expect("subscribe"),
    );
    let to =
        vec![(partition(17, 0), vec![plain(5, 1, 0)]), (partition(17, 1), vec![plain(6, 1, 0)])];
    let (commit, _) = commit(harness, EPOCH_MS, to).await;
    subject.commit_all(&commit).await.expect("a repeated commit");
    subject.trim_all(vec![(partition(17, 1), 1)]).await.expect("trim");
    let events = next_events(&mut a, 3).await;
    assert_eq!(events, next_events(&mut b, 3).await);
    assert!(
        matches!(&events[0], CoordinatorEvent::Committed { partition, .. } if partition.partition == 0)
    );
    assert!(matches!(&events[1], CoordinatorEvent::Committed { runs, .. } if runs[0].bytes == 6));
    assert!(matches!(&events[2], CoordinatorEvent::Trimmed { log_start_offset: 1, .. }));
    assert_no_event(&mut a);
}
