//! What the configuration says of topics; it may change while the replica runs.

use super::{ConfiguredType, TopicRegistry};
use crate::config::{Profile, TopicRules};
use crate::engine::produce::SealProfile;

impl TopicRegistry {
    /// What a diskless topic is tuned for: what its rule says, else what holds for all.
    pub fn profile(&self, name: &str) -> SealProfile {
        let (rules, profile) = &*self.rules.read();
        match rules.kind_of(name) {
            ConfiguredType::Diskless(Profile::Fast) => SealProfile::Fast,
            ConfiguredType::Diskless(Profile::Cheap) => SealProfile::Cheap,
            ConfiguredType::Classic => *profile,
        }
    }

    /// Whether the YAML asks for a topic of this name to be diskless.
    pub fn is_diskless_by_rules(&self, name: &str) -> bool {
        let (rules, _) = &*self.rules.read();
        matches!(rules.kind_of(name), ConfiguredType::Diskless(_))
    }

    /// From now on the file says this of topics that are created.
    pub fn set_rules(&self, rules: TopicRules, profile: SealProfile) {
        *self.rules.write() = (rules, profile);
    }
}
