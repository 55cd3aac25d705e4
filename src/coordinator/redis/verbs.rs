//! The verbs of the port: each one call of a script, or one for each shard.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::codec::{Packed, encode_member, encode_part, partition_bytes, sortable};
use super::keys::{Tag, shard_of};
use super::replies::Reply;
use super::{Attached, RedisCoordinator, follow, merge};
use crate::coordinator::{
    Attachment, BindRule, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindFrom,
    FindRequest, Found, LEASE_MAX, Member, Membership, PartOutcome, ProducerSnapshot, Registration,
    TopicBinding, TopicType, Watermarks, ZoneRecord,
};
use crate::log::batch::Part;
use crate::log::ids::{TopicId, TopicPartition};

/// Partitions that one run of `delete_topic.lua` drops: about a millisecond of the server's time.
const FORGET_PARTITIONS: u32 = 500;

/// Greatest number that a double holds exactly; Lua and sorted sets know no other numbers.
const EXACT_MAX: u64 = 1 << 53;

#[async_trait]
impl Coordinator for RedisCoordinator {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let known = self.attached().ok();
        let cached_metadata_id = known.as_ref().map(|a| a.metadata_id.clone());
        let expected = cached_metadata_id.or_else(|| self.settings.metadata_id.clone());
        let mut reply = self.ask_to_attach(cluster_id, zone, expected.clone()).await?;
        let mut said = reply.next()?.text()?;
        let known = match said.as_str() {
            // The zone is new, and a Redis that may have forgotten some numbers none.
            "unsettled" => {
                let attached = Attached::new(reply.next()?.text()?, reply.next()?.number()?);
                let attached = known.unwrap_or_else(|| Arc::new(attached));
                self.shell.settle(&attached).await?;
                reply = self.ask_to_attach(cluster_id, zone, expected).await?;
                said = reply.next()?.text()?;
                Some(attached)
            }
            _ => known,
        };
        match said.as_str() {
            "ok" => {}
            "other" => {
                let bound = reply.next()?.text()?;
                return Err(CoordinatorError::OtherCluster { bound, asked: cluster_id.to_owned() });
            }
            _ => return Err(CoordinatorError::Unavailable("Redis began anew".to_owned())),
        }
        let metadata_id = reply.next()?.text()?;
        let shards: u16 = reply.next()?.number()?;
        let is_ready = reply.next()?.text()? == "1";
        let zone_index = reply.next()?.number()?;
        let zones = reply.rest().map(Reply::text).collect::<Result<_, _>>()?;
        let attached =
            known.unwrap_or_else(|| Arc::new(Attached::new(metadata_id.clone(), shards)));
        self.adopt_shards(&attached, is_ready).await?;
        let mut current = self.attached.write();
        // The first one stays: it remembers the sequences.
        current.get_or_insert(attached);
        Ok(Attachment { zone_index, zones, metadata_id })
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let args = registrations.iter().flat_map(registration_args).collect();
        let mut reply = shell.call(&attached, Tag::Registry, &shell.scripts.register, args).await?;
        let bound = reply.next()?.items(registrations.len())?;
        let pairs = registrations.iter().zip(bound);
        let binding = |(asked, bound): (&Registration, Reply)| {
            let bytes = bound.bytes()?;
            // Every binding has its kind; none at all is a topic that was forgotten.
            if bytes.is_empty() {
                return Ok(None);
            }
            Packed::new("a binding", &bytes).binding(asked.binding.topic).map(Some)
        };
        pairs.map(binding).collect()
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let call = shell.call(&attached, Tag::Registry, &shell.scripts.topics, Vec::new());
        let mut reply = call.await?.next()?;
        let mut topics = Vec::new();
        while !reply.is_empty() {
            let id = reply.next()?.text()?;
            let corrupt = || CoordinatorError::Corrupt(format!("topic id {id:?}"));
            let topic = TopicId::parse(&id).ok_or_else(corrupt)?;
            topics.push(Packed::new("a binding", &reply.next()?.bytes()?).binding(topic)?);
        }
        topics.sort_unstable_by_key(|binding| binding.topic);
        Ok(topics)
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let each = (0..attached.shards).map(|shard| {
            let attached = &attached;
            async move {
                loop {
                    let args = vec![text(topic), text(FORGET_PARTITIONS)];
                    let script = &shell.scripts.delete_topic;
                    let mut reply = shell.call(attached, Tag::Shard(shard), script, args).await?;
                    if reply.next()?.number::<u64>()? == 0 {
                        return Ok(());
                    }
                }
            }
        });
        merge(join_all(each).await)?;
        // Last, because it ends the work: until then a repeat finds the topic and goes on.
        let args = vec![text(topic), topic.0.to_vec()];
        shell.call(&attached, Tag::Registry, &shell.scripts.unregister, args).await?;
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Result<Vec<PartOutcome>, CoordinatorError> {
        let attached = self.attached()?;
        let arguments = |parts: Vec<&Part>| {
            let object = commit.object;
            let mut args = vec![text(object), object.to_bytes().to_vec(), text(commit.sealed_ms)];
            for part in parts {
                args.push(text(part.index));
                args.push(text(part.partition.topic));
                args.push(text(part.partition));
                args.push(encode_part(part));
            }
            args
        };
        let shell = &self.shell;
        let script = &shell.scripts.commit;
        let answer =
            |part: &Part, bytes: &[u8]| Packed::new("an outcome", bytes).outcome(part.index);
        shell.spread(&attached, script, &commit.parts, |p| p.partition, arguments, answer).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Result<Vec<Found>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let arguments =
            |requests: Vec<&FindRequest>| requests.into_iter().flat_map(find_args).collect();
        let answer = |_: &FindRequest, bytes: &[u8]| Packed::new("runs", bytes).found();
        let script = &shell.scripts.find;
        shell.spread(&attached, script, &requests, |r| r.partition, arguments, answer).await
    }

