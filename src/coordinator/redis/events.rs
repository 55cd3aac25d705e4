//! Subscriptions to the event streams of the registry and of every shard.

use std::sync::Arc;

use futures::future::join_all;
use redis::streams::{StreamId, StreamReadReply};
use redis::{ErrorKind, FromRedisValue as _, RedisError, RedisResult, Value};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::client::{BLOCK_MS, DedicatedConnection};
use super::codec::PackedReader;
use super::keys::HashTag;
use super::shards::{Attached, ShardClient};
use crate::coordinator::{CoordinatorError, CoordinatorEvent, EventScope};
use crate::retry::RetryPolicy;
use crate::tasks;

/// The capacity of a subscription's channel. When it is full, the stream in Redis is not read; if
/// Redis trims unread entries, the subscriber gets [`CoordinatorEvent::Gap`].
const EVENTS_MAX: usize = 4096;

const ENTRIES_PER_READ: usize = 128;

/// The subscriber dropped its receiver.
struct ReceiverClosed;

/// Subscribes to all streams, from the current sequence on. A stream that cannot be read yet
/// begins with [`CoordinatorEvent::Disconnected`].
pub(super) async fn subscribe(
    shards: Arc<ShardClient>,
    attached: Arc<Attached>,
) -> Receiver<CoordinatorEvent> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let sequences = attached.hash_tags().map(|hash_tag| shards.sequence(&attached, hash_tag));
    let sequences = join_all(sequences).await;
    for (hash_tag, sequence) in attached.hash_tags().zip(sequences) {
        let subscription = StreamSubscription {
            shards: Arc::clone(&shards),
            attached: Arc::clone(&attached),
            sender: sender.clone(),
            hash_tag,
            is_connected: sequence.is_ok(),
            sequence: sequence.unwrap_or_default(),
        };
        tasks::spawn_critical("events", subscription.run());
    }
    receiver
}

struct StreamSubscription {
    shards: Arc<ShardClient>,
    attached: Arc<Attached>,
    sender: Sender<CoordinatorEvent>,
    hash_tag: HashTag,
    /// False from [`CoordinatorEvent::Disconnected`] to [`CoordinatorEvent::Gap`].
    is_connected: bool,
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
        let mut last_address = None;
        if !self.is_connected {
            self.publish(CoordinatorEvent::Disconnected(self.scope())).await?;
        }
        loop {
            let client = &self.shards.client;
            let opened = client.dedicated(self.hash_tag, last_address.as_deref()).await;
            let error = match opened {
                Ok(mut connection) => {
                    last_address = Some(connection.address.clone());
                    if self.is_connected || self.resume().await? {
                        delays = RetryPolicy::SUBSCRIPTION.delays_without_jitter();
                        Some(self.read(&mut connection).await?)
                    } else {
                        None
                    }
                }
                Err(error) => Some(error),
            };
            if let (Some(error), true) = (error, self.is_connected) {
                tracing::warn!(
                    hash_tag = ?self.hash_tag,
                    %error,
                    "lost the connection to the event stream; reconnecting"
                );
                self.is_connected = false;
                self.publish(CoordinatorEvent::Disconnected(self.scope())).await?;
            }
            delays.wait().await;
        }
    }

    fn scope(&self) -> EventScope {
        match self.hash_tag {
            HashTag::Registry => EventScope::Topics,
            HashTag::Shard(shard) => EventScope::Shard(shard),
        }
    }

    async fn publish_gap(&self) -> Result<(), ReceiverClosed> {
        self.publish(CoordinatorEvent::Gap(self.scope())).await
    }

    /// Continues after a lost connection; returns `false` if the sequence cannot be read. The
    /// sequence is read before the gap is published, so that every later event is published too.
    async fn resume(&mut self) -> Result<bool, ReceiverClosed> {
        let Ok(sequence) = self.shards.sequence(&self.attached, self.hash_tag).await else {
            return Ok(false);
        };
        self.sequence = sequence;
        self.is_connected = true;
        self.publish_gap().await?;
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
        if let (Some(Value::BulkString(replication_id)), true) =
            (entry.map.get("r"), entry.map.contains_key("u"))
        {
            let replication_id = String::from_utf8_lossy(replication_id);
            self.attached.tracker(self.hash_tag).pin_observed(&replication_id, self.sequence);
        }
        if self.sequence != expected {
            self.publish_gap().await?;
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
                self.publish_gap().await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, event: CoordinatorEvent) -> Result<(), ReceiverClosed> {
        self.sender.send(event).await.map_err(|_| ReceiverClosed)
    }
}
