//! Random command sequences, run step by step on the model and on the coordinator under test.

use crate::coordinator::CoordinatorExt as _;
use std::collections::BTreeMap;

use super::*;
use crate::clock::ManualClock;
use crate::coordinator::{
    BindRule, CoordinatorError, PartOutcome, Registration, TopicBinding, TopicType,
};
use crate::entropy::Entropy;
use crate::log::batch::add_sequence;

/// The number of topics in use at once. Deleted ones are replaced, because they stay deleted.
const TOPICS: u64 = 3;
const PARTITIONS: u64 = 3;
/// The number of recent commits that are repeated; older ones may be below the fence.
const REPEATED_COMMITS: usize = 8;

/// Runs `steps` random commands, reproducible by `seed`, against a coordinator without metadata.
///
/// # Panics
/// When a result or an event differs from the model's.
pub async fn check_random(harness: &mut dyn Harness, seed: u64, steps: usize) {
    harness.subject().attach("cluster", "zone-a").await.expect("attach");
    let model = model(harness).await;
    let mut workload = Workload::new(seed);
    let mut expected = model.subscribe().await.expect("the model never fails");
    let mut received = harness.subject().subscribe().await.expect("subscribe");
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        if workload.rng.below(100) == 0 && harness.restart().await {
            workload.recent.clear();
            harness.subject().attach("cluster", "zone-a").await.expect("attach");
            received = harness.subject().subscribe().await.expect("subscribe");
            assert_equal_everywhere(&model, &*harness.subject(), &workload, &context).await;
            continue;
        }
        workload.step(&model, harness, &context).await;
        let mut events = Vec::new();
        while let Ok(event) = expected.try_recv() {
            events.push(event);
        }
        events.sort_by_key(subject_of);
        assert_eq!(next_events(&mut received, events.len()).await, events, "{context}");
        assert_no_event(&mut received);
    }
    let context = format!("seed {seed}, end");
    assert_equal_everywhere(&model, &*harness.subject(), &workload, &context).await;
}

struct Rng(Entropy);

impl Rng {
    fn below(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("a small number")]
    }
}

struct Workload {
    rng: Rng,
    /// The first topic in use; those below it were deleted.
    first_topic: u64,
    sealed_ms: i64,
    recent: Vec<Commit>,
    /// The newest epoch and the next sequence of each producer.
    producers: BTreeMap<(TopicPartition, i64), (i16, i32)>,
    /// Sent batches, to be sent again.
    sent: BTreeMap<TopicPartition, Vec<BatchMetadata>>,
}

impl Workload {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(Entropy::from_seed(seed)),
            first_topic: 1,
            sealed_ms: EPOCH_MS,
            recent: Vec::new(),
            producers: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    async fn step(&mut self, model: &dyn Coordinator, harness: &mut dyn Harness, context: &str) {
        let subject = harness.subject();
        match self.rng.below(100) {
            0..50 => {
                let commit = self.commit(harness.next_object(), harness.clock().as_deref());
                harness.put(&commit).await;
                let results = (model.commit_all(&commit).await, subject.commit_all(&commit).await);
                assert_same(results, context);
                self.recent.push(commit);
                if self.recent.len() > REPEATED_COMMITS {
                    self.recent.remove(0);
                }
            }
            50..58 => {
                if !self.recent.is_empty() {
                    let back = usize::try_from(self.rng.below(self.recent.len() as u64));
                    let commit = &self.recent[back.expect("a small number")];
                    assert_same_each(
                        model.commit(commit).await,
                        subject.commit(commit).await,
                        context,
                    );
                }
            }
            58..80 => {
                let requests: Vec<_> = (0..=self.rng.below(4)).map(|_| self.request()).collect();
                let results =
                    (model.find_all(requests.clone()).await, subject.find_all(requests).await);
                assert_same(results, context);
            }
            80..87 => {
                let starts: Vec<_> = (0..=self.rng.below(2))
                    .map(|_| (self.partition(), self.rng.below(60).cast_signed() - 2))
                    .collect();
                let results =
                    (model.trim_all(starts.clone()).await, subject.trim_all(starts).await);
                assert_same(results, context);
            }
            87..91 => {
                let partition = self.partition();
                let results =
                    (model.producers(partition).await, subject.producers(partition).await);
                assert_same(results, context);
            }
            91..96 => {
                let registrations: Vec<_> =
                    (0..=self.rng.below(2)).map(|_| self.registration()).collect();
                let results = (
                    model.register(registrations.clone()).await,
                    subject.register(registrations).await,
                );
                assert_same(results, context);
            }
            96 => self.raise_fence(model, &*subject, context).await,
            97 => {
                let topic = self.partition().topic;
                assert_same(
                    (model.delete_topic(topic).await, subject.delete_topic(topic).await),
                    context,
                );
                self.first_topic = (self.first_topic + 1).min(250);
            }
            _ => assert_same((model.topics().await, subject.topics().await), context),
        }
    }

