//! Calls of scripts on the registry and the shards, with the checks that every call makes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;

use super::client::RedisClient;
use super::keys::{HashTag, KEYS_VERSION, Keys, shard_of};
use super::loss_detection::observed_position::{
    LastSaved, ObservedPositionStore, ObservedPositions, PositionTracker, StoredPositions,
    Verification,
};
use super::reply::ScriptReply;
use super::scripts::{LuaScript, Scripts};
use crate::clock::WallClock;
use crate::coordinator::{CoordinatorError, CoordinatorResult};
use crate::log::ids::TopicPartition;

/// Runs scripts on the registry and on shards. Shared with the subscriptions.
#[derive(Debug)]
pub(super) struct ShardClient {
    pub(super) client: RedisClient,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    pub(super) replica: String,
    pub(super) may_verify: bool,
    pub(super) lease: Duration,
    pub(super) position_store: Option<Arc<dyn ObservedPositionStore>>,
    /// A clock in place of Redis' own, for tests.
    pub(super) clock: Option<Arc<dyn WallClock>>,
}

/// The metadata that this process is attached to, and what it observed of it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) metadata_id: String,
    pub(super) shards: u16,
    /// The registry's, then each shard's.
    trackers: Vec<PositionTracker>,
    /// The registry's, then each shard's.
    verifications: Vec<Verification>,
    /// The positions that were read last from their store.
    pub(super) stored_positions: tokio::sync::Mutex<Option<StoredPositions>>,
    pub(super) last_saved: tokio::sync::Mutex<LastSaved>,
    /// Set once the positions that an earlier process of this replica saved are taken over.
    inherited: tokio::sync::OnceCell<()>,
}

impl ShardClient {
    /// Runs a script behind the checks of metadata id, replication id and sequence; returns what
    /// follows the sequence in its reply. Verifies the shard first if the replication
    /// id of its Redis changed.
    pub(super) async fn call(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
        script: &LuaScript,
        args: Vec<Vec<u8>>,
    ) -> Result<ScriptReply, CoordinatorError> {
        if let Some(reply) = self.call_verified(attached, hash_tag, script, &args).await? {
            return Ok(reply);
        }
        self.verify(attached, hash_tag).await?;
        let unverified = || {
            let detail = "the replication id of Redis changed again after its verification";
            CoordinatorError::Unavailable(detail.to_owned())
        };
        self.call_verified(attached, hash_tag, script, &args).await?.ok_or_else(unverified)
    }

    /// As [`ShardClient::call`]; returns `None` if the script did not run because the shard is
    /// unverified.
    async fn call_verified(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
        script: &LuaScript,
        args: &[Vec<u8>],
    ) -> Result<Option<ScriptReply>, CoordinatorError> {
        let tracker = attached.tracker(hash_tag);
        let (replication_id, sequence) = tracker.current();
        let wait_marker = u8::from(self.client.must_wait(script));
        let now_ms = self.clock.as_ref().map(|clock| clock.now_ms().to_string());
        let now_ms = now_ms.unwrap_or_default();
        let observed = format!("{sequence} {replication_id} {wait_marker} {now_ms} {KEYS_VERSION}");
        let mut all = vec![attached.metadata_id.clone().into_bytes(), observed.into_bytes()];
        all.extend_from_slice(args);
        let reply = self.client.run(script, hash_tag, all).await?;
        let mut reply = ScriptReply::new(reply);
        let first = reply.next()?.text()?;
        if first == "unverified" {
            return Ok(None);
        }
        // A change that is not known to be on enough replicas of Redis may be lost without harm.
        if !self.client.waits_for_replicas() || self.client.must_wait(script) {
            let sequence = ScriptReply::parse(&first)?;
            tracker.observe(&replication_id, sequence);
            if script.is_only_in_redis {
                tracker.pin(&replication_id, sequence);
            }
        }
        Ok(Some(reply))
    }

    /// Returns the sequence of the last change.
    pub(super) async fn sequence(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
    ) -> Result<u64, CoordinatorError> {
        self.call(attached, hash_tag, &self.scripts.check, Vec::new()).await?;
        Ok(attached.tracker(hash_tag).current().1)
    }

