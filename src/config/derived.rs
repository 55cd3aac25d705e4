//! Values derived from the settings.

use std::time::Duration;

use super::coordinator::CoordinatorSettings;
use super::model::{DisklessSettings, PeerSettings, Settings, TopicRuleSettings};
use crate::engine::produce::FlushProfile;
use crate::log::hash::stable_hash;
use crate::store::open::StoreUrl;
use crate::store::s3::{S3Credentials, S3Options};
use crate::topic_rules::{TopicRule, TopicRules};

const S3_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

impl Settings {
    /// Returns the place of this cluster's objects; several clusters may share a bucket or a folder.
    pub fn objects_url(&self) -> StoreUrl {
        self.store.join(&self.cluster)
    }

    /// Returns how to connect to the bucket of an S3 store.
    pub fn s3_options(&self) -> S3Options {
        let s3 = &self.s3;
        let credentials = match (&s3.access_key_id, &s3.secret_access_key) {
            (Some(id), Some(secret)) => S3Credentials::Keys {
                access_key_id: id.clone(),
                secret_access_key: secret.expose().trim().to_owned(),
            },
            _ => S3Credentials::Chain,
        };
        S3Options {
            path_style: s3.path_style.unwrap_or_else(|| s3.endpoint.is_some()),
            region: s3.region.clone(),
            credentials,
            request_timeout: S3_REQUEST_TIMEOUT,
            endpoint: s3.endpoint.clone(),
        }
    }

    /// Returns the rules that make topics diskless.
    pub fn topic_rules(&self) -> TopicRules {
        self.diskless.rules(self.flush.profile)
    }

    /// Returns a digest of the settings that must be the same for all replicas of a cluster: the
    /// topic rules, and how many replicas of Redis must have a commit. It is never 0.
    pub fn digest(&self) -> u64 {
        let rules = self.topic_rules();
        let rules = rules.iter().map(|rule| format!("{}:{:?}", rule.pattern, rule.profile));
        let replicas = match &self.coordinator {
            CoordinatorSettings::Embedded => 0,
            CoordinatorSettings::Redis { replicas, .. } => *replicas,
        };
        let text = rules.chain([format!("replicas:{replicas}")]).collect::<Vec<_>>().join("\n");
        stable_hash(text.as_bytes()).max(1)
    }
}

impl DisklessSettings {
    /// Returns the rules; those without a profile have `default`.
    pub(super) fn rules(&self, default: FlushProfile) -> TopicRules {
        let rule = |rule: &TopicRuleSettings| TopicRule {
            pattern: rule.pattern.clone(),
            profile: (!rule.exclude).then(|| rule.profile.unwrap_or(default)),
        };
        TopicRules::new(self.topics.iter().map(rule).collect())
    }
}

impl PeerSettings {
    /// Returns the `host:port` at which other replicas reach this one.
    pub fn address(&self) -> String {
        let (host, port) = (&self.advertised_host, self.bind.port());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}
