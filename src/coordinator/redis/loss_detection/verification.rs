//! Verification: reports the observed positions of this replica, and waits until the other
//! replicas reported theirs (`verify.lua`).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::keys::HashTag;
use super::super::reply::ScriptReply;
use super::super::shards::{Attached, ShardClient, merge_results};
use super::observed_position::{ObservedPosition, ObservedPositions};
use crate::coordinator::CoordinatorError;

/// The time that one call waits for the reports of other replicas. A later call continues the wait.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// The delay between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The reply of `verify.lua` for one shard.
struct VerifyReply {
    is_verified: bool,
    /// The replicas whose reports are needed.
    expected: Vec<String>,
    /// Those of them that did not report yet.
    missing: Vec<String>,
}

impl ShardClient {
    /// Reports to every shard what this replica, and all earlier ones, observed, and waits until
    /// each shard is verified.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] while reports of other replicas are missing, or while the
    /// stored positions cannot be read; [`CoordinatorError::MetadataLost`] when a shard lacks an
    /// observed position.
    pub(in crate::coordinator::redis) async fn verify(
        &self,
        attached: &Attached,
    ) -> Result<(), CoordinatorError> {
        let before = attached.verifications.load(Ordering::Acquire);
        let _one_at_a_time = attached.verifying.lock().await;
        if attached.verifications.load(Ordering::Acquire) != before {
            // Another task completed it while this one waited for the lock.
            return Ok(());
        }
        let positions = self.all_positions(attached).await?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let missing = self.report_to_all(attached, &positions).await?;
            if missing.is_empty() {
                attached.verifications.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CoordinatorError::Unavailable(format!(
                    "Redis has a new replication id and is being verified: waiting for the \
                     observed positions of {missing:?}"
                )));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Saves the positions of this replica, so that others find them if it ends now, and returns
    /// those of all replicas.
    async fn all_positions(
        &self,
        attached: &Attached,
    ) -> Result<Vec<ObservedPositions>, CoordinatorError> {
        let own = attached.positions();
        let mut all = vec![own.clone()];
        if let Some(store) = &self.position_store {
            let failed =
                |detail| CoordinatorError::Unavailable(format!("observed positions: {detail}"));
            if own.positions.iter().any(Option::is_some) {
                store.save(&own).await.map_err(failed)?;
            }
            let stored = store.load_all().await.map_err(failed)?;
            all.extend(stored.into_iter().filter(|stored| stored.metadata_id == own.metadata_id));
        }
        Ok(all)
    }

    /// Reports once to the registry and to every shard; returns the replicas whose reports are
    /// missing.
    async fn report_to_all(
        &self,
        attached: &Attached,
        positions: &[ObservedPositions],
    ) -> Result<BTreeSet<String>, CoordinatorError> {
        // Only the registry knows the members.
        let registry = self.report_to(attached, HashTag::Registry, positions, &[]).await?;
        let shards = (0..attached.shards).map(|shard| {
            self.report_to(attached, HashTag::Shard(shard), positions, &registry.expected)
        });
        let mut replies = merge_results(join_all(shards).await)?;
        replies.push(registry);
        let unverified = replies.into_iter().filter(|reply| !reply.is_verified);
        Ok(unverified.flat_map(|reply| reply.missing).collect())
    }

    async fn report_to(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
        all: &[ObservedPositions],
        members: &[String],
    ) -> Result<VerifyReply, CoordinatorError> {
        let tracker = attached.tracker(hash_tag);
        let (verified_id, _) = tracker.current();
        let index = Attached::index(hash_tag);
        let positions = all.iter().filter_map(|of| of.positions.get(index)?.as_ref());
        let positions: BTreeSet<(&str, u64)> = positions
            .map(|ObservedPosition { replication_id, sequence }| {
                (replication_id.as_str(), *sequence)
            })
            .collect();
        let mut args = vec![
            attached.metadata_id.clone().into_bytes(),
            verified_id.into_bytes(),
            self.replica.clone().into_bytes(),
            u8::from(self.may_verify).to_string().into_bytes(),
            self.lease.as_millis().to_string().into_bytes(),
            positions.len().to_string().into_bytes(),
        ];
        for (replication_id, sequence) in positions {
            args.push(replication_id.to_owned().into_bytes());
            args.push(sequence.to_string().into_bytes());
        }
        args.extend(members.iter().map(|name| name.clone().into_bytes()));
        let key = self.keys.meta(hash_tag);
        let reply = self.client.run(&self.scripts.verify, &key, &args).await?;
        let mut reply = ScriptReply::new(reply);
        let is_verified = reply.next()?.text()? == "verified";
        let replication_id = reply.next()?.text()?;
        let (start_sequence, sequence) = (reply.next()?.number()?, reply.next()?.number()?);
        let expected = reply.next()?.rest().map(ScriptReply::text).collect::<Result<_, _>>()?;
        let missing: Vec<_> =
            reply.next()?.rest().map(ScriptReply::text).collect::<Result<_, _>>()?;
        if is_verified {
            if !missing.is_empty() {
                tracing::warn!(
                    ?hash_tag,
                    ?missing,
                    "verified without the observed positions of replicas that did not report"
                );
            }
            tracker.set_verified(replication_id, start_sequence, sequence);
        }
        Ok(VerifyReply { is_verified, expected, missing })
    }
}
