//! The operations of the port: each is one call of a script, or one for each shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::codec::{
    FindReply, PackedReader, argument, encode_member, encode_part, identity_of_member,
    partition_bytes, sortable, topic_type_code,
};
use super::coordinator::RedisCoordinator;
use super::events;
use super::keys::{HashTag, shard_of};
use super::reply::ScriptReply;
use super::scripts::LuaScript;
use super::shards::merge_results;
use crate::coordinator::{
    Attachment, BindRule, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindFrom, FindRequest, Found, LEASE_MAX, Member, Membership, PartOutcome,
    ProducerSnapshot, Registration, TopicBinding, Watermarks, ZoneRecord,
};
use crate::log::batch::{BatchMetadata, Part};
use crate::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use crate::log::object_format::ShardPosition;

/// The number of elements that one call scans, where a script scans a whole key: about a
/// millisecond of the server's time.
const ELEMENTS_PER_SCAN: u32 = 500;

/// The number of calls after which a search is given up; 4,000 of them read a hundred million runs.
const CALLS_PER_FIND: usize = 4_000;

/// The cursor of the first call of a scan, and that after the last one.
const FIRST_CURSOR: &str = "0";

/// The greatest number that a double represents exactly; Lua and sorted sets have only doubles.
const EXACT_MAX: u64 = 1 << 53;

#[async_trait]
impl Coordinator for RedisCoordinator {
    fn shard(&self, partition: TopicPartition) -> u16 {
        // Before the first attach every call fails, whatever the shard.
        self.attached().map_or(0, |attached| shard_of(partition, attached.shards))
    }

    async fn check_shard(&self, shard: u16) -> Result<(), CoordinatorError> {
        let (attached, shards) = (self.attached()?, &self.shards);
        shards.sequence(&attached, HashTag::Shard(shard)).await.map(drop)
    }