    /// Runs a script for each shard that has items, in parallel, with at most the script's weight of
    /// items in one call; returns one result for each item, in the order of the items. A call that
    /// fails fails only its own items, and those of the same partition that follow them.
    #[expect(clippy::too_many_arguments, reason = "the script, its items and four views of them")]
    pub(super) async fn call_shards<'a, T, R>(
        &self,
        attached: &Attached,
        script: &LuaScript,
        items: &'a [T],
        partition: impl Fn(&T) -> TopicPartition,
        weight: impl Fn(&T) -> usize,
        arguments: impl Fn(Vec<&'a T>) -> Vec<Vec<u8>>,
        decode: impl Fn(&'a T, &[u8]) -> CoordinatorResult<R>,
    ) -> Vec<CoordinatorResult<R>> {
        let mut by_shard: Vec<Vec<usize>> = vec![Vec::new(); usize::from(attached.shards)];
        for (index, item) in items.iter().enumerate() {
            by_shard[usize::from(shard_of(partition(item), attached.shards))].push(index);
        }
        let partition_at = |index: &usize| partition(&items[*index]);
        let weight_at = |index: &usize| weight(&items[*index]);
        for indexes in &mut by_shard {
            // Stable, so that those of one partition are adjacent, in their order.
            indexes.sort_by_key(partition_at);
        }
        let sequences = (0..).zip(&by_shard).flat_map(|(shard, indexes)| {
            let chunks = split_items(indexes, script.weight_max, partition_at, weight_at);
            let sequences = in_sequences(chunks, partition_at);
            sequences.into_iter().map(move |sequence| (shard, sequence))
        });
        let sequences = sequences.map(|(shard, chunks)| {
            let args_of = |indexes: &'_ [usize]| {
                arguments(indexes.iter().map(|index| &items[*index]).collect())
            };
            let calls: Vec<_> = chunks.into_iter().map(|chunk| (chunk, args_of(chunk))).collect();
            async move {
                let (mut done, mut failed) = (Vec::with_capacity(calls.len()), None);
                for (indexes, args) in calls {
                    let call = async {
                        if let Some(error) = failed.take() {
                            return Err(not_sent(error));
                        }
                        let mut reply =
                            self.call(attached, HashTag::Shard(shard), script, args).await?;
                        reply.next()?.items(indexes.len())
                    };
                    let replies: CoordinatorResult<Vec<ScriptReply>> = call.await;
                    failed = replies.as_ref().err().cloned();
                    done.push((indexes, replies));
                }
                done
            }
        });
        let mut results: Vec<(usize, CoordinatorResult<R>)> = Vec::with_capacity(items.len());
        for (indexes, replies) in join_all(sequences).await.into_iter().flatten() {
            match replies {
                Ok(replies) => results.extend(indexes.iter().zip(replies).map(|(index, reply)| {
                    (*index, reply.bytes().and_then(|bytes| decode(&items[*index], &bytes)))
                })),
                Err(error) => {
                    results.extend(indexes.iter().map(|index| (*index, Err(error.clone()))));
                }
            }
        }
        results.sort_unstable_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

impl Attached {
    pub(super) fn new(metadata_id: String, shards: u16) -> Self {
        Self {
            metadata_id,
            shards,
            trackers: (0..=shards).map(|_| PositionTracker::default()).collect(),
            verifications: (0..=shards).map(|_| Verification::default()).collect(),
            stored_positions: tokio::sync::Mutex::default(),
            last_saved: tokio::sync::Mutex::default(),
            inherited: tokio::sync::OnceCell::new(),
        }
    }

    /// Returns the trackers of the registry and of each shard.
    pub(super) fn trackers(&self) -> &[PositionTracker] {
        &self.trackers
    }

    /// Returns the index of a hash tag in the order of [`Attached::hash_tags`].
    pub(super) fn index(hash_tag: HashTag) -> usize {
        match hash_tag {
            HashTag::Registry => 0,
            HashTag::Shard(shard) => 1 + usize::from(shard),
        }
    }

    pub(super) fn tracker(&self, hash_tag: HashTag) -> &PositionTracker {
        &self.trackers[Self::index(hash_tag)]
    }

    pub(super) fn verification(&self, hash_tag: HashTag) -> &Verification {
        &self.verifications[Self::index(hash_tag)]
    }

    /// Returns the number of completed verifications, of the registry and of all shards.
    pub(super) fn completed_verifications(&self) -> u64 {
        let counts = self.verifications.iter().map(|v| v.completed.load(Ordering::Acquire));
        counts.sum()
    }

    /// Returns the positions that this process reports and saves.
    pub(super) fn positions(&self) -> ObservedPositions {
        let positions = self.trackers.iter().map(PositionTracker::position).collect();
        let inherited = self.trackers.iter().enumerate();
        let inherited = inherited.filter(|(_, tracker)| tracker.is_inherited());
        let inherited = inherited.map(|(index, _)| index).collect();
        let pinned = |tracker: &PositionTracker| tracker.pinned().map(|(_, position)| position);
        let unrecoverable = self.trackers.iter().map(pinned).collect();
        let metadata_id = self.metadata_id.clone();
        ObservedPositions { metadata_id, positions, inherited, unrecoverable, process: None }
    }

    /// Takes over what an earlier process of this replica saved, once, before this process saves
    /// its own positions in place of it: a shard that is away keeps its position.
    pub(super) async fn inherit_positions(
        &self,
        store: &dyn ObservedPositionStore,
    ) -> Result<(), String> {
        let inherit = async || {
            let own = store.load_own().await?;
            let own = own.filter(|own| own.metadata_id == self.metadata_id);
            let Some(own) = own else { return Ok(()) };
            for (tracker, position) in self.trackers.iter().zip(own.positions) {
                if let Some(position) = position {
                    tracker.inherit(position);
                }
            }
            for (tracker, position) in self.trackers.iter().zip(own.unrecoverable) {
                if let Some(position) = position {
                    tracker.inherit_pin(position);
                }
            }
            Ok(())
        };
        self.inherited.get_or_try_init(inherit).await.map(drop)
    }

    /// Returns the registry, then each shard.
    pub(super) fn hash_tags(&self) -> impl Iterator<Item = HashTag> {
        std::iter::once(HashTag::Registry).chain((0..self.shards).map(HashTag::Shard))
    }
}

/// Splits items into calls of at most `weight_max`; adjacent items of one partition stay together
/// unless they weigh more. A single item may weigh more too.
fn split_items(
    indexes: &[usize],
    weight_max: usize,
    partition: impl Fn(&usize) -> TopicPartition,
    weight: impl Fn(&usize) -> usize,
) -> Vec<&[usize]> {
    let (mut calls, mut start, mut end, mut total) = (Vec::new(), 0, 0, 0_usize);
    for group in indexes.chunk_by(|a, b| partition(a) == partition(b)) {
        let of_group: usize = group.iter().map(&weight).sum();
        if end > start && total + of_group > weight_max {
            calls.push(&indexes[start..end]);
            (start, total) = (end, 0);
        }
        for index in group {
            if end > start && total + weight(index) > weight_max {
                calls.push(&indexes[start..end]);
                (start, total) = (end, 0);
            }
            end += 1;
            total += weight(index);
        }
    }
    if end > start {
        calls.push(&indexes[start..end]);
    }
    calls
}

/// Returns the calls that may run at the same time, each with those that must follow it: the calls
/// over which the items of one partition are divided.
fn in_sequences<'a>(
    calls: Vec<&'a [usize]>,
    partition: impl Fn(&usize) -> TopicPartition,
) -> Vec<Vec<&'a [usize]>> {
    let mut sequences: Vec<Vec<&'a [usize]>> = Vec::with_capacity(calls.len());
    let mut last: Option<TopicPartition> = None;
    for call in calls {
        let first = call.first().map(&partition);
        match sequences.last_mut() {
            Some(sequence) if first == last => sequence.push(call),
            _ => sequences.push(vec![call]),
        }
        last = call.last().map(&partition);
    }
    sequences
}

