//! The batch coordinator in Redis: one Lua script for each transition.
//!
//! Partitions are spread over shards, each in one slot of its own; a commit runs one script for
//! each shard that it touches. `docs/redis-schema.md` has the layout, `keys.rs` every key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::{
    Attachment, BindRule, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindFrom,
    FindRequest, Found, PartOutcome, ProducerSnapshot, Registration, TopicBinding, TopicKind,
    Watermarks,
};
use crate::entropy::Entropy;
use crate::log::ids::{TopicId, TopicPartition};

mod codec;
mod connection;
mod follow;
mod keys;
mod replies;
mod scripts;

use codec::{Packed, encode_part, partition_bytes, sortable};
use connection::Link;
use keys::{Keys, Tag, shard_of};
use replies::Reply;
use scripts::{Script, Scripts};

/// Shards of a cluster that is attached for the first time, unless told otherwise.
pub const SHARDS_DEFAULT: u16 = 4;

/// Partitions that one run of `forget.lua` drops: about a millisecond of the server's time.
const FORGET_PARTITIONS: u32 = 500;

/// Greatest number that a double holds exactly; Lua and sorted sets know no other numbers.
const EXACT_MAX: u64 = 1 << 53;

/// Where the metadata lies, and what is known of it.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis-sentinel://host:port,host:port/master[/db]` or
    /// `redis-cluster://host:port,host:port`.
    pub url: String,
    /// Odradek's own name of the cluster; part of every key.
    pub cluster: String,
    /// Number of shards, if this is the first attach ever; afterwards what was stored counts.
    pub shards: u16,
    /// The generation known from elsewhere: anything else in Redis is
    /// [`CoordinatorError::Lost`]. `None` only when no life of the metadata is known.
    pub generation: Option<String>,
    /// How long one call may take; after that its outcome is unknown.
    pub timeout: Duration,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URL, which may hold a password.
        f.debug_struct("RedisSettings")
            .field("cluster", &self.cluster)
            .field("shards", &self.shards)
            .field("generation", &self.generation)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The batch coordinator in Redis.
///
/// Every verb but [`Coordinator::attach`] answers [`CoordinatorError::Unavailable`] until the
/// first attach succeeded. Verbs over several partitions are atomic for each shard; when only
/// some shards answered, the outcome of the whole is [`CoordinatorError::Unknown`].
#[derive(Debug)]
pub struct RedisCoordinator {
    shell: Arc<Shell>,
    settings: RedisSettings,
    /// The generation to begin with, should there be none.
    proposal: String,
    attached: RwLock<Option<Arc<Attached>>>,
}

/// What followers share with the coordinator.
#[derive(Debug)]
struct Shell {
    link: Link,
    keys: Keys,
    scripts: Scripts,
}

/// What the first attach learned, and the sequences seen since.
#[derive(Debug)]
struct Attached {
    generation: String,
    shards: u16,
    /// The greatest sequence seen of the registry, then of each shard. A Redis in which one is
    /// smaller has lost what was acknowledged.
    seen: Vec<AtomicU64>,
}

impl RedisCoordinator {
    /// A coordinator that connects at the first call.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] when the URL cannot be understood.
    pub fn new(entropy: &Entropy, settings: RedisSettings) -> Result<Self, CoordinatorError> {
        // The client's message may quote the URL, and with it a password.
        let link = Link::new(&settings.url, settings.timeout).map_err(|error| {
            CoordinatorError::Unavailable(format!("invalid Redis URL: {:?}", error.kind()))
        })?;
        let keys = Keys::new(&settings.cluster);
        let shell = Arc::new(Shell { link, keys, scripts: Scripts::new() });
        let proposal = format!("{:016x}", entropy.next_u64());
        Ok(Self { shell, settings, proposal, attached: RwLock::new(None) })
    }

    fn attached(&self) -> Result<Arc<Attached>, CoordinatorError> {
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        let missing = || CoordinatorError::Unavailable("not attached yet".to_owned());
        attached.clone().ok_or_else(missing)
    }

