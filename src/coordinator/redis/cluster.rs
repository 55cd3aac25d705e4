//! The nodes of a Redis Cluster, and which of them owns a slot.
//!
//! Every lane has a connection to one node, and a node is looked up by asking several: one that
//! hangs holds up neither the lookup nor the connections to the others.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::{
    Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    RedisResult, Value,
};
use tokio::time::{Instant, timeout};

use super::node::{node_config, without_delay};

/// The time limit of asking one node for the slots.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// The age up to which answers are used again, for other slots.
const ANSWERS_FRESH: Duration = Duration::from_millis(500);

/// A Redis Cluster.
pub(super) struct ClusterNodes {
    login: RedisConnectionInfo,
    seeds: BTreeSet<String>,
    last: Mutex<Answers>,
}

/// The answers of the nodes that were asked last.
#[derive(Default)]
struct Answers {
    at: Option<Instant>,
    maps: Vec<SlotMap>,
}

/// The masters of slots, as one node reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SlotMap {
    /// The first slot, the last slot, and the address of the master.
    ranges: Vec<(u16, u16, String)>,
    /// The addresses of all nodes, replicas included.
    nodes: BTreeSet<String>,
    /// The id of the node that reported it; empty if it does not tell.
    reported_by: String,
}

impl ClusterNodes {
    /// Returns a cluster that is reached at the addresses `seeds`.
    pub(super) fn new(login: RedisConnectionInfo, seeds: BTreeSet<String>) -> Self {
        Self { login, seeds, last: Mutex::default() }
    }

    /// Returns a client of the node at `address`.
    ///
    /// # Errors
    /// When the address is not `host:port`.
    pub(super) fn client(&self, address: &str) -> RedisResult<Client> {
        let invalid = || {
            let detail = address.to_owned();
            RedisError::from((ErrorKind::InvalidClientConfig, "not host:port", detail))
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info()?;
        Client::open(without_delay(info.set_redis_settings(self.login.clone())))
    }

    /// Returns the address of the master of a slot, as most of the nodes report it.
    /// `failed` is the address at which the caller found no master: where the nodes disagree,
    /// another one is preferred.
    ///
    /// # Errors
    /// When no node answers, or none knows a master.
    pub(super) async fn owner(&self, slot: u16, failed: Option<&str>) -> RedisResult<String> {
        if let Some(owner) = self.recent_owner(slot)
            && failed != Some(&owner)
        {
            return Ok(owner);
        }
        let maps = self.ask().await?;
        let owner = owner_by_majority(&maps, slot, failed);
        *self.last.lock() = Answers { at: Some(Instant::now()), maps };
        owner.ok_or_else(|| {
            RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node owns the slot"))
        })
    }

    /// Returns the addresses of all masters.
    ///
    /// # Errors
    /// When no node answers.
    pub(super) async fn masters(&self) -> RedisResult<BTreeSet<String>> {
        let maps = self.ask().await?;
        let slots = maps.iter().flat_map(|map| &map.ranges).map(|(first, ..)| *first);
        let slots: BTreeSet<u16> = slots.collect();
        Ok(slots.into_iter().filter_map(|slot| owner_by_majority(&maps, slot, None)).collect())
    }

    fn recent_owner(&self, slot: u16) -> Option<String> {
        let last = self.last.lock();
        let is_fresh = last.at.is_some_and(|at| at.elapsed() < ANSWERS_FRESH);
        is_fresh.then(|| owner_by_majority(&last.maps, slot, None)).flatten()
    }

    /// Asks all known nodes at once; returns once more than half of them answered, and otherwise
    /// what there is after the time limit.
    async fn ask(&self) -> RedisResult<Vec<SlotMap>> {
        let mut addresses = self.seeds.clone();
        addresses.extend(self.last.lock().maps.iter().flat_map(|map| map.nodes.iter().cloned()));
        let mut asked = addresses.len();
        let mut pending: FuturesUnordered<_> =
            addresses.iter().map(|address| self.ask_one(address)).collect();
        let (mut maps, mut failure) = (Vec::new(), None);
        while let Some(answer) = pending.next().await {
            match answer {
                // A node has one vote, also if it is known by a name and by its address.
                Ok(map) if is_of_same_node(&maps, &map) => asked -= 1,
                Ok(map) => maps.push(map),
                Err(error) => failure = Some(error),
            }
            if maps.len() > asked / 2 {
                break;
            }
        }
        match failure {
            Some(error) if maps.is_empty() => Err(error),
            _ => Ok(maps),
        }
    }

    async fn ask_one(&self, address: &str) -> RedisResult<SlotMap> {
        let client = self.client(address)?;
        let asking = async {
            let config = node_config(ASK_TIMEOUT, ASK_TIMEOUT);
            let mut node = client.get_multiplexed_async_connection_with_config(&config).await?;
            let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut node).await?;
            let id = redis::cmd("CLUSTER").arg("MYID").query_async::<String>(&mut node).await;
            Ok::<_, RedisError>((slots, id.unwrap_or_default()))
        };
        let reply = timeout(ASK_TIMEOUT, asking).await;
        let late =
            || RedisError::from((ErrorKind::Io, "a node did not answer", address.to_owned()));
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let (slots, reported_by) = reply.map_err(|_| late())??;
        Ok(SlotMap { reported_by, ..SlotMap::parse(slots, host) })
    }
}

