//! The small JSON records under `embedded/`.
//!
//! | Key | Value |
//! |---|---|
//! | `embedded/cluster.json` | [`ClusterRecord`] |
//! | `embedded/topics/<topic id>.json` | [`TopicRecord`] |
//! | `embedded/trims/<topic id>.json` | [`TrimRecord`] |
//! | `embedded/incarnations/<16 hex digits>` | [`IncarnationRecord`] |

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::coordinator::{CoordinatorError, TopicBinding, TopicType};
use crate::log::ids::{ObjectId, TopicId};
use crate::store::record::RecordFormat;
use crate::store::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

const CLUSTER_KEY: &str = "embedded/cluster.json";
const TOPICS_PREFIX: &str = "embedded/topics/";
const TRIMS_PREFIX: &str = "embedded/trims/";
const INCARNATIONS_PREFIX: &str = "embedded/incarnations/";

const FORMAT: RecordFormat =
    RecordFormat { what: "a record of the embedded coordinator", version: 2 };

const PAGE_KEYS: usize = 1000;

/// The number of concurrent reads and writes of records and footers.
pub(super) const CONCURRENCY: usize = 16;

/// A position in the order of all objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LogPosition {
    pub(super) incarnation: u64,
    pub(super) sequence: u32,
}

impl LogPosition {
    pub(super) const START: Self = Self { incarnation: 0, sequence: 0 };
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterRecord {
    pub(super) metadata_id: String,
    pub(super) cluster_id: Option<String>,
    /// The zones by index.
    pub(super) zones: Vec<String>,
    /// The number of diskless nodes of each zone, by its index; 0 if none were requested.
    #[serde(default)]
    pub(super) nodes: Vec<u16>,
}

impl ClusterRecord {
    pub(super) fn new(metadata_id: String) -> Self {
        Self { metadata_id, cluster_id: None, zones: Vec::new(), nodes: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum TopicState {
    Classic,
    Diskless,
    Migrating,
    Deleted,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicRecord {
    name: String,
    state: TopicState,
    /// Objects before this position have no records of the topic.
    pub(super) since: LogPosition,
}

impl TopicRecord {
    pub(super) fn bound(binding: &TopicBinding, since: LogPosition) -> Self {
        let state = match binding.topic_type {
            TopicType::Classic => TopicState::Classic,
            TopicType::Diskless => TopicState::Diskless,
            TopicType::Migrating => TopicState::Migrating,
        };
        Self { name: binding.name.clone(), state, since }
    }

    pub(super) fn deleted() -> Self {
        let (name, state) = (String::new(), TopicState::Deleted);
        Self { name, state, since: LogPosition::START }
    }

    /// Returns `None` for a deleted topic.
    pub(super) fn binding(&self, topic: TopicId) -> Option<TopicBinding> {
        let topic_type = match self.state {
            TopicState::Classic => TopicType::Classic,
            TopicState::Diskless => TopicType::Diskless,
            TopicState::Migrating => TopicType::Migrating,
            TopicState::Deleted => return None,
        };
        Some(TopicBinding { topic, name: self.name.clone(), topic_type })
    }
}

/// Log start offsets by partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrimRecord {
    pub(super) partitions: BTreeMap<i32, i64>,
}

impl TrimRecord {
    pub(super) fn new() -> Self {
        Self { partitions: BTreeMap::new() }
    }

    pub(super) fn raise(&mut self, starts: BTreeMap<i32, i64>) {
        for (partition, start) in starts {
            let current = self.partitions.entry(partition).or_insert(start);
            *current = start.max(*current);
        }
    }
}

/// The objects that an incarnation inherits from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InheritedIncarnation {
    pub(super) incarnation: u64,
    pub(super) process_id: u32,
    /// The objects with a sequence below this are part of the log; later ones are not.
    pub(super) sequences: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IncarnationRecord {
    pub(super) process_id: u32,
    /// Earlier incarnations, ascending; no object of any other incarnation is inherited.
    pub(super) inherited: Vec<InheritedIncarnation>,
}

/// Reads and writes the records.
#[derive(Debug)]
pub(super) struct EmbeddedRecords {
    store: Arc<dyn Store>,
}

impl EmbeddedRecords {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(super) async fn cluster(&self) -> Result<Option<ClusterRecord>, CoordinatorError> {
        self.load(CLUSTER_KEY).await
    }

    pub(super) async fn save_cluster(
        &self,
        record: &ClusterRecord,
    ) -> Result<(), CoordinatorError> {
        self.save(CLUSTER_KEY, record, PutMode::Overwrite).await.map_err(store_error)
    }

    pub(super) async fn topic(
        &self,
        topic: TopicId,
    ) -> Result<Option<TopicRecord>, CoordinatorError> {
        self.load(&format!("{TOPICS_PREFIX}{topic}.json")).await
    }

    pub(super) async fn save_topic(
        &self,
        topic: TopicId,
        record: &TopicRecord,
    ) -> Result<(), CoordinatorError> {
        let key = format!("{TOPICS_PREFIX}{topic}.json");
        self.save(&key, record, PutMode::Overwrite).await.map_err(store_error)
    }

    pub(super) async fn trims(
        &self,
        topic: TopicId,
    ) -> Result<Option<TrimRecord>, CoordinatorError> {
        self.load(&format!("{TRIMS_PREFIX}{topic}.json")).await
    }

    pub(super) async fn save_trims(
        &self,
        topic: TopicId,
        record: &TrimRecord,
    ) -> Result<(), CoordinatorError> {
        let key = format!("{TRIMS_PREFIX}{topic}.json");
        self.save(&key, record, PutMode::Overwrite).await.map_err(store_error)
    }

    /// Returns the topics that have a record, in any order.
    pub(super) async fn topics_recorded(&self) -> Result<Vec<TopicId>, CoordinatorError> {
        self.ids_below(TOPICS_PREFIX).await
    }

    /// Returns the topics that were trimmed.
    pub(super) async fn topics_trimmed(&self) -> Result<Vec<TopicId>, CoordinatorError> {
        self.ids_below(TRIMS_PREFIX).await
    }

    /// Returns every incarnation, ascending.
    pub(super) async fn incarnations(&self) -> Result<Vec<u64>, CoordinatorError> {
        let parse = |name: &str| u64::from_str_radix(name, 16).ok();
        self.names_below(INCARNATIONS_PREFIX, parse).await
    }

    /// Checks that no process began an incarnation after this one.
    pub(super) async fn check_newest(&self, own: u64) -> Result<(), CoordinatorError> {
        let later = self.store.list(INCARNATIONS_PREFIX, Some(&incarnation_key(own)), 1).await;
        match later.map_err(store_error)?.first() {
            None => Ok(()),
            Some(meta) => {
                let detail = format!("a newer process has taken over the store: {}", meta.key);
                Err(CoordinatorError::Fenced(detail))
            }
        }
    }

    pub(super) async fn incarnation(
        &self,
        incarnation: u64,
    ) -> Result<IncarnationRecord, CoordinatorError> {
        let key = incarnation_key(incarnation);
        let record = self.load(&key).await?;
        record.ok_or_else(|| {
            CoordinatorError::MetadataLost(format!("{key} was deleted while it was read"))
        })
    }

    /// Begins an incarnation; exactly one process can.
    pub(super) async fn begin_incarnation(
        &self,
        first: ObjectId,
        inherited: Vec<InheritedIncarnation>,
    ) -> Result<(), CoordinatorError> {
        let key = incarnation_key(first.incarnation);
        let record = IncarnationRecord { process_id: first.process_id, inherited };
        let Err(error) = self.save(&key, &record, PutMode::Create).await else { return Ok(()) };
        if error.kind != StoreErrorKind::AlreadyExists {
            return Err(store_error(error));
        }
        // A store that retries may find the object of its own first attempt.
        if self.load(&key).await?.as_ref() == Some(&record) {
            return Ok(());
        }
        let detail = format!("another process created {key}: only one process may use the store");
        Err(CoordinatorError::Unavailable(detail))
    }

    /// Checks that no incarnation began besides `earlier` ones and `own`: the first two processes
    /// of a store begin different ones if they start at once.
    pub(super) async fn check_only(
        &self,
        earlier: &[u64],
        own: u64,
    ) -> Result<(), CoordinatorError> {
        let all = self.incarnations().await?;
        match all.iter().find(|other| **other != own && !earlier.contains(other)) {
            None => Ok(()),
            Some(other) => Err(CoordinatorError::Unavailable(format!(
                "another process created {} at the same time: only one process may use the store",
                incarnation_key(*other)
            ))),
        }
    }

    /// Returns every object with a prefix and a key after `after`, in the order of the keys.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ObjectMeta>, CoordinatorError> {
        let mut all: Vec<ObjectMeta> = Vec::new();
        loop {
            let last = all.last().map(|meta| meta.key.clone());
            let page = self.store.list(prefix, last.as_deref().or(after), PAGE_KEYS).await;
            let page = page.map_err(store_error)?;
            let is_last = page.len() < PAGE_KEYS;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn ids_below(&self, prefix: &str) -> Result<Vec<TopicId>, CoordinatorError> {
        self.names_below(prefix, |name| TopicId::parse(name.strip_suffix(".json")?)).await
    }

    async fn names_below<T>(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, CoordinatorError> {
        let metas = self.list(prefix, None).await?;
        let parsed = metas.iter().map(|meta| {
            let name = meta.key.strip_prefix(prefix);
            name.and_then(&parse).ok_or_else(|| CoordinatorError::Corrupt(meta.key.clone()))
        });
        parsed.collect()
    }

    async fn load<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CoordinatorError> {
        FORMAT.load(&*self.store, key).await.map_err(store_error)
    }

    async fn save<T: Serialize>(
        &self,
        key: &str,
        record: &T,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        FORMAT.save(&*self.store, key, record, mode).await
    }
}

pub(super) fn store_error(error: StoreError) -> CoordinatorError {
    match error.certainty {
        _ if error.kind == StoreErrorKind::UnsupportedFormat => {
            CoordinatorError::UnsupportedVersion(error.to_string())
        }
        _ if error.kind == StoreErrorKind::Corrupt => CoordinatorError::Corrupt(error.to_string()),
        Certainty::Determinate => CoordinatorError::Unavailable(error.to_string()),
        Certainty::Indeterminate => CoordinatorError::Unknown(error.to_string()),
    }
}

fn incarnation_key(incarnation: u64) -> String {
    format!("{INCARNATIONS_PREFIX}{incarnation:016x}")
}
