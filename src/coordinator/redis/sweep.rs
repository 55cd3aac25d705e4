//! Deletes the expired producers of all partitions, also of those that are no longer written.

use super::codec::argument;
use super::coordinator::RedisCoordinator;
use super::keys::HashTag;
use crate::coordinator::CoordinatorError;

/// The position of a sweep over all partitions; the default is its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepPosition {
    shard: u16,
    /// Cursors over the shard's partitions and over one partition's producers; empty at the start.
    partitions: String,
    producers: String,
    /// The partition of the second cursor.
    partition: String,
}

impl RedisCoordinator {
    /// Deletes some expired producers, with one call that takes Redis about a millisecond; returns
    /// their number. `position` is advanced, and is the default again after the last partition.
    /// Deleting them has no visible effect but their memory.
    ///
    /// # Errors
    /// Those of the call; `position` is advanced to the next shard.
    pub async fn sweep_producers(
        &self,
        position: &mut SweepPosition,
    ) -> Result<u64, CoordinatorError> {
        let attached = self.attached()?;
        let cursor = |text: &str| argument(if text.is_empty() { "0" } else { text });
        let args = vec![
            cursor(&position.partitions),
            cursor(&position.producers),
            argument(&position.partition),
        ];
        let shards = &self.shards;
        let hash_tag = HashTag::Shard(position.shard.min(attached.shards - 1));
        let shard = position.shard;
        *position = match shard + 1 < attached.shards {
            true => SweepPosition { shard: shard + 1, ..SweepPosition::default() },
            false => SweepPosition::default(),
        };
        let mut reply = shards.call(&attached, hash_tag, &shards.scripts.sweep, args).await?;
        let (partitions, producers) = (reply.next()?.text()?, reply.next()?.text()?);
        let (partition, removed) = (reply.next()?.text()?, reply.next()?.number()?);
        if (partitions.as_str(), producers.as_str()) != ("0", "0") {
            *position = SweepPosition { shard, partitions, producers, partition };
        }
        Ok(removed)
    }
}
