//! Verification of one shard: reports the observed positions of this replica, and waits until the
//! other replicas reported theirs (`verify.lua`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::keys::HashTag;
use super::super::reply::ScriptReply;
use super::super::shards::{Attached, ShardClient};
use super::monitor::identifies_history;
use super::observed_position::{ObservedPosition, ObservedPositions, StoredPositions};
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
    /// Reports to a shard what this replica, and all earlier ones, observed of it, and waits until
    /// it is verified. Shards are verified one by one, so that one that is away holds up no other.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] while reports of other replicas are missing, or while the
    /// stored positions cannot be read; [`CoordinatorError::MetadataLost`] when the shard lacks an
    /// observed position.
    pub(in crate::coordinator::redis) async fn verify(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
    ) -> Result<(), CoordinatorError> {
        let since = Instant::now();
        let verification = attached.verification(hash_tag);
        let before = verification.completed.load(Ordering::Acquire);
        let _one_at_a_time = verification.running.lock().await;
        if verification.completed.load(Ordering::Acquire) != before {
            // Another task completed it while this one waited for the lock.
            return Ok(());
        }
        let mut positions = vec![attached.positions()];
        positions.extend(self.stored_positions(attached, since).await?.iter().cloned());
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reply = self.report(attached, hash_tag, &positions).await?;
            if reply.is_verified {
                verification.completed.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CoordinatorError::Unavailable(format!(
                    "Redis has a new replication id and {hash_tag:?} is being verified: waiting \
                     for the observed positions of {:?}",
                    reply.missing
                )));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Saves the positions of this replica, so that others find them if it ends now, and returns
    /// those of all replicas. Verifications of several shards share what was read after `since`,
    /// when the caller learned of the new replication id.
    async fn stored_positions(
        &self,
        attached: &Attached,
        since: Instant,
    ) -> Result<Arc<Vec<ObservedPositions>>, CoordinatorError> {
        let Some(store) = &self.position_store else { return Ok(Arc::default()) };
        let mut last = attached.stored_positions.lock().await;
        if let Some(stored) = &*last
            && stored.since >= since
        {
            return Ok(Arc::clone(&stored.all));
        }
        let failed =
            |detail| CoordinatorError::Unavailable(format!("observed positions: {detail}"));
        attached.inherit_positions(&**store).await.map_err(failed)?;
        let (since, own) = (Instant::now(), attached.positions());
        if own.positions.iter().any(Option::is_some) {
            store.save(&own).await.map_err(failed)?;
        }
        let mut all = store.load_all().await.map_err(failed)?;
        all.retain(|stored| stored.metadata_id == own.metadata_id);
        let all = Arc::new(all);
        *last = Some(StoredPositions { since, all: Arc::clone(&all) });
        Ok(all)
    }

    /// Reports once to a shard, and before it to the registry, which alone knows the members.
    async fn report(
        &self,
        attached: &Attached,
        hash_tag: HashTag,
        positions: &[ObservedPositions],
    ) -> Result<VerifyReply, CoordinatorError> {
        let registry = self.report_to(attached, HashTag::Registry, positions, &[]).await?;
        if hash_tag == HashTag::Registry {
            return Ok(registry);
        }
        self.report_to(attached, hash_tag, positions, &registry.expected).await
    }

    /// Stores that this process makes changes under another replication id from now on, where a
    /// later one finds that out although it may not find the changes.
    async fn begin_history(
        &self,
        index: usize,
        verified_id: &str,
        replication_id: &str,
    ) -> Result<(), CoordinatorError> {
        let Some(store) = self.position_store.as_ref().filter(|_| verified_id != replication_id)
        else {
            return Ok(());
        };
        let named = if identifies_history(replication_id) { replication_id } else { "" };
        let begun = store.begin_history(index, named).await;
        begun.map_err(|detail| CoordinatorError::Unavailable(format!("a new history: {detail}")))
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
        let positions = all.iter().flat_map(|of| [&of.positions, &of.unrecoverable]);
        let positions = positions.filter_map(|positions| positions.get(index)?.as_ref());
        let positions: BTreeSet<(&str, u64)> = positions
            .map(|ObservedPosition { replication_id, sequence }| {
                (replication_id.as_str(), *sequence)
            })
            .collect();
        let newest = positions.iter().max_by_key(|(_, sequence)| *sequence);
        let newest = newest.map(|(replication_id, sequence)| ObservedPosition {
            replication_id: (*replication_id).to_owned(),
            sequence: *sequence,
        });
        let mut args = vec![
            attached.metadata_id.clone().into_bytes(),
            verified_id.clone().into_bytes(),
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
        let reply = self.client.run(&self.scripts.verify, hash_tag, args).await?;
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
            let (earlier_id, sequence_of_it) = (reply.next()?.text()?, reply.next()?.number()?);
            let earlier = ObservedPosition { replication_id: earlier_id, sequence: sequence_of_it };
            // The shard has the reported positions too: it was verified against them.
            let earlier = if earlier.replication_id.is_empty() { newest } else { Some(earlier) };
            self.begin_history(index, &verified_id, &replication_id).await?;
            tracker.set_verified(replication_id, start_sequence, sequence, earlier);
        }
        Ok(VerifyReply { is_verified, expected, missing })
    }
}
