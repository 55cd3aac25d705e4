//! The adapter, and how it attaches to its metadata.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::{Mutex, RwLock};

use super::client::RedisClient;
use super::codec::argument;
use super::keys::{HashTag, KEYS_VERSION, Keys};
use super::reply::ScriptReply;
use super::scripts::Scripts;
use super::settings::RedisSettings;
use super::shards::{Attached, ShardClient, merge_results};
use crate::coordinator::{Attachment, CoordinatorError};
use crate::entropy::Entropy;

/// The batch coordinator in Redis.
///
/// Every operation but [`Coordinator::attach`] fails with [`CoordinatorError::Unavailable`] until
/// the first attach succeeded. Operations over several partitions are atomic for each shard.
///
/// [`Coordinator::attach`]: crate::coordinator::Coordinator::attach
pub struct RedisCoordinator {
    pub(super) shards: Arc<ShardClient>,
    settings: RedisSettings,
    /// The metadata id of new metadata.
    proposed_metadata_id: String,
    /// The secret of the replicas of new metadata.
    pub(super) proposed_secret: Vec<u8>,
    attached: RwLock<Option<Arc<Attached>>>,
    /// The errors of other members' records at the last renewal.
    unreadable_members: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for RedisCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secret.
        f.debug_struct("RedisCoordinator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RedisCoordinator {
    /// Returns a coordinator that connects at the first call. Must be called inside a Tokio
    /// runtime; `rediss://` needs an installed rustls provider.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] when the URL is invalid.
    pub fn new(entropy: &Entropy, settings: RedisSettings) -> Result<Self, CoordinatorError> {
        // The client's message may quote the URL, which may contain a password.
        let invalid = |error: redis::RedisError| {
            CoordinatorError::Unavailable(format!("invalid Redis URL: {:?}", error.kind()))
        };
        let keys = Keys::new(&settings.cluster);
        let client =
            RedisClient::new(&settings.url, keys.clone(), settings.timeout, settings.replicas)
                .map_err(invalid)?;
        let shards = Arc::new(ShardClient {
            client,
            keys,
            scripts: Scripts::new(),
            replica: settings.replica.clone(),
            may_verify: settings.may_verify,
            lease: settings.lease,
            position_store: settings.position_store.clone(),
            clock: settings.clock.clone(),
        });
        Ok(Self {
            shards,
            settings,
            proposed_metadata_id: format!("{:016x}", entropy.next_u64()),
            proposed_secret: entropy.secret().to_vec(),
            attached: RwLock::new(None),
            unreadable_members: Mutex::default(),
        })
    }

    /// Returns the stored number of shards; `None` before the first attach.
    pub fn shards(&self) -> Option<u16> {
        self.attached().ok().map(|attached| attached.shards)
    }

    pub(super) fn attached(&self) -> Result<Arc<Attached>, CoordinatorError> {
        let missing = || CoordinatorError::Unavailable("not attached yet".to_owned());
        self.attached.read().clone().ok_or_else(missing)
    }

    /// Logs the members whose records cannot be read when they change.
    pub(super) fn note_unreadable_members(&self, problems: BTreeSet<String>) {
        let mut last = self.unreadable_members.lock();
        if *last != problems {
            if !problems.is_empty() {
                tracing::warn!(?problems, "replicas whose records cannot be read are not counted");
            }
            *last = problems;
        }
    }

    /// Implements [`Coordinator::attach`](crate::coordinator::Coordinator::attach).
    pub(super) async fn attach_to(
        &self,
        cluster_id: &str,
        zone: &str,
    ) -> Result<Attachment, CoordinatorError> {
        let current = self.attached().ok();
        let current_id = current.as_ref().map(|attached| attached.metadata_id.clone());
        let expected_id = current_id.or_else(|| self.settings.metadata_id.clone());
        let mut reply = self.run_attach(cluster_id, zone, expected_id.clone()).await?;
        let mut result = reply.next()?.text()?;
        let mut current = current;
        // The zone is new, and an unverified Redis may have lost the indexes that it assigned.
        if result == "unverified" {
            let attached = Attached::new(reply.next()?.text()?, reply.next()?.number()?);
            let attached = current.unwrap_or_else(|| Arc::new(attached));
            self.shards.verify(&attached, HashTag::Registry).await?;
            reply = self.run_attach(cluster_id, zone, expected_id).await?;
            result = reply.next()?.text()?;
            current = Some(attached);
        }
        match result.as_str() {
            "ok" => {}
            "other_cluster" => {
                let (bound, requested) = (reply.next()?.text()?, cluster_id.to_owned());
                return Err(CoordinatorError::OtherCluster { bound, requested });
            }
            _ => {
                let detail = "the replication id of Redis changed again after its verification";
                return Err(CoordinatorError::Unavailable(detail.to_owned()));
            }
        }
        let metadata_id = reply.next()?.text()?;
        let shards: u16 = reply.next()?.number()?;
        let is_ready = reply.next()?.text()? == "1";
        let zone_index = reply.next()?.number()?;
        let zones = reply.rest().map(ScriptReply::text).collect::<Result<_, _>>()?;
        let new = || Arc::new(Attached::new(metadata_id.clone(), shards));
        let attached = current.unwrap_or_else(new);
        if !is_ready {
            self.mark_shards(&attached).await?;
        }
        self.check_shards(&attached).await?;
        // The first one stays: it has the observed positions.
        self.attached.write().get_or_insert(attached);
        Ok(Attachment { zone_index, zones, metadata_id })
    }

    async fn run_attach(
        &self,
        cluster_id: &str,
        zone: &str,
        expected_id: Option<String>,
    ) -> Result<ScriptReply, CoordinatorError> {
        let args = vec![
            self.proposed_metadata_id.clone().into_bytes(),
            expected_id.unwrap_or_default().into_bytes(),
            argument(cluster_id),
            argument(zone),
            argument(self.settings.shards.max(1)),
            argument(KEYS_VERSION),
        ];
        let shards = &self.shards;
        let attach = &shards.scripts.attach;
        Ok(ScriptReply::new(shards.client.run(attach, HashTag::Registry, args).await?))
    }

    /// Checks the registry and every shard, and so observes their positions. The registry and one
    /// shard suffice: the calls to a shard that is away or lost fail by themselves.
    async fn check_shards(&self, attached: &Attached) -> Result<(), CoordinatorError> {
        let shards = &self.shards;
        let check = &shards.scripts.check;
        let calls = attached.hash_tags();
        let calls = calls.map(|hash_tag| shards.call(attached, hash_tag, check, Vec::new()));
        let mut results = join_all(calls).await;
        let failures: Vec<_> = results.split_off(1).into_iter().filter_map(Result::err).collect();
        merge_results(results)?;
        for error in &failures {
            tracing::warn!(%error, "attached, and a shard cannot be used");
        }
        if failures.len() < usize::from(attached.shards) {
            return Ok(());
        }
        merge_results::<()>(failures.into_iter().map(Err).collect()).map(drop)
    }

    /// Writes the metadata id into every shard of new metadata, which needs all of them.
    async fn mark_shards(&self, attached: &Attached) -> Result<(), CoordinatorError> {
        let shards = &self.shards;
        let metadata_id = &attached.metadata_id;
        let calls = (0..attached.shards).map(|shard| async move {
            let hash_tag = HashTag::Shard(shard);
            let args = vec![metadata_id.clone().into_bytes(), argument(KEYS_VERSION)];
            let found = shards.client.run(&shards.scripts.mark_shard, hash_tag, args).await?;
            if ScriptReply::new(found).text()? == *metadata_id {
                Ok(())
            } else {
                let detail = format!("{} has another metadata id", shards.keys.meta(hash_tag));
                Err(CoordinatorError::MetadataLost(detail))
            }
        });
        merge_results(join_all(calls).await)?;
        let set_ready = &shards.scripts.set_ready;
        shards.call(attached, HashTag::Registry, set_ready, Vec::new()).await?;
        Ok(())
    }
}