    fn position(&self, partition: TopicPartition) -> ShardPosition {
        let shard = self.shard(partition);
        let Ok(attached) = self.attached() else { return ShardPosition::default() };
        let (epoch, sequence) = attached.tracker(HashTag::Shard(shard)).current();
        ShardPosition { shard: u32::from(shard), epoch, sequence }
    }

    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        self.attach_to(cluster_id, zone).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let register = &shards.scripts.register;
        let mut bound = Vec::with_capacity(registrations.len());
        for some in registrations.chunks(register.weight_max) {
            let args = some.iter().flat_map(registration_args).collect();
            let mut reply = shards.call(&attached, HashTag::Registry, register, args).await?;
            bound.extend(reply.next()?.items(some.len())?);
        }
        let pairs = registrations.iter().zip(bound);
        let binding = |(registration, bound): (&Registration, ScriptReply)| {
            let bytes = bound.bytes()?;
            // A binding is never empty; an empty value stands for a deleted topic.
            if bytes.is_empty() {
                return Ok(None);
            }
            PackedReader::new("a binding", &bytes).binding(registration.binding.topic).map(Some)
        };
        pairs.map(binding).collect()
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let (mut topics, mut cursor) = (BTreeMap::new(), FIRST_CURSOR.to_owned());
        loop {
            let args = vec![argument(&cursor), argument(ELEMENTS_PER_SCAN)];
            let script = &shards.scripts.topics;
            let mut reply = shards.call(&attached, HashTag::Registry, script, args).await?;
            cursor = reply.next()?.text()?;
            // A scan may return an element twice.
            let mut pairs = reply.next()?;
            while !pairs.is_empty() {
                let id = pairs.next()?.text()?;
                let corrupt = || CoordinatorError::Corrupt(format!("invalid topic id `{id}`"));
                let topic = TopicId::parse(&id).ok_or_else(corrupt)?;
                let binding = pairs.next()?.bytes()?;
                topics.insert(topic, PackedReader::new("a binding", &binding).binding(topic)?);
            }
            if cursor == FIRST_CURSOR {
                return Ok(topics.into_values().collect());
            }
        }
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let calls = (0..attached.shards).map(|shard| {
            let attached = &attached;
            async move {
                let mut cursor = FIRST_CURSOR.to_owned();
                loop {
                    let args =
                        vec![argument(topic), argument(&cursor), argument(ELEMENTS_PER_SCAN)];
                    let script = &shards.scripts.delete_partitions;
                    let call = shards.call(attached, HashTag::Shard(shard), script, args);
                    cursor = call.await?.next()?.text()?;
                    if cursor == FIRST_CURSOR {
                        return Ok(());
                    }
                }
            }
        });
        merge_results(join_all(calls).await)?;
        // Last, because it completes the deletion: until then a repeated call continues it.
        let args = vec![argument(topic), topic.0.to_vec()];
        shards.call(&attached, HashTag::Registry, &shards.scripts.delete_topic, args).await?;
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let arguments = |parts: Vec<&Part>| {
            let object = commit.object;
            let mut args = vec![
                argument(object.process()),
                object.to_bytes().to_vec(),
                argument(commit.sealed_ms),
                argument(commit.lowest_undecided),
            ];
            for part in parts {
                args.push(argument(part.index));
                args.push(argument(part.partition.topic));
                args.push(argument(part.partition));
                args.push(encode_part(part));
            }
            args
        };
        let script = &self.shards.scripts.commit;
        let decode =
            |part: &Part, bytes: &[u8]| PackedReader::new("an outcome", bytes).outcome(part.index);
        let weight_of = |batch: &BatchMetadata| 1 + usize::from(batch.producer.is_some());
        let weight = |part: &Part| 2 + part.batches.iter().map(weight_of).sum::<usize>();
        self.call_shards(script, &commit.parts, |p| p.partition, weight, arguments, decode).await
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let calls = (0..attached.shards).map(|shard| {
            let args = vec![argument(process), process.to_bytes().to_vec(), argument(lowest)];
            shards.call(&attached, HashTag::Shard(shard), &shards.scripts.raise_fence, args)
        });
        merge_results(join_all(calls).await).map(drop)
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let arguments = |queries: Vec<&PendingFind>| {
            queries.into_iter().flat_map(|query| find_args(&query.request, &query.cursor)).collect()
        };
        let decode = |_: &PendingFind, bytes: &[u8]| PackedReader::new("runs", bytes).found();
        let script = &self.shards.scripts.find;
        let pending = |(index, request)| PendingFind { index, request, cursor: Vec::new() };
        let mut pending: Vec<_> = requests.into_iter().enumerate().map(pending).collect();
        let mut results: Vec<_> = pending.iter().map(|_| Err(unfinished())).collect();
        for _ in 0..CALLS_PER_FIND {
            if pending.is_empty() {
                break;
            }
            let replies = self.call_shards(
                script,
                &pending,
                |q| q.request.partition,
                |_| 1,
                arguments,
                decode,
            );
            let mut continued = Vec::new();
            for (query, reply) in pending.iter().zip(replies.await) {
                match reply {
                    Ok(FindReply::Unfinished(cursor)) => {
                        continued.push(PendingFind { cursor, ..*query });
                    }
                    Ok(FindReply::Found(found)) => results[query.index] = Ok(found),
                    Err(error) => results[query.index] = Err(error),
                }
            }
            pending = continued;
        }
        results
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let arguments = |starts: Vec<&(TopicPartition, i64)>| {
            let args = starts.into_iter().map(|(partition, start)| {
                [argument(partition), partition_bytes(*partition), argument(exact(*start))]
            });
            args.flatten().collect()
        };
        let decode = |_: &(TopicPartition, i64), bytes: &[u8]| {
            PackedReader::new("watermarks", bytes).trimmed()
        };
        let script = &self.shards.scripts.trim;
        let mut results =
            self.call_shards(script, &starts, |s| s.0, |_| 1, arguments, decode).await;
        // The starts are raised; the runs below them are removed a bounded number at a time.
        loop {
            let is_unfinished = |index: &usize| matches!(results[*index], Ok((_, false)));
            let unfinished: Vec<_> = (0..starts.len()).filter(is_unfinished).collect();
            if unfinished.is_empty() {
                break;
            }
            let again: Vec<_> = unfinished.iter().map(|index| starts[*index]).collect();
            let more = self.call_shards(script, &again, |s| s.0, |_| 1, arguments, decode).await;
            for (index, result) in unfinished.into_iter().zip(more) {
                results[index] = result;
            }
        }
        results.into_iter().map(|result| result.map(|(watermarks, _)| watermarks)).collect()
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let hash_tag = HashTag::Shard(shard_of(partition, attached.shards));
        let (mut producers, mut cursor) = (BTreeMap::new(), FIRST_CURSOR.to_owned());
        loop {
            let args = vec![argument(partition), argument(&cursor), argument(ELEMENTS_PER_SCAN)];
            let script = &shards.scripts.producers;
            let mut reply = shards.call(&attached, hash_tag, script, args).await?;
            PackedReader::new("producers", &reply.next()?.bytes()?).status()?;
            let clock = reply.next()?.text()?;
            let clock_ms = clock.parse().unwrap_or(i64::MIN);
            cursor = reply.next()?.text()?;
            let mut pairs = reply.next()?;
            while !pairs.is_empty() {
                let id = PackedReader::new("a producer id", &pairs.next()?.bytes()?).id()?;
                let state = pairs.next()?.bytes()?;
                let producer = PackedReader::new("a producer", &state).producer(id, clock_ms)?;
                producers.insert(id, producer);
            }
            if cursor == FIRST_CURSOR {
                return Ok(producers.into_values().flatten().collect());
            }
        }
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        Ok(events::subscribe(Arc::clone(&self.shards), self.attached()?).await)
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let attached = self.attached()?;
        let shards = &self.shards;
        // Rounded up, because zero ends the lease.
        let ttl_ms = ttl.min(LEASE_MAX).as_micros().div_ceil(1_000);
        let args = vec![
            argument(&member.replica),
            argument(ttl_ms),
            encode_member(member),
            self.proposed_secret.clone(),
            argument(LEASE_MAX.as_millis()),
            argument(member.nodes),
            argument(member.zone),
        ];
        let renew = &shards.scripts.renew;
        let mut reply = shards.call(&attached, HashTag::Registry, renew, args).await?;
        let secret = reply.next()?.bytes()?;
        let corrupt = |_| CoordinatorError::Corrupt("the secret is not 32 bytes long".to_owned());
        let secret = secret.try_into().map_err(corrupt)?;
        // One that cannot be read, because its replica is newer, hides no other, and runs.
        let (mut members, mut problems) = (Vec::new(), BTreeSet::new());
        let (mut processes, mut unreadable_members) = (BTreeSet::new(), 0);
        for packed in reply.next()?.rest() {
            let packed = packed.bytes()?;
            processes.extend(identity_of_member(&packed));
            match readable_member(&packed, &mut problems) {
                Some(member) => members.push(member),
                None => unreadable_members += 1,
            }
        }
        members.sort_unstable_by(|a, b| a.replica.cmp(&b.replica));
        let mut zones = Vec::new();
        for record in reply.next()?.rest() {
            zones.push(zone_record(record, &mut problems)?);
        }
        for process in reply.next()?.rest() {
            processes.extend(ProcessIdentity::from_prefix(&process.bytes()?));
        }
        self.note_unreadable_members(problems);
        Ok(Membership { members, zones, processes, unreadable_members, secret })
    }
}

