//! What the configuration says of topics; it may change while the replica runs.

use super::TopicRegistry;
use crate::engine::produce::FlushProfile;
use crate::topic_rules::TopicRules;

impl TopicRegistry {
    /// What a diskless topic is tuned for: what its rule says, else what holds for all.
    pub fn profile(&self, name: &str) -> FlushProfile {
        let (rules, profile) = &*self.rules.read();
        rules.diskless_profile(name).unwrap_or(*profile)
    }

    /// Whether the YAML asks for a topic of this name to be diskless.
    pub fn is_diskless_by_rules(&self, name: &str) -> bool {
        let (rules, _) = &*self.rules.read();
        rules.diskless_profile(name).is_some()
    }

    /// From now on the file says this of topics that are created.
    pub fn set_rules(&self, rules: TopicRules, profile: FlushProfile) {
        *self.rules.write() = (rules, profile);
    }
}
