//! Lanes: the connections of a process, one for each shard and kind of call.
//!
//! WAIT holds up every later command of its connection, and so does a server that hangs. A lane
//! therefore carries the calls of one hash tag and one kind only, and reconnects by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::cluster::redirect_address;
use super::deployment::Deployment;
use super::keys::HashTag;
use super::node::node_config;

/// The number of queries of a lane that are with the server at one time; others wait here. A change
/// is therefore behind at most this many queries of each process.
const QUERIES_MAX: usize = 4;

/// The kind of the calls of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LaneKind {
    /// Changes, acknowledged once replicas of Redis have them.
    Changes,
    /// Queries, whose replies must not contain what replicas of Redis do not have.
    Queries,
    /// Calls that wait for no replica of Redis.
    Unreplicated,
}

/// All lanes of a client; each connects at its first call.
#[derive(Debug, Default)]
pub(super) struct Lanes(RwLock<HashMap<LaneKey, Arc<Lane>>>);

/// Lanes are shared by the hash tags of one server while nothing waits on it.
type LaneKey = (Option<HashTag>, LaneKind);

/// One connection, and how it is replaced.
#[derive(Debug)]
pub(super) struct Lane {
    slot: u16,
    /// Bounds the calls that are with the server; `None` if the callers bound them.
    queries: Option<Arc<Semaphore>>,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    current: Option<Connection>,
    /// The number of connections so far.
    generation: u64,
    /// The address of the node that was connected to last.
    address: Option<String>,
    /// The node that replied that the slot is elsewhere named this address.
    redirect: Option<String>,
}

#[derive(Clone)]
struct Connection {
    generation: u64,
    redis: MultiplexedConnection,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Lanes {
    /// Returns the lane of a kind, of one hash tag or of all of them.
    pub(super) fn get(&self, hash_tag: Option<HashTag>, kind: LaneKind, slot: u16) -> Arc<Lane> {
        let key = (hash_tag, kind);
        if let Some(lane) = self.0.read().get(&key) {
            return Arc::clone(lane);
        }
        let queries = (kind == LaneKind::Queries).then(|| Arc::new(Semaphore::new(QUERIES_MAX)));
        let new = || Arc::new(Lane { slot, queries, state: Mutex::default() });
        Arc::clone(self.0.write().entry(key).or_insert_with(new))
    }
}

impl Lane {
    /// Waits until one more call may be sent. The permit must be kept until its reply is there,
    /// even if the caller no longer waits for it: otherwise calls that were given up accumulate in
    /// an overloaded server, which works on them all the same.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        match &self.queries {
            // It is never closed.
            Some(queries) => Arc::clone(queries).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Sends commands and returns their replies, errors of the server included. Replaces the
    /// connection afterwards if it failed or if its server is no longer the master.
    pub(super) async fn send(
        &self,
        deployment: &Deployment,
        pipeline: &Pipeline,
        timeout: Duration,
    ) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection(deployment, timeout).await.map_err(not_sent)?;
        let replies = connection.redis.req_packed_commands(pipeline, 0, pipeline.len()).await;
        let first_error = match &replies {
            Ok(values) => {
                let failed = values.iter().find(|value| matches!(value, Value::ServerError(_)));
                failed.and_then(|value| value.clone().extract_error().err())
            }
            Err(error) => Some(error.clone()),
        };
        if let Some(error) = first_error
            && is_of_another_master(&error)
        {
            self.replace(connection.generation, &error).await;
        }
        replies
    }

    async fn connection(
        &self,
        deployment: &Deployment,
        timeout: Duration,
    ) -> RedisResult<Connection> {
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current {
            return Ok(current.clone());
        }
        let node = match state.redirect.take() {
            Some(address) => {
                deployment.redirected(&redirect_address(&address, state.address.as_deref()))?
            }
            None => deployment.master(self.slot, state.address.as_deref()).await?,
        };
        // Before the attempt, which may fail or be cancelled: the next one then asks again.
        state.address = Some(node.address);
        let config = node_config(timeout / 2, response_timeout(timeout));
        let connecting = node.client.get_multiplexed_async_connection_with_config(&config);
        let redis = connecting.await?;
        state.generation += 1;
        let connection = Connection { generation: state.generation, redis };
        Ok(state.current.insert(connection).clone())
    }

    async fn replace(&self, generation: u64, error: &RedisError) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.generation == generation) {
            state.current = None;
            state.redirect = match error.code() {
                Some("MOVED") => error.redirect_node().map(|(address, _)| address.to_owned()),
                _ => None,
            };
        }
    }
}

/// Returns the error of a call without a connection, which certainly had no effect.
fn not_sent(error: RedisError) -> RedisError {
    match error.kind() {
        ErrorKind::Io => {
            let detail = error.to_string();
            RedisError::from((ErrorKind::ClusterConnectionNotFound, "not connected", detail))
        }
        _ => error,
    }
}

/// Returns whether another server, or another connection, may do what this one cannot.
fn is_of_another_master(error: &RedisError) -> bool {
    let is_elsewhere = matches!(
        error.code(),
        Some("READONLY" | "MOVED" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING")
    );
    is_elsewhere || error.is_io_error()
}

/// Returns the deadline of the connection, which is before the caller's: a cancelled call would
/// not close the connection, and a connection to a server that hangs would be used again.
fn response_timeout(timeout: Duration) -> Duration {
    timeout.mul_f64(0.9)
}
