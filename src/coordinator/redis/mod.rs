//! The batch coordinator in Redis: one Lua script for each transition.
//!
//! Partitions are spread over shards, each in one slot of its own; a commit runs one script for
//! each shard that it touches. `docs/redis-schema.md` has the layout, `keys.rs` every key.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::RwLock;

use super::CoordinatorError;
use crate::entropy::Entropy;
use crate::log::ids::TopicPartition;

mod codec;
mod connection;
pub mod diagnostics;
pub mod floors;
mod follow;
mod keys;
mod replies;
mod scripts;
mod settle;
mod verbs;
mod watching;

use connection::Link;
use floors::{ObservedPositionStore, ObservedPositions, Seen};
use keys::{Keys, Tag, shard_of};
use replies::Reply;
use scripts::{Script, Scripts};

/// Shards of a cluster that is attached for the first time, unless told otherwise.
pub const SHARDS_DEFAULT: u16 = 4;

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
    /// [`CoordinatorError::MetadataLost`]. `None` only when no life of the metadata is known.
    pub metadata_id: Option<String>,
    /// How long one call may take; after that its outcome is unknown.
    pub timeout: Duration,
    /// The name by which the members know this replica.
    pub replica: String,
    /// Whether its word settles a life of Redis. Not of one that cannot read what others kept: it
    /// waits until somebody else has settled it.
    pub may_verify: bool,
    /// How long a Redis that began anew waits for replicas that were alive before, to hear what
    /// they have seen of it.
    pub lease: Duration,
    /// Replicas of Redis that must have a change before it counts as made; without enough of
    /// them its outcome is unknown.
    pub replicas: u8,
    /// Where replicas keep what they have seen; `None`: only as long as they live.
    pub floors: Option<Arc<dyn ObservedPositionStore>>,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URL, which may hold a password.
        f.debug_struct("RedisSettings")
            .field("cluster", &self.cluster)
            .field("shards", &self.shards)
            .field("generation", &self.metadata_id)
            .field("timeout", &self.timeout)
            .field("replica", &self.replica)
            .field("settles", &self.may_verify)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// The batch coordinator in Redis.
///
/// Every verb but [`Coordinator::attach`] answers [`CoordinatorError::Unavailable`] until the
/// first attach succeeded. Verbs over several partitions are atomic for each shard; when only
/// some shards answered, the outcome of the whole is [`CoordinatorError::Unknown`].
pub struct RedisCoordinator {
    shell: Arc<Shell>,
    settings: RedisSettings,
    /// The generation to begin with, should there be none.
    proposal: String,
    /// The secret of the replicas, should there be none.
    secret: Vec<u8>,
    attached: RwLock<Option<Arc<Attached>>>,
}