impl RedisCoordinator {
    /// Calls a script as [`ShardClient::call_shards`] does; fails for each item before the first
    /// attach.
    ///
    /// [`ShardClient::call_shards`]: super::shards::ShardClient::call_shards
    async fn call_shards<'a, T, R>(
        &self,
        script: &LuaScript,
        items: &'a [T],
        partition: impl Fn(&T) -> TopicPartition,
        weight: impl Fn(&T) -> usize,
        arguments: impl Fn(Vec<&'a T>) -> Vec<Vec<u8>>,
        decode: impl Fn(&'a T, &[u8]) -> CoordinatorResult<R>,
    ) -> Vec<CoordinatorResult<R>> {
        match self.attached() {
            Ok(attached) => {
                let shards = &self.shards;
                shards
                    .call_shards(&attached, script, items, partition, weight, arguments, decode)
                    .await
            }
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// Decodes a member; adds the error to `problems` if that fails.
fn readable_member(packed: &[u8], problems: &mut BTreeSet<String>) -> Option<Member> {
    let member = PackedReader::new("a member", packed).member();
    member.map_err(|error| problems.insert(error.to_string())).ok()
}

fn zone_record(
    mut reply: ScriptReply,
    problems: &mut BTreeSet<String>,
) -> Result<ZoneRecord, CoordinatorError> {
    let (name, nodes) = (reply.next()?.text()?, reply.next()?.number()?);
    let last = match reply.next()?.bytes()? {
        none if none.is_empty() => None,
        packed => readable_member(&packed, problems),
    };
    Ok(ZoneRecord { name, nodes, last })
}

fn registration_args(registration: &Registration) -> [Vec<u8>; 5] {
    let binding = &registration.binding;
    let rule = match registration.rule {
        BindRule::FirstWins => "first",
        BindRule::Migrate => "migrate",
    };
    [
        argument(binding.topic),
        binding.topic.0.to_vec(),
        vec![topic_type_code(binding.topic_type)],
        argument(&binding.name),
        argument(rule),
    ]
}

/// A request that has no result yet.
struct PendingFind {
    /// The index of the request among all.
    index: usize,
    request: FindRequest,
    /// The position at which the next call continues; empty for the first one.
    cursor: Vec<u8>,
}

fn unfinished() -> CoordinatorError {
    CoordinatorError::Unavailable(format!("not found within {CALLS_PER_FIND} calls"))
}

fn find_args(request: &FindRequest, cursor: &[u8]) -> [Vec<u8>; 6] {
    let (from, value) = match request.from {
        FindFrom::Offset(offset) => ("o", argument(exact(offset))),
        FindFrom::Timestamp(timestamp) => ("t", sortable(timestamp).to_vec()),
        FindFrom::MaxTimestamp => ("m", Vec::new()),
    };
    let bytes_max = argument(request.bytes_max.min(EXACT_MAX));
    let runs_max = argument(request.runs_max);
    [argument(request.partition), argument(from), value, bytes_max, runs_max, cursor.to_vec()]
}

/// Clamps an offset to what Lua represents exactly. No partition has a greater offset, so the
/// result of a request is the same.
fn exact(offset: i64) -> i64 {
    offset.clamp(-1, EXACT_MAX.cast_signed())
}