fn is_of_same_node(maps: &[SlotMap], map: &SlotMap) -> bool {
    !map.reported_by.is_empty() && maps.iter().any(|other| other.reported_by == map.reported_by)
}

/// Returns the address that a redirection from the node at `from` names: a node that does not know
/// its own host names the port only.
pub(super) fn redirect_address(named: &str, from: Option<&str>) -> String {
    let host = from.and_then(|from| from.rsplit_once(':')).map(|(host, _)| host);
    match (named.strip_prefix(':'), host) {
        (Some(port), Some(host)) => format!("{host}:{port}"),
        _ => named.to_owned(),
    }
}

/// Returns the master that most maps name; of two with equally many, not `failed`.
fn owner_by_majority(maps: &[SlotMap], slot: u16, failed: Option<&str>) -> Option<String> {
    let named: Vec<&str> = maps.iter().filter_map(|map| map.owner(slot)).collect();
    let votes = |owner: &str| named.iter().filter(|other| **other == owner).count();
    let best = named.iter().max_by_key(|owner| (votes(owner), failed != Some(**owner)))?;
    Some((*best).to_owned())
}

impl SlotMap {
    /// Parses the reply to CLUSTER SLOTS. An unknown host stands for `host`, which was asked.
    fn parse(reply: Value, host: &str) -> Self {
        let mut map = Self::default();
        let Value::Array(ranges) = reply else { return map };
        for range in ranges {
            let Value::Array(fields) = range else { continue };
            let [Value::Int(first), Value::Int(last), nodes @ ..] = fields.as_slice() else {
                continue;
            };
            let mut addresses = nodes.iter().filter_map(|node| address_of(node, host));
            let Some(master) = addresses.next() else { continue };
            if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) {
                map.ranges.push((first, last, master.clone()));
            }
            map.nodes.insert(master);
            map.nodes.extend(addresses);
        }
        map
    }

    fn owner(&self, slot: u16) -> Option<&str> {
        let range = self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.map(|(.., master)| master.as_str())
    }
}

fn address_of(node: &Value, asked_host: &str) -> Option<String> {
    let Value::Array(fields) = node else { return None };
    let [name, Value::Int(port), ..] = fields.as_slice() else { return None };
    let host = match name {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    };
    // The specification: an empty name is that of the node that was asked, `?` is unknown.
    let host = if host.is_empty() || host == "?" { asked_host.to_owned() } else { host };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u16, u16, &str)]) -> SlotMap {
        let ranges = ranges.iter().map(|(first, last, node)| (*first, *last, (*node).to_owned()));
        SlotMap { ranges: ranges.collect(), ..SlotMap::default() }
    }

    #[test]
    fn node_that_answers_at_two_addresses_has_one_vote() {
        let of = |id: &str| SlotMap { reported_by: id.to_owned(), ..SlotMap::default() };
        assert!(is_of_same_node(&[of("a"), of("b")], &of("b")));
        assert!(!is_of_same_node(&[of("a"), of("")], &of("c")));
        assert!(!is_of_same_node(&[of("a"), of("")], &of("")), "it does not tell");
    }

    #[test]
    fn redirection_without_a_host_is_to_the_same_host() {
        assert_eq!(redirect_address(":7001", Some("a:7000")), "a:7001");
        assert_eq!(redirect_address("b:7001", Some("a:7000")), "b:7001");
        assert_eq!(redirect_address(":7001", None), ":7001");
    }

    #[test]
    fn most_nodes_decide_who_owns_a_slot() {
        let maps = [map(&[(0, 9, "a:1")]), map(&[(0, 9, "b:1")]), map(&[(0, 9, "b:1")])];
        let owner = |maps: &[SlotMap], failed| owner_by_majority(maps, 5, failed);
        assert_eq!(owner(&maps, None).as_deref(), Some("b:1"));
        assert_eq!(owner(&maps, Some("b:1")).as_deref(), Some("b:1"));
        assert_eq!(owner(&maps[..2], Some("a:1")).as_deref(), Some("b:1"));
        assert_eq!(owner(&maps[..2], Some("b:1")).as_deref(), Some("a:1"));
        assert_eq!(owner_by_majority(&maps, 10, None), None);
    }

    #[test]
    fn reply_to_cluster_slots_is_parsed() {
        let node =
            |host: &str, port| Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
        let range = vec![Value::Int(0), Value::Int(5), node("", 7000), node("b", 7001)];
        let parsed = SlotMap::parse(Value::Array(vec![Value::Array(range), Value::Nil]), "asked");
        assert_eq!(parsed.owner(5), Some("asked:7000"));
        assert_eq!(parsed.nodes.iter().collect::<Vec<_>>(), ["asked:7000", "b:7001"]);
        assert_eq!(SlotMap::parse(Value::Nil, "asked"), SlotMap::default());
    }
}
