//! The key `coordinator`, which is a URL or a section.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::RedisUrl;

/// The batch coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "CoordinatorForm")]
pub enum CoordinatorSettings {
    /// Inside this process, which is the only replica.
    #[default]
    Embedded,
    /// A Redis that all replicas share.
    Redis {
        /// Its URL.
        url: RedisUrl,
        /// The number of its replicas that must have a commit before it is acknowledged.
        replicas: u8,
        /// The number of shards of new metadata, if it is configured.
        shards: Option<u16>,
    },
}

/// Either notation of the key.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CoordinatorForm {
    #[schemars(extend("format" = "coordinator URL"))]
    Url(String),
    Section(CoordinatorSection),
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CoordinatorSection {
    /// The URL, as above.
    #[schemars(extend("format" = "coordinator URL", "x-required" = true))]
    url: String,

    /// The number of Redis' own replicas that must have a commit before it is acknowledged
    /// (`WAIT`). Set it to the number of replicas that a failover chooses from; otherwise a failover
    /// can promote one without a commit that the others have. With it, acknowledged records are
    /// never lost. While fewer replicas are connected, nothing is acknowledged.
    #[schemars(range(min = 0, max = 5))]
    replicas: u8,

    /// The number of shards that partitions are distributed over when the cluster is first set up.
    /// Each is in one slot of a Redis Cluster and fails for itself. An object costs one script call
    /// for each shard of which it has partitions, so more shards mean more calls: choose about four
    /// for each master. Later replicas use the stored number, and warn when this one differs.
    #[schemars(range(min = 1, max = 256), extend("x-default" = "16 with `redis-cluster://`, else 4"))]
    shards: Option<u16>,
}

impl From<CoordinatorForm> for CoordinatorSettings {
    fn from(form: CoordinatorForm) -> Self {
        let section = match form {
            CoordinatorForm::Url(url) => CoordinatorSection { url, ..Default::default() },
            CoordinatorForm::Section(section) => section,
        };
        let CoordinatorSection { url, replicas, shards } = section;
        match url.as_str() {
            "" | EMBEDDED => Self::Embedded,
            _ => Self::Redis { url: RedisUrl::new(url), replicas, shards },
        }
    }
}

/// The value for the coordinator inside the replica.
pub(super) const EMBEDDED: &str = "embedded";