    /// Raises the fence of a process to the oldest of its recent objects.
    async fn raise_fence(&self, model: &dyn Coordinator, subject: &dyn Coordinator, context: &str) {
        let Some(commit) = self.recent.first() else { return };
        let (process, lowest) = (commit.object.process(), commit.object.sequence);
        let results =
            (model.raise_fence(process, lowest).await, subject.raise_fence(process, lowest).await);
        assert_same(results, context);
    }

    fn partition(&self) -> TopicPartition {
        let topic =
            u8::try_from(self.first_topic + self.rng.below(TOPICS)).expect("a small number");
        partition(topic, i32::try_from(self.rng.below(PARTITIONS)).expect("a small number"))
    }

    fn commit(&mut self, object: ObjectId, clock: Option<&ManualClock>) -> Commit {
        self.sealed_ms += match self.rng.below(40) {
            0 => 25 * 3_600_000,
            1 => -500,
            _ => self.rng.below(2_000).cast_signed(),
        };
        let mut sealed_ms = self.sealed_ms;
        if let Some(clock) = clock {
            clock.set(self.sealed_ms);
            sealed_ms += match self.rng.below(10) {
                0 => 25 * 3_600_000,
                1 => -25 * 3_600_000,
                2 => 290_000,
                3 => -290_000,
                _ => 0,
            };
        }
        let parts = (0..=self.rng.below(4)).map(|_| {
            let partition = self.partition();
            (partition, (0..=self.rng.below(3)).map(|_| self.batch(partition)).collect())
        });
        let parts = parts.collect::<Vec<_>>();
        // Undecided are the object itself, and perhaps some recent ones.
        let recent = self.recent.iter().map(|commit| commit.object.sequence);
        let choices: Vec<_> = recent.chain([0, 0, 0, object.sequence]).collect();
        let lowest_undecided = self.rng.pick(&choices);
        Commit { lowest_undecided, ..commit_of(object, sealed_ms, parts) }
    }

    fn batch(&mut self, to: TopicPartition) -> BatchMetadata {
        let count = i32::try_from(1 + self.rng.below(4)).expect("a small number");
        let bytes = u32::try_from(60 + self.rng.below(1_000)).expect("a small number");
        let around = self.sealed_ms + self.rng.below(10_000).cast_signed() - 9_000;
        let max_timestamp = match self.rng.below(12) {
            0 => self.rng.pick(&[-1, 0, i64::MAX, i64::MAX - 1, (1 << 53) + 1, 1 << 53]),
            _ => around,
        };
        let mut batch = BatchMetadata { bytes, offset_count: count, max_timestamp, producer: None };
        if self.rng.below(4) == 0 {
            return batch;
        }
        let sent = self.sent.entry(to).or_default();
        if !sent.is_empty() && self.rng.below(4) == 0 {
            let back = usize::try_from(self.rng.below(32)).expect("a small number");
            return sent[sent.len().saturating_sub(1 + back)];
        }
        let id = self.rng.pick(&[0, 7, 1 << 60, i64::MAX]);
        let first = self.rng.pick(&[0, 5, i32::MAX - 1, i32::MAX]);
        let (epoch, next) = self.producers.entry((to, id)).or_insert((0, first));
        let (sent_epoch, base_sequence) = match self.rng.below(12) {
            0 => (*epoch, add_sequence(*next, 1)),
            1 => (epoch.saturating_sub(1).max(0), *next),
            2 => (*epoch + 1, 0),
            3 => (*epoch + 1, 1),
            _ => (*epoch, *next),
        };
        batch.producer = Some(ProducerSequence { id, epoch: sent_epoch, base_sequence });
        if base_sequence == *next || (sent_epoch > *epoch && base_sequence == 0) {
            *epoch = sent_epoch.max(*epoch);
            *next = add_sequence(base_sequence, count);
        }
        sent.push(batch);
        batch
    }