/// Returns the error of a call that was not sent because the one before it failed.
fn not_sent(error: CoordinatorError) -> CoordinatorError {
    match error {
        CoordinatorError::Unknown(detail) => CoordinatorError::Unavailable(detail),
        error => error,
    }
}

/// Returns all values, or the error of the whole call: [`CoordinatorError::Unavailable`] only if
/// no shard can have applied its part.
pub(super) fn merge_results<T>(
    results: Vec<Result<T, CoordinatorError>>,
) -> Result<Vec<T>, CoordinatorError> {
    let (mut values, mut unavailable, mut unknown) =
        (Vec::with_capacity(results.len()), None, None);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(CoordinatorError::Unavailable(detail)) => unavailable = Some(detail),
            Err(CoordinatorError::Unknown(detail)) => unknown = Some(detail),
            Err(error) => return Err(error),
        }
    }
    match (unavailable, unknown) {
        (None, None) => Ok(values),
        (Some(detail), None) if values.is_empty() => Err(CoordinatorError::Unavailable(detail)),
        (Some(detail), None) | (_, Some(detail)) => Err(CoordinatorError::Unknown(detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::TopicId;

    #[test]
    fn items_of_one_partition_share_a_call_if_they_fit() {
        // By index: the partition of the item.
        let split = |partitions: &[i32], items_max| -> Vec<Vec<usize>> {
            let indexes: Vec<usize> = (0..partitions.len()).collect();
            let of = |index: &usize| TopicPartition {
                topic: TopicId([1; 16]),
                partition: partitions[*index],
            };
            split_items(&indexes, items_max, of, |_| 1).into_iter().map(<[usize]>::to_vec).collect()
        };
        assert_eq!(split(&[], 3), [[0; 0]; 0]);
        assert_eq!(split(&[1, 1, 2, 2], 3), [[0, 1], [2, 3]]);
        assert_eq!(split(&[1, 2, 3, 4], 3), [vec![0, 1, 2], vec![3]]);
        assert_eq!(split(&[1, 2, 2, 2, 2, 3], 3), [vec![0], vec![1, 2, 3], vec![4, 5]]);
        let alone = |_: &usize| TopicPartition { topic: TopicId([1; 16]), partition: 0 };
        let weights = split_items(&[0, 1, 2, 3, 4], 10, alone, |index| [4, 6, 1, 99, 1][*index]);
        assert_eq!(weights, [&[0, 1][..], &[2], &[3], &[4]]);
    }

    #[test]
    fn calls_with_items_of_one_partition_follow_each_other() {
        let partitions = [1, 2, 2, 2, 3, 4, 5];
        let of = |index: &usize| TopicPartition {
            topic: TopicId([1; 16]),
            partition: partitions[*index],
        };
        let calls: Vec<&[usize]> = vec![&[0, 1], &[2], &[3, 4], &[5], &[6]];
        let expected: Vec<Vec<&[usize]>> =
            vec![vec![&[0, 1], &[2], &[3, 4]], vec![&[5]], vec![&[6]]];
        assert_eq!(in_sequences(calls, of), expected);
        assert!(in_sequences(Vec::new(), of).is_empty());
    }
}
