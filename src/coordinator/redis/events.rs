//! Subscriptions to the event streams of the registry and of every shard.

use std::sync::Arc;

use redis::streams::{StreamId, StreamReadReply};
use redis::{ErrorKind, FromRedisValue as _, RedisError, RedisResult, Value};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::client::{BLOCK_MS, DedicatedConnection};
use super::codec::PackedReader;
use super::keys::HashTag;
use super::shards::{Attached, ShardClient};
use crate::coordinator::{CoordinatorError, CoordinatorEvent};
use crate::retry::RetryPolicy;
use crate::tasks;

/// The capacity of a subscription's channel. When it is full, the stream in Redis is not read; if
/// Redis trims unread entries, the subscriber gets [`CoordinatorEvent::Gap`].
const EVENTS_MAX: usize = 4096;

const ENTRIES_PER_READ: usize = 128;

/// The subscriber dropped its receiver.
struct ReceiverClosed;

/// Subscribes to all streams, from the current sequence on.
///
/// # Errors
/// When the sequence of a stream cannot be read.
pub(super) async fn subscribe(
    shards: Arc<ShardClient>,
    attached: Arc<Attached>,
) -> Result<Receiver<CoordinatorEvent>, CoordinatorError> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let mut subscriptions = Vec::new();
    for hash_tag in attached.hash_tags() {
        let sequence = shards.sequence(&attached, hash_tag).await?;
        let (shards, attached) = (Arc::clone(&shards), Arc::clone(&attached));
        let sender = sender.clone();
        subscriptions.push(StreamSubscription { shards, attached, sender, hash_tag, sequence });
    }
    for subscription in subscriptions {
        tasks::spawn_critical("events", subscription.run());
    }
    Ok(receiver)
}

struct StreamSubscription {
    shards: Arc<ShardClient>,
    attached: Arc<Attached>,
    sender: Sender<CoordinatorEvent>,
    hash_tag: HashTag,
    /// The sequence of the last entry that was published.
    sequence: u64,
}

impl StreamSubscription {
    async fn run(mut self) {
        let sender = self.sender.clone();
        tokio::select! {
            () = sender.closed() => {}
            _ = self.publish_until_closed() => {}
        }
    }

    async fn publish_until_closed(&mut self) -> Result<(), ReceiverClosed> {
        let mut delays = RetryPolicy::SUBSCRIPTION.delays_without_jitter();
        let mut is_first = true;
        loop {
            if let Ok(mut connection) = self.shards.client.dedicated().await
                && (is_first || self.resume().await?)
            {
                is_first = false;
                delays = RetryPolicy::SUBSCRIPTION.delays_without_jitter();
                let error = self.read(&mut connection).await?;
                tracing::warn!(
                    hash_tag = ?self.hash_tag,
                    %error,
                    "lost the connection to the event stream; reconnecting"
                );
            }
            delays.wait().await;
        }
    }

    /// Continues after a lost connection; returns `false` if the sequence cannot be read. The
    /// sequence is read before the gap is published, so that every later event is published too.
    async fn resume(&mut self) -> Result<bool, ReceiverClosed> {
        let Ok(sequence) = self.shards.sequence(&self.attached, self.hash_tag).await else {
            return Ok(false);
        };
        self.sequence = sequence;
        self.publish(CoordinatorEvent::Gap).await?;
        Ok(true)
    }

    /// Publishes what it reads until the connection fails; returns the failure.
    async fn read(
        &mut self,
        connection: &mut DedicatedConnection,
    ) -> Result<RedisError, ReceiverClosed> {
        loop {
            let reply = match self.read_entries(connection).await {
                Ok(reply) => reply,
                Err(error) => return Ok(error),
            };
            for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                self.publish_entry(&entry).await?;
            }
        }
    }

    async fn read_entries(
        &self,
        connection: &mut DedicatedConnection,
    ) -> RedisResult<StreamReadReply> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(ENTRIES_PER_READ).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
        cmd.arg(self.shards.keys.events(self.hash_tag)).arg(format!("{}-0", self.sequence));
        let reply = match connection.query(&cmd).await? {
            Value::Nil => StreamReadReply { keys: Vec::new() },
            value => StreamReadReply::from_redis_value(value)?,
        };
        // A change is not published before its writer may acknowledge it.
        if !reply.keys.is_empty()
            && self.shards.client.waits_for_replicas()
            && let Err(error) = self.shards.sequence(&self.attached, self.hash_tag).await
        {
            return Err(RedisError::from((ErrorKind::Io, "not replicated", error.to_string())));
        }
        Ok(reply)
    }

    async fn publish_entry(&mut self, entry: &StreamId) -> Result<(), ReceiverClosed> {
        let sequence = entry.id.split('-').next().and_then(|s| s.parse::<u64>().ok());
        let events = match entry.map.get("e") {
            Some(Value::BulkString(bytes)) => PackedReader::new("an event", bytes).events(),
            _ => Err(CoordinatorError::Corrupt("an entry without events".to_owned())),
        };
        let expected = self.sequence + 1;
        self.sequence = sequence.unwrap_or(expected);
        if let (Some(Value::BulkString(replication_id)), false) =
            (entry.map.get("r"), self.shards.client.waits_for_replicas())
        {
            let replication_id = String::from_utf8_lossy(replication_id);
            self.attached.tracker(self.hash_tag).observe(&replication_id, self.sequence);
        }
        if self.sequence != expected {
            self.publish(CoordinatorEvent::Gap).await?;
        }
        match events {
            Ok(events) => {
                for event in events {
                    self.publish(event).await?;
                }
            }
            Err(error) => {
                tracing::error!(
                    hash_tag = ?self.hash_tag,
                    %error,
                    "cannot decode an entry of the event stream"
                );
                self.publish(CoordinatorEvent::Gap).await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, event: CoordinatorEvent) -> Result<(), ReceiverClosed> {
        self.sender.send(event).await.map_err(|_| ReceiverClosed)
    }
}
