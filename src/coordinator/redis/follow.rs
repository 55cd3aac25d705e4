//! Follows the streams of the registry and of every shard.

use std::sync::Arc;

use redis::streams::StreamReadReply;
use redis::{ErrorKind, FromRedisValue as _, RedisError, Value};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::codec::Packed;
use super::connection::{BLOCK_MS, Dedicated};
use super::keys::Tag;
use super::{Attached, Shell};
use crate::coordinator::{CoordinatorError, Event};
use crate::retry::RetryPolicy;
use crate::tasks;

/// Events that wait for a slow follower; then the stream in Redis waits for it, and once that
/// was cut the follower is told [`Event::Gap`].
const EVENTS_MAX: usize = 4096;

const ENTRIES_PER_READ: usize = 128;

/// The follower dropped its end.
struct Unheard;

pub(super) async fn follow(
    shell: Arc<Shell>,
    attached: Arc<Attached>,
) -> Result<Receiver<Event>, CoordinatorError> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let mut followed = Vec::new();
    for tag in attached.tags() {
        let position = shell.position(&attached, tag).await?;
        let (shell, attached, sender) = (Arc::clone(&shell), Arc::clone(&attached), sender.clone());
        followed.push(Followed { shell, attached, sender, tag, position });
    }
    for one in followed {
        tasks::spawn_critical("follow", one.run());
    }
    Ok(receiver)
}

struct Followed {
    shell: Arc<Shell>,
    attached: Arc<Attached>,
    sender: Sender<Event>,
    tag: Tag,
    /// The sequence up to which events were told.
    position: u64,
}

impl Followed {
    async fn run(mut self) {
        let sender = self.sender.clone();
        tokio::select! {
            () = sender.closed() => {}
            _ = self.tell_until_unheard() => {}
        }
    }

    async fn tell_until_unheard(&mut self) -> Result<(), Unheard> {
        let mut delays = RetryPolicy::SUBSCRIPTION.delays_without_jitter();
        let mut is_first = true;
        loop {
            if let Ok(mut connection) = self.shell.link.dedicated().await
                && (is_first || self.resume().await?)
            {
                is_first = false;
                delays = RetryPolicy::SUBSCRIPTION.delays_without_jitter();
                let error = self.read(&mut connection).await?;
                tracing::warn!(tag = ?self.tag, %error, "lost the commit stream");
            }
            delays.wait().await;
        }
    }

    /// Begins again after a lost connection. The position is read before the gap is told, so
    /// that whatever comes after it is told too.
    async fn resume(&mut self) -> Result<bool, Unheard> {
        let Ok(position) = self.shell.position(&self.attached, self.tag).await else {
            return Ok(false);
        };
        self.position = position;
        self.tell(Event::Gap).await?;
        Ok(true)
    }

    /// Tells what it reads until the connection breaks.
    async fn read(&mut self, connection: &mut Dedicated) -> Result<RedisError, Unheard> {
        let log = self.shell.keys.log(self.tag);
        loop {
            let mut cmd = redis::cmd("XREAD");
            cmd.arg("COUNT").arg(ENTRIES_PER_READ).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
            cmd.arg(&log).arg(format!("{}-0", self.position));
            let reply = connection.query(&cmd).await;
            let reply = reply.and_then(|value| match value {
                Value::Nil => Ok(StreamReadReply { keys: Vec::new() }),
                value => Ok(StreamReadReply::from_redis_value(value)?),
            });
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => return Ok(error),
            };
            // Nobody is shown what its writer is not told yet.
            if !reply.keys.is_empty()
                && self.shell.link.waits()
                && let Err(error) = self.shell.position(&self.attached, self.tag).await
            {
                return Ok(RedisError::from((ErrorKind::Io, "not replicated", error.to_string())));
            }
            for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                let sequence = entry.id.split('-').next().and_then(|s| s.parse::<u64>().ok());
                let events = match entry.map.get("e") {
                    Some(Value::BulkString(bytes)) => Packed::new("an event", bytes).events(),
                    _ => Err(CoordinatorError::Corrupt("an entry without events".to_owned())),
                };
                let expected = self.position + 1;
                self.position = sequence.unwrap_or(expected);
                if let (Some(Value::BulkString(replication_id)), false) =
                    (entry.map.get("l"), self.shell.link.waits())
                {
                    let replication_id = String::from_utf8_lossy(replication_id);
                    self.attached.seen(self.tag).raise(&replication_id, self.position);
                }
                if self.position != expected {
                    self.tell(Event::Gap).await?;
                }
                match events {
                    Ok(events) => {
                        for event in events {
                            self.tell(event).await?;
                        }
                    }
                    Err(error) => {
                        tracing::error!(tag = ?self.tag, %error, "cannot read the commit stream");
                        self.tell(Event::Gap).await?;
                    }
                }
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Unheard> {
        self.sender.send(event).await.map_err(|_| Unheard)
    }
}

impl Shell {
    /// The sequence of the last change.
    async fn position(&self, attached: &Attached, tag: Tag) -> Result<u64, CoordinatorError> {
        self.call(attached, tag, &self.scripts.touch, Vec::new()).await?;
        Ok(attached.seen(tag).known().1)
    }
}