    /// Runs the first attach's second half: marks the shards, or checks that they are marked.
    async fn adopt_shards(
        &self,
        attached: &Attached,
        is_ready: bool,
    ) -> Result<(), CoordinatorError> {
        let shell = &self.shell;
        let generation = &attached.generation;
        let each = (0..attached.shards).map(|shard| async move {
            let tag = Tag::Shard(shard);
            if is_ready {
                return shell.call(attached, tag, &shell.scripts.touch, Vec::new()).await.map(drop);
            }
            let key = shell.keys.meta(tag);
            let args = [generation.clone().into_bytes()];
            let found = shell.link.run(&shell.scripts.adopt, &key, &args).await?;
            if Reply::of(found).text()? == *generation {
                Ok(())
            } else {
                Err(CoordinatorError::Lost(format!("{key} is of another generation")))
            }
        });
        merge(join_all(each).await)?;
        if !is_ready {
            shell.call(attached, Tag::Registry, &shell.scripts.ready, Vec::new()).await?;
        }
        Ok(())
    }
}

impl Shell {
    /// Runs a script that checks generation and sequence; what follows the sequence in its reply.
    async fn call(
        &self,
        attached: &Attached,
        tag: Tag,
        script: &Script,
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, CoordinatorError> {
        let seen = attached.seen(tag);
        let floor = seen.load(Ordering::Acquire);
        let mut all =
            vec![attached.generation.clone().into_bytes(), floor.to_string().into_bytes()];
        all.extend(args);
        let mut reply = Reply::of(self.link.run(script, &self.keys.meta(tag), &all).await?);
        let sequence: u64 = reply.next()?.number()?;
        seen.fetch_max(sequence, Ordering::AcqRel);
        Ok(reply)
    }

    /// Runs a script once for each shard that has items, in parallel; the answers in the order of
    /// the items.
    async fn spread<'a, T, A>(
        &self,
        attached: &Attached,
        script: &Script,
        items: &'a [T],
        partition: impl Fn(&T) -> TopicPartition,
        arguments: impl Fn(Vec<&'a T>) -> Vec<Vec<u8>>,
        answer: impl Fn(&'a T, &[u8]) -> Result<A, CoordinatorError>,
    ) -> Result<Vec<A>, CoordinatorError> {
        let mut by_shard: Vec<Vec<usize>> = vec![Vec::new(); usize::from(attached.shards)];
        for (position, item) in items.iter().enumerate() {
            by_shard[usize::from(shard_of(partition(item), attached.shards))].push(position);
        }
        let calls = (0..).zip(&by_shard).filter(|(_, positions)| !positions.is_empty());
        let calls = calls.map(|(shard, positions)| {
            let args = arguments(positions.iter().map(|p| &items[*p]).collect());
            async move {
                let mut reply = self.call(attached, Tag::Shard(shard), script, args).await?;
                reply.next()?.items(positions.len())
            }
        });
        let replies = merge(join_all(calls).await)?;
        let positions = by_shard.iter().flatten();
        let mut answers: Vec<_> = positions.copied().zip(replies.into_iter().flatten()).collect();
        answers.sort_unstable_by_key(|(position, _)| *position);
        answers
            .into_iter()
            .map(|(position, reply)| answer(&items[position], &reply.bytes()?))
            .collect()
    }
}

impl Attached {
    fn seen(&self, tag: Tag) -> &AtomicU64 {
        match tag {
            Tag::Registry => &self.seen[0],
            Tag::Shard(shard) => &self.seen[1 + usize::from(shard)],
        }
    }

    fn tags(&self) -> impl Iterator<Item = Tag> {
        std::iter::once(Tag::Registry).chain((0..self.shards).map(Tag::Shard))
    }
}

/// All answers, or the error of the whole: certain only if no shard can have done its share.
fn merge<T>(answers: Vec<Result<T, CoordinatorError>>) -> Result<Vec<T>, CoordinatorError> {
    let count = answers.len();
    let (mut done, mut refused, mut unknown) = (Vec::with_capacity(count), None, None);
    for answer in answers {
        match answer {
            Ok(value) => done.push(value),
            Err(CoordinatorError::Unavailable(detail)) => refused = Some(detail),
            Err(CoordinatorError::Unknown(detail)) => unknown = Some(detail),
            Err(error) => return Err(error),
        }
    }
    match (refused, unknown) {
        (None, None) => Ok(done),
        (Some(detail), None) if done.is_empty() => Err(CoordinatorError::Unavailable(detail)),
        (Some(detail), None) | (_, Some(detail)) => Err(CoordinatorError::Unknown(detail)),
    }
}

fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[async_trait]
impl Coordinator for RedisCoordinator {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let shell = &self.shell;
        let known = self.attached().ok();
        let known_generation = known.as_ref().map(|a| a.generation.clone());
        let expected = known_generation.or_else(|| self.settings.generation.clone());
        let args = [
            self.proposal.clone().into_bytes(),
            expected.unwrap_or_default().into_bytes(),
            text(cluster_id),
            text(zone),
            text(self.settings.shards.max(1)),
        ];
        let key = shell.keys.meta(Tag::Registry);
        let mut reply = Reply::of(shell.link.run(&shell.scripts.attach, &key, &args).await?);
        if reply.next()?.text()? != "ok" {
            let bound = reply.next()?.text()?;
            return Err(CoordinatorError::OtherCluster { bound, asked: cluster_id.to_owned() });
        }
        let generation = reply.next()?.text()?;
        let shards: u16 = reply.next()?.number()?;
        let is_ready = reply.next()?.text()? == "1";
        let zone_index = reply.next()?.number()?;
        let zones = reply.rest().map(Reply::text).collect::<Result<_, _>>()?;
        let fresh = || {
            let seen = (0..=shards).map(|_| AtomicU64::new(0)).collect();
            Arc::new(Attached { generation: generation.clone(), shards, seen })
        };
        let attached = known.unwrap_or_else(fresh);
        self.adopt_shards(&attached, is_ready).await?;
        let mut current = self.attached.write().unwrap_or_else(PoisonError::into_inner);
        // The first one stays: it remembers the sequences.
        current.get_or_insert(attached);
        Ok(Attachment { zone_index, zones, generation })
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<TopicBinding>, CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let mut revived = "0";
        loop {
            let mut args = vec![text(revived)];
            args.extend(registrations.iter().flat_map(registration_args));
            let call = shell.call(&attached, Tag::Registry, &shell.scripts.register, args);
            let mut reply = call.await?;
            if reply.next()?.text()? == "bound" {
                let bound = reply.next()?.items(registrations.len())?;
                let pairs = registrations.iter().zip(bound);
                let binding = |(asked, bound): (&Registration, Reply)| {
                    Packed::new("a binding", &bound.bytes()?).binding(asked.binding.topic)
                };
                return pairs.map(binding).collect();
            }
            // The shards first: a topic that is bound must not be refused by any of them.
            let gone = reply.next()?.rest().map(Reply::bytes).collect::<Result<Vec<_>, _>>()?;
            let each = (0..attached.shards).map(|shard| {
                shell.call(&attached, Tag::Shard(shard), &shell.scripts.revive, gone.clone())
            });
            merge(join_all(each).await)?;
            revived = "1";
        }
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

    async fn forget(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let each = (0..attached.shards).map(|shard| {
            let attached = &attached;
            async move {
                loop {
                    let args = vec![text(topic), text(FORGET_PARTITIONS)];
                    let script = &shell.scripts.forget;
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
        let arguments = |parts: Vec<&crate::log::batch::Part>| {
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
        let answer = |part: &crate::log::batch::Part, bytes: &[u8]| {
            Packed::new("an outcome", bytes).outcome(part.index)
        };
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

    async fn follow(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError> {
        follow::follow(Arc::clone(&self.shell), self.attached()?).await
    }
}

fn registration_args(registration: &Registration) -> [Vec<u8>; 5] {
    let binding = &registration.binding;
    let kind = match binding.kind {
        TopicKind::Classic => "c",
        TopicKind::Diskless => "d",
    };
    let rule = match registration.rule {
        BindRule::FirstWins => "first",
        BindRule::Switch => "switch",
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