    fn request(&self) -> FindRequest {
        let timestamp = self.sealed_ms - self.rng.below(100_000).cast_signed();
        let from = match self.rng.below(8) {
            0..4 => FindFrom::Offset(self.rng.below(200).cast_signed() - 5),
            4 => FindFrom::Offset(self.rng.pick(&[i64::MIN, i64::MAX])),
            5 => FindFrom::Timestamp(timestamp),
            6 => FindFrom::Timestamp(self.rng.pick(&[i64::MAX, (1 << 53) + 1, -1, 0])),
            _ => FindFrom::MaxTimestamp,
        };
        let bytes_max = self.rng.pick(&[0, 1, 500, 5_000, u64::MAX]);
        let runs_max = self.rng.pick(&[0, 1, 3, u32::MAX]);
        FindRequest { partition: self.partition(), from, bytes_max, runs_max }
    }

    fn registration(&self) -> Registration {
        let topic = self.partition().topic;
        let topic_type =
            self.rng.pick(&[TopicType::Classic, TopicType::Diskless, TopicType::Migrating]);
        let rule = self.rng.pick(&[BindRule::FirstWins, BindRule::Migrate]);
        let name = format!("topic {}", self.rng.below(1_000));
        Registration { binding: TopicBinding { topic, name, topic_type }, rule }
    }
}

/// Compares the results of each part: outcomes, or that it is below the fence.
fn assert_same_each(
    model: Vec<Result<PartOutcome, CoordinatorError>>,
    subject: Vec<Result<PartOutcome, CoordinatorError>>,
    context: &str,
) {
    assert_eq!(model.len(), subject.len(), "{context}");
    for results in model.into_iter().zip(subject) {
        match results {
            (Err(CoordinatorError::Fenced(_)), Err(CoordinatorError::Fenced(_))) => {}
            results => assert_same(results, context),
        }
    }
}

fn assert_same<T, E>((model, subject): (Result<T, E>, Result<T, E>), context: &str)
where
    T: std::fmt::Debug + PartialEq,
    E: std::fmt::Debug,
{
    let model = model.expect("the model never fails");
    match subject {
        Ok(subject) => {
            assert_eq!(subject, model, "{context}: left is the subject, right the model")
        }
        Err(error) => panic!("{context}: {error:?}, the model returns {model:?}"),
    }
}

/// Compares all topics, and the runs and producers of every partition.
async fn assert_equal_everywhere(
    model: &dyn Coordinator,
    subject: &dyn Coordinator,
    workload: &Workload,
    context: &str,
) {
    assert_same((model.topics().await, subject.topics().await), context);
    for topic in 1..u8::try_from(workload.first_topic + TOPICS).expect("a small number") {
        for index in 0..i32::try_from(PARTITIONS).expect("a small number") {
            let partition = partition(topic, index);
            let all = vec![find_all(partition)];
            assert_same((model.find_all(all.clone()).await, subject.find_all(all).await), context);
            assert_same(
                (model.producers(partition).await, subject.producers(partition).await),
                context,
            );
        }
    }
}
