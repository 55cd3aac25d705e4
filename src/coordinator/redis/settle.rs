//! Settling: before a Redis that began to live anew is believed, everyone tells what he has seen
//! of it (ADR 0014, `scripts/settle.lua`).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::floors::{ObservedPosition, ObservedPositions};
use super::keys::Tag;
use super::replies::Reply;
use super::{Attached, Shell, merge};
use crate::coordinator::CoordinatorError;

/// How long one call waits for the others to tell what they have seen; whoever asks again goes on
/// waiting.
const WITHIN: Duration = Duration::from_millis(1_500);
/// Between two looks whether they have.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of a shard.
struct Told {
    is_settled: bool,
    expected: Vec<String>,
    missing: Vec<String>,
}

impl Shell {
    /// Tells every shard what this replica and all before it have seen, and waits until each is
    /// settled.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] while others are waited for, or while the floors cannot
    /// be read; [`CoordinatorError::MetadataLost`] when something that was seen is missing.
    pub(super) async fn settle(&self, attached: &Attached) -> Result<(), CoordinatorError> {
        let before = attached.verifications.load(Ordering::Acquire);
        let _one_at_a_time = attached.settling.lock().await;
        if attached.verifications.load(Ordering::Acquire) != before {
            // Somebody did it while we waited for our turn.
            return Ok(());
        }
        let floors = self.all_floors(attached).await?;
        let deadline = Instant::now() + WITHIN;
        loop {
            let missing = self.tell(attached, &floors).await?;
            if missing.is_empty() {
                attached.verifications.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CoordinatorError::Unavailable(format!(
                    "Redis began anew; what it forgot is known once {missing:?} told what they saw"
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Keeps our own floors, so that others see them should we die now, and reads everyone's.
    async fn all_floors(
        &self,
        attached: &Attached,
    ) -> Result<Vec<ObservedPositions>, CoordinatorError> {
        let own = attached.floors();
        let mut all = vec![own.clone()];
        if let Some(store) = &self.floors {
            let failed = |detail| CoordinatorError::Unavailable(format!("floors: {detail}"));
            if own.tags.iter().any(Option::is_some) {
                store.keep(&own).await.map_err(failed)?;
            }
            let kept = store.all().await.map_err(failed)?;
            all.extend(kept.into_iter().filter(|kept| kept.metadata_id == own.metadata_id));
        }
        Ok(all)
    }

    /// One round over registry and shards; the names of those that are waited for.
    async fn tell(
        &self,
        attached: &Attached,
        floors: &[ObservedPositions],
    ) -> Result<BTreeSet<String>, CoordinatorError> {
        // The registry knows who was there.
        let registry = self.tell_one(attached, Tag::Registry, floors, &[]).await?;
        let shards = (0..attached.shards)
            .map(|shard| self.tell_one(attached, Tag::Shard(shard), floors, &registry.expected));
        let mut told = merge(join_all(shards).await)?;
        told.push(registry);
        let unsettled = told.into_iter().filter(|told| !told.is_settled);
        Ok(unsettled.flat_map(|told| told.missing).collect())
    }

    async fn tell_one(
        &self,
        attached: &Attached,
        tag: Tag,
        floors: &[ObservedPositions],
        alive: &[String],
    ) -> Result<Told, CoordinatorError> {
        let seen = attached.seen(tag);
        let (replication_id, _) = seen.known();
        let of_tag = floors.iter().filter_map(|all| all.tags.get(Attached::index(tag))?.as_ref());
        let of_tag: BTreeSet<(&str, u64)> = of_tag
            .map(|ObservedPosition { replication_id, sequence }| {
                (replication_id.as_str(), *sequence)
            })
            .collect();
        let mut args = vec![
            attached.metadata_id.clone().into_bytes(),
            replication_id.into_bytes(),
            self.replica.clone().into_bytes(),
            u8::from(self.may_verify).to_string().into_bytes(),
            self.lease.as_millis().to_string().into_bytes(),
            of_tag.len().to_string().into_bytes(),
        ];
        for (replication_id, sequence) in of_tag {
            args.push(replication_id.to_owned().into_bytes());
            args.push(sequence.to_string().into_bytes());
        }
        args.extend(alive.iter().map(|name| name.clone().into_bytes()));
        let key = self.keys.meta(tag);
        let mut reply = Reply::of(self.link.run(&self.scripts.settle, &key, &args).await?);
        let is_settled = reply.next()?.text()? == "settled";
        let replication_id = reply.next()?.text()?;
        let (base, sequence) = (reply.next()?.number()?, reply.next()?.number()?);
        let expected = reply.next()?.rest().map(Reply::text).collect::<Result<_, _>>()?;
        let missing: Vec<_> = reply.next()?.rest().map(Reply::text).collect::<Result<_, _>>()?;
        if is_settled {
            if !missing.is_empty() {
                tracing::warn!(?tag, ?missing, "settled without replicas that were there");
            }
            seen.settled(replication_id, base, sequence);
        }
        Ok(Told { is_settled, expected, missing })
    }
}