impl std::fmt::Debug for RedisCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secret.
        f.debug_struct("RedisCoordinator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What followers share with the coordinator.
#[derive(Debug)]
struct Shell {
    link: Link,
    keys: Keys,
    scripts: Scripts,
    replica: String,
    may_verify: bool,
    lease: Duration,
    floors: Option<Arc<dyn ObservedPositionStore>>,
}

/// What the first attach learned, and the sequences seen since.
#[derive(Debug)]
struct Attached {
    metadata_id: String,
    shards: u16,
    /// What was seen of the registry, then of each shard. A Redis that has less has lost what was
    /// acknowledged.
    seen: Vec<Seen>,
    /// How often every shard was settled.
    verifications: AtomicU64,
    settling: tokio::sync::Mutex<()>,
    /// What was kept of it last, and when to keep more.
    kept: tokio::sync::Mutex<watching::Kept>,
}

impl RedisCoordinator {
    /// A coordinator that connects at the first call. Must be made inside a Tokio runtime; for
    /// `rediss://` a rustls provider must be installed.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] when the URL cannot be understood.
    pub fn new(entropy: &Entropy, settings: RedisSettings) -> Result<Self, CoordinatorError> {
        // The client's message may quote the URL, and with it a password.
        let link =
            Link::new(&settings.url, settings.timeout, settings.replicas).map_err(|error| {
                CoordinatorError::Unavailable(format!("invalid Redis URL: {:?}", error.kind()))
            })?;
        let keys = Keys::new(&settings.cluster);
        let shell = Arc::new(Shell {
            link,
            keys,
            scripts: Scripts::new(),
            replica: settings.replica.clone(),
            may_verify: settings.may_verify,
            lease: settings.lease,
            floors: settings.floors.clone(),
        });
        let proposal = format!("{:016x}", entropy.next_u64());
        let secret = entropy.secret().to_vec();
        Ok(Self { shell, settings, proposal, secret, attached: RwLock::new(None) })
    }

    fn attached(&self) -> Result<Arc<Attached>, CoordinatorError> {
        let attached = self.attached.read();
        let missing = || CoordinatorError::Unavailable("not attached yet".to_owned());
        attached.clone().ok_or_else(missing)
    }

    async fn ask_to_attach(
        &self,
        cluster_id: &str,
        zone: &str,
        expected: Option<String>,
    ) -> Result<Reply, CoordinatorError> {
        let args = [
            self.proposal.clone().into_bytes(),
            expected.unwrap_or_default().into_bytes(),
            verbs::text(cluster_id),
            verbs::text(zone),
            verbs::text(self.settings.shards.max(1)),
        ];
        let shell = &self.shell;
        let key = shell.keys.meta(Tag::Registry);
        Ok(Reply::of(shell.link.run(&shell.scripts.attach, &key, &args).await?))
    }

    /// Runs the first attach's second half: marks the shards, or checks that they are marked.
    async fn adopt_shards(
        &self,
        attached: &Attached,
        is_ready: bool,
    ) -> Result<(), CoordinatorError> {
        let shell = &self.shell;
        let metadata_id = &attached.metadata_id;
        let each = (0..attached.shards).map(|shard| async move {
            let tag = Tag::Shard(shard);
            if is_ready {
                return shell.call(attached, tag, &shell.scripts.touch, Vec::new()).await.map(drop);
            }
            let key = shell.keys.meta(tag);
            let args = [metadata_id.clone().into_bytes()];
            let found = shell.link.run(&shell.scripts.adopt, &key, &args).await?;
            if Reply::of(found).text()? == *metadata_id {
                Ok(())
            } else {
                Err(CoordinatorError::MetadataLost(format!("{key} is of another generation")))
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
    /// Runs a script that checks generation, life and sequence; what follows the sequence in its
    /// reply. A Redis that began to live anew is settled first.
    async fn call(
        &self,
        attached: &Attached,
        tag: Tag,
        script: &Script,
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, CoordinatorError> {
        if let Some(reply) = self.call_settled(attached, tag, script, &args).await? {
            return Ok(reply);
        }
        self.settle(attached).await?;
        let unsettled = || CoordinatorError::Unavailable("Redis began anew once more".to_owned());
        self.call_settled(attached, tag, script, &args).await?.ok_or_else(unsettled)
    }

    /// As [`Shell::call`]; `None` when it did not run, because Redis began to live anew.
    async fn call_settled(
        &self,
        attached: &Attached,
        tag: Tag,
        script: &Script,
        args: &[Vec<u8>],
    ) -> Result<Option<Reply>, CoordinatorError> {
        let seen = attached.seen(tag);
        let (replication_id, sequence) = seen.known();
        let proof = u8::from(self.link.proves(script));
        let known = format!("{sequence} {replication_id} {proof}");
        let mut all = vec![attached.metadata_id.clone().into_bytes(), known.into_bytes()];
        all.extend_from_slice(args);
        let mut reply = Reply::of(self.link.run(script, &self.keys.meta(tag), &all).await?);
        let first = reply.next()?.text()?;
        if first == "unsettled" {
            return Ok(None);
        }
        // What is not known to be on enough replicas of Redis may be lost without harm.
        if !self.link.waits() || self.link.proves(script) {
            seen.raise(&replication_id, Reply::parse(&first)?);
        }
        Ok(Some(reply))
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
    fn new(metadata_id: String, shards: u16) -> Self {
        Self {
            metadata_id,
            shards,
            seen: (0..=shards).map(|_| Seen::default()).collect(),
            verifications: AtomicU64::new(0),
            settling: tokio::sync::Mutex::default(),
            kept: tokio::sync::Mutex::default(),
        }
    }

    /// The place of a tag among all: the registry, then each shard.
    fn index(tag: Tag) -> usize {
        match tag {
            Tag::Registry => 0,
            Tag::Shard(shard) => 1 + usize::from(shard),
        }
    }

    fn seen(&self, tag: Tag) -> &Seen {
        &self.seen[Self::index(tag)]
    }

    fn floors(&self) -> ObservedPositions {
        let tags = self.seen.iter().map(Seen::floor).collect();
        ObservedPositions { metadata_id: self.metadata_id.clone(), tags }
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