    async fn trim(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Watermarks>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let arguments = |starts: Vec<&(TopicPartition, i64)>| {
            let args = starts.into_iter().map(|(partition, start)| {
                [text(partition), partition_bytes(*partition), text(exact(*start))]
            });
            args.flatten().collect()
        };
        let answer =
            |_: &(TopicPartition, i64), bytes: &[u8]| Packed::new("watermarks", bytes).watermarks();
        let script = &shell.scripts.trim;
        shell.spread(&attached, script, &starts, |s| s.0, arguments, answer).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let tag = Tag::Shard(shard_of(partition, attached.shards));
        let args = vec![text(partition)];
        let mut reply = shell.call(&attached, tag, &shell.scripts.producers, args).await?;
        let clock = reply.next()?.text()?;
        let clock_ms = clock.parse().unwrap_or(i64::MIN);
        let mut pairs = reply.next()?;
        let mut producers = Vec::new();
        while !pairs.is_empty() {
            let id = Packed::new("a producer id", &pairs.next()?.bytes()?).id()?;
            let state = pairs.next()?.bytes()?;
            producers.extend(Packed::new("a producer", &state).producer(id, clock_ms)?);
        }
        producers.sort_unstable_by_key(|producer| producer.id);
        Ok(producers)
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError> {
        follow::follow(Arc::clone(&self.shell), self.attached()?).await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        // Zero ends the lease, so what is shorter than the unit must not become zero.
        let ttl_ms = ttl.min(LEASE_MAX).as_micros().div_ceil(1_000);
        let args = vec![
            text(&member.replica),
            text(ttl_ms),
            encode_member(member),
            self.secret.clone(),
            text(LEASE_MAX.as_millis()),
            text(member.nodes),
            text(member.zone),
        ];
        let mut reply = shell.call(&attached, Tag::Registry, &shell.scripts.renew, args).await?;
        let secret = reply.next()?.bytes()?;
        let corrupt = |_| CoordinatorError::Corrupt("the secret is not 32 bytes".to_owned());
        let secret = secret.try_into().map_err(corrupt)?;
        let members = reply.next()?.rest();
        let member = |reply: Reply| Packed::new("a member", &reply.bytes()?).member();
        let mut members = members.map(member).collect::<Result<Vec<_>, _>>()?;
        members.sort_unstable_by(|a, b| a.replica.cmp(&b.replica));
        let zones = reply.next()?.rest().map(zone_record).collect::<Result<_, _>>()?;
        Ok(Membership { members, zones, secret })
    }
}

fn zone_record(mut reply: Reply) -> Result<ZoneRecord, CoordinatorError> {
    let (name, nodes) = (reply.next()?.text()?, reply.next()?.number()?);
    let last = match reply.next()?.bytes()? {
        none if none.is_empty() => None,
        packed => Some(Packed::new("a member", &packed).member()?),
    };
    Ok(ZoneRecord { name, nodes, last })
}

fn registration_args(registration: &Registration) -> [Vec<u8>; 5] {
    let binding = &registration.binding;
    let kind = match binding.topic_type {
        TopicType::Classic => "c",
        TopicType::Diskless => "d",
        TopicType::Migrating => "s",
    };
    let rule = match registration.rule {
        BindRule::FirstWins => "first",
        BindRule::Migrate => "switch",
    };
    [text(binding.topic), binding.topic.0.to_vec(), text(kind), text(&binding.name), text(rule)]
}

fn find_args(request: &FindRequest) -> [Vec<u8>; 5] {
    let (kind, value) = match request.from {
        FindFrom::Offset(offset) => ("o", text(exact(offset))),
        FindFrom::Timestamp(timestamp) => ("t", sortable(timestamp).to_vec()),
        FindFrom::MaxTimestamp => ("m", Vec::new()),
    };
    let bytes_max = text(request.bytes_max.min(EXACT_MAX));
    [text(request.partition), text(kind), value, bytes_max, text(request.runs_max)]
}

/// No offset is beyond this, so nothing changes by asking for it instead.
fn exact(offset: i64) -> i64 {
    offset.clamp(-1, EXACT_MAX.cast_signed())
}

pub(super) fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}
